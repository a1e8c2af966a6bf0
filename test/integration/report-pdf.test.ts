import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import type { Block, Column, Head, Row } from '../../workers/reports/document.ts'
import { pdf } from '../../workers/reports/formats/pdf.ts'
import { coloursOf, infoOf, pagesOf, popplerMissing } from '../support/pdf.ts'

const column = (name: string, kind: Column['kind'] = 'text'): Column => ({ name, label: name, kind })
const missing = popplerMissing()

function headOf(blocks: Block[]): Head {
  return {
    title: 'Yearly sales — Übersicht (Ж)',
    description: 'What was sold',
    organization: 'Example',
    generatedAt: '2026-01-02T03:04:05.678Z',
    parameters: [{ label: 'Year', value: '2025' }],
    blocks,
  }
}

async function fileOf(parts: { block: Block; rows: Row[] }[], batch = 1000): Promise<Uint8Array> {
  const written: Uint8Array[] = []
  const writer = await pdf.open(headOf(parts.map(part => part.block)), async bytes => void written.push(Buffer.from(bytes)))
  for (const { block, rows } of parts) {
    await writer.begin(block)
    for (let from = 0; from < rows.length; from += batch) await writer.rows(rows.slice(from, from + batch))
    await writer.end()
  }
  await writer.finish()
  return Buffer.concat(written)
}

const orders: Block = { kind: 'table', title: 'Orders', columns: [column('order', 'number'), column('customer'), column('paid', 'boolean')] }

test.skipIf(missing).each([1, 64, 5000])('all rows of a table are in the file, in order, under a head on each page; %i rows at once', async batch => {
  const rows = Array.from({ length: 1000 }, (_, place): Row => [String(10_000 + place), `customer ${place}`, place % 2 === 0 ? 't' : 'f'])
  const file = await fileOf([{ block: orders, rows }], batch)
  const pages = pagesOf(file)
  expect(pages.length).toBeGreaterThan(15)
  const found = pages.flatMap((page, at) => {
    expect(page.match(/order +customer +paid/g)).toHaveLength(1)
    expect(page).toMatch(new RegExp(`Yearly sales — Übersicht \\(Ж\\) +Page ${at + 1}\\n`))
    return [...page.matchAll(/(\d\d,\d{3}) +(customer \d+) +(true|false)/g)].map(([, order, customer, paid]) => [order, customer, paid])
  })
  expect(found).toEqual(
    rows.map(([, customer], place) => [
      `${10 + Math.floor(place / 1000)},${String(place % 1000).padStart(3, '0')}`,
      customer,
      place % 2 === 0 ? 'true' : 'false',
    ]),
  )
  expect(pages.at(-1)).toContain('1000 rows')
})

test.skipIf(missing)('the file says what it is, when it was made and in which language', async () => {
  const file = await fileOf([{ block: { kind: 'text', title: 'Words', text: 'Some' }, rows: [] }])
  const info = infoOf(file)
  expect(info.get('Title')).toBe('Yearly sales — Übersicht (Ж)')
  expect(info.get('CreationDate')).toMatch(/^2026-01-02T03:04:05/)
  expect(info.get('Pages')).toBe('1')
  expect(info.get('Page size')).toMatch(/^595.28 x 841.89/)
  expect(Buffer.from(file).toString('latin1')).toContain('/Lang (en)')
  expect(pagesOf(file)[0]).toMatch(/What was sold\n+ *Example · 2026-01-02 03:04 UTC\n+ *Year: 2025\n/)
})

test.skipIf(missing)('a table of more than six columns lies on its side', async () => {
  const wide = (count: number): Block => ({ kind: 'table', title: null, columns: Array.from({ length: count }, (_, place) => column(`column ${place}`)) })
  expect(infoOf(await fileOf([{ block: wide(7), rows: [Array(7).fill('x')] }])).get('Page size')).toMatch(/^841.89 x 595.28/)
  expect(infoOf(await fileOf([{ block: wide(6), rows: [Array(6).fill('x')] }])).get('Page size')).toMatch(/^595.28 x 841.89/)
  // So many that none is legible: still a file.
  expect(infoOf(await fileOf([{ block: wide(120), rows: [Array(120).fill('much text')] }])).get('Pages')).toBe('1')
})

const samples = [
  'Ärger, façade, naïve, Łódź, Ğ, ő, ß',
  'Жизнь и Любовь, Україна',
  'Ωμέγα, Ελλάδα',
  '€ £ ¥ ₹ ½ ± × ≤ ∞ → “quotes” – —',
  'efficient office, ffi fl AV To',
  'Հայաստան',
  'e\u0301 combined',
  'parens ( ) \\ < > [ ] { } % /',
]

test.skipIf(missing)('text of any script the font has comes out as it went in', async () => {
  const hebrew = 'שלום עולם'
  const rows = [...samples, hebrew, 'no picture: 漢字'].map((sample): Row => ['1', sample, null])
  const [page = ''] = pagesOf(
    await fileOf([
      { block: orders, rows },
      { block: { kind: 'text', title: null, text: samples.join('\n') }, rows: [] },
    ]),
  )
  for (const sample of samples) expect(page.normalize('NFC').split(sample.normalize('NFC'))).toHaveLength(3)
  // Marks of direction are pdftotext's own.
  expect(page.replace(/[\u202a-\u202e]/g, '')).toContain(hebrew)
  expect(page).toContain('no picture: ��')
})

test.skipIf(missing)('text that is too long ends in an ellipsis, a number keeps its digits, NULL is empty', async () => {
  const block: Block = { kind: 'table', title: null, columns: [column('number', 'number'), column('text'), column('other'), column('more')] }
  const short: Row[] = Array.from({ length: 100 }, () => ['1', 'short', null, 'end'])
  const rows: Row[] = [...short, ['12345678901234567.25', 'word '.repeat(100), 'line\nbreak\tand tab', 'end']]
  const pages = pagesOf(await fileOf([{ block, rows }]))
  const line =
    pages
      .join('')
      .split('\n')
      .find(found => found.includes('word')) ?? ''
  expect(line).toMatch(/^ *12,345,678,901,234,567\.25 +(word )+(w|wo|wor|word)?… +line break and tab +end$/)
  expect(pages[0]).toMatch(/^ *1 +short +end$/m)
})

test.skipIf(missing)('figures and paragraphs stand where they are read', async () => {
  const metric: Block = { kind: 'metric', title: 'Figures', columns: ['one', 'two', 'three', 'four', 'five'].map(name => column(name, 'number')) }
  const long = Array.from({ length: 900 }, (_, place) => `word${place}`).join(' ')
  const pages = pagesOf(
    await fileOf([
      { block: metric, rows: [['1234567.8', '2', null, '4', '5']] },
      { block: { kind: 'text', title: 'Words', text: long }, rows: [] },
    ]),
  )
  expect(pages[0]).toMatch(/one +two +three +four\n+ *1,234,567.8 +2 +– +4\n/)
  const words = pages.flatMap(page => [...page.matchAll(/word(\d+)/g)].map(([, place]) => Number(place)))
  expect(words).toEqual(Array.from({ length: 900 }, (_, place) => place))
})

test.skipIf(missing)('a chart is drawn as high as its values, in vectors, with its words as text', async () => {
  const bars: Block = {
    kind: 'chart',
    title: 'Bars',
    columns: [column('x'), column('one', 'number'), column('three', 'number')],
    chart: { kind: 'bar', x: 0, series: [1, 2], stacked: true },
  }
  const file = await fileOf([
    {
      block: bars,
      rows: [
        ['left', '10', '30'],
        ['right', '10', '30'],
      ],
    },
  ])
  const colours = coloursOf(file, 1)
  const legend = (11 * 0.68) ** 2
  const [one, three] = ['#0072b2', '#e69f00'].map(colour => (colours.get(colour) ?? 0) - legend)
  expect(one).toBeGreaterThan(1000)
  expect((three ?? 0) / (one ?? 1)).toBeGreaterThan(2.8)
  expect((three ?? 0) / (one ?? 1)).toBeLessThan(3.2)
  expect(pagesOf(file)[0]).toMatch(/left +right/)
  expect(Buffer.from(file).toString('latin1')).not.toContain('/Subtype /Image')
})

test.skipIf(missing).each(['bar', 'line', 'area', 'pie'] as const)('a %s chart of any rows makes a file that readers take', async kind => {
  const values = [null, 'NaN', '1e149', '-5', '0', '3', 'Infinity', '1e-200', 'x']
  const block: Block = { kind: 'chart', title: kind, columns: [column('x', 'date'), column('y', 'number')], chart: { kind, x: 0, series: [1], stacked: false } }
  const rows = values.map((value, place): Row => [`2026-01-0${place + 1}`, value])
  expect(
    pagesOf(
      await fileOf([
        { block, rows },
        { block, rows: [] },
      ]),
    ),
  ).toHaveLength(1)
})

test('a slow sink is waited for, and one that fails is heard', async () => {
  let writing = 0
  const slow = await pdf.open(headOf([orders]), async () => {
    expect(++writing).toBe(1)
    await new Promise(setImmediate)
    writing--
  })
  await slow.begin(orders)
  for (let round = 0; round < 20; round++) await slow.rows(Array.from({ length: 500 }, (_, place): Row => [String(place), `${round}-${place}`, 't']))
  await slow.end()
  await slow.finish()
  const failing = await pdf.open(headOf([orders]), () => Promise.reject(new Error('disk is full')))
  await failing.begin(orders)
  await expect(failing.end().then(() => failing.finish())).rejects.toThrow('disk is full')
})

// A process of its own: its memory is that of nothing else.
const thousandPages = `
import { pdf } from '${new URL('../../workers/reports/formats/pdf.ts', import.meta.url).href}'
const columns = [['id', 'number'], ['name', 'text'], ['city', 'text'], ['amount', 'number'], ['day', 'date'], ['code', 'text']].map(([name, kind]) => ({ name, label: name, kind }))
const block = { kind: 'table', title: 'Many', columns }
const head = { title: 'Many', description: null, organization: 'x', generatedAt: '2026-01-02T03:04:05Z', parameters: [], blocks: [block] }
let bytes = 0
const writer = await pdf.open(head, async piece => { bytes += piece.length })
const batch = from => Array.from({ length: 1000 }, (_, at) => [String(from + at), 'Name ' + (from + at), 'City ' + at * 7919, String((from + at) * 1.37), '2026-01-02', (from * 31 + at).toString(36)])
await writer.begin(block)
await writer.rows(batch(0))
// What lies outside the heap is freed some time after the collection that found it.
const live = async () => {
  for (let round = 0; round < 4; round++) { gc(); await new Promise(setImmediate) }
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return heapUsed + arrayBuffers
}
const [before, liveBefore] = [process.memoryUsage().rss, await live()]
let most = before
for (let from = 1000; from < 50000; from += 1000) {
  await writer.rows(batch(from))
  most = Math.max(most, process.memoryUsage().rss)
}
const held = Math.round((await live() - liveBefore) / 1048576)
await writer.end()
await writer.finish()
console.log(JSON.stringify({ bytes, held, grown: Math.round((Math.max(most, process.memoryUsage().rss) - before) / 1048576)}))
`

test('a thousand pages take no more memory than a few', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', '--input-type=module', '-e', thousandPages], { timeout: 60_000 })
  const measured = JSON.parse(stdout) as { bytes: number; held: number; grown: number }
  expect(measured.bytes).toBeGreaterThan(1_000_000)
  expect(measured.grown).toBeLessThan(150)
  // What is not garbage: a page that is written leaves about a kilobyte, its places in the file.
  expect(measured.held).toBeLessThan(8)
})
