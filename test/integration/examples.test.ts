import { existsSync } from 'node:fs'
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { installClient, runProgram } from '../support/client.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { startWorker, type WorkerProcess } from '../support/process.ts'
import { until } from '../support/until.ts'

const examples = fileURLToPath(new URL('../../examples', import.meta.url))
const psql = ['/usr/lib/postgresql/15/bin/psql', '/usr/bin/psql'].find(existsSync)

let db: TestDatabase
let worker: WorkerProcess
let store: string
let shop: string

beforeAll(async () => {
  db = await createDatabase()
  store = await mkdtemp(join(tmpdir(), 'pawl-examples-'))
  // Twice: whoever runs it again must not be told of rows that are there.
  for (let time = 1; time <= 2; time += 1) await db.query(await readFile(join(examples, 'prepare.sql'), 'utf8'))
  worker = await startWorker(db.url, { env: { PAWL_REPORT_STORE: store } })
  shop = db.urlAs('example_shop', 'shop')
})

afterAll(async () => {
  worker.signal('SIGTERM')
  await worker.exited
  await db.query('drop owned by example_shop, example_watch')
  await db.query('drop role example_shop, example_watch')
  await db.drop()
  await rm(store, { recursive: true, force: true })
})

/** Whether Python's part must be left out; says so, loudly. In CI nothing is left out: it fails there. */
function psycopgMissing(): boolean {
  if (existsSync('/usr/lib/python3/dist-packages/psycopg') || process.env.CI !== undefined) return false
  console.warn('SKIPPED: the example in Python. Install its driver to run it: apt-get install python3-psycopg')
  return true
}

async function endOf(runId: string): Promise<string> {
  const ended = `select state from pawl.runs where run_id = $1 and finished_at is not null`
  return (await until(`${runId} ends`, async () => (await db.query<{ state: string }>(ended, [runId]))[0])).state
}

const orders = (customer: string) => db.query('select customer from public.example_orders where customer like $1', [`${customer}%`])

/** How many of these ids stand in any table of Pawl, of a domain or of the queue. */
async function countTraces(ids: string[]): Promise<number> {
  const [row] = await db.query<{ found: number }>(
    `select (select count(*) from public.category_override_operations where operation_id = any ($1))
       + (select count(*) from public.category_override_audit where operation_id = any ($1))
       + (select count(*) from public.campaigns where id::text = any ($1))
       + (select count(*) from public.campaign_timers where id::text = any ($1))
       + (select count(*) from reporting.report_executions where id::text = any ($1))
       + (select count(*) from pawl.refresh_runs where id::text = any ($1))
       + (select count(*) from pawl.checkpoints where run_id = any ($1) or split_part(run_id, ':', 2) = any ($1))
       + (select count(*) from pgboss.job where id::text = any ($1) or data ->> 'run_id' = any ($1)) as found`,
    [ids],
  )
  return row?.found ?? -1
}

test('TypeScript, with the published package: order, override, campaign, timer and report in one commit, and it waits until they are done', async () => {
  const { folder, remove } = await installClient()
  try {
    await cp(join(examples, 'typescript/enqueue.ts'), join(folder, 'enqueue.ts'))
    const env = { DATABASE_URL: shop, WATCH_URL: db.urlAs('example_watch', 'watch') }
    const ran = await runProgram(process.execPath, [join(folder, 'enqueue.ts')], { cwd: folder, env })
    expect(ran).toMatchObject({ code: 0, stderr: '' })
    const [asked, override, report] = ran.stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as Record<string, string>)
    expect(override).toEqual({ runId: asked?.operationId, state: 'completed', done: 300, error: null })
    expect(report).toMatchObject({ runId: asked?.executionId, state: 'completed', error: null })
    expect(await orders('typescript')).toHaveLength(1)
    expect(await db.query('select status, metadata from public.campaigns where id = $1', [asked?.campaignId])).toMatchObject([
      { metadata: { from: 'typescript' } },
    ])
    expect(await db.query('select timer_type, campaign_id from public.campaign_timers where id = $1', [asked?.timerId])).toEqual([
      { timer_type: 'EXPIRE_CAMPAIGN', campaign_id: asked?.campaignId },
    ])
    // What Pawl refuses is told with its code and next step, and nothing of the transaction remains.
    await db.query(`update reporting.templates set is_active = false`)
    try {
      const refused = await runProgram(process.execPath, [join(folder, 'enqueue.ts')], { cwd: folder, env })
      expect(refused).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(/\(22023\)\n {2}next: /) })
      expect(await orders('typescript')).toHaveLength(1)
      expect(await db.query(`select from public.campaigns where metadata ->> 'from' = 'typescript'`)).toHaveLength(1)
    } finally {
      await db.query(`update reporting.templates set is_active = true`)
    }
  } finally {
    await remove()
  }
})

test.skipIf(psycopgMissing())('Python: all kinds in one transaction, a rollback that leaves nothing, and not a row to read', async () => {
  const ran = await runProgram('/usr/bin/python3', [join(examples, 'python/enqueue.py')], { env: { DATABASE_URL: shop } })
  expect(ran).toMatchObject({ code: 0, stderr: '' })
  type Told = { committed: Record<string, string>; rolled_back: Record<string, string>; refused: object; reading: string }
  const told = JSON.parse(ran.stdout) as Told
  expect(Object.keys(told.committed)).toEqual(['override', 'campaign', 'timer', 'report', 'job', 'refresh'])
  expect(Object.keys(told.rolled_back)).toEqual(Object.keys(told.committed))
  expect(told.refused).toEqual({ code: '22023', message: 'operation "no such" does not exist', hint: expect.stringContaining('30 days') })
  expect(told.reading).toBe('42501')

  const { override = '', report = '', refresh = '', job } = told.committed
  expect(await endOf(override)).toBe('completed')
  expect(await endOf(report)).toBe('completed')
  expect(await endOf(`refresh:${refresh}:sqp.example_years`)).toBe('completed')
  expect(await db.query('select year, orders from sqp.example_years order by year')).toHaveLength(3)
  await until('the sweep is done', async () => (await db.query(`select from pgboss.job where id = $1 and state = 'completed'`, [job]))[0])
  expect(await orders('python')).toEqual([{ customer: 'python' }])
  for (const [kind, id] of Object.entries(told.committed)) expect([kind, (await countTraces([id])) > 0]).toEqual([kind, true])
  // A refresh that still waits is joined: the one that was rolled back may have been the committed one, asked for again.
  const taken = Object.values(told.rolled_back).filter(id => id !== refresh)
  expect(taken.length).toBeGreaterThanOrEqual(5)
  expect(await countTraces(taken)).toBe(0)
})

test('SQL: a script for psql that commits everything at once', async () => {
  const script = join(examples, 'sql/enqueue.sql')
  if (psql === undefined) await runStatements(await readFile(script, 'utf8'))
  else expect(await runProgram(psql, [shop, '-X', '-v', 'ON_ERROR_STOP=1', '-f', script])).toMatchObject({ code: 0, stderr: '' })
  expect(await orders('sql')).toEqual([{ customer: 'sql' }])
  const [operation] = await db.query<{ operation_id: string }>(
    `select operation_id from public.category_override_operations where idempotency_key = 'sql-order-4711'`,
  )
  expect(await endOf(operation?.operation_id ?? '')).toBe('completed')
  expect(await db.query(`select output_format, status from reporting.report_executions where output_format = 'json'`)).toHaveLength(1)
  const timers = `select t.timer_type from public.campaign_timers t join public.campaigns c on c.id = t.campaign_id where c.metadata ->> 'from' = 'sql' order by 1`
  expect(await db.query(timers)).toEqual(['CLOSE_CAMPAIGN', 'EXPIRE_CAMPAIGN', 'START_CAMPAIGN'].map(timer_type => ({ timer_type })))
})

/** Without psql: the same text in one message of the simple protocol. */
async function runStatements(text: string): Promise<void> {
  const client = new pg.Client({ connectionString: shop })
  await client.connect()
  try {
    await client.query(text)
  } finally {
    await client.end()
  }
}
