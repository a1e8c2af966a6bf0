import { Gauge, type Registry } from 'prom-client'
import type { Clock } from '../clock.ts'
import type { Query } from '../database.ts'

/** The queue figures come from the database, so every replica reports the same: read them at most this often. */
const QUEUES_EVERY_MS = 15_000
/** The health view looks at every table's statistics. */
const HEALTH_EVERY_MS = 60_000

/** The checks of pawl.health whose detail begins with a number that is worth a line of its own. */
const counted: Readonly<Record<string, [name: string, help: string]>> = {
  workers: ['pawl_workers', 'Worker processes alive, in all of the installation'],
  'stuck runs': ['pawl_stuck_runs', 'Runs that should be moving and are not: select * from pawl.stuck'],
  'failed runs': ['pawl_failed_runs', 'Runs that failed for good within 24 hours and were not retried: select * from pawl.failures'],
  'failed timers': ['pawl_failed_timers', 'Timers that failed for good within 24 hours'],
  'overdue timers': ['pawl_overdue_timers', 'Timers that are due for more than ten seconds and have not fired'],
  'overdue refreshes': ['pawl_refresh_overdue', 'Tables whose refresh is due for more than an hour and not under way'],
  'overdue reports': ['pawl_reports_overdue', 'Reports that are scheduled and due for more than a minute'],
}

type QueueRow = { queue: string; ready: number; delayed: number; active: number; failed: number; paused: boolean; oldest_ready_seconds: number | null }
type CheckRow = { check: string; ok: boolean; figure: number | null }
type HealthRow = { checks: CheckRow[]; backup: { at: number; bytes: number } | null; migrations: number }

/** What all replicas report alike, because it is read from the database. Returns the readers: each reads when asked, unless it did so a moment ago. */
export function openFigures(registry: Registry, query: Query, clock: Clock): (() => Promise<void>)[] {
  const registers = [registry]
  const gauge = (name: string, help: string, labelNames: string[] = []) => new Gauge({ name, help, labelNames, registers })
  const readAt = gauge('pawl_figures_read_timestamp_seconds', 'When the figures of the database were last read', ['figures'])
  const atMostEvery = (everyMs: number, figures: string, read: () => Promise<void>) => {
    let begunMs = Number.NEGATIVE_INFINITY
    return async () => {
      if (clock.elapsed() - begunMs < everyMs) return
      begunMs = clock.elapsed()
      await read()
      readAt.set({ figures }, clock.now() / 1000)
    }
  }

  const jobs = gauge('pawl_queue_jobs', 'Jobs of a queue by state', ['queue', 'state'])
  const age = gauge('pawl_queue_oldest_ready_seconds', 'How long the oldest ready job has waited', ['queue'])
  const paused = gauge('pawl_queue_paused', '1 while the queue is paused', ['queue'])
  const readQueues = async () => {
    const rows = await query<QueueRow>('select * from pawl.queues')
    // A queue that is gone must not stand there with its last figures.
    for (const figure of [jobs, age, paused]) figure.reset()
    for (const row of rows) {
      const { queue } = row
      for (const state of ['ready', 'delayed', 'active', 'failed'] as const) jobs.set({ queue, state }, Number(row[state]))
      age.set({ queue }, row.oldest_ready_seconds ?? 0)
      paused.set({ queue }, row.paused ? 1 : 0)
    }
  }

  const healthOk = gauge('pawl_health_ok', '1 where a check of pawl.health is fine', ['check'])
  const verifiedAt = gauge('pawl_backup_verified_timestamp_seconds', 'When the newest verified backup was taken; 0: there is none')
  const backupBytes = gauge('pawl_backup_bytes', 'Size of the newest verified backup; 0: there is none')
  const migrations = gauge('pawl_schema_migrations', 'Migrations that are applied')
  const figures = new Map(Object.entries(counted).map(([check, [name, help]]) => [check, gauge(name, help)]))
  const readHealth = async () => {
    // One statement: an idle worker that is scraped sends five a minute, with those of the queues.
    const [row] = await query<HealthRow>(`
      select
        (
          select json_agg(json_build_object('check', h."check", 'ok', h.ok, 'figure', substring(h.detail from '^\\d+')::float8))
          from pawl.health h
        ) as checks,
        (
          select json_build_object('at', extract(epoch from b.taken_at), 'bytes', b.bytes)
          from pawl.backups b where b.state = 'verified' and b.scope = 'full' order by b.taken_at desc limit 1
        ) as backup,
        (select count(*) from pawl.schema_migrations) as migrations`)
    if (row === undefined) return
    healthOk.reset()
    for (const { check, ok, figure } of row.checks) {
      healthOk.set({ check }, ok ? 1 : 0)
      figures.get(check)?.set(figure ?? 0)
    }
    verifiedAt.set(row.backup?.at ?? 0)
    backupBytes.set(row.backup?.bytes ?? 0)
    migrations.set(row.migrations)
  }
  return [atMostEvery(QUEUES_EVERY_MS, 'queues', readQueues), atMostEvery(HEALTH_EVERY_MS, 'health', readHealth)]
}
