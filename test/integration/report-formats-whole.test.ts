import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { browserMissing, cellsOf, domOf, unescaped } from '../support/browser.ts'
import { readCsv } from '../support/csv.ts'
import { sheetsIn } from '../support/excel.ts'
import { pagesOf, popplerMissing } from '../support/pdf.ts'
import { addReport, fileOf, openReportStage, type ReportStage } from '../support/reports.ts'

let stage: ReportStage
const reports = new Map<string, string>()

const columns = ['id', { name: 'region', label: 'Region' }, { name: 'amount', label: 'Amount' }, 'placed_on', 'paid', { name: 'note', label: 'Note' }]
const grouped = [
  { name: 'region', label: 'Region' },
  { name: 'amount', aggregate: 'sum', as: 'revenue', label: 'Revenue' },
]
const filters = [{ column: 'id', operator: '<=', parameter: 'most' }]
const table = { source: 'orders', columns, filters }
const chart = { source: 'orders', columns: [...grouped, { name: 'id', hidden: true }], filters, chart: { kind: 'bar', x: 'region', y: 'revenue' } }
const metric = {
  source: 'orders',
  columns: [
    { name: 'id', aggregate: 'count', as: 'orders', label: 'Orders' },
    { ...(grouped[1] as object), label: 'Altogether' },
  ],
  filters: filters.map(filter => filter),
}
const structures = {
  tabular: table,
  chart,
  dashboard: {
    blocks: [
      { type: 'metric', title: 'Sums', ...metric },
      { type: 'chart', title: 'By region', ...chart },
      { type: 'table', title: 'Orders', ...table },
    ],
  },
  custom: {
    blocks: [
      { type: 'text', title: 'Dear board', text: 'The first {{most}} orders.\n\nAll {{of}} them.' },
      { type: 'table', title: 'Orders', ...table },
      { type: 'chart', title: 'By region', ...chart },
    ],
  },
}

/** What the rows are, as a person would write them down. */
type Cell = string | number | boolean | null
const rows: Cell[][] = [
  [1, 'EU', 10.5, '2026-01-31', true, '=1+1'],
  [2, 'US', 1234567.25, '2026-02-28', false, 'a "quoted", text'],
  [3, 'EU', -2, '2026-03-31', true, 'two\nlines'],
  [4, 'Ωmega', 0.01, '2026-12-31', true, 'grüße €'],
  [5, 'US', 7, '2024-02-29', false, '<b>&amp;</b>'],
  [6, 'EU', null, null, null, null],
]
const sums: Cell[][] = [
  ['EU', 8.5],
  ['US', 1234574.25],
  ['Ωmega', 0.01],
]
const totals: Cell[][] = [[6, 1234582.76]]
type Part = { title: string; heads: string[]; rows: Cell[][]; kind: 'metric' | 'chart' | 'table' }
const parts = {
  table: { title: 'Orders', heads: ['id', 'Region', 'Amount', 'placed_on', 'paid', 'Note'], rows, kind: 'table' },
  chart: { title: 'By region', heads: ['Region', 'Revenue'], rows: sums, kind: 'chart' },
  metric: { title: 'Sums', heads: ['Orders', 'Altogether'], rows: totals, kind: 'metric' },
} satisfies Record<string, Part>
const wanted: Record<keyof typeof structures, Part[]> = {
  tabular: [parts.table],
  chart: [parts.chart],
  dashboard: [parts.metric, parts.chart, parts.table],
  custom: [parts.table, parts.chart],
}
const types = Object.keys(structures) as (keyof typeof structures)[]

beforeAll(async () => {
  stage = await openReportStage()
  await stage.query(`
    create table public.orders (id integer primary key, region text, amount numeric(12, 2), placed_on date, paid boolean, note text);
    insert into public.orders values
      (1, 'EU', 10.5, '2026-01-31', true, '=1+1'), (2, 'US', 1234567.25, '2026-02-28', false, 'a "quoted", text'), (3, 'EU', -2, '2026-03-31', true, E'two\\nlines'),
      (4, 'Ωmega', 0.01, '2026-12-31', true, 'grüße €'), (5, 'US', 7, '2024-02-29', false, '<b>&amp;</b>'), (6, 'EU', null, null, null, null), (7, 'EU', 99, null, null, null);
    grant select on public.orders to pawl_report`)
  for (const type of types) {
    const declared = { most: { type: 'integer', label: 'Most', default: 6 } }
    reports.set(type, await addReport(stage.query, stage.people, { name: `A ${type} report`, type, structure: structures[type], declared }))
  }
})
afterAll(() => stage.end())

async function made(type: string, format: string): Promise<Buffer> {
  const execution = await stage.run(reports.get(type) ?? '', format)
  expect(execution).toMatchObject({ status: 'completed', error_message: null })
  const file = await fileOf(execution)
  expect(file.length).toBe(execution.result_size_bytes)
  return file
}

const fixed = (cell: Cell, head: string) => (typeof cell === 'number' && /Amount|Revenue|Altogether/.test(head) ? cell.toFixed(2) : String(cell))
/** As people read them. */
const shown = (cell: Cell, head: string) =>
  cell === null ? '' : typeof cell === 'number' ? fixed(cell, head).replace(/\B(?=(\d{3})+(?!\d))(?<!\.\d*)/g, ',') : String(cell)

describe.each(types)('%s', type => {
  test('as csv', async () => {
    const found = readCsv((await made(type, 'csv')).toString())
    const several = wanted[type].length > 1
    const expected = wanted[type].flatMap(({ title, heads, rows }, place) => [
      ...(place > 0 ? [[null]] : []),
      ...(several ? [[title]] : []),
      heads,
      ...rows.map(row => row.map((cell, at) => (cell === null ? null : cell === '=1+1' ? `'=1+1` : fixed(cell, heads[at] ?? '')))),
    ])
    expect(found).toEqual(expected)
  })

  test('as json', async () => {
    const document = JSON.parse((await made(type, 'json')).toString()) as {
      title: string
      parameters: unknown
      blocks: { kind: string; title: string; text?: string; columns?: { label: string }[]; rows?: object[] }[]
    }
    expect(document).toMatchObject({ title: `A ${type} report`, organization: 'Own', parameters: [{ label: 'Most', value: '6' }] })
    const data = document.blocks.filter(block => block.kind !== 'text')
    expect(
      data.map(block => ({
        kind: block.kind,
        title: block.title,
        heads: block.columns?.map(column => column.label),
        rows: block.rows?.map(row => Object.values(row) as Cell[]),
      })),
    ).toEqual(wanted[type].length > 1 ? wanted[type] : wanted[type].map(part => ({ ...part, title: `A ${type} report` })))
    expect(document.blocks.filter(block => block.kind === 'text').map(block => block.text)).toEqual(
      type === 'custom' ? ['The first 6 orders.\n\nAll {{of}} them.'] : [],
    )
  })

  test('as excel', async () => {
    const sheets = await sheetsIn(await made(type, 'excel'))
    const days = (row: Cell[], heads: string[]) => row.map((cell, at) => (heads[at] === 'placed_on' && cell !== null ? new Date(String(cell)) : cell))
    const single = wanted[type].length === 1
    expect(sheets.map(({ sheet, data }) => ({ sheet, data }))).toEqual(
      wanted[type].map(({ title, heads, rows }) => ({ sheet: single ? `A ${type} report` : title, data: [heads, ...rows.map(row => days(row, heads))] })),
    )
  })

  test.skipIf(browserMissing())('as html, in a browser', async () => {
    const dom = await domOf((await made(type, 'html')).toString())
    const tables = wanted[type].filter(part => part.kind !== 'metric')
    expect(cellsOf(dom)).toEqual(tables.flatMap(({ heads, rows }) => rows.map(row => row.map((cell, at) => shown(cell, heads[at] ?? '')))))
    const cards = [...(/<dl class="cards">(.*?)<\/dl>/s.exec(dom)?.[1] ?? '').matchAll(/<dt>(.*?)<\/dt><dd[^>]*>(.*?)<\/dd>/gs)].map(([, label, figure]) => [
      label,
      figure,
    ])
    expect(cards).toEqual(
      type === 'dashboard'
        ? [
            ['Orders', '6'],
            ['Altogether', '1,234,582.76'],
          ]
        : [],
    )
    expect(dom.match(/<svg /g) ?? []).toHaveLength(type === 'tabular' ? 0 : 1)
    expect(unescaped(dom)).toContain(`A ${type} report`)
    if (type === 'custom') expect(dom).toContain('The first 6 orders.')
  })

  test.skipIf(popplerMissing())('as pdf', async () => {
    const text = pagesOf(await made(type, 'pdf')).join('\n')
    expect(text).toContain(`A ${type} report`)
    const flat = text.replaceAll(/\s+/g, ' ')
    for (const { title, heads, rows, kind } of wanted[type]) {
      if (wanted[type].length > 1) expect(text).toContain(title)
      for (const head of heads) expect(text).toContain(head)
      for (const row of rows) {
        // Of a chart, paper has the drawing: each place on its axis, and no figures.
        for (const [at, cell] of (kind === 'chart' ? row.slice(0, 1) : row).entries()) {
          expect(flat).toContain(shown(cell, heads[at] ?? '').replaceAll(/\s+/g, ' '))
        }
      }
    }
    if (type === 'custom') expect(flat).toContain('The first 6 orders. All {{of}} them.')
  })
})
