import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { run } from '../../bin/run.ts'
import type { Commands, Form, Run } from '../../bin/spec.ts'
import { exitCodes, type Terminal, usageError } from '../../bin/terminal.ts'
import { PawlError } from '../../src/errors.ts'
import { version } from '../../src/version.ts'

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

function command(work: Run, changes: Partial<Form> = {}): Commands {
  const words = [{ name: 'RUN', summary: 'a run' }] as const
  const form: Form = {
    summary: 'says how it is',
    words: [{ name: 'FIRST', optional: true, many: true, summary: 'whatever' }],
    options: { watch: { summary: 'again' }, key: { summary: 'a key', value: { name: 'KEY' } } },
    examples: ['pawl status --watch'],
    ...changes,
  }
  const own = { group: 'look', summary: 'says how it is', load: async () => work } as const
  const [stop, resume] = [
    { summary: 'stops', words, examples: [] },
    { summary: 'resumes', words, examples: [] },
  ]
  return { status: { ...own, forms: [form] }, stop: { ...own, forms: [stop] }, resume: { ...own, forms: [resume] } }
}

const fine = command(async () => exitCodes.ok)

/** A command that fails by throwing `error`. */
const failing = (error: unknown) =>
  command(async () => {
    throw error
  })

test('without a command the overview is shown and the call was wrong; asked for, it is right', async () => {
  expect(await run(fine, [])).toBe(2)
  const overview = printed
  expect(overview).toMatch(/^ {2}status {2}says how it is$/m)
  expect(overview).toContain('Exit codes: 0 ok, 1 failed, 2 bad usage or refused, 3 a difference was found, 4 could not verify.')
  for (const word of ['help', '--help', '-h']) {
    printed = ''
    expect(await run(fine, [word])).toBe(0)
    expect(printed).toBe(overview)
  }
})

test('the version is that of package.json', async () => {
  expect(await run(fine, ['--version'])).toBe(0)
  expect(printed).toBe(`${version}\n`)
})

test('an unknown command suggests those that begin alike, and is refused', async () => {
  expect(await run(fine, ['stat'])).toBe(2)
  expect(told).toBe('error: there is no command "stat" (usage)\n  next: did you mean status or stop? "pawl help" lists all\n')
  told = ''
  expect(await run(fine, ['xyz'])).toBe(2)
  expect(told).toContain('next: "pawl help" lists all')
  expect(printed).toBe('')
})

test('a word that every object knows is no command', async () => {
  for (const word of ['constructor', 'toString', '__proto__', 'hasOwnProperty']) {
    told = ''
    expect(await run(fine, [word]), word).toBe(2)
    expect(told).toContain(`there is no command "${word}"`)
  }
})

test('--help of a command shows usage, example and options without running it', async () => {
  const work = vi.fn(async () => 0)
  for (const words of [
    ['status', '--help'],
    ['status', '-h'],
    ['status', '--watch', '--help'],
    ['help', 'status'],
  ]) {
    printed = ''
    expect(await run(command(work), words)).toBe(0)
    for (const part of [
      'says how it is',
      'usage\n  pawl status [FIRST …] [--watch] [--key KEY]',
      'examples\n  pawl status --watch',
      '--key KEY',
      '--json',
      '--help',
    ])
      expect(printed).toContain(part)
  }
  expect(work).not.toHaveBeenCalled()
})

test('the command gets its values and words, and its number is the exit code', async () => {
  const work = vi.fn(async () => exitCodes.different)
  expect(await run(command(work), ['status', 'one', '--key', 'k', 'two', '--watch', '--json'])).toBe(3)
  expect(work).toHaveBeenCalledExactlyOnceWith(expect.objectContaining({ json: true }), { key: 'k', watch: true, json: true }, ['one', 'two'])
})

test('an unknown option and an option without its value are refused with the usage', async () => {
  for (const words of [
    ['status', '--nope'],
    ['status', '--key'],
    ['status', '--watch=yes'],
  ]) {
    told = ''
    expect(await run(fine, words), words.join(' ')).toBe(2)
    expect(told).toMatch(/^error: .+ \(usage\)\n {2}next: usage: pawl status \[FIRST …\] \[--watch\] \[--key KEY\]\n$/)
  }
})

const endings: [string, unknown, number][] = [
  ['bad usage', usageError('no', 'yes'), 2],
  ['a refusal of ours', new PawlError('a.b', 'no'), 2],
  ['a passing failure of ours', new PawlError('a.b', 'later', { retryable: true }), 1],
  ['a constraint', Object.assign(new Error('x'), { code: '23505' }), 2],
  ['bad input', Object.assign(new Error('x'), { code: '22023' }), 2],
  ['a missing right', Object.assign(new Error('x'), { code: '42501' }), 2],
  ['a wrong password', Object.assign(new Error('x'), { code: '28P01' }), 2],
  ['a database that is not there', Object.assign(new Error('x'), { code: '3D000' }), 2],
  ['a wrapped refusal', new Error('outer', { cause: Object.assign(new Error('x'), { code: '22023' }) }), 2],
  ['a database out of reach', Object.assign(new Error('x'), { code: 'ECONNREFUSED' }), 1],
  ['a server that shuts down', Object.assign(new Error('x'), { code: '57P01' }), 1],
  ['a bug', new TypeError('x is not a function'), 1],
  ['a thrown text', 'text', 1],
]

for (const [what, error, code] of endings) {
  test(`${what} ends with exit code ${code}, for people and for machines`, async () => {
    expect(await run(failing(error), ['status'])).toBe(code)
    expect(printed).toBe('')
    expect(told).toContain('error: ')
    told = ''
    expect(await run(failing(error), ['status', '--json'])).toBe(code)
    expect(told).toBe('')
    expect(JSON.parse(printed)).toMatchObject({ error: { code: expect.any(String), message: expect.stringMatching(/./) } })
  })
}

test("people get message, code and the next step, PostgreSQL's hint included, and no stack", async () => {
  const refusal = Object.assign(new Error('category 9 does not exist'), { code: '22023', hint: 'select id, name from public.categories' })
  expect(await run(failing(refusal), ['status'])).toBe(2)
  expect(told).toBe('error: category 9 does not exist (22023)\n  next: select id, name from public.categories\n')
  expect(await run(failing(refusal), ['status', '--json'])).toBe(2)
  expect(JSON.parse(printed)).toEqual({ error: { code: '22023', message: 'category 9 does not exist', hint: 'select id, name from public.categories' } })
})

test('where PostgreSQL names no next step, Pawl does', async () => {
  for (const [code, hint] of [
    ['ECONNREFUSED', 'DATABASE_URL'],
    ['42P01', 'pawl migrate up'],
    ['28P01', 'password'],
    ['3D000', 'create the database'],
    ['42501', 'pawl_operator'],
  ] as const) {
    printed = ''
    await run(failing(Object.assign(new Error('x'), { code })), ['status', '--json'])
    expect(JSON.parse(printed)).toMatchObject({ error: { code, hint: expect.stringContaining(hint) } })
  }
})

test('a bug shows its stack to people: nothing else says where it is', async () => {
  await run(failing(new TypeError('x is not a function')), ['status'])
  expect(told).toMatch(/error: x is not a function\nTypeError: x is not a function\n\s+at /)
})

test('an unusable environment is named before the command runs', async () => {
  vi.stubEnv('PAWL_HTTP_PORT', 'http')
  const work = vi.fn(async () => 0)
  expect(await run(command(work), ['status', '--json'])).toBe(2)
  expect(JSON.parse(printed)).toMatchObject({ error: { code: 'config.invalid', message: expect.stringContaining('PAWL_HTTP_PORT') } })
  expect(work).not.toHaveBeenCalled()
})

test('colours are for terminals only, and NO_COLOR turns them off', async () => {
  const colors: boolean[] = []
  const looking = command(async (terminal: Terminal) => {
    colors.push(terminal.color)
    return 0
  })
  const isTTY = process.stdout.isTTY
  try {
    for (const [tty, noColor] of [
      [true, ''],
      [true, '1'],
      [false, ''],
    ] as const) {
      process.stdout.isTTY = tty
      vi.stubEnv('NO_COLOR', noColor)
      await run(looking, ['status'])
    }
  } finally {
    process.stdout.isTTY = isTTY
  }
  expect(colors).toEqual([true, false, false])
})

test('--json may come first', async () => {
  const work = vi.fn(async () => 0)
  expect(await run(command(work), ['--json', 'status', 'one'])).toBe(0)
  expect(work).toHaveBeenCalledExactlyOnceWith(expect.objectContaining({ json: true }), { json: true }, ['one'])
})

test('answers go to standard output, talk to standard error', async () => {
  await run(
    command(async terminal => (terminal.out('answer'), terminal.say('talk'), 0)),
    ['status'],
  )
  expect([printed, told]).toEqual(['answer\n', 'talk\n'])
})
