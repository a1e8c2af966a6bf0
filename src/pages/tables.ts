import type { Query } from '../database.ts'

/** A refreshed table and where it stands. */
export type Table = {
  id: number
  name: string
  /** running, ready, waiting, completed, warning, failed, skipped, cancelled as of its last refresh; never, and off where it is disabled. */
  state: string
  /** Its rows are older than they should be. */
  stale: boolean
  /** `pawl.tables` in one sentence: why it is stale, or how long it is fresh. */
  reason: string
  percent: number | null
  waiting_for: string[] | null
  /** Rows its last refresh inserted, updated and deleted. */
  changed: string | null
  ended_at: Date | null
  due_at: Date | null
}

/** `child` is refreshed after `parent`; soft dependencies don't hold it up. */
export type TableEdge = { parent: number; child: number; hard: boolean }

type Registered = Pick<Table, 'id' | 'name' | 'stale' | 'reason' | 'due_at'> & { enabled: boolean; refreshed_at: Date | null; run_id: string | null }
type Step = Pick<Table, 'state' | 'waiting_for' | 'changed'> & { run_id: string; finished_at: Date | null }

/** As many as a picture can show. */
export const TABLES_MAX = 150

/** The tables that are refreshed, with what comes before what; those that are switched off last. */
export async function readTables(query: Query): Promise<{ tables: Table[]; edges: TableEdge[] }> {
  const registered = await query<Registered>(
    `select c.id, t."table" as name, t.stale, t.reason, t.due_at, t.refreshed_at, t.run_id, c.is_enabled as enabled
     from sqp.refresh_config c join pawl.tables t on t."table" = c.table_schema || '.' || c.table_name
     order by c.is_enabled desc, c.id limit ${TABLES_MAX}`,
  )
  // By their ids, given as values: joined, these views would be read whole.
  const runs = registered.flatMap(({ run_id: run }) => run ?? [])
  const steps = await query<Step>(
    `select p.run_id, p.state, p.waiting_for, '+' || p.inserted || ' ~' || p.updated || ' −' || p.deleted as changed, p.finished_at
     from pawl.refresh_plan p where p.run_id = any ($1)`,
    [runs],
  )
  const shares = await query<{ run_id: string; percent: number | null }>(
    `select run_id, percent::float8 from pawl.runs where run_id = any ($1) and state = 'running'`,
    [runs],
  )
  const edges = await query<TableEdge>(
    `select e.parent_id as parent, e.child_id as child, e.hard from pawl.refresh_edges e
     where e.parent_id = any ($1) and e.child_id = any ($1) order by e.parent_id, e.child_id limit ${TABLES_MAX * 10}`,
    [registered.map(table => table.id)],
  )
  const stepOf = new Map(steps.map(step => [step.run_id, step]))
  const shareOf = new Map(shares.map(({ run_id: run, percent }) => [run, percent]))
  const tables = registered.map(({ id, name, stale, reason, due_at, refreshed_at, run_id: run, enabled }) => {
    const step = stepOf.get(run ?? '')
    return {
      id,
      name,
      stale,
      reason,
      due_at: enabled ? due_at : null,
      state: step?.state ?? (enabled ? (refreshed_at === null ? 'never' : 'completed') : 'off'),
      percent: shareOf.get(run ?? '') ?? null,
      waiting_for: step?.waiting_for ?? null,
      changed: step?.changed ?? null,
      ended_at: step === undefined ? refreshed_at : step.finished_at,
    }
  })
  return { tables, edges }
}
