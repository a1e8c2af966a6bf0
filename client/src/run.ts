import { ask, type Queryable } from './queryable.ts'

export type RunState = 'pending' | 'running' | 'completed' | 'failed' | 'cancelled'

/** What a run is of. More kinds may come. */
export type RunKind = 'override' | 'timer' | 'refresh' | 'report' | (string & {})

/** A row of pawl.runs. */
export type Run = {
  runId: string
  kind: RunKind
  state: RunState
  /** What it is about, for people. */
  subject: string
  done: number
  total: number | null
  percent: number | null
  rowsPerSecond: number | null
  /** When it will be done, as fast as it goes now. */
  eta: Date | null
  attempt: number | null
  failures: number
  /** Who works on it. */
  worker: string | null
  requestedAt: Date
  startedAt: Date | null
  updatedAt: Date
  finishedAt: Date | null
  /** Why it failed or was cancelled, or what its last attempt failed with. */
  error: string | null
  /** Which login asked for it; null for timers. */
  requestedBy: string | null
  /** Which login asked to cancel it, also while it has not stopped yet. */
  cancelledBy: string | null
  cancelledAt: Date | null
  cancelReason: string | null
}

/** A run that has ended: well, badly, or because somebody cancelled it. */
export type EndedRun =
  | (Run & { state: 'completed'; finishedAt: Date; error: null })
  | (Run & { state: 'failed' | 'cancelled'; finishedAt: Date; error: string | null })

const times = ['eta', 'requestedAt', 'startedAt', 'updatedAt', 'finishedAt', 'cancelledAt']

// As one JSON text, so that it does not matter what the caller's driver makes of dates and bigints.
const statement = `select json_build_object(
    'runId', r.run_id, 'kind', r.kind, 'state', r.state, 'subject', r.subject, 'done', r.done, 'total', r.total, 'percent', r.percent,
    'rowsPerSecond', r.rows_per_second, 'eta', r.eta, 'attempt', r.attempt, 'failures', r.failures, 'worker', r.worker,
    'requestedAt', r.requested_at, 'startedAt', r.started_at, 'updatedAt', r.updated_at, 'finishedAt', r.finished_at, 'error', r.error,
    'requestedBy', r.requested_by, 'cancelledBy', r.cancelled_by, 'cancelledAt', r.cancelled_at, 'cancelReason', r.cancel_reason,
    'inTransaction', pg_current_xact_id_if_assigned() is not null
  )::text as answer
  from pawl.runs r
  where r.run_id = $1::text`

/** The run, and whether it was read inside a transaction that has written something. */
export async function readRun(queryable: Queryable, runId: string): Promise<{ run: Run; inTransaction: boolean } | undefined> {
  const answer = await ask(queryable, 'read', statement, [runId])
  if (answer === null) return undefined
  const { inTransaction, ...run } = JSON.parse(answer, (key, value) => (times.includes(key) && value !== null ? new Date(value) : value))
  return { run, inTransaction }
}

/** Whether nothing more will happen to the run by itself. */
export function hasEnded(run: Run): run is EndedRun {
  return run.state === 'completed' || run.state === 'failed' || run.state === 'cancelled'
}
