import { afterAll, beforeAll, expect, test } from 'vitest'
import { quote, register } from '../support/refresh-publish.ts'
import { fromQuery, openRefreshStage, type RefreshStage } from '../support/refresh.ts'

let stage: RefreshStage

beforeAll(async () => {
  stage = await openRefreshStage()
  await stage.query(`create schema "Other Place"; create type public.mood as enum ('glad', 'sad'); create domain public.cents as numeric check (value >= 0)`)
})
afterAll(() => stage.end())

/** Numbers that look random and are the same in every run. */
function dice(seed: number): (sides: number) => number {
  let state = seed * 2_654_435_761
  return sides => {
    state = (Math.imul(state ^ (state >>> 15), 2_246_822_519) + 0x9e37_79b9) | 0
    return ((state ^ (state >>> 13)) >>> 0) % sides
  }
}

/** A column's type and its value in row `i`; `h` is a number that differs from row to row and, for changed rows, from side to side. */
const keys = [
  { type: 'integer', value: 'i' },
  { type: 'bigint', value: '4000000000 + i' },
  { type: 'text', value: `'it''s "k" ' || i` },
  { type: 'character(6)', value: `lpad(i::text, 4, 'x')` },
  { type: 'varchar(9) collate "C"', value: `'É' || i` },
  { type: 'date', value: `date '2024-02-28' + i` },
  { type: 'uuid', value: `md5(i::text)::uuid` },
  { type: 'numeric(8,2)', value: 'i / 4.0' },
] as const
const values = [
  { type: 'numeric', value: `case when h % 2 = 0 then round(i, side) else h end`, as: '' },
  { type: 'numeric(12,3)', value: 'h / 8.0', as: '' },
  { type: 'json', value: `format('{"a": %s, "b":[1,null]}', h % 4)::json`, as: '::text' },
  { type: 'jsonb', value: `jsonb_build_object('n', h % 3, 'deep', jsonb_build_array(null, 'x'))`, as: '' },
  { type: 'text', value: `repeat('ä\\n', h % 5)`, as: '' },
  { type: 'text collate "C"', value: `'t' || h % 5`, as: '' },
  { type: 'integer[]', value: `array[h % 3, null, 1]`, as: '' },
  { type: 'text[]', value: `array['a,b', null, '"' || h % 3]`, as: '' },
  { type: 'json[]', value: `array['{}'::json, to_json(h % 3)]`, as: '::text' },
  { type: 'character(5)', value: `left(md5((h % 6)::text), 1 + h % 4)`, as: '' },
  { type: 'timestamptz', value: `timestamptz '2024-10-27 02:30:00.123456+02' + (h % 9) * interval '1 hour'`, as: '' },
  { type: 'double precision', value: `case h % 4 when 0 then 'NaN' when 1 then '-Infinity' else h / 3.0 end`, as: '' },
  { type: 'boolean', value: 'h % 2 = 0', as: '' },
  { type: 'bytea', value: `decode(md5((h % 4)::text), 'hex')`, as: '' },
  { type: 'interval', value: `case when h % 2 = 0 then '1 day' else '24 hours' end::interval`, as: '::text' },
  { type: 'point', value: 'point(h % 3, i)', as: '::text' },
  { type: 'box', value: `box(point(0, 0), case when h % 2 = 0 then point(2, 3) else point(3, 2) end)`, as: '::text' },
  { type: 'public.mood', value: `(array['glad', 'sad'])[1 + h % 2]::public.mood`, as: '' },
  { type: 'public.cents', value: 'h % 7', as: '' },
  { type: 'int4range', value: 'int4range(h % 4, 9)', as: '' },
] as const

type Pair = {
  schema: string
  table: string
  target: string
  origin: string
  key: string[]
  columns: { name: string; type: string; value: string; as: string }[]
}

const awkward = ['id', 'Id', 'select', 'a b', 'quo"te', "apo'strophe", 'ünï', 't', 's', 'd', '$1', '{x}']

async function make(seed: number): Promise<Pair> {
  const roll = dice(seed)
  const pick = <Item>(list: readonly Item[]) => list[roll(list.length)] as Item
  const names = [...awkward].sort(() => roll(3) - 1)
  const name = () => names.pop() ?? 'last'
  const whole = keys.map(key => ({ ...key, as: '' }))
  const first = { name: name(), ...pick(whole) }
  const key = roll(2) === 0 ? [first] : [{ name: name(), type: 'smallint', value: 'i % 3', as: '' }, first]
  const rest = Array.from({ length: roll(7) }, () => ({ name: name(), ...pick(values) }))
  const table = `${pick(['plain', 'Big Name', 'we"ird', "o'clock"])} ${seed}`
  const schema = pick(['sqp', 'public', 'Other Place'])
  const target = `${quote(schema)}.${quote(table)}`
  const define = (column: { name: string; type: string }) => `${quote(column.name)} ${column.type}`
  const extras = [
    ...(roll(3) === 0 ? [`own_id bigint generated always as identity`] : []),
    // The text of a date depends on the session, and so can't be stored.
    ...(roll(3) === 0 && key[0]?.type !== 'date' ? [`own_sum text generated always as (${quote(key[0]?.name ?? '')}::text) stored`] : []),
    ...(roll(3) === 0 ? [`own_default text not null default 'mine'`] : []),
  ]
  const partitioned = roll(4) === 0
  await stage.query(
    `create table ${target} (${[...extras, ...[...rest, ...key].map(define), `primary key (${key.map(column => quote(column.name)).join(', ')})`].join(', ')})
     ${partitioned ? `partition by hash (${quote(first.name)})` : ''}`,
  )
  if (partitioned) {
    for (const part of [0, 1])
      await stage.query(`create table "Other Place"."part ${seed} ${part}" partition of ${target} for values with (modulus 2, remainder ${part})`)
  }
  const origin = `public.origin_${seed}`
  await stage.query(`create table ${origin} (${[...key, ...rest].map(define).join(', ')})`)
  const fill = (relation: string, side: number, rows: string) => {
    const columns = [...key, ...rest]
    const value = (column: (typeof columns)[number], place: number) =>
      place < key.length
        ? column.value
        : `case when hashtext(i || ' null ${place} ' || ${side === 0 ? 0 : 'i % 4'}) % 5 = 0 then null else ${column.value.replaceAll('side', String(side))} end`
    return stage.query(
      `insert into ${relation} (${columns.map(column => quote(column.name)).join(', ')})
       select ${columns.map(value).join(', ')} from (
         select i, abs(hashtext(i || ' ' || case when i % 4 = 0 then ${side} else 0 end || ' ${seed}')) as h from generate_series(0, 80) i where ${rows}
       ) numbers`,
    )
  }
  await fill(target, 0, roll(10) === 0 ? 'false' : `i % ${2 + roll(9)} <> 0`)
  await fill(origin, 1, roll(15) === 0 ? 'false' : `i % ${2 + roll(9)} <> 1`)
  return { schema, table, target, origin, key: key.map(column => column.name), columns: [...key, ...rest] }
}

test('what is said to be inserted, updated, deleted and unchanged equals a recount with EXCEPT, on 120 random pairs of tables', async () => {
  const totals = { inserted: 0, updated: 0, deleted: 0, unchanged: 0 }
  for (let seed = 1; seed <= 120; seed += 1) {
    const { schema, table, target, origin, key, columns } = await make(seed)
    const all = columns.map(column => quote(column.name) + column.as).join(', ')
    const keyed = key.map(quote).join(', ')
    const count = (sql: string) => `(select count(*) from (${sql}) counted)`
    const [recount] = await stage.query<{ inserted: number; touched: number; deleted: number; unchanged: number }>(
      `select ${count(`select ${keyed} from ${origin} except select ${keyed} from ${target}`)} as inserted,
         ${count(`select ${keyed} from ${target} except select ${keyed} from ${origin}`)} as deleted,
         ${count(`select ${all} from ${origin} except select ${all} from ${target}`)} as touched,
         ${count(`select ${all} from ${origin} intersect select ${all} from ${target}`)} as unchanged`,
    )
    const { inserted = 0, touched = 0, deleted = 0, unchanged = 0 } = recount ?? {}
    const expected = { inserted, updated: touched - inserted, deleted, unchanged }
    await register(
      stage.query,
      schema,
      table,
      fromQuery(
        `select ${[...columns]
          .reverse()
          .map(column => quote(column.name))
          .join(', ')} from ${origin} -- all`,
      ),
    )
    const steps = await stage.refresh(`${schema}.${table}`, 'none')
    const step = steps[schema === 'sqp' ? table : `${schema}.${table}`]
    expect({ seed, ...step }).toMatchObject({ seed, state: 'completed', error: null, ...expected })
    const left = await stage.query(
      `(select ${all} from ${origin} except select ${all} from ${target}) union all (select ${all} from ${target} except select ${all} from ${origin})`,
    )
    expect({ seed, left }).toEqual({ seed, left: [] })
    for (const name of Object.keys(totals) as (keyof typeof totals)[]) totals[name] += expected[name]
  }
  // The dice did roll all four.
  expect(Math.min(...Object.values(totals))).toBeGreaterThan(100)
  expect(await stage.query(`select relname from pg_class where relnamespace = 'pawl_stage'::regnamespace`)).toEqual([])
}, 240_000)

test('identity: a key that is GENERATED ALWAYS takes the values of the source, any other column of that kind keeps its own', async () => {
  await stage.query(`create table sqp.numbered (id integer generated always as identity primary key, name text, other integer generated always as identity, twice integer generated always as (id * 2) stored);
    create table public.numbers (id integer, name text, other integer, twice integer); insert into public.numbers values (7, 'a', 70, 1), (8, 'b', 80, 1)`)
  await register(stage.query, 'sqp', 'numbered', fromQuery('select * from public.numbers'))
  expect((await stage.refresh('numbered')).numbered).toMatchObject({
    state: 'warning',
    inserted: 2,
    warnings: ["the source's column other is ignored: the table computes its own", "the source's column twice is ignored: the table computes its own"],
  })
  await stage.query(`update public.numbers set name = 'c', other = 81 where id = 8; insert into public.numbers values (9, 'd')`)
  expect((await stage.refresh('numbered')).numbered).toMatchObject({ inserted: 1, updated: 1, unchanged: 1 })
  expect(await stage.query('select id, name, other, twice from sqp.numbered order by id')).toEqual([
    { id: 7, name: 'a', other: 1, twice: 14 },
    { id: 8, name: 'c', other: 2, twice: 16 },
    { id: 9, name: 'd', other: 3, twice: 18 },
  ])
})

test('a primary key with INCLUDE is its key columns, and not what it carries along', async () => {
  await stage.query(
    `create table sqp.carrying (id integer, name text, primary key (id) include (name)); create table public.carried (id integer, name text); insert into public.carried values (1, 'a'), (2, null)`,
  )
  await register(stage.query, 'sqp', 'carrying', fromQuery('select * from public.carried'))
  await stage.refresh('carrying')
  await stage.query(`update public.carried set name = 'z'`)
  expect((await stage.refresh('carrying')).carrying).toMatchObject({ state: 'completed', updated: 2, inserted: 0, deleted: 0 })
})
