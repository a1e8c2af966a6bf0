import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { connectPawl, PawlRequestError, type Queryable } from '../../client/src/index.ts'
import { createDatabase } from '../support/postgres.ts'
import { type ClientStage, errorOf, openClientStage } from './client-stage.ts'

let stage: ClientStage
let { db, logins, producer, observer, operator, complete, ask, work, one } = {} as ClientStage

beforeAll(async () => {
  stage = await openClientStage()
  ;({ db, logins, producer, observer, operator, complete, ask, work, one } = stage)
})

beforeEach(() => stage.refresh())

afterAll(() => stage.end())

describe('runs', () => {
  test('are rows of pawl.runs with dates and numbers, whatever the types the driver was taught; undefined when there is none', async () => {
    const runId = await ask()
    await work()
    const taught = { getTypeParser: () => (value: unknown) => `taught ${String(value)}` }
    const client = new pg.Client({ connectionString: logins.urlOf('observer') })
    onTestFinished(() => client.end())
    await client.connect()
    // The text column is all that is read, and its type is the one nobody teaches.
    const plain = new pg.Client({ connectionString: logins.urlOf('observer'), types: { getTypeParser: oid => (oid === 25 ? String : taught.getTypeParser()) } })
    onTestFinished(() => plain.end())
    await plain.connect()
    for (const queryable of [logins.observer, logins.operator, client, plain]) {
      const run = await connectPawl(queryable).run(runId)
      expect(run).toEqual({
        runId,
        kind: 'override',
        state: 'completed',
        subject: expect.stringContaining('"Newsletter"'),
        done: 20,
        total: 20,
        percent: 100,
        rowsPerSecond: expect.any(Number),
        eta: null,
        attempt: 1,
        failures: 0,
        worker: null,
        requestedAt: expect.any(Date),
        startedAt: expect.any(Date),
        updatedAt: expect.any(Date),
        finishedAt: await one('(select finished_at from pawl.runs where run_id = $1)', [runId]),
        error: null,
        requestedBy: expect.stringContaining('pawl_client_producer'),
        cancelledBy: null,
        cancelledAt: null,
        cancelReason: null,
      })
    }
    expect(await observer.run('no such')).toBeUndefined()
  })

  test('have a column for every field of the client and a field for every column', async () => {
    const columns = await db.query<{ name: string }>(
      `select attname::text as name from pg_attribute where attrelid = 'pawl.runs'::regclass and attnum > 0 and not attisdropped order by 1`,
    )
    const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
    const run = await observer.run(await ask())
    expect(Object.keys(run ?? {}).sort()).toEqual(columns.map(({ name }) => camel(name)).sort())
  })

  test('are cancelled, explained and retried by an operator', async () => {
    const runId = await ask()
    expect(await operator.why(runId)).toMatch(/^Waiting/)
    expect(await operator.cancel(runId, 'wrong category')).toBe(true)
    expect(await operator.cancel(runId)).toBe(false)
    expect(await operator.run(runId)).toMatchObject({ state: 'cancelled', error: expect.stringContaining('wrong category') })
    expect(await operator.retry(runId)).toBe(true)
    expect(await operator.retry(runId)).toBe(false)
    await work()
    expect(await operator.run(runId)).toMatchObject({ state: 'completed', done: 20 })
    expect(await errorOf(operator.cancel('no such'))).toMatchObject({ code: '22023', message: 'run "no such" does not exist' })
  })
})

describe('errors', () => {
  test('of a login without the right name the role it needs', async () => {
    const runId = await ask()
    const reading = { code: '42501', message: expect.stringContaining('permission denied'), hint: expect.stringMatching(/pawl_observer or pawl_operator/) }
    expect(await errorOf(producer.run(runId))).toMatchObject(reading)
    expect(await errorOf(producer.wait(runId, { timeoutMs: 60_000 }))).toMatchObject(reading)
    const steering = { code: '42501', hint: expect.stringContaining('need the role pawl_operator') }
    expect(await errorOf(producer.why(runId))).toMatchObject(reading)
    expect(await observer.why(runId)).toMatch(/^Waiting/)
    for (const pawl of [producer, observer])
      for (const steer of [() => pawl.cancel(runId), () => pawl.retry(runId)]) expect(await errorOf(steer())).toMatchObject(steering)
    const enqueueing = { code: '42501', hint: expect.stringContaining('needs the role pawl_producer') }
    for (const refused of [
      () => observer.requestOverride(complete.requestOverride()),
      () => observer.createCampaign({ durationHours: 1 }),
      () => observer.enqueue(complete.enqueue()),
      () => observer.refreshTable(complete.refreshTable()),
      () => observer.runReport(complete.runReport()),
      () => observer.scheduleTimer(complete.scheduleTimer()),
      () => observer.revertOverride({ operationId: runId, userId: stage.seeded().userId }),
    ])
      expect(await errorOf(refused())).toMatchObject(enqueueing)
  })

  test('of Pawl keep their own hint, also where it is a right of the report that is missing', async () => {
    const own = await errorOf(producer.runReport({ reportId: stage.report, executedBy: stage.people.stranger }))
    expect(own.code).toBe('42501')
    expect(own.hint ?? '').not.toContain('pawl_producer')
    expect(own.cause).toBeInstanceOf(pg.DatabaseError)
    expect(await errorOf(producer.createCampaign({ durationHours: 0 }))).toMatchObject({
      code: '22023',
      message: 'duration_hours must be from 1 to 87600, not 0',
      hint: 'pass whole hours; ten years at most',
    })
    expect(await errorOf(producer.createCampaign({ durationHours: 1.5 }))).toMatchObject({ code: '22P02' })
    expect(await errorOf(producer.requestOverride({ ...complete.requestOverride(), clientIp: 'nowhere' }))).toMatchObject({ code: '22P02' })
  })

  test('of what JSON and dates cannot say are refused before the server is asked', async () => {
    const silentQueryable: Queryable = { query: () => Promise.reject(new Error('the server was asked')) }
    const pawl = connectPawl(silentQueryable)
    const circle: Record<string, unknown> = {}
    circle.self = circle
    for (const data of [circle, { n: 1n }, () => 1]) expect(await errorOf(pawl.enqueue({ queue: 'q', data }))).toMatchObject({ code: '22023' })
    expect(await errorOf(pawl.scheduleTimer({ ...complete.scheduleTimer(), at: new Date('no') }))).toMatchObject({ message: 'at is no valid Date' })
  })

  test('of a database without Pawl say what to run, of a failed transaction to roll back, and a lost connection stays what it is', async () => {
    const empty = await createDatabase({ empty: true })
    const pool = new pg.Pool({ connectionString: empty.url, max: 1 })
    try {
      for (const asked of [() => connectPawl(pool).run('x'), () => connectPawl(pool).createCampaign({ durationHours: 1 })])
        expect(await errorOf(asked())).toMatchObject({ hint: expect.stringContaining('pawl migrate up') })
      const client = await pool.connect()
      await client.query('begin')
      await client.query('select 1 / 0').catch(() => {})
      expect(await errorOf(connectPawl(client).run('x'))).toMatchObject({ code: '25P02', hint: expect.stringContaining('roll back') })
      client.release(true)
    } finally {
      await pool.end()
      await empty.drop()
    }
    const nowhere = new pg.Client({ connectionString: 'postgres://nobody@127.0.0.1:1/none' })
    await nowhere.connect().catch(() => {})
    await expect(connectPawl(nowhere).run('x')).rejects.not.toBeInstanceOf(PawlRequestError)
  })
})
