import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { fromQuery, openRefreshStage, type RefreshStage, registerTable } from '../support/refresh.ts'

let stage: RefreshStage

beforeAll(async () => {
  stage = await openRefreshStage()
})
afterAll(() => stage.end())
beforeEach(async () => {
  await stage.query(`create table if not exists public.origin (id integer primary key, name text, amount numeric(10,2))`)
  await stage.query('truncate public.origin')
})

const origin = fromQuery('select id, name, amount from public.origin')
const columns = 'id integer primary key, name text, amount numeric(10,2)'

test('a first refresh inserts every row, a second one changes what changed, and says how many', async () => {
  await registerTable(stage.query, 'things', columns, origin)
  await stage.query(`insert into public.origin select i, 'name ' || i, i from generate_series(1, 1000) i`)
  expect((await stage.refresh('things')).things).toMatchObject({ state: 'completed', inserted: 1000, updated: 0, deleted: 0, unchanged: 0 })
  await stage.query(`update public.origin set name = 'new' where id <= 30`)
  await stage.query(`update public.origin set name = null where id = 31`)
  await stage.query('delete from public.origin where id > 990')
  await stage.query(`insert into public.origin values (2001, 'a', 1), (2002, null, null)`)
  expect((await stage.refresh('things')).things).toMatchObject({ state: 'completed', inserted: 2, updated: 31, deleted: 10, unchanged: 959 })
  expect(
    await stage.query('select * from sqp.things except select * from public.origin union all (select * from public.origin except select * from sqp.things)'),
  ).toEqual([])
  expect(await stage.query(`select * from pg_class where relnamespace = 'pawl_stage'::regnamespace`)).toEqual([])
})
