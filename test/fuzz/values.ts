import fc from 'fast-check'

/** Where nothing is to be given: the parameter's default stands. */
export const omitted = Symbol('omitted')

const sql = [
  `'; drop table public.fuzz_canary; --`,
  `'); update public.fuzz_canary set touched = true; --`,
  `"; select public.fuzz_bite(); --`,
  `' || public.fuzz_bite() || '`,
  '${7*7} $(id) `id` {{7*7}}',
  '%s %I %L %1$s %%',
  `$1 $$ $pawl$ E'\\'' U&"\\0061"`,
  'public.fuzz_canary',
  'pg_catalog.pg_authid',
  'pgboss.job',
  'pawl.kinds',
  '__pgboss__send-it',
]

const odd = [
  '',
  ' ',
  'null',
  'NULL',
  'NaN',
  '\\',
  '/../../../etc/passwd',
  '..',
  'two\nlines\r\n\tand\u0007a bell\u001b[31m',
  '\u0000',
  'a\u0000b',
  '\ud800',
  '\u202eright to left',
  'e\u0301\u0327'.repeat(40),
  '\u{1f469}\u200d\u{1f469}\u200d\u{1f467}',
  'ß'.repeat(300),
  '\ufeff\u200b\u2028',
  'x'.repeat(1_001),
  'x'.repeat(1_000_000),
]

// Random characters, as equal ones are compressed before they meet a limit of an index.
const incompressible = fc
  .array(fc.integer({ min: 0x1f300, max: 0x1f9ff }), { minLength: 900, maxLength: 1_000, size: 'max' })
  .map(codes => String.fromCodePoint(...codes))

/** What people, programs and attackers write where a name is wanted; with `known` more likely than chance. */
export const text = (...known: readonly string[]) =>
  fc.oneof(
    { weight: 4, arbitrary: known.length > 0 ? fc.constantFrom(...known) : fc.string() },
    { weight: 2, arbitrary: fc.string({ unit: 'binary', maxLength: 40 }) },
    { weight: 2, arbitrary: fc.constantFrom(...sql) },
    { weight: 2, arbitrary: fc.constantFrom(...odd) },
    { weight: 1, arbitrary: incompressible },
    { weight: 1, arbitrary: fc.constant(null) },
  )

const powers = [0, 1, -1, 1000, 1001, 32_767, 32_768, 2_147_483_647, -2_147_483_648]
export const number = (...known: readonly number[]) =>
  fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...known.map(String), '1', '0') },
    { weight: 2, arbitrary: fc.constantFrom(...powers.map(String)) },
    { weight: 1, arbitrary: fc.maxSafeInteger().map(String) },
    {
      weight: 1,
      arbitrary: fc.constantFrom('9223372036854775807', '-9223372036854775808', '9223372036854775808', 'NaN', 'Infinity', '1e3', '0x10', '1.5', 'x', ''),
    },
    { weight: 1, arbitrary: fc.constant(null) },
  )

export const truth = fc.oneof(fc.constantFrom('true', 'false'), fc.constantFrom('t', 'yes', '2', 'x', null))

export const moment = fc.oneof(
  { weight: 3, arbitrary: fc.integer({ min: -120, max: 1_000_000 }).map(seconds => new Date(Date.now() + seconds * 1000).toISOString()) },
  {
    weight: 4,
    arbitrary: fc.constantFrom(
      'infinity',
      '-infinity',
      '4713-01-01 00:00:00 BC',
      '4714-11-24 00:00:00+00 BC',
      '294276-12-31 23:59:59.999999+00',
      '294277-01-01',
      '0001-01-01 BC',
      '9999-12-31 23:59:59.999999+00',
      '10000-01-01',
      '275760-09-13 00:00:00.001+00',
      '1970-01-01 00:00:00+00',
      '2038-01-19 03:14:08+00',
      '2026-02-30',
      '2026-06-30 23:59:60+00',
      '2027-01-01 00:00:00+15:59:59',
      'now',
      'tomorrow',
      'allballs',
      'x',
      '',
    ),
  },
  { weight: 1, arbitrary: fc.constant(null) },
)

export const span = fc.oneof(
  fc.constantFrom(
    '1 day',
    '0',
    '-1 day',
    '178000000 years',
    '-178000000 years',
    '178000001 years',
    'infinity',
    '-infinity',
    '1 month -30 days',
    '1e10 s',
    'x',
    '',
    null,
  ),
  fc.integer().map(seconds => `${seconds} seconds`),
)

export const identifier = (...known: readonly string[]) =>
  fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(...known) },
    { weight: 1, arbitrary: fc.uuid() },
    { weight: 1, arbitrary: fc.constantFrom('00000000-0000-0000-0000-000000000000', 'FFFFFFFF-ffff-ffff-ffff-ffffffffffff', 'x', '', `' or true --`) },
    { weight: 1, arbitrary: fc.constant(null) },
  )

export const address = fc.oneof(fc.ipV4(), fc.ipV6(), fc.constantFrom('10.0.0.0/8', '::ffff:1.2.3.4', '::', '256.1.1.1', 'localhost', `1.2.3.4'; --`, '', null))

const deep = (depth: number) => `${'['.repeat(depth)}${']'.repeat(depth)}`
const keys = ['__proto__', 'constructor', 'toString', 'run_id', 'timer_id', 'schedule', 'expire_hours', 'reward_reminder_hours', '', '%s', `'; --`, 'a"b']

/** The text of a JSON value: any, hostile, or what is no JSON at all. `likely`: objects with keys that mean something here. */
export const json = (likely: fc.Arbitrary<unknown> = fc.constant({})) =>
  fc.oneof(
    { weight: 4, arbitrary: likely.map(value => JSON.stringify(value)) },
    { weight: 2, arbitrary: fc.dictionary(fc.constantFrom(...keys), fc.jsonValue({ maxDepth: 3 })).map(value => JSON.stringify(value)) },
    { weight: 2, arbitrary: fc.json() },
    {
      weight: 3,
      arbitrary: fc.constantFrom(
        'null',
        '[]',
        '"text"',
        '1e400',
        '1E-400',
        '{"a": 1e131071}',
        '{"a": "\\u0000"}',
        '{"\\u0000": 1}',
        '{"a": "\\ud800"}',
        '{"a": 1, "a": 2}',
        '{"expire_hours": 1e300, "reward_reminder_hours": -1}',
        '{"expire_hours": 87600, "reward_reminder_hours": 0.0000001}',
        '{',
        '',
        `{"a": "'; drop table public.fuzz_canary; --"}`,
        deep(5_000),
        deep(100_000),
        `{"a": ${deep(5_000)}}`,
        `{"a": "${'x'.repeat(1_000_000)}"}`,
        `{${Array.from({ length: 5_000 }, (_, i) => `"k${i}": ${i}`).join(',')}}`,
      ),
    },
    { weight: 1, arbitrary: fc.constant(null) },
  )

/** A list as pg sends it, with holes in it and lists. */
export const list = (...known: readonly string[]) =>
  fc.oneof(
    { weight: 3, arbitrary: fc.array(text(...known), { maxLength: 4 }) },
    { weight: 1, arbitrary: fc.constantFrom([['a', 'b']], [[]], [null], []) },
    { weight: 1, arbitrary: fc.array(fc.string({ minLength: 1, maxLength: 5 }), { minLength: 2_000, maxLength: 2_000, size: 'max' }) },
    { weight: 1, arbitrary: fc.constant(null) },
  )

/** Given, or left out. */
export const maybe = <Value>(arbitrary: fc.Arbitrary<Value>): fc.Arbitrary<Value | typeof omitted> =>
  fc.oneof({ weight: 2, arbitrary }, { weight: 1, arbitrary: fc.constant(omitted) })
