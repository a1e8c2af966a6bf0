import { inBatches, patiently, type RunContext, type Step } from '../../src/batches.ts'
import { codeOf, PawlError } from '../../src/errors.ts'
import type { Worker } from '../../src/worker.ts'

/**
 * Applies one override operation, or takes one back, over every live recipient of its category (document 000).
 * The batches themselves are `pawl.apply_override_batch` and `pawl.revert_override_batch`, each a transaction of its own; the server
 * commits them one after another for `sliceMs` and then answers, so that a round trip is paid once a slice and not once a batch.
 */
export const applyOverride: Worker = {
  queue: 'overrides.apply',
  async work(context, { lanes, sliceMs }) {
    const { db, run } = context
    const start = await patiently(context, async () => {
      const [row] = await db.query<{ outcome: 'started' | 'waits' | 'gone' }>('select pawl.start_override($1, $2, $3) as outcome', [
        run.runId,
        run.epoch,
        lanes,
      ])
      return row?.outcome
    })
    if (start === 'waits') {
      context.log.info('operation waits behind another of its category')
      return 'parked'
    }
    if (start === 'gone') return 'gone'
    return inBatches(context, lane => nextBatches(context, sliceMs, lane))
  },
}

/** Takes one lane on for a slice of time; the server knows whether the operation is an override or a revert. */
async function nextBatches({ db, run }: RunContext, sliceMs: number, lane: number): Promise<Step> {
  try {
    const [row] = await db.query<Step>(`call pawl.apply_override_batches($1, $2, $3, $4 * interval '1 millisecond', null, null, null, null)`, [
      run.runId,
      lane,
      run.epoch,
      sliceMs,
    ])
    if (row === undefined) throw new Error('pawl.apply_override_batches returned no row')
    return row
  } catch (error) {
    // A recipient, the category or the user was deleted between our look and our write. The next look sees it.
    if (codeOf(error) === '23503') throw new PawlError('override.rows_vanished', 'rows vanished under a batch', { retryable: true, cause: error })
    throw error
  }
}
