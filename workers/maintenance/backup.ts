import type { Worker } from '../../src/worker.ts'

/**
 * Takes a backup and proves it by a real restore (document 004). An attempt that dies leaves at most loose files and a scratch database whose
 * lock is free: the next attempt, or the nightly cleanup, removes them. A dump can't be continued, so each attempt begins at the first table.
 */
export const backup: Worker = {
  queue: 'maintenance.backup',
  // Loaded with the first backup: an idle worker need not hold it.
  work: async context => (await import('./backups/attempt.ts')).attempt(context),
}
