import type { Database, Query } from '../../src/database.ts'

/** What stands in `pawl.runs` and can be asked about after `fillHistory`: an id of each kind, the newest of its history. */
export type History = { rows: number; override: string; refresh: string; report: string; backup: string; timer: string; campaign: string; failedTimer: string }

const REPORT = '00000000-0000-4000-8000-0000000000aa'

/** Statement by statement, with `$1` runs that ended; each beside what its domain keeps of it. Two years, the newest an hour old; one in a hundred failed. */
const statements = (runs: number): string[] => [
  `insert into public.users (id, username) values (900001, 'history') on conflict do nothing`,
  `insert into public.categories (id, name) select 900000 + n, 'history ' || n from generate_series(1, 50) n`,
  `insert into pawl.leases (name, state, host, pid, version, queues, started_at, stopped_at)
   select 'past-' || n, 'stopped', 'host', n, '0.1', '{overrides.apply}', now() - n * interval '1 hour', now() - n * interval '1 hour' from generate_series(1, 500) n`,
  // Months behind this one, so that the history has partitions to stand in.
  `do $$
   declare parent text; month timestamptz;
   begin
     foreach parent in array array['public.category_override_audit', 'reporting.report_executions'] loop
       for n in 1 .. 24 loop
         month := (date_trunc('month', now() at time zone 'UTC') - n * interval '1 month') at time zone 'UTC';
         execute format('create table %s partition of %s for values from (%L) to (%L)',
           parent || '_h' || to_char(month at time zone 'UTC', 'YYYY_MM'), parent, month, (month at time zone 'UTC' + interval '1 month') at time zone 'UTC');
       end loop;
     end loop;
   end $$`,
  `create temporary table past as
   select n, at, at + interval '40 seconds' as ended, case when n % 100 = 0 then 'failed' when n % 211 = 0 then 'cancelled' else 'completed' end as state,
     md5('x' || n)::uuid as uid
   from generate_series(1, ${runs}) n cross join lateral (select now() - interval '1 hour' - (${runs} - n) * (interval '729 days' / ${runs}) as at) t`,
  `insert into pawl.checkpoints (run_id, kind, state, subject, total, done, batch, requested_at, started_at, opened_at, updated_at, finished_at, error,
     failures, cancel_requested_at, cancel_requested_by, cancel_reason, requested_by, traceparent)
   select case n % 20 when 0 then uid::text when 1 then 'backup_9' || n when 2 then 'refresh:' || n || ':sqp.daily_sqp_data' else 'ovr_9' || n end,
     case n % 20 when 0 then 'report' when 1 then 'backup' when 2 then 'refresh' else 'override' end, state, 'past ' || n, 1000, 1000, 10,
     at, at, at, ended, ended, case state when 'failed' then 'the disk is full' when 'cancelled' then 'cancelled by somebody' end,
     case state when 'failed' then 1 else 0 end, case state when 'cancelled' then ended end, case state when 'cancelled' then 'somebody' end, case state when 'cancelled' then 'no more' end, 'history', null
   from past`,
  `insert into pawl.lanes (run_id, lane, finished, epoch, done, batch, updated_at)
   select run_id, 0, true, 1, done, batch, updated_at from pawl.checkpoints where subject like 'past %'`,
  `insert into pawl.refresh_runs (slot, requested_at) select ended, ended from past where n % 20 = 2`,
  `insert into pawl.refresh_steps (run_id, refresh_run, config_id, table_name, outcome, urgency, estimate_ms, source, rows_inserted)
   select 'refresh:' || p.n || ':sqp.daily_sqp_data', r.id, c.id, 'sqp.' || c.table_name, p.state, extract(epoch from p.at), 1000, 'sql', 10
   from past p join pawl.refresh_runs r on r.slot = p.ended join sqp.refresh_config c on c.table_name = 'daily_sqp_data' where p.n % 20 = 2`,
  `insert into sqp.refresh_audit_log (refresh_config_id, table_schema, table_name, status, refresh_started_at, refresh_completed_at, execution_time_ms)
   select c.id, 'sqp', 'daily_sqp_data', case p.state when 'completed' then 'success' else 'failed' end, p.at, p.ended, 40000
   from past p join sqp.refresh_config c on c.table_name = 'daily_sqp_data' where p.n % 20 = 2`,
  `insert into public.category_override_audit (operation_id, category_id, category_name, user_id, user_name, operation_timestamp, operation_status)
   select 'ovr_9' || n, 900001 + n % 50, 'history', 900001, 'history', at, case state when 'failed' then 'FAILED' else 'COMPLETED' end from past where n % 2 = 0`,
  `insert into public.category_override_operations (operation_id, category_id, user_id, status, total_recipients, processed_recipients, started_at, completed_at)
   select 'ovr_9' || n, 900001 + n % 50, 900001, 'COMPLETED', 1000, 1000, at, ended from past where n > ${runs} * 0.96 and n % 20 > 2`,
  `insert into reporting.report_executions (id, report_id, executed_by, status, started_at, completed_at, output_format)
   select uid, '${REPORT}', '${REPORT}', case state when 'cancelled' then 'failed' else state end, at, ended, 'csv' from past where n % 20 = 0`,
  `insert into reporting.execution_logs (execution_id, execution_started_at, message, created_at)
   select uid, at, 'line', at from past, generate_series(1, 8) where n % 20 = 0`,
  `insert into public.campaigns (id, status, duration_hours) select md5('c' || n)::uuid, 'EXPIRED', 24 from generate_series(1, ${runs} / 4) n`,
  `insert into public.campaign_timers (id, campaign_id, timer_type, status, scheduled_at, executed_at, retry_count, created_at, updated_at)
   select md5('t' || n)::uuid, md5('c' || (n % (${runs} / 4) + 1))::uuid, (array['START_CAMPAIGN', 'CLOSE_CAMPAIGN', 'REWARD_REMINDER', 'EXPIRE_CAMPAIGN'])[1 + n % 4],
     upper(state), ended, ended + interval '7 ms', case state when 'failed' then 5 else 0 end, at, ended
   from past`,
  // What is to come: due within weeks, the first within the hour.
  `insert into public.campaign_timers (id, campaign_id, timer_type, scheduled_at, created_at)
   select md5('f' || n)::uuid, md5('c' || n)::uuid, 'EXPIRE_CAMPAIGN', now() + n * interval '1 minute', now() - interval '1 day' from generate_series(1, ${runs} / 40) n`,
  `insert into public.timer_executions (timer_id, status, started_at, completed_at, execution_time_ms, error_message)
   select md5('t' || n)::uuid, upper(state), ended, ended, 5, case state when 'failed' then 'no such campaign' end from past where state <> 'cancelled'`,
  `insert into public.campaign_state_log (campaign_id, from_state, to_state, trigger_event, created_at)
   select md5('c' || (n % (${runs} / 4) + 1))::uuid, 'CREATED', 'RUNNING', 'START_CAMPAIGN', now() from past where n % 10 = 0`,
  `insert into public.system_maintenance_log (operation, affected_rows, timestamp, details)
   select (array['backup_daily', 'prune_history', 'cleanup_timer_executions', 'health_check', 'plan_archives'])[1 + n % 5], 1, at, '{}' from past where n % 10 = 0`,
  `insert into pawl.backup_records (backup_id, kind, scope, place, taken_at, lsn, server_version, encrypted, bytes, tables, rows, verified_at, verify_seconds)
   select 'past-' || n, 'daily', 'full', '/backups', now() - n * interval '1 day', '0/1000', '18', true, 100, 10, 1000, now() - n * interval '1 day', 3
   from generate_series(1, 700) n`,
  // As much as pg-boss keeps for a week: each schedule's turns, and one job for each thirtieth run.
  `insert into pgboss.job (name, data, state, priority, created_on, start_after, started_on, completed_on, policy)
   select 'maintenance.sweep', jsonb_build_object('schedule', s.key), 'completed', 0, t.at, t.at, t.at, t.at, 'standard'
   from pgboss.schedule s
   cross join lateral generate_series(now() - interval '7 days', now() - interval '1 minute', case when s.cron = '* * * * *' then interval '1 minute'
     when s.cron like '*/%' then interval '5 minutes' else interval '6 hours' end) t (at)`,
  `insert into pgboss.job (name, data, state, priority, created_on, start_after, started_on, completed_on, policy)
   select case when n % 2 = 0 then 'overrides.apply' else 'campaign.started' end, jsonb_build_object('run_id', 'ovr_9' || n), 'completed', 0, at, at, at, ended, 'standard'
   from past where n % 6 = 0`,
]

/** Fills a migrated database with `runs` ended runs, as many fired timers, and what each domain, the engine and pg-boss keep of them: 5.2 rows a run. */
export async function fillHistory(db: Pick<Database, 'transact'>, runs: number): Promise<void> {
  const work = async (query: Query) => {
    // Triggers and foreign keys would cost minutes and are not what is asked about.
    await query('set local session_replication_role = replica')
    await query('set local statement_timeout = 0')
    await query('set local synchronous_commit = off')
    await query(`set local maintenance_work_mem = '256MB'`)
    // Into eleven indexes a row at a time, a million timers take longer than all else.
    const indexes = await query<{ name: string; definition: string }>(
      `select i.indexrelid::regclass::text as name, pg_get_indexdef(i.indexrelid) as definition from pg_index i
       where i.indrelid = any ($1::regclass[]) and not exists (select from pg_constraint c where c.conindid = i.indexrelid)`,
      [['pawl.checkpoints', 'public.campaign_timers', 'public.timer_executions', 'public.campaigns', 'pawl.refresh_steps']],
    )
    for (const { name } of indexes) await query(`drop index ${name}`)
    for (const statement of statements(runs)) await query(statement)
    for (const { definition } of indexes) await query(definition)
    await query('drop table past')
  }
  await db.transact(work, { timeoutMs: 600_000 })
}

/** How many rows stand in the tables of the history, and one of each kind to ask about. */
export async function readHistory(query: Query): Promise<History> {
  const [row] = await query<History>(`
    with newest as (select kind, (array_agg(run_id order by requested_at desc))[1] as run_id from pawl.checkpoints group by kind)
    select (select sum(c.reltuples)::float8 from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname in ('pawl', 'public', 'reporting', 'sqp', 'pgboss') and c.relkind = 'r') as rows,
      (select run_id from newest where kind = 'override') as override, (select run_id from newest where kind = 'refresh') as refresh,
      (select run_id from newest where kind = 'report') as report, (select run_id from newest where kind = 'backup') as backup,
      (select id::text from public.campaign_timers where status = 'COMPLETED' order by created_at desc limit 1) as timer,
      (select id::text from public.campaign_timers where status = 'FAILED' order by created_at desc limit 1) as "failedTimer",
      (select campaign_id::text from public.campaign_timers where status = 'PENDING' order by scheduled_at limit 1) as campaign`)
  if (row === undefined) throw new Error('there is no history')
  return row
}
