import type { Database, Query } from './database.ts'

/** A run that this worker has opened. The epoch is its fence: every write of the run is refused once a newer one exists. */
export type OpenRun = { runId: string; kind: string; subject: string; epoch: number }

/** What brought a run here: a pg-boss job and its attempt. */
export type Delivery = { runId: string; jobId: string; jobAttempt: number }

export type Opening =
  /** `traceparent`: the span of whoever asked for the run. */
  | { outcome: 'opened'; run: OpenRun; traceparent: string | undefined }
  /** `official`: this job is the run's own delivery, not an older one that a rescue has replaced. */
  | { outcome: 'gone' | 'finished' | 'paused' | 'held' | 'cancelled' | 'poisoned'; official: boolean }

/** Opens a run for the worker holding `lease`; see `pawl.open_run` for the outcomes. */
export async function openRun(db: Database, delivery: Delivery, lease: number, leaseMs: number): Promise<Opening> {
  const [row] = await db.query<{ outcome: string; epoch: number; kind: string; subject: string; official: boolean; traceparent: string | null }>(
    `select * from pawl.open_run($1, $2, $3, $4, $5 * interval '1 millisecond')`,
    [delivery.runId, lease, delivery.jobId, delivery.jobAttempt, leaseMs],
  )
  if (row === undefined) throw new Error('pawl.open_run returned no row')
  if (row.outcome === 'opened') {
    const { kind, subject, epoch, traceparent } = row
    return { outcome: 'opened', run: { runId: delivery.runId, kind, subject, epoch }, traceparent: traceparent ?? undefined }
  }
  return { outcome: row.outcome as Exclude<Opening['outcome'], 'opened'>, official: row.official }
}

/** Ends the run. Throws SQLSTATE PW001 when it is no longer ours. */
export async function finishRun(query: Query, run: OpenRun, state: 'completed' | 'failed' | 'cancelled', error: string | null = null): Promise<void> {
  await query('select pawl.finish($1, $2, $3, $4)', [run.runId, run.epoch, state, error])
}

/** Cancels the run with the words of whoever asked for it. */
export async function cancelRun(query: Query, run: OpenRun): Promise<void> {
  await query(
    `select pawl.finish(run_id, epoch, 'cancelled', pawl.cancel_text(cancel_requested_by, cancel_reason))
     from pawl.checkpoints where run_id = $1 and epoch = $2`,
    [run.runId, run.epoch],
  )
}

/** Hands the run back at a batch edge, no attempt spent, and enqueues the job that brings it to the next worker. */
export async function handBack(query: Query, run: OpenRun): Promise<void> {
  await query('select pawl.release($1, $2, true)', [run.runId, run.epoch])
}

/** Counts a failure of the work. True: pg-boss will bring the run again, after its backoff. False: it has failed for good. */
export async function failRun(query: Query, run: OpenRun, error: string, retryable: boolean): Promise<boolean> {
  const [row] = await query<{ fail: boolean }>('select pawl.fail($1, $2, $3, $4)', [run.runId, run.epoch, error, retryable])
  return row?.fail ?? false
}

/** Enqueues another job for the run, `delayMs` from now. */
export async function deliverRun(query: Query, runId: string, delayMs = 0): Promise<void> {
  await query(`select pawl.deliver($1, case when $2 > 0 then now() + $2 * interval '1 millisecond' end)`, [runId, delayMs])
}

/** The run's lanes that still have work, in order. */
export async function openLanes(query: Query, run: OpenRun): Promise<number[]> {
  const rows = await query<{ lane: number }>('select lane from pawl.lanes where run_id = $1 and not finished order by lane', [run.runId])
  return rows.map(row => row.lane)
}

/** Cuts the run into lanes, once: a run that has lanes keeps them and their cursors. */
export async function cutLanes(query: Query, run: OpenRun, cursors: readonly unknown[]): Promise<void> {
  await query(
    `with held as (select pawl.hold_run($1, $2))
     insert into pawl.lanes (run_id, lane, epoch, cursor)
     select $1, place - 1, $2, cursor
     from held, jsonb_array_elements($3::jsonb) with ordinality cursors (cursor, place)
     where not exists (select from pawl.lanes where run_id = $1)`,
    [run.runId, run.epoch, JSON.stringify(cursors)],
  )
}
