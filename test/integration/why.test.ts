import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import type { PgBoss } from 'pg-boss'
import { openBoss } from '../../src/boss.ts'
import { deliverRun } from '../../src/checkpoint.ts'
import { readConfig } from '../../src/config.ts'
import { PawlError } from '../../src/errors.ts'
import { handle, type Worker } from '../../src/worker.ts'
import { applyOverride } from '../../workers/overrides/apply.ts'
import { claim, handlerOptions, type Lease, takeLease, workAll, workOne } from '../support/engine.ts'
import { requestOverride, type Seeded, seedCategory } from '../support/overrides.ts'
import { createDatabase, silent, type TestDatabase } from '../support/postgres.ts'

const QUEUE = 'overrides.apply'

let db: TestDatabase
let boss: PgBoss
let seeded: Seeded
let me: string
const leases: Lease[] = []

beforeAll(async () => {
  db = await createDatabase()
  seeded = await seedCategory(db.query, 20)
  me = (await db.query<{ me: string }>('select session_user as me'))[0]?.me ?? ''
  boss = openBoss(readConfig({ DATABASE_URL: db.url }), silent, { supervise: false, name: 'why' })
  await boss.start()
})

// Each test begins with an empty queue, no worker, and no run under way.
afterEach(async () => {
  for (const lease of leases.splice(0)) await lease.stop()
  await db.query(`select pawl.finish(run_id, null, 'cancelled', 'the test is over') from pawl.checkpoints where state in ('pending', 'running')`)
  await db.query('delete from pgboss.job')
  await db.query('delete from pawl.paused_queues')
  await db.query(`update pawl.leases set state = 'stopped', stopped_at = now() where state <> 'stopped'`)
})

afterAll(async () => {
  await boss.stop({ graceful: false })
  await db.drop()
})

async function lend(name: string, queues?: string[]): Promise<Lease> {
  const lease = await takeLease(db, name, queues)
  leases.push(lease)
  return lease
}

/** What pawl.why says: one line, without holes where a value was missing. */
async function why(runId: string): Promise<string> {
  const [row] = await db.query<{ why: string }>('select pawl.why($1)', [runId])
  const text = row?.why ?? ''
  expect(text).toMatch(/^[A-Z].*\.$/)
  expect(text).not.toMatch(/\bnull\b| {2}|\(\)|%/)
  return text
}

/** Runs the statement that the text names, as an operator would who copies it. */
async function obey(text: string): Promise<unknown> {
  const statement = /select (pawl\.\w+\('[^']*'\))/.exec(text)?.[1]
  if (statement === undefined) throw new Error(`names no statement: ${text}`)
  return (await db.query<{ answer: unknown }>(`select ${statement} as answer`))[0]?.answer
}

async function stateOf(runId: string): Promise<unknown> {
  return (await db.query('select state from pawl.runs where run_id = $1', [runId]))[0]?.state
}

/** Opens and starts the run for a lease, and leaves it there, as it stands between two batches. */
async function open(runId: string, lease: Lease): Promise<void> {
  const delivery = await claim(db.query, QUEUE)
  expect(delivery?.runId).toBe(runId)
  await db.query(`select pawl.start_override($1, o.epoch, 2) from pawl.open_run($1, $2, $3, 0, '10 seconds') o`, [runId, lease.id, delivery?.jobId])
  expect(await stateOf(runId)).toBe('running')
}

const failing = (error: Error): Worker => ({ queue: QUEUE, work: () => Promise.reject(error) })

test('no such run: says so and where the runs are listed', async () => {
  expect(await why('no such')).toMatch(/no run "no such".*select .* from pawl\.runs/)
  expect((await db.query<{ why: string }>('select pawl.why(null)'))[0]?.why).toMatch(/no run/)
})

test('pending without a worker: says which queue has none and how to start one', async () => {
  const runId = await requestOverride(db.query, seeded)
  expect(await why(runId)).toMatch(/no worker is running for queue overrides\.apply.*"pawl work"/)
  await lend('elsewhere', ['another.queue'])
  expect(await why(runId)).toMatch(/no worker is running for queue overrides\.apply/)
})

test('pending with a worker: says how many jobs stand before it and how many workers live', async () => {
  await lend('busy')
  const first = await requestOverride(db.query, seeded)
  const second = await requestOverride(db.query, seeded)
  expect(await why(first)).toMatch(/in queue overrides\.apply \(jobs before it: 0, workers alive: 1\).*free slot/)
  expect(await why(second)).toMatch(/jobs before it: 1/)
})

test('pending for later: says until when', async () => {
  await lend('idle')
  const runId = await requestOverride(db.query, seeded)
  await db.query('delete from pgboss.job')
  await deliverRun(db.query, runId, 3_600_000)
  const [row] = await db.query<{ start_after: string }>('select start_after::text from pgboss.job')
  expect(await why(runId)).toContain(`Waiting until ${row?.start_after}`)
})

test('pending, and the job that was to bring it is gone: says that a worker enqueues a new one', async () => {
  await lend('idle')
  const runId = await requestOverride(db.query, seeded)
  await db.query('delete from pgboss.job')
  expect(await why(runId)).toMatch(/the job .* is gone; a worker enqueues a new one within a minute/)
  // And it is true.
  expect(await db.query(`select pawl.redeliver_lost('0') as run_id`)).toEqual([{ run_id: runId }])
  expect(await why(runId)).toMatch(/in queue overrides\.apply \(jobs before it: 0/)
})

test('pending behind another operation of its category: names that one, and asking on leads there', async () => {
  const lease = await lend('walker')
  const first = await requestOverride(db.query, seeded)
  await open(first, lease)
  const second = await requestOverride(db.query, seeded)
  expect(await workAll(applyOverride, handlerOptions(db, lease))).toEqual(['parked'])
  const text = await why(second)
  expect(text).toContain(`Waiting for ${first}, which comes first`)
  expect(await obey(text)).toMatch(/^Running on worker walker/)
})

test('pending on a paused queue: says who paused it, when and why, and the statement that resumes it', async () => {
  await lend('idle')
  const runId = await requestOverride(db.query, seeded)
  await db.query('select pawl.pause($1)', [QUEUE])
  expect(await why(runId)).toMatch(new RegExp(`queue overrides\\.apply was paused by ${me} at \\d{4}-\\S+ [^(]+;`))
  await db.query('select pawl.resume($1)', [QUEUE])
  await db.query('select pawl.pause($1, $2)', [QUEUE, 'the mail server is down'])
  const text = await why(runId)
  expect(text).toContain('(the mail server is down)')
  expect(await obey(text)).toBe(true)
  expect(await why(runId)).toMatch(/in queue overrides\.apply \(/)
})

test('waiting for a retry: says which, when and after what error, and the statement that starts it now', async () => {
  const lease = await lend('clumsy')
  const runId = await requestOverride(db.query, seeded)
  const delivery = await claim(db.query, QUEUE)
  if (delivery === undefined) throw new Error('no job')
  const settlement = await handle(failing(new Error('the disk is full')), handlerOptions(db, lease))(delivery, new AbortController().signal)
  expect(settlement.status).toBe('failed')
  // pg-boss itself sets the time, with its backoff.
  await boss.fail(QUEUE, delivery.jobId, settlement.output)
  const [job] = await db.query<{ start_after: string; later: boolean }>(
    'select start_after::text, start_after > now() as later from pgboss.job where id = $1',
    [delivery.jobId],
  )
  expect(job?.later).toBe(true)
  const text = await why(runId)
  expect(text).toContain(`retry 1 of 3 at ${job?.start_after} after: the disk is full`)
  expect(await obey(text)).toBe(true)
  expect(await workOne(applyOverride, handlerOptions(db, lease))).toMatchObject({ output: { outcome: 'completed' } })
})

test('running: says on which worker, how far it is, and that nothing is to be done', async () => {
  const runId = await requestOverride(db.query, seeded, { batchSize: 10 })
  await open(runId, await lend('steady'))
  expect(await why(runId)).toMatch(/^Running on worker steady: 0 of 20 rows, .*nothing to do/)
  await db.query('select pawl.apply_override_batch(run_id, 0, epoch) from pawl.checkpoints where run_id = $1', [runId])
  expect(await why(runId)).toMatch(/: 10 of 20 rows, [1-9]\d* rows\/s, done at \d{4}-.*nothing to do/)
})

for (const how of ['die', 'hang'] as const) {
  test(`running, and its worker did ${how}: says that it is silent and who takes the run over`, async () => {
    const runId = await requestOverride(db.query, seeded)
    const lease = await lend('gone')
    await open(runId, lease)
    expect(await why(runId)).toMatch(/^Running on worker gone/)
    await lease[how]()
    expect(await why(runId)).toMatch(/worker gone has gone silent; another takes it over .*pawl\.workers/)
  })
}

test('running, but no batch has committed for a minute: says to look for locks', async () => {
  const runId = await requestOverride(db.query, seeded)
  await open(runId, await lend('blocked'))
  await db.query(`update pawl.checkpoints set updated_at = now() - interval '2 minutes' where run_id = $1`, [runId])
  await db.query(`update pawl.lanes set updated_at = now() - interval '2 minutes' where run_id = $1`, [runId])
  expect(await why(runId)).toMatch(/worker blocked holds it, but no batch has committed since .*look for locks.*pg_stat_activity/i)
})

test('running with a cancel asked for: says by whom, and that it stops at its next batch edge', async () => {
  const runId = await requestOverride(db.query, seeded)
  await open(runId, await lend('steady'))
  await db.query('select pawl.cancel($1)', [runId])
  expect(await why(runId)).toMatch(new RegExp(`^Running; ${me} asked to cancel it at \\d{4}-.*next batch edge`))
})

test('completed: says when and with how many rows, and that nothing is to be done', async () => {
  const runId = await requestOverride(db.query, seeded)
  expect(await workAll(applyOverride, handlerOptions(db, await lend('steady')))).toEqual(['completed'])
  expect(await why(runId)).toMatch(/^Completed at \d{4}-.* with 20 rows; nothing to do/)
})

test('failed: says when, after how many rows and of what, and the statement that goes on from there', async () => {
  const lease = await lend('strict')
  const runId = await requestOverride(db.query, seeded)
  expect(await workAll(failing(new PawlError('test.refused', 'the template is empty')), handlerOptions(db, lease))).toEqual(['failed'])
  const text = await why(runId)
  expect(text).toMatch(/^Failed at \d{4}-.* after 0 rows: the template is empty\. Mend the cause/)
  expect(await obey(text)).toBe(true)
  expect(await workAll(applyOverride, handlerOptions(db, lease))).toEqual(['completed'])
})

test('failed because it killed its worker three times: says poison, and the statement that tries it again', async () => {
  const runId = await requestOverride(db.query, seeded)
  for (let life = 1; life <= 3; life += 1) {
    const lease = await lend(`life ${life}`)
    await open(runId, lease)
    await lease.die()
    await db.query(`select pawl.note_crash($1)`, [runId])
    if (life < 3) await db.query('select pawl.deliver($1)', [runId])
  }
  const text = await why(runId)
  expect(text).toMatch(/^Failed at .*poison: the worker died 3 times in a row at batch 0/)
  expect(await obey(text)).toBe(true)
  expect(await stateOf(runId)).toBe('pending')
})

test('cancelled: says by whom, why and after how many rows, and the statement that goes on from there', async () => {
  const lease = await lend('steady')
  const runId = await requestOverride(db.query, seeded, { batchSize: 10 })
  await open(runId, lease)
  await db.query('select pawl.apply_override_batch(run_id, 0, epoch) from pawl.checkpoints where run_id = $1', [runId])
  await db.query('select pawl.cancel($1, $2)', [runId, 'wrong category'])
  await db.query(
    `select pawl.finish(run_id, epoch, 'cancelled', pawl.cancel_text(cancel_requested_by, cancel_reason)) from pawl.checkpoints where run_id = $1`,
    [runId],
  )
  const text = await why(runId)
  expect(text).toMatch(new RegExp(`^It was cancelled by ${me}: wrong category at \\d{4}-.* after 10 rows, which stay`))
  expect(await obey(text)).toBe(true)
  expect(await workAll(applyOverride, handlerOptions(db, lease))).toEqual(['completed'])
  expect(await why(runId)).toMatch(/with 20 rows/)
})
