import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Query } from '../../src/database.ts'
import { loadTable } from '../../workers/refresh/load.ts'
import { handlerOptions, type Lease, takeLease, workAll, workOne } from '../support/engine.ts'
import type { TestDatabase } from '../support/postgres.ts'
import {
  createPlannerDatabase,
  drive,
  failure,
  finishStep,
  forgetRefreshes,
  plant,
  planNow,
  readyTables,
  startStep,
  statesNow,
  stepsNow,
} from '../support/refresh-driver.ts'

let db: TestDatabase
let query: Query
let lease: Lease

beforeAll(async () => {
  db = await createPlannerDatabase()
  query = db.query
  lease = await takeLease(db, 'tester', ['refresh.load'])
})
afterAll(async () => {
  await lease.stop()
  await db.drop()
})
beforeEach(() => forgetRefreshes(query))

const runOf = async (table: string) => (await stepsNow(query))[table]?.run_id ?? ''
const retry = async (table: string) => (await query<{ done: boolean }>('select pawl.retry($1) as done', [await runOf(table)]))[0]?.done

describe('retry', () => {
  test('of a failed one brings back what was skipped for it, and all of it completes', async () => {
    await plant(query, { a: {}, b: { after: ['a'] }, c: { softly: ['b'] }, other: {}, d: { after: ['b', 'other'] } })
    await planNow(query)
    await drive(query, { 'sqp.a': 'fails', 'sqp.other': 'refused' })
    expect(await statesNow(query)).toEqual({ a: 'failed', b: 'skipped', c: 'warning', other: 'failed', d: 'skipped' })
    // Two things stand in its way, and it comes back with the second.
    for (const table of ['other', 'a']) {
      expect(await retry(table)).toBe(true)
      await drive(query)
    }
    expect(await statesNow(query)).toEqual({ a: 'completed', b: 'completed', c: 'warning', other: 'completed', d: 'completed' })
    expect(await retry('a')).toBe(false)
  })

  test('brings nothing back that something else keeps from running', async () => {
    await plant(query, { a: {}, b: {}, c: { after: ['a', 'b'] }, d: { after: ['c'] } })
    await planNow(query)
    await drive(query, { 'sqp.a': 'refused', 'sqp.b': 'refused' })
    const first = /sqp\.(\w)/.exec((await stepsNow(query)).c?.error ?? '')?.[1] ?? ''
    await retry(first)
    await drive(query)
    expect(await statesNow(query)).toMatchObject({ [first]: 'completed', c: 'skipped', d: 'skipped' })
    const second = first === 'a' ? 'b' : 'a'
    expect((await stepsNow(query)).d?.error).toContain(`sqp.${second} failed: boom`)
    await retry(second)
    await drive(query)
    expect(await statesNow(query)).toEqual({ a: 'completed', b: 'completed', c: 'completed', d: 'completed' })
  })

  test('keeps the warning of a soft parent that still is old, and drops it where that one was mended too', async () => {
    await plant(query, { s: {}, a: {}, b: { softly: ['s'], after: ['a'] }, c: { softly: ['s'] } })
    await planNow(query)
    await drive(query, { 'sqp.s': 'refused', 'sqp.a': 'refused', 'sqp.c': 'refused' })
    await retry('a')
    await drive(query)
    expect(await statesNow(query)).toEqual({ s: 'failed', a: 'completed', b: 'warning', c: 'failed' })
    await retry('s')
    await retry('c')
    await drive(query)
    expect(await statesNow(query)).toEqual({ s: 'completed', a: 'completed', b: 'warning', c: 'completed' })
    expect(await query(`select status from sqp.refresh_audit_log where table_name = 'b' order by id`)).toEqual([{ status: 'failed' }, { status: 'warning' }])
  })

  test('is refused for a skipped one, below what has failed, and where the table was planned again', async () => {
    await plant(query, { a: {}, b: { after: ['a'] }, c: { after: ['b'] } })
    await planNow(query)
    await query('select pawl.cancel($1)', [await runOf('b')])
    await drive(query, { 'sqp.a': 'refused' })
    expect(await failure(retry('c'))).toMatchObject({
      code: '22023',
      message: expect.stringContaining('was skipped because'),
      hint: `retry that one: select pawl.retry('${await runOf('b')}'); this one follows it`,
    })
    expect(await failure(retry('b'))).toMatchObject({ code: '22023', hint: `retry that one first: select pawl.retry('${await runOf('a')}')` })
    const old = await runOf('a')
    await query(`select pawl.refresh_table('a')`)
    const again = await runOf('a')
    expect(await failure(query('select pawl.retry($1)', [old]))).toMatchObject({
      code: '22023',
      message: expect.stringContaining(`planned again as ${again}`),
      hint: `select pawl.why('${again}')`,
    })
    expect(await statesNow(query)).toEqual({ a: 'ready', b: 'cancelled', c: 'skipped' })
    await drive(query)
    await retry('b')
    await drive(query)
    expect(await statesNow(query)).toEqual({ a: 'completed', b: 'completed', c: 'completed' })
  })

  test('brings back the latest step only of a table that was skipped twice for the same', async () => {
    await plant(query, { a: {}, b: { after: ['a'] } })
    await planNow(query)
    await drive(query, { 'sqp.a': 'refused' })
    const first = await runOf('b')
    await query(`select pawl.refresh_table('b', 'none')`)
    await query('select pawl.retry($1)', [await runOf('a')])
    await finishStep(query, await startStep(query, 'b'))
    await query(`select pawl.refresh_table('b', 'none')`)
    await drive(query, { 'sqp.a': 'refused' })
    expect(await statesNow(query)).toEqual({ a: 'failed', b: 'skipped' })
    expect(await retry('a')).toBe(true)
    await drive(query)
    expect(await statesNow(query)).toEqual({ a: 'completed', b: 'completed' })
    expect(await query('select outcome from pawl.refresh_steps where run_id = $1', [first])).toEqual([{ outcome: 'skipped' }])
  })
})

describe('a configuration deleted in mid-run', () => {
  test('ends a waiting run as cancelled, without an error, and what waited for it goes on', async () => {
    await plant(query, { a: {}, b: { after: ['a'] } })
    await planNow(query)
    const run = await runOf('a')
    await query(`delete from sqp.refresh_config where table_name = 'a'`)
    expect(await workOne(loadTable, handlerOptions(db, lease))).toMatchObject({ output: { outcome: 'gone' } })
    expect(await query('select state, error from pawl.runs where run_id = $1', [run])).toEqual([
      { state: 'cancelled', error: 'cancelled: what it worked on was deleted' },
    ])
    expect(await readyTables(query)).toEqual(['b'])
    expect(await statesNow(query)).toEqual({ b: 'ready' })
  })

  test('ends a running one as cancelled, and leaves no audit row running', async () => {
    await plant(query, { a: {}, b: { after: ['a'] } })
    await planNow(query)
    const a = await startStep(query, 'a')
    await query(`delete from sqp.refresh_config where table_name = 'a'`)
    await finishStep(query, a)
    expect(await query('select state from pawl.runs where run_id = $1', [a.runId])).toEqual([{ state: 'cancelled' }])
    expect(await query('select status from sqp.refresh_audit_log')).toEqual([{ status: 'failed' }])
    expect(await readyTables(query)).toEqual(['b'])
    await drive(query)
    expect(await statesNow(query)).toEqual({ b: 'completed' })
  })

  test('an attempt that failed before its turn began has its audit row, too', async () => {
    await plant(query, { a: {}, b: { after: ['a'] } })
    await planNow(query)
    await query(`update sqp.refresh_config set is_enabled = false where table_name = 'a'`)
    expect(await workAll(loadTable, handlerOptions(db, lease))).toEqual(['failed'])
    expect(await statesNow(query)).toEqual({ a: 'failed', b: 'skipped' })
    expect(await query('select table_name, status, error_message from sqp.refresh_audit_log order by id')).toEqual([
      { table_name: 'a', status: 'failed', error_message: 'refresh of sqp.a is disabled' },
      { table_name: 'b', status: 'failed', error_message: `skipped: ${await runOf('a')} failed: refresh of sqp.a is disabled` },
    ])
  })
})
