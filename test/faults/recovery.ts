import { systemClock } from '../../src/clock.ts'
import type { Query } from '../../src/database.ts'
import type { Kind } from './plan.ts'
import { isOutage } from './load.ts'

/** Longer than this, on a machine with nothing else to do, and the house has not recovered. */
export const BOUND_MS = 30_000
/** So many snapshots fit into that time. Where they take longer, everything does, and the bound is that many snapshots. */
export const BOUND_SAMPLES = 75
const LOOK_EVERY_MS = 50

/** What was under way when a fault struck, or ended. */
export type Mark = { atMs: number; at: Date; runs: string[]; epochs: number[] }

/** Notes what is under way now: of one worker, or of all. */
export async function markProgress(query: Query, worker?: string): Promise<Mark> {
  const rows = await query<{ run_id: string; epoch: number }>(
    `select c.run_id, c.epoch from pawl.checkpoints c join pawl.leases l on l.id = c.owner where c.state = 'running' and l.name = coalesce($1, l.name)`,
    [worker],
  )
  const [now] = await query<{ at: Date }>('select clock_timestamp() as at')
  return { atMs: systemClock.elapsed(), at: now?.at ?? new Date(Number.NaN), runs: rows.map(row => row.run_id), epochs: rows.map(row => row.epoch) }
}

/** Whose runs must move under another epoch: that worker is gone. A stopped one may go on by itself. */
const GONE: readonly Kind[] = ['kill', 'term', 'clock']
/** What the server still commits by itself after its worker was stopped. */
const SLICE_MS = 200

/** Waits until every run that was under way has committed a batch or ended, a timer has fired and some batch was committed. How long it took, what came last, and what was `late`. */
export async function recover(
  query: Query,
  kind: Kind,
  mark: Mark,
  samples: () => number,
): Promise<{ tookMs: number; last: string; late: string | undefined }> {
  const since = new Date(mark.at.getTime() + (kind === 'stop' ? SLICE_MS : 0))
  const begun = samples()
  let late: string | undefined
  let last = ''
  for (;;) {
    const left = await missing(query, kind, mark, since)
    const tookMs = systemClock.elapsed() - mark.atMs
    if (left === '') return { tookMs, last, late }
    last = left
    if (late === undefined && tookMs > BOUND_MS && samples() - begun > BOUND_SAMPLES) late = left
    if (tookMs > 4 * BOUND_MS && samples() - begun > 4 * BOUND_SAMPLES) return { tookMs, last, late: `${left}, and it was not waited for any longer` }
    await systemClock.sleep(LOOK_EVERY_MS)
  }
}

async function missing(query: Query, kind: Kind, mark: Mark, since: Date): Promise<string> {
  try {
    const [row] = await query<{ runs: string[]; fired: boolean; moved: boolean }>(
      `select array(
         select t.run_id from unnest($1::text[], $2::bigint[]) t (run_id, epoch)
         where exists (
           select from pawl.checkpoints c where c.run_id = t.run_id and c.state in ('pending', 'running')
             -- One that was only just looked at, and waits for its turn behind another, moves when that one has ended.
             and not exists (select from pawl.checkpoints ahead where ahead.run_id = c.waits_for and ahead.state in ('pending', 'running'))
         )
           and not exists (select from faults.batches b where b.run_id = t.run_id and ((not $4 and b.at > $3) or b.epoch > t.epoch))
       ) as runs,
       exists (select from public.timer_executions x where x.completed_at > $3) as fired,
       exists (select from faults.batches b where b.at > $3) as moved`,
      [mark.runs, mark.epochs, since, GONE.includes(kind)],
    )
    return [...(row?.runs ?? []), ...(row?.fired ? [] : ['no timer fired']), ...(row?.moved ? [] : ['no batch was committed'])].join(', ')
  } catch (error) {
    if (!isOutage(error)) throw error
    return 'the server does not answer'
  }
}
