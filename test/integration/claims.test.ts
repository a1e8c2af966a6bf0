import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { openBoss } from '../../src/boss.ts'
import { startClaims } from '../../src/claims.ts'
import { readConfig } from '../../src/config.ts'
import type { Task } from '../../src/task.ts'
import { handlerOptions, type Lease, takeLease } from '../support/engine.ts'
import { createDatabase, silent, type TestDatabase } from '../support/postgres.ts'
import { until } from '../support/until.ts'

let db: TestDatabase
let lease: Lease

beforeAll(async () => {
  db = await createDatabase()
  lease = await takeLease(db)
})

afterAll(async () => {
  await lease.stop()
  await db.drop()
})

/** Opens `slots` claim loops on the queue of one-line jobs; `perform` is what becomes of each. */
async function claiming(queue: string, perform: () => Promise<void>) {
  await db.query(`select pgboss.create_queue('${queue}.dead', '{"policy": "standard"}')`)
  await db.query(`select pgboss.create_queue('${queue}', '{"policy": "standard", "retryLimit": 3, "retryDelay": 1, "deadLetter": "${queue}.dead"}')`)
  const config = readConfig({ DATABASE_URL: db.url })
  const boss = openBoss(config, silent, { supervise: true, name: 'claims test' })
  await boss.start()
  const task: Task = {
    queue,
    async perform() {
      await perform()
      return {}
    },
  }
  const claims = await startClaims({ ...handlerOptions(db, lease), boss, workers: [task] })
  onTestFinished(async () => {
    await claims.stop()
    await boss.stop({ graceful: false })
  })
}

/** As a raw insert does: nobody is notified. */
async function insertSilently(queue: string, startAfter: string) {
  await db.query(`insert into pgboss.job (name, data, start_after) values ($1, '{}', now() + $2::interval)`, [queue, startAfter])
}

test('a job that notifies nobody is taken all the same: inserted by hand, due later, or failed once', async () => {
  let performed = 0
  await claiming('claims.silent', async () => {
    performed += 1
    if (performed === 1) throw new Error('the first one fails once')
  })
  await insertSilently('claims.silent', '0 s')
  await insertSilently('claims.silent', '1 s')
  await until('both are done, one of them in its second attempt', () => performed === 3, 30_000)
})

test('a passing error of a task costs its job no retry', async () => {
  let performed = 0
  await claiming('claims.passing', async () => {
    performed += 1
    if (performed < 3) throw Object.assign(new Error('deadlock detected'), { code: '40P01' })
  })
  await insertSilently('claims.passing', '0 s')
  const [job] = await until('it is done', async () => {
    const done = await db.query(`select retry_count from pgboss.job where name = 'claims.passing' and state = 'completed'`)
    return done.length > 0 ? done : undefined
  })
  expect([performed, job]).toEqual([3, { retry_count: 0 }])
})

test('claimable counts what is ready no further than asked, leaves out what is not due, and says which queue is paused', async () => {
  await db.query(`select pgboss.create_queue('claims.counted', '{"policy": "standard"}')`)
  for (let job = 0; job < 6; job += 1) await insertSilently('claims.counted', '0 s')
  await insertSilently('claims.counted', '1 hour')
  await db.query(`select pawl.pause('overrides.apply', 'a rest')`)
  onTestFinished(async () => void (await db.query(`select pawl.resume('overrides.apply')`)))
  expect(await db.query(`select * from pawl.claimable(array['claims.counted', 'overrides.apply', 'no.such'], 10)`)).toEqual([
    { queue: 'claims.counted', paused: false, ready: 6 },
    { queue: 'overrides.apply', paused: true, ready: 0 },
    { queue: 'no.such', paused: false, ready: 0 },
  ])
  expect(await db.query(`select ready from pawl.claimable(array['claims.counted'], 4)`)).toEqual([{ ready: 4 }])
})
