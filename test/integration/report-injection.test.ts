import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { formulaStarts } from '../../workers/reports/formats/csv.ts'
import { unzip } from '../support/excel.ts'
import { addCanary, blocksOf, expectCanaryUntouched, expectFailure, expectRefusal, left, payloads } from '../support/report-attack.ts'
import { addReport, fileOf, openReportStage, type ReportStage } from '../support/reports.ts'

/** Letters whose lower case is the same in every locale. */
const ALPHABET = [...Array.from(`'"\\{},;%_$()-aAbB=é€\n\t \u2028`), '😀', 'NULL', '--', '$$', '\\"']
let stage: ReportStage
let words: string[]

beforeAll(async () => {
  stage = await openReportStage()
  await addCanary(stage.query)
  const random = fc.sample(
    fc.array(fc.constantFrom(...ALPHABET), { maxLength: 4 }).map(parts => parts.join('')),
    { numRuns: 300, seed: 7 },
  )
  words = [...new Set([...payloads, ...random])]
  await stage.query(
    'create table public.words (id bigint primary key, word text, label varchar(5), amount numeric(12, 2), day date); grant select on public.words to pawl_report',
  )
  await stage.query(
    `insert into public.words select id, word, left(word, 5), id / 100.0, date '2026-01-01' from unnest($1::text[]) with ordinality w (word, id)`,
    [words],
  )
})
afterAll(() => stage.end())

const columns = ['id', 'word']
const operators = ['=', 'in', 'not_in', 'contains', 'starts_with'] as const
const isList = (operator: string) => operator === 'in' || operator === 'not_in'
const oracle: Record<(typeof operators)[number], (word: string, value: string) => boolean> = {
  '=': (word, value) => word === value,
  in: (word, value) => [value, 'no such word'].includes(word),
  not_in: (word, value) => ![value, 'no such word'].includes(word),
  contains: (word, value) => word.toLowerCase().includes(value.toLowerCase()),
  starts_with: (word, value) => word.startsWith(value),
}

/** One report, a block for each operator, the value as parameter or in the template itself. */
async function filtered(value: string, where: 'parameter' | 'template') {
  const blocks = operators.map(operator => {
    const given = isList(operator) ? [value, 'no such word'] : value
    const filter = where === 'template' ? { value: given } : { parameter: isList(operator) ? 'several' : 'one' }
    return { type: 'table', title: operator, source: 'public.words', columns, filters: [{ column: 'word', operator, ...filter }] }
  })
  const declared = { one: { type: 'text' }, several: { type: 'text[]' } }
  const report = await addReport(stage.query, stage.people, { type: 'dashboard', structure: { blocks }, declared })
  const execution = await stage.run(report, 'json', where === 'parameter' ? { one: value, several: [value, 'no such word'] } : {})
  return (await blocksOf(execution)).map(block => block.rows.map(row => row.word))
}

const expected = (value: string) => operators.map(operator => words.filter(word => oracle[operator](word, value)))

describe('a value is a value', () => {
  test.each(payloads)('as parameter and in the template: %j', async payload => {
    expect(await filtered(payload, 'parameter')).toEqual(expected(payload))
    expect(await filtered(payload, 'template')).toEqual(expected(payload))
  })

  test('whatever characters it has, by =, in, not_in, contains and starts_with as JavaScript finds them', async () => {
    const value = fc.oneof(
      fc.array(fc.constantFrom(...ALPHABET), { maxLength: 3 }).map(parts => parts.join('')),
      fc.constantFrom(...words),
    )
    await fc.assert(
      fc.asyncProperty(value, async given => {
        expect(await filtered(given, 'parameter')).toEqual(expected(given))
      }),
      { numRuns: 60 },
    )
  })

  test('that is longer or finer than the column equals none of its values, and is not cut to fit', async () => {
    const filters = [{ column: 'label', value: 'current_setting' }]
    const report = await addReport(stage.query, stage.people, { structure: { source: 'public.words', columns: ['label'], filters } })
    expect((await blocksOf(await stage.run(report, 'json')))[0]?.rows).toEqual([])
    const finer = { source: 'public.words', columns: ['amount'], filters: [{ column: 'amount', operator: '<=', parameter: 'most' }] }
    const amounts = await addReport(stage.query, stage.people, { structure: finer, declared: { most: { type: 'number' } } })
    expect((await blocksOf(await stage.run(amounts, 'json', { most: 0.029 })))[0]?.rows.length).toBe(2)
  })

  test('of a text parameter does not become a list', async () => {
    const structure = { source: 'public.words', columns, filters: [{ column: 'word', operator: 'in', parameter: 'word' }] }
    const declared = { word: { type: 'text' } }
    await expectFailure(stage, { structure, declared }, /the filter "in" on "word" needs a list, and parameter "word" is text/, {
      parameters: { word: '{"a","b"}' },
    })
    const other = { ...structure, filters: [{ column: 'word', operator: '=', parameter: 'word' }] }
    await expectFailure(stage, { structure: other, declared: { word: { type: 'text[]' } } }, /takes no list, and parameter "word" is text\[\]/)
    const value = { ...structure, filters: [{ column: 'word', operator: 'in', value: '{"a"}' }] }
    await expectFailure(stage, { structure: value }, /structure\.filters\.0: the value of in and not_in is a list/)
  })

  test.each(['text', 'integer', 'number', 'boolean', 'date', 'timestamp', 'uuid'])('of type %s reads no SQL', async type => {
    for (const list of ['', '[]']) {
      const report = await addReport(stage.query, stage.people, { structure: { source: 'public.words', columns }, declared: { value: { type: type + list } } })
      for (const payload of [`'; select public.canary(); --`, `now() + public.canary() * interval '1 day'`, `{a,"b}`, `0 or true`]) {
        const given = { value: list === '' ? payload : [payload] }
        if (type === 'text') expect(await stage.ask(report, 'csv', given)).not.toBe('')
        else await expectRefusal(stage.query, () => stage.ask(report, 'csv', given), { code: '22023', message: /^parameter "value" must be of the type / })
      }
    }
    await stage.work()
  })

  test('NUL is refused before it is anywhere', async () => {
    const report = await addReport(stage.query, stage.people, { structure: { source: 'public.words', columns }, declared: { value: {} } })
    await expectRefusal(stage.query, () => stage.ask(report, 'csv', { value: 'a\u0000b' }), { code: '22P05', message: /Unicode escape/, hint: /|/ })
  })
})

describe('a name is a name', () => {
  test('parameters may be called anything, also like what every object has', async () => {
    for (const name of [`'; select public.canary(); --`, 'constructor', '__proto__', 'toString', '{{x}}', 'pawl.user_id', 'role', 'search_path']) {
      // Computed: in a literal, "__proto__" would be no key.
      const declared = JSON.parse(`{${JSON.stringify(name)}: {"type": "text"}}`) as Record<string, unknown>
      const structure = { source: 'public.words', columns, filters: [{ column: 'word', parameter: name }] }
      const report = await addReport(stage.query, stage.people, { structure, declared })
      const all = await stage.run(report, 'json')
      expect(all).toMatchObject({ status: 'completed', metadata: { rows: words.length } })
      const given = JSON.parse(`{${JSON.stringify(name)}: "NULL"}`) as Record<string, unknown>
      expect(await stage.run(report, 'json', given)).toMatchObject({ status: 'completed', metadata: { rows: 1 } })
    }
  })

  test.each(payloads.filter(payload => payload !== ''))('an undeclared parameter, an output format: %j', async payload => {
    const report = await addReport(stage.query, stage.people, { structure: { source: 'public.words', columns } })
    await expectRefusal(stage.query, () => stage.ask(report, 'csv', { [payload]: 1 }), { code: '22023', message: /^parameter ".*" is not declared/s })
    await expectRefusal(stage.query, () => stage.ask(report, payload), { code: '22023', message: /^there is no output format "/ })
  })

  test('a table and columns with quotes and SQL in their names are read as they are called', async () => {
    await stage.query(
      `create table public."we""ird; drop table words" ("co""l'; select public.canary() --" int primary key, "result" text, "r" text, "key" int, "C;" text)`,
    )
    await stage.query(`insert into public."we""ird; drop table words" select i, 'result ' || i, 'r', -i, 'c' from generate_series(1, 3) i`)
    await stage.query(`grant select on public."we""ird; drop table words" to pawl_report`)
    const odd = `co"l'; select public.canary() --`
    const structure = {
      source: 'public.we"ird; drop table words',
      columns: [{ name: odd, as: `as "x"; --`, label: `'); --` }, 'result', 'r', 'key', 'C;'],
      filters: [{ column: odd, operator: '>', value: 1 }],
    }
    const report = await addReport(stage.query, stage.people, { name: `../../etc/passwd'; --`, structure })
    const execution = await stage.run(report, 'json')
    expect((await blocksOf(execution))[0]?.rows[0]).toEqual({ 'as "x"; --': 2, result: 'result 2', r: 'r', key: -2, 'C;': 'c' })
    expect(execution.metadata.key).toMatch(/^[\w-]{32}\.json$/)
  })

  test('in text of a report it is filled in once, as text, and escaped where it is shown', async () => {
    const structure = { blocks: [{ type: 'text', text: 'A {{ one }} {{two}} {{constructor}} {{__proto__}} {{since}} {{' }] }
    const declared = { one: { type: 'text' }, two: { type: 'text' } }
    const report = await addReport(stage.query, stage.people, { type: 'custom', structure, declared })
    const given = { one: `{{two}} $& $1 <script>alert(1)</script>`, two: '2' }
    const text = `A ${given.one} 2 {{constructor}} {{__proto__}} {{since}} {{`
    expect((await blocksOf(await stage.run(report, 'json', given)))[0]?.text).toBe(text)
    const html = (await fileOf(await stage.run(report, 'html', given))).toString()
    expect(html).toContain('&lt;script')
    expect(html).not.toContain('<script')
  })

  test('a text of braces and blanks, or one that names a long value a thousand times, stops nobody', { timeout: 20_000 }, async () => {
    const blanks = {
      blocks: [
        { type: 'text', text: `{{${' '.repeat(19_000)}` },
        { type: 'text', text: '{{'.repeat(9_000) },
      ],
    }
    const report = await addReport(stage.query, stage.people, { type: 'custom', structure: blanks })
    expect((await stage.run(report, 'json')).status).toBe('completed')
    const structure = { blocks: [{ type: 'text', text: '{{a}}'.repeat(4_000) }] }
    const long = { a: 'x'.repeat(90_000) }
    await expectFailure(stage, { type: 'custom', structure, declared: { a: {} } }, /more than 1000000 characters with parameter "a"/, { parameters: long })
  })
})

describe('a spreadsheet finds no formula', () => {
  beforeAll(async () => {
    await stage.query(
      'create table public.cells (id bigint primary key, text text, short varchar(20), number numeric, json jsonb); grant select on public.cells to pawl_report',
    )
    const starts = formulaStarts.map(code => String.fromCodePoint(code))
    const texts = [...starts.flatMap(start => [`${start}1+1`, start, `${start}cmd|' /C calc'!A0`]), 'a=1', ` =1`, `'=1`, '-5', '']
    await stage.query(
      `insert into public.cells select id, text, left(text, 20), -id / 10.0, to_jsonb(text) from unnest($1::text[]) with ordinality t (text, id)`,
      [texts],
    )
  })
  const structure = { source: 'public.cells', columns: [{ name: 'id', label: '=1+1' }, 'text', 'short', 'number', 'json'] }

  test('in csv: text that begins like one has an apostrophe, numbers stay numbers', async () => {
    const report = await addReport(stage.query, stage.people, { structure })
    const [header, ...rows] = parseCsv((await fileOf(await stage.run(report, 'csv'))).toString())
    expect(header?.[0]).toBe(`'=1+1`)
    const source = await stage.query<{ text: string; number: string }>('select text, number::text from public.cells order by id')
    expect(rows.length).toBe(source.length)
    expect(new Set(formulaStarts).size).toBe(11)
    for (const [place, { text, number }] of source.entries()) {
      const guarded = formulaStarts.includes(text.codePointAt(0) ?? 0) ? `'${text}` : text
      expect(rows[place]).toEqual([String(place + 1), guarded, guarded, number, JSON.stringify(text)])
    }
  })

  test('in excel: no cell is one', async () => {
    const report = await addReport(stage.query, stage.people, { structure })
    const sheets = [...unzip(await fileOf(await stage.run(report, 'excel')))].filter(([name]) => name.includes('worksheets/'))
    expect(sheets.length).toBeGreaterThan(0)
    for (const [, text] of sheets) {
      expect(text).toContain('=1+1')
      expect(text).not.toMatch(/<f[ >/]/)
    }
  })
})

test('none of it ran, and everything is where it was', async () => {
  expect((await left(stage)).every(file => /^[\w-]{32}\.(csv|json|html|xlsx)$/.test(file))).toBe(true)
  expect(await stage.query('select count(*)::integer as count from public.words')).toEqual([{ count: words.length }])
  await expectCanaryUntouched(stage)
})

/** RFC 4180, as a spreadsheet reads it. */
function parseCsv(text: string): string[][] {
  const rows: string[][] = [[]]
  for (const match of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\n]*))(,|\n)/g)) {
    rows.at(-1)?.push(match[1]?.replaceAll('""', '"') ?? match[2] ?? '')
    if (match[3] === '\n') rows.push([])
  }
  return rows.slice(0, -1)
}
