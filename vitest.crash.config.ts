import { defineConfig } from 'vitest/config'

// Real processes that are killed, stopped and cut off. One file at a time: on two cores they would measure each other.
export default defineConfig({
  test: {
    include: ['test/crash/**/*.test.ts'],
    // Those play many faults by a seed: vitest.reliability.config.ts.
    exclude: ['test/crash/{explorer,faults,faults-check}.test.ts'],
    globalSetup: ['test/support/global.ts'],
    fileParallelism: false,
    testTimeout: 300_000,
    hookTimeout: 120_000,
    teardownTimeout: 20_000,
  },
})
