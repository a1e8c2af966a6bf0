import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Query } from '../../src/database.ts'
import { type Edge, ends, type Expected, type Fate, type Graph, planned, type Request, type Table } from '../support/oracle.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createPlannerDatabase, type Diary, drive } from '../support/refresh-driver.ts'

const GRAPHS = Number(process.env.PAWL_TEST_GRAPHS ?? 200)
const SEED = Number(process.env.PAWL_TEST_SEED ?? (Date.now() % 1_000_000) * 1000)

let db: TestDatabase

beforeAll(async () => {
  db = await createPlannerDatabase()
})
afterAll(() => db.drop())

type Random = (below: number) => number

function randomFrom(seed: number): Random {
  let state = seed >>> 0
  return below => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

type Case = { graph: Graph; request: Request | undefined; ranks: number[]; limit: number; picks: number[]; retries: boolean }

function randomCase(random: Random): Case {
  const size = random(20) === 0 ? 30 : 3 + random(13)
  const oneOf = <Item>(items: readonly Item[]) => items[random(items.length)] as Item
  // Ids say nothing of the order: ranks do.
  const ranks = Array.from({ length: size }, (_, place) => place + 1)
  for (let at = size - 1; at > 0; at -= 1) {
    const other = random(at + 1)
    ;[ranks[at], ranks[other]] = [ranks[other] as number, ranks[at] as number]
  }
  const manual = random(3) === 0
  const fates: readonly Fate[] = ['works', 'works', 'works', 'works', 'works', 'works', 'stumbles', 'dies', 'fails', 'refused', 'cancelled']
  const tables = ranks.map<Table>(id => ({
    id,
    enabled: random(10) > 0,
    next: random(12) === 0 ? null : manual || random(6) === 0 ? random(80) - 40 : 0 - random(80),
    last: random(4) === 0 ? null : -1 - random(50),
    every: oneOf([1, 6, 24]),
    fate: oneOf(fates),
    source: oneOf(['sql', 'sql', 'postgres']),
    priority: random(100),
  }))
  const density = 2 + random(size)
  const edges: Edge[] = []
  for (let child = 1; child < size; child += 1) {
    for (let parent = 0; parent < child; parent += 1) {
      if (random(density) === 0) edges.push({ parent: ranks[parent] as number, child: ranks[child] as number, hard: random(3) > 0 })
    }
  }
  const askable = tables.filter(table => table.enabled)
  const request =
    manual && askable.length > 0 ? { table: oneOf(askable).id, upstream: oneOf(['stale', 'all', 'none'] as const), downstream: random(2) === 0 } : undefined
  return { graph: { tables, edges }, request, ranks, limit: random(3), picks: Array.from({ length: 97 }, () => random(1_000_000)), retries: random(2) === 0 }
}

async function register(query: Query, { graph, limit }: Case, random: Random): Promise<void> {
  // Some hard edges stand in the array, as a bare or a qualified name, some of them in both places.
  const named = graph.edges.filter(edge => edge.hard && random(2) === 0)
  const rows = graph.edges
    .filter(edge => !named.includes(edge) || random(5) === 0)
    .map(edge => ({ ...edge, hard: named.includes(edge) ? random(2) === 0 : edge.hard }))
  const tables = graph.tables.map(table => ({
    ...table,
    dependencies: named.filter(edge => edge.child === table.id).map(edge => (random(2) === 0 ? `t${edge.parent}` : `sqp.t${edge.parent}`)),
  }))
  if (limit > 0) await query(`insert into pawl.refresh_limits values ('sql', $1)`, [limit])
  await query(
    `insert into sqp.refresh_config (id, table_schema, table_name, is_enabled, refresh_frequency_hours, priority, next_refresh_at, last_refresh_at, custom_sync_params, dependencies)
     select t.id, 'sqp', 't' || t.id, t.enabled, t.every, t.priority, now() + t.next * interval '1 hour', now() + t.last * interval '1 hour',
       jsonb_build_object('source', t.source), t.dependencies
     from jsonb_to_recordset($1) t (id integer, enabled boolean, every integer, priority integer, next numeric, last numeric, source text, dependencies text[])`,
    [JSON.stringify(tables)],
  )
  await query(
    `insert into sqp.refresh_dependencies (parent_config_id, dependent_config_id, dependency_type)
     select e.parent, e.child, case when e.hard then 'hard' else 'soft' end from jsonb_to_recordset($1) e (parent integer, child integer, hard boolean)`,
    [JSON.stringify(rows)],
  )
}

const fatesOf = (tables: readonly Table[]) => Object.fromEntries(tables.map(table => [`sqp.t${table.id}`, table.fate]))

const tableOf = (run: string) => Number(/\.t(\d+)$/.exec(run)?.[1])

type Found = {
  id: number
  state: string
  waiting: number
  error: string | null
  attempts: number
  skips: number
  running: number
  next: number | null
  last: number | null
  warnings: number
}

/** What the database holds of each table of the plan, and of all others. */
function look(query: Query): Promise<Found[]> {
  return query<Found>(`
    select c.id, coalesce(s.outcome, case when s.run_id is not null then 'unfinished' else 'unplanned' end) as state,
      (k.state in ('pending', 'running'))::integer as waiting, coalesce(s.cause, k.error) as error, a.attempts, a.skips, a.running,
      round(extract(epoch from c.next_refresh_at - now()) / 3600, 3)::float as next, round(extract(epoch from c.last_refresh_at - now()) / 3600)::float as last,
      a.warnings
    from sqp.refresh_config c
    left join lateral (select * from pawl.refresh_steps s where s.config_id = c.id order by s.place desc limit 1) s on true
    left join pawl.checkpoints k using (run_id)
    cross join lateral (
      select count(*) filter (where l.error_details ->> 'state' is distinct from 'skipped') as attempts, count(*) filter (where l.error_details ->> 'state' = 'skipped') as skips,
        count(*) filter (where l.status = 'running') as running, count(*) filter (where l.status = 'warning') as warnings
      from sqp.refresh_audit_log l where l.refresh_config_id = c.id
    ) a
    order by c.id`)
}

/** Every table stands as the oracle says. `order` are the tables that failed, the first one first: a skip names the earliest. */
function compare(found: Found[], graph: Graph, expected: Map<number, Expected>, order: number[] | undefined): void {
  for (const row of found) {
    const wanted = expected.get(row.id)
    const table = graph.tables.find(one => one.id === row.id)
    const what = `table ${row.id}`
    if (wanted === undefined || table === undefined) {
      expect(row, what).toMatchObject({ state: 'unplanned', next: table?.next, last: table?.last, attempts: 0, skips: 0 })
      continue
    }
    expect({ state: row.state, waiting: row.waiting, running: row.running }, what).toEqual({ state: wanted.state, waiting: 0, running: 0 })
    if (wanted.state === 'skipped') {
      const root = tableOf(/^(\S+)/.exec(row.error ?? '')?.[1] ?? '')
      expect([...wanted.roots], `${what}: ${row.error}`).toContain(root)
      if (order !== undefined) expect(root, `${what}: ${row.error}`).toBe(order.find(id => wanted.roots.has(id)))
      expect(row.error, what).toMatch(/ (failed: boom|was cancelled by )/)
    }
    if (order === undefined) continue
    const skipped = wanted.state === 'skipped'
    expect({ attempts: row.attempts, skips: row.skips, warnings: row.warnings }, what).toEqual({
      attempts: wanted.attempts,
      skips: skipped ? 1 : 0,
      warnings: wanted.state === 'warning' ? 1 : 0,
    })
    const moves = table.next !== null && table.next <= 0 && !skipped
    expect(row.next, `${what}: next`).toBe(moves ? (table.next ?? 0) + table.every * (Math.floor(-(table.next ?? 0) / table.every) + 1) : table.next)
    expect(row.last, `${what}: last`).toBe(wanted.state === 'completed' || wanted.state === 'warning' ? 0 : table.last)
  }
}

/** No step starts before its parents have ended, and none that has succeeded starts again. */
function inOrder(diary: Diary, graph: Graph, plan: Set<number>): void {
  const over = new Set<number>()
  const succeeded = new Set<number>()
  // Skipped and cancelled parents leave no entry; they ended before what depends on them.
  const acting = new Set(diary.map(entry => tableOf(entry.run)))
  for (const { act, run } of diary) {
    const id = tableOf(run)
    if (act === 'start') {
      expect(succeeded.has(id), `${run} again`).toBe(false)
      for (const edge of graph.edges) {
        if (edge.child === id && plan.has(edge.parent) && acting.has(edge.parent)) expect(over.has(edge.parent), `${run} before ${edge.parent}`).toBe(true)
      }
    } else {
      over.add(id)
      if (act === 'end') succeeded.add(id)
    }
  }
}

async function play(query: Query, seed: number): Promise<{ steps: number; ended: Record<string, number> }> {
  const random = randomFrom(seed)
  const one = randomCase(random)
  const { graph, request } = one
  await register(query, one, random)
  const plan = planned(graph, request)
  if (request === undefined) await query('select pawl.plan_refresh()')
  else await query('select pawl.refresh_table($1, $2, $3)', [`t${request.table}`, request.upstream, request.downstream])
  // Dependents first, else they would be skipped before.
  const cancelled = one.ranks.filter(id => plan.has(id) && graph.tables.find(table => table.id === id)?.fate === 'cancelled').toReversed()
  for (const id of cancelled) await query(`select pawl.cancel(run_id, 'not today') from pawl.refresh_steps where config_id = $1`, [id])
  const diary = await drive(query, fatesOf(graph.tables), one.picks)
  inOrder(diary, graph, plan)
  const expected = ends(graph, plan)
  const failed = diary.filter(entry => entry.act === 'fail').map(entry => tableOf(entry.run))
  compare(await look(query), graph, expected, [...cancelled, ...failed])
  // What was skipped has no turn of its own.
  await query(`update pawl.refresh_runs set slot = slot - interval '1 day'`)
  if (request === undefined) expect(await query('select pawl.plan_refresh() as run')).toEqual([{ run: null }])
  if (one.retries) await retrySome(query, one, expected, failed, random)
  else if (request === undefined) await nextTurn(query, one, expected)
  const ended: Record<string, number> = {}
  for (const { state } of expected.values()) ended[state] = (ended[state] ?? 0) + 1
  return { steps: plan.size, ended }
}

/** An operator retries some of what failed: they work now, and what they kept from running follows where nothing else does. */
async function retrySome(query: Query, { graph, picks }: Case, first: Map<number, Expected>, failed: number[], random: Random): Promise<void> {
  const again = failed.filter(() => random(3) > 0)
  for (const id of again) await query('select pawl.retry(run_id) from pawl.refresh_steps where config_id = $1', [id])
  const mended = { ...graph, tables: graph.tables.map(table => (again.includes(table.id) ? { ...table, fate: 'works' as const } : table)) }
  const plan = new Set(first.keys())
  const diary = await drive(query, fatesOf(mended.tables), picks)
  inOrder(diary, mended, plan)
  const kept = new Map([...first].filter(([id, end]) => end.state !== 'skipped' && !again.includes(id)))
  compare(await look(query), mended, ends(mended, plan, kept), undefined)
}

/** The parents' next turn takes with it what was skipped. */
async function nextTurn(query: Query, { graph, picks }: Case, first: Map<number, Expected>): Promise<void> {
  const behind = [...first].filter(([, end]) => end.state !== 'completed' && end.state !== 'warning').map(([id]) => id)
  await query(`update sqp.refresh_config set next_refresh_at = now() where id = any ($1) and next_refresh_at is not null`, [behind])
  await query('select pawl.plan_refresh()')
  await drive(query, {}, picks)
  const now = await look(query)
  for (const id of behind)
    expect(
      now.find(row => row.id === id),
      `table ${id}, next turn`,
    ).toMatchObject({ state: 'completed', waiting: 0, next: graph.tables.find(table => table.id === id)?.every })
}

const TakenBack = Symbol('the test takes back what it did')

test(`${GRAPHS} random graphs end as the rules say (PAWL_TEST_SEED=${SEED})`, { timeout: 600_000 }, async () => {
  const total: Record<string, number> = { steps: 0 }
  for (let seed = SEED; seed < SEED + GRAPHS; seed += 1) {
    const playing = db.transact(
      async query => {
        const { steps, ended } = await play(query, seed)
        total.steps = (total.steps ?? 0) + steps
        for (const [state, count] of Object.entries(ended)) total[state] = (total[state] ?? 0) + count
        throw TakenBack
      },
      { timeoutMs: 60_000 },
    )
    await playing.catch((error: unknown) => {
      if (error === TakenBack) return
      throw new Error(`PAWL_TEST_GRAPHS=1 PAWL_TEST_SEED=${seed}: ${error instanceof Error ? error.message : error}`, { cause: error })
    })
  }
  if (GRAPHS < 100) return
  for (const state of ['completed', 'warning', 'failed', 'skipped', 'cancelled']) expect(total[state], state).toBeGreaterThan(GRAPHS / 20)
})
