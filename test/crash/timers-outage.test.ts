import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import type { Query } from '../../src/database.ts'
import { until } from '../support/until.ts'
import { openStage, type Stage } from './stage.ts'
import { allFired, firedTimers, insertOverdue, insertTimers, latenessOf, mutate, openServer, recordExecutions, sharesOf, timerFaults } from './timer-stage.ts'

/** The wheel looks by itself every 15 s; a turn and a commit on top. */
const BACKSTOP_MS = 16_500
const IDLE_MS = 60_000

test('PostgreSQL stopped at once and started again, three times while timers fire: none lost, none doubled, and no worker exits', async () => {
  // Durable commits: an execution that was there stays there.
  const { server, query, start } = await openServer({ synchronous_commit: 'on', full_page_writes: 'on' })
  await recordExecutions(query)
  const workers = await Promise.all([start(), start()])
  const ended: string[] = []
  for (const worker of workers) void worker.exited.then(() => ended.push(worker.name))
  const timers = await insertTimers(query, 1_500, 2_000, 8_000)
  for (let crash = 1; crash <= 3; crash += 1) {
    await until(`timers fire before crash ${crash}`, async () => (await firedTimers(query)) >= (crash * timers) / 4)
    await server.kill('immediate')
    await server.restart()
    await until(`the server answers after crash ${crash}`, () =>
      query('select 1').then(
        () => true,
        () => false,
      ),
    )
  }
  await allFired(query, 60_000)
  const lateness = await latenessOf(query)
  console.info(JSON.stringify({ lateness, executions: await sharesOf(query) }))
  expect(await timerFaults(query)).toEqual([])
  expect(ended).toEqual([])
  expect(lateness.max_ms).toBeLessThan(BACKSTOP_MS)
  for (const worker of workers) worker.signal('SIGTERM')
  expect(await Promise.all(workers.map(worker => worker.exited))).toEqual([
    { code: 0, signal: null },
    { code: 0, signal: null },
  ])
})

/** One more campaign with START and CLOSE, due in a moment; waits until both have fired. Returns how late the latest of all timers was. */
async function fireOneMore(query: Query): Promise<number> {
  await insertTimers(query, 1, 100, 0)
  await allFired(query, 30_000)
  return (await latenessOf(query)).max_ms
}

test('the listening connection is cut just before a timer is inserted, five times over: each fires all the same, and none waits for the backstop', async () => {
  const stage = await openStage()
  const worker = await stage.start()
  for (let cut = 1; cut <= 5; cut += 1) {
    await until('the connection that listens is cut', async () => {
      const gone = await stage.query(`select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1 and query like '%pawl.beat(%'`, [
        worker.name,
      ])
      return gone.length === 1
    })
    await fireOneMore(stage.query)
  }
  const lateness = await latenessOf(stage.query)
  console.info(JSON.stringify({ lateness }))
  expect(await timerFaults(stage.query)).toEqual([])
  expect(lateness.timers).toBe(10)
  expect(lateness.max_ms).toBeLessThan(5_000)
})

test('a timer that nobody was told of fires within the backstop', async () => {
  const stage = await openStage()
  await stage.start()
  await stage.query('alter table public.campaign_timers disable trigger announce_new_timers')
  const lateMs = await fireOneMore(stage.query)
  console.info(JSON.stringify({ late_ms: lateMs }))
  expect(await timerFaults(stage.query)).toEqual([])
  expect(lateMs).toBeLessThan(BACKSTOP_MS)
})

/** Overdue campaigns, ten of whose START timers somebody has locked, and a worker that fires what it can. Returns how to let them go. */
async function lockStarts(stage: Stage): Promise<() => void> {
  let release: () => void = () => {}
  const released = new Promise<void>(resolve => {
    release = resolve
  })
  onTestFinished(() => release())
  await insertOverdue(stage.query, 50)
  await new Promise<void>((resolve, reject) => {
    stage.db
      .transact(async query => {
        await query('set local idle_in_transaction_session_timeout = 0')
        await query(`select from public.campaign_timers where timer_type = 'START_CAMPAIGN' limit 10 for update`)
        resolve()
        await released
      })
      .catch(reject)
  })
  await stage.start()
  await until('all others have fired', async () => (await firedTimers(stage.query)) >= 80)
  return release
}

test('a START that somebody has locked when it is due holds up its CLOSE, costs no other campaign anything, and fires as soon as it is free', async () => {
  const stage = await openStage()
  const release = await lockStarts(stage)
  // They come round many times meanwhile: a CLOSE that slipped past its START would be refused for good.
  const transactions = async () =>
    (await stage.query<{ count: number }>('select xact_commit as count from pg_stat_database where datname = current_database()'))[0]?.count ?? 0
  const before = await transactions()
  await until('the wheel has turned some more', async () => (await transactions()) > before + 40)
  expect(await firedTimers(stage.query)).toBe(80)
  const releasedMs = systemClock.elapsed()
  release()
  await allFired(stage.query, 30_000)
  const tookMs = Math.round(systemClock.elapsed() - releasedMs)
  console.info(JSON.stringify({ fired_after_ms: tookMs }))
  expect(await timerFaults(stage.query)).toEqual([])
  expect(tookMs).toBeLessThan(1_000)
})

test('without a look at earlier timers that still wait, CLOSE overtakes the locked START and is refused: the test above can fail', async () => {
  const stage = await openStage()
  await mutate(stage.query, 'due_timers', [[`in ('PENDING', 'RUNNING')`, `in ('RUNNING')`]])
  const release = await lockStarts(stage)
  await until('the ten others are refused', async () => (await firedTimers(stage.query)) >= 90)
  release()
  await allFired(stage.query, 30_000)
  expect(await timerFaults(stage.query)).toContainEqual(expect.stringContaining('too much: timer CLOSE_CAMPAIGN FAILED'))
})

test('100,000 timers due next week and nothing else to do: at most six queries a minute for them', async () => {
  const { server, query, start } = await openServer({ log_statement: 'all' })
  // Without triggers, which would take longer than the rest of the test's preparations together.
  await query(`set session_replication_role = replica;
    with made as (insert into public.campaigns (duration_hours) select 1 from generate_series(1, 100000) returning id)
    insert into public.campaign_timers (campaign_id, timer_type, scheduled_at) select id, 'START_CAMPAIGN', now() + interval '7 days' from made;
    reset session_replication_role`)
  await start()
  const journal = join(server.dataDir, '..', 'server.log')
  const statements = () =>
    readFileSync(journal, 'utf8')
      .split('\n')
      .filter(line => /LOG: {2}(statement|execute)/.test(line))
  await until('the first turn and its housekeeping', () => statements().some(line => line.includes('pawl.rescue_timers')))
  // The first turn has others beside it while it lasts; what is counted begins behind them.
  await systemClock.sleep(1_000)
  const before = statements().length
  await systemClock.sleep(IDLE_MS)
  const asked = statements().slice(before)
  const wheel = asked.filter(line => /pawl\.(fire_timers|claim_timers|rescue_timers|redeliver_lost_timers)/.test(line))
  console.info(JSON.stringify({ timer_queries: wheel.length, all_queries: asked.length }))
  // It is alive, and the journal is read right: the backstop's turns are there.
  expect(wheel.length).toBeGreaterThanOrEqual(3)
  expect(wheel.length).toBeLessThanOrEqual(6)
})
