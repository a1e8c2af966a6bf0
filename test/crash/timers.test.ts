import { expect, test } from 'vitest'
import { until } from '../support/until.ts'
import { openStage, type Stage } from './stage.ts'
import { allFired, firedTimers, insertOverdue, insertTimers, latenessOf, mutate, recordExecutions, sharesOf, timerFaults } from './timer-stage.ts'

const SHIFTED_CLOCK = new URL('../support/shifted-clock.mjs', import.meta.url).href
const HOUR_MS = 3_600_000
/** A timer that was missed is found by the wheel's own look, every 15 s. */
const BACKSTOP_MS = 16_000

/** Two workers, and timers over ten seconds; after each `every` of them one worker in turn is killed and replaced. Returns how many kills. */
async function fireUnderKills(stage: Stage, campaigns: number, every: number): Promise<number> {
  await recordExecutions(stage.query)
  await Promise.all([stage.start(), stage.start()])
  const timers = await insertTimers(stage.query, campaigns, 2_000, 10_000)
  expect(timers).toBe((campaigns * 8) / 3)
  let kills = 0
  for (let fired = every; fired < timers; fired += every) {
    await until(`${fired} timers have fired`, async () => (await firedTimers(stage.query)) >= fired)
    stage.workers[kills]?.signal('SIGKILL')
    await stage.start()
    kills += 1
  }
  await allFired(stage.query, 60_000)
  return kills
}

test('10,000 timers in ten seconds while a worker is killed every two: each fires exactly once, none early, and every trace is there once', async () => {
  const stage = await openStage()
  const kills = await fireUnderKills(stage, 3_750, 1_800)
  const lateness = await latenessOf(stage.query)
  console.info(JSON.stringify({ kills, lateness, executions: await sharesOf(stage.query) }))
  expect(kills).toBe(5)
  expect(await timerFaults(stage.query)).toEqual([])
  expect(lateness.max_ms).toBeLessThan(BACKSTOP_MS)
})

test('without the row locks two workers fire the same timers: the test above can fail', async () => {
  const stage = await openStage()
  await mutate(stage.query, 'due_timers', [
    ['for update of t skip locked', ''],
    ['for no key update of c skip locked', ''],
  ])
  await fireUnderKills(stage, 750, 1_000)
  expect(await timerFaults(stage.query)).toContainEqual(expect.stringContaining('too much: execution of'))
})

test('with a bound one second ahead timers fire early, and that is seen', async () => {
  const stage = await openStage()
  await mutate(stage.query, 'due_timers', [['t.scheduled_at <= now()', `t.scheduled_at <= now() + interval '1 second'`]])
  await fireUnderKills(stage, 750, 1_000)
  expect(await timerFaults(stage.query)).toContainEqual(expect.stringContaining('early: '))
})

test('20,000 timers overdue after a downtime: START before CLOSE in every campaign, nothing refused or lost, and two workers share them', async () => {
  const stage = await openStage()
  await recordExecutions(stage.query)
  await insertOverdue(stage.query, 10_000)
  // Both are to begin at once: the backlog is gone before a second process is up.
  await stage.query(`select pawl.pause('campaigns.fire', 'until both are there')`)
  await Promise.all([stage.start({ name: 'first' }), stage.start({ name: 'second' })])
  expect(await firedTimers(stage.query)).toBe(0)
  await stage.query(`select pawl.resume('campaigns.fire')`)
  await allFired(stage.query, 60_000)
  const [took] = await stage.query<{ seconds: number }>(
    'select extract(epoch from max(completed_at) - min(started_at))::float8 as seconds from public.timer_executions',
  )
  const shares = await sharesOf(stage.query)
  console.info(JSON.stringify({ timers_per_second: Math.round(20_000 / (took?.seconds ?? Number.NaN)), executions: shares }))
  expect(await timerFaults(stage.query)).toEqual([])
  expect(shares.first).toBeGreaterThan(1_000)
  expect(shares.second).toBeGreaterThan(1_000)
})

test('two workers whose time of day is an hour fast and an hour slow fire on time: only the database is asked', async () => {
  const stage = await openStage()
  await recordExecutions(stage.query)
  const wrong = (name: string, shiftMs: number) =>
    stage.start({ name, env: { NODE_OPTIONS: `--import=${SHIFTED_CLOCK}`, PAWL_TEST_CLOCK_SHIFT_MS: String(shiftMs) } })
  const workers = await Promise.all([wrong('fast', HOUR_MS), wrong('slow', -HOUR_MS)])
  const [now] = await stage.query<{ ms: number }>('select extract(epoch from clock_timestamp())::float8 * 1000 as ms')
  for (const [place, worker] of workers.entries()) {
    const [line] = worker.log.filter(candidate => candidate.msg === 'worker ready')
    const errorMs = Date.parse(String(line?.time)) - (now?.ms ?? Number.NaN) - (place === 0 ? HOUR_MS : -HOUR_MS)
    expect(Math.abs(errorMs)).toBeLessThan(60_000)
  }
  await insertTimers(stage.query, 750, 1_500, 5_000)
  await allFired(stage.query, 30_000)
  const lateness = await latenessOf(stage.query)
  const shares = await sharesOf(stage.query)
  console.info(JSON.stringify({ lateness, executions: shares }))
  expect(await timerFaults(stage.query)).toEqual([])
  expect(Object.keys(shares)).toEqual(['fast', 'slow'])
  expect(lateness.p99_ms).toBeLessThan(250)
})
