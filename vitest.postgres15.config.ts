import { defineConfig } from 'vitest/config'
import { postgres15Missing } from './test/support/postgres15.ts'

const isMissing = postgres15Missing()

// What needs PostgreSQL's own tools (pg_dump, pg_basebackup, …): on a server that has them. One file at a time, as they load the machine.
export default defineConfig({
  test: {
    include: isMissing ? [] : ['test/postgres15/**/*.test.ts'],
    passWithNoTests: isMissing,
    globalSetup: isMissing ? [] : ['test/support/global15.ts'],
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    teardownTimeout: 20_000,
  },
})
