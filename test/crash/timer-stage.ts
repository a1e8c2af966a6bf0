import { onTestFinished } from 'vitest'
import { upgrade } from '../../bin/commands/migrate.ts'
import { readConfig } from '../../src/config.ts'
import { openDatabase, type Query } from '../../src/database.ts'
import { startEmbedded } from '../../src/embedded.ts'
import { silent } from '../support/postgres.ts'
import type { WorkerOptions, WorkerProcess } from '../support/process.ts'
import { until } from '../support/until.ts'
import { startCrew } from './stage.ts'

/** What carries the tests' own timers, as opposed to those that Pawl schedules when one fires. */
const OURS = `t.payload ? 'ours'`

const STILL_TO_FIRE = `t.status in ('PENDING', 'RUNNING') or (t.status = 'FAILED' and t.retry_count < 5)`

/** A server of the test's own, which it may stop and whose log it may read, and workers on it. */
export async function openServer(settings: Record<string, string>) {
  const server = await startEmbedded({ log: silent, ephemeral: true, settings })
  const crew = startCrew()
  const config = readConfig({ DATABASE_URL: server.url })
  const db = openDatabase(config, silent, { max: 2, name: 'test' })
  onTestFinished(async () => {
    await crew.end()
    await db.close()
    await server.stop()
  })
  await upgrade(config, silent)
  return { server, query: db.query, start: (options?: WorkerOptions): Promise<WorkerProcess> => crew.start(server.url, options) }
}

/** From now on each execution says which worker wrote it (see `signed` in stage.ts). */
export async function recordExecutions(query: Query): Promise<void> {
  await query(`alter table public.timer_executions add column worker text default current_setting('application_name')`)
}

/**
 * Campaigns and their timers by plain SQL: every third campaign gets all four timers and ends EXPIRED, the others START and
 * CLOSE, so three campaigns have eight. Every second one has rewards, every tenth has its timers due at one instant.
 * The first is due `leadMs` from now, the last `spreadMs` later. Returns how many timers.
 */
export async function insertTimers(query: Query, campaigns: number, leadMs: number, spreadMs: number): Promise<number> {
  const [row] = await query<{ timers: number }>(
    `with made as (
       insert into public.campaigns (duration_hours, rewards_enabled, metadata)
       select 1 + i % 5, i % 2 = 0, jsonb_build_object('number', i, 'whole', i % 3 = 0)
       from generate_series(1, $1::integer) i
       returning id, (metadata ->> 'number')::integer as number
     ), times as materialized (
       select id, number, clock_timestamp() + interval '1 millisecond' * ($2 + random() * $3 / 2) as first,
         case when number % 10 = 0 then interval '0' else interval '1 millisecond' * (random() * $3 / 6) end as step
       from made
     ), inserted as (
       insert into public.campaign_timers (campaign_id, timer_type, scheduled_at, payload)
       select c.id, n.timer_type, c.first + n.place * c.step, '{"ours": true}'
       from times c
       -- Backwards, so that the order of insertion is no help.
       join (values ('EXPIRE_CAMPAIGN', 3), ('REWARD_REMINDER', 2), ('CLOSE_CAMPAIGN', 1), ('START_CAMPAIGN', 0)) n (timer_type, place)
         on n.place < 2 or c.number % 3 = 0
       returning id
     )
     select count(*) as timers from inserted`,
    [campaigns, leadMs, spreadMs],
  )
  return row?.timers ?? 0
}

/** Campaigns whose START and CLOSE were due hours ago, as after a downtime. */
export async function insertOverdue(query: Query, campaigns: number): Promise<void> {
  await query(`set pawl.allow_past_timers = on;
    with made as (
      insert into public.campaigns (duration_hours, rewards_enabled, metadata)
      select 1 + i % 5, i % 2 = 0, jsonb_build_object('number', i, 'whole', false)
      from generate_series(1, ${campaigns}) i
      returning id
    ), times as materialized (select id, now() - interval '9 hours' * (0.1 + random()) as first, interval '1 second' * random() as step from made)
    insert into public.campaign_timers (campaign_id, timer_type, scheduled_at, payload)
    select c.id, n.timer_type, c.first + n.place * c.step, '{"ours": true}'
    from times c cross join (values ('CLOSE_CAMPAIGN', 1), ('START_CAMPAIGN', 0)) n (timer_type, place);
    reset pawl.allow_past_timers`)
}

/** How many of the tests' timers are done with. */
export async function firedTimers(query: Query): Promise<number> {
  const [row] = await query<{ fired: number }>(`select count(*) as fired from public.campaign_timers t where ${OURS} and not (${STILL_TO_FIRE})`)
  return row?.fired ?? 0
}

/** Waits until none of the tests' timers is to fire any more. */
export async function allFired(query: Query, patienceMs: number): Promise<void> {
  await until(
    'all timers are done with',
    async () => (await query(`select from public.campaign_timers t where ${OURS} and (${STILL_TO_FIRE}) limit 1`)).length === 0,
    patienceMs,
  )
}

export type Lateness = { timers: number; p50_ms: number; p99_ms: number; max_ms: number }

/** How long after their due instant the tests' timers were executed. */
export async function latenessOf(query: Query): Promise<Lateness> {
  const [row] = await query<Lateness>(
    `select count(*) as timers, round(percentile_cont(0.5) within group (order by ms)::numeric, 1)::float8 as p50_ms,
       round(percentile_cont(0.99) within group (order by ms)::numeric, 1)::float8 as p99_ms, round(max(ms)::numeric, 1)::float8 as max_ms
     from (select extract(epoch from t.executed_at - t.scheduled_at) * 1000 as ms from public.campaign_timers t where ${OURS} and t.executed_at is not null) late`,
  )
  return row ?? { timers: 0, p50_ms: Number.NaN, p99_ms: Number.NaN, max_ms: Number.NaN }
}

/** What must be there for each campaign, once, and what is there: as lines, so that one difference finds whatever is lost or double. */
const EXPECTED_AND_ACTUAL = `
  with campaign as (
    select c.*, (c.metadata ->> 'whole')::boolean as whole, c.metadata ->> 'number' as number from public.campaigns c where c.metadata ? 'number'
  ), step (from_state, to_state, timer_type, event, rewards, whole) as (values
    (null, 'CREATED', 'CAMPAIGN_CREATED', null, null::boolean, null::boolean),
    ('CREATED', 'RUNNING', 'START_CAMPAIGN', 'campaign.started', null, null),
    ('RUNNING', 'CLOSED', 'CLOSE_CAMPAIGN', 'campaign.closed', null, null),
    ('CLOSED', 'REWARD_CLAIM', 'CLOSE_CAMPAIGN', 'campaign.reward_claim', true, null),
    ('REWARD_CLAIM', 'EXPIRED', 'EXPIRE_CAMPAIGN', 'campaign.expired', true, true),
    ('CLOSED', 'EXPIRED', 'EXPIRE_CAMPAIGN', 'campaign.expired', false, true)
  ), due as (
    select c.id as campaign_id, n.timer_type
    from campaign c
    join (values ('START_CAMPAIGN', false), ('CLOSE_CAMPAIGN', false), ('REWARD_REMINDER', true), ('EXPIRE_CAMPAIGN', true)) n (timer_type, whole)
      on c.whole or not n.whole
  ), taken as (
    select c.id as campaign_id, s.* from campaign c
    join step s on c.rewards_enabled = coalesce(s.rewards, c.rewards_enabled) and c.whole = coalesce(s.whole, c.whole)
  ), expected (campaign_id, line) as (
    select campaign_id, format('log %s > %s by %s', from_state, to_state, timer_type) from taken
    union all select campaign_id, format('metric STATE_TRANSITION_TIME %s > %s', from_state, to_state) from taken where event is not null
    union all select campaign_id, format('event %s after %s', event, timer_type) from taken where event is not null
    union all select campaign_id, format('timer %s COMPLETED, 0 retries', timer_type) from due
    union all select campaign_id, format('execution of %s COMPLETED', timer_type) from due
    union all select campaign_id, format('metric TIMER_EXECUTION_TIME %s', timer_type) from due
    union all select campaign_id, 'event campaign.reward_reminder after REWARD_REMINDER' from due where timer_type = 'REWARD_REMINDER'
    union all select id, 'next EXPIRE_CAMPAIGN PENDING' from campaign where not whole
    union all select id, 'next REWARD_REMINDER PENDING' from campaign where not whole and rewards_enabled
    union all select id, format('campaign %s', case when whole then 'EXPIRED' when rewards_enabled then 'REWARD_CLAIM' else 'CLOSED' end) from campaign
  ), actual (campaign_id, line) as (
    select campaign_id, format('log %s > %s by %s', from_state, to_state, trigger_event) from public.campaign_state_log
    union all
    select m.campaign_id, format('metric %s %s', m.metric_type, coalesce(m.attributes ->> 'timer_type', format('%s > %s', m.attributes ->> 'from', m.attributes ->> 'to')))
    from public.campaign_metrics m
    union all
    select t.campaign_id, format('event %s after %s', j.name, t.timer_type)
    from pgboss.job j left join public.campaign_timers t on t.id = (j.data ->> 'timer_id')::uuid where j.name like 'campaign.%'
    union all
    select t.campaign_id, case when ${OURS} then format('timer %s %s, %s retries', t.timer_type, t.status, t.retry_count) else format('next %s %s', t.timer_type, t.status) end
    from public.campaign_timers t
    union all
    select t.campaign_id, format('execution of %s %s', t.timer_type, x.status) || coalesce(': ' || x.error_message, '')
    from public.timer_executions x join public.campaign_timers t on t.id = x.timer_id
    union all select id, format('campaign %s', status) from campaign
  )`

/** Whatever is lost, double, early, illegal or out of order, with how often; empty when every timer fired exactly once. */
export async function timerFaults(query: Query): Promise<string[]> {
  const rows = await query<{ fault: string; times: number }>(
    `${EXPECTED_AND_ACTUAL}, fault (what) as (
       select 'missing: ' || line from (select * from expected except all select * from actual) missing
       union all select 'too much: ' || line from (select * from actual except all select * from expected) double
       union all select 'early: ' || t.timer_type from public.campaign_timers t where ${OURS} and t.executed_at < t.scheduled_at
       union all
       select 'begun early: ' || t.timer_type from public.timer_executions x join public.campaign_timers t on t.id = x.timer_id where x.started_at < t.scheduled_at
       union all
       select format('%s before %s', later.timer_type, earlier.timer_type)
       from public.campaign_timers earlier
       join public.campaign_timers later on later.campaign_id = earlier.campaign_id and later.executed_at <= earlier.executed_at
         and (later.scheduled_at, pawl.timer_rank(later.timer_type)) > (earlier.scheduled_at, pawl.timer_rank(earlier.timer_type))
       union all
       select 'wrong times of the campaign' from campaign c join public.campaign_timers t on t.campaign_id = c.id and t.timer_type = 'START_CAMPAIGN'
       where (c.start_time, c.end_time) is distinct from (t.scheduled_at, t.scheduled_at + c.duration_hours * interval '1 hour')
     )
     select what as fault, count(*) as times from fault group by what order by what`,
  )
  return rows.map(({ fault, times }) => `${fault} (${times} times)`)
}

/** How many executions each worker has written. */
export async function sharesOf(query: Query): Promise<Record<string, number>> {
  const rows = await query<{ worker: string; fired: number }>('select worker, count(*) as fired from public.timer_executions group by worker order by worker')
  return Object.fromEntries(rows.map(({ worker, fired }) => [worker, fired]))
}

/** Changes texts, wherever they stand, in a function of this test's database: a test that passes all the same shows nothing. */
export async function mutate(query: Query, name: string, changes: readonly (readonly [from: string, to: string])[]): Promise<void> {
  const [row] = await query<{ source: string }>(
    `select pg_get_functiondef(p.oid) as source from pg_proc p where p.pronamespace = 'pawl'::regnamespace and p.proname = $1`,
    [name],
  )
  let source = row?.source ?? ''
  for (const [from, to] of changes) {
    if (!source.includes(from)) throw new Error(`pawl.${name} has no "${from}" to change: is that still how it works?`)
    source = source.replaceAll(from, to)
  }
  await query(source)
}
