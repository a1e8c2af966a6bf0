import { expect, inject, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { openReader } from '../../src/database.ts'
import { copyRows } from '../../workers/reports/copy-rows.ts'
import type { Block, ColumnKind, Row } from '../../workers/reports/document.ts'
import { csv, formulaStarts } from '../../workers/reports/formats/csv.ts'
import { excel } from '../../workers/reports/formats/excel.ts'
import { json } from '../../workers/reports/formats/json.ts'
import { column, sheetsIn, tableOf, written } from '../support/excel.ts'

test('what PostgreSQL copies is read as it is, and becomes a sheet and a document', async () => {
  const select = `select *
    from (values
      (1::bigint, E'tab\\t newline\\n back\\\\slash \\\\N é😀'::text, true, date '2026-11-21', timestamptz '2026-11-21 10:00:00.5+00', '{"a": "x\\ny"}'::json, 10 / 3.0),
      (9223372036854775807, null, false, 'infinity', '-infinity', null, 'NaN'),
      (0, '', null, '0044-03-15 BC', '1899-01-01 00:00:00+00', '[]', 1234567890.123456789012)
    ) given (n, t, b, d, s, j, q)`
  const kinds: ColumnKind[] = ['number', 'text', 'boolean', 'date', 'timestamp', 'json', 'number']
  const block: Block = { title: 'Given', kind: 'table', columns: Array.from('ntbdsjq', (name, index) => column(name, kinds[index] ?? 'text')) }
  const rows = await copied(select, 'text', 7)
  const text = 'tab\t newline\n back\\slash \\N é😀'
  expect(rows.map(row => row[1])).toEqual([text, null, ''])
  const [sheet] = await sheetsIn(await written(excel, [[block, rows]]))
  expect(sheet?.data.slice(1)).toEqual([
    [1, text, true, new Date('2026-11-21'), new Date('2026-11-21T10:00:00.5Z'), '{"a": "x\\ny"}', 10 / 3],
    ['9223372036854775807', null, false, 'infinity', '-infinity', null, 'NaN'],
    // The reader knows no empty text.
    [0, null, null, '0044-03-15 BC', '1899-01-01 00:00:00+00', '[]', '1234567890.123456789012'],
  ])
  const source = (await written(json, [[block, rows]])).toString()
  expect(source).toContain('"n":9223372036854775807')
  expect(source).toContain('"q":1234567890.123456789012')
  expect(JSON.parse(source).blocks[0].rows[0]).toEqual({
    n: 1,
    t: text,
    b: true,
    d: '2026-11-21',
    s: '2026-11-21 10:00:00.5+00',
    j: { a: 'x\ny' },
    q: 10 / 3,
  })
})

test("a row of csv is what PostgreSQL's own csv is, apostrophes before formulas included", async () => {
  const texts = [
    '',
    ' ',
    'a,b',
    'q"q',
    'l\nl',
    'r\rr',
    't\tt',
    '\\.',
    'NULL',
    "'",
    ...formulaStarts.map(start => `${String.fromCodePoint(start)}1`),
    'é=',
    '😀',
  ]
  const listed = texts.map((text, index) => `(${index}, U&'${Array.from(text, unit => `\\+${unit.codePointAt(0)?.toString(16).padStart(6, '0')}`).join('')}')`)
  const from = `from (values ${listed.join(', ')}, (99, null)) given (place, t) order by place`
  const guarded = `case when ascii(t) in (${formulaStarts.join(', ')}) then '''' || t else t end`
  for (const [columns, selected] of [
    [1, `select ${guarded} ${from}`],
    [2, `select ${guarded}, place - 5 ${from}`],
  ] as const) {
    const block = tableOf('T', ...[column('t', 'text'), column('n', 'number')].slice(0, columns))
    const rows = [...texts, null].map((text, index) => [text, String((text === null ? 99 : index) - 5)].slice(0, columns))
    const own = (await written(csv, [[block, rows]])).toString()
    expect(own).toBe(`${block.kind === 'table' ? block.columns.map(({ label }) => label).join() : ''}\n${await copiedText(selected, 'csv')}`)
  }
})

async function copied(select: string, format: 'text', columns: number): Promise<Row[]> {
  const reader = copyRows(columns)
  const rows: Row[] = []
  for (const piece of await pieces(select, format)) rows.push(...reader.push(piece))
  reader.end()
  return rows
}

const copiedText = async (select: string, format: 'csv') => Buffer.concat(await pieces(select, format)).toString()

async function pieces(select: string, format: 'csv' | 'text'): Promise<Uint8Array[]> {
  const reader = await openReader(readConfig({}), inject('adminUrl'), 'report-excel-test')
  try {
    await reader.query("set local timezone = 'UTC'")
    const all: Uint8Array[] = []
    for await (const piece of reader.copyOut(`copy (${select}) to stdout (format ${format})`)) all.push(piece)
    return all
  } finally {
    await reader.close()
  }
}
