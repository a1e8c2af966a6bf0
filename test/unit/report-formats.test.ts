import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Block, Column, Format, Head, Row } from '../../workers/reports/document.ts'
import { csv, formulaStarts, guard } from '../../workers/reports/formats/csv.ts'
import { json } from '../../workers/reports/formats/json.ts'

const column = (name: string, kind: Column['kind'], label = name): Column => ({ name, label, kind })
const text: Block = { title: 'Notes', kind: 'text', text: 'Read "this",\nplease.' }
const metric: Block = { title: 'Totals', kind: 'metric', columns: [column('orders', 'number', 'Orders'), column('paid', 'boolean', 'Paid')] }
const table: Block = {
  title: 'Customers, all',
  kind: 'table',
  columns: [column('id', 'number', 'No.'), column('name', 'text', 'Name "of" customer'), column('data', 'json', '=Data'), column('since', 'date', 'Since')],
}
const chart: Block = {
  title: null,
  kind: 'chart',
  columns: [column('month', 'date'), column('sold', 'number'), column('returned', 'number')],
  chart: { kind: 'bar', x: 0, series: [1, 2], stacked: true },
}

function headOf(blocks: readonly Block[]): Head {
  const parameters = [{ label: 'From', value: '2026-01-01' }]
  return { title: 'Sales', description: null, organization: 'Müller & Co', generatedAt: '2026-11-21T10:00:00Z', parameters, blocks }
}

/** The document whole. `only`: some rows of a block that had begun are in the file already, and it goes on with these. */
async function written(format: Format, parts: readonly (readonly [Block, readonly Row[]])[], resumed?: { block: number; rows: number }): Promise<string> {
  let out = ''
  const sink = async (bytes: Uint8Array | string) => {
    out += Buffer.from(bytes as Uint8Array).toString()
  }
  const head = headOf(parts.map(([block]) => block))
  const writer = await format.open(head, sink, resumed)
  for (const [place, [block, rows]] of parts.entries()) {
    if (place < (resumed?.block ?? 0)) continue
    const begun = place === resumed?.block
    if (!begun) await writer.begin(block)
    const left = begun ? rows.slice(resumed?.rows) : rows
    // In two pieces, one of which may be empty.
    for (const some of [left.slice(0, 1), left.slice(1)]) if (block.kind !== 'text') await writer.rows(some)
    await writer.end()
  }
  await writer.finish()
  return out
}

/** What comes after the first `rows` of the block at that place, and what came before: together they must be the whole. */
async function beforeOf(format: Format, parts: readonly (readonly [Block, readonly Row[]])[], at: { block: number; rows: number }): Promise<string> {
  let out = ''
  const writer = await format.open(headOf(parts.map(([block]) => block)), async bytes => {
    out += Buffer.from(bytes as Uint8Array).toString()
  })
  for (const [block, rows] of parts.slice(0, at.block)) {
    await writer.begin(block)
    if (block.kind !== 'text') await writer.rows(rows)
    await writer.end()
  }
  const [block, rows] = parts[at.block] as (typeof parts)[number]
  await writer.begin(block)
  if (at.rows > 0) await writer.rows(rows.slice(0, at.rows))
  return out
}

/** RFC 4180, with either line end; undefined for what is empty without quotes. */
function parseCsv(source: string): (string | undefined)[][] {
  const rows: (string | undefined)[][] = [[]]
  for (let at = 0; at < source.length; ) {
    const quoted = /^"((?:[^"]|"")*)"/.exec(source.slice(at))
    const found = quoted ?? /^([^,"\r\n]*)/.exec(source.slice(at))
    const field = found?.[1] ?? ''
    rows.at(-1)?.push(quoted === null ? field || undefined : field.replaceAll('""', '"'))
    at += found?.[0].length ?? 0
    if (source[at] === ',') {
      at += 1
      if (at === source.length) rows.at(-1)?.push(undefined)
      continue
    }
    const ending = /^\r?\n/.exec(source.slice(at))
    if (ending === null && at < source.length) throw new Error(`neither a comma nor a line end at ${at}: ${source.slice(at, at + 20)}`)
    at += ending?.[0].length ?? 0
    if (at < source.length) rows.push([])
  }
  return rows
}

const customers: Row[] = [
  ['1', 'Ann', '{"a":1}', '2026-11-21'],
  ['-2', '=1+1', null, 'infinity'],
  ['3.50', 'two\nlines, "quoted"\r', '[]', null],
  ['NaN', '', '-1', '0044-03-15 BC'],
]
const parts = [
  [text, []],
  [metric, [['1234567890.123456789012', 't']]],
  [table, customers],
  [chart, [['2026-01-01', '5', '-0.5']]],
  [text, []],
] as const

describe('csv', () => {
  test('a document with one block of data is a heading of labels and its rows, and nothing else', async () => {
    const source = await written(csv, [
      [text, []],
      [table, customers],
    ])
    expect(parseCsv(source)).toEqual([
      ['No.', 'Name "of" customer', "'=Data", 'Since'],
      ['1', 'Ann', '{"a":1}', '2026-11-21'],
      ['-2', "'=1+1", undefined, 'infinity'],
      ['3.50', 'two\nlines, "quoted"\r', '[]', undefined],
      ['NaN', '', "'-1", '0044-03-15 BC'],
    ])
    expect(source.startsWith('No.,')).toBe(true)
    expect(source.endsWith(',0044-03-15 BC\n')).toBe(true)
  })

  test('blocks after one another have their titles above and an empty line between', async () => {
    expect(
      await written(csv, [
        [metric, [['7', 't']]],
        [text, []],
        [table, []],
        [chart, [['2026-01-01', '5', null]]],
      ]),
    ).toBe('Totals\nOrders,Paid\n7,t\n\n"Customers, all"\nNo.,"Name ""of"" customer",\'=Data,Since\n\nmonth,sold,returned\n2026-01-01,5,\n')
  })

  test("PostgreSQL's own bytes pass through as they are", async () => {
    const out: (Uint8Array | string)[] = []
    const writer = await csv.open(headOf([table]), async bytes => void out.push(bytes))
    await writer.begin(table)
    const bytes = Buffer.from('1,"a\n')
    await writer.data?.(bytes)
    expect(out[1]).toBe(bytes)
  })

  test('every first character of a formula gets an apostrophe, and no other does', () => {
    const starts = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']
    expect(starts.map(start => start.codePointAt(0)).sort()).toEqual([...formulaStarts].sort())
    for (const start of starts) expect(guard(`${start}x`)).toBe(`'${start}x`)
    for (const harmless of ['', 'a=b', "'=x", ' =x', '1-1', '(=', '😀']) expect(guard(harmless)).toBe(harmless)
  })

  test('any texts come back from another parser', async () => {
    const cell = fc.option(fc.string({ unit: fc.constantFrom('"', ',', '\n', '\r', ' ', 'a', 'é', '\\', '.'), maxLength: 6 }))
    const rows = fc.array(fc.tuple(cell, cell), { minLength: 1, maxLength: 6 })
    const two: Block = { title: null, kind: 'table', columns: [column('a', 'date'), column('b', 'date')] }
    await fc.assert(
      fc.asyncProperty(rows, async wanted => {
        const source = await written(csv, [[two, wanted]])
        expect(parseCsv(source).slice(1)).toEqual(wanted.map(row => row.map(value => value ?? undefined)))
      }),
    )
  })
})

describe('json', () => {
  test('a document says what it is, and holds its blocks in order', async () => {
    const document = JSON.parse(await written(json, parts)) as { blocks: Record<string, unknown>[]; [key: string]: unknown }
    const { blocks, ...rest } = document
    expect(rest).toEqual({
      title: 'Sales',
      description: null,
      organization: 'Müller & Co',
      generated_at: '2026-11-21T10:00:00Z',
      parameters: [{ label: 'From', value: '2026-01-01' }],
    })
    expect(blocks.map(({ title, kind }) => [title, kind])).toEqual([
      ['Notes', 'text'],
      ['Totals', 'metric'],
      ['Customers, all', 'table'],
      [null, 'chart'],
      ['Notes', 'text'],
    ])
    expect(blocks[0]).toEqual({ title: 'Notes', kind: 'text', text: 'Read "this",\nplease.' })
    expect(blocks[2]?.columns).toEqual(table.columns)
    expect(blocks[2]?.rows).toEqual([
      { id: 1, name: 'Ann', data: { a: 1 }, since: '2026-11-21' },
      { id: -2, name: '=1+1', data: null, since: 'infinity' },
      { id: 3.5, name: 'two\nlines, "quoted"\r', data: [], since: null },
      { id: 'NaN', name: '', data: -1, since: '0044-03-15 BC' },
    ])
    expect(blocks[3]?.chart).toEqual({ kind: 'bar', x: 'month', series: ['sold', 'returned'], stacked: true })
    expect(blocks[3]?.rows).toEqual([{ month: '2026-01-01', sold: 5, returned: -0.5 }])
  })

  test('numbers keep every digit, and what is none is a text', async () => {
    const given = ['1234567890.123456789012', '9223372036854775807', '1e+22', '-0', '3.50', '1.7976931348623157e+308']
    const none = ['NaN', 'Infinity', '-Infinity', '$1,000.00', '']
    const one: Block = { title: null, kind: 'table', columns: [column('n', 'number')] }
    const source = await written(json, [[one, [...given, ...none].map(value => [value])]])
    const lines = source.split('\n').filter(line => line.startsWith('{"n":'))
    expect(lines.map(line => line.replace(/,$/, ''))).toEqual([...given.map(value => `{"n":${value}}`), ...none.map(value => `{"n":"${value}"}`)])
    expect(() => JSON.parse(source)).not.toThrow()
  })

  test('a row is a line, also when its json is written over several', async () => {
    const one: Block = { title: null, kind: 'table', columns: [column('j', 'json'), column('b', 'boolean')] }
    const source = await written(json, [[one, [['{\n  "a": "x\\ny",\r\n  "b": [1]\n}', 'f']]]])
    expect(source.split('\n').filter(line => line.startsWith('{"j":'))).toHaveLength(1)
    expect(JSON.parse(source).blocks[0].rows).toEqual([{ j: { a: 'x\ny', b: [1] }, b: false }])
  })

  test('a document without blocks, and one with empty blocks, is valid', async () => {
    expect(JSON.parse(await written(json, [])).blocks).toEqual([])
    expect(
      JSON.parse(
        await written(json, [
          [table, []],
          [metric, []],
        ]),
      ).blocks.map((block: { rows: unknown[] }) => block.rows),
    ).toEqual([[], []])
  })
})

describe.each([
  ['csv', csv],
  ['json', json],
])('%s', (_, format) => {
  const places = parts.flatMap(([block, rows], place) =>
    block.kind === 'text' ? [{ block: place, rows: 0 }] : Array.from({ length: rows.length + 1 }, (_, count) => ({ block: place, rows: count })),
  )
  test.each(places)('resumed after row $rows of block $block it goes on as if nothing had been', async at => {
    expect((await beforeOf(format, parts, at)) + (await written(format, parts, at))).toBe(await written(format, parts))
  })
})
