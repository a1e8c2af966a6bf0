import { expect, test } from 'vitest'
import type { Block } from '../../workers/reports/document.ts'
import { excel, excelFormat } from '../../workers/reports/formats/excel.ts'
import { column, readBack, sheetsIn, tableOf, unzip, written } from '../support/excel.ts'

test('each kind of value comes back as what it is', async () => {
  const block = tableOf(
    'Kinds',
    column('t', 'text'),
    column('n', 'number'),
    column('b', 'boolean'),
    column('d', 'date'),
    column('s', 'timestamp'),
    column('j', 'json'),
  )
  const rows = await readBack(block, [
    ['Zoë 日本 😀', '-12.50', 't', '2026-11-21', '2026-11-21 10:30:00+00', '{"a":[1]}'],
    [null, null, null, null, null, null],
    ['next', '1e+22', 'f', '9999-12-31', '1900-03-01 00:00:00', 'null'],
  ])
  expect(rows).toEqual([
    ['Zoë 日本 😀', -12.5, true, new Date('2026-11-21'), new Date('2026-11-21T10:30:00Z'), '{"a":[1]}'],
    [null, null, null, null, null, null],
    ['next', 1e22, false, new Date('9999-12-31'), new Date('1900-03-01'), 'null'],
  ])
})

test('every day from 1900-03-01 is the right one, and parts of seconds are kept', async () => {
  const block = tableOf('Days', column('d', 'date'), column('s', 'timestamp'))
  const days = Array.from({ length: 400 }, (_, index) => new Date(Date.UTC(1900, 2, 1 + index * 331)).toISOString().slice(0, 10))
  const rows = await readBack(
    block,
    days.map(day => [day, `${day} 23:59:58.125`]),
  )
  // The reader cuts off what a double lacks of a millisecond.
  const nearly = (date: unknown) => new Date(Math.round((date as Date).getTime() / 5) * 5)
  expect(rows?.map(row => row.map(nearly))).toEqual(days.map(day => [new Date(day), new Date(`${day}T23:59:58.125Z`)]))
})

test('a date or a time that Excel has no number for is the text that PostgreSQL gives', async () => {
  const dates = ['1900-02-28', '0044-03-15 BC', 'infinity', '-infinity', '10000-01-01']
  const times = ['1899-12-31 23:59:59', '0044-03-15 12:00:00 BC', 'infinity', '2026-11-21 10:00:00+05:30', '2026-11-21 10:00:00-03']
  const rows = dates.map((date, index) => [date, times[index] ?? null])
  expect(await readBack(tableOf('Odd', column('d', 'date'), column('s', 'timestamp')), rows)).toEqual(rows)
})

test('a number that would change in a spreadsheet is a text; averages, filled up by PostgreSQL, stay numbers', async () => {
  const numbers = [
    '0',
    '-0.5',
    '123456789012345',
    '999999999999999000',
    '3.3333333333333333',
    '0.30000000000000004',
    '1428.4285714285714286',
    '1.50000000000000000000',
  ]
  const texts = [
    '1234567890123456',
    '-9223372036854775808',
    '1234567890.123456789012',
    'NaN',
    'Infinity',
    '-Infinity',
    '1.7976931348623157e+308',
    '5e-324',
    '$1.00',
  ]
  const block = tableOf('Numbers', column('n', 'number'))
  const rows = await readBack(
    block,
    [...numbers, ...texts].map(value => [value]),
  )
  expect(rows?.flat()).toEqual([...numbers.map(Number), ...texts])
})

test('texts come back whole: blanks at the ends, line breaks, markup, characters that XML has not, and what looks like their escape', async () => {
  const texts = [
    '  both  ',
    'two\nlines',
    '\ttab',
    'carriage\rreturn\r\n',
    '<f>&amp;"\'</f>',
    'bell\u0007 escape\u001b',
    '_x0041_',
    '__x0041__',
    '\uFFFE\uFFFF',
    ' ',
    '0012',
  ]
  const rows = await readBack(
    tableOf('Texts', column('t', 'text')),
    texts.map(text => [text]),
  )
  expect(rows?.flat()).toEqual(texts)
})

test('a text longer than a cell may be is cut between characters and says so', async () => {
  const rows = await readBack(tableOf('Long', column('t', 'text')), [['x'.repeat(32_767)], ['x'.repeat(32_768)], [`${'x'.repeat(32_765)}😀😀`]])
  expect(rows?.flat()).toEqual(['x'.repeat(32_767), `${'x'.repeat(32_766)}…`, `${'x'.repeat(32_765)}…`])
})

test('what looks like a formula is a text, marked as one, with not a character added', async () => {
  const texts = ['=1+1', '+1', '-1', '@SUM(A1)', '\t=1', '\r=1', '\n=1', '＝1', "=cmd|' /C calc'!A0"]
  const block = tableOf('=Title', column('t', 'text', '=Label'), column('n', 'number'))
  const file = await written(excel, [[block, texts.map(text => [text, '-12345678901234567890'])]])
  expect((await sheetsIn(file))[0]?.data).toEqual([['=Label', 'n'], ...texts.map(text => [text, '-12345678901234567890'])])
  const parts = unzip(file)
  for (const [path, text] of parts) expect([path, /<f[ >/]/.test(text)]).toEqual([path, false])
  const looks = (/<cellXfs.*<\/cellXfs>/.exec(parts.get('xl/styles.xml') ?? '')?.[0] ?? '').match(/<xf [^>]*>/g) ?? []
  const cells = (parts.get('xl/worksheets/sheet1.xml') ?? '').match(/<c [^>]*>/g) ?? []
  const quoted = cells.filter(cell => looks[Number(/ s="(\d+)"/.exec(cell)?.[1] ?? 0)]?.includes('quotePrefix="1"'))
  expect(quoted).toHaveLength(1 + 2 * texts.length)
})

test('each block of data has a sheet, named as Excel allows, and texts have none', async () => {
  const one = column('a', 'number')
  const titles = ['Sales: [2026] / all*?\\', 'sales 2026 all', null, "'History'", `${'x'.repeat(29)}😀😀`, 'X'.repeat(40), 'X'.repeat(40), ' \n ']
  const blocks: Block[] = titles.map(title => tableOf(title, one))
  blocks.splice(1, 0, { title: 'Words', kind: 'text', text: 'left out' })
  blocks[3] = { title: null, kind: 'chart', columns: [one, one], chart: { kind: 'pie', x: 0, series: [1], stacked: false } }
  const sheets = await sheetsIn(
    await written(
      excel,
      blocks.map(block => [block, block.kind === 'text' ? [] : [block.columns.map(() => '7')]] as const),
    ),
  )
  const names = sheets.map(({ sheet }) => sheet)
  expect(names).toEqual([
    'Sales 2026 all',
    'sales 2026 all (2)',
    'Sales & "more"',
    'History_',
    `${'x'.repeat(29)}😀`,
    'X'.repeat(31),
    `${'X'.repeat(27)} (2)`,
    'Sheet',
  ])
  expect(sheets[2]?.data).toEqual([
    ['a', 'a'],
    [7, 7],
  ])
})

test('a workbook without data, or without columns, opens', async () => {
  expect(await sheetsIn(await written(excel, []))).toEqual([{ sheet: 'Sales & "more"', data: [] }])
  expect(await sheetsIn(await written(excel, [[tableOf('Empty', column('a', 'text')), []]]))).toEqual([{ sheet: 'Empty', data: [['a']] }])
  expect(await sheetsIn(await written(excel, [[tableOf('None'), [[], []]]]))).toEqual([{ sheet: 'None', data: [] }])
})

test('a heading stays in sight, is filtered by, and is as wide as what is below it', async () => {
  const parts = unzip(await written(excel, [[tableOf("It's", column('a', 'text', 'A'), column('b', 'text', 'B')), [['x'.repeat(20), 'y'.repeat(500)]]]]))
  const sheet = parts.get('xl/worksheets/sheet1.xml') ?? ''
  expect(sheet).toContain('<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/>')
  expect(sheet).toContain('<autoFilter ref="A1:B2"/>')
  expect(sheet.match(/ width="\d+"/g)).toEqual([' width="21"', ' width="60"'])
  expect(parts.get('xl/workbook.xml')).toContain(`>'It''s'!$A$1:$B$2</definedName>`)
  expect(parts.get('docProps/core.xml')).toContain('<dc:title>Sales &amp; &quot;more&quot;</dc:title>')
  expect([...parts.keys()][0]).toBe('[Content_Types].xml')
})

test('a block with more rows than a sheet may have goes on in another, under the same heading', async () => {
  const rows = Array.from({ length: 25 }, (_, index) => [String(index)])
  const sheets = await sheetsIn(await written(excelFormat(11), [[tableOf('Many', column('n', 'number', 'N')), rows]]))
  expect(sheets.map(({ sheet, data }) => [sheet, data.length, data[0], data[1]])).toEqual([
    ['Many', 11, ['N'], [0]],
    ['Many (2)', 11, ['N'], [10]],
    ['Many (3)', 6, ['N'], [20]],
  ])
  expect(await sheetsIn(await written(excelFormat(11), [[tableOf('Even', column('n', 'number')), rows.slice(0, 20)]]))).toHaveLength(2)
})
