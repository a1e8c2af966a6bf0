import type { Worker } from '../../src/worker.ts'

/** Executes a report (document 001): template and parameters become read-only statements, their rows a file in the store. */
export const executeReport: Worker = {
  queue: 'reports.execute',
  async work(context) {
    const { execute } = await import('./execution.ts')
    return execute(context)
  },
}
