import { afterAll, beforeAll, expect, inject, onTestFinished, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect, openDatabase } from '../../src/database.ts'
import { requestOverride, seedCategory } from '../support/overrides.ts'
import { createDatabase, silent, type TestDatabase } from '../support/postgres.ts'
import { runPawl, startWorker, type WorkerProcess } from '../support/process.ts'
import { until } from '../support/until.ts'

type Answer = { status: number; type: string | null; text: string; checks: Record<string, boolean> }

let db: TestDatabase

beforeAll(async () => {
  db = await createDatabase()
})

afterAll(() => db.drop())

async function get(worker: WorkerProcess, path: string): Promise<Answer> {
  const answer = await fetch(`http://127.0.0.1:${worker.httpPort}${path}`)
  const text = await answer.text()
  const checks = path === '/metrics' ? [] : (JSON.parse(text) as { checks: { check: string; ok: boolean }[] }).checks
  return { status: answer.status, type: answer.headers.get('content-type'), text, checks: Object.fromEntries(checks.map(({ check, ok }) => [check, ok])) }
}

async function startOne(env: Record<string, string> = {}): Promise<WorkerProcess> {
  const worker = await startWorker(db.url, { env })
  onTestFinished(async () => {
    worker.signal('SIGKILL')
    await worker.exited
  })
  return worker
}

test('a worker at work is alive and ready, counts its work, and leaves nothing held when SIGTERM ends it', async () => {
  const worker = await startOne()
  expect(await get(worker, '/livez')).toMatchObject({ status: 200, checks: { loop: true } })
  expect(await get(worker, '/readyz')).toMatchObject({ status: 200, checks: { database: true, claiming: true, 'not draining': true } })
  const runId = await requestOverride(db.query, await seedCategory(db.query, 250))
  await until('the run completes', async () => (await db.query(`select from pawl.checkpoints where run_id = $1 and state = 'completed'`, [runId])).length > 0)
  const metrics = await until('the run is counted', async () => {
    const answer = await get(worker, '/metrics')
    return answer.text.includes('pawl_runs_total{queue="overrides.apply",outcome="completed"} 1') ? answer : undefined
  })
  expect(metrics).toMatchObject({ status: 200, type: expect.stringContaining('text/plain; version=0.0.4') })
  for (const line of [
    /^pawl_checkpoint_rows_total\{kind="override"\} 250$/m,
    /^pawl_batch_seconds_count\{kind="override"\} [3-9]$/m,
    /^pawl_worker_draining 0$/m,
    /^pawl_worker_slots [1-9]/m,
    /^pawl_queue_jobs\{queue="overrides.apply",state="ready"\} 0$/m,
    /^process_resident_memory_bytes /m,
  ]) {
    expect(metrics.text).toMatch(line)
  }
  expect(metrics.text, 'no label carries an id').not.toContain(runId)
  const health = await runPawl(['health', '--json'], db.url)
  expect([health.code, JSON.parse(health.stdout)]).toMatchObject([0, { ok: true }])
  worker.signal('SIGTERM')
  expect(await worker.exited).toEqual({ code: 0, signal: null })
  expect(await db.query(`select state from pawl.leases where name = $1`, [worker.name])).toEqual([{ state: 'stopped' }])
})

test('while it drains, a worker is alive but not ready, until its batch is done and it ends', async () => {
  const seeded = await seedCategory(db.query, 100)
  const holder = await connectDirect(readConfig({ DATABASE_URL: db.url }), 'holder')
  onTestFinished(() => holder.close())
  await holder.query('begin')
  await holder.query('select from public.category_recipient_settings where category_id = $1 for update', [seeded.categoryId])
  const worker = await startOne()
  const runId = await requestOverride(db.query, seeded)
  await until('a batch waits for the lock', async () => {
    const rows = await db.query(`select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
    return rows.length > 0
  })
  worker.signal('SIGTERM')
  const answer = await until('it is not ready any more', async () => {
    const now = await get(worker, '/readyz')
    return now.status === 503 ? now : undefined
  })
  expect(answer).toMatchObject({ type: 'application/json', checks: { 'not draining': false } })
  expect(await get(worker, '/livez')).toMatchObject({ status: 200 })
  expect((await get(worker, '/metrics')).text).toMatch(/^pawl_worker_draining 1$/m)
  await holder.query('commit')
  expect(await worker.exited).toEqual({ code: 0, signal: null })
  expect(await db.query('select owner, failures from pawl.checkpoints where run_id = $1', [runId])).toEqual([{ owner: null, failures: 0 }])
})

test('without its database a worker is alive but not ready, still answers /metrics, and is ready again by itself', async () => {
  const worker = await startOne()
  const admin = openDatabase(readConfig({ DATABASE_URL: inject('adminUrl') }), silent, { max: 1 })
  onTestFinished(() => admin.close())
  const name = new URL(db.url).pathname.slice(1)
  const allow = (allowed: boolean) => admin.query(`alter database ${name} allow_connections ${allowed}`)
  onTestFinished(async () => void (await allow(true)))
  await allow(false)
  await admin.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = $1', [name])
  const answer = await until('it is not ready', async () => {
    const now = await get(worker, '/readyz')
    return now.status === 503 ? now : undefined
  })
  expect(answer.checks).toMatchObject({ database: false, 'not draining': true })
  expect(await get(worker, '/livez')).toMatchObject({ status: 200, checks: { loop: true } })
  expect(await get(worker, '/metrics')).toMatchObject({ status: 200 })
  await allow(true)
  await until('it is ready again', async () => (await get(worker, '/readyz')).status === 200)
  worker.signal('SIGINT')
  expect(await worker.exited).toEqual({ code: 0, signal: null })
})

test('a probes port that is taken ends the worker with its name in the message', async () => {
  const worker = await startOne()
  const second = await runPawl(['work'], db.url, { env: { PAWL_HTTP_PORT: String(worker.httpPort), PAWL_HTTP_HOST: '127.0.0.1' } })
  expect(second.code).toBe(1)
  expect(second.stderr).toContain(`EADDRINUSE`)
  expect(second.stderr).toContain('next: ')
  expect(second.stderr).toContain('PAWL_HTTP_PORT')
})
