import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import type { TestDatabase } from '../support/postgres.ts'
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

describe('what is refused', () => {
  const refusals: [string, string, Record<string, unknown>, RegExp][] = [
    ['two statements', 'n = 1; drop table public.orders', {}, /can't be run/],
    ['two statements of one form', 'n = 1 where true; update public.orders t set n = 2', {}, /no single statement/],
    ['two statements in the condition', 'n = 1', { condition: 'true; drop table public.orders' }, /no single statement/],
    ['a comment that opens in one text and closes in the other', 'n = 1 /*', { condition: '*/ where (true' }, /can't be run|single/],
    ['parentheses that close too early', 'n = 1', { condition: 'true) or (true' }, /can't be run/],
    ['a union', 'n = 1', { condition: 'true union select' }, /can't be run/],
    ['a where of its own', 'n = 1 where true --', {}, /can't be run/],
    ['an open string', `n = '1`, {}, /can't be run/],
    ['a dollar quote over both', 'n = 1, total = $a$', { condition: '$a$ = $a$1$a$' }, /can't be run/],
    ['a parameter', 'n = $2::int', {}, /can't be run/],
    ['returning', 'n = 1', { condition: 'true returning 1' }, /can't be run/],
    ['an unknown column', 'nn = 1', {}, /column "nn".*does not exist/],
    ['an unknown column in the condition', 'n = 1', { condition: 'nn = 1' }, /column "nn" does not exist/],
    ['a condition that is none', 'n = 1', { condition: 'n' }, /must be type boolean/],
    ['the key itself', 'id = id + 1', {}, /by which the table is walked/],
    ['the key itself among others', 'n = 1, (total, id) = (1, 2)', {}, /by which the table is walked/],
    ['nothing', '  ', {}, /are empty/],
    ['a batch of none', 'n = 1', { batch_size: 0 }, /batch_size/],
    ['a key that is none', 'n = 1', { key: 'nope' }, /no column "nope"/],
    ['a key that may be null', 'n = 1', { key: 'price' }, /may be null/],
    ['a key without an index', 'total = 1', { key: 'n' }, /no index/],
    ['a bad name', 'n = 1', { name: 'a b' }, /name "a b"/],
  ]
  test.each(refusals)('%s', async (_, assignments, options, message) => {
    const before = await db.query(
      'select count(*) as runs, (select count(*) from pgboss.job) as jobs, (select count(*) from pawl.backfills) as asked from pawl.checkpoints',
    )
    await expect(request(assignments, options)).rejects.toMatchObject({ code: '22023', message: expect.stringMatching(message), hint: expect.any(String) })
    expect(
      await db.query(
        'select count(*) as runs, (select count(*) from pgboss.job) as jobs, (select count(*) from pawl.backfills) as asked from pawl.checkpoints',
      ),
    ).toEqual(before)
    expect(await ask('select count(*) from orders where n = 0')).toBe(1000)
  })

  test.each([
    ['a primary key of two columns', 'create table public.odd (a int, b int, n int, primary key (a, b))', /primary key of public.odd has 2 columns: a, b/],
    ['no primary key', 'create table public.odd (a int, n int)', /no primary key/],
    ['a view', 'create view public.odd as select 1 as n', /no table that can be/],
    ['a catalog', 'create table public.odd ()', /no table that can be/, 'pg_catalog.pg_class'],
  ])('%s', async (_, sql, message, table = 'public.odd') => {
    await db.query(`drop table if exists public.odd; drop view if exists public.odd2; ${sql}`)
    onTestFinished(async () => void (await db.query(`drop ${sql.includes('view') ? 'view' : 'table'} public.odd`)))
    await expect(db.query(`select pawl.request_backfill($1, 'n = 1')`, [table])).rejects.toMatchObject({
      code: '22023',
      message: expect.stringMatching(message),
    })
  })

  test('a function in the text is not called by asking', async () => {
    await db.query(`create table public.called (at timestamptz); create function public.call() returns int language plpgsql volatile as
      'begin insert into public.called values (now()); return 1; end'`)
    onTestFinished(async () => void (await db.query('drop function public.call(); drop table public.called')))
    const id = await request('n = public.call()', { condition: 'public.call() = 1' })
    expect(await ask('select count(*) from public.called')).toBe(0)
    await db.query('select pawl.cancel($1)', [id])
    await work()
  })
})

describe('who may', () => {
  const name = `pawl_test_backfill_${randomBytes(4).toString('hex')}`
  beforeAll(() => db.query(`create role ${name} login password 'secret' in role pawl_worker`))
  afterAll(async () => {
    await db.query(`drop owned by ${name}; drop role ${name}`)
  })
  const login = async () => {
    const connection = await connectDirect(readConfig({ DATABASE_URL: db.urlAs(name, 'secret') }), 'attacker')
    onTestFinished(() => connection.close())
    return connection.query
  }

  test('a worker can work on a backfill, but neither ask for one nor change what was asked for', async () => {
    const id = await request('n = n + 1')
    const attacker = await login()
    for (const sql of [
      `select pawl.request_backfill('public.orders', 'n = 1')`,
      `select pawl.add_backfill('public.orders', 'n = 1', 'true', 10, null, null, '1 s', '1 s', '{public}')`,
      `update pawl.backfills set assignments = 'n = 666'`,
      `insert into pawl.backfills (run_id, relation, key_column, key_type, assignments, condition, batch_size, batch_time, lag_limit, search_path)
       values ('x', 'public.orders', 'id', 'bigint', 'n = 666', 'true', 1, '1 s', '1 s', '{}')`,
      `update pawl.kinds set changed_function = 'pg_sleep' where kind = 'backfill'`,
      `create or replace function pawl.backfill_path(text[]) returns text language sql as $$ select 'pg_temp' $$`,
      `update public.orders set n = 666`,
    ]) {
      await expect(attacker(sql), sql).rejects.toMatchObject({ code: '42501' })
    }
    const epoch = await stage.open(id, stage.lease)
    // A cursor is the worker's to write; what stands in it is a value and never a statement.
    await attacker(`update pawl.lanes set cursor = jsonb_set(cursor, '{upto}', '"1 or true; drop table public.orders"') where run_id = $1`, [id])
    await expect(attacker('select * from pawl.apply_backfill_batch($1, 0, $2)', [id, epoch])).rejects.toMatchObject({ code: '22P02' })
    expect(await ask('select count(*) from orders where n = 0')).toBe(1000)
    await stage.end(id, epoch)
  })

  test('what a worker puts into its temporary schema, or makes of its settings, is not taken for what the text or a trigger names', async () => {
    await db.query(`
      create table public.diary (what text); create table public.prices (factor int); insert into public.prices values (2);
      create function public.note() returns trigger language plpgsql as 'begin insert into diary values (new.n); return new; end';
      create trigger note before update on public.orders for each row execute function public.note()`)
    onTestFinished(async () => void (await db.query('drop table public.diary, public.prices; drop function public.note() cascade')))
    const id = await request(`n = (select factor from prices), total = length('\\')`, { batch_size: 1000 })
    const attacker = await login()
    await attacker(`
      create temporary table diary (what text); create temporary table prices (factor int); insert into prices values (666);
      create function pg_temp.steal() returns trigger language plpgsql as 'begin execute ''alter role ${name} superuser''; return new; end';
      create trigger steal before insert on diary for each row execute function pg_temp.steal();
      grant all on diary, prices to public; set standard_conforming_strings = off; set search_path = pg_temp, public`)
    const epoch = await stage.open(id, stage.lease)
    expect(await attacker('select rows from pawl.apply_backfill_batch($1, 0, $2)', [id, epoch])).toEqual([{ rows: 1000 }])
    expect(await ask(`select rolsuper from pg_roles where rolname = '${name}'`)).toBe(false)
    expect(await ask('select count(*) from public.diary')).toBe(1000)
    expect(await db.query('select distinct n, total from orders')).toEqual([{ n: 2, total: 1 }])
    await stage.end(id, epoch)
  })

  test('a schema in which workers may create things is not looked into', async () => {
    await db.query('create schema open_to_all; grant create on schema open_to_all to pawl_worker')
    onTestFinished(async () => void (await db.query('drop schema open_to_all')))
    expect(await ask(`pawl.backfill_path('{open_to_all,public,nowhere}')`)).toBe('pg_catalog, public, pg_temp')
  })
})
