import { PawlError } from '../../src/errors.ts'
import { schedules } from '../../src/schedules.ts'
import type { Task } from '../../src/task.ts'

/** Runs one statement of `src/schedules.ts` when its hour has come; pg-boss's cron enqueues each once, however many workers there are. */
export const sweep: Task = {
  queue: 'maintenance.sweep',
  async perform({ schedule }, { db, clock }) {
    const found = schedules.find(({ key }) => key === schedule)
    if (found === undefined) {
      throw new PawlError('sweep.unknown', `there is no schedule "${String(schedule)}"`, {
        hint: `the schedules are ${schedules.map(({ key }) => key).join(', ')}`,
      })
    }
    const begun = clock.elapsed()
    await db.query(found.statement)
    return { schedule: found.key, duration_ms: Math.round(clock.elapsed() - begun) }
  },
}
