import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Query } from './database.ts'
import { version } from './version.ts'

/** What the worker counts about itself. Labels are queues, kinds and outcomes, never ids. */
export type Metrics = {
  batches(kind: string, committed: { batches: number; rows: number }, milliseconds: number): void
  run(queue: string, outcome: string, milliseconds: number): void
  rescue(reason: string): void
  /** The Prometheus text of everything. */
  text(): Promise<string>
  contentType: string
}

export type MetricsSources = {
  query: Query
  pool: () => { total: number; idle: number; waiting: number }
  held: () => number
  slots: () => number
  draining: () => boolean
  leaseSilentMs: () => number
}

/** The queue figures come from the database, so every replica reports the same: read them at most this often. */
const QUEUE_FIGURES_EVERY_MS = 15_000

/** Opens the registry; process metrics included. */
export function openMetrics(sources: MetricsSources, now: () => number): Metrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
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

  const runs = new Counter({ name: 'pawl_runs_total', help: 'Runs let go, by how they ended', labelNames: ['queue', 'outcome'], registers })
  const runSeconds = new Histogram({
    name: 'pawl_run_seconds',
    help: 'Time a worker held a run',
    labelNames: ['queue'],
    buckets: [0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600],
    registers,
  })
  const rows = new Counter({ name: 'pawl_checkpoint_rows_total', help: 'Rows committed in checkpointed batches', labelNames: ['kind'], registers })
  const batchSeconds = new Histogram({
    name: 'pawl_batch_seconds',
    help: 'Time of one committed batch, the mean over a slice of them',
    labelNames: ['kind'],
    buckets: [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5],
    registers,
  })
  const rescues = new Counter({
    name: 'pawl_rescues_total',
    help: 'Runs taken from workers that were dead, hung, or had let them fall',
    labelNames: ['reason'],
    registers,
  })
  gauge('pawl_worker_active', 'Runs in work in this process', sources.held)
  gauge('pawl_worker_slots', 'Runs this process can work on at once', sources.slots)
  gauge('pawl_worker_draining', '1 while this process shuts down', () => (sources.draining() ? 1 : 0))
  gauge('pawl_worker_lease_silent_seconds', 'Time since the database last confirmed this worker', () => sources.leaseSilentMs() / 1000)
  gauge('pawl_db_pool_connections', 'Connections the pool holds', () => sources.pool().total)
  gauge('pawl_db_pool_idle', 'Connections of the pool nobody uses', () => sources.pool().idle)
  gauge('pawl_db_pool_waiting', 'Callers that wait for a connection', () => sources.pool().waiting)
  new Gauge({ name: 'pawl_build_info', help: 'Always 1', labelNames: ['version', 'node'], registers }).set({ version, node: process.version }, 1)

  const queueJobs = new Gauge({ name: 'pawl_queue_jobs', help: 'Jobs of a queue by state', labelNames: ['queue', 'state'], registers })
  const queueAge = new Gauge({ name: 'pawl_queue_oldest_ready_seconds', help: 'How long the oldest ready job has waited', labelNames: ['queue'], registers })
  const queuePaused = new Gauge({ name: 'pawl_queue_paused', help: '1 while the queue is paused', labelNames: ['queue'], registers })
  let figuresAt = Number.NEGATIVE_INFINITY
  const readQueues = async () => {
    if (now() - figuresAt < QUEUE_FIGURES_EVERY_MS) return
    figuresAt = now()
    type Figures = { queue: string; ready: number; delayed: number; active: number; failed: number; paused: boolean; oldest_ready_seconds: number | null }
    for (const queue of await sources.query<Figures>('select * from pawl.queues')) {
      for (const state of ['ready', 'delayed', 'active', 'failed'] as const) queueJobs.set({ queue: queue.queue, state }, Number(queue[state]))
      queueAge.set({ queue: queue.queue }, queue.oldest_ready_seconds ?? 0)
      queuePaused.set({ queue: queue.queue }, queue.paused ? 1 : 0)
    }
  }

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
    rescue: reason => rescues.inc({ reason }),
    async text() {
      // A scrape must answer while the database is down: it is then that someone looks.
      await readQueues().catch(() => {})
      return registry.metrics()
    },
    contentType: registry.contentType,
  }
}
