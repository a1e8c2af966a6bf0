import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Clock } from './clock.ts'
import type { PoolCounts, Query } from './database.ts'
import { openFigures } from './metrics/figures.ts'
import { version } from './version.ts'

/** What the worker counts about itself. Labels are queues, kinds and outcomes, never ids. docs/metrics.md lists them all. */
export type Metrics = {
  batches(kind: string, committed: { batches: number; rows: number }, milliseconds: number): void
  run(queue: string, outcome: string, milliseconds: number): void
  /** A run was opened `milliseconds` after its job had become ready. */
  waited(queue: string, milliseconds: number): void
  rescue(reason: string): void
  /** Timers fired; how late each of those was that fired at its first attempt. */
  timers(fired: number, lateMs: readonly number[]): void
  /** The Prometheus text of everything. */
  text(): Promise<string>
  contentType: string
}

export type MetricsSources = {
  query: Query
  queues: readonly string[]
  pool: () => PoolCounts
  poolMax: number
  held: () => number
  slots: () => number
  draining: () => boolean
  leaseSilentMs: () => number
}

/** A scrape waits this long for the database's figures, and goes without: Prometheus itself gives up after ten seconds. */
const FIGURES_PATIENCE_MS = 2_000

const REASONS = ['dead', 'hung', 'abandoned']
/** Those that alerts look at. What first shows with a 1 has, for Prometheus, never risen. */
const OUTCOMES = ['completed', 'retry', 'failed', 'lost']

/** Opens the registry; process metrics included. */
export function openMetrics(sources: MetricsSources, clock: Clock): Metrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  openGauges(registry, sources)
  const readers = openFigures(registry, sources.query, clock)
  const registers = [registry]
  const counter = (name: string, help: string, labelNames: string[] = []) => new Counter({ name, help, labelNames, registers })
  const histogram = (name: string, help: string, labelNames: string[], buckets: number[]) => new Histogram({ name, help, labelNames, buckets, registers })

  const runs = counter('pawl_runs_total', 'Runs let go, by how they ended', ['queue', 'outcome'])
  for (const queue of sources.queues) for (const outcome of OUTCOMES) runs.inc({ queue, outcome }, 0)
  const runSeconds = histogram('pawl_run_seconds', 'Time a worker held a run', ['queue'], [0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600])
  const waitSeconds = histogram(
    'pawl_run_wait_seconds',
    'Time from a run being ready to a worker opening it, by the clock of the database',
    ['queue'],
    [0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600],
  )
  const rows = counter('pawl_checkpoint_rows_total', 'Rows committed in checkpointed batches', ['kind'])
  const batchSeconds = histogram(
    'pawl_batch_seconds',
    'Time of one committed batch, the mean over a slice of them',
    ['kind'],
    [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5],
  )
  const rescues = counter('pawl_rescues_total', 'Runs taken from workers that were dead, hung, or had let them fall', ['reason'])
  for (const reason of REASONS) rescues.inc({ reason }, 0)
  const timersFired = counter('pawl_timers_fired_total', 'Timers this worker fired')
  const timerLateness = histogram(
    'pawl_timer_lateness_seconds',
    'Time from the instant a timer was due to when it had fired, at its first attempt, by the clock of the database',
    [],
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600],
  )

  return {
    batches(kind, committed, milliseconds) {
      rows.inc({ kind }, committed.rows)
      // A slice tells the time of its batches together: each stands in the histogram with their mean.
      for (let batch = 0; batch < committed.batches; batch += 1) batchSeconds.observe({ kind }, milliseconds / 1000 / committed.batches)
    },
    run(queue, outcome, milliseconds) {
      runs.inc({ queue, outcome })
      runSeconds.observe({ queue }, milliseconds / 1000)
    },
    waited: (queue, milliseconds) => waitSeconds.observe({ queue }, Math.max(0, milliseconds) / 1000),
    rescue: reason => rescues.inc({ reason }),
    timers(fired, lateMs) {
      timersFired.inc(fired)
      for (const late of lateMs) timerLateness.observe(late / 1000)
    },
    async text() {
      // A scrape must answer while the database is down, or silent: it is then that someone looks.
      const read = new AbortController()
      const reading = Promise.allSettled(readers.map(reader => reader()))
      await Promise.race([reading, clock.sleep(FIGURES_PATIENCE_MS, read.signal)])
      read.abort()
      return registry.metrics()
    },
    contentType: registry.contentType,
  }
}

/** What this process knows at any moment, asked when it is scraped. */
function openGauges(registry: Registry, sources: MetricsSources): void {
  const registers = [registry]
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read())
      },
    })
  const counter = (name: string, help: string, read: () => number) =>
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset()
        this.inc(read())
      },
    })
  gauge('pawl_worker_active', 'Runs in work in this process', sources.held)
  gauge('pawl_worker_slots', 'Runs this process can work on at once', sources.slots)
  gauge('pawl_worker_draining', '1 while this process shuts down', () => (sources.draining() ? 1 : 0))
  gauge('pawl_worker_lease_silent_seconds', 'Time since the database last confirmed this worker', () => sources.leaseSilentMs() / 1000)
  gauge('pawl_db_pool_connections', 'Connections the pool holds', () => sources.pool().total)
  gauge('pawl_db_pool_idle', 'Connections of the pool nobody uses', () => sources.pool().idle)
  gauge('pawl_db_pool_waiting', 'Callers that wait for a connection', () => sources.pool().waiting)
  gauge('pawl_db_pool_max', 'Connections the pool may hold (DB_CONNECTION_LIMIT)', () => sources.poolMax)
  counter('pawl_db_pool_opened_total', 'Connections the pool has made', () => sources.pool().opened)
  counter('pawl_db_pool_lost_total', 'Idle connections of the pool that broke', () => sources.pool().lost)
  counter('pawl_db_queries_total', 'Single statements through the pool', () => sources.pool().queries)
  counter('pawl_db_query_errors_total', 'Single statements through the pool that failed', () => sources.pool().failed)
  counter('pawl_db_query_seconds_total', 'Time of the single statements through the pool, waiting for a connection included', () => sources.pool().querySeconds)
  new Gauge({ name: 'pawl_build_info', help: 'Always 1', labelNames: ['version', 'node'], registers }).set({ version, node: process.version }, 1)
}
