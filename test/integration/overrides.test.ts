import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Query } from '../../src/database.ts'
import { codeOf } from '../../src/errors.ts'
import { applyOverride } from '../../workers/overrides/apply.ts'
import { workAll } from '../support/engine.ts'
import { faultsOf, requestOverride, seedCategory } from '../support/overrides.ts'
import { isBatch, openOverrideStage, type OverrideStage } from './override-stage.ts'

let stage: OverrideStage

beforeAll(async () => {
  stage = await openOverrideStage()
})

afterAll(() => stage.close())

test('a completed operation leaves settings, counters, audit and category statistics as the documents say, and touches no other row', async () => {
  const [other, seeded] = [await seedCategory(stage.query, 30), await seedCategory(stage.query, 250)]
  await stage.query(`insert into public.recipients (category_id, is_ad_synced, is_active) values ($1, false, true), ($1, true, false)`, [seeded.categoryId])
  const before = await stage.held(other)
  const [asked] = await stage.query<{ id: string }>(`select pawl.request_override($1, $2, '{"channel": "sms"}', 100, '10.1.2.3', 'curl/8') as id`, [
    seeded.categoryId,
    seeded.userId,
  ])
  const runId = asked?.id ?? ''
  expect(await stage.read(runId)).toMatchObject({
    status: 'PENDING',
    operation_status: 'STARTED',
    total_recipients: null,
    processed_recipients: 0,
    override_count: 0,
  })
  expect(await stage.work()).toEqual(['completed'])
  expect(await faultsOf(stage.query, runId, 250)).toEqual([])
  expect(await stage.writtenTwice(runId)).toEqual([])
  expect(await stage.held(seeded, true)).toEqual(before)
  expect(await stage.held(seeded)).toHaveLength(250)
  await stage.query(
    `with renamed as (update public.users set username = username || ', renamed' where id = $2) update public.categories set name = 'Renamed' where id = $1`,
    [seeded.categoryId, seeded.userId],
  )
  expect(
    await stage.query(
      `select a.category_name, a.user_name || ', renamed' = u.username as user_kept, host(a.client_ip) as ip, a.user_agent,
         c.last_override_by = u.id as by_user,
       c.last_override_at = a.operation_timestamp as at_request, c.override_count, c.last_override_recipients_count as reached,
       (
           select count(*) from public.category_recipient_settings s
           where s.category_id = c.id and s.previous_settings = jsonb_build_object('before', s.recipient_id)
         ) as remembered
     from public.category_override_audit a join public.categories c on c.id = a.category_id join public.users u on u.id = a.user_id where operation_id = $1`,
      [runId],
    ),
  ).toEqual([
    {
      category_name: 'Newsletter',
      user_kept: true,
      ip: '10.1.2.3',
      user_agent: 'curl/8',
      by_user: true,
      at_request: true,
      override_count: 1,
      reached: 250,
      remembered: 250,
    },
  ])
})

test('a category without live recipients completes with 0', async () => {
  const runId = await requestOverride(stage.query, await seedCategory(stage.query, 0))
  expect(await stage.work()).toEqual(['completed'])
  expect(await faultsOf(stage.query, runId, 0)).toEqual([])
})

for (const [batchSize, batches] of [
  [1, 1],
  [1, 7],
  [100, 1],
  [100, 5],
  [1000, 1],
  [1000, 3],
] as const) {
  test(`${batches} full batches of ${batchSize}, on one lane and on two: every recipient once, no batch too large`, async () => {
    for (const lanes of [1, 2]) {
      const seeded = await seedCategory(stage.query, batchSize * batches, { withSettings: lanes === 1 })
      const runId = await requestOverride(stage.query, seeded, { batchSize })
      const sizes: number[] = []
      const query: Query = async (text, values) => {
        const rows = await stage.query(text, values)
        if (isBatch(text)) sizes.push(Number(rows[0]?.rows))
        return rows as never[]
      }
      expect(await stage.work({ lanes, sliceMs: 0, db: { ...stage.db, query } })).toEqual(['completed'])
      expect(await faultsOf(stage.query, runId, batchSize * batches)).toEqual([])
      expect(await stage.writtenTwice(runId)).toEqual([])
      expect(await stage.read(runId)).toMatchObject({ current_batch: sizes.length })
      expect(Math.max(...sizes)).toBeLessThanOrEqual(batchSize)
      if (lanes === 1) expect(sizes).toEqual([...Array.from({ length: batches }, () => batchSize), 0])
      expect(await stage.query('select from pawl.lanes where run_id = $1', [runId])).toHaveLength(Math.min(lanes, batches))
    }
  })
}

test('during a run, recipients that are new are left out, recipients that go are skipped, and the counts are exact', async () => {
  const seeded = await seedCategory(stage.query, 500)
  const runId = await requestOverride(stage.query, seeded, { batchSize: 50 })
  const [gone, off] = [await stage.nthRecipient(seeded, 300), await stage.nthRecipient(seeded, 400)]
  expect(
    await workAll(
      applyOverride,
      stage.afterBatch(3, async () => {
        await stage.host.query('insert into public.recipients (category_id, is_ad_synced, is_active) select $1, true, true from generate_series(1, 20)', [
          seeded.categoryId,
        ])
        await stage.host.query('delete from public.recipients where id between $1 and $1 + 6', [gone])
        await stage.host.query('update public.recipients set is_active = is_active and id % 2 = 0, is_ad_synced = id % 2 = 1 where id between $1 and $1 + 9', [
          off,
        ])
        expect(await stage.read(runId)).toMatchObject({ status: 'PROCESSING', processed_recipients: 150, total_recipients: 500, carrying: 150 })
      }),
    ),
  ).toEqual(['completed'])
  expect(await faultsOf(stage.query, runId, 500 - 7 - 10)).toEqual([])
  expect(await stage.held(seeded)).toHaveLength(500 - 7)
})

test('a recipient that is deleted under a batch that has seen it alive makes the batch look again', async () => {
  for (const withSettings of [true, false]) {
    const seeded = await seedCategory(stage.query, 90, { withSettings })
    const runId = await requestOverride(stage.query, seeded)
    await stage.host.query('begin')
    await stage.host.query('delete from public.recipients where id = $1', [await stage.nthRecipient(seeded, 45)])
    const working = stage.work()
    await stage.batchWaits()
    await stage.host.query('commit')
    expect(await working).toEqual(['completed'])
    expect(await faultsOf(stage.query, runId, 89)).toEqual([])
  }
})

test('a settings row that the host inserts at the same moment is overwritten, counted once, and remembered', async () => {
  const seeded = await seedCategory(stage.query, 90, { withSettings: false })
  const recipient = await stage.nthRecipient(seeded, 45)
  const runId = await requestOverride(stage.query, seeded)
  await stage.host.query('begin')
  await stage.host.query(`insert into public.category_recipient_settings (category_id, recipient_id, settings) values ($1, $2, '{"of": "host"}')`, [
    seeded.categoryId,
    recipient,
  ])
  const working = stage.work()
  await stage.batchWaits()
  await stage.host.query('commit')
  expect(await working).toEqual(['completed'])
  expect(await faultsOf(stage.query, runId, 90)).toEqual([])
  expect(await stage.query('select previous_settings from public.category_recipient_settings where recipient_id = $1', [recipient])).toEqual([
    { previous_settings: { of: 'host' } },
  ])
})

for (const [victim, lanes] of [
  ['categories', 1],
  ['categories', 2],
  ['users', 1],
  ['users', 2],
] as const) {
  test(`the row of ${victim} is deleted during a run on ${lanes} lanes: the run is cancelled cleanly, and what waits behind it goes on`, async () => {
    const [seeded, other] = [await seedCategory(stage.query, 600), await seedCategory(stage.query, 5)]
    const runId = await requestOverride(stage.query, seeded, { batchSize: 50 })
    const behind = await requestOverride(stage.query, { ...seeded, userId: other.userId }, { settings: { channel: 'late' } })
    const erase = async (): Promise<unknown> =>
      stage.host
        .query(`delete from public.${victim} where id = $1`, [victim === 'users' ? seeded.userId : seeded.categoryId])
        // With a second lane under way the host may lose a deadlock, as it may against anyone, and asks again.
        .catch(error => (codeOf(error) === '40P01' ? erase() : Promise.reject(error)))
    expect(await workAll(applyOverride, stage.afterBatch(3, erase, { lanes }))).toEqual(['gone', victim === 'users' ? 'completed' : 'gone'])
    expect(await stage.query(`select state, error, owner from pawl.checkpoints where run_id = $1`, [runId])).toEqual([
      { state: 'cancelled', error: 'cancelled: what it worked on was deleted', owner: null },
    ])
    expect(
      await stage.query(
        `select (select count(*) from public.category_override_operations where operation_id = $1)
           + (select count(*) from public.category_override_audit where operation_id = $1)
           + (select count(*) from public.category_override_audit_keys where operation_id = $1)
           + (select count(*) from public.category_recipient_settings where updated_by_operation = $1) as left`,
        [runId],
      ),
    ).toEqual([{ left: 0 }])
    if (victim === 'users') expect(await faultsOf(stage.query, behind, 600)).toEqual([])
    else expect(await stage.held(seeded)).toEqual([])
  })
}

for (const sliceMs of [0, 100])
  test(`in every snapshot, processed_recipients equals the rows that carry the operation and what the cursors say (${sliceMs} ms a slice)`, async () => {
    // A thousand batches: two hundred were over before a slow watcher had looked eleven times.
    const runId = await requestOverride(stage.query, await seedCategory(stage.query, 20_000), { batchSize: 20 })
    const seen: number[] = []
    const watch = async (working: { over: boolean }) => {
      while (!working.over) {
        await stage.host.query('begin isolation level repeatable read, read only')
        const [row] = await stage.host.query<{ counted: number; carrying: number; walked: number; written: number }>(
          `select o.processed_recipients as counted,
             (select count(*) from public.category_recipient_settings s where s.updated_by_operation = o.operation_id) as carrying,
           (select coalesce(sum(l.done), 0)::bigint from pawl.lanes l where l.run_id = o.operation_id) as walked,
           (select count(*) from public.diary d where d.run_id = o.operation_id) as written
         from public.category_override_operations o where o.operation_id = $1`,
          [runId],
        )
        await stage.host.query('commit')
        if (row === undefined) throw new Error('the operation is gone')
        const { counted } = row
        expect(row).toEqual({ counted, carrying: counted, walked: counted, written: counted })
        if (counted !== seen.at(-1)) seen.push(counted)
      }
    }
    const working = { over: false }
    const worked = stage.work({ lanes: 2, sliceMs }).finally(() => (working.over = true))
    await watch(working)
    expect(await worked).toEqual(['completed'])
    expect(seen).toEqual(seen.toSorted((a, b) => a - b))
    // It was looked at while it went on, not just before and after.
    expect(seen.filter(count => count > 0 && count < 20_000).length).toBeGreaterThan(10)
    expect(await faultsOf(stage.query, runId, 20_000)).toEqual([])
  })
