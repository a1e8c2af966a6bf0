import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { openDatabase } from '../../src/database.ts'
import { loadTable } from '../../workers/refresh/load.ts'
import { workOne } from '../support/engine.ts'
import { actWhenLoaded, betweenLookAndAct, bytesOf, refreshWith, register } from '../support/refresh-publish.ts'
import { silent } from '../support/postgres.ts'
import { fromQuery, openRefreshStage, type RefreshStage, registerTable } from '../support/refresh.ts'

let stage: RefreshStage

beforeAll(async () => {
  stage = await openRefreshStage()
})
afterAll(() => stage.end())

/** A table of sqp and its origin in public, both with these rows. */
async function pair(name: string, columns: string, params: Record<string, unknown> = {}, rows = 100): Promise<void> {
  const { query } = stage
  await query(`create table public.${name}_origin (${columns.replaceAll(/ primary key| generated always as identity/g, '')})`)
  await registerTable(query, name, columns, fromQuery(`select * from public.${name}_origin`, params))
  if (rows > 0) await query(`insert into public.${name}_origin select i, 'row ' || i from generate_series(1, ${rows}) i`)
}

const failed = async (name: string) => {
  const step = (await stage.refresh(name))[name]
  expect(step?.state).toBe('failed')
  return step?.error
}

test('duplicate and null keys are refused by name, and the table is byte for byte as it was', async () => {
  await pair('keyed', 'id integer primary key, name text')
  await stage.refresh('keyed')
  const before = await bytesOf(stage.query, 'sqp.keyed')
  await stage.query(`insert into public.keyed_origin values (7, 'again'), (7, 'and again')`)
  expect(await failed('keyed')).toBe('the source of sqp.keyed delivers the key (id) = (7) 3 times')
  await stage.query(`delete from public.keyed_origin where id = 7; insert into public.keyed_origin values (null, 'nobody')`)
  expect(await failed('keyed')).toBe('the source of sqp.keyed delivers the key (id) = (null) 1 times')
  await register(stage.query, 'sqp', 'keyed', fromQuery('select name from public.keyed_origin'))
  expect(await failed('keyed')).toMatch(/delivers no id, which/)
  expect(await bytesOf(stage.query, 'sqp.keyed')).toEqual(before)
})

test('an empty source empties the table, unless too many rows would go', async () => {
  await pair('emptied', 'id integer primary key, name text', { quality: [{ check: 'deleted_ratio', max: 0.5 }] })
  await stage.refresh('emptied')
  const before = await bytesOf(stage.query, 'sqp.emptied')
  await stage.query('delete from public.emptied_origin')
  expect(await failed('emptied')).toBe('sqp.emptied was not published: deleted_ratio is 1, allowed is at most 0.5')
  expect(await bytesOf(stage.query, 'sqp.emptied')).toEqual(before)
  await register(stage.query, 'sqp', 'emptied', fromQuery('select * from public.emptied_origin'))
  expect((await stage.refresh('emptied')).emptied).toMatchObject({ state: 'completed', inserted: 0, updated: 0, deleted: 100, unchanged: 0 })
})

test('append adds what is new: by key, or all of it where the table has none', async () => {
  await pair('appended', 'id integer primary key, name text', { strategy: 'append' })
  await stage.refresh('appended')
  await stage.query(
    `update public.appended_origin set name = 'changed'; delete from public.appended_origin where id > 90; insert into public.appended_origin values (500, 'new')`,
  )
  expect((await stage.refresh('appended')).appended).toMatchObject({ inserted: 1, updated: 0, deleted: 0, unchanged: 90 })
  expect(await stage.query(`select count(*) as rows, count(*) filter (where name = 'changed') as changed from sqp.appended`)).toEqual([
    { rows: 101, changed: 0 },
  ])
  await pair('logged', 'id integer, name text', { strategy: 'append' }, 10)
  await stage.refresh('logged')
  expect((await stage.refresh('logged')).logged).toMatchObject({ inserted: 10, unchanged: 0 })
  await register(stage.query, 'sqp', 'logged', fromQuery('select * from public.logged_origin'))
  expect(await failed('logged')).toBe('sqp.logged has no primary key to compare rows by')
})

test('rows that someone else adds, takes away or changes between look and act do not make it publish something else', async () => {
  await pair('moved', 'id integer primary key, name text')
  await stage.refresh('moved')
  await stage.query(
    `update public.moved_origin set name = 'new' where id <= 10; delete from public.moved_origin where id > 95; insert into public.moved_origin values (200, 'two hundred')`,
  )
  const acts = ['delete from sqp.moved where id in (3, 98)', `insert into sqp.moved values (200, 'someone else''s')`, 'select 1']
  const moved = await refreshWith(
    stage,
    'moved',
    betweenLookAndAct(stage.options, look => stage.query(acts[look - 1] ?? 'select 1')),
  )
  expect(moved).toMatchObject({ outcomes: ['completed'], steps: { moved: { inserted: 1, updated: 10, deleted: 4, unchanged: 85 } } })
  const difference =
    '(select * from sqp.moved except select * from public.moved_origin) union all (select * from public.moved_origin except select * from sqp.moved)'
  expect(await stage.query(difference)).toEqual([])
})

test('a first load into a table that someone fills meanwhile compares again', async () => {
  await pair('raced', 'id integer primary key, name text')
  const raced = await refreshWith(
    stage,
    'raced',
    betweenLookAndAct(stage.options, look => stage.query(look === 1 ? `insert into sqp.raced values (5, 'other'), (900, 'other')` : 'select 1')),
  )
  expect(raced.steps.raced).toMatchObject({ state: 'completed', inserted: 99, updated: 1, deleted: 1 })
})

test('a table that is written at every look fails the attempt, unharmed, and the next one goes on', async () => {
  await pair('restless', 'id integer primary key, name text')
  await stage.refresh('restless')
  await stage.query(`delete from public.restless_origin where id <= 9; update public.restless_origin set name = 'new'`)
  const seen: unknown[] = []
  const options = betweenLookAndAct(stage.options, async look => {
    if (look > 3) return
    seen.push(...(await stage.query(`select count(*) filter (where name = 'new') as changed from sqp.restless`)))
    await stage.query(`delete from sqp.restless where id = ${look}`)
  })
  const { outcomes, steps } = await refreshWith(stage, 'restless', options)
  expect(outcomes).toEqual(['retry', 'completed'])
  expect(seen).toEqual([{ changed: 0 }, { changed: 0 }, { changed: 0 }])
  expect(steps.restless).toMatchObject({ deleted: 6, updated: 91, inserted: 0 })
})

test('unique values of a second index that cannot stand together are refused, naming the index', async () => {
  await pair('twice', 'id integer primary key, name text')
  await stage.query('create unique index twice_name on sqp.twice (name)')
  await stage.refresh('twice')
  const before = await bytesOf(stage.query, 'sqp.twice')
  await stage.query(`insert into public.twice_origin values (500, 'row 1')`)
  expect(await failed('twice')).toContain('twice_name')
  expect(await bytesOf(stage.query, 'sqp.twice')).toEqual(before)
})

test('triggers of the table fire for the rows that changed, and references from elsewhere are kept or stop it', async () => {
  await pair('watched', 'id integer primary key, name text')
  await stage.query(`create table public.seen (what text, id integer);
    create function public.note() returns trigger language plpgsql as $$ begin insert into public.seen values (tg_op, coalesce(new.id, old.id)); return null; end $$;
    create trigger note after insert or update or delete on sqp.watched for each row execute function public.note();
    create table public.child (watched integer references sqp.watched)`)
  await stage.refresh('watched')
  await stage.query(
    `truncate public.seen; insert into public.child values (1); update public.watched_origin set name = 'x' where id = 2; delete from public.watched_origin where id = 3; insert into public.watched_origin values (400, 'n')`,
  )
  expect((await stage.refresh('watched')).watched).toMatchObject({ inserted: 1, updated: 1, deleted: 1, unchanged: 98 })
  expect(await stage.query('select * from public.seen order by id')).toEqual([
    { what: 'UPDATE', id: 2 },
    { what: 'DELETE', id: 3 },
    { what: 'INSERT', id: 400 },
  ])
  const before = await bytesOf(stage.query, 'sqp.watched')
  await stage.query('delete from public.watched_origin where id = 1')
  expect(await failed('watched')).toContain('violates foreign key constraint')
  expect(await bytesOf(stage.query, 'sqp.watched')).toEqual(before)
})

test('a unique key that allows null is refused before anything is read, with the statement that mends it', async () => {
  await stage.query('create table sqp.loose (code text unique, name text); create table public.loose_origin (code text, name text)')
  await register(stage.query, 'sqp', 'loose', fromQuery('select * from public.loose_origin', { key: ['code'] }))
  expect(await failed('loose')).toBe('sqp.loose allows null in code, which its key names')
  await stage.query(`alter table sqp.loose alter code set not null; insert into public.loose_origin values ('a', 'b')`)
  expect((await stage.refresh('loose')).loose).toMatchObject({ state: 'completed', inserted: 1 })
})

test('values of 20 million characters and keys of 2,000 are published whole', async () => {
  await pair('huge', 'id text primary key, name text', {}, 0)
  await stage.query(`insert into public.huge_origin select repeat('k', 2000) || i, repeat(md5(i::text), 625000) from generate_series(1, 2) i`)
  await stage.refresh('huge')
  await stage.query(`update public.huge_origin set name = name || '.' where id like '%1'`)
  expect((await stage.refresh('huge')).huge).toMatchObject({ updated: 1, unchanged: 1 })
  expect(await stage.query('select length(name) as length from sqp.huge order by id')).toEqual([{ length: 20_000_001 }, { length: 20_000_000 }])
})

test('a query of two commands is refused and neither is run; one that is no SELECT too', async () => {
  await pair('injected', 'id integer primary key, name text')
  const refused = async (query: string) => {
    await register(stage.query, 'sqp', 'injected', fromQuery(query))
    return failed('injected')
  }
  expect(await refused('select 1 as id; drop table public.injected_origin')).toMatch(/^the query of sqp.injected can not be read from: /)
  expect(await refused('select 1 as id) q; drop table public.injected_origin; select * from (select 2 as id')).toContain('cannot insert multiple commands')
  expect(await refused('with gone as (delete from public.injected_origin returning *) select * from gone')).toContain('data-modifying')
  expect(await refused('select nothing from public.injected_origin')).toContain('column "nothing" does not exist')
  expect(await stage.query('select count(*) as rows from public.injected_origin')).toEqual([{ rows: 100 }])
})

test('a query that calls a function which writes: once per reading, committed with the rows that were read', async () => {
  await pair('volatile', 'id integer primary key, name text', {}, 0)
  await stage.query(`create table public.calls (id integer);
    create function public.call(i integer) returns integer language sql volatile as $$ insert into public.calls values (i) returning id $$`)
  await register(stage.query, 'sqp', 'volatile', fromQuery(`select public.call(i) as id, 'x' as name from generate_series(1, 3) i`))
  expect((await stage.refresh('volatile')).volatile).toMatchObject({ state: 'completed', inserted: 3 })
  expect(await stage.query('select id from public.calls order by id')).toEqual([{ id: 1 }, { id: 2 }, { id: 3 }])
})

test.each(['drain', 'pause', 'cancel'])(
  'a %s after its last row was read: nothing is published, and but for a cancelled one it goes on later',
  async ending => {
    await pair(`${ending}_late`, 'id integer primary key, name text')
    const drain = new AbortController()
    const stops: Record<string, () => unknown> = {
      drain: () => drain.abort(),
      pause: () => stage.query(`select pawl.pause('refresh.load')`),
      cancel: () => stage.query(`select pawl.cancel(run_id, 'enough') from pawl.checkpoints where state = 'running'`),
    }
    const [row] = await stage.query<{ run: number }>(`select pawl.refresh_table('${ending}_late', 'none') as run`)
    const settled = await workOne(loadTable, { ...stage.options, drain: drain.signal, db: actWhenLoaded(stage.db, () => stops[ending]?.()) })
    expect(settled?.output.outcome).toBe(ending)
    expect(await stage.query(`select count(*) as rows from sqp.${ending}_late`)).toEqual([{ rows: 0 }])
    await stage.query(`select pawl.resume('refresh.load')`)
    await stage.work()
    const goesOn = { state: 'completed', inserted: 100 }
    const step = (await stage.steps(row?.run ?? 0))[`${ending}_late`]
    expect(step).toMatchObject(ending === 'cancel' ? { state: 'cancelled', error: expect.stringContaining('enough') } : goesOn)
  },
)

test("the worker's own login, which owns no table, adds columns, measures, publishes alone and in a group", async () => {
  const name = `worker_${randomBytes(4).toString('hex')}`
  await pair('granted', 'id integer primary key, name text', { quality: [{ check: 'row_count', min: 1 }] })
  await registerTable(stage.query, 'granted_sum', 'id integer primary key', fromQuery('select 1 as id, count(*) as n from sqp.granted', { publish_group: 'g' }))
  await stage.query(
    `create role ${name} login password '${name}' in role pawl_worker; grant select on public.granted_origin to ${name}; alter table public.granted_origin add column more jsonb`,
  )
  const db = openDatabase(readConfig({ DATABASE_URL: stage.db.urlAs(name, name) }), silent, { max: 4 })
  expect((await refreshWith(stage, 'granted', { ...stage.options, db })).steps.granted).toMatchObject({ state: 'completed', inserted: 100 })
  await stage.query(`update public.granted_origin set more = '{}' where id = 5; delete from public.granted_origin where id = 6`)
  expect((await refreshWith(stage, 'granted', { ...stage.options, db })).steps.granted).toMatchObject({ state: 'completed', updated: 1, deleted: 1 })
  expect((await refreshWith(stage, 'granted_sum', { ...stage.options, db })).steps.granted_sum).toMatchObject({ state: 'completed', inserted: 1 })
  expect(await stage.query('select n from sqp.granted_sum')).toEqual([{ n: 99 }])
  await db.close()
  await stage.query(`drop owned by ${name}; drop role ${name}`)
})
