import { afterAll, beforeAll, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect, type DirectConnection } from '../../src/database.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { AGGREGATION, PAGE, PROCESSING } from './document-001-printed.ts'
import { until } from '../support/until.ts'
import { type Rows, reportingRows } from './document-001-rows.ts'

let db: TestDatabase
let rows: Rows
/** A session that finds the tables by their bare names, as the document writes them, and has its queries prepared. */
let reader: DirectConnection
let tenant: Awaited<ReturnType<Rows['tenant']>>
let busy: string

const REPORTS = 50
const MONTHS = `select inhrelid from pg_inherits where inhparent = 'reporting.report_executions'::regclass`
const at = (minute: number) => new Date(Date.UTC(2026, 0, 1, 0, minute))

beforeAll(async () => {
  db = await createDatabase()
  rows = reportingRows(db.query)
  tenant = await rows.tenant()
  const { organizationId, userId, templateId, reportId } = tenant
  await db.query('update reporting.reports set created_at = $1 where id = $2', [at(-1), reportId])
  // Fifty more of this organization, a minute apart, and two hundred each of forty others in the same time.
  await db.query(
    `insert into reporting.reports (name, template_id, organization_id, created_by, created_at, parameters)
     select 'Number ' || n, $1, $2, $3, timestamptz '2026-01-01 00:00Z' + n * interval '1 minute', jsonb_build_object('region', 'R' || n % 5, 'of', jsonb_build_object('n', n))
     from generate_series(0, $4 - 1) n`,
    [templateId, organizationId, userId, REPORTS],
  )
  const other = await rows.tenant()
  busy = (await rows.template(other.organizationId, other.userId)).id
  await db.query(
    `with organization as (insert into reporting.organizations (name, slug) select 'Filler ' || n, 'filler-' || n from generate_series(1, 40) n returning id)
     insert into reporting.reports (name, template_id, organization_id, created_by, created_at, status)
     select 'Filler', $1, id, $2, timestamptz '2026-01-01 00:00Z' + n * interval '15 seconds', 'completed' from organization, generate_series(1, 200) n`,
    [busy, other.userId],
  )
  await db.query(
    `select pawl.ensure_month_partition('reporting.report_executions'::regclass, (now() - n * interval '1 month')::date) from generate_series(1, 3) n`,
  )
  // Of the last 30 days: 4 completed in 100 to 400 ms, 2 failed in 50 ms, one that runs; before them what must not count.
  await db.query(
    `insert into reporting.report_executions (report_id, executed_by, status, started_at, execution_time_ms)
     select $1, $2, status, now() - age::interval, ms
     from (values ('completed', '1 hour', 100), ('completed', '5 days', 200), ('completed', '20 days', 300), ('completed', '29 days 23 hours', 400),
       ('failed', '2 days', 50), ('failed', '3 days', 50), ('running', '1 minute', null), ('completed', '30 days 1 minute', 9999), ('cancelled', '60 days', 1)) v (status, age, ms)`,
    [reportId, userId],
  )
  // And many more, with much in each row that the question doesn't ask for: 20,000 cancelled in 7 ms, and as many that are too old.
  await db.query(
    `insert into reporting.report_executions (report_id, executed_by, status, started_at, execution_time_ms, metadata)
     select $1, $2, 'cancelled', now() - interval '1 hour' - n * interval '2 minutes', 7, jsonb_build_object('of', repeat('x', 400)) from generate_series(1, 40000) n
     where n <= 20000 or n > 21600`,
    [reportId, userId],
  )
  await db.query('vacuum analyze reporting.reports')
  // A vacuum marks the pages that an index-only scan need not visit, but only those older than every snapshot at that moment.
  await until('every page is known to be visible to all', async () => {
    await db.query('vacuum analyze reporting.report_executions')
    return (await db.query(`select from pg_class where oid in (${MONTHS}) and relallvisible < relpages`)).length === 0
  })
  reader = await connectDirect(readConfig({ DATABASE_URL: db.url }), 'document 001')
  await reader.query('set search_path = reporting')
  await reader.query(`prepare page as ${PAGE}`)
  await reader.query(`prepare aggregation as ${AGGREGATION}`)
  await reader.query(`prepare processing as ${PROCESSING}`)
})

afterAll(async () => {
  await reader.close()
  await db.drop()
})

const plan = async (statement: string) => {
  const lines = await reader.query<Record<string, string>>(`explain (costs off) ${statement}`)
  return lines.map(line => line['QUERY PLAN']).join('\n')
}
const page = (organization: string, cursor: Date) =>
  reader.query<{ id: string; name: string; created_at: Date }>(`execute page ('${organization}', '${cursor.toISOString()}')`)

test('pages of twenty, the newest first, each going on where the last one ended, until all were seen once', async () => {
  const seen: string[] = []
  const sizes: number[] = []
  let cursor = at(REPORTS)
  for (;;) {
    const next = await page(tenant.organizationId, cursor)
    if (next.length === 0) break
    sizes.push(next.length)
    seen.push(...next.map(row => row.name))
    cursor = next.at(-1)?.created_at ?? at(0)
  }
  expect(sizes).toEqual([20, 20, 11])
  expect(seen.slice(0, REPORTS)).toEqual(Array.from({ length: REPORTS }, (_, n) => `Number ${REPORTS - 1 - n}`))
  expect(seen[REPORTS]).toMatch(/^Report \d+$/)
})

test('the query of a page, as printed, takes its values from the client as well', async () => {
  const found = await reader.query<{ name: string }>(PAGE, [tenant.organizationId, at(2)])
  expect(found.map(row => row.name).slice(0, 2)).toEqual(['Number 1', 'Number 0'])
})

test('a page is read from an index in its order: nothing is sorted, nothing is read in vain', async () => {
  const found = await plan(`execute page ('${tenant.organizationId}', '2026-01-01 00:30Z')`)
  expect(found).toContain('Index Scan using idx_reports_org_created on reports')
  expect(found).not.toMatch(/Sort|Filter/)
})

test('executions of the last 30 days: how many and how long, by status', async () => {
  const found = await reader.query<{ status: string; count: number; avg_execution_time: string | null }>('execute aggregation')
  const figures = found.map(row => ({ ...row, avg_execution_time: row.avg_execution_time === null ? null : Number(row.avg_execution_time) }))
  expect(figures.toSorted((a, b) => (a.status < b.status ? -1 : 1))).toEqual([
    { status: 'cancelled', count: 20_000, avg_execution_time: 7 },
    { status: 'completed', count: 4, avg_execution_time: 250 },
    { status: 'failed', count: 2, avg_execution_time: 50 },
    { status: 'running', count: 1, avg_execution_time: null },
  ])
})

test('the aggregation reads the covering index alone where there is much to read, and no month before its own', async () => {
  // A month of a few rows is read whole, by whatever is at hand.
  const big = await db.query<{ part: string; wanted: boolean }>(
    `select c.relname as part, bool_or(e.started_at >= now() - interval '30 days') as wanted
     from reporting.report_executions e join pg_class c on c.oid = e.tableoid group by 1 having count(*) > 2000`,
  )
  const found = await plan('execute aggregation')
  const wanted = big.filter(month => month.wanted).map(month => month.part)
  expect(wanted.length).toBeGreaterThan(0)
  for (const part of wanted) expect(found).toMatch(new RegExp(`Index Only Scan using ${part}_started_at_\\w+ on ${part} `))
  for (const month of big.filter(month => !month.wanted)) expect(found).not.toContain(month.part)
  expect(found).not.toContain('y2024m01')
})

test('whether a template has a report in process: yes, no longer, and never', async () => {
  const has = async (template: string) => (await reader.query(`execute processing ('${template}')`))[0]?.has_processing_reports
  expect(await has(tenant.templateId)).toBe(false)
  await db.query(`update reporting.reports set status = 'processing' where id = $1`, [tenant.reportId])
  expect(await has(tenant.templateId)).toBe(true)
  expect(await has(busy)).toBe(false)
  await db.query(`update reporting.reports set status = 'completed' where id = $1`, [tenant.reportId])
  expect(await has(tenant.templateId)).toBe(false)
  expect(await reader.query(PROCESSING, [busy])).toEqual([{ has_processing_reports: false }])
})

test('the check for existence goes by an index, and never over the table', async () => {
  const found = await plan(`execute processing ('${busy}')`)
  expect(found).toMatch(/Index (Only )?Scan (using|on) idx_reports_(status|template_id)/)
  expect(found).not.toContain('Seq Scan')
})

test('parameters are searched by what they contain, also within, by the GIN index', async () => {
  const search = (json: string) => `select name from reports where parameters @> '${json}' order by created_at`
  expect((await reader.query(search('{"region": "R3"}'))).map(row => row.name)).toEqual(Array.from({ length: 10 }, (_, n) => `Number ${n * 5 + 3}`))
  expect(await reader.query(search('{"of": {"n": 7}}'))).toEqual([{ name: 'Number 7' }])
  await reader.query('begin; set local enable_seqscan = off')
  expect(await plan(`select name from reports where parameters @> '{"of": {"n": 7}}'`)).toContain('Bitmap Index Scan on idx_reports_parameters_gin')
  await reader.query('rollback')
})

test("an organization's active templates are found by the partial index", async () => {
  await reader.query('begin; set local enable_seqscan = off; set local enable_bitmapscan = off')
  expect(await plan(`select name from templates where organization_id = '${tenant.organizationId}' and is_active = true order by name`)).toContain(
    'Scan using idx_templates_active_org',
  )
  await reader.query('rollback')
})

test('reports of one state, the newest first, are read in order from the composite index', async () => {
  await reader.query('begin; set local enable_seqscan = off; set local enable_bitmapscan = off')
  const found = await plan(`select name from reports where organization_id = '${tenant.organizationId}' and status = 'draft' order by created_at desc`)
  expect(found).toContain('Index Scan using idx_reports_org_status_created on reports')
  expect(found).not.toContain('Sort')
  await reader.query('rollback')
})
