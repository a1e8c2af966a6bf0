import { expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { faultsOf, requestOverride, seedCategory } from '../support/overrides.ts'
import { until } from '../support/until.ts'
import { countFaults, endOf, holderOf, openStage, orderFaults, recordBatches, recordedBatches } from './stage.ts'

const RECIPIENTS = 200_000
const KILLS = 20
const BATCH_ROWS = 100
/** A batch takes at least this long, or a fast machine ends the run between the look at the rows and the kill. */
const BATCH_MS = 5

test(`${KILLS} times kill -9 at a random moment: ${RECIPIENTS} recipients end up exactly right, and each takeover is quick`, async () => {
  const seed = Number(process.env.PAWL_TEST_SEED ?? Math.floor(Math.random() * 2 ** 32))
  console.info(`seed ${seed} (PAWL_TEST_SEED)`)
  const random = seeded(seed)
  const stage = await openStage()
  await recordBatches(stage.query, BATCH_MS)
  const category = await seedCategory(stage.query, RECIPIENTS)
  await Promise.all([stage.start(), stage.start()])
  const runId = await requestOverride(stage.query, category, { batchSize: BATCH_ROWS })

  const takeoversMs: number[] = []
  for (let kill = 1; kill <= KILLS; kill += 1) {
    const seen = await holderOf(stage.query, runId)
    // Half of a fair share of what is left, at most: the other half is what is done while this test looks.
    const share = (RECIPIENTS / BATCH_ROWS - seen.batches) / (KILLS + 1 - kill)
    const gap = 1 + Math.floor((random() * share) / 2)
    await until('the next moment to kill', async () => (await holderOf(stage.query, runId)).batches >= seen.batches + gap)
    await systemClock.sleep(random() * 5)
    const victim = await holderOf(stage.query, runId)
    process.kill(victim.pid, 'SIGKILL')
    const replacement = stage.start()
    const next = await until(`a batch after kill ${kill}`, async () => {
      const [batch] = await stage.query<{ ms: number }>(
        'select extract(epoch from min(at) - $3)::float8 * 1000 as ms from public.recorded_batches where run_id = $1 and epoch > $2 having count(*) > 0',
        [runId, victim.epoch, victim.now],
      )
      return batch
    })
    takeoversMs.push(next.ms)
    await replacement
  }

  expect(await endOf(stage.query, runId)).toBe('completed')
  console.info(
    JSON.stringify({ kills: KILLS, takeover_ms: { p50: quantile(takeoversMs, 0.5), p99: quantile(takeoversMs, 0.99), max: quantile(takeoversMs, 1) } }),
  )
  const batches = await recordedBatches(stage.query, runId)
  expect(await faultsOf(stage.query, runId, RECIPIENTS)).toEqual([])
  expect(await countFaults(stage.query, runId)).toEqual([])
  expect(orderFaults(batches)).toEqual([])
  expect(new Set(batches.map(batch => batch.epoch)).size).toBe(KILLS + 1)
  expect(await stage.query('select * from pawl.failures')).toEqual([])
  expect(quantile(takeoversMs, 0.99)).toBeLessThanOrEqual(3_000)
})

/** A small generator (mulberry32), so that a failing order of events can be had again. */
function seeded(state: number): () => number {
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return Math.round(sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN)
}
