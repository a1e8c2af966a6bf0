import { afterAll, beforeAll, expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { actWhenLoaded, bytesOf, refreshWith, register } from '../support/refresh-publish.ts'
import { fromQuery, openRefreshStage, type RefreshStage, registerTable } from '../support/refresh.ts'

let stage: RefreshStage

beforeAll(async () => {
  stage = await openRefreshStage()
  await stage.query('create table public.days_origin (day date, id integer, n integer)')
})
afterAll(() => stage.end())

const columns = 'day date, id integer, n integer, primary key (day, id)'
const inWindow = 'select * from public.days_origin where day between {window_from} and {window_to}'
const january = { strategy: 'window', window: { column: 'day', from: '2024-01-10', to: '2024-01-19' } }

/** January in both, ten rows a day, and a row of another month that no refresh of January may touch. */
async function january2024(table: string, params: Record<string, unknown>, query = inWindow): Promise<void> {
  await registerTable(stage.query, table, columns, fromQuery(query, params))
  await stage.query(`truncate public.days_origin`)
  await stage.query(`insert into public.days_origin select d, i, 0 from generate_series(date '2024-01-01', '2024-01-31', '1 day') d, generate_series(1, 10) i`)
  await stage.query(`insert into sqp.${table} select * from public.days_origin union all select '2023-06-01', 1, 1`)
}

test('only the window is compared and replaced; what lies outside stays as it is', async () => {
  await january2024('ranged', january)
  await stage.query(`update public.days_origin set n = 1 where id = 1; delete from public.days_origin where id = 2`)
  expect((await stage.refresh('ranged')).ranged).toMatchObject({ state: 'completed', inserted: 0, updated: 10, deleted: 10, unchanged: 80 })
  expect(
    await stage.query(`select min(day)::text as first, max(day)::text as last, count(*) as rows from sqp.ranged where n = 1 and day > '2024-01-01'`),
  ).toEqual([{ first: '2024-01-10', last: '2024-01-19', rows: 10 }])
  expect(await stage.query('select count(*) as rows from sqp.ranged')).toEqual([{ rows: 301 }])
})

test('a window for which the source has nothing is emptied, the rest is kept', async () => {
  await january2024('vanished', january)
  await stage.query(`delete from public.days_origin where day between '2024-01-10' and '2024-01-19'`)
  expect((await stage.refresh('vanished')).vanished).toMatchObject({ state: 'completed', deleted: 100, inserted: 0, unchanged: 0 })
  expect(await stage.query('select count(*) as rows from sqp.vanished')).toEqual([{ rows: 211 }])
})

test('rows outside the window, or without a day, are refused and counted, and nothing is changed', async () => {
  await january2024('strayed', january, 'select * from public.days_origin')
  const before = await bytesOf(stage.query, 'sqp.strayed')
  const step = (await stage.refresh('strayed')).strayed
  expect(step).toMatchObject({ state: 'failed', error: '210 rows of sqp.strayed lie outside the window day 2024-01-10 to 2024-01-19' })
  expect(await bytesOf(stage.query, 'sqp.strayed')).toEqual(before)
})

test('{window_from} in the query of a table that is refreshed as a whole is refused', async () => {
  await registerTable(stage.query, 'windowless', columns, fromQuery(inWindow))
  expect((await stage.refresh('windowless')).windowless).toMatchObject({ state: 'failed', error: expect.stringContaining('{window_from}') })
})

test('a row that moved into the window is changed where it stands outside, not added a second time', async () => {
  await stage.query(`create table public.touched_origin (id integer, at timestamptz, n integer)`)
  const query = 'select * from public.touched_origin where at >= {window_from}'
  const window = { strategy: 'window', window: { column: 'at', days: 3 } }
  await registerTable(stage.query, 'touched', 'id integer primary key, at timestamptz, n integer', fromQuery(query, window))
  await stage.query(
    `insert into public.touched_origin select i, now() - i * interval '2 days', 0 from generate_series(0, 9) i; insert into sqp.touched select * from public.touched_origin`,
  )
  await stage.query(`update public.touched_origin set at = now(), n = 1 where id in (0, 7)`)
  expect((await stage.refresh('touched')).touched).toMatchObject({ state: 'completed', inserted: 0, updated: 2, deleted: 0, unchanged: 1 })
  expect(await stage.query('select id from sqp.touched where n = 1 order by id')).toEqual([{ id: 0 }, { id: 7 }])
  expect(await stage.query('select count(*) as rows from sqp.touched')).toEqual([{ rows: 10 }])
})

test('the last day of a window is a whole day also for times, and numbers are taken as they are', async () => {
  await stage.query(
    `create table public.instants (at timestamp primary key); insert into public.instants select '2024-01-31'::timestamp + i * interval '1 hour' from generate_series(0, 23) i`,
  )
  const range = (from: string, to: string) => ({ strategy: 'window', window: { column: 'at', from, to } })
  await registerTable(stage.query, 'instants', 'at timestamp primary key', fromQuery('select * from public.instants', range('2024-01-30', '2024-01-31')))
  await stage.query(`insert into sqp.instants values ('2024-01-31 23:59:59.999'), ('2024-02-01')`)
  expect((await stage.refresh('instants')).instants).toMatchObject({ state: 'completed', inserted: 24, deleted: 1 })
  await registerTable(stage.query, 'numbers', 'at integer primary key', fromQuery('select generate_series(5, 8) as at', range('5', '9')))
  await stage.query('insert into sqp.numbers select generate_series(1, 20)')
  expect((await stage.refresh('numbers')).numbers).toMatchObject({ state: 'completed', deleted: 1, unchanged: 4 })
})

test('what began before midnight ends with the days of its beginning', async () => {
  await registerTable(stage.query, 'nightly', columns, fromQuery(inWindow, { strategy: 'window', window: { column: 'day', days: 3 } }))
  await stage.query('truncate public.days_origin')
  await stage.query(
    `insert into public.days_origin select date '2024-03-01' + i, 1, 1 from generate_series(0, 20) i; insert into sqp.nightly select day, 2, 0 from public.days_origin`,
  )
  let now = Date.parse('2024-03-10T23:59:59Z')
  const clock = { ...systemClock, now: () => now }
  const db = actWhenLoaded(stage.db, () => (now = Date.parse('2024-03-11T00:00:05Z')))
  const { steps } = await refreshWith(stage, 'nightly', { ...stage.options, clock, db })
  expect(steps.nightly).toMatchObject({ state: 'completed', inserted: 3, deleted: 3 })
  const days = await stage.query<{ day: string }>('select day::text from sqp.nightly where n = 1 order by day')
  expect(days.map(({ day }) => day)).toEqual(['2024-03-08', '2024-03-09', '2024-03-10'])
  expect(now).toBe(Date.parse('2024-03-11T00:00:05Z'))
  await register(stage.query, 'sqp', 'nightly', fromQuery(inWindow, { strategy: 'window', window: { column: 'day', days: 3 } }))
  expect((await refreshWith(stage, 'nightly', { ...stage.options, clock })).steps.nightly).toMatchObject({ inserted: 1, deleted: 1, unchanged: 2 })
})
