import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { PawlError } from '../../src/errors.ts'
import type { Worker } from '../../src/worker.ts'
import { claim, handlerOptions, takeLease, workOne } from '../support/engine.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { takeOver } from '../support/takeover.ts'
import { createTrial, requestTrial, TRIAL_QUEUE, trialWorker } from '../support/trial.ts'

let db: TestDatabase

beforeAll(async () => {
  db = await createDatabase()
  await createTrial(db.query)
})

// A delivery that one test has left would come to the next.
beforeEach(async () => void (await db.query('delete from pgboss.job where name = $1', [TRIAL_QUEUE])))

afterAll(() => db.drop())

const endings = ['finished', 'cancel', 'gone', 'pause', 'drain', 'turn'] as const

const lastActs: readonly (readonly [string, Worker['work']])[] = [
  ...endings.map(ending => [ending, async () => ending] as const),
  ['an error of the work', () => Promise.reject(new Error('a bug'))],
  ['refused input', () => Promise.reject(new PawlError('trial.refused', 'it can never work'))],
  ['a passing error', () => Promise.reject(new PawlError('trial.passing', 'not now', { retryable: true }))],
]

test.each(lastActs)('the last act of a worker that was taken over (%s) changes nothing of the run', async (name, last) => {
  const runId = `taken over at ${name}`
  await requestTrial(db.query, runId)
  const dying = await takeLease(db, 'dying', [TRIAL_QUEUE])
  let expected: Record<string, unknown> = {}
  const worker: Worker = {
    queue: TRIAL_QUEUE,
    async work(context, options) {
      const { heir, epoch } = await takeOver(db, dying, runId)
      expected = { state: 'running', owner: heir.id, epoch, failures: 0, error: null, jobs: 1 }
      return last(context, options)
    },
  }
  await workOne(worker, handlerOptions(db, dying))
  const [run] = await db.query(
    `select c.state, c.owner, c.epoch, c.failures, c.error, (select count(*) from pgboss.job j where j.data ->> 'run_id' = c.run_id) as jobs
     from pawl.checkpoints c where c.run_id = $1`,
    [runId],
  )
  expect(run).toEqual(expected)
  // Nor did it bring the run to anybody by a delivery of its own.
  expect(await claim(db.query, TRIAL_QUEUE)).toBeUndefined()
  expect(await db.query('select from public.trial_diary where run_id = $1', [runId])).toEqual([])
})

test('a worker that was taken over before its first batch cuts no lanes and writes no row', async () => {
  const runId = 'taken over at the start'
  await requestTrial(db.query, runId)
  const dying = await takeLease(db, 'dying', [TRIAL_QUEUE])
  const walking = trialWorker()
  const worker: Worker = {
    queue: TRIAL_QUEUE,
    async work(context, options) {
      await takeOver(db, dying, runId)
      return walking.work(context, options)
    },
  }
  expect(await workOne(worker, handlerOptions(db, dying))).toEqual({ status: 'completed', output: { outcome: 'lost' } })
  expect(await db.query('select from pawl.lanes where run_id = $1', [runId])).toEqual([])
  expect(await db.query('select from public.trial_items where run_id = $1', [runId])).toEqual([])
})

test('each opening has an epoch of its own: what the one before left on its way is refused', async () => {
  const runId = 'opened twice'
  await requestTrial(db.query, runId)
  const lease = await takeLease(db, 'tester', [TRIAL_QUEUE])
  const epochs: number[] = []
  const worker: Worker = {
    queue: TRIAL_QUEUE,
    async work({ run, db: own }) {
      epochs.push(run.epoch)
      if (epochs.length === 1) {
        await own.query(`insert into pawl.lanes (run_id, lane, epoch) values ($1, 0, $2)`, [runId, run.epoch])
        return 'drain'
      }
      for (const former of [epochs[0], (epochs[0] ?? 0) - 1])
        await expect(own.query('select pawl.hold($1, 0, $2)', [runId, former])).rejects.toMatchObject({ code: 'PW001' })
      return 'finished'
    },
  }
  await workOne(worker, handlerOptions(db, lease))
  await workOne(worker, handlerOptions(db, lease))
  expect(epochs).toHaveLength(2)
  expect(epochs[1]).toBeGreaterThan(epochs[0] ?? Number.POSITIVE_INFINITY)
  await lease.stop()
})

test('a run that a living worker holds stays its own, and is asked for again a little later', async () => {
  const runId = 'held'
  await requestTrial(db.query, runId)
  const [holder, visitor] = [await takeLease(db, 'holder', [TRIAL_QUEUE]), await takeLease(db, 'visitor', [TRIAL_QUEUE])]
  const worker: Worker = {
    queue: TRIAL_QUEUE,
    async work({ run }) {
      // As when pg-boss gives a job up whose worker is only slow.
      const delivery = await db.query<{ id: string }>(`select pawl.enqueue($1, $2) as id`, [TRIAL_QUEUE, JSON.stringify({ run_id: runId })])
      await db.query('update pawl.checkpoints set job_id = $2 where run_id = $1', [runId, delivery[0]?.id])
      expect(await workOne(trialWorker(), handlerOptions(db, visitor))).toEqual({ status: 'completed', output: { outcome: 'held' } })
      expect(await db.query('select state, owner, epoch, crashes from pawl.checkpoints where run_id = $1', [runId])).toEqual([
        { state: 'running', owner: holder.id, epoch: run.epoch, crashes: 0 },
      ])
      return 'finished'
    },
  }
  await workOne(worker, handlerOptions(db, holder))
  expect(
    await db.query(`select start_after > now() + interval '1 second' as later from pgboss.job where data ->> 'run_id' = $1 and state = 'created'`, [runId]),
  ).toEqual([{ later: true }])
  for (const lease of [holder, visitor]) await lease.stop()
})

test('crashes make poison only in a row at one place: whoever gets a batch further begins the count anew', async () => {
  const runId = 'crashing'
  await requestTrial(db.query, runId)
  await db.query('insert into pawl.lanes (run_id, lane, epoch) values ($1, 0, 0)', [runId])
  const crash = async () => (await db.query<{ goes_on: boolean }>('select pawl.note_crash($1) as goes_on', [runId]))[0]?.goes_on
  expect([await crash(), await crash()]).toEqual([true, true])
  await db.query('update pawl.lanes set batch = batch + 1 where run_id = $1', [runId])
  expect([await crash(), await crash()]).toEqual([true, true])
  expect(await crash()).toBe(false)
  expect(await db.query('select state, crashes from pawl.checkpoints where run_id = $1', [runId])).toEqual([{ state: 'failed', crashes: 3 }])
})

test('a passing error that nobody could wait out gives the run back, and spends no attempt', async () => {
  const runId = 'passing'
  await requestTrial(db.query, runId)
  const lease = await takeLease(db, 'tester', [TRIAL_QUEUE])
  const worker: Worker = { queue: TRIAL_QUEUE, work: () => Promise.reject(new PawlError('trial.passing', 'not now', { retryable: true })) }
  expect(await workOne(worker, handlerOptions(db, lease))).toEqual({ status: 'completed', output: { outcome: 'handed back', reason: 'not now' } })
  expect(await db.query('select state, failures, crashes, error from pawl.checkpoints where run_id = $1', [runId])).toEqual([
    { state: 'pending', failures: 0, crashes: 0, error: null },
  ])
  expect(await workOne(trialWorker(), handlerOptions(db, lease))).toEqual({ status: 'completed', output: { outcome: 'completed' } })
  await lease.stop()
})

test('a batch that fails between its rows and its cursor leaves neither', async () => {
  const runId = 'broken batch'
  await requestTrial(db.query, runId)
  const lease = await takeLease(db, 'tester', [TRIAL_QUEUE])
  let batches = 0
  const worker = trialWorker({
    during: async () => {
      batches += 1
      if (batches === 3) throw new Error('in the middle of the third batch')
    },
  })
  expect(await workOne(worker, handlerOptions(db, lease))).toMatchObject({ status: 'failed', output: { outcome: 'retry' } })
  expect(await db.query('select max(item) as last, max(times) as times from public.trial_items where run_id = $1', [runId])).toEqual([{ last: 20, times: 1 }])
  await lease.stop()
})
