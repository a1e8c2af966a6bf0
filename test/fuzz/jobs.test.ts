import { type FileHandle, mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { type Daemon, startDaemon } from '../../src/daemon.ts'
import { openLog } from '../../src/log.ts'
import { deadLetterOf, queues } from '../../src/queues.ts'
import { schedules } from '../../src/schedules.ts'
import { workers } from '../../workers/index.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { until } from '../support/until.ts'
import { announce, runs, seed } from './runs.ts'

/** A secret that somebody put into a job: it may stand in pg-boss's table, and nowhere else. */
const CANARY = 'canary-5up3r-s3cr3t'
const SENTENCE_MAX = 2_000

let db: TestDatabase
let daemon: Daemon
let folder: string
let written: FileHandle
const logFile = () => join(folder, 'log')

beforeAll(async () => {
  announce('jobs')
  db = await createDatabase()
  folder = await mkdtemp(join(tmpdir(), 'pawl-fuzz-'))
  written = await open(logFile(), 'a')
  const config = readConfig({ DATABASE_URL: db.url, DB_CONNECTION_LIMIT: '6', PAWL_CONCURRENCY: '2', PAWL_HTTP_HOST: '127.0.0.1', PAWL_HTTP_PORT: '0' })
  daemon = await startDaemon({ config, log: openLog({ level: 'debug', destination: written.fd }), workers })
})

afterAll(async () => {
  await daemon.drain('the test is over')
  await written.close()
  await db.drop()
  await rm(folder, { recursive: true })
})

// What could only be done, not misread: a real schedule's name makes a sweep do its work.
const keys = ['run_id', 'timer_id', 'schedule', 'error', 'password', 'url', '__proto__', 'constructor', 'toString', 'x']
const value = fc.oneof(
  fc.jsonValue({ maxDepth: 2 }),
  fc.constantFrom<unknown>(
    { password: CANARY, deep: { url: `postgres://pawl:${CANARY}@db/app` } },
    { toString: 1, valueOf: null },
    [[[[CANARY]]]],
    '00000000-0000-0000-0000-000000000000',
    'ovr_999999999',
    'refresh:1:sqp.weekly_summary',
    `'; drop table pawl.checkpoints; --`,
    `${CANARY}${'x'.repeat(100_000)}`,
    'a\nb\u001b[31m{"level":"fatal"}',
    1e308,
    null,
  ),
)
const data = fc
  .tuple(fc.dictionary(fc.constantFrom(...keys), value, { maxKeys: 4 }), fc.constantFrom({}, { token: CANARY }))
  .map(([given, secret]): Record<string, unknown> => ({ ...given, ...secret }))
  .filter(given => !schedules.some(({ key }) => key === given.schedule))

test('whatever a job says, it is done or dies at once with a sentence that says why, and the worker works on', async () => {
  const jobs = queues.flatMap(({ name }, place) => fc.sample(data, { numRuns: Math.ceil(runs / 5), seed: seed + place }).map(given => ({ name, given })))
  const ids: string[] = []
  for (const { name, given } of jobs) {
    const [row] = await db.query<{ id: string }>('select pawl.enqueue($1, $2) as id', [name, JSON.stringify(given)])
    ids.push(row?.id ?? '')
  }
  const open = `select name, state, left(output::text, 300) as output, left(data::text, 300) as data from pgboss.job where id = any ($1::uuid[]) and state < 'completed'`
  await until(
    'every job has ended',
    async () => {
      const rest = await db.query<{ state: string }>(open, [ids])
      return rest.every(job => job.state === 'retry')
    },
    60_000 + ids.length * 500,
  )
  expect(await db.query(open, [ids])).toEqual([])
  const ended = await db.query<{ name: string; state: string; output: { outcome?: unknown; error?: unknown } | null; data: unknown }>(
    'select name, state, output, data from pgboss.job where id = any ($1::uuid[])',
    [ids],
  )
  expect(ended.length).toBe(ids.length)
  const unclear = ended.filter(({ state, output }) =>
    state === 'completed'
      ? output === null
      : typeof output?.error !== 'string' ||
        output.error.length < 20 ||
        output.error.length > SENTENCE_MAX ||
        /TypeError|undefined|\[object|Cannot/.test(output.error),
  )
  expect(unclear.map(({ name, state, output }) => [name, state, JSON.stringify(output)?.slice(0, 300)])).toEqual([])
  // Each dead one lies in the dead letter queue of its own, with what it was given.
  const dead = await db.query<{ name: string; jobs: number }>(`select name, count(*) as jobs from pgboss.job where name like '%.dead' group by name`)
  for (const { name } of queues) {
    const failed = ended.filter(job => job.name === name && job.state === 'failed').length
    expect([name, dead.find(row => row.name === deadLetterOf(name))?.jobs ?? 0]).toEqual([name, failed])
  }
  const probe = await fetch(`http://127.0.0.1:${daemon.httpPort}/livez`)
  expect(probe.status).toBe(200)
}, 1_800_000)

test('the log says of none of them what it was given, and repeats no password', async () => {
  const log = await readFile(logFile(), 'utf8')
  expect(log.length).toBeGreaterThan(1_000)
  const lines = log.split('\n').filter(line => line !== '')
  expect(lines.filter(line => line.includes(CANARY)).map(line => line.slice(0, 400))).toEqual([])
  const { password } = new URL(db.url)
  expect(password.length > 0 && log.includes(password)).toBe(false)
  // What came in broke no line: each is JSON, and none is longer than a person reads.
  for (const line of lines) {
    expect(() => JSON.parse(line)).not.toThrow()
    expect(line.length).toBeLessThan(20_000)
  }
})
