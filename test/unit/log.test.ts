import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { openDatabase } from '../../src/database.ts'
import { type Log, openLog } from '../../src/log.ts'

const SECRET = 'correct-horse'
const URL_WITH_SECRET = `postgres://pawl:${SECRET}@db.example:5432/app`

/** Runs `write` on a log that goes to a file, and returns what stands there. */
function written(write: (log: Log) => void, options: { level?: string; fields?: Record<string, unknown> } = {}): string {
  const directory = mkdtempSync(join(tmpdir(), 'pawl-log-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  const path = join(directory, 'log')
  write(openLog({ level: 'info', ...options, destination: openSync(path, 'w') }))
  return readFileSync(path, 'utf8')
}

test('a line is one JSON object with level, time, fields and message, written before the call returns', () => {
  const text = written(log => log.child({ run_id: 'r1' }).info({ rows: 3 }, 'batch committed'), { fields: { worker: 'w' } })
  expect(text.endsWith('\n')).toBe(true)
  const line = JSON.parse(text) as Record<string, unknown>
  expect(line).toEqual({ level: 'info', time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/), worker: 'w', run_id: 'r1', rows: 3, msg: 'batch committed' })
})

test('lines below the level are not written, and silent writes none', () => {
  const all = (log: Log) => ['trace', 'debug', 'info', 'warn', 'error', 'fatal'].forEach(level => log[level as 'info'](level))
  expect(
    written(all, { level: 'warn' })
      .trim()
      .split('\n')
      .map(line => (JSON.parse(line) as { msg: string }).msg),
  ).toEqual(['warn', 'error', 'fatal'])
  expect(written(all, { level: 'silent' })).toBe('')
})

const leaks: Record<string, (log: Log) => void> = {
  'a field called password': log => log.info({ password: SECRET }, 'x'),
  'a field called url': log => log.info({ url: URL_WITH_SECRET }, 'x'),
  'a field called connectionString': log => log.info({ connectionString: URL_WITH_SECRET }, 'x'),
  'the same one level down': log => log.info({ server: { password: SECRET, url: URL_WITH_SECRET, connectionString: URL_WITH_SECRET } }, 'x'),
  'the bindings of a child': log => log.child({ url: URL_WITH_SECRET }).info('x'),
  'the whole configuration': log => log.info({ config: readConfig({ DATABASE_URL: URL_WITH_SECRET, DATABASE_READ_REPLICA_URL: URL_WITH_SECRET }) }, 'x'),
  'a field of another name': log => log.warn({ deep: { deeper: { database: URL_WITH_SECRET } } }, 'x'),
  'the message': log => log.warn(`cannot reach ${URL_WITH_SECRET}, giving up`),
  'the message of an error': log => log.error({ err: new Error(`bad ${URL_WITH_SECRET}`) }, 'x'),
  'the cause of an error': log => log.error({ err: new Error('outer', { cause: new Error(URL_WITH_SECRET.replace('postgres:', 'postgresql:')) }) }, 'x'),
  'a password of odd characters': log => log.warn(`postgres://pawl:a%40b:c@\\${SECRET}@h/db and postgres://u:${SECRET}@h2/db`),
  'a password as a parameter of the URL': log => log.warn(`postgres://db/app?user=pawl&password=${SECRET}&sslmode=require`),
  'the error of Node about a bad URL': log => {
    try {
      new URL(`postgres://pawl:${SECRET}@[bad/app`)
    } catch (err) {
      log.error({ err }, 'x')
    }
  },
}

for (const [where, leak] of Object.entries(leaks)) {
  test(`a secret never appears in the log: ${where}`, () => {
    const text = written(leak)
    expect(text).not.toContain(SECRET)
    expect(text).toContain('[redacted]')
    expect(() => JSON.parse(text)).not.toThrow()
  })
}

test('a URL without a password and everything around a secret stay readable', () => {
  const text = written(log => log.info({ at: 'postgres://db.example:5432/app', other: 'http://127.0.0.1:9465/readyz' }, `reach ${URL_WITH_SECRET} first`))
  expect(JSON.parse(text)).toMatchObject({
    at: 'postgres://db.example:5432/app',
    other: 'http://127.0.0.1:9465/readyz',
    msg: 'reach postgres://pawl:[redacted]@db.example:5432/app first',
  })
})

test('a database that cannot be reached leaves no secret in the log', async () => {
  const errors: unknown[] = []
  for (const url of [`postgres://pawl:${SECRET}@127.0.0.1:1/app`, `postgres://pawl:${SECRET}@[bad/app`]) {
    try {
      const db = openDatabase(readConfig({ DATABASE_URL: url }), openLog({ level: 'silent' }), { max: 1 })
      await db.query('select 1').finally(() => db.close())
    } catch (error) {
      errors.push(error)
    }
  }
  expect(errors).toHaveLength(2)
  const text = written(log => errors.forEach(err => log.error({ err }, 'x')))
  expect(text.trim().split('\n')).toHaveLength(2)
  expect(text).not.toContain(SECRET)
})
