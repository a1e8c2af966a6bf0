import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { blocksOf, expectFailure, expectRefusal } from '../support/report-attack.ts'
import { addReport, addSales, openReportStage, readExecution, type ReportStage } from '../support/reports.ts'

let stage: ReportStage

beforeAll(async () => {
  stage = await openReportStage()
  await addSales(stage.query, 30)
})
afterAll(() => stage.end())

const structure = { source: 'public.sales', columns: ['id'] }
const ROWS = 30

/** What an execution is made with: declared so, stored so, given so. */
async function resolved(declared: Record<string, unknown>, given: unknown, stored: Record<string, unknown> = {}): Promise<unknown> {
  const report = await addReport(stage.query, stage.people, { structure, declared, parameters: stored })
  return (await readExecution(stage.query, await stage.ask(report, 'csv', given))).metadata.parameters
}

async function refused(declared: Record<string, unknown>, given: unknown, message: RegExp, hint = /./, stored: Record<string, unknown> = {}): Promise<void> {
  const report = await addReport(stage.query, stage.people, { structure, declared, parameters: stored })
  await expectRefusal(stage.query, () => stage.ask(report, 'csv', given), { code: '22023', message, hint })
}

const uuid = '0b5c1c1e-7d7e-4f6e-9d0a-3a4f5b6c7d8e'
const readings: [string, unknown, string][] = [
  ['text', 'a', 'a'],
  ['text', '', ''],
  ['text', 5, '5'],
  ['text', true, 'true'],
  ['integer', 7, '7'],
  ['integer', ' -7 ', '-7'],
  ['integer', 1e3, '1000'],
  ['integer', '9223372036854775807', '9223372036854775807'],
  ['number', 0.1, '0.1'],
  ['number', '123456789012345678901234567890.5', '123456789012345678901234567890.5'],
  ['boolean', true, 'true'],
  ['boolean', 'off', 'false'],
  ['date', '2024-02-29', '2024-02-29'],
  ['timestamp', '2026-01-01T10:00:00+02:00', '2026-01-01 08:00:00+00'],
  ['uuid', uuid.toUpperCase(), uuid],
  ['text[]', ['a', 'b,"c"', '', 'NULL'], '{a,"b,\\"c\\"","","NULL"}'],
  ['integer[]', [1, '2'], '{1,2}'],
  ['date[]', ['2026-01-01'], '{2026-01-01}'],
  ['text[]', [], '{}'],
]

const misfits: [string, unknown][] = [
  ['text', ['a']],
  ['text', { a: 1 }],
  ['integer', 1.5],
  ['integer', '9223372036854775808'],
  ['integer', -1e19],
  ['integer', 'seven'],
  ['integer', ''],
  ['integer', true],
  ['number', '1,5'],
  ['number', '1e200000'],
  ['boolean', 'perhaps'],
  ['boolean', 2],
  ['date', '2026-02-30'],
  ['date', '2026-13-01'],
  ['date', '01/02/2026 x'],
  ['date', 20260101.5],
  ['timestamp', '2026-01-01 25:00'],
  ['timestamp', '2026-01-01 10:00 Nowhere/Town'],
  ['uuid', '1234'],
  ['text[]', 'a'],
  ['text[]', '{a}'],
  ['text[]', [null]],
  ['text[]', ['a', ['b']]],
  ['text[]', [{}]],
  ['integer[]', [1, 'x']],
  ['integer[]', [1.5]],
  ['date[]', ['2026-02-30']],
]

describe('a declared type', () => {
  test.each(readings)('%s reads %j', async (type, value, text) => {
    const [row] = await stage.query<{ value: string }>(`select pawl.report_value('p', $1, $2) as value from set_config('timezone', 'UTC', true)`, [
      type,
      JSON.stringify(value),
    ])
    expect(row?.value).toBe(text)
    if (type !== 'timestamp') expect(await resolved({ p: { type } }, { p: value })).toEqual({ p: text })
  })

  test.each(misfits)('%s refuses %j, and says so', async (type, value) => {
    await refused({ p: { type } }, { p: value }, /^parameter "p" must be of the type /)
  })

  test.each(['varchar', 'text; drop table x', '[]', 'text[][]', 'TEXT', 'regclass', ''])('%j is none', async type => {
    await refused({ p: { type } }, { p: 'x' }, /^parameter "p" is declared with the type "/, /text, integer, number, boolean, date, timestamp or uuid/)
  })

  test('that was left out is text', async () => {
    expect(await resolved({ p: {} }, { p: 'x' })).toEqual({ p: 'x' })
  })

  test('is read and written the same in sessions of any DateStyle', async () => {
    const report = await addReport(stage.query, stage.people, {
      structure: {
        source: 'public.sales',
        columns: ['id', 'placed_on'],
        filters: [
          { column: 'placed_on', parameter: 'day' },
          { column: 'placed_on', operator: 'in', parameter: 'days' },
        ],
      },
      declared: { day: { type: 'date' }, days: { type: 'date[]' } },
    })
    for (const style of ['SQL, DMY', 'German', 'Postgres, MDY', 'ISO, DMY']) {
      const id = await stage.db.transact(async query => {
        await query(`select set_config('datestyle', $1, true)`, [style])
        const given = JSON.stringify({ day: '2026-01-12', days: ['2026-01-12', '2026-01-13'] })
        return (await query<{ id: string }>('select pawl.run_report($1, $2, $3, $4) as id', [report, stage.people.admin, 'json', given]))[0]?.id ?? ''
      })
      await stage.work()
      expect((await blocksOf(await readExecution(stage.query, id)))[0]?.rows).toEqual([{ id: 11, placed_on: '2026-01-12' }])
    }
  })
})

describe('of what is given, stored and defaulted', () => {
  const declared = { p: { type: 'integer', default: 1 } }
  test.each<[string, unknown, Record<string, unknown>, unknown]>([
    ['the default, when nothing else', {}, {}, { p: '1' }],
    ['the stored over the default', {}, { p: 2 }, { p: '2' }],
    ['the given over both', { p: 3 }, { p: 2 }, { p: '3' }],
    ['nothing, when null was given', { p: null }, { p: 2 }, {}],
    ['nothing, when null was stored', {}, { p: null }, {}],
    ['nothing of what the template no longer declares', {}, { p: 2, old: 1 }, { p: '2' }],
  ])('counts %s', async (_what, given, stored, expected) => {
    expect(await resolved(declared, given, stored)).toEqual(expected)
  })

  test('a required one must come from somewhere, and null is nothing', async () => {
    const required = { p: { type: 'integer', required: true } }
    await refused(required, {}, /^parameter "p" is required$/, /pass \{"p": …\} of the type integer/)
    await refused(required, { p: null }, /^parameter "p" is required$/, /./, { p: 1 })
    expect(await resolved(required, {}, { p: 1 })).toEqual({ p: '1' })
    expect(await resolved({ p: { ...required.p, default: 4 } }, {})).toEqual({ p: '4' })
  })

  test('stored values and defaults are held to type and choices as well', async () => {
    await refused(declared, {}, /^parameter "p" must be of the type integer, not "x"$/, /./, { p: 'x' })
    await refused({ p: { type: 'integer', default: 'x' } }, {}, /^parameter "p" must be of the type integer, not "x"$/)
    await refused({ p: { choices: ['a'] } }, {}, /^parameter "p" can't be "b"$/, /its choices are \["a"\]/, { p: 'b' })
  })

  test('choices hold single values and all of a list', async () => {
    const one = { p: { choices: ['EU', 'US'] } }
    const several = { p: { type: 'text[]', choices: ['EU', 'US'] } }
    expect(await resolved(one, { p: 'EU' })).toEqual({ p: 'EU' })
    expect(await resolved(several, { p: ['US', 'EU'] })).toEqual({ p: '{US,EU}' })
    for (const value of ['eu', 'EU ', '', ['EU'], ['EU', 'APAC'], 1, true])
      await refused(one, { p: value }, /^parameter "p" (can't be|must be of the type text)/)
    for (const value of [['EU', 'APAC'], 'APAC', [['EU']], [1]]) await refused(several, { p: value }, /^parameter "p" (can't be|must be of the type text\[\])/)
    // A single choice is no list.
    await refused(several, { p: 'EU' }, /^parameter "p" must be of the type text\[\], not "EU"$/)
  })

  test('unknown names, no object, and too much are refused', async () => {
    await refused(declared, { p: 1, q: 2, zz: 3 }, /^parameter "q" is not declared by the report's template$/, /it declares p/)
    await refused({}, { ['x'.repeat(200)]: 2 }, /^parameter "x{100}" is not declared/, /it declares none/)
    for (const given of [[], [1], 'p', 5, true, null])
      await refused(declared, given, /^parameters must be a JSON object, not (array|string|number|boolean|null)$/)
    await refused({ p: {} }, { p: 'x'.repeat(100_000) }, /^the parameters have 100009 characters, 100000 at most$/)
    expect(await resolved({ p: {} }, { p: 'x'.repeat(99_991) })).toEqual({ p: 'x'.repeat(99_991) })
    await refused(
      { p: { type: 'number[]' } },
      { p: ['1e99999', '1e99999', '1e99999'] },
      /^the parameters have 300\d\d\d characters when they are read, 200000 at most$/,
    )
  })

  test('SQL null for all of them is as if they were left out', async () => {
    const report = await addReport(stage.query, stage.people, { structure, declared, parameters: { p: 9 } })
    const [row] = await stage.query<{ id: string }>(`select pawl.run_report($1, $2, 'csv', null) as id`, [report, stage.people.admin])
    expect((await readExecution(stage.query, row?.id ?? '')).metadata.parameters).toEqual({ p: '9' })
  })
})

describe('a filter', () => {
  const hidden = ['region', 'amount', 'placed_on', 'shipped_at', 'paid', 'details'].map(name => ({ name, hidden: true }))
  const filtered = (filter: Record<string, unknown>, p: Record<string, unknown>) => ({
    structure: { ...structure, columns: ['id', ...hidden], filters: [filter] },
    declared: { p },
  })
  async function count(filter: Record<string, unknown>, p: Record<string, unknown>, given: Record<string, unknown>) {
    const execution = await stage.run(await addReport(stage.query, stage.people, filtered(filter, p)), 'json', given)
    return execution.metadata.rows
  }

  test.each(['=', '!=', '<', '>=', 'in', 'not_in', 'contains', 'starts_with'])('by %s does nothing without its parameter', async operator => {
    const type = operator.includes('in') && operator !== 'contains' ? 'text[]' : 'text'
    expect(await count({ column: 'region', operator, parameter: 'p' }, { type }, {})).toBe(ROWS)
    expect(await count({ column: 'region', operator, parameter: 'p' }, { type, default: type === 'text' ? 'EU' : ['EU'] }, { p: null })).toBe(ROWS)
  })

  test('by an empty text or list does something', async () => {
    expect(await count({ column: 'region', parameter: 'p' }, {}, { p: '' })).toBe(0)
    expect(await count({ column: 'region', operator: 'in', parameter: 'p' }, { type: 'text[]' }, { p: [] })).toBe(0)
    expect(await count({ column: 'region', operator: 'not_in', parameter: 'p' }, { type: 'text[]' }, { p: [] })).toBe(ROWS)
  })

  test.each<[string, string, Record<string, unknown>, unknown, number]>([
    ['id', '>', { type: 'integer' }, 28, 2],
    ['amount', '<=', { type: 'number' }, 79.195, 1],
    ['placed_on', '>=', { type: 'date' }, '2026-01-30', 2],
    ['shipped_at', '<', { type: 'timestamp' }, '2026-01-01T02:03:00+02:00', 2],
    ['paid', '=', { type: 'boolean' }, false, 7],
    ['region', '!=', { type: 'text' }, 'EU', 20],
    ['id', 'in', { type: 'integer[]' }, [1, 2, 99], 2],
    ['placed_on', 'in', { type: 'date[]' }, ['2026-01-02', '2026-01-03'], 2],
    ['details', 'contains', { type: 'text' }, '"i": 7', 1],
    ['placed_on', 'starts_with', { type: 'text' }, '2026-01-3', 2],
  ])('on %s %s %j %j', async (column, operator, p, value, rows) => {
    expect(await count({ column, operator, parameter: 'p' }, p, { p: value })).toBe(rows)
  })

  test('whose parameter does not fit its column fails with both named', async () => {
    await expectFailure(
      stage,
      filtered({ column: 'placed_on', parameter: 'p' }, { type: 'text' }),
      /^public\.sales could not be read: invalid input syntax for type date: "soon"$/,
      {
        parameters: { p: 'soon' },
      },
    )
    await expectFailure(
      stage,
      filtered({ column: 'placed_on', parameter: 'q' }, {}),
      /the filter on "placed_on" names parameter "q", which the template does not declare/,
    )
  })
})
