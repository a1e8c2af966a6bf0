import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { COLUMNS, CONSTRAINTS, FOLLOW_ASIN_DATA, INDEXES, PRIORITIES } from './document-003-wanted.ts'

let db: TestDatabase

beforeAll(async () => {
  db = await createDatabase()
})
afterAll(() => db.drop())

/** What is registered under names like this, in words. */
const registered = async (like: string) =>
  (
    await db.query<{ line: string }>(
      `select concat_ws(' ', table_schema, table_name, priority, case when is_enabled then 'enabled' else 'disabled' end) as line
       from sqp.refresh_config where table_name like $1 order by table_name collate "C"`,
      [like],
    )
  ).map(row => row.line)

for (const [table, wanted] of Object.entries(COLUMNS)) {
  test(`${table} has every column of the document, with its type, null rule and default, in its order`, async () => {
    const rows = await db.query<{ line: string }>(
      `select concat_ws(' ', attname, format_type(atttypid, atttypmod), case when attnotnull then 'not null' end, pg_get_expr(adbin, adrelid)) as line
       from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum where attrelid = ('sqp.' || $1)::regclass and attnum > 0 order by attnum`,
      [table],
    )
    expect(rows.map(row => row.line)).toEqual(wanted)
  })
}

test('every key, check and reference of the document is there', async () => {
  const rows = await db.query<{ name: string; definition: string }>(
    `select format('%s %s', c.relname, k.conname) as name, pg_get_constraintdef(k.oid) as definition
     from pg_constraint k join pg_class c on c.oid = k.conrelid where k.convalidated and c.oid = any ($1::regclass[])`,
    [Object.keys(COLUMNS).map(table => `sqp.${table}`)],
  )
  expect(Object.fromEntries(rows.map(row => [row.name, row.definition]))).toMatchObject(CONSTRAINTS)
})

test('every index of the document exists by its name, on its columns, valid', async () => {
  const rows = await db.query<{ name: string; definition: string }>(
    `select c.relname as name,
       regexp_replace(pg_get_indexdef(i.indexrelid), '^CREATE (UNIQUE )?INDEX \\S+ ON sqp\\.(\\S+) USING btree (.*)$', '\\2 \\3') || case when i.indisunique then ' unique' else '' end as definition
     from pg_index i join pg_class c on c.oid = i.indexrelid where c.relnamespace = 'sqp'::regnamespace and i.indisvalid`,
  )
  expect(Object.fromEntries(rows.map(row => [row.name, row.definition]))).toMatchObject(INDEXES)
})

const config = `(select id from sqp.refresh_config where table_name = 'weekly_summary')`
const parent = `(select id from sqp.refresh_config where table_name = 'asin_performance_data')`
test.each([
  [
    '23514',
    'an unknown audit status',
    `insert into sqp.refresh_audit_log (table_schema, table_name, refresh_started_at, status) values ('sqp', 'a', now(), 'done')`,
  ],
  [
    '23514',
    'an unknown checkpoint status',
    `insert into sqp.refresh_checkpoints (function_name, table_schema, table_name, checkpoint_data, status) values ('f', 'sqp', 'a', '{}', 'x')`,
  ],
  [
    '23514',
    'an unknown dependency type',
    `insert into sqp.refresh_dependencies (parent_config_id, dependent_config_id, dependency_type) values (${config}, ${parent}, 'weak')`,
  ],
  ['23514', 'a table that depends on itself', `insert into sqp.refresh_dependencies (parent_config_id, dependent_config_id) values (${config}, ${config})`],
  ['23514', 'a refresh every zero hours', `update sqp.refresh_config set refresh_frequency_hours = 0`],
  ['23505', 'a table registered twice', `insert into sqp.refresh_config (table_schema, table_name) values ('sqp', 'weekly_summary')`],
  ['23505', 'a dependency named twice', `insert into sqp.refresh_dependencies (parent_config_id, dependent_config_id) values (${parent}, ${config})`],
  [
    '23503',
    'an audit row of no table',
    `insert into sqp.refresh_audit_log (refresh_config_id, table_schema, table_name, refresh_started_at) values (-1, 'sqp', 'a', now())`,
  ],
  ['23503', 'a quality row of no attempt', `insert into sqp.refresh_data_quality (audit_log_id, metric_name) values (-1, 'rows')`],
  [
    '23505',
    'two active checkpoints of one function and table',
    `insert into sqp.refresh_checkpoints (function_name, table_schema, table_name, checkpoint_data) select 'f', 'sqp', 'a', '{}' from generate_series(1, 2)`,
  ],
])('refused with %s: %s', async (code, _, statement) => {
  await expect(db.query(statement)).rejects.toMatchObject({ code })
})

test('a circle of dependencies is refused and named, whether rows or arrays close it', async () => {
  const cycle = 'dependency cycle: sqp.weekly_summary → sqp.asin_performance_data → sqp.weekly_summary'
  const close = `insert into sqp.refresh_dependencies (parent_config_id, dependent_config_id, dependency_type) values (${config}, ${parent}, 'soft')`
  await expect(db.query(close)).rejects.toMatchObject({ code: '23514', message: cycle, hint: expect.stringContaining('take one') })
  await expect(db.query(`update sqp.refresh_config set dependencies = '{weekly_summary}' where table_name = 'asin_performance_data'`)).rejects.toMatchObject({
    message: 'dependency cycle: sqp.asin_performance_data → sqp.weekly_summary → sqp.asin_performance_data',
  })
  // A name that nobody bears yet is no dependency; it becomes one with the table, and then the circle shows.
  await db.query(`update sqp.refresh_config set dependencies = '{late_comer}' where table_name = 'asin_performance_data'`)
  await expect(
    db.query(`insert into sqp.refresh_config (table_schema, table_name, dependencies) values ('sqp', 'late_comer', '{sqp.weekly_summary}')`),
  ).rejects.toMatchObject({ message: expect.stringContaining('dependency cycle: sqp.late_comer') })
  await db.query(`insert into sqp.refresh_config (table_schema, table_name) values ('sqp', 'late_comer')`)
  await expect(db.query(`update sqp.refresh_config set dependencies = '{weekly_summary}' where table_name = 'late_comer'`)).rejects.toMatchObject({
    code: '23514',
  })
  await db.query(
    `update sqp.refresh_config set dependencies = '{}' where table_name = 'asin_performance_data'; delete from sqp.refresh_config where table_name = 'late_comer'`,
  )
})

test('the eight tables exist and are registered with the priorities and dependencies of the document, due in an hour', async () => {
  expect(await registered('%')).toEqual(Object.entries(PRIORITIES).map(([table, priority]) => `sqp ${table} ${priority} enabled`))
  const [others] = await db.query(
    `select count(*) filter (where to_regclass(format('sqp.%I', table_name)) is null) as missing,
       count(*) filter (where next_refresh_at is distinct from created_at + interval '1 hour' or refresh_frequency_hours <> 24) as otherwise
     from sqp.refresh_config`,
  )
  expect(others).toEqual({ missing: 0, otherwise: 0 })
  const dependencies = `
    select p.table_name as parent, d.table_name as child, dependency_type as type
    from sqp.refresh_dependencies join sqp.refresh_config p on p.id = parent_config_id join sqp.refresh_config d on d.id = dependent_config_id order by child`
  const wanted = FOLLOW_ASIN_DATA.map(child => ({ parent: 'asin_performance_data', child, type: 'hard' }))
  expect(await db.query(dependencies)).toEqual(wanted)
  // Asked again, it leaves alone what an operator has changed since.
  await db.query(`update sqp.refresh_config set priority = 5 where table_name = 'yearly_summary'`)
  expect(await db.query('select sqp.register_existing_tables() as n')).toEqual([{ n: 0 }])
  expect(await registered('yearly%')).toEqual(['sqp yearly_summary 5 enabled'])
  expect(await db.query(dependencies)).toEqual(wanted)
  await db.query(`delete from sqp.refresh_config where table_name in ('yearly_summary', 'asin_performance_data')`)
  expect(await db.query('select sqp.register_existing_tables() as n')).toEqual([{ n: 2 }])
  expect(await registered('%')).toHaveLength(8)
  expect(await db.query(dependencies)).toEqual(wanted)
})

test('a new table of sqp is listed with its bare name, priority 50, disabled, however it was made', async () => {
  await db.query(`
    create table sqp.n_plain (id integer primary key);
    create table sqp.n_as as select 1 as id;
    select 1 as id into sqp.n_into;
    create unlogged table sqp.n_unlogged (id integer);
    create table sqp."n Odd.Name" (id integer);
    create table sqp.n_parted (at date) partition by range (at);
    create table sqp.n_liked (like sqp.n_plain including all)`)
  expect(await registered('n%')).toEqual(
    ['n Odd.Name', 'n_as', 'n_into', 'n_liked', 'n_parted', 'n_plain', 'n_unlogged'].map(name => `sqp ${name} 50 disabled`),
  )
  expect(await db.query(`select next_refresh_at = created_at + interval '24 hours' as tomorrow from sqp.refresh_config where table_name = 'n_plain'`)).toEqual([
    { tomorrow: true },
  ])
  await db.query('create table if not exists sqp.n_plain (id integer)')
  expect(await registered('n_plain')).toEqual(['sqp n_plain 50 disabled'])
})

test('partitions, temporary tables, views, staging tables and tables of other schemas are not listed, nor a table whose creation is taken back', async () => {
  await db.query(`
    create schema other;
    create table sqp.m_parent (at date) partition by range (at);
    create table sqp.m_partition partition of sqp.m_parent for values from ('2026-01-01') to ('2027-01-01');
    create temporary table m_temporary (id integer);
    create temporary table m_temporary_as as select 1;
    create table public.m_public (id integer);
    create table other.m_other (id integer);
    create unlogged table pawl_stage.m_staging (id integer);
    create view sqp.m_view as select 1 as id;
    create materialized view sqp.m_materialized as select 1 as id;
    create sequence sqp.m_sequence`)
  await db.query('begin; create table sqp.m_undone (id integer); rollback')
  expect(await registered('m\\_%')).toEqual(['sqp m_parent 50 disabled'])
  await db.query('select sqp.register_new_tables()')
  expect(await registered('m\\_%')).toEqual(['sqp m_parent 50 disabled'])
  expect(await registered('refresh\\_%')).toEqual([])
})

test('a login that may create tables in sqp and nothing else has its tables listed too', async () => {
  const role = `pawl_test_${randomBytes(6).toString('hex')}`
  await db.query(`create role ${role}; grant usage, create on schema sqp to ${role}`)
  try {
    await db.query(`begin; set local role ${role}; create table sqp.r_table (id integer); reset role; commit`)
    expect(await registered('r\\_table')).toEqual(['sqp r_table 50 disabled'])
    await expect(
      db.transact(async query => query(`set local role ${role}; insert into sqp.refresh_config (table_schema, table_name) values ('a', 'b')`)),
    ).rejects.toMatchObject({
      code: '42501',
    })
  } finally {
    await db.query(`drop owned by ${role}; drop role ${role}`)
  }
})

test('a registration that fails lets the table be made, and the sweep lists it later', async () => {
  await db.query(`
    create function public.refuse() returns trigger language plpgsql as $$ begin raise exception 'no room'; end $$;
    create trigger refuse before insert on sqp.refresh_config for each row execute function public.refuse()`)
  await db.query('create table sqp.f_plain (id integer)')
  await db.query('create table sqp.f_as as select 7 as id')
  expect(await db.query('select id from sqp.f_as')).toEqual([{ id: 7 }])
  expect(await registered('f\\_%')).toEqual([])
  await db.query('drop trigger refuse on sqp.refresh_config')
  expect(await db.query('select sqp.register_new_tables() as n')).toEqual([{ n: 2 }])
  expect(await registered('f\\_%')).toEqual(['sqp f_as 50 disabled', 'sqp f_plain 50 disabled'])
})

test('two sessions that make tables at the same time do not wait for each other', async () => {
  await db.transact(async query => {
    await query('create table sqp.t_first (id integer)')
    await db.transact(async other => {
      await other(`set local lock_timeout = '2s'`)
      await other('create table sqp.t_second (id integer)')
    })
    expect(await registered('t\\_%')).toEqual(['sqp t_second 50 disabled'])
  })
  expect(await registered('t\\_%')).toEqual(['sqp t_first 50 disabled', 'sqp t_second 50 disabled'])
})

test('without the event trigger the sweep lists the same tables', async () => {
  await db.query(`
    alter event trigger auto_register_refresh_tables disable;
    create table sqp.s_plain (id integer);
    create table sqp.s_parted (at date) partition by range (at);
    create table sqp.s_partition partition of sqp.s_parted for values from ('2026-01-01') to ('2027-01-01');
    create table public.s_public (id integer)`)
  expect(await registered('s\\_%')).toEqual([])
  expect(await db.query('select sqp.register_new_tables() as n')).toEqual([{ n: 2 }])
  expect(await db.query('select sqp.register_new_tables() as n')).toEqual([{ n: 0 }])
  expect(await registered('s\\_%')).toEqual(['sqp s_parted 50 disabled', 'sqp s_plain 50 disabled'])
  await db.query('alter event trigger auto_register_refresh_tables enable')
})

test('updated_at of a configuration follows every change, and is nobody else’s to set', async () => {
  await db.query(`update sqp.refresh_config set updated_at = '2020-01-01' where table_name = 'weekly_summary'`)
  const change = `update sqp.refresh_config set priority = priority, updated_at = '2020-01-01' where table_name = 'weekly_summary' returning updated_at = now() as now, created_at < now() as made`
  expect(await db.query(change)).toEqual([{ now: true, made: true }])
})
