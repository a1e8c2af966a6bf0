import type { Task } from '../../src/task.ts'

/**
 * Document 004, 04:00: removes what backups left that died, and the backups that retention has no reason to keep, and writes down what went.
 * What a worker can't know to be nobody's it leaves, and tells.
 */
export const cleanup: Task = {
  queue: 'maintenance.cleanup',
  // Loaded with the first cleanup: an idle worker need not hold it.
  perform: async (_data, context) => (await import('./backups/clean.ts')).clean(context),
}
