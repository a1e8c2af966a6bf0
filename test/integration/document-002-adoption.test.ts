import { expect, onTestFinished, test } from 'vitest'
import { upgrade } from '../../bin/commands/migrate.ts'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { migrationsDir, verifyMigrations } from '../../src/migrate.ts'
import { createDatabase, silent } from '../support/postgres.ts'
import { PRINTED_RULES } from './document-002-printed.ts'
import { PRINTED_TABLES } from './document-002-tables.ts'

const id = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`

// As rows came to be over a year, without the triggers that would refuse to write them today. The printed tables give no ids.
const ROWS = `
  set session_replication_role = replica;
  insert into campaigns (id, status, duration_hours, metadata, created_at, start_time, end_time) values
    ('${id(1)}', 'CREATED', 24, '{"name": "waits"}', now() - interval '2 days', null, null),
    ('${id(2)}', 'RUNNING', 48, '{"name": "runs"}', now() - interval '1 year', now() - interval '1 hour', now() + interval '47 hours'),
    ('${id(3)}', 'EXPIRED', 1, '{}', now() - interval '14 months', now() - interval '14 months', now() - interval '14 months' + interval '1 hour');
  insert into campaign_timers (id, campaign_id, timer_type, status, scheduled_at, executed_at, payload, retry_count, created_at) values
    ('${id(11)}', '${id(1)}', 'START_CAMPAIGN', 'PENDING', now() - interval '3 hours', null, '{"by": "hand"}', 0, now() - interval '1 day'),
    ('${id(12)}', '${id(2)}', 'CLOSE_CAMPAIGN', 'FAILED', now() - interval '2 hours', null, '{}', 2, now() - interval '3 days'),
    ('${id(13)}', '${id(2)}', 'CLOSE_CAMPAIGN', 'FAILED', now() - interval '2 hours', null, '{}', 1, now() - interval '2 days'),
    ('${id(14)}', '${id(2)}', 'CLOSE_CAMPAIGN', 'PENDING', now() + interval '47 hours', null, '{}', 0, now() - interval '1 day'),
    ('${id(15)}', '${id(3)}', 'START_CAMPAIGN', 'COMPLETED', now() - interval '14 months', now() - interval '14 months', '{}', 0, now() - interval '14 months'),
    ('${id(16)}', '${id(2)}', 'REWARD_REMINDER', 'RUNNING', now() - interval '1 hour', null, '{}', 0, now() - interval '1 day');
  insert into campaign_state_log (id, campaign_id, from_state, to_state, trigger_event, created_at) values
    ('${id(21)}', '${id(3)}', 'CREATED', 'RUNNING', 'OLD', now() - interval '14 months'),
    ('${id(22)}', '${id(3)}', 'RUNNING', 'EXPIRED', 'OLD', (date_trunc('month', now() at time zone 'UTC') - interval '5 months') at time zone 'UTC'),
    ('${id(23)}', '${id(2)}', 'CREATED', 'RUNNING', 'OLD', (date_trunc('month', now() at time zone 'UTC') - interval '3 months' - interval '1 microsecond') at time zone 'UTC'),
    ('${id(24)}', '${id(2)}', null, 'CREATED', 'OLD', now());
  insert into campaign_metrics (id, campaign_id, metric_type, value) values ('${id(31)}', '${id(2)}', 'ENGAGEMENT_COUNT', 12.5);
  insert into timer_executions (id, timer_id, status, completed_at, execution_time_ms) values
    ('${id(41)}', '${id(15)}', 'COMPLETED', now(), 7), ('${id(42)}', '${id(12)}', 'FAILED', now(), 9), ('${id(43)}', '${id(16)}', 'STARTED', null, null);
  refresh materialized view mv_active_campaigns;
  reset session_replication_role`

async function openPrinted(rows = ROWS) {
  const db = await createDatabase({ empty: true })
  onTestFinished(db.drop)
  await db.query(`${PRINTED_TABLES}\n${PRINTED_RULES}`)
  await db.query(rows)
  const config = readConfig({ DATABASE_URL: db.url })
  const context = { config, log: silent, clock: systemClock, dir: migrationsDir(config) }
  const rowsOf = (table: string, columns: string) => db.query(`select ${columns} from ${table} order by id`)
  return {
    db,
    query: db.query,
    up: () => upgrade(config, silent),
    verify: () => verifyMigrations(context),
    /** Every row in the printed columns; a retry that another timer replaced aside. */
    rows: async () => ({
      campaigns: await rowsOf('campaigns', 'id, status, metadata, created_at, updated_at, start_time, end_time, duration_hours, auto_close, rewards_enabled'),
      timers: await rowsOf(
        `campaign_timers where id not in ('${id(12)}', '${id(13)}')`,
        'id, campaign_id, timer_type, status, scheduled_at, executed_at, payload, retry_count, created_at, updated_at',
      ),
      log: await rowsOf('campaign_state_log', 'id, campaign_id, from_state, to_state, trigger_event, metadata, created_at'),
      metrics: await rowsOf('campaign_metrics', '*'),
      executions: await rowsOf('timer_executions', '*'),
    }),
  }
}

test('a database made as the document prints it cannot log a single transition: what adoption is to mend', async () => {
  const { query } = await openPrinted()
  await expect(query(`update campaigns set status = 'RUNNING' where id = '${id(1)}'`)).rejects.toMatchObject({ code: '23502', column: 'id' })
})

test('its tables are adopted with every row intact, the plain state log as months', async () => {
  const { query, rows, up, verify } = await openPrinted()
  const before = await rows()
  expect(before.log).toHaveLength(4)
  await up()
  expect(await rows()).toEqual(before)
  expect(await verify()).toEqual({ ok: true, problems: [] })
  expect(await up()).toEqual([])
  const parts = await query<{ part: string; month: string }>(
    `select tableoid::regclass::text as part, 'campaign_state_log_y' || to_char(created_at at time zone 'UTC', 'YYYY"m"MM') as month from campaign_state_log`,
  )
  expect(new Set(parts.map(row => row.part)).size).toBe(4)
  expect(parts.filter(row => row.part !== row.month)).toEqual([])
  expect(await query(`select to_regclass('campaign_state_log_printed') as left_over`)).toEqual([{ left_over: null }])
})

test('the adopted tables have what a fresh database has: columns, defaults, constraints, indexes and triggers', async () => {
  const { query, up } = await openPrinted()
  await up()
  const fresh = await createDatabase()
  onTestFinished(fresh.drop)
  const shape = `
    select concat_ws(' ', 'column', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)) as line
    from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum where attrelid = any ($1::regclass[]) and attnum > 0
    union select concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated) from pg_constraint where conrelid = any ($1::regclass[]) and contype <> 'n'
    union select concat_ws(' ', 'index', pg_get_indexdef(indexrelid), indisvalid) from pg_index where indrelid = any ($1::regclass[])
    union select concat_ws(' ', 'trigger', pg_get_triggerdef(oid)) from pg_trigger where tgrelid = any ($1::regclass[]) and not tgisinternal
    order by 1`
  const tables = [['campaigns', 'campaign_timers', 'campaign_state_log', 'campaign_metrics', 'timer_executions', 'mv_active_campaigns', 'mv_pending_timers']]
  const wanted = await fresh.query<{ line: string }>(shape, tables)
  expect(wanted.length).toBeGreaterThan(90)
  expect(await query(shape, tables)).toEqual(wanted)
})

test('the work goes on: what is overdue fires, what a dead runner left is taken back, and of two retries beside a newer timer none comes', async () => {
  const { query, up } = await openPrinted()
  await up()
  expect(await query(`select id, status, retry_count from campaign_timers where id in ('${id(12)}', '${id(13)}', '${id(14)}') order by id`)).toEqual([
    { id: id(12), status: 'FAILED', retry_count: 5 },
    { id: id(13), status: 'FAILED', retry_count: 5 },
    { id: id(14), status: 'PENDING', retry_count: 0 },
  ])
  expect(await query(`select pawl.rescue_timers('1 hour') as n`)).toEqual([{ n: 0 }])
  await query(
    `set session_replication_role = replica; update campaign_timers set updated_at = now() - interval '1 day' where id = '${id(16)}'; reset session_replication_role`,
  )
  expect(await query(`select pawl.rescue_timers('10 seconds') as n`)).toEqual([{ n: 1 }])
  expect(await query(`select fired from pawl.fire_timers(10, '{}')`)).toEqual([{ fired: 2 }])
  expect(await query(`select id, status from campaigns order by id`)).toEqual([
    { id: id(1), status: 'RUNNING' },
    { id: id(2), status: 'RUNNING' },
    { id: id(3), status: 'EXPIRED' },
  ])
  expect(await query(`select status from campaign_timers where id in ('${id(11)}', '${id(16)}')`)).toEqual([{ status: 'COMPLETED' }, { status: 'COMPLETED' }])
  await query(`update campaigns set status = 'CLOSED' where id = '${id(2)}'; update campaigns set metadata = '{}' where id = '${id(2)}'`)
  expect(await query(`select from campaign_state_log where campaign_id = '${id(2)}'`)).toHaveLength(3)
})

test('an empty printed database is adopted too', async () => {
  const { query, up, verify } = await openPrinted('select 1')
  await up()
  expect(await verify()).toEqual({ ok: true, problems: [] })
  expect(await query('select pawl.create_campaign(1) is not null as made')).toEqual([{ made: true }])
})
