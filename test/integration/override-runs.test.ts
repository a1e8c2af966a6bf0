import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Query } from '../../src/database.ts'
import { applyOverride } from '../../workers/overrides/apply.ts'
import { handlerOptions, takeLease, workAll, workOne } from '../support/engine.ts'
import { faultsOf, requestOverride, seedCategory } from '../support/overrides.ts'
import { until } from '../support/until.ts'
import { isBatch, openOverrideStage, type OverrideStage } from './override-stage.ts'

let stage: OverrideStage

beforeAll(async () => {
  stage = await openOverrideStage()
})

afterAll(() => stage.close())

test('operations on one category are applied one after another in the order requested, whoever works, while another category runs', async () => {
  const [seeded, other] = [await seedCategory(stage.query, 600), await seedCategory(stage.query, 300)]
  const ids: string[] = []
  for (const place of [1, 2, 3, 4, 5]) ids.push(await requestOverride(stage.query, seeded, { settings: { place }, batchSize: 50 }))
  const beside = await requestOverride(stage.query, other)
  const crew = await Promise.all(['one', 'two', 'three'].map(name => takeLease(stage.db, name)))
  // The other category's first batch waits for an operation of this one to end: were they not side by side, that would be never.
  const endsFirst = () => until('an operation ends beside it', async () => (await stage.read(ids[0] ?? '')).status === 'COMPLETED')
  const query: Query = async (text, values) => {
    if (isBatch(text) && values?.[0] === beside && values[1] === 0) await endsFirst()
    return stage.query(text, values)
  }
  // Only those who hold something come back for more: the last one out finds the queue empty.
  await Promise.all(crew.map(member => workAll(applyOverride, handlerOptions(stage.db, member, { db: { ...stage.db, query } }))))
  await Promise.all(crew.map(member => member.stop()))
  const line = await stage.query(
    `select o.operation_id, o.status, o.processed_recipients as done,
       o.started_at >= lag(o.completed_at, 1, '-infinity') over (order by o.id) as after_the_one_before,
       d.first > lag(d.last, 1, 0::bigint) over (order by o.id) as wrote_after
     from public.category_override_operations o, lateral (select min(id) as first, max(id) as last from public.diary where run_id = o.operation_id) d
     where o.category_id = $1 order by o.id`,
    [seeded.categoryId],
  )
  expect(line).toEqual(ids.map(id => ({ operation_id: id, status: 'COMPLETED', done: 600, after_the_one_before: true, wrote_after: true })))
  expect(await stage.held(seeded)).toMatchObject(Array.from({ length: 600 }, () => ({ settings: { place: 5 }, updated_by_operation: ids[4] })))
  expect(await faultsOf(stage.query, beside, 300)).toEqual([])
})

test('an operation that fails does not block those behind it; retried, it goes on at its cursor and writes nothing twice', async () => {
  const seeded = await seedCategory(stage.query, 500)
  const cursed = await stage.nthRecipient(seeded, 250)
  const [first, failing, last] = [
    await requestOverride(stage.query, seeded),
    await requestOverride(stage.query, seeded),
    await requestOverride(stage.query, seeded),
  ]
  const uncurse = await stage.curse(cursed, failing)
  expect(await stage.work({ lanes: 1 })).toEqual(['completed', 'retry', 'retry', 'retry', 'failed', 'completed'])
  const message = `recipient ${cursed} is cursed`
  expect(await stage.read(failing)).toMatchObject({
    status: 'FAILED',
    processed_recipients: 200,
    total_recipients: 500,
    retry_count: 3,
    error_message: message,
    ended: true,
    carrying: 0,
    operation_status: 'FAILED',
    affected_recipients_count: 200,
    audit_error: message,
    state: 'failed',
    failures: 4,
    override_count: 2,
  })
  for (const id of [first, last])
    expect(await stage.read(id)).toMatchObject({ status: 'COMPLETED', processed_recipients: 500, operation_status: 'COMPLETED', retry_count: 0 })
  await uncurse()
  expect(await stage.query('select pawl.retry($1) as first, pawl.retry($1) as again', [failing])).toEqual([{ first: true, again: false }])
  expect(await stage.read(failing)).toMatchObject({
    status: 'PENDING',
    operation_status: 'STARTED',
    ended: false,
    error_message: null,
    audit_error: null,
    retry_count: 0,
  })
  expect(await stage.work({ lanes: 1 })).toEqual(['completed'])
  expect(await stage.read(failing)).toMatchObject({
    status: 'COMPLETED',
    processed_recipients: 500,
    total_recipients: 500,
    operation_status: 'COMPLETED',
    affected_recipients_count: 500,
    carrying: 300,
    override_count: 3,
  })
  expect(await stage.writtenTwice(failing)).toEqual([])
  expect(await stage.query('select count(*) as n from public.diary where run_id = $1', [failing])).toEqual([{ n: 500 }])
})

test('a crash is no failure of the work: another worker goes on at the cursor, and the one presumed dead changes nothing when it wakes', async () => {
  const seeded = await seedCategory(stage.query, 500)
  const runId = await requestOverride(stage.query, seeded)
  const [dying, fallen, woken] = [await takeLease(stage.db, 'dying'), Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const zombie = workOne(
    applyOverride,
    stage.afterBatch(2, async () => (fallen.resolve(), woken.promise), { lease: () => dying.id }),
  )
  await fallen.promise
  await dying.die()
  await stage.query(`update pawl.leases set seen_at = now() - interval '2 seconds' where id = $1`, [dying.id])
  const rescued = await until(
    'the rescue',
    async () => (await stage.query(`select run_id, reason from pawl.beat($1, '{}', '10 s', true)`, [stage.lease.id]))[0],
  )
  expect(rescued).toEqual({ run_id: runId, reason: 'dead' })
  expect(await stage.read(runId)).toMatchObject({ status: 'PROCESSING', processed_recipients: 200, carrying: 200, retry_count: 0, failures: 0, crashes: 1 })
  expect(
    await workAll(
      applyOverride,
      stage.afterBatch(1, async () => {
        woken.resolve()
        expect(await zombie).toEqual({ status: 'completed', output: { outcome: 'lost' } })
        expect(await stage.read(runId)).toMatchObject({ processed_recipients: 300, carrying: 300 })
      }),
    ),
  ).toEqual(['completed'])
  expect(await faultsOf(stage.query, runId, 500)).toEqual([])
  expect(await stage.writtenTwice(runId)).toEqual([])
})

test('cancelled at a batch edge: what was applied stays and is counted, and the audit says who and why; retried, it goes on from there', async () => {
  const seeded = await seedCategory(stage.query, 500)
  const runId = await requestOverride(stage.query, seeded)
  const before = await stage.held(seeded)
  const asking = (id: string) => stage.host.query('select pawl.cancel($1, $2)', [id, 'wrong settings'])
  expect(await workAll(applyOverride, stage.afterBatch(2, asking))).toEqual(['cancel'])
  const [me] = await stage.query<{ name: string }>('select session_user as name')
  const words = `cancelled by ${me?.name}: wrong settings`
  // The batch that was under way when it was asked for still counts: the third.
  expect(await stage.read(runId)).toMatchObject({
    status: 'CANCELLED',
    processed_recipients: 300,
    total_recipients: 500,
    carrying: 300,
    ended: true,
    error_message: words,
    retry_count: 0,
    operation_status: 'FAILED',
    affected_recipients_count: 300,
    audit_error: words,
    state: 'cancelled',
    done: 300,
    override_count: 0,
  })
  expect((await stage.held(seeded)).slice(300)).toEqual(before.slice(300))
  expect(await stage.query('select pawl.cancel($1) as again, pawl.retry($1) as retried', [runId])).toEqual([{ again: false, retried: true }])
  expect(await stage.work({ lanes: 1 })).toEqual(['completed'])
  expect(await faultsOf(stage.query, runId, 500)).toEqual([])
  expect(await stage.writtenTwice(runId)).toEqual([])
})

test('a worker that commits many batches for one question still stops at the next batch edge', async () => {
  const runId = await requestOverride(stage.query, await seedCategory(stage.query, 3000), { batchSize: 1 })
  // One question for as long as it takes: were the wish seen only between two of them, all 3,000 batches would be done.
  const working = stage.work({ lanes: 1, sliceMs: 600_000 })
  await until('some batches have committed', async () => Number((await stage.read(runId)).processed_recipients) > 10)
  await stage.host.query('select pawl.cancel($1)', [runId])
  expect(await working).toEqual(['cancel'])
  const row = await stage.read(runId)
  expect(row.processed_recipients).toBeLessThan(3000)
  expect(row).toMatchObject({
    status: 'CANCELLED',
    carrying: row.processed_recipients,
    affected_recipients_count: row.processed_recipients,
    done: row.processed_recipients,
  })
})

test('an operation that is cancelled before it starts changes nothing, and lets the next one pass', async () => {
  const seeded = await seedCategory(stage.query, 50)
  const [runId, next] = [await requestOverride(stage.query, seeded), await requestOverride(stage.query, seeded)]
  const before = await stage.held(seeded)
  await stage.query('select pawl.cancel($1)', [runId])
  expect(await stage.read(runId)).toMatchObject({
    status: 'CANCELLED',
    processed_recipients: 0,
    ended: true,
    operation_status: 'FAILED',
    affected_recipients_count: 0,
    state: 'cancelled',
    override_count: 0,
  })
  expect(await stage.held(seeded)).toEqual(before)
  expect(await stage.work()).toEqual(['finished', 'completed'])
  expect(await faultsOf(stage.query, next, 50)).toEqual([])
})

test('a paused queue stops the operation at a batch edge, where it keeps its place and its turn until the queue is resumed', async () => {
  const seeded = await seedCategory(stage.query, 500)
  const [runId, behind] = [await requestOverride(stage.query, seeded), await requestOverride(stage.query, seeded)]
  const settled = await workOne(
    applyOverride,
    stage.afterBatch(2, () => stage.host.query(`select pawl.pause('overrides.apply', 'a look')`)),
  )
  expect(settled).toEqual({ status: 'completed', output: { outcome: 'pause' } })
  const halfway = {
    status: 'PROCESSING',
    processed_recipients: 300,
    carrying: 300,
    operation_status: 'STARTED',
    state: 'pending',
    done: 300,
    failures: 0,
    crashes: 0,
  }
  expect(await stage.read(runId)).toMatchObject(halfway)
  expect(await workOne(applyOverride, handlerOptions(stage.db, stage.lease))).toMatchObject({ output: { outcome: 'paused' } })
  expect([await stage.read(runId), await stage.read(behind)]).toMatchObject([halfway, { status: 'PENDING', processed_recipients: 0 }])
  await stage.query(`select pawl.resume('overrides.apply')`)
  await stage.work()
  for (const id of [runId, behind]) expect(await stage.read(id)).toMatchObject({ status: 'COMPLETED', processed_recipients: 500, retry_count: 0 })
  expect(await stage.writtenTwice(runId)).toEqual([])
  expect(
    await stage.query(
      `select o.started_at >= p.completed_at as in_turn
       from public.category_override_operations o, public.category_override_operations p
       where o.operation_id = $1 and p.operation_id = $2`,
      [behind, runId],
    ),
  ).toEqual([{ in_turn: true }])
})
