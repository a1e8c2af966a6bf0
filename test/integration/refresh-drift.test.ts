import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import { fakeClock } from '../support/engine.ts'
import { auditOf, bytesOf, refreshWith, register, surroundings } from '../support/refresh-publish.ts'
import { fromQuery, openRefreshStage, type RefreshStage, registerTable } from '../support/refresh.ts'

let stage: RefreshStage
let directory = ''

beforeAll(async () => {
  stage = await openRefreshStage()
  directory = await mkdtemp(join(tmpdir(), 'pawl-drift-'))
})
afterAll(async () => {
  await stage.end()
  await rm(directory, { recursive: true })
})

/** Settings of a table that is loaded from this CSV; `types` are DuckDB's, by column. */
async function fromCsv(name: string, text: string, types: Record<string, string>, more: Record<string, unknown> = {}) {
  const files = join(directory, `${name}.csv`)
  await writeFile(files, text)
  return { source: 'duckdb', files, options: { header: true, types }, ...more }
}

const typesOf = async (table: string) => {
  const rows = await stage.query<{ name: string; type: string }>(
    `select attname as name, format_type(atttypid, atttypmod) as type from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped order by attnum`,
    [table],
  )
  return Object.fromEntries(rows.map(({ name, type }) => [name, type]))
}
const fileOf = async (table: string) => (await stage.query<{ file: number }>('select pg_relation_filenode($1) as file', [table]))[0]?.file

/** Another session that has read the table and keeps its transaction open. */
async function holdOpen(table: string) {
  const connection = await connectDirect(readConfig({ DATABASE_URL: stage.db.url }), 'holder')
  await connection.query('begin')
  await connection.query(`select count(*) from ${table}`)
  return connection
}

test('a new column is added with its values; in 20 refreshes around it nothing else about the table changes', async () => {
  const { query } = stage
  await query(`create table public.grown_origin (id integer, name text); insert into public.grown_origin select i, 'n' || i from generate_series(1, 50) i`)
  await registerTable(query, 'grown', 'id integer primary key, name text', fromQuery('select * from public.grown_origin'))
  await query(`create index grown_name on sqp.grown (name); create unique index grown_upper on sqp.grown (upper(name), id);
    create table public.grown_child (id integer references sqp.grown);
    alter table sqp.grown add constraint small check (id < 10000);
    create view public.grown_all as select * from sqp.grown; create view public.grown_names as select name from sqp.grown;
    grant select on public.grown_names, sqp.grown to pawl_observer; grant select (id) on sqp.grown to pawl_producer;
    comment on table sqp.grown is 'Grows'; comment on column sqp.grown.name is 'What it is called';
    alter table sqp.grown set (fillfactor = 80); create statistics sqp.grown_both on id, name from sqp.grown;
    create trigger keep before update on sqp.grown for each row execute function suppress_redundant_updates_trigger()`)
  await stage.refresh('grown')
  const before = await surroundings(query, 'sqp.grown')
  for (let round = 1; round <= 20; round += 1) {
    if (round === 10) await query(`alter table public.grown_origin add column "Added Later" numeric(6,2) default 1.25`)
    await query(
      `update public.grown_origin set name = 'r${round}' where id % 20 = ${round % 20}; delete from public.grown_origin where id = ${round + 20}; insert into public.grown_origin (id, name) values (${round + 100}, 'new')`,
    )
    expect((await stage.refresh('grown')).grown).toMatchObject({ state: 'completed', inserted: 1, deleted: 1, warnings: [] })
  }
  const { columns, ...after } = (await surroundings(query, 'sqp.grown')) as Record<string, unknown>
  expect(columns).toEqual(['id', 'name', 'Added Later'])
  expect({ ...after, columns: ['id', 'name'] }).toEqual(before)
  expect(await query('(table sqp.grown except table public.grown_origin) union all (table public.grown_origin except table sqp.grown)')).toEqual([])
  expect(await typesOf('sqp.grown')).toMatchObject({ 'Added Later': 'numeric(6,2)' })
})

test('a new column is ignored with a warning, or refused, as the settings say', async () => {
  const query = `select 1 as id, 'a' as name, 2 as more`
  await registerTable(stage.query, 'strict', 'id integer primary key, name text', fromQuery(query, { drift: 'ignore' }))
  expect((await stage.refresh('strict')).strict).toMatchObject({ state: 'warning', inserted: 1, warnings: ["the source's column more is ignored"] })
  expect((await auditOf(stage.query, 'strict'))[0]).toMatchObject({ status: 'warning', error_message: "the source's column more is ignored" })
  const before = await bytesOf(stage.query, 'sqp.strict')
  await register(stage.query, 'sqp', 'strict', fromQuery(query, { drift: 'fail' }))
  expect((await stage.refresh('strict')).strict).toMatchObject({ state: 'failed', error: 'the source of sqp.strict has a new column more (integer)' })
  expect(await bytesOf(stage.query, 'sqp.strict')).toEqual(before)
  await register(stage.query, 'sqp', 'strict', fromQuery(query, { drift: 'ignore', publish_group: 'together' }))
  expect((await stage.refresh('strict')).strict).toMatchObject({ state: 'warning', warnings: ["the source's column more is ignored"] })
})

test('a column that the source no longer has keeps its values; one that must not be null stops the refresh', async () => {
  await registerTable(
    stage.query,
    'kept',
    `id integer primary key, name text, extra text, made text not null default 'd'`,
    fromQuery(`select i as id, 'n' as name from generate_series(1, 3) i`),
  )
  await stage.query(`insert into sqp.kept values (1, 'old', 'kept', 'own')`)
  expect((await stage.refresh('kept')).kept).toMatchObject({ state: 'completed', inserted: 2, updated: 1 })
  expect(await stage.query('select * from sqp.kept order by id')).toEqual([
    { id: 1, name: 'n', extra: 'kept', made: 'own' },
    { id: 2, name: 'n', extra: null, made: 'd' },
    { id: 3, name: 'n', extra: null, made: 'd' },
  ])
  await stage.query('alter table sqp.kept alter made drop default')
  expect((await stage.refresh('kept')).kept).toMatchObject({ state: 'failed', error: 'the source of sqp.kept delivers no made, which must not be null' })
})

test('varchar becomes text without a rewrite, integer becomes bigint only where a rewrite is allowed', async () => {
  const csv = 'id,code,n\n1,abcdef,1\n2,x,3000000000\n'
  const types = { id: 'INTEGER', code: 'VARCHAR', n: 'BIGINT' }
  await registerTable(stage.query, 'wide', 'id integer primary key, code varchar(3), n integer', await fromCsv('wide', csv, types))
  await stage.query(`create index wide_code on sqp.wide (code); insert into sqp.wide values (1, 'abc', 1)`)
  const [table, index] = [await fileOf('sqp.wide'), await fileOf('sqp.wide_code')]
  const before = await bytesOf(stage.query, 'sqp.wide')
  expect((await stage.refresh('wide')).wide).toMatchObject({ state: 'failed', error: expect.stringContaining('out of range for type integer') })
  expect(await bytesOf(stage.query, 'sqp.wide')).toEqual(before)
  expect([await fileOf('sqp.wide'), await fileOf('sqp.wide_code')]).toEqual([table, index])
  expect(await typesOf('sqp.wide')).toEqual({ id: 'integer', code: 'text', n: 'integer' })
  await register(stage.query, 'sqp', 'wide', await fromCsv('wide', csv, types, { allow_rewrite: true }))
  expect((await stage.refresh('wide')).wide).toMatchObject({ state: 'completed', inserted: 1, updated: 1 })
  expect(await stage.query('select code, n from sqp.wide order by id')).toEqual([
    { code: 'abcdef', n: 1 },
    { code: 'x', n: 3_000_000_000 },
  ])
  expect(await fileOf('sqp.wide')).not.toBe(table)
})

test('a view on the column that would have to change is named, and neither is touched', async () => {
  await registerTable(
    stage.query,
    'seen',
    'id integer primary key, code varchar(3)',
    await fromCsv('seen', 'id,code\n1,abcdef\n', { id: 'INTEGER', code: 'VARCHAR' }),
  )
  await stage.query(
    `create view public.codes as select code from sqp.seen; create materialized view public.kept_codes as select upper(code) as code from sqp.seen`,
  )
  expect((await stage.refresh('seen')).seen).toMatchObject({
    state: 'failed',
    error: expect.stringMatching(/^column code of sqp.seen could not become text: column code of sqp.seen is used by public.codes, public.kept_codes$/),
  })
  expect(await typesOf('sqp.seen')).toMatchObject({ code: 'character varying(3)' })
})

test('while a reader keeps the table open for a second, others wait for the new column 100 ms at a time, and it comes after', async () => {
  await registerTable(stage.query, 'busy', 'id integer primary key', fromQuery('select 1 as id'))
  await stage.refresh('busy')
  await register(stage.query, 'sqp', 'busy', fromQuery('select 1 as id, 2 as added'))
  const holder = await holdOpen('sqp.busy')
  const reader = await connectDirect(readConfig({ DATABASE_URL: stage.db.url }), 'reader')
  const refreshed = stage.refresh('busy')
  const waits: number[] = []
  const begun = performance.now()
  while (performance.now() - begun < 1000) {
    const asked = performance.now()
    await reader.query('select count(*) from sqp.busy')
    waits.push(performance.now() - asked)
  }
  await holder.query('commit')
  expect((await refreshed).busy).toMatchObject({ state: 'completed', updated: 1 })
  expect(await stage.query('select * from sqp.busy')).toEqual([{ id: 1, added: 2 }])
  await Promise.all([holder.close(), reader.close()])
  const longest = Math.max(...waits)
  // Some did queue behind it, so this saw what it wanted to see; none until the holder had gone.
  expect(longest).toBeGreaterThan(40)
  expect(longest).toBeLessThan(350)
})

test('a table that is never free for its new column fails the attempt, which is retried, and not the run', async () => {
  await registerTable(stage.query, 'held', 'id integer primary key', fromQuery('select 1 as id, 2 as added'))
  const holder = await holdOpen('sqp.held')
  let freed = false
  const query: typeof stage.db.query = async (text, values) => {
    if (text.includes('pawl.fail') && !freed) {
      freed = true
      await holder.query('commit')
    }
    return stage.db.query(text, values)
  }
  const { outcomes, steps } = await refreshWith(stage, 'held', { ...stage.options, clock: fakeClock(), db: { ...stage.db, query } })
  expect(outcomes).toEqual(['retry', 'completed'])
  expect(steps.held).toMatchObject({ state: 'completed', inserted: 1 })
  expect((await auditOf(stage.query, 'held')).map(audit => audit.error_message)).toEqual([
    null,
    'sqp.held could not be locked to change column added: it was in use 60 times',
  ])
  await holder.close()
})

test('a table that a worker made is not widened: it would run the checks of its maker as the owner', async () => {
  await stage.query(`set role pawl_worker;
    create table pawl_stage.climbing (id integer primary key);
    reset role;
    insert into sqp.refresh_config (table_schema, table_name, is_enabled) values ('pawl_stage', 'climbing', true)`)
  await expect(stage.query(`select pawl.widen_refreshed_table('pawl_stage', 'climbing', 'id', 'bigint')`)).rejects.toMatchObject({ code: '42501' })
  await stage.query(`delete from sqp.refresh_config where table_name = 'climbing'; drop table pawl_stage.climbing`)
})
