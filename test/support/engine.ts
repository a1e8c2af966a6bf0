import type { Clock } from '../../src/clock.ts'
import { systemClock } from '../../src/clock.ts'
import type { Delivery } from '../../src/checkpoint.ts'
import { readConfig } from '../../src/config.ts'
import { connectDirect, type Query } from '../../src/database.ts'
import type { Metrics } from '../../src/metrics.ts'
import { type HandlerOptions, handle, type Settlement, type Worker } from '../../src/worker.ts'
import { silent, type TestDatabase } from './postgres.ts'

/** A lease as `src/presence.ts` holds one, without its heart: a row in `pawl.leases` and the session lock beside it. */
export type Lease = {
  id: number
  /** As SIGKILL does: the server frees the lock, and the row stays as it was. */
  die(): Promise<void>
  /** As a process that hangs: the lock stays, and nothing was heard of it for an hour. */
  hang(): Promise<void>
  stop(): Promise<void>
}

/** Registers a worker that `pawl.lease_alive` takes for a living one, until it dies, hangs or is stopped. */
export async function takeLease(db: TestDatabase, name = 'tester', queues: readonly string[] = ['overrides.apply']): Promise<Lease> {
  const connection = await connectDirect(readConfig({ DATABASE_URL: db.url }), name)
  const [row] = await connection.query<{ id: number }>(
    `with taken as (insert into pawl.leases (name, host, pid, version, queues) values ($1, 'here', $2, 'test', $3) returning id)
     select id, pg_advisory_lock(1885435756, id) from taken`,
    [name, process.pid, queues],
  )
  const id = row?.id ?? 0
  return {
    id,
    die: () => connection.close(),
    hang: async () => void (await db.query(`update pawl.leases set seen_at = now() - interval '1 hour' where id = $1`, [id])),
    async stop() {
      await db.query(`update pawl.leases set state = 'stopped', stopped_at = now() where id = $1 and state = 'running'`, [id])
      await connection.close()
    },
  }
}

const unmeasured: Metrics = {
  batches: () => {},
  run: () => {},
  waited: () => {},
  rescue: () => {},
  timers: () => {},
  text: async () => '',
  contentType: 'text/plain',
}

/** What `handle` works with, on this database and lease; `changes` win. */
export function handlerOptions(db: TestDatabase, lease: Lease, changes: Partial<HandlerOptions> = {}): HandlerOptions {
  return {
    config: readConfig({ DATABASE_URL: db.url }),
    db,
    log: silent,
    clock: systemClock,
    metrics: unmeasured,
    drain: new AbortController().signal,
    lanes: 2,
    // One batch a round trip: a test can act between two of them.
    sliceMs: 0,
    leaseMs: 10_000,
    turnMs: 600_000,
    lease: () => lease.id,
    held: new Set(),
    onPaused: () => {},
    ...changes,
  }
}

/** Time that passes only where someone sleeps, and then at once; `sleeps` are the milliseconds that were asked for. */
export function fakeClock(): Clock & { sleeps: number[] } {
  const sleeps: number[] = []
  let elapsed = 0
  return {
    sleeps,
    now: () => elapsed,
    elapsed: () => elapsed,
    async sleep(ms) {
      sleeps.push(ms)
      elapsed += ms
      await new Promise(resolve => setImmediate(resolve))
    },
  }
}

/** Takes the next ready job of a queue as pg-boss does: by priority, then by age. Undefined when none is ready. */
export async function claim(query: Query, queue: string): Promise<Delivery | undefined> {
  const [job] = await query<{ id: string; run_id: string; retry_count: number }>(
    // Materialized: joined as a subquery, the limit may be evaluated anew for each row, and more than one job is claimed.
    `with next as materialized (
       select id from pgboss.job where name = $1 and state < 'active' and not blocked and start_after <= now()
       order by priority desc, created_on, id limit 1 for update skip locked
     )
     update pgboss.job j set state = 'active', started_on = now(), retry_count = case when j.started_on is null then j.retry_count else j.retry_count + 1 end
     from next
     where j.name = $1 and j.id = next.id
     returning j.id, j.data ->> 'run_id' as run_id, j.retry_count`,
    [queue],
  )
  return job === undefined ? undefined : { runId: job.run_id, jobId: job.id, jobAttempt: job.retry_count }
}

/** Settles a job in pg-boss's table; a failed one is ready again at once, as if its backoff had passed. */
export async function settleJob(query: Query, queue: string, delivery: Delivery, settlement: Settlement): Promise<void> {
  const state = { completed: 'completed', failed: 'retry', deadletter: 'failed' }[settlement.status]
  await query(`update pgboss.job set state = $3::pgboss.job_state, output = $4 where name = $1 and id = $2 and state = 'active'`, [
    queue,
    delivery.jobId,
    state,
    JSON.stringify(settlement.output),
  ])
}

/** Claims one job, lets `worker` have it, settles it. Undefined when no job was ready. */
export async function workOne(worker: Worker, options: HandlerOptions, expired = new AbortController().signal): Promise<Settlement | undefined> {
  const delivery = await claim(options.db.query, worker.queue)
  if (delivery === undefined) return undefined
  const settlement = await handle(worker, options)(delivery, expired)
  await settleJob(options.db.query, worker.queue, delivery, settlement)
  return settlement
}

/** Works off the queue until no job of it is ready; what became of each delivery, in order. */
export async function workAll(worker: Worker, options: HandlerOptions): Promise<string[]> {
  const outcomes: string[] = []
  for (;;) {
    const settlement = await workOne(worker, options)
    if (settlement === undefined) return outcomes
    outcomes.push(String(settlement.output.outcome))
    if (outcomes.length > 200) throw new Error(`the queue never runs empty: ${outcomes.slice(-5).join(', ')}`)
  }
}
