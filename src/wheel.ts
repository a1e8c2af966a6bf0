import { classify, messageOf } from './errors.ts'
import type { LoopContext, Turning } from './loop.ts'
import { backoffMs } from './retry.ts'

/** What one turn did. Times are the database's clock, in milliseconds since the epoch. */
export type Turn = { more: boolean; nextAtMs: number | null; nowMs: number }

export type WheelOptions = Pick<LoopContext, 'clock' | 'log'> & {
  /** Does what is due now. May be called twice at once while there is more than one turn's worth of it. */
  turn: () => Promise<Turn>
  /** Turns at least this often, for notifications that were lost. */
  backstopMs: number
}

/** Between two turns, so that a thousand due times a second are taken by the handful. */
const GAP_MS = 3
/** Turns at once while there is a backlog: one's commit wait is the other's work. */
const LANES = 2

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

  const turns = async () => {
    dueAtMs = Number.POSITIVE_INFINITY
    const done = await turn()
    turnedMs = clock.elapsed()
    offsetMs = done.nowMs - turnedMs
    dueAtMs = Math.min(dueAtMs, done.nextAtMs ?? Number.POSITIVE_INFINITY)
    return done.more
  }
  const backlog = async () => {
    // Each lane goes on until it finds no more; what one has locked the other skips.
    const lane = async () => {
      while (!stopping.signal.aborted && (await turns()));
    }
    // All of them, also when one threw: whoever stops us closes the database next.
    const ended = await Promise.allSettled(Array.from({ length: LANES }, lane))
    for (const one of ended) if (one.status === 'rejected') throw one.reason
  }
  const loop = async () => {
    let failures = 0
    while (!stopping.signal.aborted) {
      const waitMs = Math.max(GAP_MS - (clock.elapsed() - turnedMs), Math.min(dueAtMs - offsetMs, turnedMs + backstopMs) - clock.elapsed())
      if (waitMs > 0) {
        woken = new AbortController()
        await clock.sleep(Math.ceil(waitMs), woken.signal)
        if (woken.signal.aborted) continue
      }
      if (stopping.signal.aborted) return
      try {
        if (await turns()) await backlog()
        failures = 0
      } catch (error) {
        failures += 1
        const pauseMs = backoffMs(failures, 50, 2_000)
        log[classify(error) === 'transient' ? 'warn' : 'error']({ err: error, reason: messageOf(error), wait_ms: pauseMs }, 'the wheel could not turn')
        dueAtMs = Number.NEGATIVE_INFINITY
        await clock.sleep(pauseMs, stopping.signal)
      }
    }
  }

  const looping = loop()
  return {
    notified(payload) {
      // Empty or no number: something may be due at once.
      const atMs = payload === '' ? 0 : Number(payload)
      if (atMs >= dueAtMs) return
      dueAtMs = Number.isNaN(atMs) ? 0 : atMs
      woken.abort()
    },
    async stop() {
      stopping.abort()
      woken.abort()
      await looping
    },
  }
}
