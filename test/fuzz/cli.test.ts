import fc from 'fast-check'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { commands } from '../../bin/commands/index.ts'
import { run } from '../../bin/run.ts'
import { type Commands, optionsOf } from '../../bin/spec.ts'
import { variableNames } from '../../src/config.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { runPawl } from '../support/process.ts'
import { announce, faultsIn, runs } from './runs.ts'

const SECRETS = {
  DATABASE_URL: 'dbP4ssw0rd-canary',
  PAWL_SOURCE_SALES: 'sourceP4ss-canary',
  PAWL_PAGES_TOKEN: 'pagesT0ken-canary-16',
  AWS_SECRET_ACCESS_KEY: 'awsS3cret-canary',
  AWS_SESSION_TOKEN: 'awsT0ken-canary',
}
/** A server that refuses: every command that needs one fails, and says so. */
const nowhere = {
  ...SECRETS,
  AWS_ACCESS_KEY_ID: 'AKIAEXAMPLE',
  DATABASE_URL: `postgres://pawl:${SECRETS.DATABASE_URL}@127.0.0.1:1/app`,
  PAWL_SOURCE_SALES: `postgres://pawl:${SECRETS.PAWL_SOURCE_SALES}@127.0.0.1:1/sales`,
}

let written = ''
let db: TestDatabase

beforeAll(async () => {
  announce('cli')
  db = await createDatabase()
})

afterAll(() => db.drop())

beforeEach(() => {
  for (const name of variableNames) vi.stubEnv(name, undefined)
  for (const stream of [process.stdout, process.stderr]) vi.spyOn(stream, 'write').mockImplementation(text => Boolean((written += String(text))))
})

afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

const words = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      'ovr_1',
      '1',
      '-1',
      '0',
      '',
      ' ',
      '--',
      '-',
      '-h',
      '--help',
      '--json',
      '--json=x',
      '--no-json',
      '--unknown',
      '--=',
      '-xyz',
      '--key',
    ),
  },
  {
    weight: 2,
    arbitrary: fc.constantFrom(
      '__proto__',
      '--__proto__',
      '--constructor=1',
      'toString',
      '%s',
      `'; drop table x; --`,
      '$(id)',
      '../../etc/passwd',
      'a\nb',
      '\u001b[31mred',
      '\ud800',
      '9'.repeat(400),
      'x'.repeat(20_000),
      '{"a":',
      '1e400',
      'NaN',
      'infinity',
    ),
  },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 20 }).map(text => text.replaceAll('\u0000', '')) },
)

/** A call that begins right: a command, its verb and some of its own options, and then anything. */
const calls = (names: readonly string[]) =>
  fc.oneof(
    { weight: 1, arbitrary: fc.array(words, { maxLength: 5 }) },
    {
      weight: 4,
      arbitrary: fc.constantFrom(...names).chain(name => {
        const forms = commands[name]?.forms ?? []
        return fc.constantFrom(...forms).chain(form => {
          const own = Object.keys(optionsOf(form)).filter(option => !['watch', 'follow', 'wait'].includes(option))
          const option = fc
            .tuple(fc.constantFrom(...own), words, fc.constantFrom('=', ' '))
            .map(([key, value, by]) => (by === '=' ? [`--${key}=${value}`] : [`--${key}`, value]))
          return fc
            .array(
              fc.oneof(
                words.map(word => [word]),
                option,
              ),
              { maxLength: 5 },
            )
            .map(rest => [name, ...(form.verb === undefined ? [] : [form.verb]), ...rest.flat()])
        })
      }),
    },
  )

const STACK = /^\s+at .*[(/].*:\d+:\d+/m

async function faultsOf(table: Commands, argv: string[]): Promise<string[]> {
  written = ''
  const code = await run(table, argv)
  const faults: string[] = []
  if (![0, 1, 2, 3, 4].includes(code)) faults.push(`exit code ${code}`)
  if (STACK.test(written)) faults.push(`a stack trace: ${written.slice(0, 500)}`)
  if (code !== 0 && written.trim() === '') faults.push(`exit code ${code} without a word`)
  for (const [name, secret] of Object.entries(SECRETS)) if (written.includes(secret)) faults.push(`the secret of ${name} was written`)
  if (argv.includes('--json') && !argv.includes('--help') && !argv.includes('-h') && code !== 0 && written.trim().startsWith('{') && !isJson(written))
    faults.push('the error is no JSON')
  return faults
}

function isJson(text: string): boolean {
  return text
    .trim()
    .split('\n')
    .every(line => {
      try {
        JSON.parse(line)
        return true
      } catch {
        return false
      }
    })
}

test('whatever stands in a command line, it is understood or refused in words, and no command of it begins', async () => {
  for (const [name, value] of Object.entries(nowhere)) vi.stubEnv(name, value)
  const stubs: Commands = Object.fromEntries(Object.entries(commands).map(([name, spec]) => [name, { ...spec, load: async () => async () => 0 }]))
  expect(await faultsIn(calls(Object.keys(commands)), { numRuns: runs * 20 }, argv => faultsOf(stubs, argv))).toEqual([])
})

test('what a library throws with a URL in it is told without the password', async () => {
  for (const [name, value] of Object.entries(nowhere)) vi.stubEnv(name, value)
  const thrown = fc.tuple(
    fc.constantFrom(nowhere.DATABASE_URL, nowhere.PAWL_SOURCE_SALES, SECRETS.DATABASE_URL, `"${SECRETS.DATABASE_URL}"`),
    fc.string({ maxLength: 20 }),
    fc.string({ maxLength: 20 }),
    fc.constantFrom(undefined, '08006', 'ECONNREFUSED', '28P01'),
  )
  const found = await faultsIn(thrown, { numRuns: runs * 5 }, async ([text, before, after, code]) => {
    const error = Object.assign(new Error(`${before} ${text} ${after}`), code === undefined ? {} : { code }, { hint: `see ${text}` })
    const table: Commands = { fails: { group: 'look', summary: 'fails', forms: [{ summary: 'fails', examples: [] }], load: () => Promise.reject(error) } }
    return (await faultsOf(table, ['fails'])).filter(fault => !fault.startsWith('a stack trace'))
  })
  expect(found).toEqual([])
})

// Those that look, ask and steer really do it; what starts a server, restores or migrates is called in the first test only.
const harmless = Object.entries(commands)
  .filter(([, { group }]) => group === 'look' || group === 'ask' || group === 'steer')
  .map(([name]) => name)

test('commands that look, ask and steer answer or refuse in words whatever they are asked for', async () => {
  vi.stubEnv('DATABASE_URL', db.url)
  const real = calls(harmless).filter(argv => harmless.includes(argv[0] ?? '') && !argv.some(word => /^--(watch|follow|wait)/.test(word)))
  expect(await faultsIn(real, { numRuns: runs * 2 }, argv => faultsOf(commands, argv))).toEqual([])
}, 1_800_000)

test('a real process keeps to it: its code, no stack, no secret', async () => {
  const calls = [['status'], ['migrate', 'up', '--json'], ['work'], ['backup', '--json'], ['health', '--__proto__=1'], ['report', '\u001b[31m']]
  for (const argv of calls.slice(0, runs > 100 ? calls.length : 2)) {
    const { code, stdout, stderr } = await runPawl(argv, '', { env: nowhere })
    expect([argv, [1, 2, 4].includes(code ?? -1)]).toEqual([argv, true])
    expect(STACK.test(stdout + stderr)).toBe(false)
    for (const secret of Object.values(SECRETS)) expect((stdout + stderr).includes(secret)).toBe(false)
  }
}, 120_000)
