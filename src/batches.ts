import pLimit from 'p-limit'
import { openLanes, type OpenRun } from './checkpoint.ts'
import type { Clock } from './clock.ts'
import type { Config } from './config.ts'
import type { Database, Query } from './database.ts'
import { classify, codeOf, messageOf } from './errors.ts'
import type { Log } from './log.ts'
import { backoffMs } from './retry.ts'

/** What was just committed: a batch, or a few of one lane. `stop` is what an operator wants of the run, or that its subject is gone. */
export type Step = { batches: number; rows: number; finished: boolean; stop: 'cancel' | 'pause' | 'gone' | null }

/** Why the loop ended: all lanes done, or the first reason to stop at a batch edge. */
export type Ending = 'finished' | 'cancel' | 'pause' | 'gone' | 'drain' | 'turn'

/** What a run works with. `drain` aborts when the worker shuts down; `turn` when the job has been held long enough. */
export type RunContext = {
  run: OpenRun
  config: Config
  db: Database
  log: Log
  clock: Clock
  drain: AbortSignal
  turn: AbortSignal
  /** Told of what was committed, for metrics. */
  committed(step: Step, milliseconds: number): void
}

/** Deadlocks and serialization failures in a row before the batch's error counts as one of the work. */
const CONFLICTS_MAX = 10

/**
 * The engine: walks every unfinished lane of the run, one batch after another, lanes side by side, until all are done or
 * something asks it to stop between two batches. `batch` must commit its rows, the cursor and the fence check in one
 * transaction (`pawl.hold` … `pawl.advance`); its cursor comes from the lane's row, so a batch whose answer was lost with
 * the connection is simply called again. Lost connections are waited out here, for hours if need be: they are no failure
 * of the work. Throws CheckpointLost's SQLSTATE (PW001) when another worker has taken over, and what the work itself threw.
 */
export async function inBatches(context: RunContext, batch: (lane: number) => Promise<Step>): Promise<Ending> {
  const lanes = await patiently(context, () => openLanes(context.db.query, context.run))
  const seen: { ending: Ending; failed: boolean } = { ending: 'finished', failed: false }
  const walk = async (lane: number) => {
    for (;;) {
      if (context.drain.aborted) seen.ending = 'drain'
      else if (context.turn.aborted) seen.ending = 'turn'
      if (seen.failed || seen.ending !== 'finished') return
      const begun = context.clock.elapsed()
      const step = await patiently(context, () => batch(lane))
      context.committed(step, context.clock.elapsed() - begun)
      // A stop seen at the very end of the work changes nothing any more.
      if (step.stop !== null && !(step.finished && step.stop !== 'gone')) seen.ending = step.stop
      if (step.finished) return
    }
  }
  // The first lane that fails stops the others at their next batch edge; only then is the run let go.
  const limit = pLimit(Math.max(1, lanes.length))
  const outcomes = await Promise.allSettled(
    lanes.map(lane =>
      limit(async () => {
        try {
          await walk(lane)
        } catch (error) {
          seen.failed = true
          throw error
        }
      }),
    ),
  )
  const failed = outcomes.find(outcome => outcome.status === 'rejected')
  if (failed !== undefined) throw failed.reason
  // An ending that one lane saw while the others finished theirs: what is unfinished decides.
  if (seen.ending === 'pause' || seen.ending === 'drain' || seen.ending === 'turn') {
    const left = await patiently(context, () => openLanes(context.db.query, context.run))
    if (left.length === 0) return 'finished'
  }
  return seen.ending
}

/** Runs `work` until it succeeds or fails for a reason of its own; transient failures are waited out with backoff, until drained or tried `attemptsMax` times. */
export async function patiently<Result>(
  context: Pick<RunContext, 'log' | 'clock' | 'drain'>,
  work: () => Promise<Result>,
  attemptsMax = Number.POSITIVE_INFINITY,
): Promise<Result> {
  let conflicts = 0
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work()
    } catch (error) {
      if (classify(error) !== 'transient' || context.drain.aborted || attempt >= attemptsMax) throw error
      // In a row: a connection that was lost in between says nothing about the rows.
      conflicts = isConflict(error) ? conflicts + 1 : 0
      // Without the code that makes it a passing one: this one does not pass.
      if (conflicts >= CONFLICTS_MAX) throw new Error(`${conflicts} conflicts in a row, the last: ${messageOf(error)}`)
      const waitMs = conflicts > 0 ? backoffMs(conflicts, 10, 500) : backoffMs(attempt, 50, 2_000)
      context.log.warn({ err: error, attempt, wait_ms: waitMs, reason: messageOf(error) }, 'met a passing error, trying again')
      await context.clock.sleep(waitMs, context.drain)
    }
  }
}

function isConflict(error: unknown): boolean {
  const code = codeOf(error)
  return code === '40001' || code === '40P01' || (error as { retryable?: boolean }).retryable === true
}

/** The batch of a domain that needs several statements: fence first, then `apply`, then cursor, in one transaction. */
export function transactionBatch<Cursor>(
  context: RunContext,
  apply: (query: Query, cursor: Cursor, lane: number) => Promise<{ cursor: Cursor; rows: number; finished: boolean }>,
): (lane: number) => Promise<Step> {
  const { run, db } = context
  return lane =>
    db.transact(async query => {
      const [held] = await query<{ cursor: Cursor; finished: boolean }>('select * from pawl.hold($1, $2, $3)', [run.runId, lane, run.epoch])
      if (held === undefined || held.finished) return { batches: 0, rows: 0, finished: true, stop: null }
      const done = await apply(query, held.cursor, lane)
      const [answer] = await query<{ stop: Step['stop'] }>('select pawl.advance($1, $2, $3, $4, $5, $6) as stop', [
        run.runId,
        lane,
        run.epoch,
        JSON.stringify(done.cursor),
        done.rows,
        done.finished,
      ])
      return { batches: 1, rows: done.rows, finished: done.finished, stop: answer?.stop ?? null }
    })
}
