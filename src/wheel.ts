import { classify, messageOf } from './errors.ts'
import type { LoopContext, Turning } from './loop.ts'
import { backoffMs } from './retry.ts'

/** What one turn did. Times are the database's clock, in milliseconds since the epoch. */
export type Turn = { more: boolean; nextAtMs: number | null; nowMs: number }

export type WheelOptions = Pick<LoopContext, 'clock' | 'log'> & {
  /** Does what is due now. May be called a second time while the first takes long. */
  turn: () => Promise<Turn>
  /** Turns at least this often, for notifications that were lost. */
  backstopMs: number
}

/** Between two turns, so that a thousand due times a second are taken by the handful. */
const GAP_MS = 3
/** A turn under way for this long no longer keeps what falls due meanwhile waiting: a second one goes beside it. */
const OVERLAP_MS = 6

/**
 * Sleeps until the next due instant, turns, and sleeps again. It knows due times from the last turn and from notifications
 * of earlier ones; the machine's own time of day is never asked, only how long ago the database told its.
 */
export function startWheel({ clock, log, turn, backstopMs }: WheelOptions): Turning {
  const stopping = new AbortController()
  let woken = new AbortController()
  /** The database's clock minus our stopwatch. */
  let offsetMs = 0
  let dueAtMs = Number.NEGATIVE_INFINITY
  let turnedMs = Number.NEGATIVE_INFINITY
  /** Aborts when the main turn under way has ended. */
  let turning: AbortController | undefined
  let beside: Promise<void> | undefined

  const plan = (atMs: number) => {
    if (atMs >= dueAtMs) return
    dueAtMs = atMs
    woken.abort()
  }
  const turnOnce = async () => {
    dueAtMs = Number.POSITIVE_INFINITY
    const done = await turn()
    turnedMs = clock.elapsed()
    offsetMs = done.nowMs - turnedMs
    plan(done.more ? Number.NEGATIVE_INFINITY : (done.nextAtMs ?? Number.POSITIVE_INFINITY))
  }
  const turnBeside = async () => {
    while (turning !== undefined && !stopping.signal.aborted) {
      await clock.sleep(OVERLAP_MS, turning.signal)
      if (turning?.signal.aborted !== false || stopping.signal.aborted) return
      // What fails here the main turn meets as well, and it is that one's to report.
      await turnOnce().catch(() => plan(Number.NEGATIVE_INFINITY))
    }
  }
  const turnMain = async (isDue: boolean) => {
    turning = new AbortController()
    // Not for the backstop's look: nothing is known to be due, and on a busy machine each would cost two.
    if (isDue)
      beside ??= turnBeside().finally(() => {
        beside = undefined
      })
    try {
      await turnOnce()
    } finally {
      turning.abort()
      turning = undefined
    }
  }
  const loop = async () => {
    let failures = 0
    while (!stopping.signal.aborted) {
      const isDue = dueAtMs - offsetMs <= turnedMs + backstopMs
      const dueMs = Math.min(dueAtMs - offsetMs, turnedMs + backstopMs)
      const waitMs = dueAtMs === Number.NEGATIVE_INFINITY ? 0 : Math.max(GAP_MS - (clock.elapsed() - turnedMs), dueMs - clock.elapsed())
      if (waitMs > 0) {
        woken = new AbortController()
        await clock.sleep(Math.ceil(waitMs), woken.signal)
        if (woken.signal.aborted) continue
      }
      if (stopping.signal.aborted) break
      try {
        await turnMain(isDue)
        failures = 0
      } catch (error) {
        failures += 1
        const pauseMs = backoffMs(failures, 50, 2_000)
        log[classify(error) === 'transient' ? 'warn' : 'error']({ err: error, reason: messageOf(error), wait_ms: pauseMs }, 'the wheel could not turn')
        dueAtMs = Number.NEGATIVE_INFINITY
        await clock.sleep(pauseMs, stopping.signal)
      }
    }
    // Whoever stops us closes the database next.
    await beside
  }

  const looping = loop()
  return {
    notified(payload) {
      // Empty or no number: something may be due at once.
      const atMs = payload === '' ? 0 : Number(payload)
      plan(Number.isNaN(atMs) ? 0 : atMs)
    },
    async stop() {
      stopping.abort()
      woken.abort()
      await looping
    },
  }
}
