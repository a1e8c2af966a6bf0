import type { Clock } from '../../src/clock.ts'
import type { Database } from '../../src/database.ts'
import { classify, messageOf } from '../../src/errors.ts'
import type { Log } from '../../src/log.ts'
import type { Metrics } from '../../src/metrics.ts'
import { backoffMs } from '../../src/retry.ts'
import type { TimerType } from './states.ts'

/** A timer as its handler sees it; `attempt` is 1 the first time. */
export type ClaimedTimer = {
  timer_id: string
  execution_id: string
  campaign_id: string
  timer_type: TimerType
  scheduled_at: Date
  payload: Record<string, unknown>
  attempt: number
}

/**
 * Work that must succeed before a timer of its type takes effect: a check with another service, say. May run twice when its
 * worker dies, so it should be idempotent by `timer_id`. What it returns, an object or nothing, stands in the execution's
 * result. Throwing, hanging and returning anything else are failed attempts: five retries with backoff, then the dead letter.
 */
export type TimerHandler = (timer: ClaimedTimer, signal: AbortSignal) => Promise<Record<string, unknown> | undefined>

export type Handlers = Partial<Record<TimerType, TimerHandler>>

/** Pawl's own timers need none: what they do is SQL. Yours go here. */
export const handlers: Handlers = {}

export type HandlerContext = {
  db: Database
  log: Log
  clock: Clock
  metrics?: Pick<Metrics, 'timers'> | undefined
  lease: () => number | undefined
  handlers: Handlers
  patienceMs: number
  signal: AbortSignal
}

/** Claims due timers whose types have handlers (or that one timer), and returns the work on each, under way. */
export async function claimHandled(context: HandlerContext, limit: number, timerId: string | null = null): Promise<Promise<void>[]> {
  const types = Object.keys(context.handlers)
  const lease = context.lease()
  if (types.length === 0 || limit < 1 || lease === undefined) return []
  const claimed = await context.db.query<ClaimedTimer>('select * from pawl.claim_timers($1, $2, $3, $4)', [types, limit, lease, timerId])
  return claimed.map(timer => work(context, timer, lease))
}

async function work(context: HandlerContext, timer: ClaimedTimer, lease: number): Promise<void> {
  const { db, log, clock, signal } = context
  let outcome = await attempt(context, timer)
  if ('error' in outcome && signal.aborted) {
    // What a shutdown broke off is no failure of the handler's.
    await db.query('select pawl.release_timer($1, $2, $3)', [timer.timer_id, timer.execution_id, lease]).catch(failure => {
      log.warn({ timer_id: timer.timer_id, reason: messageOf(failure) }, 'timer was not handed back, it will be rescued')
    })
    return
  }
  for (let tries = 1; ; tries += 1) {
    const error = 'error' in outcome ? outcome.error : null
    try {
      const [row] = await db.query<{ late_ms: number }>(
        `select pawl.conclude_timer($1, $2, $3, $4, $5), date_part('epoch', clock_timestamp() - $6::timestamptz) * 1000 as late_ms`,
        [timer.timer_id, timer.execution_id, lease, 'result' in outcome ? outcome.result : null, error, timer.scheduled_at],
      )
      // A retry is as late as its backoff is long: that says nothing about the wheel.
      if (error === null) context.metrics?.timers(1, row !== undefined && timer.attempt === 1 ? [row.late_ms] : [])
      if (error !== null) log.warn({ timer_id: timer.timer_id, attempt: timer.attempt, reason: error }, 'timer handler failed')
      return
    } catch (failure) {
      const verdict = classify(failure)
      if (verdict === 'transient' && !signal.aborted) {
        // We keep our lease through a restart of the database, so nobody else would ever conclude it.
        await clock.sleep(backoffMs(tries, 50, 2_000), signal)
      } else if (error === null && verdict !== 'lost' && verdict !== 'transient') {
        outcome = { error: `what the handler returned cannot be stored: ${messageOf(failure)}` }
      } else {
        // Taken over, or we are leaving and the database is away: then the lease lapses, and the timer is rescued with no retry spent.
        log.warn({ timer_id: timer.timer_id, reason: messageOf(failure), verdict }, 'timer was not concluded by this worker')
        return
      }
    }
  }
}

async function attempt(
  { handlers: known, clock, patienceMs, signal }: HandlerContext,
  timer: ClaimedTimer,
): Promise<{ result: string | null } | { error: string }> {
  const handler = known[timer.timer_type]
  if (handler === undefined) return { error: `there is no handler for ${timer.timer_type} in this worker` }
  const late = new AbortController()
  const answered = new AbortController()
  const timeout = clock.sleep(patienceMs, answered.signal).then(() => {
    late.abort()
    return 'late' as const
  })
  try {
    const answer = await Promise.race([handler(timer, AbortSignal.any([signal, late.signal])), timeout])
    if (answer === 'late') return { error: `the handler has not answered within ${patienceMs / 1000} s` }
    if (answer === undefined) return { result: null }
    if (typeof answer !== 'object' || answer === null || Array.isArray(answer)) return { error: `the handler returned nonsense: ${String(answer)}` }
    return { result: JSON.stringify(answer) }
  } catch (error) {
    // PostgreSQL's text holds no NUL.
    return { error: messageOf(error).replaceAll('\0', '').slice(0, 2000) }
  } finally {
    answered.abort()
  }
}
