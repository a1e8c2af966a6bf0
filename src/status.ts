import type { Query } from './database.ts'

/** A row of `pawl.runs`. */
export type RunRow = {
  run_id: string
  kind: string
  state: 'pending' | 'running' | 'completed' | 'failed' | 'cancelled'
  subject: string
  done: number
  total: number | null
  percent: string | null
  rows_per_second: string | null
  eta: Date | null
  attempt: number | null
  failures: number
  worker: string | null
  started_at: Date | null
  finished_at: Date | null
  error: string | null
}

/** A row of `pawl.queues`. */
export type QueueRow = { queue: string; ready: number; delayed: number; active: number; failed: number; paused: boolean; oldest_ready_seconds: number | null }

export type Status = { runs: RunRow[]; queues: QueueRow[]; workers: { state: string; name: string; runs: number; seen_at: Date }[] }

/** What `pawl status` shows: unfinished runs first, then the most recent ones, `runsMax` in all. */
export async function readStatus(query: Query, runsMax: number): Promise<Status> {
  // Two index walks: ordering all of history by state would read all of it.
  const unfinished = await query<RunRow>(
    `select * from pawl.runs where kind <> 'timer' and state in ('running', 'pending') order by state = 'running' desc, requested_at limit $1`,
    [runsMax],
  )
  const recent = await query<RunRow>(`select * from pawl.runs where kind <> 'timer' order by requested_at desc limit $1`, [runsMax])
  const shown = new Set(unfinished.map(run => run.run_id))
  const runs = [...unfinished, ...recent.filter(run => !shown.has(run.run_id))].slice(0, runsMax)
  const queues = await query<QueueRow>(`select * from pawl.queues where queue not like '%.dead' or ready > 0`)
  const workers = await query<Status['workers'][number]>(`select state, name, runs, seen_at from pawl.workers where state <> 'stopped'`)
  return { runs, queues, workers }
}
