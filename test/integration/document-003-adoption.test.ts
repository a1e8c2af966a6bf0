import { randomBytes } from 'node:crypto'
import { expect, onTestFinished, test } from 'vitest'
import { upgrade } from '../../bin/commands/migrate.ts'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import { migrateDown, migrationsDir, verifyMigrations } from '../../src/migrate.ts'
import { createDatabase, silent } from '../support/postgres.ts'
import { PRINTED_RULES, PRINTED_TABLES } from './document-003-printed.ts'
import { FOLLOW_ASIN_DATA, PRIORITIES, SHAPE, TABLES } from './document-003-wanted.ts'

/** Tables that were there before the document: two of its eight, in the host's own shape, and one of the host's. */
const HOST = `
  create schema sqp;
  create table sqp.asin_performance_data (asin text primary key, clicks integer);
  create table sqp.weekly_summary (week date primary key, clicks integer);
  create table sqp.own_notes (id integer primary key, note text);
  insert into sqp.asin_performance_data values ('B0', 7);
  insert into sqp.weekly_summary values ('2026-01-05', 7);
  insert into sqp.own_notes values (1, 'keep me')`

/** What a year of the document's own rules leaves: late tables under wrong names, attempts and checkpoints that nobody ended. */
const ROWS = `
  create table sqp.late_data (id integer primary key);
  create table sqp."Odd Name" (id integer);
  update sqp.refresh_config set priority = 33, custom_sync_params = '{"source": "sql", "query": "select 1 as id"}' where table_name = 'sqp.late_data';
  insert into sqp.refresh_audit_log (refresh_config_id, table_schema, table_name, refresh_started_at, status, rows_processed, rows_inserted, sync_metadata)
  select id, 'sqp', 'asin_performance_data', now() - n * interval '1 day', case when n < 3 then 'running' else 'success' end, 2147483647, 5, '{"a": 1}'
  from sqp.refresh_config, generate_series(1, 4) n where table_name = 'asin_performance_data';
  insert into sqp.refresh_data_quality (audit_log_id, metric_name, metric_value, is_within_threshold) select id, 'rows', 12.5, true from sqp.refresh_audit_log;
  insert into sqp.refresh_checkpoints (function_name, table_schema, table_name, checkpoint_data, last_processed_row, status)
  select 'edge', 'sqp', 'weekly_summary', jsonb_build_object('n', n), n, case when n = 1 then 'completed' else 'active' end from generate_series(1, 3) n`

const OTHERS_OF_THE_EIGHT = Object.keys(PRIORITIES).filter(table => !['asin_performance_data', 'weekly_summary'].includes(table))

async function openPrinted(rows = ROWS) {
  const db = await createDatabase({ empty: true })
  onTestFinished(db.drop)
  await db.query(HOST)
  await db.query(`${PRINTED_TABLES}\n${PRINTED_RULES}`)
  await db.query(rows)
  const config = readConfig({ DATABASE_URL: db.url })
  const context = { config, log: silent, clock: systemClock, dir: migrationsDir(config) }
  return { db, query: db.query, context, up: () => upgrade(config, silent), verify: () => verifyMigrations(context) }
}

test('a database made as the document prints it lists new tables under names that no table has: what adoption is to mend', async () => {
  const { query } = await openPrinted()
  expect(await query(`select table_name, priority, is_enabled from sqp.refresh_config where table_name like 'sqp.%' order by 1`)).toEqual([
    { table_name: 'sqp."Odd Name"', priority: 100, is_enabled: true },
    { table_name: 'sqp.late_data', priority: 33, is_enabled: true },
  ])
})

test('its tables are adopted with every row, which keep their values; only what contradicts itself is put right', async () => {
  const { query, up, verify } = await openPrinted()
  const rows = async (table: string, columns: string, where = 'true') => query(`select ${columns} from sqp.${table} where ${where} order by id`)
  const all = async () => ({
    configurations: await rows(
      'refresh_config',
      'id, table_schema, is_enabled, refresh_frequency_hours, priority, next_refresh_at, custom_sync_params, created_at',
      'id <= 4',
    ),
    dependencies: await rows('refresh_dependencies', '*', 'id = 1'),
    attempts: await rows('refresh_audit_log', 'id, refresh_config_id, refresh_started_at, rows_processed, rows_inserted, sync_metadata, created_at'),
    qualities: await rows('refresh_data_quality', '*'),
    checkpoints: await rows('refresh_checkpoints', 'id, function_name, checkpoint_data, last_processed_row, created_at, expires_at'),
  })
  const before = await all()
  expect(Object.values(before).map(list => list.length)).toEqual([4, 1, 4, 4, 3])
  await up()
  expect(await all()).toEqual(before)
  expect(await verify()).toEqual({ ok: true, problems: [] })
  expect(await up()).toEqual([])
  // The names are those of the tables; what an operator set stays.
  expect(await query('select table_name, priority from sqp.refresh_config where id <= 4 order by id')).toEqual([
    { table_name: 'asin_performance_data', priority: 90 },
    { table_name: 'weekly_summary', priority: 80 },
    { table_name: 'late_data', priority: 33 },
    { table_name: 'Odd Name', priority: 100 },
  ])
  // One attempt and one checkpoint may be under way, the newest.
  expect(
    (await query('select status, error_message as error from sqp.refresh_audit_log order by refresh_started_at desc')).map(row => [row.status, row.error]),
  ).toEqual([
    ['running', null],
    ['failed', 'abandoned'],
    ['success', null],
    ['success', null],
  ])
  expect((await query('select status from sqp.refresh_checkpoints order by id')).map(row => row.status)).toEqual(['completed', 'expired', 'active'])
})

test('the host’s own tables stay as they are, those that lack are made, and all eight are registered and follow', async () => {
  const { query, up } = await openPrinted()
  await up()
  expect(await query('select * from sqp.asin_performance_data')).toEqual([{ asin: 'B0', clicks: 7 }])
  expect(await query('select week::text, clicks from sqp.weekly_summary')).toEqual([{ week: '2026-01-05', clicks: 7 }])
  expect(await query('select * from sqp.own_notes')).toEqual([{ id: 1, note: 'keep me' }])
  const listed = await query<{ name: string; priority: number }>(
    `select table_name as name, priority from sqp.refresh_config where table_name = any ($1) and is_enabled order by table_name collate "C"`,
    [Object.keys(PRIORITIES)],
  )
  expect(Object.fromEntries(listed.map(row => [row.name, row.priority]))).toEqual(PRIORITIES)
  expect(
    (await query(`select d.table_name as name from sqp.refresh_dependencies join sqp.refresh_config d on d.id = dependent_config_id order by 1`)).map(
      row => row.name,
    ),
  ).toEqual(FOLLOW_ASIN_DATA)
  // Nothing of Pawl's own, no table twice; own_notes had been there before the document's trigger, and the sweep finds it.
  const names = async () =>
    (await query<{ name: string }>(`select table_name as name from sqp.refresh_config order by table_name collate "C"`)).map(row => row.name)
  expect(await names()).toEqual(['Odd Name', ...Object.keys(PRIORITIES), 'late_data'].toSorted())
  await query('select sqp.register_new_tables()')
  expect(await names()).toEqual(['Odd Name', ...Object.keys(PRIORITIES), 'late_data', 'own_notes'].toSorted())
  await query('create table sqp.newest (id integer)')
  expect(await query(`select priority, is_enabled from sqp.refresh_config where table_name = 'newest'`)).toEqual([{ priority: 50, is_enabled: false }])
})

test('the adopted tables have what a fresh database has: columns, defaults, constraints, indexes, triggers and functions', async () => {
  const { query, up } = await openPrinted()
  await up()
  const fresh = await createDatabase()
  onTestFinished(fresh.drop)
  const wanted = await fresh.query<{ line: string }>(SHAPE, [TABLES])
  expect(wanted.length).toBeGreaterThan(90)
  expect(await query(SHAPE, [TABLES])).toEqual(wanted)
})

test('an attempt that a value lacks is refused by name, nothing is changed, and it goes on once the value is there', async () => {
  const { query, up } = await openPrinted(`insert into sqp.refresh_audit_log (table_schema, table_name, refresh_started_at) values ('sqp', 'a', now())`)
  await expect(up()).rejects.toMatchObject({ message: expect.stringContaining('sqp.refresh_audit_log.status has rows without a value') })
  expect(await query(`select to_regclass('sqp.refresh_steps') as a, to_regclass('pawl.refresh_edges') as b`)).toEqual([{ a: null, b: null }])
  await query(`update sqp.refresh_audit_log set status = 'failed'`)
  await up()
})

test('taken back, the migration leaves what it did not make', async () => {
  const { query, up, context } = await openPrinted('create function sqp.own() returns integer language sql as $$ select 1 $$')
  await up()
  const [later] = await query<{ steps: number }>(`select count(*) as steps from pawl.schema_migrations where version >= '0007'`)
  const tags = (await migrateDown(context, { steps: later?.steps ?? 0, allowDataLoss: true })).map(move => move.tag)
  expect(tags.at(-1)).toBe('0007_create_daily_refresh_system')
  expect(await query('select note, sqp.own() from sqp.own_notes')).toEqual([{ note: 'keep me', own: 1 }])
  await query('create table sqp.unlisted (id integer)')
  await up()
  expect(await query(`select count(*) as n from sqp.refresh_config where table_name = any ($1)`, [Object.keys(PRIORITIES)])).toEqual([{ n: 8 }])
})

test('a role that is no superuser migrates too: there is no event trigger then, and the sweep lists new tables', async () => {
  const db = await createDatabase({ empty: true })
  const owner = `pawl_test_${randomBytes(6).toString('hex')}`
  onTestFinished(async () => {
    const name = new URL(db.url).pathname.slice(1)
    await db.query(`alter database ${name} owner to current_user; reassign owned by ${owner} to current_user; drop owned by ${owner}; drop role ${owner}`)
    await db.drop()
  })
  await db.query(`create role ${owner} login password '${owner}' nosuperuser; alter database ${new URL(db.url).pathname.slice(1)} owner to ${owner}`)
  const config = readConfig({ DATABASE_URL: db.urlAs(owner, owner) })
  await upgrade(config, silent)
  expect(await db.query('select evtname from pg_event_trigger')).toEqual([])
  const login = await connectDirect(config, 'owner')
  onTestFinished(() => login.close())
  await login.query('create table sqp.late (id integer)')
  const late = `select priority, is_enabled from sqp.refresh_config where table_name = 'late'`
  expect(await login.query(late)).toEqual([])
  expect(await login.query('select sqp.register_new_tables() as n')).toEqual([{ n: 1 }])
  expect(await login.query(late)).toEqual([{ priority: 50, is_enabled: false }])
  expect(await login.query('select count(*) as n from sqp.refresh_config where table_name = any ($1)', [OTHERS_OF_THE_EIGHT])).toEqual([{ n: 6 }])
})
