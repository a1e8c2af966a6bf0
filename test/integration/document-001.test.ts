import { is } from 'drizzle-orm'
import { getTableConfig, PgTable } from 'drizzle-orm/pg-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import * as executions from '../../src/schema/executions.ts'
import * as reporting from '../../src/schema/reporting.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { reportingRows } from './document-001-rows.ts'
import { CHECKS, COLUMNS, DIAGRAM, INDEXES, KEYS, TRIGGERS } from './document-001-wanted.ts'

let db: TestDatabase

beforeAll(async () => {
  db = await createDatabase()
})
afterAll(() => db.drop())

/** The columns of a table as they stand: name, type, null or not, default. */
const columnsOf = async (table: string) =>
  (
    await db.query<{ line: string }>(
      `select concat_ws(' ', attname, format_type(atttypid, atttypmod), case when attnotnull then 'not null' end, pg_get_expr(adbin, adrelid)) as line
       from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
       where attrelid = ('reporting.' || $1)::regclass and attnum > 0 and not attisdropped order by attnum`,
      [table],
    )
  ).map(row => row.line)

const PARTED = { report_executions: 'started_at', audit_logs: 'timestamp' }
const months = async (table: string) =>
  (
    await db.query<{ name: string }>('select inhrelid::regclass::text as name from pg_inherits where inhparent = $1::regclass order by 1', [
      `reporting.${table}`,
    ])
  ).map(row => row.name)

for (const [table, wanted] of Object.entries(COLUMNS)) {
  test(`${table} has every column of the document, with its type, null rule and default, in its order`, async () => {
    expect(await columnsOf(table)).toEqual(wanted)
  })
}

test.each(Object.entries(DIAGRAM))('%s, which only the diagram names, is there and belongs where it says', async (table, wanted) => {
  expect(await columnsOf(table)).toEqual(expect.arrayContaining(wanted))
})

test('every key and reference of the document is there, under its name, and no other', async () => {
  const rows = await db.query<{ name: string; definition: string; validated: boolean }>(
    `select format('%s %s', c.relname, k.conname) as name, pg_get_constraintdef(k.oid) as definition, k.convalidated as validated
     from pg_constraint k join pg_class c on c.oid = k.conrelid
     -- A reference to a partitioned table has one to each of its months as well.
     where c.relnamespace = 'reporting'::regnamespace and not c.relispartition and k.contype in ('p', 'u', 'f') and k.conparentid = 0`,
  )
  expect(Object.fromEntries(rows.map(row => [row.name, row.definition]))).toEqual(KEYS)
  expect(rows.filter(row => !row.validated)).toEqual([])
})

test('every check of the document is there, under its name, and no other', async () => {
  const rows = await db.query<{ relation: string; names: string[] }>(
    `select c.relname as relation, array_agg(k.conname::text order by k.conname) as names from pg_constraint k join pg_class c on c.oid = k.conrelid
     where c.relnamespace = 'reporting'::regnamespace and not c.relispartition and k.contype = 'c' and k.convalidated group by 1`,
  )
  expect(Object.fromEntries(rows.map(row => [row.relation, row.names]))).toEqual(CHECKS)
})

const indexRows = () =>
  db.query<{ name: string; definition: string; valid: boolean; months: number }>(
    `select c.relname as name, i.indisvalid as valid, (select count(*) from pg_inherits where inhparent = i.indexrelid) as months,
       regexp_replace(regexp_replace(pg_get_indexdef(i.indexrelid), '^CREATE (UNIQUE )?INDEX \\S+ ON (ONLY )?reporting\\.(\\S+) USING (\\S+) (.*)$', '\\3 \\4 \\5'), '^(\\S+) btree', '\\1')
         || case when i.indisunique then ' unique' else '' end as definition
     from pg_index i join pg_class c on c.oid = i.indexrelid where c.relnamespace = 'reporting'::regnamespace and not c.relispartition`,
  )

test('every index of the document exists by its name, on its columns, valid, and on every month', async () => {
  const rows = await indexRows()
  expect(Object.fromEntries(rows.map(row => [row.name, row.definition]))).toMatchObject(INDEXES)
  expect(rows.filter(row => !row.valid)).toEqual([])
  for (const table of Object.keys(PARTED)) {
    const parts = (await months(table)).length
    for (const row of rows.filter(row => row.definition.startsWith(`${table} `))) expect([row.name, row.months]).toEqual([row.name, parts])
  }
})

test('no index stands twice on the same columns', async () => {
  const definitions = (await indexRows()).map(row => row.definition.replace(/ unique$/, ''))
  expect(definitions.filter((definition, place) => definitions.indexOf(definition) !== place)).toEqual([])
})

test('the triggers of the document are there by name, on rows, before each update', async () => {
  const rows = await db.query<{ name: string; definition: string; touches: boolean }>(
    `select tgname as name, substring(pg_get_triggerdef(t.oid) from '^(.*) EXECUTE') as definition, tgfoid = 'pawl.touch_updated_at()'::regprocedure as touches
     from pg_trigger t join pg_class c on c.oid = tgrelid where c.relnamespace = 'reporting'::regnamespace and not tgisinternal and tgenabled = 'O' order by 1`,
  )
  // Others may stand beside them, for what the engine does.
  expect(rows.filter(row => row.touches)).toEqual(
    TRIGGERS.map(name => ({ name, definition: `CREATE TRIGGER ${name} BEFORE UPDATE ON reporting.${name.slice(7, -11)} FOR EACH ROW`, touches: true })),
  )
})

for (const [table, key] of Object.entries(PARTED)) {
  test(`${table} has the month of the document, today's and three ahead, and asking again brings back a lost one`, async () => {
    const wanted = (
      await db.query<{ name: string }>(
        `select 'reporting.${table}_y' || to_char(date_trunc('month', now() at time zone 'UTC') + n * interval '1 month', 'YYYY"m"MM') as name from generate_series(0, 3) n order by 1`,
      )
    ).map(row => row.name)
    expect(await months(table)).toEqual([`reporting.${table}_y2024m01`, ...wanted])
    // Detached first: execution_logs refers to each month.
    await db.query(`alter table reporting.${table} detach partition ${wanted[3]}; drop table ${wanted[3]}`)
    await db.query('select reporting.maintain_partitions(), reporting.maintain_partitions()')
    expect(await months(table)).toEqual([`reporting.${table}_y2024m01`, ...wanted])
  })

  test(`a row of ${table} lands in its month, also at both its edges, and one without a month fails by name`, async () => {
    const rows = reportingRows(db.query)
    const { organizationId, userId, reportId } = await rows.tenant()
    const insert = (at: string) =>
      table === 'audit_logs' ? rows.audit(organizationId, userId, { [key]: at }) : rows.execution(reportId, userId, { [key]: at })
    const first = await insert('2024-01-01T00:00:00Z')
    const last = await insert('2024-01-31T23:59:59.999Z')
    expect(await db.query(`select id from reporting.${table}_y2024m01 order by "${key}"`)).toEqual([{ id: first.id }, { id: last.id }])
    const now = await insert(new Date().toISOString())
    const [where] = await db.query<{ part: string; month: string }>(
      `select tableoid::regclass::text as part, to_char("${key}" at time zone 'UTC', 'YYYY"m"MM') as month from reporting.${table} where id = $1`,
      [now.id],
    )
    expect(where?.part).toBe(`reporting.${table}_y${where?.month}`)
    for (const at of ['2024-02-01T00:00:00Z', '2023-12-31T23:59:59.999Z'])
      await expect(insert(at)).rejects.toMatchObject({ code: '23514', message: `no partition of relation "${table}" found for row` })
  })
}

test('the tables that drizzle knows have the columns, types, null rules, checks, keys and indexes of the database', async () => {
  const tables = [...Object.values(reporting), ...Object.values(executions)].flatMap((value: unknown) => (is(value, PgTable) ? [value] : []))
  expect(tables.map(table => getTableConfig(table).name).toSorted()).toEqual([...Object.keys(COLUMNS), ...Object.keys(DIAGRAM)].toSorted())
  for (const table of tables) {
    const { name, columns, checks, uniqueConstraints, indexes } = getTableConfig(table)
    const stand = await db.query<{ name: string; type: string; required: boolean; filled: boolean }>(
      `select attname as name, format_type(atttypid, atttypmod) as type, attnotnull as required, atthasdef or attidentity <> '' as filled from pg_attribute
       where attrelid = ('reporting.' || $1)::regclass and attnum > 0 and not attisdropped order by attname collate "C"`,
      [name],
    )
    const said = columns.map(column => ({
      name: column.name,
      type: column
        .getSQLType()
        .replace(/^varchar/, 'character varying')
        .replace(/^timestamp \((\d)\)$/, 'timestamp($1) without time zone'),
      required: column.notNull,
      filled: column.hasDefault || column.generatedIdentity !== undefined,
    }))
    expect([name, said.toSorted((a, b) => (a.name < b.name ? -1 : 1))]).toEqual([name, stand])
    const [there] = await db.query<{ checks: string[] | null; indexes: string[] }>(
      `select (select array_agg(conname::text order by conname::text collate "C") from pg_constraint where conrelid = t.oid and contype = 'c') as checks,
         (select array_agg(relname::text order by relname::text collate "C") from pg_index join pg_class c on c.oid = indexrelid where indrelid = t.oid and not indisprimary) as indexes
       from (select ('reporting.' || $1)::regclass as oid) t`,
      [name],
    )
    const named = [...uniqueConstraints.map(key => key.name ?? ''), ...indexes.map(one => one.config.name ?? '')]
    expect([name, checks.map(one => one.name).toSorted(), named.toSorted()]).toEqual([name, there?.checks ?? [], there?.indexes])
  }
})
