import type { Database } from '../../src/database.ts'
import { type Graph, type GraphEdge, graphMermaid, type GraphNode, graphSvg, graphText } from '../graph.ts'
import { answer } from '../terminal.ts'
import { table } from '../table.ts'
import { show } from '../watch.ts'
import { byVerb } from './connect.ts'

const drawings: Readonly<Record<string, (graph: Graph) => string>> = { text: graphText, mermaid: graphMermaid, svg: graphSvg }

/** `pawl refresh …`: the contract's refresh_table, and a look at plans, order and history. */
export const refresh = byVerb({
  async run(db, terminal, values, [name]) {
    const [row] = await db.query<{ run: number }>('select pawl.refresh_table($1, $2, $3) as run', [
      name,
      values.upstream ?? 'stale',
      values.downstream === true,
    ])
    answer(terminal, { refresh_run: row?.run }, `refresh run ${row?.run}\n  follow it with: pawl refresh plan ${row?.run}`)
  },

  plan: (db, terminal, values, [number]) =>
    show(terminal, values, async () => {
      const steps = await db.query<Record<string, unknown>>(
        `select "table", state, waiting_for, source, inserted, updated, deleted, unchanged, error, run_id
         from pawl.refresh_plan where run = coalesce($1::bigint, (select max(id) from pawl.refresh_runs)) order by urgency, run_id`,
        [number ?? null],
      )
      const lines = steps.map(({ error, run_id: run, ...step }) => ({ ...step, run, note: error ?? '' }))
      return { machine: { steps }, people: table(lines) }
    }),

  async graph(db, terminal, { format = 'text' }) {
    const graph = await readGraph(db)
    answer(terminal, graph, drawings[String(format)]?.(graph) ?? '')
  },

  async history(db, terminal, { limit = 50 }, [name]) {
    const attempts = await db.query(
      `select refresh_started_at as started, table_schema || '.' || table_name as "table", status, rows_processed as rows, rows_inserted as inserted,
         rows_updated as updated, rows_deleted as deleted, execution_time_ms as ms, error_message as note
       from sqp.refresh_audit_log
       where $1::text is null or $1 in (table_name, table_schema || '.' || table_name)
       order by refresh_started_at desc, id desc limit $2`,
      [name ?? null, limit],
    )
    answer(terminal, { attempts }, table(attempts))
  },
})

async function readGraph(db: Database): Promise<Graph> {
  const nodes = await db.query<GraphNode>(
    `select c.table_schema || '.' || c.table_name as "table", p.state,
       coalesce('+' || p.inserted || ' ~' || p.updated || ' -' || p.deleted, case when c.is_enabled then '' else 'disabled' end) as changed
     from sqp.refresh_config c
     left join lateral (
       select p.state, p.inserted, p.updated, p.deleted
       from pawl.refresh_plan p where p."table" = c.table_schema || '.' || c.table_name order by p.run desc limit 1
     ) p on true
     order by c.id`,
  )
  const edges = await db.query<GraphEdge>(
    `select p.table_schema || '.' || p.table_name as parent, c.table_schema || '.' || c.table_name as child, e.hard
     from pawl.refresh_edges e join sqp.refresh_config p on p.id = e.parent_id join sqp.refresh_config c on c.id = e.child_id
     order by p.id, c.id`,
  )
  return { nodes, edges }
}
