import { afterAll, beforeAll, expect, test } from 'vitest'
import { handle } from '../../src/worker.ts'
import { applyOverride } from '../../workers/overrides/apply.ts'
import { claim, handlerOptions, type Lease, settleJob, takeLease, workAll } from '../support/engine.ts'
import { requestOverride, seedCategory } from '../support/overrides.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'

const QUEUE = 'overrides.apply'
let db: TestDatabase
let lease: Lease

beforeAll(async () => {
  db = await createDatabase()
  lease = await takeLease(db)
})

afterAll(async () => {
  await lease.stop()
  await db.drop()
})

test('an operation whose job comes first waits for the one that was requested first', async () => {
  const seeded = await seedCategory(db.query, 30)
  const [first, second] = [await requestOverride(db.query, seeded, { settings: { n: 1 } }), await requestOverride(db.query, seeded, { settings: { n: 2 } })]
  // A worker has taken the first one's job, and is slow to begin; another one has the second's.
  const [slow, quick] = [await claim(db.query, QUEUE), await claim(db.query, QUEUE)]
  if (slow === undefined || quick === undefined) throw new Error('there were not two jobs')
  expect([slow.runId, quick.runId]).toEqual([first, second])
  const work = handle(applyOverride, handlerOptions(db, lease))
  const parked = await work(quick, new AbortController().signal)
  expect(parked.output).toEqual({ outcome: 'parked' })
  await settleJob(db.query, QUEUE, quick, parked)
  expect(await db.query('select state, waits_for from pawl.checkpoints where run_id = $1', [second])).toEqual([{ state: 'pending', waits_for: first }])
  await settleJob(db.query, QUEUE, slow, await work(slow, new AbortController().signal))
  // The end of the first has brought the second.
  expect(await workAll(applyOverride, handlerOptions(db, lease))).toEqual(['completed'])
  expect(await db.query('select distinct settings from public.category_recipient_settings where category_id = $1', [seeded.categoryId])).toEqual([
    { settings: { n: 2 } },
  ])
})
