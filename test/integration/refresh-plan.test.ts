import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Query } from '../../src/database.ts'
import type { TestDatabase } from '../support/postgres.ts'
import {
  connectTo,
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

beforeAll(async () => {
  db = await createPlannerDatabase()
  query = db.query
})
afterAll(() => db.drop())
beforeEach(() => forgetRefreshes(query))

const ask = async (name: string | null, upstream: string | null = 'stale', downstream = false) =>
  (await query<{ run: number }>('select pawl.refresh_table($1, $2, $3) as run', [name, upstream, downstream]))[0]?.run
const tablesOf = async (run: number | null | undefined) =>
  (await query<{ table_name: string }>('select table_name from pawl.refresh_steps where refresh_run = $1', [run]))
    .map(row => row.table_name.replace('sqp.', ''))
    .sort()

describe('what is planned', () => {
  test('what is enabled, due and has a source; nothing else', async () => {
    await plant(query, {
      due: {},
      now: { next: '0' },
      later: { next: '1 minute' },
      never: { next: null },
      off: { enabled: false },
      sourceless: { source: null },
    })
    expect(await tablesOf(await planNow(query))).toEqual(['due', 'now'])
    expect(await planNow(query)).toBeNull()
  })

  test('once for each minute, and each table once, when five ask at the same moment', async () => {
    await plant(query, { a: {}, b: { after: ['a'] }, c: { after: ['b'] }, d: {} })
    const five = await connectTo(db, 5)
    try {
      const runs = await Promise.all(five.map(one => one.query<{ run: number | null }>('select pawl.plan_refresh() as run')))
      expect(runs.flat().filter(({ run }) => run !== null)).toHaveLength(1)
      expect(await query('select count(*) as runs from pawl.refresh_runs')).toEqual([{ runs: 1 }])
      expect(await query('select table_name from pawl.refresh_steps group by table_name having count(*) > 1')).toEqual([])
      expect((await readyTables(query)).sort()).toEqual(['a', 'd'])
      // And the minute after, while all of it is under way.
      expect(await planNow(query)).toBeNull()
    } finally {
      await Promise.all(five.map(one => one.close()))
    }
  })

  test('after days of downtime one refresh, and then the next slot of the old rhythm', async () => {
    await plant(query, {
      daily: { next: '-100 hours' },
      hourly: { next: '-61 minutes', hours: 1 },
      exact: { next: '-12 hours', hours: 6 },
      fresh: { next: '5 minutes', hours: 2 },
    })
    const run = await planNow(query)
    expect(await tablesOf(run)).toEqual(['daily', 'exact', 'hourly'])
    const before = await query<{ table_name: string; next: number; hours: number }>(
      'select table_name, extract(epoch from next_refresh_at)::float as next, refresh_frequency_hours as hours from sqp.refresh_config',
    )
    await drive(query)
    const after = await query<{ table_name: string; next: number; now: number }>(
      'select table_name, extract(epoch from next_refresh_at)::float as next, extract(epoch from now())::float as now from sqp.refresh_config',
    )
    for (const { table_name: name, next, now } of after) {
      const was = before.find(row => row.table_name === name)
      let slot = was?.next ?? 0
      while (slot <= now) slot += (was?.hours ?? 0) * 3600
      expect(next, name).toBeCloseTo(slot, 3)
    }
    expect(await planNow(query)).toBeNull()
  })

  test('what was skipped waits for its parent, and runs with its next success', async () => {
    await plant(query, { a: {}, b: { after: ['a'] }, c: { after: ['b'] } })
    await planNow(query)
    await drive(query, { 'sqp.a': 'refused' })
    expect(await statesNow(query)).toEqual({ a: 'failed', b: 'skipped', c: 'skipped' })
    expect(await planNow(query)).toBeNull()
    // Asked for alone, the parent lets its dependents into the next plan.
    await ask('a')
    await drive(query)
    expect(await tablesOf(await planNow(query))).toEqual(['b', 'c'])
    await drive(query)
    expect(await statesNow(query)).toEqual({ a: 'completed', b: 'completed', c: 'completed' })
  })

  test('what is held back for a failed parent holds back its own dependents, unless the parent has no turns any more', async () => {
    await plant(query, { a: { next: null }, b: { after: ['a'] }, c: { after: ['b'] }, soft: { softly: ['a'] } })
    await ask('a')
    await drive(query, { 'sqp.a': 'refused' })
    expect(await tablesOf(await planNow(query))).toEqual(['soft'])
    await query(`update sqp.refresh_config set custom_sync_params = '{}' where table_name = 'a'`)
    expect(await tablesOf(await planNow(query))).toEqual(['b', 'c'])
  })
})

describe('asked for', () => {
  test('a second request for what is under way joins it, waiting or running', async () => {
    await plant(query, { a: { next: '1 hour', last: '-1 hour' } })
    const run = await ask('a')
    expect(await ask('sqp.a')).toBe(run)
    expect(await readyTables(query)).toEqual(['a'])
    const started = await startStep(query, 'a')
    expect(await ask('a', 'all', true)).toBe(run)
    await finishStep(query, started)
    expect(await query('select count(*) from pgboss.job')).toEqual([{ count: 1 }])
    expect(await ask('a')).not.toBe(run)
  })

  test('what stands above and is old comes first, with all between; what is under way is waited for', async () => {
    await plant(query, {
      base: { next: '1 hour', last: '-1 hour' },
      old: { last: '-30 hours' },
      off: { enabled: false },
      middle: { next: '1 hour', last: '-1 hour', after: ['old'] },
      calm: { next: '1 hour', last: '-1 hour', after: ['off', 'base'] },
      top: { next: '1 hour', last: '-1 hour', after: ['middle', 'calm'] },
      below: { next: '1 hour', last: '-1 hour', after: ['top'] },
    })
    const once = async (upstream: string, downstream: boolean) => {
      const tables = await tablesOf(await ask('top', upstream, downstream))
      await query('delete from pawl.refresh_runs; delete from pawl.checkpoints')
      return tables
    }
    expect(await once('stale', false)).toEqual(['middle', 'old', 'top'])
    expect(await once('none', false)).toEqual(['top'])
    expect(await once('all', false)).toEqual(['base', 'calm', 'middle', 'old', 'top'])
    expect(await once('none', true)).toEqual(['below', 'top'])
    await ask('base')
    const run = await ask('top')
    expect(await tablesOf(run)).toEqual(['calm', 'middle', 'old', 'top'])
    expect((await stepsNow(query)).calm?.waiting_for).toEqual(['sqp.base'])
  })

  test('anything else is refused with a hint, and nothing is written', async () => {
    await plant(query, { a: {}, off: { enabled: false }, sourceless: { source: null } })
    const refused: [string | null, string | null, RegExp, RegExp][] = [
      ['nothing', 'stale', /"nothing" is not registered/, /sqp\.refresh_config/],
      [null, 'stale', /"null" is not registered/, /sqp\.refresh_config/],
      ['off', 'stale', /sqp\.off is disabled/, /set is_enabled = true where id = \d+/],
      ['sourceless', 'stale', /sqp\.sourceless has no source/, /custom_sync_params/],
      ['a', 'some', /stale, all or none, not some/, /stale/],
      ['a', null, /not null/, /stale/],
    ]
    for (const [name, upstream, message, hint] of refused) {
      expect(await failure(ask(name, upstream))).toMatchObject({ code: '22023', message: expect.stringMatching(message), hint: expect.stringMatching(hint) })
    }
    expect(
      await query('select (select count(*) from pawl.refresh_runs) + (select count(*) from pawl.checkpoints) + (select count(*) from pgboss.job) as written'),
    ).toEqual([{ written: 0 }])
  })
})

test('pawl.refresh_plan shows each state', async () => {
  await plant(query, {
    done: {},
    old: {},
    warned: { softly: ['old'] },
    skipped: { after: ['old'] },
    running: { after: ['done'] },
    ready: { after: ['done'] },
    waiting: { after: ['running', 'ready'] },
    cancelled: {},
  })
  await planNow(query)
  const old = await startStep(query, 'old')
  await query(`select pawl.fail($1, $2, 'boom', false)`, [old.runId, old.epoch])
  for (const table of ['done', 'warned']) await finishStep(query, await startStep(query, table))
  await query('select pawl.cancel(run_id) from pawl.refresh_steps where table_name = $1', ['sqp.cancelled'])
  await startStep(query, 'running')
  expect(await statesNow(query)).toEqual({
    done: 'completed',
    old: 'failed',
    warned: 'warning',
    skipped: 'skipped',
    running: 'running',
    ready: 'ready',
    waiting: 'waiting',
    cancelled: 'cancelled',
  })
  const steps = await stepsNow(query)
  expect(new Set(steps.waiting?.waiting_for as string[])).toEqual(new Set(['sqp.ready', 'sqp.running']))
  expect(steps.running).toMatchObject({ waiting_for: null, error: null })
  expect(steps.done).toMatchObject({ inserted: 1, error: null, warnings: [] })
})
