import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Database, openDatabase, type Query } from '../../src/database.ts'
import { readConfig } from '../../src/config.ts'
import { loadTable } from '../../workers/refresh/load.ts'
import { handlerOptions, type Lease, takeLease, workAll } from '../support/engine.ts'
import { silent, type TestDatabase } from '../support/postgres.ts'
import { fromQuery, registerTable } from '../support/refresh.ts'
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
let me: string
const leases: Lease[] = []

beforeAll(async () => {
  db = await createPlannerDatabase()
  query = db.query
  me = (await query<{ me: string }>('select session_user as me'))[0]?.me ?? ''
})
afterAll(() => db.drop())
beforeEach(() => forgetRefreshes(query))
afterEach(async () => {
  for (const lease of leases.splice(0)) await lease.stop()
})

async function lend(): Promise<Lease> {
  const lease = await takeLease(db, 'tester', ['refresh.load'])
  leases.push(lease)
  return lease
}

const runOf = async (table: string) => (await stepsNow(query))[table]?.run_id ?? ''
const cancel = async (table: string, reason: string | null = null) =>
  (await query<{ done: boolean }>('select pawl.cancel($1, $2) as done', [await runOf(table), reason]))[0]?.done

/** What pawl.why says of a table: one line, without holes where a value was missing. */
async function why(table: string): Promise<string> {
  const [row] = await query<{ why: string }>('select pawl.why($1)', [await runOf(table)])
  expect(row?.why).toMatch(/^[A-Z].*\.$/)
  expect(row?.why).not.toMatch(/\bnull\b| {2}|\(\)|%/)
  return row?.why ?? ''
}

describe('pawl.why', () => {
  test('waiting for a parent: names it; ready: says that a worker takes it', async () => {
    await lend()
    await plant(query, { a: {}, b: { after: ['a'] } })
    await planNow(query)
    expect(await why('b')).toBe(`Waiting for ${await runOf('a')}, which comes first; select pawl.why('${await runOf('a')}') says where that one is.`)
    expect(await why('a')).toMatch(/^Waiting in queue refresh\.load \(jobs before it: 0, workers alive: 1\)/)
    await finishStep(query, await startStep(query, 'a'))
    expect(await why('b')).toMatch(/^Waiting in queue refresh\.load/)
    expect((await stepsNow(query)).b).toMatchObject({ state: 'ready', waiting_for: null })
    expect(await why('a')).toMatch(/^Completed at \d{4}-.* nothing to do\. It took [\d:.]+ on worker tester\.$/)
  })

  test('waiting for its source: names source and limit, and a statement that lets it go on', async () => {
    const lease = await lend()
    await query(`insert into pawl.refresh_limits values ('sql', 1)`)
    await plant(query, { a: {}, b: {} })
    await planNow(query)
    const a = await startStep(query, 'a', lease.id)
    await startStep(query, 'b', lease.id)
    const text = await why('b')
    expect(text).toMatch(/^Waiting: 1 refreshes read from source sql, and its limit is 1;/)
    expect(await why('a')).toMatch(/^Running on worker tester/)
    const statement = /(update pawl\.refresh_limits set concurrency = )… (where source = 'sql')/.exec(text)
    await query(`${statement?.[1]} 2 ${statement?.[2]}`)
    expect(await why('b')).toMatch(/^Waiting in queue refresh\.load \(jobs before it: 0/)
    expect(await readyTables(query)).toEqual(['b'])
    await finishStep(query, a)
  })

  test('failed and skipped: the skipped one names the root, and its statement brings both back', async () => {
    await plant(query, { 'a table': {}, b: { after: ['a table'] }, c: { after: ['b'] } })
    await planNow(query)
    await drive(query, { 'sqp.a table': 'refused' })
    expect(await why('a table')).toMatch(/^Failed at .*: boom\. Mend the cause, then select pawl\.retry\('refresh:\d+:sqp\.a table'\)/)
    const text = await why('c')
    expect(text).toMatch(
      /^Skipped at .* because refresh:\d+:sqp\.a table failed: boom\. Mend that and select pawl\.retry\('refresh:\d+:sqp\.a table'\); this one follows it\.$/,
    )
    await query(/select pawl\.retry\('[^']*'\)/.exec(text)?.[0] ?? '')
    await drive(query)
    expect(await statesNow(query)).toEqual({ 'a table': 'completed', b: 'completed', c: 'completed' })
  })

  test('waiting for a retry, on a paused queue, cancelled, without a worker', async () => {
    await plant(query, { a: {} })
    await planNow(query)
    expect(await why('a')).toMatch(/no worker is running for queue refresh\.load/)
    await lend()
    const a = await startStep(query, 'a')
    await query(`select pawl.fail($1, $2, 'boom', true)`, [a.runId, a.epoch])
    await query(`update pgboss.job set state = 'retry', start_after = now() + interval '1 minute'`)
    expect(await why('a')).toMatch(/^Waiting for its retry 1 of 3 at \d{4}-.* after: boom\. select pawl\.retry/)
    await query(`select pawl.pause('refresh.load', 'nightly backup')`)
    expect(await why('a')).toMatch(new RegExp(`^Waiting: queue refresh\\.load was paused by ${me} .*\\(nightly backup\\)`))
    await cancel('a', 'not today')
    expect(await why('a')).toMatch(new RegExp(`^It was cancelled by ${me}: not today at `))
  })
})

describe('cancel', () => {
  test('of a waiting step ends it at once, and what depends on it is skipped, naming who cancelled', async () => {
    await plant(query, { a: {}, b: { after: ['a'] }, c: { after: ['b'] }, d: { softly: ['b'] } })
    await planNow(query)
    expect(await cancel('b', 'wrong data')).toBe(true)
    expect(await statesNow(query)).toEqual({ a: 'ready', b: 'cancelled', c: 'skipped', d: 'ready' })
    expect((await stepsNow(query)).c?.error).toBe(`${await runOf('b')} was cancelled by ${me}: wrong data`)
    await drive(query)
    expect(await statesNow(query)).toEqual({ a: 'completed', b: 'cancelled', c: 'skipped', d: 'warning' })
    expect(await cancel('c')).toBe(false)
    expect(await query(`select status, error_message from sqp.refresh_audit_log where table_name = 'd'`)).toEqual([
      { status: 'warning', error_message: `sqp.b was not refreshed (${await runOf('b')} was cancelled by ${me}: wrong data); its rows are of no refresh yet` },
    ])
  })

  test('of a running one stops it before it publishes; its table stays as it was', async () => {
    const lease = await lend()
    await query('create table if not exists public.origin as select 1 as id, 2 as amount')
    await registerTable(query, 'cancelled_one', 'id integer primary key, amount integer', fromQuery('select id, amount from public.origin'), {
      next: '2020-01-01',
    })
    await plant(query, { dependent: { after: ['cancelled_one'] } })
    await planNow(query)
    const watched = handlerOptions(db, lease, {
      db: {
        ...db,
        async query(text, values) {
          const rows = await db.query(text, values)
          if (text.includes('pawl.start_refresh')) await cancel('cancelled_one', 'too late')
          return rows as never[]
        },
      },
    })
    expect(await workAll(loadTable, watched)).toEqual(['cancel'])
    expect(await statesNow(query)).toEqual({ cancelled_one: 'cancelled', dependent: 'skipped' })
    expect(await query('select * from sqp.cancelled_one')).toEqual([])
    expect(await query(`select status, error_message from sqp.refresh_audit_log where table_name = 'cancelled_one'`)).toEqual([
      { status: 'failed', error_message: `cancelled by ${me}: too late` },
    ])
  })

  test('of the most urgent that waits for a source lets the next one go on', async () => {
    await query(`insert into pawl.refresh_limits values ('sql', 1)`)
    await plant(query, { a: { priority: 90 }, b: { priority: 80 }, c: { priority: 70 } })
    await planNow(query)
    const a = await startStep(query, 'a')
    for (const table of ['b', 'c']) await startStep(query, table)
    await finishStep(query, a)
    expect(await readyTables(query)).toEqual(['b'])
    await cancel('b')
    expect(await readyTables(query)).toContain('c')
    expect((await startStep(query, 'c')).outcome).toBe('started')
  })
})

describe('roles', () => {
  const logins: Record<string, Database> = {}
  const suffix = Math.floor(Math.random() * 1e9)

  beforeAll(async () => {
    for (const role of ['producer', 'operator', 'observer']) {
      await query(`create role refresh_${role}_${suffix} login password 'secret ${suffix}' in role pawl_${role}`)
      logins[role] = openDatabase(readConfig({ DATABASE_URL: db.urlAs(`refresh_${role}_${suffix}`, `secret ${suffix}`) }), silent, { max: 1 })
    }
  })
  afterAll(async () => {
    for (const login of Object.values(logins)) await login.close()
    for (const role of ['producer', 'operator', 'observer']) await query(`drop role refresh_${role}_${suffix}`)
  })

  const may = async (role: string, text: string) => {
    const error = (await failure(logins[role]?.query(text) ?? Promise.resolve())) as { code?: string }
    if (error.code !== undefined && error.code !== '42501') throw error
    return error.code === undefined
  }

  test('each may do what it is for, and nothing else', async () => {
    await plant(query, { a: {}, b: { after: ['a'] } })
    const acts: [string, string[]][] = [
      [`select pawl.refresh_table('a')`, ['producer', 'operator']],
      ['select * from pawl.refresh_plan', ['operator', 'observer']],
      ['select * from sqp.refresh_config', ['operator', 'observer']],
      ['select * from sqp.refresh_audit_log', ['operator', 'observer']],
      [
        `update sqp.refresh_config set is_enabled = true, priority = 70, refresh_frequency_hours = 12, next_refresh_at = now() where table_name = 'a'`,
        ['operator'],
      ],
      [`update sqp.refresh_config set dependencies = '{}' where table_name = 'a'`, ['operator']],
      [`update sqp.refresh_config set custom_sync_params = '{}' where table_name = 'a'`, []],
      [`update sqp.refresh_config set table_name = 'z' where table_name = 'a'`, []],
      [`insert into pawl.refresh_limits values ('duckdb', 2)`, ['operator']],
      [`update pawl.refresh_limits set concurrency = 3`, ['operator']],
      [`delete from pawl.refresh_limits`, ['operator']],
      ['select * from pawl.refresh_steps', []],
      [`insert into sqp.refresh_config (table_schema, table_name) values ('sqp', 'mine')`, []],
      ['delete from sqp.refresh_config', []],
      ['select pawl.plan_refresh()', []],
      [`select pawl.add_refresh_run(null, 'x', '{1}')`, []],
      [`select pawl.finish_refresh('x', 1, '{}', '{}')`, []],
      [`select pawl.refresh_changed('x', 'failed', 'x')`, []],
      [`select pawl.widen_refreshed_table('sqp', 'a', 'x', 'text')`, []],
    ]
    for (const [text, allowed] of acts) {
      for (const role of Object.keys(logins)) expect(await may(role, text), `${role}: ${text}`).toBe(allowed.includes(role))
    }
    const [asked] = await query<{ requested_by: string }>('select requested_by from pawl.refresh_runs')
    expect(asked?.requested_by).toMatch(/^refresh_producer_/)
  })
})
