import type { Loop } from '../../src/loop.ts'
import { startWheel } from '../../src/wheel.ts'
import { claimHandled, type Handlers, handlers as ours } from './handlers.ts'

/** More in one statement gains nothing and now and then tips its plan over (research: 11,400/s at 500, 5,400/s at 2,000). */
const TIMERS_MAX = 500
const HANDLERS_MAX = 50
const HANDLER_PATIENCE_MS = 60_000
/** With the housekeeping below: five statements a minute when nothing is due. */
const BACKSTOP_MS = 15_000
const HOUSEKEEPING_MS = 60_000

type Fired = { fired: number; more: boolean; next_at_ms: number | null; now_ms: number; late_ms: number[] | null }

/** Fires campaign timers at their due instant (document 002): every worker turns one, and what one has locked the others skip. */
export function campaignWheel(handlers: Handlers = ours, patienceMs = HANDLER_PATIENCE_MS): Loop {
  return {
    queue: 'campaigns.fire',
    channel: 'pawl_timers',
    start({ config, db, log, clock, metrics, lease }) {
      const stopping = new AbortController()
      const atWork = new Set<Promise<void>>()
      const types = Object.keys(handlers)
      const context = { db, log, clock, metrics, lease, handlers, patienceMs, signal: stopping.signal }
      let keptMs = clock.elapsed() - HOUSEKEEPING_MS
      const wheel = startWheel({
        clock,
        log,
        backstopMs: BACKSTOP_MS,
        async turn() {
          const [row] = await db.query<Fired>('select * from pawl.fire_timers($1, $2)', [TIMERS_MAX, types])
          if (row === undefined) throw new Error('pawl.fire_timers returned no row')
          for (const work of await claimHandled(context, HANDLERS_MAX - atWork.size)) {
            atWork.add(work)
            void work.then(() => {
              atWork.delete(work)
              wheel.notified('')
            })
          }
          if (clock.elapsed() - keptMs >= HOUSEKEEPING_MS) {
            keptMs = clock.elapsed()
            await db.query(`select pawl.rescue_timers($1 * interval '1 millisecond'), pawl.redeliver_lost_timers()`, [config.leaseMs])
          }
          if (row.fired > 0) metrics?.timers(row.fired, row.late_ms ?? [])
          if (row.fired > 0) log.debug({ fired: row.fired }, 'timers fired')
          return { more: row.more, nextAtMs: row.next_at_ms, nowMs: row.now_ms }
        },
      })
      return {
        notified: wheel.notified,
        async stop() {
          await wheel.stop()
          stopping.abort()
          await Promise.all(atWork)
        },
      }
    },
  }
}
