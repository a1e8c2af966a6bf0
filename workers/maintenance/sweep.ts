import { PawlError } from '../../src/errors.ts'
import { schedules } from '../../src/schedules.ts'
import type { Task } from '../../src/task.ts'

/** Runs one statement of `src/schedules.ts` when its hour has come; pg-boss's cron enqueues each once, however many workers there are. */
export const sweep: Task = {
  queue: 'maintenance.sweep',
  async perform({ schedule }, { db, clock }) {
    const found = schedules.find(({ key }) => key === schedule)
    if (found === undefined) {
      // Anyone may have enqueued it: what is no name may be anything, of any length.
      const said = typeof schedule === 'string' && schedule.length <= 100 ? `there is no schedule "${schedule}"` : 'the job names no schedule'
      throw new PawlError('sweep.unknown', said, {
        hint: `the schedules are ${schedules.map(({ key }) => key).join(', ')}`,
      })
    }
    const begun = clock.elapsed()
    await db.query(found.statement)
    const durationMs = Math.round(clock.elapsed() - begun)
    await db.query(
      `insert into pawl.sweeps (schedule, last_run_at, duration_ms) values ($1, now(), $2)
       on conflict (schedule) do update set last_run_at = excluded.last_run_at, duration_ms = excluded.duration_ms`,
      [found.key, durationMs],
    )
    return { schedule: found.key, duration_ms: durationMs }
  },
}
