import { expect, test } from 'vitest'
import type { Clock } from '../../src/clock.ts'
import type { Query } from '../../src/database.ts'
import { type Metrics, openMetrics } from '../../src/metrics.ts'

/** Metrics over a database that answers what `answer` says, and a clock that stands until it is moved; sleeping moves it. */
function openStage(answer: (text: string) => Promise<unknown[]>) {
  const asked: string[] = []
  const clock: Clock & { ms: number } = {
    ms: 0,
    now: () => 1_700_000_000_000 + clock.ms,
    elapsed: () => clock.ms,
    async sleep(ms: number, signal?: AbortSignal) {
      await new Promise(resolve => setImmediate(resolve))
      if (signal?.aborted !== true) clock.ms += ms
    },
  }
  const query = ((text: string) => {
    asked.push(text.includes('pawl.queues') ? 'queues' : 'health')
    return answer(text)
  }) as Query
  const pool = () => ({ total: 3, idle: 1, waiting: 0, opened: 5, lost: 1, queries: 70, failed: 2, querySeconds: 1.5 })
  const metrics = openMetrics(
    { query, queues: ['overrides.apply'], pool, poolMax: 20, held: () => 2, slots: () => 4, draining: () => false, leaseSilentMs: () => 400 },
    clock,
  )
  return { metrics, asked, clock }
}

const queueRow = { queue: 'overrides.apply', ready: 1, delayed: 0, active: 2, failed: 0, paused: false, oldest_ready_seconds: 7 }
const healthRow = {
  checks: [
    { check: 'stuck runs', ok: false, figure: 3 },
    { check: 'paused queues', ok: true, figure: null },
  ],
  backup: null,
  migrations: 19,
}
const answers = async (text: string) => (text.includes('pawl.queues') ? [queueRow] : [healthRow])

const lines = async (metrics: Metrics) => (await metrics.text()).split('\n').filter(line => line.startsWith('pawl_'))

test('reads the queues at most every 15 seconds and the health at most every 60, and only when scraped', async () => {
  const { metrics, asked, clock } = openStage(answers)
  expect(asked).toEqual([])
  for (const [ms, expected] of [
    [0, ['queues', 'health']],
    [14_999, []],
    [15_000, ['queues']],
    [29_000, []],
    [59_999, ['queues']],
    [60_000, ['health']],
  ] as const) {
    asked.length = 0
    clock.ms = ms
    await metrics.text()
    await metrics.text()
    expect(asked, `after ${ms} ms`).toEqual(expected)
  }
})

test('shows what the database said and when', async () => {
  const { metrics } = openStage(answers)
  expect(await lines(metrics)).toEqual(
    expect.arrayContaining([
      'pawl_queue_jobs{queue="overrides.apply",state="active"} 2',
      'pawl_queue_oldest_ready_seconds{queue="overrides.apply"} 7',
      'pawl_health_ok{check="stuck runs"} 0',
      'pawl_health_ok{check="paused queues"} 1',
      'pawl_stuck_runs 3',
      'pawl_schema_migrations 19',
      'pawl_backup_verified_timestamp_seconds 0',
      'pawl_figures_read_timestamp_seconds{figures="health"} 1700000000',
      'pawl_worker_active 2',
      'pawl_worker_lease_silent_seconds 0.4',
      'pawl_db_queries_total 70',
    ]),
  )
})

test('answers while the database fails, with what it knew before', async () => {
  let isDown = false
  const { metrics, clock } = openStage(async text => {
    if (isDown) throw new Error('connection refused')
    return answers(text)
  })
  await metrics.text()
  isDown = true
  clock.ms = 120_000
  expect(await lines(metrics)).toEqual(
    expect.arrayContaining(['pawl_stuck_runs 3', 'pawl_figures_read_timestamp_seconds{figures="health"} 1700000000', 'pawl_worker_slots 4']),
  )
})

test('answers after two seconds while the database says nothing at all', async () => {
  const { metrics, clock } = openStage(() => new Promise(() => {}))
  expect(await lines(metrics)).toContain('pawl_worker_slots 4')
  expect(clock.ms).toBe(2_000)
})

test('forgets a queue that is gone and a check that is no more', async () => {
  let rows = [queueRow, { ...queueRow, queue: 'old.queue' }]
  let checks = [...healthRow.checks, { check: 'worker disk /backups', ok: false, figure: null }]
  const { metrics, clock } = openStage(async text => (text.includes('pawl.queues') ? rows : [{ ...healthRow, checks }]))
  expect((await lines(metrics)).filter(line => /old\.queue|disk/.test(line))).not.toEqual([])
  rows = [queueRow]
  checks = healthRow.checks
  clock.ms = 60_000
  expect((await lines(metrics)).filter(line => /old\.queue|disk/.test(line))).toEqual([])
})

test('counts runs, waits, batches, rescues and timers', async () => {
  const { metrics } = openStage(answers)
  metrics.waited('overrides.apply', 250)
  metrics.waited('overrides.apply', -3)
  metrics.run('overrides.apply', 'lost', 1_500)
  metrics.batches('override', { batches: 4, rows: 400 }, 20)
  metrics.rescue('hung')
  metrics.timers(3, [2, 40])
  const text = await lines(metrics)
  for (const line of [
    'pawl_run_wait_seconds_count{queue="overrides.apply"} 2',
    'pawl_run_wait_seconds_sum{queue="overrides.apply"} 0.25',
    'pawl_runs_total{queue="overrides.apply",outcome="lost"} 1',
    'pawl_run_seconds_sum{queue="overrides.apply"} 1.5',
    'pawl_checkpoint_rows_total{kind="override"} 400',
    'pawl_batch_seconds_bucket{le="0.005",kind="override"} 4',
    'pawl_rescues_total{reason="hung"} 1',
    'pawl_timers_fired_total 3',
    'pawl_timer_lateness_seconds_bucket{le="0.005"} 1',
    'pawl_timer_lateness_seconds_count 2',
    'pawl_timer_lateness_seconds_sum 0.042',
  ]) {
    expect(text).toContain(line)
  }
})
