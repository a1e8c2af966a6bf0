import { defineConfig } from 'vitest/config'

// Short passes of what is played by a seed: faults of all kinds at once, and interleavings.
export default defineConfig({
  test: {
    include: ['test/crash/{explorer,faults,faults-check}.test.ts'],
    globalSetup: ['test/support/global.ts'],
    fileParallelism: false,
    testTimeout: 600_000,
    hookTimeout: 120_000,
    teardownTimeout: 20_000,
  },
})
