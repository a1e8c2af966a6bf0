import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { applyOverride } from '../../workers/overrides/apply.ts'
import { handlerOptions, type Lease, takeLease, workAll } from '../support/engine.ts'
import { requestOverride, type Seeded, seedCategory } from '../support/overrides.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { until } from '../support/until.ts'

const INVALID = '22023'
const NO_REFERENCE = '23503'
const QUEUE = 'overrides.apply'

let db: TestDatabase
let lease: Lease
let seeded: Seeded
let other: Seeded
const runs = { completed: '', revert: '', running: '', pending: '' }

beforeAll(async () => {
  db = await createDatabase()
  seeded = await seedCategory(db.query, 20)
  other = await seedCategory(db.query, 5)
  lease = await takeLease(db)
  runs.completed = await requestOverride(db.query, seeded)
  await workAll(applyOverride, handlerOptions(db, lease))
  runs.revert = await answer('select pawl.revert_override($1, $2) as answer', [runs.completed, seeded.userId])
  await workAll(applyOverride, handlerOptions(db, lease))
  runs.running = await requestOverride(db.query, seeded)
  // Open and under way, as it stands between two batches.
  await db.query(
    `select pawl.start_override($1, o.epoch, 2) from pawl.checkpoints c, pawl.open_run(c.run_id, $2, c.job_id, 0, '10 seconds') o where c.run_id = $1`,
    [runs.running, lease.id],
  )
  runs.pending = await requestOverride(db.query, other)
})

afterAll(async () => {
  await lease.stop()
  await db.drop()
})

async function answer(sql: string, values: unknown[] = []): Promise<string> {
  const [row] = await db.query<{ answer: string }>(sql, values)
  if (row === undefined) throw new Error(`no row: ${sql}`)
  return row.answer
}

async function refusal(sql: string, values: unknown[]): Promise<{ code?: string; hint?: string; message?: string }> {
  try {
    await db.query(sql, values)
  } catch (error) {
    return error as { code?: string; hint?: string; message?: string }
  }
  throw new Error(`accepted: ${sql} ${JSON.stringify(values).slice(0, 100)}`)
}

/** Everything a call could change, in one row. */
function everything(): Promise<Record<string, unknown>[]> {
  return db.query(`
    select (select md5(string_agg(o::text, '|' order by id)) from public.category_override_operations o) as operations,
      (select count(*) from public.category_override_audit) as audit, (select count(*) from pgboss.job) as jobs,
      (select md5(string_agg(c::text, '|' order by run_id)) from pawl.checkpoints c) as runs,
      (select string_agg(p::text, '|' order by queue) from pawl.paused_queues p) as paused`)
}

describe('bad input is refused with SQLSTATE and hint, and changes nothing', () => {
  const keyed = 'select pawl.request_override($1, $2, $3, $4, idempotency_key => $5)'
  const override = 'select pawl.request_override($1, $2, $3, $4)'
  const agent = 'select pawl.request_override($1, $2, user_agent => $3)'
  const revert = 'select pawl.revert_override($1, $2)'
  const enqueue = 'select pawl.enqueue($1, $2)'
  const kept = 'the key of an earlier request'

  type Refused = [what: string, code: string, says: RegExp, sql: string, values: () => unknown[]]
  const refused: Refused[] = [
    ...[0, -1, 1001, null].map<Refused>(size => [
      `batch_size ${size}`,
      INVALID,
      new RegExp(`batch_size.*not ${size}`),
      override,
      () => [seeded.categoryId, seeded.userId, {}, size],
    ]),
    ...[
      ['array', '[1]'],
      ['string', '"a"'],
      ['number', '1'],
      ['null', 'null'],
    ].map<Refused>(([type, json]) => [
      `settings of JSON type ${type}`,
      INVALID,
      new RegExp(`settings.*not ${type}`),
      override,
      () => [seeded.categoryId, seeded.userId, json, 10],
    ]),
    ['an unknown category', NO_REFERENCE, /category 987654321 /, override, () => [987654321, seeded.userId, {}, 10]],
    ['a null category', NO_REFERENCE, /category null /, override, () => [null, seeded.userId, {}, 10]],
    ['an unknown user', NO_REFERENCE, /user 987654321 /, override, () => [seeded.categoryId, 987654321, {}, 10]],
    ['a null user', NO_REFERENCE, /user null /, override, () => [seeded.categoryId, null, {}, 10]],
    ['an over-long user agent', INVALID, /user_agent has 2001/, agent, () => [seeded.categoryId, seeded.userId, 'a'.repeat(2001)]],
    ['an over-long idempotency key', INVALID, /key.*not 201/, keyed, () => [seeded.categoryId, seeded.userId, {}, 10, 'k'.repeat(201)]],
    ['an empty idempotency key', INVALID, /key.*not 0/, keyed, () => [seeded.categoryId, seeded.userId, {}, 10, '']],
    ['a used key with another category', INVALID, /belongs to operation ovr_\d+/, keyed, () => [other.categoryId, seeded.userId, { a: 1 }, 10, kept]],
    ['a used key with another user', INVALID, /belongs to operation ovr_\d+/, keyed, () => [seeded.categoryId, other.userId, { a: 1 }, 10, kept]],
    ['a used key with other settings', INVALID, /belongs to operation ovr_\d+/, keyed, () => [seeded.categoryId, seeded.userId, { a: 2 }, 10, kept]],
    ['a used key without settings', INVALID, /belongs to operation ovr_\d+/, keyed, () => [seeded.categoryId, seeded.userId, null, 10, kept]],
    ['a used key with another size', INVALID, /belongs to operation ovr_\d+/, keyed, () => [seeded.categoryId, seeded.userId, { a: 1 }, 11, kept]],
    ['a revert of an unknown operation', INVALID, /"ovr_0" does not exist/, revert, () => ['ovr_0', seeded.userId]],
    ['a revert of null', INVALID, /"null" does not exist/, revert, () => [null, seeded.userId]],
    ['a revert of a revert', INVALID, /itself a revert/, revert, () => [runs.revert, seeded.userId]],
    ['a revert of a running operation', INVALID, /still PROCESSING/, revert, () => [runs.running, seeded.userId]],
    ['a revert of a pending operation', INVALID, /still PENDING/, revert, () => [runs.pending, seeded.userId]],
    ['a revert by an unknown user', NO_REFERENCE, /user 987654321 /, revert, () => [runs.completed, 987654321]],
    ['a job for an unknown queue', INVALID, /queue "no.such" does not exist/, enqueue, () => ['no.such', {}]],
    ['a job for no queue', INVALID, /queue has no name/, enqueue, () => [null, {}]],
    ['a job without data', INVALID, /JSON object, not null/, enqueue, () => [QUEUE, null]],
    ['a job whose data is an array', INVALID, /JSON object, not array/, enqueue, () => [QUEUE, '[]']],
    ['a job whose priority is null', INVALID, /priority is null/, 'select pawl.enqueue($1, $2, $3)', () => [QUEUE, {}, null]],
    ['an over-long singleton key', INVALID, /key has 1001/, 'select pawl.enqueue($1, $2, singleton_key => $3)', () => [QUEUE, {}, 'k'.repeat(1001)]],
    ['cancelling an unknown run', INVALID, /run "no such" does not exist/, 'select pawl.cancel($1)', () => ['no such']],
    ['cancelling null', INVALID, /run "null" does not exist/, 'select pawl.cancel($1)', () => [null]],
    ['cancelling with an over-long reason', INVALID, /reason has 1001/, 'select pawl.cancel($1, $2)', () => [runs.pending, 'r'.repeat(1001)]],
    ['retrying an unknown run', INVALID, /run "no such" does not exist/, 'select pawl.retry($1)', () => ['no such']],
    ['pausing an unknown queue', INVALID, /queue "no.such" does not exist/, 'select pawl.pause($1)', () => ['no.such']],
    ['pausing with an over-long reason', INVALID, /reason has 1001/, 'select pawl.pause($1, $2)', () => [QUEUE, 'r'.repeat(1001)]],
    ['resuming an unknown queue', INVALID, /queue "no.such" does not exist/, 'select pawl.resume($1)', () => ['no.such']],
  ]

  beforeAll(() => db.query(keyed, [seeded.categoryId, seeded.userId, { a: 1 }, 10, kept]))

  for (const [what, code, says, sql, values] of refused) {
    test(what, async () => {
      const before = await everything()
      const error = await refusal(sql, values())
      expect(error).toMatchObject({ code, message: expect.stringMatching(says), hint: expect.stringMatching(/\w{3}/) })
      expect(await everything()).toEqual(before)
    })
  }

  test('why of an unknown run is an answer, not an error', async () => {
    expect(await answer('select pawl.why($1) as answer', ['no such'])).toMatch(/no run "no such"/)
  })

  test('the longest and largest that are allowed are accepted', async () => {
    const sql = 'select pawl.request_override($1, $2, $3, 1000, null, $4, $5) as answer'
    expect(await answer(sql, [other.categoryId, other.userId, {}, 'a'.repeat(2000), 'k'.repeat(200)])).toMatch(/^ovr_/)
    expect(await answer('select pawl.request_override($1, $2, batch_size => 1) as answer', [other.categoryId, other.userId])).toMatch(/^ovr_/)
    expect(await answer('select pawl.pause($1, $2) as answer', ['overrides.apply', 'r'.repeat(1000)])).toBe(true)
    expect(await answer('select pawl.resume($1) as answer', ['overrides.apply'])).toBe(true)
  })

  test('the same idempotency key with the same arguments gives the same id and enqueues nothing', async () => {
    const values = [seeded.categoryId, seeded.userId, { b: 1 }, 10, 'asked twice']
    const first = await answer(`${keyed} as answer`, values)
    const rows = await everything()
    expect(await answer(`${keyed} as answer`, values)).toBe(first)
    expect(await everything()).toEqual(rows)
  })

  test('the same idempotency key from two transactions at once gives one operation', async () => {
    const values = [seeded.categoryId, seeded.userId, { c: 1 }, 10, 'asked at once']
    const second = await db.transact(async query => {
      const [row] = await query<{ answer: string }>(`${keyed} as answer`, values)
      const waiting = answer(`${keyed} as answer`, values)
      const waits = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
      await until('the second waits for the first', async () => (await db.query(waits))[0])
      return { first: row?.answer, waiting }
    })
    expect(await second.waiting).toBe(second.first)
    const kept = `select count(*) as operations from public.category_override_operations where idempotency_key = 'asked at once'`
    expect(await db.query(kept)).toEqual([{ operations: 1 }])
  })
})
