import { afterAll, beforeAll, expect, test } from 'vitest'
import { connectPawl, type Pawl, PawlRequestError, PawlTimeout, type Queryable } from '../../client/src/index.ts'
import { PawlError } from '../../src/errors.ts'
import { applyOverride } from '../../workers/overrides/apply.ts'
import { createLogins, type Logins, poolOf } from '../support/client.ts'
import { handlerOptions, type Lease, takeLease, workAll } from '../support/engine.ts'
import { type Seeded, seedCategory } from '../support/overrides.ts'
import { pgbouncerMissing, startPgbouncer } from '../support/pgbouncer.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { until } from '../support/until.ts'

let db: TestDatabase
let logins: Logins
let lease: Lease
let seeded: Seeded
let producer: Pawl
let observer: Pawl

beforeAll(async () => {
  db = await createDatabase()
  logins = await createLogins(db)
  producer = connectPawl(logins.producer)
  observer = connectPawl(logins.observer)
  lease = await takeLease(db)
  seeded = await seedCategory(db.query, 20)
})

afterAll(async () => {
  await lease.stop()
  await logins.drop()
  await db.drop()
})

const ask = () => producer.requestOverride({ categoryId: seeded.categoryId, userId: seeded.userId })
const work = () => workAll(applyOverride, handlerOptions(db, lease))
const forever = { timeoutMs: 60_000 }

/** The pool, and a promise of its nth answer: the fact that somebody is really waiting. */
function counted(queryable: Queryable, count: number): { queryable: Queryable; looked: Promise<void>; looks(): number } {
  let looks = 0
  let reached = () => {}
  const looked = new Promise<void>(resolve => {
    reached = resolve
  })
  return {
    looked,
    looks: () => looks,
    queryable: {
      async query(text, values) {
        const result = await queryable.query(text, values)
        looks += 1
        if (looks === count) reached()
        return result
      },
    },
  }
}

test('a wait begun before the work ends with the completed run', async () => {
  const runId = await ask()
  const { queryable, looked } = counted(logins.observer, 2)
  const waiting = connectPawl(queryable).wait(runId, forever)
  await looked
  await work()
  expect(await waiting).toMatchObject({ runId, state: 'completed', done: 20, error: null, finishedAt: expect.any(Date) })
  // One that has ended is answered by the first look.
  const again = counted(logins.observer, 1)
  expect(await connectPawl(again.queryable).wait(runId, forever)).toMatchObject({ state: 'completed' })
  expect(again.looks()).toBe(1)
})

test('a run that fails or is cancelled resolves the wait, with its error', async () => {
  const failing = await ask()
  const waits = [observer.wait(failing, forever)]
  const refuse = { queue: 'overrides.apply', work: () => Promise.reject(new PawlError('test.refused', 'the template is empty')) }
  await workAll(refuse, handlerOptions(db, lease))
  const cancelled = await ask()
  waits.push(observer.wait(cancelled, forever))
  await connectPawl(logins.operator).cancel(cancelled, 'no more')
  expect(await Promise.all(waits)).toMatchObject([
    { runId: failing, state: 'failed', error: expect.stringContaining('the template is empty') },
    { runId: cancelled, state: 'cancelled', error: expect.stringContaining('no more') },
  ])
})

test('a wait that takes too long throws PawlTimeout with the run as it was, and the run goes on', async () => {
  const runId = await ask()
  const error: unknown = await observer.wait(runId, { timeoutMs: 300 }).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(PawlTimeout)
  expect(error).toMatchObject({ runId, run: { state: 'pending' }, message: `run ${runId} has not ended within 300 ms: it is pending` })
  await work()
  expect(await observer.wait(runId, forever)).toMatchObject({ state: 'completed' })
})

test('looks become rarer, up to one a second', async () => {
  const runId = await ask()
  const { queryable, looks } = counted(logins.observer, 1)
  await connectPawl(queryable)
    .wait(runId, { timeoutMs: 4_000 })
    .catch(() => {})
  // 50, 75, 112 … 854 ms, then a second each: at most 11 looks in 4 s; a pause that stayed at 50 ms would be 80.
  expect(looks()).toBeGreaterThanOrEqual(4)
  expect(looks()).toBeLessThanOrEqual(11)
  await work()
})

test("a signal ends the wait with the signal's reason, also when it was given before, and also while the server hangs", async () => {
  const runId = await ask()
  const stop = new AbortController()
  const { queryable, looked } = counted(logins.observer, 2)
  const waiting = connectPawl(queryable).wait(runId, { signal: stop.signal })
  await looked
  const reason = new Error('the service stops')
  stop.abort(reason)
  await expect(waiting).rejects.toBe(reason)
  await expect(observer.wait(runId, { signal: stop.signal, timeoutMs: 60_000 })).rejects.toBe(reason)
  const hanging: Queryable = { query: () => new Promise(() => {}) }
  await expect(connectPawl(hanging).wait(runId, { timeoutMs: 50 })).rejects.toMatchObject({
    name: 'PawlTimeout',
    message: expect.stringContaining('the database has not answered'),
  })
  await work()
})

test('a wait without an end, or with one that no timer holds, is refused', async () => {
  // @ts-expect-error: the types refuse it as well
  await expect(observer.wait('x', {})).rejects.toMatchObject({ code: '22023', message: 'the wait has no end' })
  for (const timeoutMs of [0, -1, Number.NaN, 2 ** 31, Number.POSITIVE_INFINITY])
    await expect(observer.wait('x', { timeoutMs })).rejects.toMatchObject({ code: '22023', message: expect.stringContaining('timeoutMs') })
})

test('a run that does not exist, or whose transaction has not committed, is told at once', async () => {
  await expect(observer.wait('no such', forever)).rejects.toMatchObject({ code: '22023', message: 'run "no such" does not exist' })
  const client = await logins.producer.connect()
  await client.query('begin')
  const runId = await connectPawl(client).requestOverride({ categoryId: seeded.categoryId, userId: seeded.userId })
  await expect(observer.wait(runId, forever)).rejects.toMatchObject({ hint: expect.stringContaining('has committed') })
  await client.query('rollback')
  client.release()
})

test('waiting inside the transaction that requested the run is refused at once: it would wait for its own commit', async () => {
  await db.query(`grant pawl_observer to ${new URL(logins.urlOf('producer')).username}`)
  try {
    const client = await logins.producer.connect()
    const pawl = connectPawl(client)
    await client.query('begin')
    const runId = await pawl.requestOverride({ categoryId: seeded.categoryId, userId: seeded.userId })
    expect(await pawl.run(runId)).toMatchObject({ state: 'pending' })
    const error: unknown = await pawl.wait(runId, forever).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(PawlRequestError)
    expect(error).toMatchObject({ code: '25001', hint: expect.stringContaining('commit first') })
    await client.query('rollback')
    client.release()
  } finally {
    await db.query(`revoke pawl_observer from ${new URL(logins.urlOf('producer')).username}`)
  }
})

test('a wait on a pool outlives connections that the server ends, and tells of those that stay gone when its time is over', async () => {
  const runId = await ask()
  const user = new URL(logins.urlOf('observer')).username
  const first = counted(logins.observer, 1)
  let cuts = 0
  // Every other look meets a connection that is cut under it.
  const shaken: Queryable = {
    async query(text, values) {
      if (cuts < 3 && first.looks() > 0) {
        cuts += 1
        const sleeping = logins.observer.query('select pg_sleep(60)')
        const cut = sleeping.then(
          () => undefined,
          (error: unknown) => error,
        )
        const ended = `select pg_terminate_backend(pid) as ended from pg_stat_activity where usename = $1 and query like '%pg_sleep(60)%'`
        await until('a connection is cut', async () => (await db.query(ended, [user])).length > 0)
        throw await cut
      }
      return first.queryable.query(text, values)
    },
  }
  const waiting = connectPawl(shaken).wait(runId, forever)
  await first.looked
  await work()
  expect(await waiting).toMatchObject({ state: 'completed' })

  const gone = poolOf('postgres://nobody@127.0.0.1:1/none')
  const error = (await connectPawl(gone)
    .wait(runId, { timeoutMs: 400 })
    .catch((thrown: unknown) => thrown)) as PawlTimeout
  expect(error).toBeInstanceOf(PawlTimeout)
  expect(error.cause).toMatchObject({ code: 'ECONNREFUSED' })
  await gone.end()
})

test.skipIf(pgbouncerMissing())('requests and waits go through PgBouncer in transaction mode', async () => {
  const [asking, reading] = [
    poolOf(await startPgbouncer(logins.urlOf('producer'), 'transaction')),
    poolOf(await startPgbouncer(logins.urlOf('observer'), 'transaction')),
  ]
  try {
    const runId = await connectPawl(asking).requestOverride({ categoryId: seeded.categoryId, userId: seeded.userId })
    const { queryable, looked } = counted(reading, 3)
    const waiting = connectPawl(queryable).wait(runId, forever)
    await looked
    await work()
    expect(await waiting).toMatchObject({ state: 'completed' })
  } finally {
    await Promise.all([asking.end(), reading.end()])
  }
})
