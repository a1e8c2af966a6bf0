import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { blocksOf, expectFailed, expectFailure, left } from '../support/report-attack.ts'
import { addReport, addSales, fileOf, openReportStage, readExecution, type ReportStage } from '../support/reports.ts'

const ROWS = 5_001
let stage: ReportStage

beforeAll(async () => {
  stage = await openReportStage()
  await addSales(stage.query, ROWS)
  await stage.query('create view public.sales_view as select * from public.sales; grant select on public.sales_view to pawl_report')
  await stage.query(
    `create view public.slow as select s.id, pg_sleep(20)::text as nap from generate_series(1, 2) s (id); grant select on public.slow to pawl_report`,
  )
  await stage.query(
    `create table public.wide (id bigint primary key, n integer); insert into public.wide select i, i from generate_series(1, 100001) i; grant select on public.wide to pawl_report`,
  )
})
afterAll(() => stage.end())

const setLimits = (report: string, limits: Record<string, number>) =>
  stage.query('update reporting.reports set configuration = $2 where id = $1', [report, JSON.stringify({ limits })])

/** Takes a failed execution up again; it has to complete, and its file to be the only new one. */
async function completesAfter(id: string, report: string, limits: Record<string, number>) {
  const before = await stage.files()
  await setLimits(report, limits)
  expect(await stage.query('select pawl.retry($1) as again', [id])).toEqual([{ again: true }])
  expect(await stage.work()).toEqual(['completed'])
  const execution = await readExecution(stage.query, id)
  expect(execution).toMatchObject({ status: 'completed', error_message: null })
  expect((await left(stage)).filter(file => !before.includes(file))).toEqual([execution.metadata.key])
  return execution
}

describe('rows', () => {
  test.each([
    ['of a table, by pages', { source: 'public.sales', columns: ['id'] }, 'tabular', 'csv'],
    ['of a table, as json', { source: 'public.sales', columns: ['id'] }, 'tabular', 'json'],
    ['of a view, in one go', { source: 'public.sales_view', columns: ['id'] }, 'tabular', 'csv'],
    ['in another order', { source: 'public.sales', columns: ['id'], order_by: [{ column: 'id', direction: 'desc' }] }, 'tabular', 'html'],
    ['of groups', { source: 'public.sales', columns: ['id', { name: 'amount', aggregate: 'sum' }] }, 'tabular', 'excel'],
    [
      'of one part of several',
      {
        blocks: [
          { type: 'table', source: 'public.wide', columns: ['id'], limit: 1 },
          { type: 'table', source: 'public.sales', columns: ['id'] },
        ],
      },
      'dashboard',
      'csv',
    ],
  ])('%s: as many as allowed pass, one more fails, and a higher limit lets it complete', async (_what, structure, type, format) => {
    const parts = { type, structure, configuration: { limits: { rows: ROWS - 1 } } }
    const { id, report } = await expectFailure(stage, parts, new RegExp(`has more than ${ROWS - 1} rows$`), { format })
    const execution = await completesAfter(id, report, { rows: ROWS })
    expect(execution.metadata.rows).toBe(type === 'dashboard' ? ROWS + 1 : ROWS)
  })

  test('over several pages', async () => {
    const parts = { structure: { source: 'public.wide', columns: ['n'] }, configuration: { limits: { rows: 100_000 } } }
    const { id, report } = await expectFailure(stage, parts, /has more than 100000 rows$/)
    const execution = await completesAfter(id, report, { rows: 100_001 })
    expect((await fileOf(execution)).toString().split('\n').length).toBe(100_003)
  })

  test('that the template itself leaves out do not count', async () => {
    const structure = { source: 'public.sales_view', columns: ['id'], limit: 10 }
    const execution = await stage.run(await addReport(stage.query, stage.people, { structure, configuration: { limits: { rows: 10 } } }))
    expect(execution.metadata.rows).toBe(10)
    await expectFailure(stage, { structure, configuration: { limits: { rows: 9 } } }, /has more than 9 rows$/)
  })

  test('of a chart end at 5000 points, whatever the report allows', async () => {
    const chart = { source: 'public.sales', columns: ['id', 'amount'], chart: { kind: 'line', x: 'id', y: 'amount' } }
    const filters = [{ column: 'id', operator: '<', value: ROWS }]
    for (const format of ['json', 'html', 'csv']) {
      const execution = await stage.run(await addReport(stage.query, stage.people, { type: 'chart', structure: { ...chart, filters } }), format)
      expect(execution).toMatchObject({ status: 'completed', metadata: { rows: 5_000 } })
      await expectFailure(stage, { type: 'chart', structure: chart, configuration: { limits: { rows: 1_000_000 } } }, /has more than 5000 rows$/, { format })
    }
    await expectFailure(stage, { type: 'chart', structure: { ...chart, filters }, configuration: { limits: { rows: 4_999 } } }, /has more than 4999 rows$/)
  })
})

test.each(['csv', 'json', 'html', 'excel', 'pdf'])('bytes of %s: a file as large as allowed passes, one byte more fails', async format => {
  const structure = { source: 'public.sales', columns: ['id', 'region', 'note'], filters: [{ column: 'id', operator: '<=', value: 200 }] }
  // A zip's and a PDF's bytes depend on the time of day they tell: those of csv are always the same.
  const name = 'Bytes'
  const report = await addReport(stage.query, stage.people, { name: `${name} ${format}`, structure })
  const bytes = Number((await stage.run(report, format)).result_size_bytes)
  await stage.query('update reporting.reports set status = $2 where id = $1', [report, 'draft'])
  const slack = format === 'csv' ? 1 : 60
  await setLimits(report, { bytes: bytes - slack })
  const before = await stage.files()
  const id = await stage.ask(report, format)
  expect(await stage.work()).toEqual(['failed'])
  await expectFailed(stage, id, new RegExp(`the report's file has more than ${bytes - slack} bytes$`))
  expect(await left(stage)).toEqual(before)
  const execution = await completesAfter(id, report, { bytes: format === 'csv' ? bytes : bytes + 60 })
  expect((await fileOf(execution)).length).toBe(execution.result_size_bytes)
})

describe('seconds', () => {
  test('a statement that takes longer is broken off by the server and fails for good, with the limit named', async () => {
    for (const structure of [
      { source: 'public.slow', columns: ['nap'] },
      { source: 'public.slow', columns: ['nap'], key: ['id'] },
    ]) {
      const begun = systemClock.elapsed()
      const message = /^the server broke off reading public\.slow: .*statement timeout \(the limit of a statement is 1 s\)$/
      await expectFailure(stage, { structure, configuration: { limits: { seconds: 1 } } }, message)
      expect(systemClock.elapsed() - begun).toBeLessThan(10_000)
    }
    const still = await stage.query(`select query from pg_stat_activity where datname = current_database() and state = 'active' and query like 'copy%'`)
    expect(still).toEqual([])
  })

  test('the limit is of each statement, not of them all, and a higher one lets it complete', async () => {
    await stage.query(
      `create view public.nap as select s.id, pg_sleep(0.7)::text as nap from generate_series(1, 1) s (id); grant select on public.nap to pawl_report`,
    )
    const table = { type: 'table', source: 'public.nap', columns: ['nap'] }
    const structure = { blocks: [table, table] }
    const passing = await addReport(stage.query, stage.people, { type: 'dashboard', structure, configuration: { limits: { seconds: 1 } } })
    expect((await stage.run(passing)).status).toBe('completed')
    await stage.query('create or replace view public.nap as select s.id, pg_sleep(1.4)::text as nap from generate_series(1, 1) s (id)')
    const { id, report } = await expectFailure(
      stage,
      { type: 'dashboard', structure, configuration: { limits: { seconds: 1 } } },
      /the limit of a statement is 1 s/,
    )
    await completesAfter(id, report, { seconds: 30 })
  })
})

test('what a report does not limit is as its template has it, and what neither does is the default', async () => {
  const structure = { source: 'public.sales', columns: ['id'] }
  const report = await addReport(stage.query, stage.people, { structure, configuration: { limits: { seconds: 30 } } })
  const set = (limits: Record<string, number>) =>
    stage.query('update reporting.templates set configuration = $2 where id = (select template_id from reporting.reports where id = $1)', [
      report,
      JSON.stringify({ limits }),
    ])
  await set({ rows: 100 })
  expect((await stage.run(report)).error_message).toMatch(/more than 100 rows$/)
  await set({ bytes: 100 })
  expect((await stage.run(report)).error_message).toMatch(/more than 100 bytes$/)
  await setLimits(report, { rows: ROWS, bytes: 1_000_000 })
  expect((await stage.run(report)).status).toBe('completed')
})

test('a table whose key is called like a column of a statement of ours is read in its key’s order, page by page', async () => {
  // 100,000 comes before 2 as text: ordered by its text, pages would lose rows.
  await stage.query(
    `create table public.keyed (key integer primary key, n integer); insert into public.keyed select i, -i from generate_series(1, 120000) i; grant select on public.keyed to pawl_report`,
  )
  const structure = {
    source: 'public.keyed',
    columns: [
      { name: 'n', as: 'key' },
      { name: 'key', as: 'n' },
    ],
  }
  const execution = await stage.run(await addReport(stage.query, stage.people, { structure }), 'json')
  const rows = (await blocksOf(execution))[0]?.rows ?? []
  expect(rows.length).toBe(120_000)
  expect(rows.findIndex((row, place) => row.n !== place + 1 || row.key !== -(place + 1))).toBe(-1)
})
