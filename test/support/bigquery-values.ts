import type { Field, Wire } from '../../workers/refresh/sources/bigquery/types.ts'

/** One column: the values on the wire, and what PostgreSQL shows of them after COPY; null is NULL in both. */
export type Case = { field: Omit<Field, 'name'>; type: string; values: readonly (readonly [wire: Wire, text: string | null])[] }

/** An array, and a STRUCT, of the wire. */
export const v = (...values: Wire[]) => values.map(value => ({ v: value }))
export const f = (...values: Wire[]) => ({ f: v(...values) })
const same = (...texts: string[]) => texts.map(text => [text, text] as const)
export const field = (name: string, type: string, rest: Partial<Field> = {}): Field => ({ name, type, ...rest })
export const repeated = { mode: 'REPEATED' }

/** The largest BIGNUMERIC. */
export const BIG = '578960446186580977117854925043439539266.34992332820282019728792003956564819967'
const NASTY = 'a\tb\nc\rd\\e"f\'g,{}()[]\\N\\.\u0001\u2028é漢😀 \b\f\v end'
const inner: Field[] = [
  field('n', 'INTEGER'),
  field('big', 'BIGNUMERIC'),
  field('f', 'FLOAT'),
  field('b', 'BOOLEAN'),
  field('s "q"\\', 'STRING'),
  field('at', 'TIMESTAMP'),
  field('bytes', 'BYTES'),
  field('j', 'JSON'),
  field('list', 'INTEGER', repeated),
  field('deep', 'RECORD', { ...repeated, fields: [field('d', 'DATE'), field('x', 'NUMERIC')] }),
]
const nested = f(
  '9007199254740993',
  `-${BIG}`,
  'NaN',
  'true',
  NASTY,
  '1672574400123456',
  'AAE=',
  '{"k":12345678901234567890}',
  v('1', '-9223372036854775808'),
  v(f('2024-02-29', '0.000000001'), f(null, null)),
)
const nestedText = `{"n":9007199254740993,"big":-${BIG},"f":"NaN","b":true,"s \\"q\\"\\\\":${JSON.stringify(NASTY)},"at":"2023-01-01T12:00:00.123456+00:00","bytes":"AAE=","j":{"k":12345678901234567890},"list":[1,-9223372036854775808],"deep":[{"d":"2024-02-29","x":0.000000001},{"d":null,"x":null}]}`
const empty = f(null, null, '-Infinity', 'false', '', null, null, 'null', [], [])
const emptyText = '{"n":null,"big":null,"f":"-Infinity","b":false,"s \\"q\\"\\\\":"","at":null,"bytes":null,"j":null,"list":[],"deep":[]}'

/** Every type of BigQuery, by a name for its test and its table. */
export const cases: Record<string, Case> = {
  int64: {
    field: { type: 'INTEGER' },
    type: 'bigint',
    values: same('9223372036854775807', '-9223372036854775808', '9007199254740993', '-9007199254740993', '0'),
  },
  float64: {
    field: { type: 'FLOAT64' },
    type: 'double precision',
    values: [
      ...same('NaN', 'Infinity', '-Infinity', '1.7976931348623157e+308', '5e-324', '-0', '0.1'),
      ['1.5E-7', '1.5e-07'],
      ['-inf', '-Infinity'],
      ['1.0', '1'],
    ],
  },
  numeric: {
    field: { type: 'NUMERIC' },
    type: 'numeric(38,9)',
    values: [...same('99999999999999999999999999999.999999999', '-99999999999999999999999999999.999999999', '0.000000001'), ['1.5', '1.500000000']],
  },
  bignumeric: { field: { type: 'BIGNUMERIC' }, type: 'numeric', values: same(BIG, `-${BIG}`, `0.${'0'.repeat(37)}1`, '-0.5', '1') },
  bool: { field: { type: 'BOOLEAN' }, type: 'boolean', values: same('true', 'false') },
  string: { field: { type: 'STRING' }, type: 'text', values: same('', NASTY, '\\N', '\\.', 'NULL', 'null', '\t', '\n', '\\', ' x ', '\r\n') },
  bytes: {
    field: { type: 'BYTES' },
    type: 'bytea',
    values: [
      ['', '\\x'],
      ['AAECAwD/', '\\x0001020300ff'],
      ['XFw=', '\\x5c5c'],
    ],
  },
  timestamp: {
    field: { type: 'TIMESTAMP' },
    type: 'timestamp with time zone',
    values: [
      ['-62135596800000000', '0001-01-01 00:00:00+00'],
      ['-62135596799999999', '0001-01-01 00:00:00.000001+00'],
      ['253402300799999999', '9999-12-31 23:59:59.999999+00'],
      ['0', '1970-01-01 00:00:00+00'],
      ['-1', '1969-12-31 23:59:59.999999+00'],
      ['1672574400123456', '2023-01-01 12:00:00.123456+00'],
    ],
  },
  datetime: {
    field: { type: 'DATETIME' },
    type: 'timestamp without time zone',
    values: [
      ['0001-01-01T00:00:00', '0001-01-01 00:00:00'],
      ['9999-12-31T23:59:59.999999', '9999-12-31 23:59:59.999999'],
    ],
  },
  date: { field: { type: 'DATE' }, type: 'date', values: same('0001-01-01', '9999-12-31', '2024-02-29') },
  time: { field: { type: 'TIME' }, type: 'time without time zone', values: same('00:00:00', '23:59:59.999999') },
  interval: {
    field: { type: 'INTERVAL' },
    type: 'interval',
    values: [
      ['-1-2 3 -4:5:6', '-1 years -2 mons +3 days -04:05:06'],
      ['1-2 -3 4:5:6.789', '1 year 2 mons -3 days +04:05:06.789'],
      ['0-0 0 0:0:0', '00:00:00'],
      ['10000-0 3660000 87840000:0:0', '10000 years 3660000 days 87840000:00:00'],
      ['-0-1 0 0:0:0', '-1 mons'],
      ['0-0 0 -0:0:0.000001', '-00:00:00.000001'],
    ],
  },
  json: {
    field: { type: 'JSON' },
    type: 'jsonb',
    values: [
      ...same('{"a": 12345678901234567890.10, "b": [null, true]}', 'null', '"x\\ty\\\\u0000"'),
      [JSON.stringify({ s: 'tab\t"quote" \\ é' }), '{"s": "tab\\t\\"quote\\" \\\\ é"}'],
    ],
  },
  geography: { field: { type: 'GEOGRAPHY' }, type: 'text', values: same('POINT(-122.35 47.62)') },
  range_date: {
    field: { type: 'RANGE', rangeElementType: { type: 'DATE' } },
    type: 'daterange',
    values: [
      ['[2023-01-01, 2023-02-01)', '[2023-01-01,2023-02-01)'],
      ['[2023-01-01, UNBOUNDED)', '[2023-01-01,)'],
      ['[UNBOUNDED, UNBOUNDED)', '(,)'],
    ],
  },
  range_datetime: {
    field: { type: 'RANGE', rangeElementType: { type: 'DATETIME' } },
    type: 'tsrange',
    values: [['[2023-01-01T00:00:00.5, 2023-02-01T00:00:00)', '["2023-01-01 00:00:00.5","2023-02-01 00:00:00")']],
  },
  range_timestamp: {
    field: { type: 'RANGE', rangeElementType: { type: 'TIMESTAMP' } },
    type: 'tstzrange',
    values: [
      ['[1672574400123456, UNBOUNDED)', '["2023-01-01 12:00:00.123456+00",)'],
      ['[UNBOUNDED, 253402300799999999)', '(,"9999-12-31 23:59:59.999999+00")'],
    ],
  },
  struct: {
    field: { type: 'RECORD', fields: inner },
    type: 'jsonb',
    values: [
      [nested, nestedText],
      [empty, emptyText],
    ],
  },
  structs: {
    field: { type: 'STRUCT', ...repeated, fields: inner },
    type: 'jsonb',
    values: [
      [v(nested, empty), `[${nestedText},${emptyText}]`],
      [[], '[]'],
    ],
  },
  int64s: {
    field: { type: 'INTEGER', ...repeated },
    type: 'bigint[]',
    values: [
      [v('9007199254740993', '-9223372036854775808'), '{9007199254740993,-9223372036854775808}'],
      [[], '{}'],
    ],
  },
  numerics: { field: { type: 'NUMERIC', ...repeated }, type: 'numeric(38,9)[]', values: [[v('1.000000001'), '{1.000000001}']] },
  strings: {
    field: { type: 'STRING', ...repeated },
    type: 'text[]',
    values: [
      [v('', 'NULL', 'a b', 'a"b\\c', 'x,y{}', null, '\\N'), '{"","NULL","a b","a\\"b\\\\c","x,y{}",NULL,"\\\\N"}'],
      [v(NASTY), `{"${NASTY.replace(/["\\]/g, '\\$&')}"}`],
    ],
  },
  bytes_list: { field: { type: 'BYTES', ...repeated }, type: 'bytea[]', values: [[v('AAE=', ''), '{"\\\\x0001","\\\\x"}']] },
  timestamps: { field: { type: 'TIMESTAMP', ...repeated }, type: 'timestamp with time zone[]', values: [[v('-1'), '{"1969-12-31 23:59:59.999999+00"}']] },
  jsons: { field: { type: 'JSON', ...repeated }, type: 'jsonb[]', values: [[v('{"a": "x\\\\y"}', 'null'), '{"{\\"a\\": \\"x\\\\\\\\y\\"}","null"}']] },
  ranges: {
    field: { type: 'RANGE', ...repeated, rangeElementType: { type: 'DATE' } },
    type: 'daterange[]',
    values: [[v('[2023-01-01, UNBOUNDED)'), '{"[2023-01-01,)"}']],
  },
}
