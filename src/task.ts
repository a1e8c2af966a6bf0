import { patiently } from './batches.ts'
import { classify, messageOf, PawlError } from './errors.ts'
import type { HandlerOptions, Settlement } from './worker.ts'

/** The work of a queue whose jobs are complete in themselves: no run, no checkpoint; pg-boss retries them and keeps the dead ones. */
export type Task = {
  queue: string
  /** Does what the job asks and returns what to remember of it. Throws what went wrong; a PawlError that is not retryable is refused input. */
  perform(data: Record<string, unknown>, context: TaskContext): Promise<Record<string, unknown>>
}

export type TaskContext = Pick<HandlerOptions, 'config' | 'db' | 'log' | 'clock' | 'lease'> & { signal: AbortSignal }

/** What passes by itself (a deadlock with a migration, a restart) is tried again here, before it costs the job one of its retries. */
const ATTEMPTS_MAX = 5

/** Binds a task to its queue: one verdict on how it ended becomes done, retry with backoff, or dead letter. */
export function performing(task: Task, options: HandlerOptions): (data: unknown, jobId: string, expired: AbortSignal) => Promise<Settlement> {
  return async (data, jobId, expired) => {
    const log = options.log.child({ queue: task.queue, job_id: jobId })
    const begun = options.clock.elapsed()
    try {
      if (typeof data !== 'object' || data === null) throw new PawlError('task.data', 'the data of a job must be a JSON object')
      const signal = AbortSignal.any([options.drain, expired])
      const perform = () => task.perform(data as Record<string, unknown>, { ...options, log, signal })
      const output = await patiently({ log, clock: options.clock, drain: signal }, perform, ATTEMPTS_MAX)
      log.debug({ ...output, duration_ms: Math.round(options.clock.elapsed() - begun) }, 'task done')
      return { status: 'completed', output: { outcome: 'completed', ...output } }
    } catch (error) {
      const verdict = classify(error)
      log[verdict === 'transient' ? 'warn' : 'error']({ err: error, verdict }, 'task failed')
      return {
        status: verdict === 'refused' ? 'deadletter' : 'failed',
        output: { outcome: verdict === 'refused' ? 'refused' : 'retry', error: messageOf(error) },
      }
    }
  }
}
