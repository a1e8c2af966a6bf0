import { afterAll, beforeAll, expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import type { WorkerProcess } from '../support/process.ts'
import { until } from '../support/until.ts'
import { removeFence } from './mutation.ts'
import { attemptsOf, chunkFaults, chunksDone, once, recordChunks, requestLoad, tableFaults, writeRows } from './refresh-stage.ts'
import { endOf, holderOf, openStage, orderFaults, recordedBatches, type Stage } from './stage.ts'

const ROWS = 1_000_000
const KILLS = 50
const CHUNKS = 400
/** A chunk takes at least this long, or a fast machine ends the run between the look at the chunks and the kill. */
const CHUNK_MS = 60
const FEW_ROWS = 100_000
const FEW_CHUNKS = 200

let source: Awaited<ReturnType<typeof writeRows>>
let few: Awaited<ReturnType<typeof writeRows>>
beforeAll(async () => {
  source = await writeRows(ROWS)
  few = await writeRows(FEW_ROWS)
})
afterAll(() => {
  source.remove()
  few.remove()
})

test(`${KILLS} times kill -9 at a random moment of a load: ${ROWS} rows end up exactly right, read once, no chunk twice`, async () => {
  const seed = Number(process.env.PAWL_TEST_SEED ?? Math.floor(Math.random() * 2 ** 32))
  console.info(`seed ${seed} (PAWL_TEST_SEED)`)
  const random = seeded(seed)
  const stage = await openStage()
  await recordChunks(stage.query, CHUNK_MS)
  await Promise.all([stage.start(), stage.start()])
  const runId = await requestLoad(stage.query, source, CHUNKS)
  const starting: Promise<unknown>[] = []
  const takeoversMs: number[] = []
  for (let kill = 1; kill <= KILLS; kill += 1) {
    const seen = await holderOf(stage.query, runId)
    // Half of a fair share of what is left, at most: the other half is what is done while this test looks.
    const share = (CHUNKS - seen.batches) / (KILLS + 1 - kill)
    await chunksDone(stage.query, runId, seen.batches + Math.floor((random() * share) / 2))
    await systemClock.sleep(random() * CHUNK_MS)
    const victim = await holderOf(stage.query, runId)
    process.kill(victim.pid, 'SIGKILL')
    // Not waited for: now and then nobody is there to take over, as in a node that went down with its workers.
    starting.push(stage.start())
    const next = await until(`a chunk after kill ${kill}`, async () => {
      const [chunk] = await stage.query<{ ms: number }>(
        'select extract(epoch from min(at) - $3)::float8 * 1000 as ms from public.recorded_batches where run_id = $1 and epoch > $2 having count(*) > 0',
        [runId, victim.epoch, victim.now],
      )
      return chunk
    })
    takeoversMs.push(next.ms)
  }
  expect(await endOf(stage.query, runId)).toBe('completed')
  await Promise.all(starting)
  const chunks = await recordedBatches(stage.query, runId)
  const [slowest] = takeoversMs.toSorted((a, b) => b - a)
  const median = takeoversMs.toSorted((a, b) => a - b)[KILLS / 2]
  console.info(JSON.stringify({ kills: KILLS, chunks: chunks.length, takeover_ms: { median: Math.round(median ?? 0), max: Math.round(slowest ?? 0) } }))
  expect(await tableFaults(stage.query, ROWS)).toEqual([])
  expect(await chunkFaults(stage.query, runId, ROWS)).toEqual([])
  expect(orderFaults(chunks)).toEqual([])
  expect(chunks.length).toBeGreaterThanOrEqual(300)
  expect(new Set(chunks.map(chunk => chunk.epoch)).size).toBe(KILLS + 1)
  expect(await attemptsOf(stage.query, runId)).toEqual(once(ROWS))
  expect(await stage.query('select * from pawl.failures')).toEqual([])
})

test('SIGTERM in mid-load: exit 0, no attempt spent, and the other worker goes on at the cursor', async () => {
  const stage = await openStage()
  await recordChunks(stage.query, 20)
  await Promise.all([stage.start(), stage.start()])
  const runId = await requestLoad(stage.query, few, FEW_CHUNKS)
  const drains: number[] = []
  for (let deploy = 0; deploy < 3; deploy += 1) {
    const holder = await holderOf(stage.query, runId)
    const worker = stage.workers.find(candidate => candidate.pid === holder.pid)
    if (worker === undefined) throw new Error(`nobody of ours holds the run, but ${holder.name}`)
    const begun = systemClock.elapsed()
    worker.signal('SIGTERM')
    expect(await worker.exited).toEqual({ code: 0, signal: null })
    drains.push(Math.round(systemClock.elapsed() - begun))
    await stage.start()
  }
  expect(await endOf(stage.query, runId)).toBe('completed')
  console.info(JSON.stringify({ drain_ms: drains }))
  expect(await tableFaults(stage.query, FEW_ROWS)).toEqual([])
  expect(await chunkFaults(stage.query, runId, FEW_ROWS)).toEqual([])
  expect(orderFaults(await recordedBatches(stage.query, runId))).toEqual([])
  expect(await attemptsOf(stage.query, runId)).toEqual(once(FEW_ROWS))
  // Four deliveries, one each for the three hand-overs and the first; none of them a retry.
  expect(
    await stage.query(
      `select crashes, (select array_agg(j.retry_count) from pgboss.job j where j.data ->> 'run_id' = run_id) as retries from pawl.checkpoints where run_id = $1`,
      [runId],
    ),
  ).toEqual([{ crashes: 0, retries: [0, 0, 0, 0] }])
  expect(Math.max(...drains)).toBeLessThanOrEqual(2_000)
})

/** Stops a worker between two transactions: in the middle of one, it would wake to a lost connection and look anew. */
async function stopBetween(stage: Stage, worker: WorkerProcess): Promise<void> {
  await until(`${worker.name} stands between transactions`, async () => {
    worker.signal('SIGSTOP')
    const busy = await stage.query(`select from pg_stat_activity where application_name = $1 and backend_type = 'client backend' and state <> 'idle'`, [
      worker.name,
    ])
    if (busy.length === 0) return true
    worker.signal('SIGCONT')
    return false
  })
}

/**
 * Stops the worker of a load, a chunk in its hands; lets another take the load over, and stops that one before its first chunk;
 * wakes the first. Nothing but the fence stands in its way then: the lane is where it left it. Then the other goes on to the end.
 */
async function wakeTheDead(stage: Stage): Promise<{ runId: string; zombie: WorkerProcess; afterTakeover: number }> {
  await recordChunks(stage.query, 10)
  const env = { PAWL_LEASE_SECONDS: '2', PAWL_LANES: '1' }
  const zombie = await stage.start({ name: 'zombie', env })
  const runId = await requestLoad(stage.query, few, FEW_CHUNKS)
  const { epoch } = await holderOf(stage.query, runId)
  await stopBetween(stage, zombie)
  const copied = async () => (await recordedBatches(stage.query, runId)).filter(chunk => chunk.worker === zombie.name).length
  const before = await copied()
  const heir = await stage.start({ name: 'heir', env })
  await until(
    'the heir opens the run',
    async () => (await stage.query(`select from pawl.checkpoints where run_id = $1 and epoch > $2 and state = 'running'`, [runId, epoch]))[0],
  )
  await stopBetween(stage, heir)
  expect((await recordedBatches(stage.query, runId)).length).toBe(before)
  zombie.signal('SIGCONT')
  await until('the zombie lets go', () => zombie.log.some(line => line.msg === 'run let go'))
  heir.signal('SIGCONT')
  expect(await endOf(stage.query, runId)).toBe('completed')
  return { runId, zombie, afterTakeover: (await copied()) - before }
}

test('a worker that was stopped in mid-load, replaced and woken copies nothing more, and publishes nothing', async () => {
  const stage = await openStage()
  const { runId, zombie, afterTakeover } = await wakeTheDead(stage)
  expect(afterTakeover).toBe(0)
  expect(await tableFaults(stage.query, FEW_ROWS)).toEqual([])
  expect(await chunkFaults(stage.query, runId, FEW_ROWS)).toEqual([])
  expect(await attemptsOf(stage.query, runId)).toEqual(once(FEW_ROWS))
  expect(zombie.log.map(line => line.msg)).toContain('run was taken over, leaving it alone')
  expect(zombie.log.map(line => line.msg)).not.toContain('table refreshed')
})

test('without the epoch predicate the same zombie does copy: the test above can fail', async () => {
  const stage = await openStage()
  await removeFence(stage.query)
  expect((await wakeTheDead(stage)).afterTakeover).toBeGreaterThan(0)
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
