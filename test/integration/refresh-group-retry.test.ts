import { beforeEach, expect, onTestFinished, test } from 'vitest'
import type { Database, Query } from '../../src/database.ts'
import { loadTable } from '../../workers/refresh/load.ts'
import { handlerOptions, takeLease, workAll, workOne } from '../support/engine.ts'
import { actBefore } from '../support/refresh-publish.ts'
import { fromQuery, openRefreshStage, type RefreshStage, registerTable } from '../support/refresh.ts'
import { until } from '../support/until.ts'

let stage: RefreshStage
let run: (table: string) => string

/** Two tables that are published together, side by side, and a third one after them, which is not of their group. */
beforeEach(async () => {
  stage = await openRefreshStage()
  onTestFinished(stage.end)
  const { query } = stage
  const group = { publish_group: 'flip' }
  await registerTable(query, 'one', 'id integer primary key', fromQuery('select generate_series(1, 3) as id', group))
  await registerTable(query, 'two', 'id integer primary key', fromQuery('select generate_series(1, 3) as id', group))
  await registerTable(query, 'three', 'id integer primary key', fromQuery('select id from sqp.one join sqp.two using (id)'), {
    dependencies: ['sqp.one', 'sqp.two'],
  })
  const [asked] = await query<{ plan: number }>(`select pawl.refresh_table('sqp.three', 'all') as plan`)
  run = table => `refresh:${asked?.plan}:sqp.${table}`
})

const states = async () =>
  Object.fromEntries(
    (await stage.query<{ table: string; state: string }>(`select subject as table, state from pawl.checkpoints`)).map(row => [row.table, row.state]),
  )
const allCompleted = { 'sqp.one': 'completed', 'sqp.two': 'completed', 'sqp.three': 'completed' }
const rows = async () => (await stage.query<{ n: number }>('select count(*)::integer as n from sqp.three'))[0]?.n

/** Puts a transaction around the first statement like that, with something to be done before it and something behind. */
function around(db: Database, text: string, before: () => Promise<unknown>, behind: () => Promise<unknown>): Database {
  let isDone = false
  const query: Query = async (statement, values) => {
    if (isDone || !statement.includes(text)) return db.query(statement, values)
    isDone = true
    await before()
    return db.transact(async own => {
      const answer = await own(statement, values)
      await behind()
      return answer as never[]
    })
  }
  return { ...db, query }
}

test('one that is retried while another of its group is being skipped because of it brings that one back too', async () => {
  const { db, query } = stage
  const two = run('two')
  let retried: Promise<unknown> = Promise.resolve()
  const cancel = () => query('select pawl.cancel($1)', [two])
  const steered = around(db, 'pawl.stage_refresh', cancel, async () => {
    retried = query('select pawl.retry($1)', [two])
    await Promise.race([retried, until('the retry waits', async () => (await query('select from pg_locks where not granted'))[0])])
  })
  expect((await workOne(loadTable, { ...stage.options, db: steered }))?.output.outcome).toBe('completed')
  await retried
  await workAll(loadTable, stage.options)
  expect([await states(), await rows()]).toEqual([allCompleted, 3])
})

test('one that comes after a group, and is cancelled and retried while that is being published, waits for it', async () => {
  const { db, query } = stage
  const other = await takeLease(db, 'other', ['refresh.load'])
  onTestFinished(other.stop)
  const outcomes: unknown[] = []
  const steered = actBefore(
    db,
    text => text.startsWith('with done as'),
    async () => {
      await query('select pawl.cancel($1), pawl.retry($1)', [run('three')])
      outcomes.push((await workOne(loadTable, handlerOptions(db, other)))?.output.outcome)
    },
  )
  await workAll(loadTable, { ...stage.options, db: steered })
  expect(outcomes).toEqual(['parked'])
  expect([await states(), await rows()]).toEqual([allCompleted, 3])
})
