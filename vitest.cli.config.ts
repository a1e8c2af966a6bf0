import { defineConfig } from 'vitest/config'

// The command line by real processes, one for each refusal: a minute a file, most of it starting Node. And the pages in a real browser.
export default defineConfig({
  test: {
    include: ['test/{cli,pages}/**/*.test.ts'],
    globalSetup: ['test/support/global.ts'],
    isolate: false,
    maxWorkers: 2,
    // Several processes a test, on machines that may have something else to do.
    testTimeout: 180_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
  },
})
