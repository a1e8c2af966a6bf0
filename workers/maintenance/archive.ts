import type { Worker } from '../../src/worker.ts'

/**
 * Takes one month out of a partitioned table: detached, written to a file, the file read back and compared, dropped. Each step is a state
 * of `pawl.archives`, so that whoever comes after a death goes on behind the last one; a file that was half written is written anew.
 */
export const archive: Worker = {
  queue: 'maintenance.archive',
  // Loaded with the first month: an idle worker need not hold it.
  work: async context => (await import('./archives/attempt.ts')).attempt(context),
}
