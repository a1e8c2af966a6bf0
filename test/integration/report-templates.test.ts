import { afterAll, beforeAll, expect, test } from 'vitest'
import { readCsv } from '../support/csv.ts'
import { addReport, addSales, fileOf, openReportStage, type ReportParts, type ReportStage } from '../support/reports.ts'

let stage: ReportStage

beforeAll(async () => {
  stage = await openReportStage()
  await addSales(stage.query, 3_000)
  await stage.query(`
    create type public.mood as enum ('sad', 'ok', 'happy');
    create table public.people (id integer primary key, code varchar(3), fixed char(3), price numeric(6, 2), mood mood, nick text, "Odd ""name" text, at timestamp(0));
    insert into public.people values (1, 'EUR', 'ab', 10.56, 'ok', 'Ann', 'x', '2026-01-01 10:00:00'), (2, 'USD', 'abc', 3, 'sad', null, 'y', null), (3, null, null, null, 'happy', 'ann%', 'z', null);
    create table public.parted (id integer, day date, amount numeric, primary key (day, id)) partition by range (day);
    create table public.parted_a partition of public.parted for values from ('2026-01-01') to ('2026-02-01');
    create table public.parted_b partition of public.parted for values from ('2026-02-01') to ('2026-03-01');
    insert into public.parted select i, date '2026-01-01' + i % 59, i from generate_series(1, 500) i;
    create materialized view public.kept as select day, sum(amount) as total from public.parted group by day;
    grant select on public.people, public.parted, public.kept to pawl_report`)
})
afterAll(() => stage.end())

type Cells = (string | null)[][]

/** What PostgreSQL answers to a statement that a person wrote, as text. */
async function byHand(sql: string): Promise<Cells> {
  const columns = await stage.db.describe(sql)
  const names = columns.map((_, place) => `c${place}`)
  const rows = await stage.query<{ cells: (string | null)[] }>(
    `select array[${names.map(name => `${name}::text`).join(', ')}] as cells from (${sql}) t (${names.join(', ')})`,
  )
  return rows.map(row => row.cells)
}

async function byReport(structure: object, { given, ...parts }: Partial<ReportParts> & { given?: Record<string, unknown> } = {}): Promise<Cells> {
  const report = await addReport(stage.query, stage.people, { structure, ...parts })
  const execution = await stage.run(report, 'csv', given)
  expect(execution).toMatchObject({ status: 'completed', error_message: null })
  return readCsv((await fileOf(execution)).toString())
}

const sales = (columns: unknown[], more: object = {}) => ({ source: 'sales', columns, ...more })
const sum = { name: 'amount', aggregate: 'sum' }

test.each<[string, object, string]>([
  [
    'all aggregates, without a group',
    sales([sum, ...['avg', 'min', 'max', 'count', 'count_distinct'].map(aggregate => ({ name: 'amount', aggregate, as: aggregate }))]),
    'select sum(amount), avg(amount), min(amount), max(amount), count(amount), count(distinct amount) from sales',
  ],
  [
    'aggregates of a column with nulls',
    sales(['region', { name: 'note', aggregate: 'count' }, { name: 'note', aggregate: 'count_distinct', as: 'different' }]),
    'select region, count(note), count(distinct note) from sales group by 1 order by 1',
  ],
  ['an aggregate of nothing', sales([sum, { name: 'id', aggregate: 'count' }], { filters: [{ column: 'id', value: -1 }] }), 'select null::numeric, 0'],
  ...['day', 'week', 'month', 'quarter', 'year'].map((bucket): [string, object, string] => [
    `${bucket}s of a date`,
    sales([{ name: 'placed_on', bucket }, sum]),
    `select date_trunc('${bucket}', placed_on)::date, sum(amount) from sales group by 1 order by 1`,
  ]),
  ...['hour', 'day', 'week', 'month', 'quarter', 'year'].map((bucket): [string, object, string] => [
    `${bucket}s of a timestamp`,
    sales([{ name: 'shipped_at', bucket }, 'paid', sum]),
    `select date_trunc('${bucket}', shipped_at, 'UTC') at time zone 'UTC' || '+00', paid, sum(amount) from sales group by 1, 2 order by 1, 2`,
  ]),
  [
    'the first and the last by a bucket',
    sales([
      { name: 'placed_on', bucket: 'month', aggregate: 'min' },
      { name: 'placed_on', bucket: 'month', aggregate: 'max', as: 'last' },
      { name: 'placed_on', bucket: 'month', aggregate: 'count_distinct', as: 'months' },
    ]),
    `select min(date_trunc('month', placed_on)::date), max(date_trunc('month', placed_on)::date), count(distinct date_trunc('month', placed_on)) from sales`,
  ],
  [
    'order by several, one of them hidden, and a limit',
    sales(['id', { name: 'amount', as: 'sold' }, { name: 'region', hidden: true }], {
      order_by: ['region', { column: 'sold', direction: 'desc' }, 'id'],
      limit: 77,
    }),
    'select id, amount from sales order by region, amount desc, id limit 77',
  ],
  [
    'groups by what they sum up to',
    sales(['region', { ...sum, as: 'revenue' }], { order_by: [{ column: 'revenue', direction: 'desc' }], limit: 2 }),
    'select region, sum(amount) from sales group by 1 order by 2 desc limit 2',
  ],
  [
    "an alias that is another column's name",
    sales(
      [
        { name: 'amount', as: 'id' },
        { name: 'id', as: 'amount' },
      ],
      { order_by: [{ column: 'amount', direction: 'desc' }], limit: 5 },
    ),
    'select amount, id from sales order by id desc limit 5',
  ],
  ['a limit, by key', sales(['id', 'region'], { limit: 10 }), 'select id, region from sales order by id limit 10'],
  ['a partitioned table', { source: 'public.parted', columns: ['id', 'day', 'amount'] }, 'select id, day, amount from parted order by day, id'],
  ['a materialized view', { source: 'kept', columns: ['day', 'total'], key: ['day'] }, 'select day, total from kept order by day'],
  [
    'a name that must be quoted',
    { source: 'people', columns: ['Odd "name'], order_by: [{ column: 'Odd "name', direction: 'desc' }] },
    'select "Odd ""name" from people order by 1 desc',
  ],
])('%s: as by hand', async (_, structure, sql) => {
  const [heads, ...rows] = await byReport(structure)
  const shown = (structure as { columns: (string | { name: string; as?: string; hidden?: boolean })[] }).columns.filter(
    column => typeof column === 'string' || column.hidden !== true,
  )
  expect(heads).toEqual(shown.map(column => (typeof column === 'string' ? column : (column.as ?? column.name))))
  const wanted = await byHand(sql)
  expect(wanted.length).toBeGreaterThan(0)
  expect(rows).toEqual(wanted)
})

test.each<[string, unknown, string]>([
  ['=', { column: 'region', value: 'EU' }, `region = 'EU'`],
  ['!=', { column: 'region', operator: '!=', value: 'EU' }, `region <> 'EU'`],
  ['<', { column: 'amount', operator: '<', value: 500.5 }, 'amount < 500.5'],
  ['<=', { column: 'placed_on', operator: '<=', value: '2026-01-05' }, `placed_on <= '2026-01-05'`],
  ['>', { column: 'shipped_at', operator: '>', value: '2026-01-02 12:00:00+00' }, `shipped_at > '2026-01-02 12:00:00+00'`],
  ['>=', { column: 'id', operator: '>=', value: 2_990 }, 'id >= 2990'],
  ['in', { column: 'region', operator: 'in', value: ['EU', 'US', `'"\\,{}`] }, `region in ('EU', 'US')`],
  ['not_in', { column: 'id', operator: 'not_in', value: [1, 2, 3] }, 'id not in (1, 2, 3)'],
  ['contains', { column: 'note', operator: 'contains', value: 'GRÜSSE'.replace('SS', 'ß') }, `note ilike '%grüße%'`],
  ['contains, nothing of a pattern', { column: 'note', operator: 'contains', value: '%' }, `note like '%\\%%'`],
  ['contains, in a number', { column: 'amount', operator: 'contains', value: '99.' }, `amount::text like '%99.%'`],
  ['starts_with', { column: 'note', operator: 'starts_with', value: 'a "' }, `note like 'a "%'`],
  ['is_null', { column: 'note', operator: 'is_null' }, 'note is null'],
  ['is_not_null', { column: 'note', operator: 'is_not_null' }, 'note is not null'],
  ['a boolean', { column: 'paid', value: false }, 'not paid'],
  ['a value that would be SQL', { column: 'note', value: `' or true --` }, 'false'],
])('a filter with %s: as by hand', async (_, filter, where) => {
  const structure = sales(['id', ...['region', 'amount', 'placed_on', 'shipped_at', 'note', 'paid'].map(name => ({ name, hidden: true }))], {
    filters: [filter],
  })
  const [, ...rows] = await byReport(structure)
  expect(rows).toEqual(await byHand(`select id from sales where ${where} order by id`))
})

test.each<[string, unknown, string]>([
  ['longer than its column', { column: 'code', value: 'EUROPE' }, 'false'],
  ['longer than its columns, in a list', { column: 'code', operator: 'in', value: ['EUROPE', 'USD'] }, `code = 'USD'`],
  ['as long as its column of fixed length, but for the blanks', { column: 'fixed', value: 'ab' }, `fixed = 'ab'`],
  ['longer than its column of fixed length', { column: 'fixed', value: 'abcd' }, 'false'],
  ['finer than its column', { column: 'price', value: 10.555 }, 'false'],
  ['finer than its column, with an order', { column: 'price', operator: '<', value: 10.564 }, 'price < 10.564'],
  ['of a time finer than its column', { column: 'at', operator: '<', value: '2026-01-01 10:00:00.4' }, `at < '2026-01-01 10:00:00.4'`],
  ['of an enumeration', { column: 'mood', operator: '>=', value: 'ok' }, `mood >= 'ok'`],
  ['that is a pattern', { column: 'nick', operator: 'starts_with', value: 'ann%' }, `nick = 'ann%'`],
])('a filter by a value %s: as by hand', async (_, filter, where) => {
  const structure = {
    source: 'people',
    columns: ['id', ...['code', 'fixed', 'price', 'mood', 'nick', 'at'].map(name => ({ name, hidden: true }))],
    filters: [filter],
  }
  const [, ...rows] = await byReport(structure)
  expect(rows).toEqual(await byHand(`select id from people where ${where} order by id`))
})

test('parameters filter by what was given, by what the report stores, by the default, or not at all', async () => {
  const declared = { regions: { type: 'text[]' }, since: { type: 'date', default: '2026-06-01' }, paid: { type: 'boolean' } }
  const structure = sales(['id', { name: 'region', hidden: true }, { name: 'placed_on', hidden: true }, { name: 'paid', hidden: true }], {
    filters: [
      { column: 'region', operator: 'in', parameter: 'regions' },
      { column: 'placed_on', operator: '>=', parameter: 'since' },
      { column: 'paid', parameter: 'paid' },
    ],
  })
  const parts = { declared, parameters: { regions: ['EU'] } }
  const ids = async (given: Record<string, unknown>) => (await byReport(structure, { ...parts, given })).slice(1)
  const hand = (where: string) => byHand(`select id from sales where ${where} order by id`)
  expect(await ids({})).toEqual(await hand(`region = 'EU' and placed_on >= '2026-06-01'`))
  expect(await ids({ regions: ['US', 'APAC'], paid: true })).toEqual(await hand(`region in ('US', 'APAC') and placed_on >= '2026-06-01' and paid`))
  expect(await ids({ regions: null, since: '2026-12-01' })).toEqual(await hand(`placed_on >= '2026-12-01'`))
  expect(await ids({ regions: [] })).toEqual([])
})

test('fields of the template name and order the columns; a structure chooses among them', async () => {
  const fields = async (report: string) => {
    await stage.query(
      `insert into reporting.template_fields (template_id, name, field_type, position, configuration)
       select r.template_id, f.* from reporting.reports r,
         (values ('amount', 'number', 2, '{"label": "Sold"}'::jsonb), ('id', 'number', 1, '{}'), ('region', 'text', 3, '{"hidden": true}'), ('paid', 'boolean', 4, '{"label": "Paid?"}')) f
       where r.id = $1`,
      [report],
    )
  }
  const all = await addReport(stage.query, stage.people, { structure: { source: 'sales', filters: [{ column: 'region', value: 'EU' }], limit: 3 } })
  await fields(all)
  const read = async (report: string) => readCsv((await fileOf(await stage.run(report))).toString())
  expect(await read(all)).toEqual([['id', 'Sold', 'Paid?'], ...(await byHand(`select id, amount, paid from sales where region = 'EU' order by id limit 3`))])
  const some = await addReport(stage.query, stage.people, {
    structure: sales(['paid', { name: 'amount', aggregate: 'sum' }], { filters: [{ column: 'id', operator: '<', value: 9 }] }),
  })
  await fields(some)
  expect(await read(some)).toEqual([['Paid?', 'Sold'], ...(await byHand('select paid, sum(amount) from sales where id < 9 group by 1 order by 1'))])
  const stranger = await addReport(stage.query, stage.people, { structure: sales(['id', 'note']) })
  await fields(stranger)
  expect(await stage.run(stranger)).toMatchObject({
    status: 'failed',
    error_message: expect.stringContaining('names "note", which the template does not declare'),
  })
})

test("dates and times are cut and written in the report's time zone", async () => {
  const structure = sales(
    [
      { name: 'shipped_at', bucket: 'day' },
      { name: 'id', aggregate: 'count' },
    ],
    { limit: 2 },
  )
  const [, ...rows] = await byReport(structure, { configuration: { timezone: 'Asia/Tokyo' } })
  expect(rows).toEqual([
    ['2026-01-01 00:00:00+09', '899'],
    ['2026-01-02 00:00:00+09', '1440'],
  ])
})
