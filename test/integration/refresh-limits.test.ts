import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { DirectConnection, Query } from '../../src/database.ts'
import type { TestDatabase } from '../support/postgres.ts'
import {
  connectTo,
  createPlannerDatabase,
  drive,
  finishStep,
  forgetRefreshes,
  plant,
  planNow,
  readyTables,
  startStep,
  stepsNow,
} from '../support/refresh-driver.ts'
import { until } from '../support/until.ts'

let db: TestDatabase
let query: Query

beforeAll(async () => {
  db = await createPlannerDatabase()
  query = db.query
})
afterAll(() => db.drop())
beforeEach(() => forgetRefreshes(query))

describe('limits of a source', () => {
  const many = Object.fromEntries(Array.from({ length: 6 }, (_, place) => [`t${place}`, { priority: 60 - 10 * place }]))

  test('never more at once, the most urgent first, none left waiting', async () => {
    await query(`insert into pawl.refresh_limits values ('sql', 2)`)
    await plant(query, { ...many, other: { source: 'duckdb', priority: 0 } })
    await planNow(query)
    const first = await startStep(query, 't0')
    expect((await startStep(query, 't1')).outcome).toBe('started')
    for (const table of ['t5', 't3', 't2', 't4']) expect((await startStep(query, table)).outcome).toBe('waits')
    expect((await startStep(query, 'other')).outcome).toBe('started')
    expect(await readyTables(query)).toEqual([])
    expect((await stepsNow(query)).t3).toMatchObject({ state: 'waiting', waiting_for: ['source sql'] })
    await finishStep(query, first)
    expect(await readyTables(query)).toEqual(['t2'])
    expect((await stepsNow(query)).t2).toMatchObject({ state: 'ready', waiting_for: null })
    expect((await startStep(query, 't2')).outcome).toBe('started')
    expect(await readyTables(query)).toEqual([])
  })

  test('hundreds of turns in random order keep it, with failures, deaths and retries', async () => {
    await query(`insert into pawl.refresh_limits values ('sql', 3)`)
    await plant(query, Object.fromEntries(Array.from({ length: 60 }, (_, place) => [`t${place}`, place > 20 ? { softly: [`t${place - 20}`] } : {}])))
    await planNow(query)
    const fates = Object.fromEntries(Array.from({ length: 60 }, (_, place) => [`sqp.t${place}`, ['works', 'fails', 'stumbles', 'dies'][place % 4] ?? 'works']))
    await drive(
      query,
      fates,
      Array.from({ length: 89 }, () => Math.floor(Math.random() * 1e6)),
    )
    expect(await query('select outcome is null as unfinished, count(*) from pawl.refresh_steps group by 1')).toEqual([{ unfinished: false, count: 60 }])
  })

  test('one that waits for its retry, or whose worker died, gives its place away', async () => {
    await query(`insert into pawl.refresh_limits values ('sql', 1)`)
    await plant(query, { a: { priority: 90 }, b: { priority: 80 }, c: { priority: 70 } })
    await planNow(query)
    const a = await startStep(query, 'a')
    for (const table of ['b', 'c']) expect((await startStep(query, table)).outcome).toBe('waits')
    await query(`select pawl.fail($1, $2, 'boom', true)`, [a.runId, a.epoch])
    expect(await readyTables(query)).toEqual(['b'])
    const b = await startStep(query, 'b')
    expect(b.outcome).toBe('started')
    await query(`select pawl.note_crash($1), pawl.deliver($1)`, [b.runId])
    expect((await startStep(query, 'c')).outcome).toBe('started')
    expect((await startStep(query, 'b')).outcome).toBe('waits')
  })

  test('a higher limit, or none any more, takes effect at once', async () => {
    await query(`insert into pawl.refresh_limits values ('sql', 1)`)
    await plant(query, many)
    await planNow(query)
    for (const table of Object.keys(many)) await startStep(query, table)
    await query(`update pawl.refresh_limits set concurrency = 3 where source = 'sql'`)
    expect(await readyTables(query)).toEqual(['t1', 't2'])
    await query(`delete from pawl.refresh_limits`)
    expect(await readyTables(query)).toEqual(['t1', 't2', 't3', 't4', 't5'])
  })

  test('a group that is published together comes through a source that takes one at a time', async () => {
    await query(`insert into pawl.refresh_limits values ('sql', 1)`)
    await plant(query, { a: { group: 'g' }, b: { group: 'g' }, c: {} })
    await planNow(query)
    const a = await startStep(query, 'a')
    expect((await startStep(query, 'b')).outcome).toBe('waits')
    await query('select pawl.stage_refresh($1, $2)', [a.runId, a.epoch])
    expect(await readyTables(query)).toContain('b')
    const b = await startStep(query, 'b')
    const [staged] = await query<{ staged: { outcome: string; members: unknown[] } }>('select pawl.stage_refresh($1, $2) as staged', [b.runId, b.epoch])
    expect(staged?.staged).toMatchObject({ outcome: 'publish', members: [{ table: 'a' }, { table: 'b' }] })
  })

  test('nobody lies down behind one that is just ending', async () => {
    await query(`insert into pawl.refresh_limits values ('sql', 1)`)
    await plant(query, { a: {}, b: {} })
    await planNow(query)
    const a = await startStep(query, 'a')
    const [ending] = (await connectTo(db, 1)) as [DirectConnection]
    try {
      await ending.query('begin')
      await ending.query(`select pawl.finish_refresh($1, $2, '{}', '{}')`, [a.runId, a.epoch])
      const b = startStep(query, 'b')
      await until(
        'b waits for the end of a',
        async () => (await query(`select from pg_stat_activity where wait_event = 'advisory' and datname = current_database()`)).length > 0,
      )
      await ending.query('commit')
      expect((await b).outcome).toBe('started')
    } finally {
      await ending.close()
    }
  })
})
