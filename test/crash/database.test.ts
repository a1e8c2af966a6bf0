import { expect, onTestFinished, test } from 'vitest'
import { upgrade } from '../../bin/commands/migrate.ts'
import { readConfig } from '../../src/config.ts'
import { type Database, openDatabase, type Query } from '../../src/database.ts'
import { startEmbedded } from '../../src/embedded.ts'
import { faultsOf, requestOverride, seedCategory } from '../support/overrides.ts'
import { silent } from '../support/postgres.ts'
import { openProxy } from '../support/proxy.ts'
import { until } from '../support/until.ts'
import { countFaults, endOf, holderOf, openStage, orderFaults, recordBatches, recordedBatches, startCrew } from './stage.ts'

const RECIPIENTS = 100_000

async function progress(query: Query, runId: string): Promise<number> {
  const [row] = await query<{ batches: number }>('select count(*) as batches from public.recorded_batches where run_id = $1', [runId])
  return row?.batches ?? 0
}

test('PostgreSQL stopped at once and started again, five times in one run: the worker never exits, and every row is exact', async () => {
  // Durable commits: what a client was told is committed must be there after the crash.
  const server = await startEmbedded({ log: silent, ephemeral: true, settings: { synchronous_commit: 'on', full_page_writes: 'on' } })
  const crew = startCrew()
  const open: Database[] = []
  onTestFinished(async () => {
    await crew.end()
    await Promise.all(open.map(db => db.close()))
    await server.stop()
  })
  const config = readConfig({ DATABASE_URL: server.url })
  await upgrade(config, silent)
  const db = openDatabase(config, silent, { max: 2 })
  open.push(db)
  const { query } = db
  await recordBatches(query)
  const category = await seedCategory(query, RECIPIENTS)
  const worker = await crew.start(server.url)
  let ended = false
  void worker.exited.then(() => {
    ended = true
  })
  const runId = await requestOverride(query, category, { batchSize: 100 })
  for (let crash = 1; crash <= 5; crash += 1) {
    const before = await progress(query, runId)
    await until(`progress before crash ${crash}`, async () => (await progress(query, runId)) >= before + 20)
    await server.kill('immediate')
    await server.restart()
    await until(`the server answers after crash ${crash}`, () =>
      query('select 1').then(
        () => true,
        () => false,
      ),
    )
  }
  expect(await endOf(query, runId)).toBe('completed')
  expect(await faultsOf(query, runId, RECIPIENTS)).toEqual([])
  expect(await countFaults(query, runId)).toEqual([])
  expect(orderFaults(await recordedBatches(query, runId))).toEqual([])
  expect(ended).toBe(false)
})

test('a storm of pg_terminate_backend: twenty times all sessions of the worker are ended, and it only ever tries again', async () => {
  const stage = await openStage()
  await recordBatches(stage.query)
  const category = await seedCategory(stage.query, RECIPIENTS)
  const worker = await stage.start({ name: 'stormy' })
  const runId = await requestOverride(stage.query, category, { batchSize: 100 })
  await holderOf(stage.query, runId)
  for (let storm = 1; storm <= 20; storm += 1) {
    const before = await progress(stage.query, runId)
    await stage.query(`select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1`, [worker.name])
    await until(`progress after storm ${storm}`, async () => (await progress(stage.query, runId)) >= before + 5)
  }
  expect(await endOf(stage.query, runId)).toBe('completed')
  expect(await faultsOf(stage.query, runId, RECIPIENTS)).toEqual([])
  expect(await countFaults(stage.query, runId)).toEqual([])
  worker.signal('SIGTERM')
  expect(await worker.exited).toEqual({ code: 0, signal: null })
})

test('a worker whose network stalls loses its lease, the run goes on elsewhere, and it comes back when the network does', async () => {
  const stage = await openStage()
  await recordBatches(stage.query)
  const category = await seedCategory(stage.query, RECIPIENTS)
  const proxy = await openProxy(stage.db.url)
  onTestFinished(() => proxy.close())
  const env = { PAWL_LEASE_SECONDS: '2', DB_QUERY_TIMEOUT: '3000' }
  const cut = await stage.start({ name: 'cut-off', url: proxy.url, env })
  const runId = await requestOverride(stage.query, category, { batchSize: 100 })
  await holderOf(stage.query, runId)
  proxy.stall()
  await stage.start({ name: 'well', env })
  await until('the other worker commits a batch', async () => (await recordedBatches(stage.query, runId)).some(batch => batch.worker === 'well'))
  proxy.flow()
  expect(await endOf(stage.query, runId)).toBe('completed')
  const batches = await recordedBatches(stage.query, runId)
  const takeover = batches.findIndex(batch => batch.worker === 'well')
  expect(batches.slice(takeover).filter(batch => batch.worker === 'cut-off')).toEqual([])
  expect(await faultsOf(stage.query, runId, RECIPIENTS)).toEqual([])
  await until('the worker that was cut off is ready again', async () => (await fetch(`http://127.0.0.1:${cut.httpPort}/readyz`)).ok)
})
