import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { executeSampleReports, loadReportSample } from '../../workers/reports/sample.ts'
import { reportWheel } from '../../workers/reports/wheel.ts'
import { browserMissing, cellsOf, domOf } from '../support/browser.ts'
import { readCsv } from '../support/csv.ts'
import { sheetsIn } from '../support/excel.ts'
import { pagesOf, popplerMissing } from '../support/pdf.ts'
import { silent } from '../support/postgres.ts'
import { type Execution, fileOf, openReportStage, type ReportStage } from '../support/reports.ts'
import { until } from '../support/until.ts'

let stage: ReportStage

beforeAll(async () => {
  stage = await openReportStage()
})
afterAll(() => stage.end())

describe('the sample', () => {
  let made: boolean[]
  const found = new Map<string, { execution: Execution; file: Buffer }>()

  beforeAll(async () => {
    await stage.query(`
      insert into sqp.weekly_summary (week_start, marketplace, asin, search_queries, impressions, clicks, cart_adds, purchases)
      values ('2026-01-05', 'US', 'B01', 3, 1000, 100, 20, 10), ('2026-01-12', 'US', 'B01', 4, 2000, 150, 30, 15), ('2026-01-12', 'DE', 'B02', 1, 500, 40, 9, 4), ('2023-12-25', 'US', 'B01', 1, 1, 1, 1, 1);
      insert into sqp.monthly_summary (month_start, marketplace, asin, search_queries, impressions, clicks, cart_adds, purchases) values ('2026-01-01', 'US', 'B01', 5, 3000, 250, 50, 25), ('2026-01-01', 'DE', 'B02', 1, 500, 40, 9, 4);
      insert into sqp.quarterly_summary (quarter_start, marketplace, asins, impressions, clicks, cart_adds, purchases) values ('2026-01-01', 'US', 1, 3000, 250, 50, 25), ('2026-01-01', 'DE', 1, 500, 40, 9, 4);
      insert into sqp.yearly_summary (year_start, marketplace, asins, impressions, clicks, cart_adds, purchases) values ('2026-01-01', 'US', 1, 3000, 250, 50, 25), ('2026-01-01', 'DE', 1, 500, 40, 9, 4);
      insert into sqp.search_performance_summary (marketplace, search_query, first_seen, last_seen, asins, impressions, clicks, cart_adds, purchases)
      values ('US', 'blue shoes', '2026-01-05', '2026-01-18', 1, 3000, 250, 50, 25), ('DE', 'blaue schuhe', '2026-01-12', '2026-01-18', 1, 500, 40, 9, 4)`)
    made = [await loadReportSample(stage.db), await loadReportSample(stage.db)]
    await executeSampleReports(stage.db)
    const wheel = reportWheel.start({ config: stage.options.config, db: stage.db, log: silent, clock: systemClock, lease: () => stage.lease.id })
    await until(
      'the scheduled one is started',
      async () => (await stage.query(`select from reporting.report_executions where output_format = 'pdf' and metadata ? 'scheduled_at'`)).length === 1,
    )
    await wheel.stop()
    await stage.work()
    const executions = await stage.query<Execution & { name: string }>(
      `select e.*, r.name from reporting.report_executions e join reporting.reports r on r.id = e.report_id join reporting.organizations o on o.id = r.organization_id where o.slug = 'acme-retail'`,
    )
    for (const execution of executions) found.set(execution.name, { execution, file: await fileOf(execution) })
  })
  const file = (name: string) => found.get(name)?.file ?? Buffer.alloc(0)

  test('is loaded once, and every report of it completes', () => {
    expect(made).toEqual([true, false])
    expect([...found.values()].map(({ execution }) => [execution.status, execution.error_message])).toEqual(
      Array.from({ length: 5 }, () => ['completed', null]),
    )
  })

  test('the weekly export, in csv', () => {
    expect(readCsv(file('Weekly export').toString())).toEqual([
      ['week_start', 'marketplace', 'asin', 'search_queries', 'impressions', 'clicks', 'cart_adds', 'purchases'],
      ['2026-01-05', 'US', 'B01', '3', '1000', '100', '20', '10'],
      ['2026-01-12', 'DE', 'B02', '1', '500', '40', '9', '4'],
      ['2026-01-12', 'US', 'B01', '4', '2000', '150', '30', '15'],
    ])
  })

  test('the clicks by month, in json', () => {
    expect(JSON.parse(file('Clicks by month').toString())).toMatchObject({
      organization: 'Acme Retail',
      blocks: [
        {
          kind: 'chart',
          chart: { kind: 'bar', x: 'month_start', series: ['clicks', 'purchases'] },
          rows: [{ month_start: '2026-01-01', clicks: 290, purchases: 29 }],
        },
      ],
    })
  })

  test('the best queries, in excel', async () => {
    const [sheet] = await sheetsIn(file('Best queries'))
    expect(sheet?.data.map(row => row.slice(0, 6))).toEqual([
      ['Search query', 'Marketplace', 'First seen', 'Impressions', 'Clicks', 'Purchases'],
      ['blue shoes', 'US', new Date('2026-01-05'), 3000, 250, 25],
      ['blaue schuhe', 'DE', new Date('2026-01-12'), 500, 40, 4],
    ])
  })

  test.skipIf(browserMissing())('the overview, in html', async () => {
    const dom = await domOf(file('Overview').toString())
    expect(cellsOf(dom)).toContainEqual(['2026-01-01', 'DE', '1', '500', '40', '4'])
    expect(dom).toMatch(/<dt>Impressions<\/dt><dd[^>]*>3500<\/dd>/)
    expect(dom.match(/<svg /g)).toHaveLength(1)
  })

  test.skipIf(popplerMissing())('the letter to the board, in pdf', () => {
    const text = pagesOf(file('Letter to the board')).join('\n')
    expect(text).toContain('To the board')
    expect(text).toContain('What shoppers searched for since 2024-01-01')
    expect(text).toMatch(/blue shoes +250 +25/)
    expect(text).toMatch(/blaue schuhe +40 +4/)
  })
})
