import { sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { connectPawl, fromDrizzle, type Queryable, refreshRunId } from '../../client/src/index.ts'
import { type ClientStage, errorOf, openClientStage } from './client-stage.ts'

let stage: ClientStage
let { db, logins, producer, observer, complete, ask, work, one } = {} as ClientStage

beforeAll(async () => {
  stage = await openClientStage()
  ;({ db, logins, producer, observer, complete, ask, work, one } = stage)
})

beforeEach(() => stage.refresh())

afterAll(() => stage.end())

describe('requests', () => {
  test('take every argument the functions of the contract have, by their names and types, and no other', async () => {
    const calls = new Map<string, string[]>()
    const listener: Queryable = {
      query(text) {
        const [, name = '', list = ''] = /^select pawl\.(\w+)\((.*)\)::text as answer$/.exec(text) ?? []
        calls.set(
          name,
          list.split(', ').map(part => part.replace(/ => \$\d+::/, ' ')),
        )
        return Promise.resolve([{ answer: 'true' }])
      },
    }
    const pawl = connectPawl(listener)
    for (const [name, request] of Object.entries(complete)) await (pawl[name as 'enqueue'] as (request: unknown) => Promise<unknown>)(request())
    await pawl.revertOverride({ operationId: 'ovr_1', userId: 1 })
    await pawl.cancel('x', 'y')
    await pawl.retry('x')
    await pawl.why('x')
    const declared = await db.query<{ name: string; parameters: string[] }>(
      `select p.proname as name, array_agg(parameter || ' ' || format_type(type, null) order by place) as parameters
       from pg_proc p, unnest(p.proargnames, p.proargtypes::oid[]) with ordinality a (parameter, type, place)
       where p.pronamespace = 'pawl'::regnamespace and p.proname = any ($1) group by p.oid`,
      [[...calls.keys()]],
    )
    const shortened = (type: string) => type.replace('timestamp with time zone', 'timestamptz')
    expect(Object.fromEntries(calls)).toEqual(Object.fromEntries(declared.map(({ name, parameters }) => [name, parameters.map(shortened)])))
    expect(calls.size).toBe(10)
  })

  test('commit with the business row on a client inside its transaction, and leave nothing when it is rolled back', async () => {
    const counted = `(select count(*) from pawl.checkpoints) + (select count(*) from public.campaigns) + (select count(*) from public.campaign_timers)
      + (select count(*) from pgboss.job) + (select count(*) from reporting.report_executions) + (select count(*) from pawl.refresh_runs)
      + (select count(*) from public.business)`
    const before = await one(counted)
    const client = await logins.producer.connect()
    try {
      const pawl = connectPawl(client)
      for (const end of ['rollback', 'commit'] as const) {
        await client.query('begin')
        await client.query(`insert into public.business values ('order')`)
        const operation = await pawl.requestOverride(complete.requestOverride())
        const campaignId = await pawl.createCampaign(complete.createCampaign())
        const timer = await pawl.scheduleTimer({ ...complete.scheduleTimer(), campaignId })
        const execution = await pawl.runReport(complete.runReport())
        const job = await pawl.enqueue(complete.enqueue())
        const refresh = await pawl.refreshTable(complete.refreshTable())
        // Another connection sees none of it before the commit.
        expect(await one(counted)).toBe(before)
        await client.query(end)
        if (end === 'rollback') {
          expect(await one(counted)).toBe(before)
          continue
        }
        expect(
          await one(`(select row(batch_size, override_settings)::text from public.category_override_operations where operation_id = $1)`, [operation]),
        ).toBe(await one(`row(7, $1::jsonb)::text`, [JSON.stringify(complete.requestOverride().settings)]))
        expect(await one(`(select client_ip || ' ' || user_agent from public.category_override_audit where operation_id = $1)`, [operation])).toBe(
          '2001:db8::7/128 test/1',
        )
        expect(await db.query('select duration_hours, auto_close, rewards_enabled, metadata from public.campaigns where id = $1', [campaignId])).toEqual([
          { duration_hours: 3, auto_close: false, rewards_enabled: false, metadata: { a: 1 } },
        ])
        expect(await db.query('select scheduled_at, payload from public.campaign_timers where id = $1', [timer])).toEqual([
          { scheduled_at: new Date('2099-01-01T08:00:00Z'), payload: { b: [2] } },
        ])
        expect(await one('(select output_format from reporting.report_executions where id = $1)', [execution])).toBe('excel')
        expect(await one(`(select row(priority, start_after, singleton_key, data)::text from pgboss.job where id = $1)`, [job])).toMatch(/^\(3,"2099-.*,k,/)
        expect(await one('(select count(*) from pawl.checkpoints where run_id = $1)', [refreshRunId(refresh, 'sqp.yearly_summary')])).toBe(1)
      }
    } finally {
      client.release()
    }
  })

  test('leave out what is not given, so that the defaults of the database count', async () => {
    const operation = await ask()
    expect(await one('(select batch_size from public.category_override_operations where operation_id = $1)', [operation])).toBe(100)
    const campaignId = await producer.createCampaign({ durationHours: 1 })
    expect(await one('(select auto_close and rewards_enabled from public.campaigns where id = $1)', [campaignId])).toBe(true)
    const execution = await producer.runReport({ reportId: stage.report, executedBy: stage.people.admin })
    expect(await one('(select output_format from reporting.report_executions where id = $1)', [execution])).toBe('csv')
    // Without types, undefined and null arrive as well: the one is left out, the other is SQL's null.
    const settings = { settings: null, batchSize: undefined, userAgent: null }
    const own = await producer.requestOverride({ categoryId: stage.seeded().categoryId, userId: stage.seeded().userId, ...settings })
    expect(await one('(select override_settings from public.category_override_operations where operation_id = $1)', [own])).toEqual({ channel: 'email' })
  })

  test('take every output format and every type of timer that the client names', async () => {
    for (const outputFormat of ['csv', 'json', 'html', 'excel', 'xlsx', 'pdf'] as const)
      expect(await producer.runReport({ reportId: stage.report, executedBy: stage.people.admin, outputFormat })).toMatch(/^[0-9a-f-]{36}$/)
    const campaignId = await producer.createCampaign({ durationHours: 1, autoClose: false, startAt: new Date(Date.now() + 60_000) })
    for (const timerType of ['CLOSE_CAMPAIGN', 'EXPIRE_CAMPAIGN', 'REWARD_REMINDER'] as const)
      expect(await producer.scheduleTimer({ campaignId, timerType, at: new Date(Date.now() + 7_200_000) })).toMatch(/^[0-9a-f-]{36}$/)
    const again = producer.scheduleTimer({ campaignId, timerType: 'START_CAMPAIGN', at: new Date(Date.now() + 7_200_000) })
    expect(await errorOf(again)).toMatchObject({ message: expect.stringContaining('an active START_CAMPAIGN timer already') })
  })

  test('keep every digit of a bigint, in and out, and refuse a number that may have lost some', async () => {
    const large = 9_007_199_254_740_993n
    await db.query(`insert into public.categories (id, name) values ($1, 'large')`, [String(large)])
    for (const categoryId of [large, String(large)]) {
      const operation = await producer.requestOverride({ categoryId, userId: stage.seeded().userId })
      expect(await one('(select category_id::text from public.category_override_operations where operation_id = $1)', [operation])).toBe(String(large))
    }
    for (const categoryId of [Number(large), 1.5, Number.NaN])
      expect(await errorOf(producer.requestOverride({ categoryId, userId: 1 }))).toMatchObject({ code: '22023', hint: expect.stringContaining('as text') })
    await db.query(`select setval('pawl.refresh_runs_id_seq', $1)`, [String(large)])
    expect(await producer.refreshTable({ name: 'yearly_summary' })).toBe(String(large + 1n))
  })

  test('give the same operation and campaign to the same key and id, and null for a job that its singleton key keeps out', async () => {
    const request = complete.requestOverride()
    const operation = await producer.requestOverride(request)
    expect(await producer.requestOverride(request)).toBe(operation)
    expect(await errorOf(producer.requestOverride({ ...request, batchSize: 8 }))).toMatchObject({ code: '22023', hint: 'use a new key for a new request' })
    const campaign = complete.createCampaign()
    expect([await producer.createCampaign(campaign), await producer.createCampaign(campaign)]).toEqual([campaign.id, campaign.id])
    await db.query(`select pgboss.create_queue('client.test', '{"policy": "short"}')`)
    const jobs = [1, 2].map(() => producer.enqueue({ queue: 'client.test', data: {}, singletonKey: 'one' }))
    expect((await Promise.all(jobs)).filter(job => job === null)).toHaveLength(1)
  })

  test('revert an operation that has ended', async () => {
    const operationId = await ask()
    const tooEarly = errorOf(producer.revertOverride({ operationId, userId: stage.seeded().userId }))
    expect(await tooEarly).toMatchObject({ code: '22023', message: expect.stringContaining('is still PENDING'), hint: expect.stringContaining('wait for it') })
    await work()
    expect(await producer.revertOverride({ operationId, userId: stage.seeded().userId })).toMatch(/^ovr_\d+$/)
  })
})

describe('through drizzle', () => {
  test('requests take part in its transaction, and its wrapped errors are told like any other', async () => {
    const orm = drizzle({ client: logins.producer })
    const inside = orm.transaction(async tx => {
      await tx.execute(sql`insert into public.business values ('drizzle')`)
      const pawl = connectPawl(fromDrizzle(tx, sql))
      expect(await pawl.requestOverride(complete.requestOverride())).toMatch(/^ovr_/)
      await pawl.requestOverride({ categoryId: -1, userId: stage.seeded().userId })
    })
    expect(await errorOf(inside)).toMatchObject({ code: '23503', message: 'category -1 does not exist', hint: expect.stringContaining('public.categories') })
    expect(await one('(select count(*) from public.business)')).toBe(0)
    const operation = await orm.transaction(async tx => {
      await tx.execute(sql`insert into public.business values ('drizzle')`)
      return connectPawl(fromDrizzle(tx, sql)).requestOverride(complete.requestOverride())
    })
    expect(await observer.run(operation)).toMatchObject({ runId: operation, state: 'pending' })
    expect(await one('(select count(*) from public.business)')).toBe(1)
  })
})
