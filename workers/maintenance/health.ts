import type { Task } from '../../src/task.ts'

/** Every six hours (document 004): the whole of `pawl.health` into the log and into system_maintenance_log. */
export const healthCheck: Task = {
  queue: 'maintenance.health',
  async perform(_data, { db, log }) {
    const checks = await db.query<{ check: string; ok: boolean; detail: string }>('select * from pawl.health')
    const bad = checks.filter(check => !check.ok)
    for (const { check, detail } of bad) log.warn({ check, detail }, 'a health check needs a person')
    await db.query(`insert into public.system_maintenance_log (operation, affected_rows, timestamp, details) values ('health_check', $1, now(), $2)`, [
      bad.length,
      JSON.stringify({ not_ok: Object.fromEntries(bad.map(({ check, detail }) => [check, detail])), checks: checks.length }),
    ])
    return { checks: checks.length, not_ok: bad.length }
  },
}
