import { afterAll, beforeAll, expect, test } from 'vitest'
import { cutLanes, openLanes, openRun } from '../../src/checkpoint.ts'
import { handle } from '../../src/worker.ts'
import { claim, handlerOptions, type Lease, settleJob, takeLease, workAll, workOne } from '../support/engine.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { createTrial, readTrial, requestTrial, TRIAL_QUEUE, trialWorker } from '../support/trial.ts'

let db: TestDatabase
let lease: Lease

beforeAll(async () => {
  db = await createDatabase()
  await createTrial(db.query)
  lease = await takeLease(db)
})

afterAll(async () => {
  await lease.stop()
  await db.drop()
})

const whole = { state: 'completed', done: 100, items: 100, times: 1, lanes_done: 100, failures: 0, crashes: 0, error: null, owner: null }

test('a run walks to its end in batches, and rows, cursor and counters agree', async () => {
  await requestTrial(db.query, 'walk')
  expect(await workAll(trialWorker(), handlerOptions(db, lease))).toEqual(['completed'])
  expect(await readTrial(db.query, 'walk')).toMatchObject({ ...whole, batch: 10, lanes_batch: 10, diary: ['completed'] })
  expect(await db.query(`select lane, finished, cursor from pawl.lanes where run_id = 'walk'`)).toEqual([
    { lane: 0, finished: true, cursor: { after: 100, upto: 100 } },
  ])
})

test('two lanes are walked side by side, and the run ends when both have', async () => {
  await requestTrial(db.query, 'lanes')
  const seen: number[] = []
  let meet: () => void = () => {}
  const met = new Promise<void>(resolve => {
    meet = resolve
  })
  // The first batch of each lane waits, inside its transaction, for that of the other: one after another would never end.
  const worker = trialWorker({
    lanes: [
      { after: 0, upto: 50 },
      { after: 50, upto: 100 },
    ],
    during: async (_context, cursor) => {
      seen.push(cursor.after)
      if (seen.includes(0) && seen.includes(50)) meet()
      await met
    },
  })
  expect(await workAll(worker, handlerOptions(db, lease))).toEqual(['completed'])
  expect(await readTrial(db.query, 'lanes')).toMatchObject({ ...whole, batch: 10 })
  expect(await db.query(`select lane, done, batch from pawl.lanes where run_id = 'lanes' order by lane`)).toEqual([
    { lane: 0, done: 50, batch: 5 },
    { lane: 1, done: 50, batch: 5 },
  ])
})

test('lanes are cut once: opening the run again leaves them and their cursors as they are', async () => {
  await requestTrial(db.query, 'cut')
  const delivery = await claim(db.query, TRIAL_QUEUE)
  if (delivery === undefined) throw new Error('no job')
  for (const cursors of [[{ after: 1 }, { after: 2 }, { after: 3 }], [{ after: 7 }]]) {
    const opening = await openRun(db, delivery, lease.id, 10_000)
    if (opening.outcome !== 'opened') throw new Error(opening.outcome)
    await cutLanes(db.query, opening.run, cursors)
    expect(await openLanes(db.query, opening.run)).toEqual([0, 1, 2])
  }
  expect(await db.query(`select cursor from pawl.lanes where run_id = 'cut' order by lane`)).toEqual([1, 2, 3].map(after => ({ cursor: { after } })))
  await db.query(`update pawl.lanes set finished = true where run_id = 'cut'`)
  await db.query(`select pawl.finish('cut', null, 'completed')`)
})

// The four ways to be asked to stop. Each is said while the third batch is under way; that batch still commits.
const stops = {
  drain: { outcome: 'drain', state: 'pending' },
  turn: { outcome: 'turn', state: 'pending' },
  pause: { outcome: 'pause', state: 'pending' },
  cancel: { outcome: 'cancel', state: 'cancelled' },
}

for (const [how, expected] of Object.entries(stops)) {
  test(`${how} ends a run at a batch edge: no attempt is spent, and nothing is half done`, async () => {
    const runId = `stop-${how}`
    await requestTrial(db.query, runId)
    const [drain, expired] = [new AbortController(), new AbortController()]
    const worker = trialWorker({
      during: async (_context, cursor) => {
        if (cursor.after !== 20) return
        if (how === 'drain') drain.abort()
        if (how === 'turn') expired.abort()
        if (how === 'pause') await db.query('select pawl.pause($1)', [TRIAL_QUEUE])
        if (how === 'cancel') await db.query('select pawl.cancel($1, $2)', [runId, 'enough'])
      },
    })
    const settlement = await workOne(worker, handlerOptions(db, lease, { drain: drain.signal }), expired.signal)
    expect(settlement).toEqual({ status: 'completed', output: { outcome: expected.outcome } })
    expect(await readTrial(db.query, runId)).toMatchObject({
      state: expected.state,
      done: 30,
      items: 30,
      times: 1,
      lanes_done: 30,
      batch: 3,
      failures: 0,
      crashes: 0,
      owner: null,
    })
    if (how === 'cancel') return
    await db.query('select pawl.resume($1)', [TRIAL_QUEUE])
    // Another worker goes on where this one stopped, with the job that was enqueued when the run was handed back.
    const other = await takeLease(db, 'other')
    expect(await workAll(trialWorker(), handlerOptions(db, other))).toEqual(['completed'])
    expect(await readTrial(db.query, runId)).toMatchObject({ ...whole, batch: 10, diary: ['completed'] })
    await other.stop()
  })
}

test('a cancelled run says who asked and why, and a second cancel finds nothing to do', async () => {
  const [row] = await db.query(`select session_user as me, pawl.cancel('stop-cancel') as again, error from pawl.checkpoints where run_id = 'stop-cancel'`)
  expect(row).toMatchObject({ again: false, error: `cancelled by ${row?.me}: enough` })
  expect(await readTrial(db.query, 'stop-cancel')).toMatchObject({ diary: ['cancelled'] })
})

test('a stop that is asked for during the last batch changes nothing: the run completes', async () => {
  for (const how of ['drain', 'cancel'] as const) {
    await requestTrial(db.query, `late-${how}`)
    const drain = new AbortController()
    const worker = trialWorker({
      during: async (context, cursor) => {
        if (cursor.after !== 90) return
        if (how === 'drain') drain.abort()
        else await db.query('select pawl.cancel($1)', [context.run.runId])
      },
    })
    expect(await workAll(worker, handlerOptions(db, lease, { drain: drain.signal }))).toEqual(['completed'])
    expect(await readTrial(db.query, `late-${how}`)).toMatchObject({ ...whole, diary: ['completed'] })
  }
})

test('one lane that is told to stop stops the other, and the work of both is counted', async () => {
  await requestTrial(db.query, 'both')
  const drain = new AbortController()
  const lanes = [
    { after: 0, upto: 50 },
    { after: 50, upto: 100 },
  ]
  const worker = trialWorker({ lanes, during: async (_context, cursor) => void (cursor.after === 10 && drain.abort()) })
  expect(await workOne(worker, handlerOptions(db, lease, { drain: drain.signal }))).toMatchObject({ output: { outcome: 'drain' } })
  const half = await readTrial(db.query, 'both')
  expect(half).toMatchObject({ state: 'pending', times: 1, owner: null })
  expect(half.done).toBe(half.items)
  expect(half.done).toBe(half.lanes_done)
  expect(Number(half.done)).toBeLessThan(100)
  expect(await workAll(trialWorker(), handlerOptions(db, lease))).toEqual(['completed'])
  expect(await readTrial(db.query, 'both')).toMatchObject({ ...whole, batch: 10 })
})

test('a run on a paused queue is not opened: it is asked for again, and goes on once the queue is resumed', async () => {
  await requestTrial(db.query, 'paused')
  await db.query(`select pawl.pause($1, 'a look at it')`, [TRIAL_QUEUE])
  let told = 0
  expect(
    await workOne(
      trialWorker(),
      handlerOptions(db, lease, {
        onPaused: () => {
          told += 1
        },
      }),
    ),
  ).toEqual({ status: 'completed', output: { outcome: 'paused' } })
  expect(told).toBe(1)
  expect(await readTrial(db.query, 'paused')).toMatchObject({ state: 'pending', items: 0, has_job: true })
  await db.query('select pawl.resume($1)', [TRIAL_QUEUE])
  expect(await workAll(trialWorker(), handlerOptions(db, lease))).toEqual(['completed'])
  expect(await readTrial(db.query, 'paused')).toMatchObject(whole)
})

test('a second job of a run, which finds its worker hung and its queue paused, has it asked for again', async () => {
  await requestTrial(db.query, 'hung')
  const hung = await takeLease(db, 'hung', [TRIAL_QUEUE])
  // A job that is not the run's own opens it just as well: an earlier delivery, say, of before a cancel and a retry.
  const earlier = await db.query(`select pawl.enqueue($1, '{"run_id": "hung"}', 1) as job`, [TRIAL_QUEUE])
  await openRun(db, { runId: 'hung', jobId: String(earlier[0]?.job), jobAttempt: 0 }, hung.id, 10_000)
  await db.query(`update pgboss.job set state = 'active' where id = $1`, [earlier[0]?.job])
  await hung.hang()
  await db.query('select pawl.pause($1)', [TRIAL_QUEUE])
  expect(await workOne(trialWorker(), handlerOptions(db, lease))).toEqual({ status: 'completed', output: { outcome: 'paused' } })
  await db.query('select pawl.resume($1)', [TRIAL_QUEUE])
  expect(await workAll(trialWorker(), handlerOptions(db, lease))).toEqual(['completed'])
  expect(await readTrial(db.query, 'hung')).toMatchObject({ ...whole, crashes: 1 })
  await hung.stop()
})

test('a job without a run id, of no run, or of a run that has ended does nothing', async () => {
  const work = handle(trialWorker(), handlerOptions(db, lease))
  const live = new AbortController().signal
  const jobId = '00000000-0000-4000-8000-000000000001'
  const nameless = await work({ runId: undefined, jobId, jobAttempt: 0 }, live)
  expect(nameless).toMatchObject({ status: 'deadletter', output: { outcome: 'refused' } })
  expect(await work({ runId: 'nobody', jobId, jobAttempt: 0 }, live)).toEqual({ status: 'completed', output: { outcome: 'gone' } })
  expect(await work({ runId: 'walk', jobId, jobAttempt: 0 }, live)).toEqual({ status: 'completed', output: { outcome: 'finished' } })
  expect(await readTrial(db.query, 'walk')).toMatchObject({ ...whole, diary: ['completed'] })
})

test('a worker without a lease, or one that holds the run already, puts the delivery off', async () => {
  await requestTrial(db.query, 'put-off')
  for (const [reason, changes] of [
    ['no lease', { lease: () => undefined }],
    ['already here', { held: new Set(['put-off']) }],
  ] as const) {
    await db.query(`update pgboss.job set start_after = now() where name = $1 and state = 'created'`, [TRIAL_QUEUE])
    const delivery = await claim(db.query, TRIAL_QUEUE)
    if (delivery === undefined) throw new Error('no job')
    const settlement = await handle(trialWorker(), handlerOptions(db, lease, changes))(delivery, new AbortController().signal)
    await settleJob(db.query, TRIAL_QUEUE, delivery, settlement)
    expect(settlement).toEqual({ status: 'completed', output: { outcome: 'postponed', reason } })
    const [next] = await db.query(
      `select extract(epoch from j.start_after - now()) between 1 and 5 as soon from pgboss.job j join pawl.checkpoints c on c.job_id = j.id where c.run_id = 'put-off' and j.state = 'created'`,
    )
    expect(next).toEqual({ soon: true })
  }
  await db.query(`select pawl.cancel('put-off')`)
})
