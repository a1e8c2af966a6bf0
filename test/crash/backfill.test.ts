import { expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { openDatabase } from '../../src/database.ts'
import { readConfig } from '../../src/config.ts'
import { silent } from '../support/postgres.ts'
import { until } from '../support/until.ts'
import { endOf, holderOf, openStage, orderFaults, recordBatches, recordedBatches } from './stage.ts'

const ROWS = 200_000
const KILLS = Number(process.env.PAWL_TEST_KILLS ?? 20)
/** The size that batches fall to, as the time they may take is too short: a tenth of what is asked for. */
const BATCH_ROWS = 60
/** A batch takes at least this long, or it ends between the look at who works and the kill. */
const BATCH_MS = 4

test(`${KILLS} times kill -9 at a random moment: of ${ROWS} rows each is changed exactly once, and writers beside it lose nothing`, {
  timeout: 600_000,
}, async () => {
  const stage = await openStage()
  await recordBatches(stage.query, BATCH_MS)
  await stage.query(`
    create table public.counters (id int primary key, n int not null default 0, touched int not null default 0) with (fillfactor = 70);
    insert into public.counters select generate_series(1, ${ROWS}); analyze public.counters`)
  await Promise.all([stage.start(), stage.start()])
  const writing = startWriters(stage.db.url, 3)
  onTestFinished(() => writing.stop().then(() => {}))
  // So short a time that batches stay small, and many.
  const [asked] = await stage.query<{ id: string }>(
    `select pawl.request_backfill('public.counters', 'n = n + 1', batch_size => ${BATCH_ROWS * 10}, batch_time => '1 ms') as id`,
  )
  const runId = asked?.id ?? ''
  for (let kill = 1; kill <= KILLS; kill += 1) {
    const seen = await holderOf(stage.query, runId)
    const [{ left } = { left: 0 }] = await stage.query<{ left: number }>(
      'select $1 - coalesce(sum(rows), 0)::bigint as left from public.recorded_batches where run_id = $2',
      [ROWS, runId],
    )
    const share = left / BATCH_ROWS / (KILLS + 1 - kill)
    const gap = 1 + Math.floor((Math.random() * share) / 4)
    await until('the next moment to kill', async () => (await holderOf(stage.query, runId)).batches >= seen.batches + gap)
    await systemClock.sleep(Math.random() * 8)
    const victim = await holderOf(stage.query, runId)
    process.kill(victim.pid, 'SIGKILL')
    const replacement = stage.start()
    await until(`someone else after kill ${kill}`, async () => (await holderOf(stage.query, runId)).epoch > victim.epoch)
    // However long a machine takes to start a worker, the run waits for it.
    await stage.query(`select pawl.pause('maintenance.backfill')`)
    await replacement
    await stage.query(`select pawl.resume('maintenance.backfill')`)
  }
  expect(await endOf(stage.query, runId, 120_000)).toBe('completed')
  const { written, failed } = await writing.stop()
  const batches = await recordedBatches(stage.query, runId)
  console.info(
    JSON.stringify({ kills: KILLS, batches: batches.length, epochs: new Set(batches.map(batch => batch.epoch)).size, writes_beside: written, failed }),
  )
  expect(await stage.query('select n, count(*) as rows from public.counters group by n')).toEqual([{ n: 1, rows: ROWS }])
  expect(await stage.query('select done, total from pawl.runs where run_id = $1', [runId])).toEqual([{ done: ROWS, total: ROWS }])
  expect(batches.reduce((sum, batch) => sum + batch.rows, 0)).toBe(ROWS)
  expect(orderFaults(batches)).toEqual([])
  expect(new Set(batches.map(batch => batch.epoch)).size).toBeGreaterThan(KILLS)
  expect(await stage.query(`select count(*) as lost from pawl.leases where state = 'lost'`)).toEqual([{ lost: KILLS }])
  expect(failed).toEqual([])
  expect(await stage.query('select sum(touched)::bigint as touched from public.counters')).toEqual([{ touched: written }])
  expect(written).toBeGreaterThan(1_000)
})

/** Writers of a host application, which change the same rows in another column, one at a time. */
function startWriters(url: string, count: number) {
  const db = openDatabase(readConfig({ DATABASE_URL: url }), silent, { max: count, name: 'host' })
  const failed: unknown[] = []
  let [written, over] = [0, false]
  const write = async () => {
    while (!over) {
      const [row] = await db
        .query('update public.counters set touched = touched + 1 where id = $1 returning 1', [1 + Math.floor(Math.random() * ROWS)])
        .catch(error => {
          failed.push(error)
          return []
        })
      if (row !== undefined) written += 1
    }
  }
  const writers = Promise.all(Array.from({ length: count }, write))
  return {
    async stop() {
      if (!over) {
        over = true
        await writers
        await db.close()
      }
      return { written, failed }
    },
  }
}
