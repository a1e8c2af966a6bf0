import { defineConfig } from 'vitest/config'

// Arbitrary input, for as many values as PAWL_FUZZ_RUNS says; npm test runs the same files with a few.
export default defineConfig({
  test: {
    include: ['test/fuzz/**/*.test.ts'],
    globalSetup: ['test/support/global.ts'],
    isolate: false,
    maxWorkers: 2,
    testTimeout: 1_800_000,
    hookTimeout: 120_000,
    teardownTimeout: 20_000,
  },
})
