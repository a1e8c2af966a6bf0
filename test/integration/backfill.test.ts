import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import { backfill } from '../../workers/maintenance/backfill.ts'
import { removeFence } from '../crash/mutation.ts'
import { handlerOptions, takeLease, workOne } from '../support/engine.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { until } from '../support/until.ts'
import { type BackfillStage, openBackfillStage } from './backfill-stage.ts'

let stage: BackfillStage
let db: TestDatabase

beforeAll(async () => {
  stage = await openBackfillStage()
  db = stage.db
})
afterAll(() => stage.close())
beforeEach(() => stage.refill())

const work = () => stage.work()
const request: BackfillStage['request'] = (assignments, options) => stage.request(assignments, options)
const ask: BackfillStage['ask'] = (sql, values) => stage.ask(sql, values)
const runOf = async (id: string) => (await db.query('select state, done, total, error from pawl.runs where run_id = $1', [id]))[0]

describe('the rows', () => {
  test('each row that meets the condition is changed once, in batches by key, and counted to the row', async () => {
    await db.query('update orders set total = 7 where id % 5 = 0')
    const id = await request('total = price * amount, n = n + 1', { condition: 'total is null', batch_size: 30 })
    expect(await db.query('select total from pawl.runs where run_id = $1', [id])).toEqual([{ total: expect.any(Number) }])
    expect(await work()).toEqual(['completed'])
    expect(await runOf(id)).toEqual({ state: 'completed', done: 800, total: 800, error: null })
    expect(
      await db.query('select count(*) filter (where n = 1 and total = price * 2) as changed, count(*) filter (where n = 0 and total = 7) as kept from orders'),
    ).toEqual([{ changed: 800, kept: 200 }])
    expect(await ask('select batch > 3 from pawl.checkpoints where run_id = $1', [id])).toBe(true)
    expect(await ask('pawl.backfill_done($1)', [id])).toBe(true)
  })

  test.each([
    ['uuid', 'gen_random_uuid()'],
    ['text', `md5(i::text) || chr(228) || ''''`],
    ['timestamptz', `timestamptz '2026-01-01' + i * interval '1.000001 s'`],
    ['numeric', 'i / 7.0'],
    ['double precision', 'i / 7.0::float8'],
    ['char(12)', 'i::text'],
    ['date', `date '2020-01-01' + i / 3`],
    ['varchar(40)', `case when i % 2 = 0 then 'A' else 'b' end || i / 4`],
  ])('a table is walked by a key of type %s, also where it is not unique', async (type, value) => {
    await db.query(`
      create table public.walked (k ${type} not null, n int not null default 0); create index on public.walked (k);
      insert into public.walked select ${value} from generate_series(1, 500) i`)
    onTestFinished(async () => void (await db.query('drop table public.walked')))
    await db.query(`alter role current_user set datestyle = 'SQL, DMY'; alter role current_user set extra_float_digits = 0`)
    onTestFinished(async () => void (await db.query('alter role current_user reset datestyle; alter role current_user reset extra_float_digits')))
    await db.query(`select pawl.request_backfill('walked', 'n = n + 1', key => 'k', batch_size => 7)`)
    expect(await work()).toEqual(['completed'])
    expect(await db.query('select n, count(*) as rows from walked group by n')).toEqual([{ n: 1, rows: 500 }])
  })

  test('a partitioned table, and one with quotes in its names, are tables like any other', async () => {
    await db.query(`
      create schema "Odd ""one"; create table "Odd ""one"."T" ("The ""key" int primary key, "N" int not null default 0) partition by range ("The ""key");
      create table "Odd ""one".a partition of "Odd ""one"."T" for values from (0) to (50); create table "Odd ""one".b partition of "Odd ""one"."T" for values from (50) to (200);
      insert into "Odd ""one"."T" select generate_series(1, 100)`)
    onTestFinished(async () => void (await db.query('drop schema "Odd ""one" cascade')))
    await db.query(`select pawl.request_backfill('"Odd ""one"."T"', '"N" = "N" + "The ""key"', batch_size => 10)`)
    expect(await work()).toEqual(['completed'])
    expect(await ask('select sum("N") from "Odd ""one"."T"')).toBe(5050)
  })

  test('what others change while it runs is neither lost nor overwritten', async () => {
    const id = await request('total = 1', { condition: 'total is null', batch_size: 10 })
    const other = await connectDirect(readConfig({ DATABASE_URL: db.url }), 'other')
    onTestFinished(() => other.close())
    await other.query('begin; update orders set total = 99 where id = 1500')
    const working = work()
    await until('it waits for the row', async () => await ask(`exists (select from pg_locks where not granted and locktype = 'transactionid')`))
    await other.query('commit')
    expect(await working).toEqual(['completed'])
    expect(await ask('select total from orders where id = 1500')).toBe(99)
    expect(await runOf(id)).toMatchObject({ done: 999 })
  })

  test('rows that come later are left to whoever brings them', async () => {
    await request('n = n + 1', { batch_size: 10 })
    const drain = new AbortController()
    const metrics = { ...handlerOptions(db, stage.lease).metrics, batches: () => drain.abort() }
    expect((await workOne(backfill, handlerOptions(db, stage.lease, { drain: drain.signal, metrics })))?.output).toMatchObject({ outcome: 'drain' })
    await db.query('insert into orders (id, price, amount) values (99999, 1, 1)')
    expect(await work()).toEqual(['completed'])
    expect(await ask('select count(*) from orders where n = 1')).toBe(1000)
    expect(await ask('select n from orders where id = 99999')).toBe(0)
  })

  test('a worker that was presumed dead changes nothing, and without the fence it would', async () => {
    const id = await request('n = n + 1', { batch_size: 10 })
    const other = await takeLease(db, 'other', ['maintenance.backfill'])
    const old = await stage.open(id, other)
    const batch = (epoch: number | undefined) => db.query('select * from pawl.apply_backfill_batch($1, 0, $2)', [id, epoch])
    await batch(old)
    await other.die()
    await until('the lock is free', async () => await ask(`not pawl.lease_alive($1, interval '10 s')`, [other.id]))
    const now = await stage.open(id, stage.lease)
    const before = await ask('select sum(n) from orders')
    await expect(batch(old)).rejects.toMatchObject({ code: 'PW001' })
    expect(await ask('select sum(n) from orders')).toBe(before)
    const restore = await db.query<{ source: string }>(
      `select pg_get_functiondef(p.oid) as source from pg_proc p where p.pronamespace = 'pawl'::regnamespace and p.proname in ('hold', 'hold_run', 'advance')`,
    )
    await removeFence(db.query)
    await batch(old)
    for (const { source } of restore) await db.query(source)
    expect(await ask('select sum(n) from orders')).toBeGreaterThan(Number(before))
    await stage.end(id, now)
  })
})

describe('how it ends', () => {
  test('a later migration can require it: unknown, waiting, failed and done are told apart', async () => {
    await expect(db.query(`select pawl.require_backfill('totals')`)).rejects.toMatchObject({ code: '55000', message: 'there is no backfill "totals"' })
    await db.query('alter table orders add constraint small check (total < 1500)')
    const id = await request('total = price * amount', { name: 'totals', condition: 'total is null', batch_size: 100 })
    expect(id).toBe('backfill:totals')
    expect(await request('total = price * amount', { name: 'totals', condition: 'total is null', batch_size: 100 })).toBe(id)
    await expect(request('total = 1', { name: 'totals' })).rejects.toMatchObject({ code: '22023' })
    await expect(db.query(`select pawl.require_backfill('totals')`)).rejects.toMatchObject({
      code: '55000',
      message: expect.stringContaining('is not done: it is pending with 0 of about 1'),
      hint: expect.stringContaining('pawl.why'),
    })
    expect(await work()).toEqual(['failed'])
    await expect(db.query(`select pawl.require_backfill('totals')`)).rejects.toMatchObject({
      message: expect.stringMatching(/it is failed with \d+ of .*small/),
    })
    await db.query('alter table orders drop constraint small')
    await db.query('select pawl.retry($1)', [id])
    expect(await work()).toEqual(['completed'])
    await db.query(`select pawl.require_backfill('totals'), pawl.require_backfill($1)`, [id])
    expect(await runOf(id)).toMatchObject({ done: 1000 })
    // Kept when the run's own row is gone.
    await db.query('delete from pawl.checkpoints where run_id = $1', [id])
    await db.query(`select pawl.require_backfill('totals')`)
  })

  test('on an empty table it is done at once, so that a new database can be migrated in one go', async () => {
    await db.query('truncate orders')
    const id = await request('n = 1', { name: 'nothing' })
    expect(await runOf(id)).toMatchObject({ state: 'completed', done: 0 })
    await db.query(`select pawl.require_backfill('nothing')`)
  })

  test('one that ended without success, whose run retention has taken since, can be asked for again by its name', async () => {
    const id = await request('total = 1', { name: 'taken' })
    await db.query('select pawl.cancel($1)', [id])
    expect(await request('total = 1', { name: 'taken' })).toBe(id)
    expect(await runOf(id)).toMatchObject({ state: 'cancelled' })
    await db.query('delete from pawl.checkpoints where run_id = $1', [id])
    expect(await request('total = 1', { name: 'taken' })).toBe(id)
    await work()
    expect(await runOf(id)).toMatchObject({ state: 'completed', done: 1000 })
  })

  test('a table that is dropped on the way ends it as cancelled', async () => {
    const id = await request('n = 1')
    await db.query('drop table orders')
    expect(await work()).toEqual(['gone'])
    expect(await runOf(id)).toMatchObject({ state: 'cancelled' })
  })
})

describe('how it gives way', () => {
  test('whoever waits for a lock on the table comes first, and why says so', async () => {
    const id = await request('n = n + 1', { batch_size: 10 })
    const [reader, waiter] = await Promise.all(['reader', 'waiter'].map(name => connectDirect(readConfig({ DATABASE_URL: db.url }), name)))
    onTestFinished(async () => void (await Promise.all([reader?.close(), waiter?.close()])))
    await reader?.query('begin; select count(*) from orders')
    const altered = waiter?.query('alter table orders add column later int')
    await until('the waiter waits', async () => await ask(`exists (select from pg_locks where not granted and relation = 'orders'::regclass)`))
    const working = work()
    const why = await until('it says why', async () => {
      const text = String(await ask('pawl.why($1)', [id]))
      return text.includes('holds back') ? text : undefined
    })
    expect(why).toMatch(/holds back: process \d+ waits for AccessExclusiveLock on public\.orders, and comes first \(since .*\)\. It goes on by itself/)
    expect(await db.query('select * from pawl.stuck')).toEqual([])
    await reader?.query('commit')
    await altered
    expect(await working).toEqual(['completed'])
    expect(await db.query('select n, count(*) as rows from orders group by n')).toEqual([{ n: 1, rows: 1000 }])
    expect(await ask('select throttle from pawl.backfills where run_id = $1', [id])).toBe(null)
  })

  test('the size of the batches follows the time they take, and shrinks where others wait for its rows', async () => {
    const sizes = async (id: string) => Number(await ask(`select (cursor ->> 'size')::int from pawl.lanes where run_id = $1`, [id]))
    const quick = await request('n = n + 1', { batch_size: 10, batch_time: '10 s' })
    await work()
    expect(await sizes(quick)).toBe(100)
    const slow = await request('n = n + case when pg_sleep(0.001) is null then 0 else 1 end', { batch_size: 100, batch_time: '20 ms' })
    await work()
    expect(await sizes(slow)).toBeLessThan(60)
    // A writer that wants a row of the batch while the batch is at work.
    await db.query(`create function public.linger() returns trigger language plpgsql as 'begin perform pg_sleep(0.02); return new; end';
      create trigger linger before update of total on public.orders for each row execute function public.linger()`)
    onTestFinished(async () => void (await db.query('drop function public.linger() cascade')))
    const met = await request('total = 1', { batch_size: 40, batch_time: '10 s', condition: 'id <= 120' })
    const working = work()
    await until(
      'a batch is at work',
      async () => await ask(`exists (select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database())`),
    )
    await db.query('update orders set n = 50 where id = 3')
    expect(await until('it says why', () => ask(`select throttle from pawl.backfills where run_id = $1`, [met]))).toMatch(/^others wait for rows it changes/)
    expect(await sizes(met)).toBe(20)
    expect(await working).toEqual(['completed'])
    expect(await db.query('select n, total from orders where id = 3')).toEqual([{ n: 50, total: 1 }])
  })
})
