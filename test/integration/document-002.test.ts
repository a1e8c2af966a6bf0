import { afterAll, beforeAll, expect, test } from 'vitest'
import { type CampaignStage, openCampaignStage } from './campaign-stage.ts'

let stage: CampaignStage
let campaign: string

beforeAll(async () => {
  stage = await openCampaignStage()
  campaign = await stage.insertCampaign()
})

afterAll(() => stage.close())

// Core Tables: name, type, null or not, default. RESOLVED 8: the ids have a default, which the document's own triggers need.
const id = 'id uuid not null gen_random_uuid()'
const text = (name: string, length: number, rest = '') => `${name} character varying(${length})${rest}`
const time = (name: string, rest = '') => `${name} timestamp with time zone${rest}`
const json = (name: string) => `${name} jsonb not null '{}'::jsonb`
const [made, touched] = [time('created_at', ' not null now()'), time('updated_at', ' not null now()')]
const reference = (name: string) => `${name} uuid not null`
const columns = {
  campaigns: [
    id,
    text('status', 20, " not null 'CREATED'::character varying"),
    json('metadata'),
    made,
    touched,
    time('start_time'),
    time('end_time'),
    'duration_hours integer not null',
    'auto_close boolean not null true',
    'rewards_enabled boolean not null true',
  ],
  campaign_timers: [
    id,
    reference('campaign_id'),
    text('timer_type', 50, ' not null'),
    text('status', 20, " not null 'PENDING'::character varying"),
    time('scheduled_at', ' not null'),
    time('executed_at'),
    json('payload'),
    'retry_count integer not null 0',
    made,
    touched,
  ],
  campaign_state_log: [
    id,
    reference('campaign_id'),
    text('from_state', 20),
    text('to_state', 20, ' not null'),
    text('trigger_event', 50, ' not null'),
    json('metadata'),
    made,
  ],
  campaign_metrics: [
    id,
    reference('campaign_id'),
    text('metric_type', 50, ' not null'),
    'value numeric(15,4) not null',
    json('attributes'),
    time('recorded_at', ' not null now()'),
  ],
  timer_executions: [
    id,
    reference('timer_id'),
    text('status', 20, " not null 'STARTED'::character varying"),
    'result jsonb',
    'error_message text',
    time('started_at', ' not null now()'),
    time('completed_at'),
    'execution_time_ms integer',
  ],
}

for (const [table, wanted] of Object.entries(columns)) {
  test(`${table} has every column of the document, with its type, null rule and default, in its order`, async () => {
    const rows = await stage.query<{ line: string }>(
      `select concat_ws(' ', attname, format_type(atttypid, atttypmod), case when attnotnull then 'not null' end, pg_get_expr(adbin, adrelid)) as line
       from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum where attrelid = ('public.' || $1)::regclass and attnum > 0 order by attnum`,
      [table],
    )
    // Ids that nobody makes but the database: by time where it can (PostgreSQL 18), so that their index grows at its end.
    const [server] = await stage.query<{ ordered: boolean }>(`select to_regprocedure('pg_catalog.uuidv7()') is not null as ordered`)
    const ordered = server?.ordered === true && ['campaign_metrics', 'timer_executions', 'campaign_state_log'].includes(table)
    const lines = ordered ? [id.replace('gen_random_uuid', 'uuidv7'), ...wanted.slice(1)] : wanted
    expect(rows.map(row => row.line).slice(0, wanted.length)).toEqual(lines)
  })
}

// Of each index of the document: table, columns, and the predicate of a partial one.
const indexes: Record<string, string | RegExp> = {
  idx_campaigns_status: 'campaigns (status)',
  idx_campaigns_start_time: 'campaigns (start_time)',
  idx_campaigns_end_time: 'campaigns (end_time)',
  idx_campaigns_created_at: 'campaigns (created_at)',
  idx_campaign_timers_campaign_id: 'campaign_timers (campaign_id)',
  idx_campaign_timers_status: 'campaign_timers (status)',
  idx_campaign_timers_scheduled_at: 'campaign_timers (scheduled_at)',
  idx_campaign_timers_timer_type: 'campaign_timers (timer_type)',
  idx_campaign_timers_processing: /^campaign_timers \(status, scheduled_at\) WHERE .*PENDING.*FAILED/,
  idx_campaign_state_log_campaign_id: 'campaign_state_log (campaign_id)',
  idx_campaign_state_log_created_at: 'campaign_state_log (created_at)',
  idx_campaign_state_log_trigger_event: 'campaign_state_log (trigger_event)',
  idx_campaign_metrics_campaign_id: 'campaign_metrics (campaign_id)',
  idx_campaign_metrics_type: 'campaign_metrics (metric_type)',
  idx_campaign_metrics_recorded_at: 'campaign_metrics (recorded_at)',
  idx_campaign_metrics_analytics: 'campaign_metrics (campaign_id, metric_type, recorded_at)',
  idx_timer_executions_timer_id: 'timer_executions (timer_id)',
  idx_timer_executions_status: 'timer_executions (status)',
  idx_timer_executions_started_at: 'timer_executions (started_at)',
  // RESOLVED 11: a timer that waits for its retry is active.
  unique_active_timer_per_type: /^campaign_timers \(campaign_id, timer_type\) WHERE .*PENDING.*RUNNING.*FAILED.*retry_count < 5.* unique$/,
  // RESOLVED 13: or they cannot be refreshed concurrently.
  mv_active_campaigns_status_idx: 'mv_active_campaigns (status) unique',
  mv_pending_timers_timer_type_idx: 'mv_pending_timers (timer_type) unique',
}

test('every index of the document exists by its name, on its columns, valid, and on every month of the state log', async () => {
  const rows = await stage.query<{ name: string; definition: string; months: number; valid: boolean }>(
    `select c.relname as name, i.indisvalid as valid,
       regexp_replace(pg_get_indexdef(i.indexrelid), '^CREATE (UNIQUE )?INDEX \\S+ ON (ONLY )?public\\.(\\S+) USING btree (.*)$', '\\3 \\4')
         || case when i.indisunique then ' unique' else '' end as definition,
       (select count(*) from pg_inherits where inhparent = i.indexrelid) as months
     from pg_index i join pg_class c on c.oid = i.indexrelid where c.relnamespace = 'public'::regnamespace and not c.relispartition`,
  )
  const found = Object.fromEntries(rows.map(row => [row.name, row.definition]))
  expect(found).toMatchObject(
    Object.fromEntries(Object.entries(indexes).map(([name, wanted]) => [name, wanted instanceof RegExp ? expect.stringMatching(wanted) : wanted])),
  )
  expect(rows.filter(row => !row.valid)).toEqual([])
  const [parts] = await stage.query<{ n: number }>(`select count(*) as n from pg_inherits where inhparent = 'campaign_state_log'::regclass`)
  for (const row of rows.filter(row => row.definition.startsWith('campaign_state_log ('))) expect([row.name, row.months]).toEqual([row.name, parts?.n])
})

test('deleting a campaign takes its timers, executions, log and metrics with it', async () => {
  const own = await stage.insertCampaign()
  await stage.insertTimer(own, 'START_CAMPAIGN')
  await stage.fireAll()
  await stage.query('delete from campaigns where id = $1', [own])
  for (const table of ['campaign_timers', 'campaign_state_log', 'campaign_metrics'])
    expect([table, await stage.query(`select from ${table} where campaign_id = $1`, [own])]).toEqual([table, []])
})

test('the triggers of the document are there by name, and updated_at follows every change', async () => {
  const rows = await stage.query<{ name: string }>(
    `select tgname as name from pg_trigger where tgrelid in ('campaigns'::regclass, 'campaign_timers'::regclass) and not tgisinternal`,
  )
  expect(rows.map(row => row.name)).toEqual(
    expect.arrayContaining([
      'update_campaigns_updated_at',
      'update_campaign_timers_updated_at',
      'log_campaign_state_changes',
      'validate_timer_scheduling',
      'validate_campaign_state_transition',
    ]),
  )
  const timer = await stage.insertTimer(campaign, 'CLOSE_CAMPAIGN', '1 hour')
  for (const [table, key] of [
    ['campaigns', campaign],
    ['campaign_timers', timer],
  ] as const) {
    await stage.query(`begin; set local pawl.firing = 'on'; update ${table} set updated_at = '2020-01-01' where id = '${key}'; commit`)
    const column = table === 'campaigns' ? 'metadata' : 'payload'
    expect(await stage.query(`update ${table} set ${column} = '{"a": 1}' where id = $1 returning updated_at = now() as now`, [key])).toEqual([{ now: true }])
  }
})

test('the state log has the month of today and three ahead, each row in its own, and asking again changes nothing', async () => {
  const months = () =>
    stage.query<{ name: string }>(`select inhrelid::regclass::text as name from pg_inherits where inhparent = 'campaign_state_log'::regclass order by 1`)
  const wanted = await stage.query(`
    select 'campaign_state_log_y' || to_char(date_trunc('month', now() at time zone 'UTC') + n * interval '1 month', 'YYYY"m"MM') as name from generate_series(0, 3) n order by 1`)
  expect(await months()).toEqual(wanted)
  await stage.query('select create_monthly_partitions()')
  expect(await months()).toEqual(wanted)
  // A month that got lost comes back.
  await stage.query(`drop table ${String(wanted[3]?.name)}`)
  await stage.query('select create_monthly_partitions()')
  expect(await months()).toEqual(wanted)
  await stage.query(
    `insert into campaign_state_log (campaign_id, to_state, trigger_event, created_at)
     values ($1, 'CLOSED', 'T', date_trunc('month', now() at time zone 'UTC') at time zone 'UTC' + interval '2 months')`,
    [campaign],
  )
  expect(await stage.query(`select count(*) as n from ${String(wanted[2]?.name)}`)).toEqual([{ n: 1 }])
})
