import { PawlError } from '../../src/errors.ts'
import type { Task } from '../../src/task.ts'
import { claimHandled, handlers } from './handlers.ts'

const HANDLER_PATIENCE_MS = 60_000
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/**
 * Brings a timer's retry when its backoff has passed. What comes back from the dead letter queue (pg-boss's redrive) carries
 * the error it died of, and starts over with five new retries.
 */
export const fireTimer: Task = {
  queue: 'campaigns.fire',
  async perform({ timer_id: timer, error }, { db, log, clock, lease, signal }) {
    if (typeof timer !== 'string' || !UUID.test(timer)) {
      throw new PawlError('timer.unnamed', 'a job on campaigns.fire must name its timer: {"timer_id": "…"}', { hint: 'use pawl.schedule_timer' })
    }
    if (error !== undefined) {
      // Only what failed: who may enqueue a job is not to bring back a timer that an operator cancelled.
      const failed = await db.query(`select pawl.retry($1) from public.campaign_timers where id = $1::text::uuid and status = 'FAILED'`, [timer])
      return { timer: failed.length > 0 ? 'redriven' : 'not failed' }
    }
    const handled = await claimHandled({ db, log, clock, lease, handlers, patienceMs: HANDLER_PATIENCE_MS, signal }, 1, timer)
    if (handled.length > 0) {
      await Promise.all(handled)
      return { timer: 'handled' }
    }
    const [row] = await db.query<{ state: string }>('select pawl.fire_timer($1) as state', [timer])
    return { timer: row?.state }
  },
}
