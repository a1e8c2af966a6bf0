import type { Config } from './config.ts'

/** Everything that runs by the clock, in UTC: the documents' cron lines. `pawl migrate up` brings pg-boss's schedules in step with this list. */
export type Schedule = {
  /** Its name in pg-boss, and with underscores in system_maintenance_log. */
  key: string
  /** Undefined by the environment's wish: never. */
  cron: string | ((config: Config) => string | undefined)
  /** The one statement that does it. */
  statement: string
}

/** The queue that carries them: `workers/maintenance/sweep.ts`. */
export const SWEEP_QUEUE = 'maintenance.sweep'

export const schedules: readonly Schedule[] = [
  // Document 002
  { key: 'create-monthly-partitions', cron: '0 0 1 * *', statement: 'select public.create_monthly_partitions()' },
  { key: 'refresh-active-campaigns', cron: '*/5 * * * *', statement: `select pawl.refresh_campaign_views('mv_active_campaigns')` },
  { key: 'refresh-pending-timers', cron: '* * * * *', statement: `select pawl.refresh_campaign_views('mv_pending_timers')` },
  { key: 'archive-state-logs', cron: '0 2 1 * *', statement: 'select public.archive_old_state_logs()' },
  { key: 'cleanup-timer-executions', cron: '0 3 * * 0', statement: 'select public.cleanup_timer_executions()' },
  // Document 001: partitions by month, without a cron line
  { key: 'maintain-report-partitions', cron: '30 0 1 * *', statement: 'select reporting.maintain_partitions()' },
  // Document 000: "monthly" and "daily", without a cron line
  { key: 'maintain-audit-partitions', cron: '15 0 1 * *', statement: 'select public.maintain_audit_partitions()' },
  { key: 'cleanup-override-operations', cron: '30 3 * * *', statement: 'select public.cleanup_old_override_operations()' },
  // Document 003: a plan of what is due, and tables that no event trigger saw
  { key: 'plan-refresh', cron: '* * * * *', statement: 'select pawl.plan_refresh()' },
  { key: 'register-refresh-tables', cron: '*/5 * * * *', statement: 'select sqp.register_new_tables()' },
  { key: 'expire-refresh-checkpoints', cron: '*/10 * * * *', statement: 'select sqp.expire_checkpoints()' },
  { key: 'drop-refresh-staging', cron: '45 3 * * *', statement: 'select pawl.drop_refresh_staging()' },
  // What pawl.retention keeps no longer: rows daily, whole months when a month is over
  { key: 'prune-history', cron: '15 4 * * *', statement: 'select pawl.prune()' },
  { key: 'plan-archives', cron: '0 5 2 * *', statement: 'select pawl.plan_archives()' },
  // Document 004: "Daily: 2 AM, Weekly: Sunday 3 AM, Cleanup: Daily 4 AM (configurable)", "Health Checks: Every 6 hours"
  { key: 'backup-daily', cron: ({ backup }) => backup.crons.daily, statement: `select pawl.schedule_backup('daily')` },
  { key: 'backup-weekly', cron: ({ backup }) => backup.crons.weekly, statement: `select pawl.schedule_backup('weekly')` },
  { key: 'backup-cleanup', cron: ({ backup }) => backup.crons.cleanup, statement: `select pawl.enqueue('maintenance.cleanup', '{}')` },
  { key: 'health-check', cron: '0 */6 * * *', statement: `select pawl.enqueue('maintenance.health', '{}')` },
  // Document 004: "Index Optimization: Weekly (Saturday 1 AM)". Only the report: a worker may neither build an index nor ANALYZE on a table
  // that it doesn't own; `pawl optimize --apply` does that.
  { key: 'index-report', cron: '0 1 * * 6', statement: 'select pawl.log_index_report()' },
]

/** The lines that this environment wants: key and cron. */
export function cronLines(config: Config): Map<string, string> {
  const lines = schedules.map(({ key, cron }) => [key, typeof cron === 'string' ? cron : cron(config)] as const)
  return new Map(lines.filter((line): line is readonly [string, string] => line[1] !== undefined))
}
