import { DrizzleQueryError } from 'drizzle-orm/errors'
import { expect, test } from 'vitest'
import { CheckpointLost, classify, codeOf, FENCE_SQLSTATE, messageOf, PawlError, type Verdict } from '../../src/errors.ts'

/** As node-postgres throws what PostgreSQL says. */
function coded(code: string, message = 'what the server said'): Error {
  return Object.assign(new Error(message), { code })
}

function byDrizzle(cause: Error): Error {
  return new DrizzleQueryError('select 1', [], cause)
}

const codes: Record<Verdict, string[]> = {
  transient: [
    '40001',
    '40P01',
    '55P03',
    '25P03',
    '25006',
    '53300',
    '53400',
    '57014',
    '57P01',
    '57P02',
    '57P03',
    '57P05',
    '08000',
    '08001',
    '08003',
    '08004',
    '08006',
    '08P01',
    'ECONNREFUSED',
    'ECONNRESET',
    'EPIPE',
    'ETIMEDOUT',
    'EHOSTUNREACH',
    'ENETUNREACH',
    'ENOTFOUND',
    'EAI_AGAIN',
  ],
  lost: [FENCE_SQLSTATE],
  refused: ['22001', '22003', '22023', '22P02', '23502', '23503', '23505', '23514', '23P01'],
  bug: [
    '42601',
    '42703',
    '42P01',
    '42501',
    '21000',
    '25001',
    '25P02',
    '28P01',
    '3D000',
    '53100',
    '57000',
    'P0001',
    'XX000',
    'ERR_INVALID_ARG_TYPE',
    'ENOENT',
    '23',
    '2250',
    '230011',
  ],
}

for (const [verdict, own] of Object.entries(codes)) {
  for (const code of own) {
    test(`${code} means ${verdict}, thrown plain or wrapped by drizzle`, () => {
      expect(classify(coded(code))).toBe(verdict)
      expect(classify(byDrizzle(coded(code)))).toBe(verdict)
    })
  }
}

const lostConnections = [
  'Connection terminated unexpectedly',
  'Connection terminated',
  'Connection terminated due to connection timeout',
  'Client has encountered a connection error and is not queryable',
  'timeout exceeded when trying to connect',
  'timeout expired',
  'Query read timeout',
  'Client was closed and is not queryable',
  'Cannot use a pool after calling end on the pool',
]

for (const message of lostConnections) {
  test(`"${message}" is a lost connection although it has no code, thrown plain or wrapped by drizzle`, () => {
    expect(classify(new Error(message))).toBe('transient')
    expect(classify(byDrizzle(new Error(message)))).toBe('transient')
  })
}

for (const [code, routine] of [
  ['42804', 'tupledesc_match'],
  ['0A000', 'RevalidateCachedQuery'],
] as const) {
  test(`${code} of ${routine} is a migration under way, in any language, and ${code} alone is a bug`, () => {
    expect(classify(Object.assign(new Error('irgendwas'), { code, routine }))).toBe('transient')
    expect(classify(byDrizzle(Object.assign(new Error('irgendwas'), { code, routine })))).toBe('transient')
    expect(classify(coded(code))).toBe('bug')
  })
}

test('an error of our own says itself whether it may be tried again, whatever lies beneath it', () => {
  expect(classify(new PawlError('a.b', 'no'))).toBe('refused')
  expect(classify(new PawlError('a.b', 'later', { retryable: true }))).toBe('transient')
  expect(classify(new PawlError('a.b', 'no', { cause: coded('40001') }))).toBe('refused')
  expect(classify(new PawlError('a.b', 'later', { retryable: true, cause: coded('23503') }))).toBe('transient')
  expect(classify(new CheckpointLost('r1'))).toBe('lost')
  expect(classify(new CheckpointLost('r1', coded('40001')))).toBe('lost')
})

test('whatever else is thrown is a bug', () => {
  for (const thrown of [new Error('x is not a function'), new TypeError('null'), 'text', 7, null, undefined, { code: 42 }, {}])
    expect(classify(thrown)).toBe('bug')
})

test('a code is found on the error or one level beneath it, and only a text is one', () => {
  expect(codeOf(coded('42P01'))).toBe('42P01')
  expect(codeOf(byDrizzle(coded('42P01')))).toBe('42P01')
  expect(codeOf(new Error('outer', { cause: new Error('middle', { cause: coded('42P01') }) }))).toBeUndefined()
  expect(codeOf({ code: 7, cause: { code: '57P01' } })).toBe('57P01')
  for (const thrown of [undefined, null, 'text', new Error('none')]) expect(codeOf(thrown)).toBeUndefined()
})

test('the error keeps code, hint and cause, and is an Error by its name', () => {
  const cause = coded('23505')
  const error = new PawlError('timer.past', 'the time is past', { hint: 'choose a later one', cause })
  expect(error).toMatchObject({ name: 'PawlError', code: 'timer.past', message: 'the time is past', hint: 'choose a later one', retryable: false, cause })
  expect(error).toBeInstanceOf(Error)
  expect(new PawlError('a.b', 'x')).not.toHaveProperty('cause')
  expect(new CheckpointLost('r1')).toMatchObject({ name: 'CheckpointLost', code: 'run.taken_over', message: 'run r1 was taken over by another worker' })
})

test('anything thrown has a message that says something', () => {
  expect(messageOf(new Error('plain'))).toBe('plain')
  expect(messageOf('text')).toBe('text')
  expect(messageOf(undefined)).toBe('undefined')
  // Node throws this for a host with two addresses, and leaves its message empty.
  const both = Object.assign(new AggregateError([new Error('connect ECONNREFUSED ::1:5432'), new Error('connect ECONNREFUSED 127.0.0.1:5432')]), {
    code: 'ECONNREFUSED',
  })
  expect(messageOf(both)).toBe('connect ECONNREFUSED ::1:5432; connect ECONNREFUSED 127.0.0.1:5432')
})
