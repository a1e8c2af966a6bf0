import { expect, test } from 'vitest'
import type { Block, Column, Head, Row } from '../../workers/reports/document.ts'
import { html } from '../../workers/reports/formats/html.ts'
import { browserMissing, cellsOf, domOf, printed, unescaped } from '../support/browser.ts'
import { pagesOf, popplerMissing } from '../support/pdf.ts'

const column = (name: string, kind: Column['kind']): Column => ({ name, label: name, kind })
const hostile = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>&amp;]]>--></table></svg></style>`
const table: Block = { kind: 'table', title: `Orders ${hostile}`, columns: [column(hostile, 'text'), column('amount', 'number'), column('paid', 'boolean')] }
const metric: Block = { kind: 'metric', title: null, columns: [column('total', 'number'), column('none', 'number')] }
const chart: Block = {
  kind: 'chart',
  title: hostile,
  columns: [column('x', 'text'), column(hostile, 'number'), column('two', 'number')],
  chart: { kind: 'bar', x: 0, series: [1, 2], stacked: false },
}
const text: Block = { kind: 'text', title: 'Words', text: `First ${hostile}\n\nSecond` }

function headOf(blocks: Block[]): Head {
  const parameters = [{ label: hostile, value: hostile }]
  return { title: `Title ${hostile}`, description: hostile, organization: hostile, generatedAt: '2026-01-02T03:04:05.678Z', parameters, blocks }
}

type Part = { block: Block; rows: Row[] }

async function pageOf(parts: Part[]): Promise<{ page: string; writes: string[] }> {
  const writes: string[] = []
  const writer = await html.open(headOf(parts.map(part => part.block)), async bytes => void writes.push(bytes.toString()))
  for (const { block, rows } of parts) {
    await writer.begin(block)
    if (rows.length > 0) await writer.rows(rows)
    await writer.end()
  }
  await writer.finish()
  return { page: writes.join(''), writes }
}

const rows: Row[] = [
  [hostile, '1234567.8900', 't'],
  ['two\nlines\twith  spaces\r\nand more', '-0.1', 'f'],
  [null, null, null],
  ['', 'NaN', 't'],
  ['äЖΩ€漢字🙂\u00a0\u0001 &nbsp; &lt;', '2026', 'f'],
]
const shown = [
  [hostile, '1,234,567.8900', 'true'],
  ['two\nlines\twith  spaces\r\nand more', '-0.1', 'false'],
  ['', '', ''],
  ['', 'NaN', 'true'],
  ['äЖΩ€漢字🙂\u00a0\u0001 &nbsp; &lt;', '2026', 'false'],
]

test.skipIf(browserMissing())('a browser holds each cell as it was, and takes no data for an element', async () => {
  const { page } = await pageOf([
    { block: text, rows: [] },
    { block: metric, rows: [['98765.40', null]] },
    { block: table, rows },
  ])
  const dom = await domOf(page)
  expect(cellsOf(dom)).toEqual(shown)
  expect(dom).not.toMatch(/<(script|img|iframe|object|link|base|form)[\s>]/i)
  expect(dom).not.toMatch(/<[^>]*\s(src|href|onerror)=/i)
  const textsOf = (element: string) => [...dom.matchAll(new RegExp(`<${element}[^>]*>([^<]*)</${element}>`, 'g'))].map(([, found = '']) => unescaped(found))
  expect(textsOf('title')).toEqual([`Title ${hostile}`])
  expect(textsOf('h1')).toEqual([`Title ${hostile}`])
  expect(textsOf('h2')).toEqual(['Words', `Orders ${hostile}`])
  expect(textsOf('th')).toEqual([hostile, 'amount', 'paid'])
  expect(textsOf('dt')).toEqual([hostile, 'total', 'none'])
  expect(textsOf('dd')).toEqual([hostile, '98,765.40', '–'])
  expect(textsOf('time')).toEqual(['2026-01-02 03:04 UTC'])
  expect(textsOf('p')).toEqual(expect.arrayContaining([hostile, `First ${hostile}`, 'Second', '5 rows']))
})

test.skipIf(browserMissing())('a browser holds a chart as a picture with a name, its bars, and its values in a table', async () => {
  const { page } = await pageOf([
    {
      block: chart,
      rows: [
        [hostile, '10000', '2'],
        ['b', '3', null],
      ],
    },
  ])
  const dom = await domOf(page)
  expect(dom.match(/<rect [^>]*><title>/g)).toHaveLength(3)
  expect(unescaped(/<svg [^>]*role="img"[^>]*><title>([^<]*)<\/title>/.exec(dom)?.[1] ?? '')).toBe(hostile)
  expect(dom).not.toMatch(/<(script|img)[\s>]/i)
  expect(cellsOf(dom)).toEqual([
    [hostile, '10,000', '2'],
    ['b', '3', ''],
  ])
})

test.skipIf(browserMissing() || popplerMissing())('on paper the head of a table is on each page and no row is missing', async () => {
  const many = Array.from({ length: 200 }, (_, place): Row => [`row number ${place}`, String(place), 't'])
  const { page } = await pageOf([
    { block: { ...table, title: 'Many', columns: [column('what', 'text'), column('amount', 'number'), column('paid', 'boolean')] }, rows: many },
  ])
  const pages = pagesOf(await printed(page))
  expect(pages.length).toBeGreaterThan(2)
  for (const one of pages) expect(one).toMatch(/what +amount +paid/)
  expect(pages.flatMap(one => [...one.matchAll(/row number (\d+)/g)].map(([, place]) => Number(place)))).toEqual([...many.keys()])
})

test('a page that is gone on with at any row is the page that would have been written at once', async () => {
  const parts: Part[] = [
    { block: metric, rows: [['1', '2']] },
    { block: table, rows },
    { block: chart, rows: [['a', '1', '2']] },
  ]
  const whole = await pageOf(parts)
  for (let kept = 0; kept <= rows.length; kept++) {
    let page = ''
    const head = headOf(parts.map(part => part.block))
    const sink = async (bytes: Uint8Array | string) => void (page += bytes.toString())
    const first = await html.open(head, sink)
    await first.begin(metric)
    await first.rows([['1', '2']])
    await first.end()
    await first.begin(table)
    await first.rows(rows.slice(0, kept))
    const second = await html.open(head, sink, { block: 1, rows: kept })
    await second.rows(rows.slice(kept))
    await second.end()
    await second.begin(chart)
    await second.rows([['a', '1', '2']])
    await second.end()
    await second.finish()
    expect(page).toBe(whole.page)
  }
})

test('rows are in the sink when they have been taken, in pieces of bounded size', async () => {
  const many = Array.from({ length: 20_000 }, (_, place): Row => [`row ${place} `.repeat(5), String(place), 't'])
  const { page, writes } = await pageOf([{ block: table, rows: many }])
  expect(page.match(/<tr><td>/g)).toHaveLength(20_000)
  expect(page).toContain('>20,000 rows<')
  expect(Math.max(...writes.map(write => write.length))).toBeLessThan(70_000)
  expect(writes.length).toBeLessThan(page.length / 50_000)
})

test('a page allows no script and fetches nothing', async () => {
  const { page } = await pageOf([
    { block: chart, rows: [['a', '1', '2']] },
    { block: table, rows },
  ])
  expect(page).toMatch(
    /^<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">/,
  )
  expect(page).not.toMatch(/<(script|link|img|iframe)|url\(|@import|\shref=/i)
})
