import { defineConfig } from 'vitest/config'

// The command line by real processes, one for each refusal: a minute a file, most of it starting Node.
export default defineConfig({
  test: {
    include: ['test/cli/**/*.test.ts'],
    globalSetup: ['test/support/global.ts'],
    isolate: false,
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
  },
})
