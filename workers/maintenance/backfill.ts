import { inBatches, patiently, type RunContext, type Step } from '../../src/batches.ts'
import type { Worker } from '../../src/worker.ts'

/** A batch, or the reason why there was none and how long to rest. */
type Batch = Step & { wait_ms: number; throttle: string | null }

/** Changes the rows of a table batch by batch, as `pawl.request_backfill` asked for it; the statement itself never leaves the database. */
export const backfill: Worker = {
  queue: 'maintenance.backfill',
  async work(context) {
    const { db, run } = context
    const start = await patiently(context, async () => {
      const [row] = await db.query<{ outcome: 'started' | 'gone' }>('select pawl.start_backfill($1, $2) as outcome', [run.runId, run.epoch])
      return row?.outcome
    })
    if (start === 'gone') return 'gone'
    let told: string | null = null
    return inBatches(context, async lane => {
      const { throttle, wait_ms, ...step } = await nextBatch(context, lane)
      if (throttle !== told && throttle !== null) context.log.info({ throttle }, 'backfill holds back')
      told = throttle
      if (wait_ms > 0 && step.stop === null && !step.finished) await context.clock.sleep(wait_ms, context.drain)
      return step
    })
  },
}

async function nextBatch({ db, run }: RunContext, lane: number): Promise<Batch> {
  const [row] = await db.query<Batch>('select * from pawl.apply_backfill_batch($1, $2, $3)', [run.runId, lane, run.epoch])
  if (row === undefined) throw new Error('pawl.apply_backfill_batch returned no row')
  return row
}
