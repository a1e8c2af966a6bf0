import { spawn, spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { commands } from '../../bin/commands/index.ts'
import { run } from '../../bin/run.ts'
import { requestOverride, seedCategory, type Seeded } from '../support/overrides.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { runPawl, type WorkerOptions } from '../support/process.ts'
import { until } from '../support/until.ts'

const NOWHERE = 'postgres://pawl:secret@127.0.0.1:1/none'
const root = fileURLToPath(new URL('../..', import.meta.url))

let db: TestDatabase
let seeded: Seeded

beforeAll(async () => {
  db = await createDatabase()
  seeded = await seedCategory(db.query, 30)
})

afterAll(() => db.drop())

/** Runs `pawl` on the database and expects an exit code; what it printed. */
async function pawl(words: string[], code = 0, options: WorkerOptions & { url?: string } = {}): Promise<{ stdout: string; stderr: string }> {
  const ended = await runPawl(words, options.url ?? db.url, options)
  expect(ended.code, `pawl ${words.join(' ')}\n${ended.stdout}${ended.stderr}`).toBe(code)
  return ended
}

async function asked(words: string[], code = 0, options: WorkerOptions & { url?: string } = {}): Promise<Record<string, unknown>> {
  const { stdout, stderr } = await pawl([...words, '--json'], code, options)
  expect(stderr, 'a machine reads one stream').toBe('')
  return JSON.parse(stdout) as Record<string, unknown>
}

/** For people: the message on standard error, its next step beneath it, and nothing on standard output. */
async function refused(words: string[], message: RegExp, hint: RegExp, options: { url?: string; code?: number } = {}): Promise<void> {
  const { stdout, stderr } = await pawl(words, options.code ?? 2, options)
  expect(stdout).toBe('')
  expect(stderr).toMatch(message)
  expect(stderr).toMatch(new RegExp(`^ {2}next: .*${hint.source}`, 'm'))
  expect(stderr, 'no stack for people').not.toMatch(/^\s+at /m)
}

test('each command says its usage and an example with --help, without a database', async () => {
  const written = vi.spyOn(process.stdout, 'write').mockReturnValue(true)
  onTestFinished(() => {
    written.mockRestore()
  })
  for (const [name, command] of Object.entries(commands)) {
    expect(await run(commands, [name, '--help'])).toBe(0)
    const text = String(written.mock.lastCall?.[0])
    for (const part of [command.summary, `usage\n  pawl ${name}`, `examples\n  pawl ${name}`, '--json', '--help']) expect(text).toContain(part)
  }
  written.mockRestore()
  expect((await pawl(['work', '--help'], 0, { url: '' })).stdout).toContain('usage\n  pawl work [--queues QUEUES]')
})

test('status shows runs with bars, queues and workers, for people and for machines', async () => {
  const runId = await requestOverride(db.query, seeded)
  const { stdout } = await pawl(['status'])
  expect(stdout).toMatch(new RegExp(`pending +░{24} +0 % .*override.*${runId}`))
  expect(stdout).toMatch(/^queue +state +ready +delayed +active +failed$/m)
  expect(stdout).toMatch(/^overrides\.apply +open +1 /m)
  const status = await asked(['status'])
  expect(status.queues).toContainEqual(expect.objectContaining({ queue: 'overrides.apply', ready: 1 }))
  expect(status.workers).toEqual([])
  expect(status.runs).toContainEqual(expect.objectContaining({ run_id: runId, state: 'pending', kind: 'override', failures: 0 }))
  await pawl(['cancel', runId])
})

test('override, why, cancel and retry each do their one thing, and say it twice over', async () => {
  const category = String(seeded.categoryId)
  const { stdout } = await pawl(['override', category, '--user', String(seeded.userId), '--settings', '{"channel": "push"}', '--batch-size', '7'])
  const id = stdout.split('\n')[0] ?? ''
  expect(await db.query('select status, batch_size, override_settings from public.category_override_operations where operation_id = $1', [id])).toEqual([
    { status: 'PENDING', batch_size: 7, override_settings: { channel: 'push' } },
  ])
  expect((await pawl(['why', id])).stdout).toMatch(/no worker is running for queue overrides\.apply; start one with "pawl work"\.\n$/)
  expect(await asked(['why', id])).toEqual({ run_id: id, why: expect.stringContaining('no worker is running') })
  expect((await pawl(['cancel', id, '--reason', 'a mistake'])).stdout).toBe(`${id} is cancelled, at its next batch edge if it is running\n`)
  expect(await db.query('select state, cancel_reason from pawl.checkpoints where run_id = $1', [id])).toEqual([
    { state: 'cancelled', cancel_reason: 'a mistake' },
  ])
  expect(await asked(['cancel', id])).toEqual({ cancel: id, done: false })
  expect(await asked(['retry', id])).toEqual({ retry: id, done: true })
  expect((await pawl(['retry', id])).stdout).toContain('nothing to retry')
  const keyed = ['override', category, '--user', String(seeded.userId), '--key', 'once']
  const first = await asked(keyed)
  expect(await asked(keyed), 'the same key is the same operation').toEqual(first)
})

test('an override can be taken back by its id', async () => {
  const runId = await requestOverride(db.query, seeded)
  await db.query('select pawl.cancel($1)', [runId])
  const { operation_id: id } = await asked(['override', 'revert', runId, '--user', String(seeded.userId)])
  expect(await db.query('select reverts_operation_id from public.category_override_operations where operation_id = $1', [id])).toEqual([
    { reverts_operation_id: runId },
  ])
})

test('pause and resume stop a queue and let it go on, and say when there was nothing to do', async () => {
  expect(await asked(['pause', 'overrides.apply', '--reason', 'a look'])).toEqual({ pause: 'overrides.apply', done: true })
  expect((await pawl(['pause', 'overrides.apply'])).stdout).toBe('overrides.apply was paused already\n')
  expect((await pawl(['status'])).stdout).toMatch(/^overrides\.apply +paused /m)
  expect((await pawl(['resume', 'overrides.apply'])).stdout).toBe('overrides.apply goes on\n')
  expect(await asked(['resume', 'overrides.apply'])).toEqual({ resume: 'overrides.apply', done: false })
})

test('health lists every check, and its exit code says whether a person is needed', async () => {
  const { stdout } = await pawl(['health'], 1)
  expect(stdout).toMatch(/^BAD {2}workers +0 alive$/m)
  expect(stdout).toMatch(/^ok {3}stuck runs /m)
  expect(await asked(['health'], 1)).toMatchObject({ ok: false, checks: expect.arrayContaining([{ check: 'workers', ok: false, detail: '0 alive' }]) })
})

test('what the database or the command line refuses ends with 2 and the next step', async () => {
  const user = ['--user', String(seeded.userId)]
  const refusals: [string[], RegExp, RegExp][] = [
    [['cancel', 'nobody'], /run "nobody" does not exist \(22023\)/, /pawl\.runs/],
    [['retry', 'nobody'], /run "nobody" does not exist/, /pawl\.failures/],
    [['pause', 'no.queue'], /queue "no.queue" does not exist/, /pawl\.queues/],
    [['override', '987654', ...user], /987654/, /./],
    [['override', String(seeded.categoryId), ...user, '--batch-size', '1001'], /from 1 to 1000, not "1001"/, /usage/],
    [['override', 'first', ...user], /the category must be a whole number of 1 or more, not "first"/, /usage: pawl override/],
    [['override', String(seeded.categoryId)], /--user is missing/, /usage/],
    [['override', '1', ...user, '--settings', '{nope'], /--settings is not JSON/, /quote it/],
    [['cancel'], /the run is missing/, /usage: pawl cancel RUN/],
    [['status', '--nope'], /--nope/, /usage: pawl status/],
    [['work', '--queues', 'nothing.*'], /no queue matches nothing\.\*/, /overrides\.apply/],
    [['migrate', 'sideways'], /migrate has no verb "sideways"/, /up\|down/],
  ]
  for (const [words, message, hint] of refusals) await refused(words, message, hint)
  expect(await asked(['cancel', 'nobody'], 2)).toEqual({
    error: { code: '22023', message: 'run "nobody" does not exist', hint: expect.stringContaining('pawl.runs') },
  })
  expect(await asked(['cancel'], 2)).toEqual({
    error: { code: 'usage', message: expect.stringContaining('the run is missing'), hint: expect.stringContaining('usage: pawl cancel RUN') },
  })
})

test('a database that is out of reach ends with 1, one that was never migrated with 2, and no password is shown', async () => {
  await refused(['status'], /ECONNREFUSED/, /DATABASE_URL/, { url: NOWHERE, code: 1 })
  const empty = await createDatabase({ empty: true })
  onTestFinished(empty.drop)
  await refused(['status'], /pawl\.runs/, /pawl migrate up/, { url: empty.url })
  await refused(['work'], /the database lacks \d+ of \d+ migrations/, /pawl migrate up/, { url: empty.url })
  for (const words of [['status'], ['work'], ['migrate', 'verify']]) {
    const ended = await runPawl(words, NOWHERE)
    expect(ended.stdout + ended.stderr).not.toContain('secret')
  }
})

test('migrate status lists each file with its state, and verify finds nothing wrong', async () => {
  const { migrations } = (await asked(['migrate', 'status'])) as { migrations: { tag: string; state: string }[] }
  const journal = JSON.parse(readFileSync(join(root, 'drizzle/meta/_journal.json'), 'utf8')) as { entries: { tag: string }[] }
  expect(migrations.map(({ tag, state }) => ({ tag, state }))).toEqual(journal.entries.map(({ tag }) => ({ tag, state: 'applied' })))
  expect((await pawl(['migrate', 'status'])).stdout).toMatch(/^applied +0000_engine /m)
  expect((await pawl(['migrate', 'verify'])).stdout).toBe('the database is what the files say\n')
  expect(await asked(['migrate', 'verify'])).toEqual({ ok: true, problems: [] })
})

test('verify ends with 3 when one byte of an applied file is another, naming the file, and with 4 when it cannot look', async () => {
  const copy = mkdtempSync(join(tmpdir(), 'pawl-migrations-'))
  onTestFinished(() => rmSync(copy, { recursive: true, force: true }))
  cpSync(join(root, 'drizzle'), copy, { recursive: true })
  const env = { PAWL_MIGRATIONS_DIR: copy }
  await pawl(['migrate', 'verify'], 0, { env })
  const file = join(copy, '0000_engine.sql')
  const bytes = readFileSync(file)
  bytes[bytes.length - 2] = (bytes.at(-2) ?? 0) ^ 1
  writeFileSync(file, bytes)
  const { stdout } = await pawl(['migrate', 'verify'], 3, { env })
  expect(stdout).toMatch(/^0000_engine: 0000_engine\.sql was changed after it was applied; restore it/)
  expect(await asked(['migrate', 'verify'], 3, { env })).toMatchObject({ ok: false, problems: [{ kind: 'edited', tag: '0000_engine' }] })
  expect((await pawl(['migrate', 'verify'], 4, { url: NOWHERE })).stderr).toMatch(/^could not verify: .*ECONNREFUSED/)
  expect(await asked(['migrate', 'verify'], 4, { url: NOWHERE })).toMatchObject({ ok: false, error: { code: 'ECONNREFUSED' } })
})

test('status --watch draws again and again until SIGINT, and ends with 0', async () => {
  const child = spawn(process.execPath, [join(root, 'bin/pawl.ts'), 'status', '--watch=0.2', '--json'], {
    env: { ...process.env, DATABASE_URL: db.url },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const ended = new Promise(resolve => child.on('close', (code, signal) => resolve(code ?? signal)))
  let text = ''
  child.stdout.on('data', chunk => (text += chunk))
  await until('three frames', () => text.split('\n').length > 3)
  child.kill('SIGINT')
  expect(await ended).toBe(0)
  for (const frame of text.trim().split('\n')) expect(JSON.parse(frame)).toHaveProperty('runs')
})

const hasScript = spawnSync('script', ['-qec', 'true', '/dev/null']).status === 0

test.skipIf(!hasScript)('colours are shown on a terminal, and NO_COLOR or a pipe turn them off', () => {
  const onTerminal = (env: Record<string, string>) => {
    const { NO_COLOR: _, FORCE_COLOR: __, ...inherited } = process.env
    const words = [process.execPath, join(root, 'bin/pawl.ts'), 'health'].map(word => `'${word}'`).join(' ')
    return spawnSync('script', ['-qec', words, '/dev/null'], { env: { ...inherited, TERM: 'xterm-256color', DATABASE_URL: db.url, ...env }, encoding: 'utf8' })
      .stdout
  }
  expect(onTerminal({})).toContain('\x1b[31mBAD')
  const plain = onTerminal({ NO_COLOR: '1' })
  expect(plain).toContain('BAD')
  expect(plain).not.toContain('\x1b')
})
