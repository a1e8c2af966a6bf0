import { afterAll, beforeAll, expect, test } from 'vitest'
import { arrayLiteral, copyRow } from '../../workers/refresh/sources/copy-text.ts'
import type { Field, Wire } from '../../workers/refresh/sources/bigquery/types.ts'
import { type FakeBigquery, startBigquery } from '../support/bigquery.ts'
import { contextOf, open, readLane } from '../support/bigquery-source.ts'
import { BIG, type Case, cases, f, field, repeated, v } from '../support/bigquery-values.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'

let fake: FakeBigquery
let db: TestDatabase
beforeAll(async () => {
  fake = await startBigquery({})
  db = await createDatabase({ empty: true })
})
afterAll(async () => {
  await db.drop()
  await fake.close()
})

/** Through the real client, the real encoder and a real COPY; both ways of reading. */
async function roundTrip(name: string, { field: given, values }: Case, staging: boolean): Promise<{ type: string | undefined; texts: unknown[] }> {
  const table = `t_${name}_${staging ? 'staged' : 'direct'}`
  fake.tables[table] = {
    fields: [field('n', 'INT64'), { name: 'value', ...given }],
    rows: [...values.map(([wire], n) => [String(n), wire]), [String(values.length), null]],
  }
  const extraction = await open(contextOf(fake, { name: table }), { query: `select * from ${table}`, ...(staging ? { staging_dataset: 'stage' } : {}) })
  const chunks = await readLane(extraction, extraction.cursors[0] ?? {})
  const texts = await db.transact(async (query, copy) => {
    await query(`set local timezone = 'UTC'`)
    await query(`create table ${table} (${extraction.columns.map(column => `${column.name} ${column.type}`).join(', ')})`)
    expect(
      await copy(
        `copy ${table} from stdin`,
        chunks.map(({ text }) => Buffer.from(text)),
      ),
    ).toBe(values.length + 1)
    return query<{ value: string | null }>(`select value::text from ${table} order by n`)
  })
  return { type: extraction.columns[1]?.type, texts: texts.map(({ value }) => value) }
}

for (const [name, given] of Object.entries(cases)) {
  test(`${name} arrives in PostgreSQL as it is`, async () => {
    const isJson = given.type === 'jsonb' && given.field.type !== 'JSON'
    for (const staging of [false, true]) {
      const { type, texts } = await roundTrip(name, given, staging)
      expect(type).toBe(given.type)
      const expected = [...given.values.map(([, text]) => text), null]
      // Of a STRUCT, jsonb reorders the keys and adds blanks; PostgreSQL's own jsonb of the expected text says how.
      const normal = isJson
        ? await db.query<{ value: string | null }>('select text::jsonb::text as value from unnest($1::text[]) with ordinality u(text, n) order by n', [
            expected,
          ])
        : undefined
      expect(texts).toEqual(normal?.map(({ value }) => value) ?? expected)
      if (isJson) for (const digits of ['9007199254740993', BIG, '12345678901234567890', '-9223372036854775808']) expect(String(texts[0])).toContain(digits)
    }
  })
}

test('BIGNUMERIC reaches 39 digits before the point and 38 after it', () => {
  expect(BIG).toMatch(/^\d{39}\.\d{38}$/)
})

test('an emulator that sends seconds loses no microsecond', async () => {
  const seconds = {
    field: { type: 'TIMESTAMP' },
    type: '',
    values: [
      ['1.672574400123456E9', ''],
      ['2.53402300799999999E11', ''],
      ['-6.2135596799999999E10', ''],
      ['-1.0E-6', ''],
      ['0.0', ''],
      ['1.6725744E9', ''],
    ],
  } satisfies Case
  const { texts } = await roundTrip('seconds', seconds, false)
  expect(texts).toEqual([
    '2023-01-01 12:00:00.123456+00',
    '9999-12-31 23:59:59.999999+00',
    '0001-01-01 00:00:00.000001+00',
    '1969-12-31 23:59:59.999999+00',
    '1970-01-01 00:00:00+00',
    '2023-01-01 12:00:00+00',
    null,
  ])
})

const nul: Record<string, [Omit<Field, 'name'>, Wire]> = {
  STRING: [{ type: 'STRING' }, 'a\u0000b'],
  'ARRAY<STRING>': [{ type: 'STRING', ...repeated }, v('a\u0000b')],
  JSON: [{ type: 'JSON' }, '"a\\u0000b"'],
  STRUCT: [{ type: 'RECORD', fields: [field('part', 'STRING')] }, f('a\u0000b')],
}
for (const [name, [given, wire]] of Object.entries(nul)) {
  test(`U+0000 in a ${name} is refused by the name of its column`, async () => {
    const refused = roundTrip(`nul_${Object.keys(nul).indexOf(name)}`, { field: given, type: '', values: [[wire, '']] }, false)
    await expect(refused).rejects.toMatchObject({ code: 'refresh.nul_character', retryable: false, message: expect.stringContaining('column value') })
  })
}

test('types without a counterpart are refused, and so is a STRUCT that would lose a field', async () => {
  const refused = (given: Omit<Field, 'name'>, name: string) => roundTrip(name, { field: given, type: '', values: [] }, false)
  await expect(refused({ type: 'PROTO' }, 'proto')).rejects.toMatchObject({ code: 'refresh.type_unsupported', message: expect.stringContaining('value') })
  const twice = { type: 'STRUCT', fields: [field('a', 'INT64'), field('a', 'STRING')] }
  await expect(refused(twice, 'twice')).rejects.toMatchObject({ code: 'refresh.type_unsupported', message: expect.stringContaining('two fields of one name') })
})

test('a server that sends other than its schema says is not taken at its word', async () => {
  const odd = (wire: Wire) => roundTrip('odd', { field: { type: 'STRING' }, type: '', values: [[wire, '']] }, false)
  await expect(odd(v('a'))).rejects.toMatchObject({ code: 'refresh.type_unsupported', message: expect.stringContaining('value') })
  await expect(odd(f('a'))).rejects.toMatchObject({ code: 'refresh.type_unsupported' })
})

test('what COPY would take for an end is escaped, and an array is quoted', () => {
  expect(copyRow(['a\tb\nc\rd\\', '', null, '\\N'], [])).toBe('a\\tb\\nc\\rd\\\\\t\t\\N\t\\\\N\n')
  expect(arrayLiteral(['a"\\', '', null])).toBe('{"a\\"\\\\","",NULL}')
  expect(() => copyRow(['a', '\u0000'], [{ name: 'one' }, { name: 'two' }])).toThrow('column two holds')
})
