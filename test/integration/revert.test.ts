import { afterAll, beforeAll, expect, test } from 'vitest'
import { applyOverride } from '../../workers/overrides/apply.ts'
import { workAll } from '../support/engine.ts'
import { requestOverride, seedCategory, type Seeded } from '../support/overrides.ts'
import { openOverrideStage, type OverrideStage } from './override-stage.ts'

let stage: OverrideStage

beforeAll(async () => {
  stage = await openOverrideStage()
})

afterAll(() => stage.close())

async function revert(runId: string, seeded: Seeded): Promise<string> {
  const [row] = await stage.query<{ id: string }>('select pawl.revert_override($1, $2) as id', [runId, seeded.userId])
  return row?.id ?? ''
}

async function override(seeded: Seeded, settings: object): Promise<string> {
  const runId = await requestOverride(stage.query, seeded, { settings })
  expect(await stage.work()).toEqual(['completed'])
  return runId
}

/** Recipients 1–150 have settings of the host, 151–250 have no row. */
async function seedMixed(): Promise<Seeded> {
  const seeded = await seedCategory(stage.query, 250)
  await stage.query('delete from public.category_recipient_settings where category_id = $1 and recipient_id > $2', [
    seeded.categoryId,
    await stage.nthRecipient(seeded, 150),
  ])
  return seeded
}

test('a revert puts settings back, deletes the rows that were not there, and is counted and audited as an operation of its own', async () => {
  const seeded = await seedMixed()
  const before = await stage.held(seeded)
  const runId = await override(seeded, { channel: 'sms' })
  const back = await revert(runId, seeded)
  expect(await stage.work()).toEqual(['completed'])
  expect(await stage.held(seeded)).toEqual(before)
  expect(before).toHaveLength(150)
  expect(await stage.read(back)).toMatchObject({
    status: 'COMPLETED',
    processed_recipients: 250,
    total_recipients: 250,
    operation_status: 'COMPLETED',
    affected_recipients_count: 250,
    state: 'completed',
    done: 250,
    carrying: 0,
    override_count: 2,
  })
  expect(await stage.read(runId)).toMatchObject({ status: 'COMPLETED', processed_recipients: 250, carrying: 0 })
})

test('a revert puts back the provenance as well: the rows carry the operation before, and its time', async () => {
  const seeded = await seedMixed()
  const first = await override(seeded, { channel: 'sms' })
  const before = await stage.held(seeded)
  await revert(await override(seeded, { channel: 'fax' }), seeded)
  expect(await stage.work()).toEqual(['completed'])
  expect(await stage.held(seeded)).toEqual(before)
  expect(await stage.read(first)).toMatchObject({ carrying: 250, processed_recipients: 250 })
})

test('a row whose earlier operation is no longer audited gets its settings back without a name that nobody knows', async () => {
  const seeded = await seedCategory(stage.query, 20)
  const first = await override(seeded, { channel: 'sms' })
  const second = await override(seeded, { channel: 'fax' })
  await stage.query('delete from public.category_override_audit where operation_id = $1', [first])
  await revert(second, seeded)
  expect(await stage.work()).toEqual(['completed'])
  const expected = { settings: { channel: 'sms' }, updated_by_operation: null, is_override_generated: false, override_timestamp: null }
  expect(await stage.held(seeded)).toMatchObject(Array.from({ length: 20 }, () => expected))
})

test('rows that someone has changed since are left as they are: by the host, by a later operation, or deleted', async () => {
  const seeded = await seedMixed()
  const before = await stage.held(seeded)
  const runId = await override(seeded, { channel: 'sms' })
  const [changed, gone] = [await stage.nthRecipient(seeded, 10), await stage.nthRecipient(seeded, 20)]
  await stage.host.query(`update public.category_recipient_settings set settings = '{"of": "host"}' where recipient_id = $1`, [changed])
  await stage.host.query('delete from public.category_recipient_settings where recipient_id = $1', [gone])
  const back = await revert(runId, seeded)
  expect(await stage.work()).toEqual(['completed'])
  expect(await stage.read(back)).toMatchObject({ status: 'COMPLETED', processed_recipients: 248, affected_recipients_count: 248 })
  const after = await stage.held(seeded)
  expect(after.filter(row => row.recipient_id === changed)).toMatchObject([{ settings: { of: 'host' } }])
  expect(after.filter(row => row.recipient_id !== changed)).toEqual(before.filter(row => row.recipient_id !== changed && row.recipient_id !== gone))

  const early = await override(seeded, { channel: 'sms' })
  await override(seeded, { channel: 'fax' })
  const later = await stage.held(seeded)
  const nothing = await revert(early, seeded)
  expect(await stage.work()).toEqual(['completed'])
  expect(await stage.held(seeded)).toEqual(later)
  expect(await stage.read(nothing)).toMatchObject({ status: 'COMPLETED', processed_recipients: 0, total_recipients: 0 })
})

test('two operations taken back one after the other never delete a row that was there before them', async () => {
  const seeded = await seedMixed()
  const before = await stage.held(seeded)
  const first = await override(seeded, { channel: 'sms' })
  await revert(await override(seeded, { channel: 'fax' }), seeded)
  expect(await stage.work()).toEqual(['completed'])
  await revert(first, seeded)
  expect(await stage.work()).toEqual(['completed'])
  const left = new Set((await stage.held(seeded)).map(row => row.recipient_id))
  expect(before.filter(row => !left.has(row.recipient_id))).toEqual([])
})

test('a partly cancelled operation is reverted as far as it got, and a cancelled revert goes on when retried', async () => {
  const seeded = await seedCategory(stage.query, 500)
  const before = await stage.held(seeded)
  const runId = await requestOverride(stage.query, seeded)
  expect(
    await workAll(
      applyOverride,
      stage.afterBatch(1, id => stage.host.query('select pawl.cancel($1)', [id])),
    ),
  ).toEqual(['cancel'])
  expect(await stage.read(runId)).toMatchObject({ status: 'CANCELLED', carrying: 200 })
  const back = await revert(runId, seeded)
  expect(await stage.work()).toEqual(['completed'])
  expect(await stage.held(seeded)).toEqual(before)
  expect(await stage.read(back)).toMatchObject({ status: 'COMPLETED', processed_recipients: 200, total_recipients: 200, affected_recipients_count: 200 })

  const whole = await override(seeded, { channel: 'fax' })
  const half = await revert(whole, seeded)
  expect(
    await workAll(
      applyOverride,
      stage.afterBatch(1, id => stage.host.query('select pawl.cancel($1)', [id])),
    ),
  ).toEqual(['cancel'])
  expect(await stage.read(half)).toMatchObject({
    status: 'CANCELLED',
    processed_recipients: 200,
    total_recipients: 500,
    operation_status: 'FAILED',
    affected_recipients_count: 200,
  })
  expect(await stage.held(seeded)).toMatchObject([
    ...before.slice(0, 200),
    ...before.slice(200).map(() => ({ settings: { channel: 'fax' }, updated_by_operation: whole })),
  ])
  await stage.query('select pawl.retry($1)', [half])
  expect(await stage.work()).toEqual(['completed'])
  expect(await stage.held(seeded)).toEqual(before)
  expect(await stage.read(half)).toMatchObject({ status: 'COMPLETED', processed_recipients: 500, total_recipients: 500 })
})

test('what cannot be reverted is refused with the next step, and nothing is enqueued', async () => {
  const seeded = await seedCategory(stage.query, 5)
  const pending = await requestOverride(stage.query, seeded)
  const enqueued = () => stage.query('select count(*) as n from public.category_override_operations')
  const before = await enqueued()
  const refused = (message: string, hint: string) => ({ code: '22023', message, hint: expect.stringContaining(hint) })
  await expect(revert(pending, seeded)).rejects.toMatchObject(refused(`operation ${pending} is still PENDING`, 'pawl.cancel'))
  await expect(revert('ovr_0', seeded)).rejects.toMatchObject(refused('operation "ovr_0" does not exist', 'v_override_operation_history'))
  expect(await enqueued()).toEqual(before)
  expect(await stage.work()).toEqual(['completed'])
  const back = await revert(pending, seeded)
  expect(await stage.work()).toEqual(['completed'])
  await expect(revert(back, seeded)).rejects.toMatchObject(refused(`operation ${back} is itself a revert`, 'request the override again'))
})

test('a cancelled operation that was reverted does not go on: its first rows would be counted and not be there', async () => {
  const seeded = await seedMixed()
  const runId = await requestOverride(stage.query, seeded, { settings: { channel: 'sms' } })
  expect(
    await workAll(
      applyOverride,
      stage.afterBatch(1, () => stage.query('select pawl.cancel($1)', [runId])),
    ),
  ).toEqual(['cancel'])
  await revert(runId, seeded)
  expect(await stage.work()).toEqual(['completed'])
  await expect(stage.query('select pawl.retry($1)', [runId])).rejects.toMatchObject({ code: '22023', hint: expect.stringContaining('pawl.request_override') })
  expect(await stage.query('select status from public.category_override_operations where operation_id = $1', [runId])).toEqual([{ status: 'CANCELLED' }])
})
