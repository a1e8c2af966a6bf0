import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { exitCodeOf, failureOf } from '../../bin/failure.ts'
import { run } from '../../bin/run.ts'
import type { Commands } from '../../bin/spec.ts'

let printed = ''
let told = ''

beforeEach(() => {
  printed = told = ''
  vi.spyOn(process.stdout, 'write').mockImplementation(text => Boolean((printed += String(text))))
  vi.spyOn(process.stderr, 'write').mockImplementation(text => Boolean((told += String(text))))
})

afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

/** A command that fails by throwing `error`. */
const failing = (error: Error): Commands => ({
  status: { group: 'look', summary: 'fails', forms: [{ summary: 'fails', examples: [] }], load: async () => () => Promise.reject(error) },
})

test('the passwords of URLs and of the environment are never shown, not in a message, a hint or a stack', async () => {
  vi.stubEnv('DATABASE_URL', 'postgres://shop:c0rrect%23horse@db/shop')
  const hint = 'look at postgres://x:y-z@h/d and c0rrect%23horse'
  const error = Object.assign(new Error('no way to postgres://shop:c0rrect%23horse@db/shop with c0rrect#horse'), { hint })
  expect(await run(failing(error), ['status'])).toBe(1)
  expect(told).toContain(
    'error: no way to postgres://shop:***@db/shop with ***\n  next: look at postgres://x:***@h/d and ***\nError: no way to postgres://shop:***@',
  )
  expect(told).not.toMatch(/horse|y-z/)
  await run(failing(error), ['status', '--json'])
  expect(printed).toContain('***')
  expect(printed).not.toMatch(/horse|y-z/)
})

test('a login that is refused a right hears which role the command needs', () => {
  const denied = Object.assign(new Error('permission denied for function cancel'), { code: '42501' })
  expect(failureOf(denied, { role: 'pawl_operator' }).hint).toBe('this needs the role pawl_operator: grant pawl_operator to your login')
  expect(failureOf(denied).hint).toMatch(/pawl_observer to look/)
})

test.each([
  ['SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string', 'database.password', 2],
  ['The server does not support SSL connections', 'database.tls', 1],
  ['timeout expired', 'database.unreachable', 1],
  ['Query read timeout', 'database.slow', 1],
  ['Connection terminated unexpectedly', 'database.unreachable', 1],
])('what pg says without a code gets one, and a next step instead of a stack: %s', (message, code, exit) => {
  const error = new Error(message)
  expect(failureOf(error)).toEqual({ code, message, hint: expect.stringMatching(/./), stack: undefined })
  expect(exitCodeOf(error)).toBe(exit)
})
