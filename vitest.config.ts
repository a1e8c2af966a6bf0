import { defineConfig } from 'vitest/config'

// One process for all files of a worker: importing drizzle-orm anew in each cost 80 % of the time.
export default defineConfig({
  test: {
    include: ['test/{unit,integration,migration,fuzz}/**/*.test.ts'],
    globalSetup: ['test/support/global.ts'],
    isolate: false,
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
  },
})
