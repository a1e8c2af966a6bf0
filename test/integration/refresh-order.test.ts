import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { DirectConnection, Query } from '../../src/database.ts'
import type { TestDatabase } from '../support/postgres.ts'
import {
  connectTo,
  createPlannerDatabase,
  drive,
  failure,
  forgetRefreshes,
  type Planted,
  plant,
  planNow,
  readyTables,
  statesNow,
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

const depend = (parent: string, child: string) =>
  query(
    `insert into sqp.refresh_dependencies (parent_config_id, dependent_config_id)
     select p.id, c.id from sqp.refresh_config p, sqp.refresh_config c where p.table_name = $1 and c.table_name = $2`,
    [parent, child],
  )

describe('the order', () => {
  test('urgency is what the rule says, computed otherwise, on 20 random graphs, and jobs come in its order', async () => {
    for (let graph = 0; graph < 20; graph += 1) {
      await forgetRefreshes(query)
      const size = 4 + (graph % 9)
      const tables: Record<string, Planted> = {}
      for (let at = 0; at < size; at += 1) {
        const parents = Array.from({ length: at }, (_, parent) => `t${parent}`).filter(() => Math.random() < 0.3)
        tables[`t${at}`] = {
          priority: Math.floor(Math.random() * 100),
          next: `-${Math.floor(Math.random() * 9000)} seconds`,
          ...(at % 2 === 0 ? { after: parents } : { softly: parents }),
        }
      }
      await plant(query, tables)
      await query(`
        insert into sqp.refresh_audit_log (refresh_config_id, table_schema, table_name, refresh_started_at, status, execution_time_ms)
        select c.id, 'sqp', c.table_name, now() - i * interval '1 day', (array['success', 'warning', 'failed'])[1 + i % 3], random() * 600000
        from sqp.refresh_config c, generate_series(1, 14) i where c.id % 3 > 0`)
      const durations = await query<{ table_name: string; took: number[] }>(`
        select table_name, array_agg(execution_time_ms order by refresh_started_at desc) as took from sqp.refresh_audit_log where status <> 'failed' group by table_name`)
      const dues = await query<{ table_name: string; next: number }>(
        'select table_name, extract(epoch from next_refresh_at)::float as next from sqp.refresh_config',
      )
      await planNow(query)
      const estimate = (name: string) => {
        const took = durations.find(row => row.table_name === name)?.took.slice(0, 10)
        if (took === undefined) return 60
        const weights = took.map((_, place) => 0.7 ** place)
        return Math.round(took.reduce((sum, ms, place) => sum + ms * (weights[place] ?? 0), 0) / weights.reduce((sum, weight) => sum + weight, 0)) / 1000
      }
      const urgency = (name: string): number => {
        const due = (dues.find(row => row.table_name === name)?.next ?? 0) - 60 * (tables[name]?.priority ?? 0)
        const below = Object.keys(tables).filter(child => [...(tables[child]?.after ?? []), ...(tables[child]?.softly ?? [])].includes(name))
        return Math.min(due, ...below.map(urgency)) - estimate(name)
      }
      const steps = await query<{ name: string; urgency: number; priority: number }>(
        `select replace(s.table_name, 'sqp.', '') as name, s.urgency, c.priority from pawl.refresh_steps s join pawl.checkpoints c using (run_id)`,
      )
      expect(steps).toHaveLength(size)
      for (const step of steps) {
        expect(Math.abs(step.urgency - urgency(step.name)), step.name).toBeLessThan(0.01)
        expect(Math.abs(step.priority - (1767225600 - step.urgency)), step.name).toBeLessThanOrEqual(0.51)
      }
      const jobs = await query<{ data: { run_id: string }; priority: number; urgency: number }>(
        `select j.priority, s.urgency from pgboss.job j join pawl.refresh_steps s on s.run_id = j.data ->> 'run_id' order by j.priority desc, s.urgency`,
      )
      expect(jobs.map(job => job.urgency)).toEqual(jobs.map(job => job.urgency).toSorted((one, other) => one - other))
      expect(jobs.length).toBe(Object.values(tables).filter(table => (table.after ?? table.softly ?? []).length === 0).length)
    }
  })

  test('age counts: an hour beats 59 points of priority, and not 61', async () => {
    await plant(query, { old: { next: '-1 hour', priority: 10 } })
    await planNow(query)
    await plant(query, { newer: { next: '0', priority: 69 }, newest: { next: '0', priority: 71 } })
    await planNow(query)
    expect(await readyTables(query)).toEqual(['newest', 'old', 'newer'])
  })

  test('a dependent carries its urgency up to what it waits for', async () => {
    await plant(query, { plain: { priority: 60 }, base: { priority: 1 }, middle: { priority: 1, after: ['base'] }, top: { priority: 100, softly: ['middle'] } })
    await planNow(query)
    expect(await readyTables(query)).toEqual(['base', 'plain'])
  })
})

describe('circles', () => {
  test('are refused wherever they are closed, naming the circle', async () => {
    await plant(query, { a: {}, b: { after: ['a'] }, c: { named: ['b'] } })
    expect(await failure(depend('c', 'a'))).toMatchObject({
      code: '23514',
      message: 'dependency cycle: sqp.c → sqp.a → sqp.b → sqp.c',
      hint: expect.stringMatching(/take one/),
    })
    expect(await failure(query(`update sqp.refresh_config set dependencies = '{c}' where table_name = 'a'`))).toMatchObject({
      code: '23514',
      message: 'dependency cycle: sqp.a → sqp.b → sqp.c → sqp.a',
    })
    expect(await failure(query(`update sqp.refresh_config set dependencies = '{sqp.a}' where table_name = 'a'`))).toMatchObject({
      message: 'dependency cycle: sqp.a → sqp.a',
    })
    await query(`update sqp.refresh_config set dependencies = '{d}' where table_name = 'a'`)
    expect(await failure(plant(query, { d: { named: ['c'] } }))).toMatchObject({
      code: '23514',
      message: expect.stringContaining('sqp.d → sqp.a → sqp.b → sqp.c → sqp.d'),
    })
    expect(await query('select count(*) as edges from pawl.refresh_edges')).toEqual([{ edges: 2 }])
  })

  test('are refused when two transactions each close one half, one in the table and one in the array', async () => {
    await plant(query, { a: {}, b: {} })
    const [one, other] = (await connectTo(db, 2)) as [DirectConnection, DirectConnection]
    try {
      await one.query('begin')
      await one.query(`insert into sqp.refresh_dependencies (parent_config_id, dependent_config_id)
        select p.id, c.id from sqp.refresh_config p, sqp.refresh_config c where p.table_name = 'a' and c.table_name = 'b'`)
      const late = failure(other.query(`update sqp.refresh_config set dependencies = '{b}' where table_name = 'a'`))
      await until(
        'the second waits',
        async () => (await query(`select from pg_stat_activity where application_name = 'planner 1' and wait_event_type = 'Lock'`)).length > 0,
      )
      await one.query('commit')
      expect(await late).toMatchObject({ code: '23514', message: 'dependency cycle: sqp.a → sqp.b → sqp.a' })
    } finally {
      await one.close()
      await other.close()
    }
  })

  test('that came in past the triggers fail alone; what depends on them is skipped, all else is refreshed', async () => {
    await plant(query, {
      a: {},
      b: { after: ['a'] },
      c: { after: ['b'] },
      behind: { after: ['c'] },
      beside: { softly: ['b'] },
      before: {},
      free: { after: ['before'] },
      x: {},
      y: { named: ['x'] },
    })
    await query(`update sqp.refresh_config set dependencies = '{before}' where table_name = 'b'`)
    await db.transact(async on => {
      await on('set local session_replication_role = replica')
      await on(`insert into sqp.refresh_dependencies (parent_config_id, dependent_config_id)
        select p.id, c.id from sqp.refresh_config p, sqp.refresh_config c where (p.table_name, c.table_name) in (('c', 'a'), ('y', 'x'))`)
    })
    await planNow(query)
    await drive(query)
    expect(await statesNow(query)).toEqual({
      a: 'failed',
      b: 'failed',
      c: 'failed',
      x: 'failed',
      y: 'failed',
      behind: 'skipped',
      beside: 'warning',
      before: 'completed',
      free: 'completed',
    })
    const steps = await stepsNow(query)
    expect(steps.b?.error).toBe('dependency cycle: sqp.b → sqp.c → sqp.a → sqp.b; take one of these dependencies out')
    expect(steps.y?.error).toContain('sqp.y → sqp.x → sqp.y')
    expect(steps.behind?.error).toContain('dependency cycle: sqp.c → sqp.a → sqp.b → sqp.c')
    expect(steps.beside?.warnings[0]).toContain('dependency cycle')
  })
})

test('a chain of 300 whose root fails skips 299, each naming the root', async () => {
  const name = (place: number) => `t${String(300 - place).padStart(3, '0')}`
  await plant(query, Object.fromEntries(Array.from({ length: 300 }, (_, place) => [name(place), {}])))
  for (let place = 1; place < 300; place += 1) await depend(name(place - 1), name(place))
  await planNow(query)
  await drive(query, { [`sqp.${name(0)}`]: 'refused' })
  expect(
    await query(
      `select outcome, count(*) from pawl.refresh_steps where cause is null or cause like 'refresh:%:sqp.t300 failed: boom' group by outcome order by outcome`,
    ),
  ).toEqual([
    { outcome: 'failed', count: 1 },
    { outcome: 'skipped', count: 299 },
  ])
  expect(await query(`select count(*) from pawl.checkpoints where state in ('pending', 'running')`)).toEqual([{ count: 0 }])
  expect(await query(`select count(*) from sqp.refresh_audit_log`)).toEqual([{ count: 300 }])
})

test('40 dependents that also depend on each other softly are all skipped', async () => {
  const tables: Record<string, Planted> = { root: {} }
  for (let at = 0; at < 40; at += 1) tables[`t${at}`] = { after: ['root'], softly: Array.from({ length: at }, (_, parent) => `t${parent}`) }
  await plant(query, tables)
  await planNow(query)
  await drive(query, { 'sqp.root': 'refused' })
  expect(await query('select outcome, count(*) from pawl.refresh_steps group by outcome order by outcome')).toEqual([
    { outcome: 'failed', count: 1 },
    { outcome: 'skipped', count: 40 },
  ])
  expect(await query('select count(*) from pgboss.job')).toEqual([{ count: 1 }])
})
