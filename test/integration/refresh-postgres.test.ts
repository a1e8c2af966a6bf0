import { afterAll, beforeAll, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import type { Chunk, Cursor, Extraction } from '../../workers/refresh/source.ts'
import { openPostgres, postgresSettings } from '../../workers/refresh/sources/postgres.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { linesOf, readAll, readingWith, readLane, textOf } from '../support/reading.ts'
import { until } from '../support/until.ts'

const PASSWORD = 'p4ss%20w0rd'
let source: TestDatabase
let target: TestDatabase
beforeAll(async () => {
  source = await createDatabase({ empty: true })
  target = await createDatabase({ empty: true })
  await source.query(`
    create table sales (id bigint primary key, label text, amount numeric(12,2));
    insert into sales select i * 3, 'row ' || i || repeat('x', i % 40), i / 7.0 from generate_series(1, 30000) i;
    create table pairs (a text, b integer, note text, primary key (a, b));
    insert into pairs select 'k''\\' || i % 100, i, 'n' from generate_series(1, 3000) i`)
})
afterAll(async () => {
  await source.drop()
  await target.drop()
})

const config = (url = source.url) => ({ ...readConfig({}), sourceUrls: { sales: url } })
const { using, refusal } = readingWith(
  openPostgres,
  given => postgresSettings.parse({ source: 'postgres', connection: 'sales', ...given }),
  () => ({ config: config() }),
)
const idsOf = (lines: readonly string[]) => lines.map(line => Number(line.split('\t')[0])).sort((a, b) => a - b)
/** A chunk's rows come in whatever order the source's plan gives. */
const sorted = (chunks: readonly Chunk[]) => chunks.map(chunk => linesOf([chunk]).sort())
const read = (extraction: Extraction, cursor: Cursor) => extraction.read(cursor, new AbortController().signal)
const readers = () =>
  source.query<{ pid: number }>(`select pid from pg_stat_activity where datname = current_database() and application_name like 'pawl refresh%'`)

test('rows of all types arrive as they are, whatever the source is set to, and its own types as text', async () => {
  await source.query(`
    create extension if not exists pg_trgm;
    create type mood as enum ('sad', 'h\\p');
    create domain cents as numeric(9,2) check (value >= 0);
    create domain price as cents;
    create type point3 as (x integer, y integer, z integer);
    create table types (n integer primary key, a boolean, b smallint, c bigint, d numeric(30,9), e real, f double precision, g text, h varchar(9), i char(4),
      j bytea, k date, l timestamp, m timestamptz, o time, p timetz, q interval, r uuid, s jsonb, t integer[], u text[], v mood, w price, x point3, y inet, z int4range, aa mood[],
      bb regclass, cc bit varying, dd numeric);
    insert into types values
      (1, true, -32768, 9007199254740993, 123456789012345678901.123456789, 'NaN', 0.30000000000000004, E'a\\tb\\nc\\rd\\\\e\\\\N', 'v''ch', 'ab',
       '\\x00ff5c0a', '0044-03-15 BC', 'infinity', '2025-07-01 12:00:00.123456+02', '24:00:00', '12:00:00.5+05:30', '-1 year 2 mons -3 days +04:05:06.000007',
       '6f2a8f0e-0000-4000-8000-0123456789ab', '{"n": 12345678901234567890, "s": "x\\"\\\\"}', '{1,NULL,3}', '{"a\\"b","c\\\\d",NULL}', 'h\\p', 1.50, '(1,2,3)', '10.0.0.1/8',
       '[1,5)', '{sad,NULL}', 'pg_class', '0101', 1.2300);
    insert into types (n) values (2);
    alter database ${new URL(source.url).pathname.slice(1)} set datestyle = 'SQL, DMY';
    alter database ${new URL(source.url).pathname.slice(1)} set intervalstyle = 'sql_standard';
    alter database ${new URL(source.url).pathname.slice(1)} set extra_float_digits = -5;
    alter database ${new URL(source.url).pathname.slice(1)} set timezone = 'Asia/Kolkata'`)
  await using({ table: 'public.types' }, async extraction => {
    const columns = Object.fromEntries(extraction.columns.map(({ name, type }) => [name, type]))
    expect(columns).toMatchObject({
      d: 'numeric(30,9)',
      h: 'character varying(9)',
      i: 'character(4)',
      v: 'text',
      w: 'numeric(9,2)',
      x: 'text',
      aa: 'text',
      bb: 'text',
      dd: 'numeric',
      t: 'integer[]',
    })
    const chunks = await readAll(extraction)
    await target.transact(async (query, copy) => {
      await query(`create table types (${extraction.columns.map(({ name, type }) => `${name} ${type}`).join(', ')})`)
      for (const chunk of chunks) expect(await copy('copy types from stdin', chunk.data)).toBe(chunk.rows)
    })
  })
  const shown = (db: TestDatabase) =>
    db.transact(async query => {
      await query(`set local datestyle = 'ISO'; set local intervalstyle = 'postgres'; set local timezone = 'UTC'; set local extra_float_digits = 1`)
      return query<{ row: string }>('select types::text as row from types order by n')
    })
  expect(await shown(target)).toEqual(await shown(source))
})

test('lanes give every row once, in chunks of about the bytes asked for', async () => {
  await using({ table: 'sales' }, async extraction => {
    expect(extraction).toMatchObject({ total: 30_000, columns: [{ name: 'id', type: 'bigint' }, { name: 'label' }, { name: 'amount', type: 'numeric(12,2)' }] })
    expect(extraction.cursors).toHaveLength(2)
    const chunks = await readAll(extraction)
    const ids = idsOf(linesOf(chunks))
    expect(new Set(ids).size).toBe(30_000)
    expect(ids).toHaveLength(30_000)
    expect(chunks.reduce((sum, { rows }) => sum + rows, 0)).toBe(30_000)
    const full = chunks.filter(({ finished }) => !finished).map(chunk => textOf([chunk]).length)
    expect(full.length).toBeGreaterThan(8)
    expect(Math.max(...full)).toBeLessThan(150_000)
    expect(Math.min(...full)).toBeGreaterThan(50_000)
    expect(extraction.facts()).toMatchObject({ connection: 'sales', bytes: textOf(chunks).length, snapshots: 1 })
  })
})

test.each([
  ['an integer key', { table: 'sales', chunk_rows: 1000 }, 1],
  ['two columns as key', { query: 'select b, a, note from pairs', key: ['a', 'b'], chunk_rows: 130 }, 0],
] as const)('another worker goes on from any cursor with the same rows: %s', async (_, settings, lane) => {
  const saved = {}
  const { first, cursor } = await using(
    settings,
    async extraction => ({ first: await readLane(extraction, extraction.cursors[lane] ?? {}), cursor: extraction.cursors[lane] ?? {} }),
    { saved },
  )
  expect(first.length).toBeGreaterThan(4)
  const rest = await using(settings, extraction => readLane(extraction, first[3]?.next ?? {}), { saved })
  expect(sorted(rest)).toEqual(sorted(first.slice(4)))
  const again = await using(settings, extraction => readLane(extraction, cursor), { saved })
  expect(sorted(again)).toEqual(sorted(first))
})

test('all lanes, also those of another worker, see the source as it was when the reading began', async () => {
  await source.query('create table moving (id integer primary key, v integer); insert into moving select i, 0 from generate_series(1, 4000) i')
  const saved = {}
  await using(
    { table: 'moving', chunk_rows: 500 },
    async extraction => {
      await source.query('update moving set v = 1; delete from moving where id % 2 = 0; insert into moving select i, 2 from generate_series(5000, 6000) i')
      const [first = {}, second = {}] = extraction.cursors
      const lines = linesOf(await readLane(extraction, first))
      await using({ table: 'moving', chunk_rows: 500 }, async other => lines.push(...linesOf(await readLane(other, second))), { saved })
      expect(lines).toHaveLength(4000)
      expect(new Set(lines.map(line => line.split('\t')[1]))).toEqual(new Set(['0']))
    },
    { saved },
  )
})

test('a lost connection is opened again, and reading goes on by key', async () => {
  await using({ table: 'sales', chunk_rows: 1000 }, async extraction => {
    const [lane = {}] = extraction.cursors
    const first = await read(extraction, lane)
    const before = await readers()
    expect(before.length).toBeGreaterThan(0)
    for (const { pid } of before) await source.query('select pg_terminate_backend($1)', [pid])
    await until('the readers are gone', async () => (await readers()).length === 0)
    await source.query('create table since (n integer)')
    const rest = await readLane(extraction, first.next)
    expect(idsOf(linesOf([first, ...rest]))).toEqual(Array.from({ length: 15_000 }, (_, i) => (i + 1) * 3))
    expect(extraction.facts().snapshots).toBe(2)
  })
  await until('no reader is left', async () => (await readers()).length === 0)
})

test("a source's time limits do not end a reader that waits for its target", async () => {
  const name = new URL(source.url).pathname.slice(1)
  await source.query(`alter database ${name} set idle_in_transaction_session_timeout = 50`)
  await source.query(`alter database ${name} set transaction_timeout = 50`).catch(() => {})
  try {
    await using({ table: 'sales', chunk_rows: 1000 }, async extraction => {
      const [lane = {}] = extraction.cursors
      const chunk = await read(extraction, lane)
      const [reader] = await readers()
      const since = performance.now()
      await until('it was idle for longer than the limit', () => performance.now() - since > 250)
      expect(await readers()).toContainEqual(reader)
      expect((await read(extraction, chunk.next)).rows).toBe(1000)
    })
  } finally {
    await source.query(`alter database ${name} reset idle_in_transaction_session_timeout`)
    await source.query(`alter database ${name} reset transaction_timeout`).catch(() => {})
  }
})

test('a reading that is stopped leaves at once, also while the server is busy', async () => {
  await source.query('create view slow as select id, pg_sleep(case when id = 30 then 600 else 0 end)::text as s from sales')
  const saved = { total: 30_000, cursors: [{ lane: 0, after: null, upto: ['90000'], rows: 20 }] }
  await using(
    { query: 'select id, s from slow', key: ['id'] },
    async extraction => {
      const stop = new AbortController()
      const reading = extraction.read(extraction.cursors[0] ?? {}, stop.signal)
      await until('the server sleeps', async () => (await source.query(`select 1 from pg_stat_activity where wait_event = 'PgSleep'`)).length > 0)
      stop.abort(new Error('drained'))
      await expect(reading).rejects.toThrow('drained')
    },
    { saved },
  )
  await source.query(`select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'`)
})

test('the window stands in the query, and an empty answer is an answer', async () => {
  const query = 'select id, label from sales where id between {window_from}::bigint and {window_to}::bigint'
  expect(await using({ query, key: ['id'] }, async extraction => idsOf(linesOf(await readAll(extraction))), { window: { from: '9', to: '15' } })).toEqual([
    9, 12, 15,
  ])
  await using(
    { query, key: ['id'] },
    async extraction => {
      expect(extraction.total).toBe(0)
      expect(await readAll(extraction)).toMatchObject([{ rows: 0, finished: true, data: [] }])
    },
    { window: { from: '1', to: '2' } },
  )
  expect(await refusal({ query, key: ['id'] })).toMatchObject({ code: 'refresh.window_missing' })
})

test('what can never work is refused, and says what to do', async () => {
  await source.query(
    `create table loose (k integer, v text); insert into loose select i / 2, 'x' from generate_series(1, 50) i; create table gaps (k integer, v text); insert into gaps values (1, 'a'), (null, 'b')`,
  )
  const cases: [object, string, RegExp][] = [
    [{ table: 'sales', connection: 'nowhere' }, 'refresh.source_unknown', /PAWL_SOURCE_NOWHERE is not set/],
    [{}, 'refresh.source_refused', /either "table" or "query"/],
    [{ table: 'absent' }, 'refresh.source_refused', /no table absent/],
    [{ table: 'loose' }, 'refresh.source_refused', /needs a key/],
    [{ table: 'loose', key: ['z'] }, 'refresh.source_refused', /delivers no z/],
    [{ table: 'loose', key: ['k'], chunk_rows: 10 }, 'refresh.source_refused', /\(k\) does not identify a row/],
    [{ table: 'gaps', key: ['k'] }, 'refresh.source_refused', /1 rows .* have no k/],
    [{ query: 'select nothing from sales', key: ['id'] }, 'refresh.source_refused', /sqp\.trial .*"nothing" does not exist.*42703/],
    [{ query: 'select 1 as id) x; drop table sales; select * from (select 1 as id', key: ['id'] }, 'refresh.source_refused', /multiple commands/],
    [{ query: 'delete from sales returning id', key: ['id'] }, 'refresh.source_refused', /syntax error/],
  ]
  for (const [settings, code, message] of cases) {
    const error = await refusal(settings)
    expect(error, JSON.stringify(settings)).toMatchObject({ code, retryable: false, message: expect.stringMatching(message), hint: expect.stringMatching(/./) })
  }
  await until('no reader is left', async () => (await readers()).length === 0)
})

test('no message gives the password away', async () => {
  const url = new URL(source.url)
  const bad = [
    `postgres://user:${PASSWORD}@127.0.0.1:1/none`,
    `postgres://user:${PASSWORD}@host name/none`,
    `postgres://${url.username}:${PASSWORD}@${url.host}/${PASSWORD}`,
    `postgres://user:${PASSWORD}@no-such-host.invalid/none`,
  ]
  for (const text of bad) {
    const error = await refusal({ table: 'sales' }, { config: config(text) })
    expect(error).toMatchObject({ name: 'PawlError', message: expect.stringMatching(/sqp\.trial/) })
    const told = JSON.stringify([error.message, error.stack, error.hint, error.cause, error.input]) + String(error.cause?.stack)
    expect(told).not.toContain(PASSWORD)
    expect(told).not.toContain(decodeURIComponent(PASSWORD))
  }
  expect(await refusal({ table: 'sales' }, { config: config(bad[0] ?? '') })).toMatchObject({ retryable: true })
})
