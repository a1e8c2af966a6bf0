import { type Ending, patiently, type RunContext, type Step } from './batches.ts'
import { cancelRun, type Delivery, deliverRun, failRun, finishRun, handBack, type OpenRun, openRun } from './checkpoint.ts'
import type { Clock } from './clock.ts'
import type { Config } from './config.ts'
import type { Database } from './database.ts'
import { classify, messageOf } from './errors.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import { type RunTrace, traceRun } from './traces.ts'

/** The work of one queue: what a domain gives the machine. */
export type Worker = {
  queue: string
  /**
   * Works on an open run until it ends; 'parked' when it put the run aside itself, 'ended' when it ended the run in the
   * transaction of its last write. Throws what went wrong.
   */
  work(context: RunContext, options: { lanes: number; sliceMs: number }): Promise<Ending | 'parked' | 'ended'>
}

/** What becomes of the job, in pg-boss's words: done, to be retried with backoff, or dead. */
export type Settlement = { status: 'completed' | 'failed' | 'deadletter'; output: Record<string, unknown> }

export type HandlerOptions = {
  config: Config
  db: Database
  log: Log
  clock: Clock
  metrics: Metrics
  drain: AbortSignal
  lanes: number
  sliceMs: number
  leaseMs: number
  turnMs: number
  /** This worker's lease; undefined while the database is out of reach. */
  lease: () => number | undefined
  /** Run ids in work in this process: what the heartbeat vouches for. */
  held: Set<string>
  /** The queue turned out to be paused. */
  onPaused: () => void
}

/** A job as it comes: anyone may have enqueued it, so its run id may be anything. */
export type IncomingJob = Omit<Delivery, 'runId'> & { runId: unknown; waitedMs?: number }

/** The longest of ours name a table and its schema. */
const RUN_ID_MAX = 300
/** A run that another worker still holds is asked for again after this long. */
const HELD_RETRY_MS = 5_000

/**
 * Binds a domain's work to its queue: opens the run, lets it work, and settles run and job from the one verdict on how
 * it ended. This is the only place where an error is turned into retry, hand-over, or defeat.
 */
export function handle(worker: Worker, options: HandlerOptions): (job: IncomingJob, expired: AbortSignal) => Promise<Settlement> {
  const { db, clock, metrics, held } = options
  return async (job, expired) => {
    const { runId, waitedMs } = job
    const isNamed = typeof runId === 'string' && runId.length <= RUN_ID_MAX
    // Anyone may have enqueued it: what is no run id may be a secret or a megabyte, and does not belong in a log.
    const log = options.log.child({ queue: worker.queue, ...(isNamed ? { run_id: runId } : {}), job_id: job.jobId })
    if (!isNamed) {
      log.error('job names no run')
      return {
        status: 'deadletter',
        output: { outcome: 'refused', error: 'the data of a job on this queue must be {"run_id": …}; use the pawl.* function of its kind to enqueue it' },
      }
    }
    const delivery: Delivery = { ...job, runId }
    const lease = options.lease()
    if (lease === undefined || held.has(runId)) return postpone(options, delivery, lease === undefined ? 'no lease' : 'already here')
    held.add(runId)
    try {
      const opening = await openRun(db, delivery, lease, options.leaseMs)
      if (opening.outcome !== 'opened') {
        log.info({ outcome: opening.outcome }, 'run not opened')
        if (opening.outcome === 'paused') options.onPaused()
        if (opening.official && (opening.outcome === 'held' || opening.outcome === 'paused')) {
          await deliverRun(db.query, runId, opening.outcome === 'held' ? HELD_RETRY_MS : 0)
        }
        return { status: 'completed', output: { outcome: opening.outcome } }
      }
      if (waitedMs !== undefined) metrics.waited(worker.queue, waitedMs)
      const { run, traceparent } = opening
      const traced = { ...run, queue: worker.queue, traceparent }
      return await traceRun(traced, clock, told => attempt(worker, run, { ...options, log: log.child({ epoch: run.epoch }) }, expired, told))
    } finally {
      held.delete(runId)
    }
  }
}

/** What a run works with, and the span that this attempt at it is. */
type Attempt = RunContext & { told: RunTrace }

/** Works on the open run until it ends or is let go, and counts how. */
async function attempt(worker: Worker, run: OpenRun, options: HandlerOptions, expired: AbortSignal, told: RunTrace): Promise<Settlement> {
  const { config, db, log, clock, metrics, drain, turnMs } = options
  const turn = new AbortController()
  const timer = setTimeout(() => turn.abort(), turnMs)
  const context: Attempt = {
    run,
    config,
    db,
    log,
    clock,
    drain,
    turn: AbortSignal.any([turn.signal, expired]),
    committed(step: Step, milliseconds: number) {
      metrics.batches(run.kind, step, milliseconds)
      told.committed(step, milliseconds)
    },
    told,
  }
  const begun = clock.elapsed()
  log.info({ subject: run.subject }, 'run opened')
  try {
    const ended = await workAndSettle(worker, context, options)
    const tookMs = clock.elapsed() - begun
    metrics.run(worker.queue, String(ended.output.outcome), tookMs)
    told.ended(String(ended.output.outcome))
    log.info({ ...ended.output, duration_ms: Math.round(tookMs) }, 'run let go')
    return ended
  } finally {
    clearTimeout(timer)
  }
}

async function workAndSettle(worker: Worker, context: Attempt, options: HandlerOptions): Promise<Settlement> {
  try {
    const ending = await worker.work(context, { lanes: options.lanes, sliceMs: options.sliceMs })
    if (ending === 'parked') return { status: 'completed', output: { outcome: 'parked' } }
    if (ending === 'ended') return { status: 'completed', output: { outcome: 'completed' } }
    await settle(context, () => conclude(context, ending))
    return { status: 'completed', output: { outcome: ending === 'finished' ? 'completed' : ending } }
  } catch (error) {
    return afterError(context, error)
  }
}

function conclude({ db, run }: RunContext, ending: Ending): Promise<void> {
  switch (ending) {
    case 'finished':
      return finishRun(db.query, run, 'completed')
    case 'cancel':
      return cancelRun(db.query, run)
    case 'gone':
      return finishRun(db.query, run, 'cancelled', 'cancelled: what it worked on was deleted')
    case 'pause':
    case 'drain':
    case 'turn':
      return handBack(db.query, run)
  }
}

async function afterError(context: Attempt, error: unknown): Promise<Settlement> {
  const { db, run, log } = context
  const verdict = classify(error)
  context.told.failed(error, verdict)
  if (verdict === 'lost') {
    // Not an event to wake anyone for: the fence did its work, and the run goes on elsewhere.
    log.warn({ reason: messageOf(error) }, 'run was taken over, leaving it alone')
    return { status: 'completed', output: { outcome: 'lost' } }
  }
  if (verdict === 'transient') {
    log.warn({ err: error }, 'run handed back after a passing error')
    await settle(context, () => handBack(db.query, run))
    return { status: 'completed', output: { outcome: 'handed back', reason: messageOf(error) } }
  }
  log.error({ err: error, verdict }, 'run failed')
  const again = await settle(context, () => failRun(db.query, run, messageOf(error), verdict === 'bug'))
  return { status: again === true ? 'failed' : 'deadletter', output: { outcome: again === true ? 'retry' : 'failed', error: messageOf(error) } }
}

/** Writes the run's ending. Taken over meanwhile: that is fine, and nothing is written. Out of reach while draining: the lease lapses instead. */
async function settle<Result>(context: RunContext, write: () => Promise<Result>): Promise<Result | undefined> {
  try {
    return await patiently(context, write)
  } catch (error) {
    const verdict = classify(error)
    if (verdict !== 'lost' && verdict !== 'transient') throw error
    context.log.warn({ reason: messageOf(error) }, 'ending of the run was not ours to write')
    return undefined
  }
}

async function postpone(options: HandlerOptions, delivery: Delivery, reason: string): Promise<Settlement> {
  await deliverRun(options.db.query, delivery.runId, HELD_RETRY_MS)
  return { status: 'completed', output: { outcome: 'postponed', reason } }
}
