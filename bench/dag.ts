import { systemClock } from '../src/clock.ts'
import { type Daemon, startDaemon } from '../src/daemon.ts'
import type { Database } from '../src/database.ts'
import { openLog } from '../src/log.ts'
import { loadTable } from '../workers/refresh/load.ts'
import { median, rounded, say, watchMachine } from './report.ts'
import { flowEdges } from './rivals.ts'
import { type BenchStage, openBenchStage } from './stage.ts'

/** A table of a made-up graph: how long its query takes, its priority, and what comes before it (places in the list). */
type Node = { name: string; ms: number; priority: number; parents: number[] }

const SLOTS = 16

/**
 * Real workers on graphs whose work is known: how soon a child starts after its parent's commit, beside pg-boss's own flow();
 * and how long whole graphs take, and their most important tables, against what no scheduler could beat.
 */
export async function dag({ quick }: { quick: boolean }): Promise<Record<string, unknown>> {
  const bench = await openBenchStage()
  const machine = watchMachine(bench.postmaster)
  const log = openLog({ level: 'error', destination: 2 })
  const config = { ...bench.config, httpPort: 0, httpHost: '127.0.0.1', concurrency: SLOTS, poolMax: SLOTS + 8 }
  let daemon: Daemon | undefined
  try {
    const flowMs = await flowEdges(bench.config, quick ? 3 : 8)
    daemon = await startDaemon({ config, log, workers: [loadTable] })
    const edges = await edgesOf(bench, quick ? 20 : 60, quick ? 2 : 5)
    say(`edge: p50 ${rounded(edges.p50, 1)} ms, p99 ${rounded(edges.p99, 1)} ms; pg-boss flow p50 ${Math.round(median(flowMs))} ms`)
    const documents = await measure(bench, documentsGraph(), 'doc')
    say(`the documents' graph: ${JSON.stringify(documents)}`)
    const random = await measure(bench, randomGraph(quick ? 100 : 1_000, 7), 'node')
    say(`a random graph: ${JSON.stringify(random)}`)
    const { othersShare } = machine()
    return {
      edges: edges.count,
      edge_p50_ms: rounded(edges.p50, 1),
      edge_p99_ms: rounded(edges.p99, 1),
      pgboss_flow_edge_p50_ms: Math.round(median(flowMs)),
      makespan_ratio: documents.makespan,
      makespan_ratio_random: random.makespan,
      priority_ratio: random.priority,
      priority_ratio_documents: documents.priority,
      random_nodes: quick ? 100 : 1_000,
      slots: SLOTS,
      others_share: othersShare,
      verified: true,
    }
  } finally {
    await daemon?.drain('end')
    await bench.close()
  }
}

/** Chains of small tables: the time from a parent's last commit to its child's opening, as their rows say. */
async function edgesOf(bench: BenchStage, length: number, chains: number): Promise<{ count: number; p50: number; p99: number }> {
  const all: number[] = []
  for (let chain = 1; chain <= chains; chain += 1) {
    const nodes = Array.from({ length }, (_, place) => ({ name: `chain${chain}_${place}`, ms: 0, priority: 50, parents: place === 0 ? [] : [place - 1] }))
    const run = await refreshAll(bench.db, nodes)
    const rows = await bench.db.query<{ ms: number }>(
      `select extract(epoch from c.started_at - p.finished_at)::float8 * 1000 as ms
       from pawl.refresh_steps s join pawl.refresh_waits w using (run_id)
       join pawl.checkpoints c on c.run_id = w.run_id join pawl.checkpoints p on p.run_id = w.parent_run_id
       where s.refresh_run = $1`,
      [run],
    )
    all.push(...rows.map(({ ms }) => ms))
  }
  const sorted = all.sort((a, b) => a - b)
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN
  return { count: sorted.length, p50: at(0.5), p99: at(0.99) }
}

/** Document 003's eight tables and what depends on what, with times as different as such tables are. */
function documentsGraph(): Node[] {
  return [
    { name: 'asin', ms: 2_000, priority: 90, parents: [] },
    { name: 'daily', ms: 1_200, priority: 90, parents: [] },
    { name: 'searches', ms: 1_000, priority: 70, parents: [] },
    { name: 'performance', ms: 1_500, priority: 80, parents: [0] },
    { name: 'weekly', ms: 1_000, priority: 80, parents: [0] },
    { name: 'monthly', ms: 1_000, priority: 80, parents: [0] },
    { name: 'quarterly', ms: 600, priority: 80, parents: [5] },
    { name: 'yearly', ms: 400, priority: 80, parents: [6] },
  ]
}

/** Each table depends on up to three before it, not far away; the same graph every time. */
function randomGraph(count: number, seed: number): Node[] {
  let state = seed
  const random = () => {
    state = (state * 48_271) % 2_147_483_647
    return state / 2_147_483_647
  }
  return Array.from({ length: count }, (_, place) => ({
    name: `node${place}`,
    ms: 300 + Math.round(random() * 900),
    priority: random() < 0.05 ? 100 : 10 + Math.round(random() * 70),
    parents: place < SLOTS ? [] : [...new Set(Array.from({ length: Math.floor(random() * 4) }, () => place - 1 - Math.floor(random() * Math.min(place, 150))))],
  }))
}

/** Refreshes the graph and compares with its lower bounds: the longest path, and the work over the slots. */
async function measure({ db }: BenchStage, nodes: Node[], prefix: string): Promise<{ makespan: number; priority: number }> {
  const named = nodes.map(node => ({ ...node, name: `${prefix}_${node.name}` }))
  const run = await refreshAll(db, named)
  const steps = await db.query<{ name: string; begun: number; ended: number }>(
    `select split_part(s.table_name, '.', 2) as name, extract(epoch from c.started_at - r.requested_at)::float8 * 1000 as begun,
       extract(epoch from c.finished_at - r.requested_at)::float8 * 1000 as ended
     from pawl.refresh_steps s join pawl.checkpoints c using (run_id) join pawl.refresh_runs r on r.id = s.refresh_run where s.refresh_run = $1`,
    [run],
  )
  const at = new Map(steps.map(step => [step.name, step]))
  for (const node of named) {
    const late = node.parents.find(parent => (at.get(named[parent]?.name ?? '')?.ended ?? 0) > (at.get(node.name)?.begun ?? 0))
    if (late !== undefined) throw new Error(`${node.name} began before ${named[late]?.name} had ended`)
  }
  const ended = (node: Node) => at.get(node.name)?.ended ?? Number.NaN
  const top = Math.max(...named.map(node => node.priority))
  const important = named.filter(node => node.priority === top)
  return {
    makespan: rounded(Math.max(...named.map(ended)) / bound(named, named), 3),
    priority: rounded(Math.max(...important.map(ended)) / bound(named, important), 3),
  }
}

/** No order ends these sooner: their longest path, or all the work they need over all the slots. */
function bound(nodes: readonly Node[], wanted: readonly Node[]): number {
  const path = new Map<Node, number>()
  for (const node of nodes) path.set(node, node.ms + Math.max(0, ...node.parents.map(parent => path.get(nodes[parent] as Node) ?? 0)))
  const needed = new Set(wanted)
  for (const node of nodes.toReversed()) if (needed.has(node)) for (const parent of node.parents) needed.add(nodes[parent] as Node)
  const work = [...needed].reduce((sum, node) => sum + node.ms, 0)
  return Math.max(...wanted.map(node => path.get(node) ?? 0), work / SLOTS)
}

/** Registers the tables with what their history says they take, refreshes them in one run, and waits until all have ended well. */
async function refreshAll(db: Database, nodes: readonly Node[]): Promise<number> {
  await db.query(nodes.map(({ name }) => `create table sqp.${name} (id integer primary key)`).join(';'))
  await db.query(
    `update sqp.refresh_config c set is_enabled = true, priority = n.priority, next_refresh_at = now(), dependencies = n.parents,
       custom_sync_params = jsonb_build_object('source', 'sql', 'query', format('select 1 as id from pg_sleep(%s)', n.ms / 1000.0))
     from jsonb_to_recordset($1::jsonb) n (name text, ms integer, priority integer, parents text[]) where c.table_name = n.name`,
    [JSON.stringify(nodes.map(node => ({ ...node, parents: node.parents.map(parent => nodes[parent]?.name) })))],
  )
  await db.query(
    `insert into sqp.refresh_audit_log (refresh_config_id, table_schema, table_name, refresh_started_at, refresh_completed_at, status, rows_processed, execution_time_ms)
     select c.id, 'sqp', c.table_name, now() - interval '1 day', now(), 'success', 1, n.ms
     from jsonb_to_recordset($1::jsonb) n (name text, ms integer) join sqp.refresh_config c on c.table_name = n.name`,
    [JSON.stringify(nodes)],
  )
  const [asked] = await db.query<{ run: number }>(
    `select pawl.add_refresh_run(null, 'bench', array(select id from sqp.refresh_config where table_name = any ($1))) as run`,
    [nodes.map(({ name }) => name)],
  )
  for (;;) {
    const [left] = await db.query<{ open: number; bad: number }>(
      `select count(*) filter (where outcome is null) as open, count(*) filter (where outcome <> 'completed') as bad from pawl.refresh_steps where refresh_run = $1`,
      [asked?.run],
    )
    if (left?.bad !== 0) throw new Error(`${left?.bad} tables were not refreshed`)
    if (left.open === 0) return asked?.run ?? 0
    await systemClock.sleep(100)
  }
}
