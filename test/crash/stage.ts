import { onTestFinished } from 'vitest'
import type { Query } from '../../src/database.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { startWorker, type WorkerOptions, type WorkerProcess } from '../support/process.ts'
import { until } from '../support/until.ts'

/** A database and the workers on it; when the test ends, all of it goes. */
export type Stage = {
  db: TestDatabase
  query: Query
  /** Every worker that was started, dead ones included. */
  workers: WorkerProcess[]
  /** Starts a worker, by default on the stage's own database. What it writes bears its name (see `recordBatches`). */
  start(options?: WorkerOptions & { url?: string }): Promise<WorkerProcess>
}

/** One committed batch, in the order of their commits (a lane's row is locked until then). */
export type Recorded = { place: number; lane: number; batch: number; epoch: number; rows: number; worker: string; at: Date }

/** Opens a stage on a clone of the migrated template. */
export async function openStage(options: { empty?: boolean } = {}): Promise<Stage> {
  const db = await createDatabase(options)
  const crew = startCrew()
  onTestFinished(async () => {
    await crew.end()
    await db.drop()
  })
  return { db, query: db.query, workers: crew.workers, start: options => crew.start(options?.url ?? db.url, options) }
}

/** Starts workers and ends those that are left, whatever state a test put them in; also those that never became ready. */
export function startCrew() {
  const workers: WorkerProcess[] = []
  const starting = new Set<Promise<unknown>>()
  return {
    workers,
    async start(url: string, options: WorkerOptions = {}): Promise<WorkerProcess> {
      const name = options.name ?? `worker-${workers.length + starting.size + 1}`
      const start = startWorker(signed(url, name), { ...options, name }).then(worker => {
        workers.push(worker)
        return worker
      })
      starting.add(start)
      return start.finally(() => starting.delete(start))
    },
    async end() {
      await Promise.allSettled(starting)
      for (const worker of workers) worker.signal('SIGKILL')
      await Promise.all(workers.map(worker => worker.exited))
    },
  }
}

/** The URL's own application_name outranks the one the program gives: so every statement tells which worker sent it. */
function signed(url: string, name: string): string {
  const changed = new URL(url)
  changed.searchParams.set('application_name', name)
  return changed.href
}

/**
 * Notes every batch that commits, by a trigger on the cursors: who wrote it, when, and under which epoch. `paceMs` makes each
 * take at least that long, so that a run outlasts what a test does to its workers.
 */
export async function recordBatches(query: Query, paceMs = 0): Promise<void> {
  await query(`
    create table public.recorded_batches (
      place bigserial primary key, run_id text, lane integer, batch bigint, epoch bigint, rows bigint,
      worker text default current_setting('application_name'), at timestamptz default clock_timestamp()
    );
    create function public.record_batch() returns trigger language plpgsql as $$
    begin
      perform pg_sleep(${paceMs} / 1000.0);
      insert into public.recorded_batches (run_id, lane, batch, epoch, rows) values (new.run_id, new.lane, new.batch, new.epoch, new.done - old.done);
      return null;
    end $$;
    create trigger record_batch after update on pawl.lanes
    for each row when (new.batch is distinct from old.batch) execute function public.record_batch()`)
}

/** What `recordBatches` has noted of a run. */
export function recordedBatches(query: Query, runId: string): Promise<Recorded[]> {
  return query<Recorded>('select place, lane, batch, epoch, rows, worker, at from public.recorded_batches where run_id = $1 order by place', [runId])
}

/** Where the counters of a run disagree with each other and with what was recorded; an empty list when they add up. */
export async function countFaults(query: Query, runId: string): Promise<string[]> {
  const [row] = await query<{
    lanes: number
    checkpoint: number
    operation: number
    recorded: number
    lane_rows: number
    recorded_rows: number
    carrying: number
  }>(
    `select c.batch as checkpoint, o.current_batch as operation, l.batch as lanes, l.done as lane_rows, r.batch as recorded, r.rows as recorded_rows,
       (select count(*) from public.category_recipient_settings s where s.updated_by_operation = c.run_id) as carrying
     from pawl.checkpoints c
     join public.category_override_operations o on o.operation_id = c.run_id
     cross join lateral (select sum(lane.batch)::bigint as batch, sum(lane.done)::bigint as done from pawl.lanes lane where lane.run_id = c.run_id) l
     cross join lateral (select count(*) as batch, sum(b.rows)::bigint as rows from public.recorded_batches b where b.run_id = c.run_id) r
     where c.run_id = $1`,
    [runId],
  )
  if (row === undefined) return ['the run is not there']
  const batches = new Set([row.lanes, row.checkpoint, row.operation, row.recorded])
  const rows = new Set([row.lane_rows, row.recorded_rows, row.carrying])
  return [
    ...(batches.size === 1
      ? []
      : [`batches: ${row.lanes} in lanes, ${row.checkpoint} in the run, ${row.operation} in the operation, ${row.recorded} recorded`]),
    ...(rows.size === 1 ? [] : [`rows: ${row.lane_rows} in lanes, ${row.recorded_rows} recorded, ${row.carrying} carry the operation`]),
  ]
}

/** Epochs that went back, or batches numbered twice, in the order of their commits. */
export function orderFaults(batches: readonly Recorded[]): string[] {
  const lanes = Map.groupBy(batches, batch => batch.lane)
  return [...lanes].flatMap(([lane, own]) =>
    own.flatMap((batch, i) => {
      const before = own[i - 1]
      const follows = before === undefined ? batch.batch === 1 : batch.batch === before.batch + 1 && batch.epoch >= before.epoch
      return follows
        ? []
        : [`lane ${lane}: batch ${batch.batch} of epoch ${batch.epoch} (${batch.worker}) after ${before?.batch} of ${before?.epoch} (${before?.worker})`]
    }),
  )
}

export type Holder = { name: string; pid: number; epoch: number; batches: number; now: Date }

/** Who works on the run now, with at least one batch of its own committed; waits until someone does. */
export function holderOf(query: Query, runId: string, patienceMs = 30_000): Promise<Holder> {
  return until(
    `someone works on ${runId}`,
    async () => {
      const [row] = await query<Holder>(
        `select l.name, l.pid, c.epoch, (select count(*) from public.recorded_batches b where b.run_id = c.run_id) as batches, clock_timestamp() as now
         from pawl.checkpoints c join pawl.leases l on l.id = c.owner
         where c.run_id = $1 and c.state = 'running'
           and exists (select from public.recorded_batches b where b.run_id = c.run_id and b.epoch = c.epoch)`,
        [runId],
      )
      return row
    },
    patienceMs,
  )
}

/** Waits until the run has ended, and returns how. */
export function endOf(query: Query, runId: string, patienceMs = 60_000): Promise<string> {
  return until(
    `${runId} ends`,
    async () => {
      const [row] = await query<{ state: string }>(`select state from pawl.checkpoints where run_id = $1 and state not in ('pending', 'running')`, [runId])
      return row?.state
    },
    patienceMs,
  )
}
