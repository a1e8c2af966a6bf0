import { expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { faultsOf, requestOverride, seedCategory } from '../support/overrides.ts'
import { countFaults, endOf, holderOf, openStage, orderFaults, recordBatches, recordedBatches } from './stage.ts'

const RECIPIENTS = 100_000

test('SIGTERM in mid-run: exit 0 within two seconds, no attempt spent, and the other worker goes on at the cursor', async () => {
  const stage = await openStage()
  await recordBatches(stage.query, 10)
  const category = await seedCategory(stage.query, RECIPIENTS)
  await Promise.all([stage.start(), stage.start()])
  const runId = await requestOverride(stage.query, category, { batchSize: 50 })
  const drains: number[] = []
  for (let deploy = 0; deploy < 3; deploy += 1) {
    const holder = await holderOf(stage.query, runId)
    const worker = stage.workers.find(candidate => candidate.pid === holder.pid)
    if (worker === undefined) throw new Error(`nobody of ours holds the run, but ${holder.name}`)
    const begun = systemClock.elapsed()
    worker.signal('SIGTERM')
    expect(await worker.exited).toEqual({ code: 0, signal: null })
    drains.push(systemClock.elapsed() - begun)
    const [lease] = await stage.query('select state from pawl.leases where pid = $1', [worker.pid])
    expect(lease).toEqual({ state: 'stopped' })
    await stage.start()
  }
  expect(await endOf(stage.query, runId)).toBe('completed')
  console.info(JSON.stringify({ drain_ms: drains.map(Math.round) }))
  expect(await faultsOf(stage.query, runId, RECIPIENTS)).toEqual([])
  expect(await countFaults(stage.query, runId)).toEqual([])
  expect(orderFaults(await recordedBatches(stage.query, runId))).toEqual([])
  // Four deliveries, one each for the three hand-overs and the first; none of them a retry.
  expect(
    await stage.query(
      `select crashes, failures, (select array_agg(j.retry_count) from pgboss.job j where j.data ->> 'run_id' = run_id) as retries from pawl.checkpoints where run_id = $1`,
      [runId],
    ),
  ).toEqual([{ crashes: 0, failures: 0, retries: [0, 0, 0, 0] }])
  expect(Math.max(...drains)).toBeLessThanOrEqual(2_000)
})

test('a worker that holds nothing leaves at once, and one that is asked twice ends at once', async () => {
  const stage = await openStage()
  const [idle, impatient] = await Promise.all([stage.start(), stage.start()])
  idle.signal('SIGINT')
  expect(await idle.exited).toEqual({ code: 0, signal: null })
  await recordBatches(stage.query)
  const runId = await requestOverride(stage.query, await seedCategory(stage.query, 20_000), { batchSize: 10 })
  await holderOf(stage.query, runId)
  impatient.signal('SIGTERM')
  impatient.signal('SIGINT')
  await impatient.exited
  await stage.start()
  expect(await endOf(stage.query, runId)).toBe('completed')
  expect(await faultsOf(stage.query, runId, 20_000)).toEqual([])
})
