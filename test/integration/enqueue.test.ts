import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { PgBoss, QueuePolicy } from 'pg-boss'
import { openBoss } from '../../src/boss.ts'
import { readConfig } from '../../src/config.ts'
import { connectDirect, type DirectConnection } from '../../src/database.ts'
import { requestOverride, type Seeded, seedCategory } from '../support/overrides.ts'
import { createDatabase, silent, type TestDatabase } from '../support/postgres.ts'
import { until } from '../support/until.ts'

let db: TestDatabase
let boss: PgBoss
let seeded: Seeded

beforeAll(async () => {
  db = await createDatabase()
  seeded = await seedCategory(db.query, 5)
  boss = openBoss(readConfig({ DATABASE_URL: db.url }), silent, { supervise: false, name: 'enqueue' })
  await boss.start()
})

afterAll(async () => {
  await boss.stop({ graceful: false })
  await db.drop()
})

async function answer(sql: string, values: unknown[] = []): Promise<string> {
  const [row] = await db.query<{ answer: string }>(sql, values)
  if (row === undefined) throw new Error(`no row: ${sql}`)
  return row.answer
}

function counts(): Promise<Record<string, unknown>[]> {
  return db.query(`
    select (select count(*) from pgboss.job) as jobs, (select count(*) from pawl.checkpoints) as runs,
      (select count(*) from public.category_override_operations) as operations, (select count(*) from public.category_override_audit) as audit`)
}

/** A job's row without what must differ: its id, and its times but for their distances. */
async function jobRow(id: string | null): Promise<Record<string, unknown> | undefined> {
  const [row] = await db.query<{ job: Record<string, unknown> }>(
    `select to_jsonb(j) - array['id', 'created_on', 'start_after', 'keep_until']
       || jsonb_build_object('kept', j.keep_until - j.start_after, 'waits', round(extract(epoch from j.start_after - j.created_on))) as job
     from pgboss.job j where j.id = $1`,
    [id],
  )
  return row?.job
}

describe('enqueue', () => {
  const policies: QueuePolicy[] = ['standard', 'short', 'singleton', 'stately', 'exclusive', 'key_strict_fifo']

  test('makes of overrides.apply the same job as pg-boss itself, settings and all', async () => {
    const own = await jobRow(await boss.send('overrides.apply', { run_id: 'nobody' }))
    const ours = await jobRow(await answer(`select pawl.enqueue('overrides.apply', '{"run_id": "nobody"}') as answer`))
    expect(own).toMatchObject({ retry_limit: 1000, heartbeat_seconds: 10, dead_letter: 'overrides.apply.dead' })
    expect(ours).toEqual(own)
  })

  for (const policy of policies) {
    test(`makes the same job as pg-boss on a ${policy} queue whose every setting is unusual`, async () => {
      const queue = `contract.${policy}`
      await boss.createQueue(queue, {
        policy,
        retryLimit: 7,
        retryDelay: 3,
        retryBackoff: true,
        retryDelayMax: 77,
        expireInSeconds: 333,
        deleteAfterSeconds: 4444,
        retentionSeconds: 55_555,
        heartbeatSeconds: 66,
        deadLetter: 'overrides.apply.dead',
        notify: true,
      })
      const own = await jobRow(await boss.send(queue, { a: [1, null] }, { priority: 5, startAfter: 3600, singletonKey: 'one' }))
      const ours = await jobRow(await answer(`select pawl.enqueue($1, '{"a": [1, null]}', 5, clock_timestamp() + interval '1 hour', 'two') as answer`, [queue]))
      expect(own).toMatchObject({ policy, priority: 5, singleton_key: 'one', waits: 3600, retry_limit: 7, expire_seconds: 333 })
      expect(ours).toEqual({ ...own, singleton_key: 'two' })
    })
  }

  test('returns null, and enqueues nothing, where a job with the same singleton key stands in the way', async () => {
    const sql = `select pawl.enqueue('contract.short', '{}', singleton_key => 'once') as answer`
    expect(await answer(sql)).toMatch(/-/)
    const jobs = await counts()
    expect(await answer(sql)).toBeNull()
    expect(await counts()).toEqual(jobs)
  })

  test('hands higher priorities out first', async () => {
    await boss.createQueue('contract.order', {})
    for (const priority of [1, 9, 5]) await db.query(`select pawl.enqueue('contract.order', jsonb_build_object('priority', $1::integer), $1)`, [priority])
    const order: unknown[] = []
    for (let i = 0; i < 3; i += 1) order.push((await boss.fetch<{ priority: number }>('contract.order'))[0]?.data.priority)
    expect(order).toEqual([9, 5, 1])
  })

  test('leaves nothing behind when its transaction is rolled back', async () => {
    const before = await counts()
    const work = db.transact(async query => {
      await query(`select pawl.enqueue('overrides.apply', '{}')`)
      await query('select pawl.request_override($1, $2)', [seeded.categoryId, seeded.userId])
      throw new Error('changed my mind')
    })
    await expect(work).rejects.toThrow('changed my mind')
    expect(await counts()).toEqual(before)
  })
})

describe("pg-boss's channel", () => {
  let listener: DirectConnection
  const heard: string[] = []

  beforeAll(async () => {
    listener = await connectDirect(readConfig({ DATABASE_URL: db.url }), 'contract listener')
    listener.onNotify((_channel, queue) => heard.push(queue))
    const [row] = await listener.query<{ channel: string }>(`select 'pgboss_' || left(encode(sha224('pgboss'), 'hex'), 24) as channel`)
    await listener.query(`listen ${row?.channel}`)
    for (const queue of ['contract.wake', 'contract.end']) await boss.createQueue(queue, { notify: true })
  })

  afterAll(() => listener.close())

  /** Who was woken by what `work` committed. Notifications come in the order of commits, so a last one of pg-boss's own ends the wait. */
  async function wokenBy(work: () => Promise<unknown>): Promise<string[]> {
    heard.length = 0
    await work()
    await boss.send('contract.end', {})
    await until('the last notification came', () => heard.includes('contract.end'))
    return heard.filter(queue => queue !== 'contract.end')
  }

  const enqueue = (start: string) => () => db.query(`select pawl.enqueue('contract.wake', '{}', start_after => ${start})`)

  test('wakes a worker for a job that is due at once', async () => {
    expect(await wokenBy(enqueue('null'))).toEqual(['contract.wake'])
    expect(await wokenBy(enqueue(`now() - interval '1 minute'`))).toEqual(['contract.wake'])
  })

  test('wakes one for an override that is requested', async () => {
    expect(await wokenBy(() => requestOverride(db.query, seeded))).toEqual(['overrides.apply'])
  })

  test('wakes nobody for a job that is delayed', async () => {
    expect(await wokenBy(enqueue(`now() + interval '1 hour'`))).toEqual([])
  })

  test('wakes nobody for a job that is rolled back, or that a singleton key turned away', async () => {
    expect(await wokenBy(() => db.query(`begin; select pawl.enqueue('contract.wake', '{}'); rollback`))).toEqual([])
    expect(await wokenBy(() => db.query(`select pawl.enqueue('contract.short', '{}', singleton_key => 'once')`))).toEqual([])
  })
})
