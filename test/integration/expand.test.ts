import { expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import { classify } from '../../src/errors.ts'
import { handlerOptions, takeLease, workOne } from '../support/engine.ts'
import { createDatabase } from '../support/postgres.ts'
import { createTrial, readTrial, requestTrial, TRIAL_QUEUE, trialWorker } from '../support/trial.ts'
import { until } from '../support/until.ts'

test('a migration that adds a column under a batch that waits for it costs no attempt', async () => {
  const db = await createDatabase()
  await createTrial(db.query)
  const lease = await takeLease(db, 'tester', [TRIAL_QUEUE])
  await requestTrial(db.query, 'expanded')
  const waiting = (words: string) => async () =>
    (await db.query(`select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like $1`, [`%${words}%`])).length >
    0
  let migrating: Promise<void> = Promise.resolve()
  let batches = 0
  const worker = trialWorker({
    rows: 5,
    // By now the session has planned the statement, and knows the row of pawl.lanes as it was.
    async during() {
      batches += 1
      if (batches !== 12) return
      migrating = db.transact(async query => {
        await query('alter table pawl.lanes add column expanded integer')
        await until('the next batch waits', waiting('pawl.hold'))
      })
      await until('the migration waits for this batch', waiting('alter table'))
    },
  })
  expect(await workOne(worker, handlerOptions(db, lease))).toEqual({ status: 'completed', output: { outcome: 'completed' } })
  await migrating
  expect(await readTrial(db.query, 'expanded')).toMatchObject({ state: 'completed', failures: 0, done: 100, items: 100, times: 1 })
  await lease.stop()
  await db.drop()
})

test('so does one that adds a column under a prepared statement, in whatever language the server says so', async () => {
  const db = await createDatabase({ empty: true })
  const session = await connectDirect(readConfig({ DATABASE_URL: db.url }), 'prepared')
  const failure = (statement: string) => session.query(statement).then(String, (error: unknown) => error)
  await db.query('create table rows (id integer)')
  await session.query('prepare all_rows as select * from rows')
  await db.query('alter table rows add column added integer')
  const expanded = await failure('execute all_rows')
  expect(expanded).toMatchObject({ code: '0A000', routine: 'RevalidateCachedQuery' })
  expect(classify(expanded)).toBe('transient')
  // What is not supported at all has the same code.
  const unsupported = await failure('select * from only_in.another.rows')
  expect(unsupported).toMatchObject({ code: '0A000' })
  expect(classify(unsupported)).toBe('bug')
  await session.close()
  await db.drop()
})
