import { expect, onTestFinished, test } from 'vitest'
import type { Database } from '../../src/database.ts'
import { loadTable } from '../../workers/refresh/load.ts'
import { handlerOptions, takeLease, workAll, workOne } from '../support/engine.ts'
import { fromQuery, openRefreshStage, registerTable } from '../support/refresh.ts'
import { actBefore, auditOf } from '../support/refresh-publish.ts'
import { until } from '../support/until.ts'

/** A database that stops once, inside the transaction, behind the statement that `when` is true of. */
function pausing(db: Database, when: (text: string) => boolean) {
  const reached = Promise.withResolvers<void>()
  const goOn = Promise.withResolvers<void>()
  const transact: Database['transact'] = (work, given) =>
    db.transact(
      (query, copy) =>
        work(async (text, values) => {
          const rows = await query(text, values)
          if (when(text)) {
            reached.resolve()
            await goOn.promise
          }
          return rows as never[]
        }, copy),
      given,
    )
  return { db: { ...db, transact }, reached: reached.promise, goOn: () => goOn.resolve() }
}

test('a worker that is taken over while it compares leaves the name of the difference to whoever goes on', async () => {
  const stage = await openRefreshStage()
  onTestFinished(stage.end)
  const { db, query } = stage
  await registerTable(query, 'goods', 'id integer primary key, price integer', fromQuery('select i as id, i * 2 as price from generate_series(1, 5) i'))
  await query('insert into sqp.goods values (1, 1), (9, 9)')
  await query(`select pawl.refresh_table('sqp.goods', 'none')`)
  const paused = pausing(db, text => text.startsWith('create unlogged table') && text.includes('_difference'))
  const first = workOne(loadTable, { ...stage.options, db: paused.db })
  await paused.reached

  const second = await takeLease(db, 'second', ['refresh.load'])
  onTestFinished(second.stop)
  await stage.lease.hang()
  await until(
    'the run is taken from the worker that is silent',
    async () => (await query(`select * from pawl.beat($1, '{}', '10 seconds', true)`, [second.id]))[0],
  )
  const next = workOne(loadTable, handlerOptions(db, second))
  await until('the second waits for the name', async () => (await query(`select from pg_locks where not granted and locktype = 'transactionid'`))[0])
  paused.goOn()

  expect((await first)?.output.outcome).toBe('lost')
  expect((await next)?.output.outcome).toBe('completed')
  expect(await query('select id, price from sqp.goods order by id')).toEqual([1, 2, 3, 4, 5].map(id => ({ id, price: id * 2 })))
})

test('a member of a group that is cancelled and retried while it is being published is read again, and published by that attempt', async () => {
  const stage = await openRefreshStage()
  onTestFinished(stage.end)
  const { db, query } = stage
  const group = { publish_group: 'flip' }
  await registerTable(query, 'one', 'id integer primary key', fromQuery('select generate_series(1, 3) as id', group))
  await registerTable(query, 'two', 'id integer primary key', fromQuery('select id from sqp.one', group), { dependencies: ['sqp.one'] })
  const [asked] = await query<{ run: number }>(`select pawl.refresh_table('sqp.two', 'all') as run`)
  const member = `refresh:${asked?.run}:sqp.one`
  const steering = actBefore(
    db,
    text => text.startsWith('with done as'),
    async () => expect(await query('select pawl.cancel($1), pawl.retry($1)', [member])).toEqual([{ cancel: true, retry: true }]),
  )
  expect(await workAll(loadTable, { ...stage.options, db: steering })).not.toContain('failed')
  expect(await query('select state from pawl.checkpoints')).toEqual([{ state: 'completed' }, { state: 'completed' }])
  // The attempt that was cancelled, and the one whose rows these are.
  expect(await auditOf(query, 'one')).toMatchObject([{ status: 'success' }, { status: 'failed' }])
  expect(await query('select count(*) as rows from sqp.one join sqp.two using (id)')).toEqual([{ rows: 3 }])
})
