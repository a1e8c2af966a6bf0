import type { Query } from '../../src/database.ts'
import type { History } from './history.ts'

/** What operators type, by name; with ids of a history that was filled in. */
export function consoleQueries(past: History): Record<string, string> {
  return {
    'runs: the newest': 'select * from pawl.runs order by requested_at desc limit 20',
    'runs: what is under way': `select * from pawl.runs where state in ('pending', 'running') and kind <> 'timer'`,
    'runs: what waits, timers too': `select * from pawl.runs where state in ('pending', 'running') limit 100`,
    'runs: running': `select * from pawl.runs where state = 'running'`,
    'runs: pending, newest first': `select * from pawl.runs where state = 'pending' order by requested_at desc limit 20`,
    'runs: cancelled, newest first': `select * from pawl.runs where state = 'cancelled' order by requested_at desc limit 20`,
    'runs: cancelled last': `select * from pawl.runs where state = 'cancelled' order by finished_at desc limit 20`,
    'runs: failed last': `select * from pawl.runs where state = 'failed' order by finished_at desc limit 20`,
    'runs: by id': `select * from pawl.runs where run_id = '${past.override}'`,
    "runs: by a timer's id": `select * from pawl.runs where run_id = '${past.timer}'`,
    'runs: of one kind': `select * from pawl.runs where kind = 'backup' order by requested_at desc limit 20`,
    'runs: as "pawl status" asks': `select * from pawl.runs where kind <> 'timer' and state in ('running', 'pending') order by state = 'running' desc, requested_at limit 20`,
    'timers: next': `select * from pawl.timers where state = 'pending' order by due_at limit 20`,
    'timers: of the next hour': `select * from pawl.timers where state = 'pending' and due_at < now() + interval '1 hour' order by due_at`,
    'timers: overdue': `select * from pawl.timers where state = 'pending' and due_at < now() order by due_at limit 20`,
    'timers: of a campaign': `select * from pawl.timers where campaign_id = '${past.campaign}'`,
    'timers: by id': `select * from pawl.timers where timer_id = '${past.timer}'`,
    'timers: how late': `select count(*), percentile_cont(0.5) within group (order by late_ms), max(late_ms) from pawl.timers
       where state = 'completed' and scheduled_at > now() - interval '1 day'`,
    'failures: the newest': 'select * from pawl.failures limit 20',
    'failures: of last night': `select * from pawl.failures where failed_at > now() - interval '12 hours'`,
    'failures: of timers': `select * from pawl.failures where kind = 'timer' limit 20`,
    stuck: 'select * from pawl.stuck',
    health: 'select * from pawl.health',
    deploy: 'select * from pawl.deploy',
    workers: 'select * from pawl.workers',
    queues: 'select * from pawl.queues',
    backlog: 'select * from pawl.backlog',
    schedules: 'select * from pawl.schedules',
    tables: 'select * from pawl.tables',
    'refresh_plan: the newest': 'select * from pawl.refresh_plan limit 20',
    'refresh_plan: of a table': `select * from pawl.refresh_plan where "table" = 'sqp.daily_sqp_data' limit 3`,
    'refresh_plan: of a table that was never refreshed': `select * from pawl.refresh_plan where "table" = 'sqp.yearly_summary' limit 3`,
    'refresh_plan: running': `select * from pawl.refresh_plan where state = 'running'`,
    'refresh_plan: failed': `select * from pawl.refresh_plan where state = 'failed' limit 20`,
    backups: 'select * from pawl.backups limit 10',
    partitions: 'select * from pawl.partitions',
    months_ahead: 'select * from pawl.months_ahead',
    'why: an override': `select pawl.why('${past.override}')`,
    'why: a refresh': `select pawl.why('${past.refresh}')`,
    'why: a report': `select pawl.why('${past.report}')`,
    'why: a backup': `select pawl.why('${past.backup}')`,
    'why: a timer that fired': `select pawl.why('${past.timer}')`,
    'why: a timer that failed': `select pawl.why('${past.failedTimer}')`,
    'why: a campaign': `select pawl.why('${past.campaign}')`,
    'why: a table': `select pawl.why('sqp.daily_sqp_data')`,
    'why: nothing': `select pawl.why('nothing')`,
  }
}

export type Plan = {
  'Node Type': string
  'Relation Name'?: string
  'Plan Rows': number
  Plans?: Plan[]
  'Shared Hit Blocks'?: number
  'Shared Read Blocks'?: number
}

/** How the server runs a statement; with `analyze`, what it touched. */
export async function explain(query: Query, sql: string, analyze = false): Promise<Plan> {
  const [row] = await query<{ 'QUERY PLAN': [{ Plan: Plan }] }>(`explain (format json${analyze ? ', analyze, buffers, timing off' : ''}) ${sql}`)
  const plan = row?.['QUERY PLAN'][0].Plan
  if (plan === undefined) throw new Error(`no plan of ${sql}`)
  return plan
}

/** Tables that grow with what has happened. */
const historical =
  /^(checkpoints|lanes|campaign_timers|timer_executions|refresh_steps|refresh_audit_log|system_maintenance_log|job_common|execution_logs|category_override_|report_executions_)/

/** Tables of the history that a plan reads from one end to the other. */
export function scannedWhole(plan: Plan): string[] {
  const own = plan['Node Type'] === 'Seq Scan' && historical.test(plan['Relation Name'] ?? '') ? [String(plan['Relation Name'])] : []
  return [...own, ...(plan.Plans ?? []).flatMap(scannedWhole)]
}
