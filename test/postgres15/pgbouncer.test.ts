import { expect, inject, test } from 'vitest'
import { countFaults, endOf, holderOf, openStage, recordBatches, recordedBatches } from '../crash/stage.ts'
import { ask } from '../support/embedded.ts'
import { faultsOf, requestOverride, seedCategory } from '../support/overrides.ts'
import { pgbouncerMissing, startPgbouncer } from '../support/pgbouncer.ts'
import { runPawl } from '../support/process.ts'
import { until } from '../support/until.ts'

// The same as test/crash/pgbouncer.test.ts, on the oldest PostgreSQL there is a promise for.
test('these tests are on PostgreSQL 15', async () => {
  expect(await ask(inject('adminUrl'), `select current_setting('server_version_num')::integer / 10000 as major`)).toEqual([{ major: 15 }])
})

test.skipIf(pgbouncerMissing())('with its pool behind PgBouncer in transaction mode a run survives kill -9 and SIGTERM like any other', async () => {
  const stage = await openStage()
  await recordBatches(stage.query, 30)
  // Fewer server connections than two workers would like: they share them between transactions, as in production.
  const url = await startPgbouncer(stage.db.url, 'transaction', 'default_pool_size = 3\nignore_startup_parameters = extra_float_digits')
  const env = { DATABASE_DIRECT_URL: stage.db.url }
  const category = await seedCategory(stage.query, 20_000)
  await Promise.all([stage.start({ url, env }), stage.start({ url, env })])
  const runId = await requestOverride(stage.query, category, { batchSize: 50 })
  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    const victim = await holderOf(stage.query, runId)
    process.kill(victim.pid, signal)
    await stage.start({ url, env })
    await until(`a batch after ${signal}`, async () => (await recordedBatches(stage.query, runId)).some(batch => batch.epoch > victim.epoch))
  }
  expect(await endOf(stage.query, runId)).toBe('completed')
  expect(await faultsOf(stage.query, runId, 20_000)).toEqual([])
  expect(await countFaults(stage.query, runId)).toEqual([])
})

test.skipIf(pgbouncerMissing())(
  'a worker whose direct connection goes through a transaction pooler refuses to start, and says which variable to set',
  async () => {
    const stage = await openStage()
    const url = await startPgbouncer(stage.db.url, 'transaction')
    expect(await runPawl(['work'], url)).toMatchObject({ code: 2, stderr: expect.stringContaining('DATABASE_DIRECT_URL') })
  },
)
