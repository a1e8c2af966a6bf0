import { loadTable } from '../../workers/refresh/load.ts'
import type { Query } from '../../src/database.ts'
import { handlerOptions, type Lease, takeLease, workAll } from './engine.ts'
import type { HandlerOptions } from '../../src/worker.ts'
import { createDatabase, type TestDatabase } from './postgres.ts'

/** A table of `sqp`, registered with these settings. Returns the id of its configuration. */
export async function registerTable(
  query: Query,
  table: string,
  columns: string,
  params: Record<string, unknown>,
  more: Record<string, unknown> = {},
): Promise<number> {
  await query(`create table if not exists sqp.${table} (${columns})`)
  // The worker's own login makes no tables; here it is the one that tests have.
  await query(`grant select, insert, update, delete on sqp.${table} to pawl_worker`)
  const { enabled = true, priority = 50, next = null, dependencies = [], hours = 24 } = more
  const [row] = await query<{ id: number }>(
    `insert into sqp.refresh_config (table_schema, table_name, is_enabled, priority, next_refresh_at, custom_sync_params, dependencies, refresh_frequency_hours)
     values ('sqp', $1, $2, $3, $4, $5, $6, $7)
     on conflict (table_schema, table_name) do update
     set is_enabled = excluded.is_enabled, priority = excluded.priority, next_refresh_at = excluded.next_refresh_at,
         custom_sync_params = excluded.custom_sync_params, dependencies = excluded.dependencies, refresh_frequency_hours = excluded.refresh_frequency_hours
     returning id`,
    [table, enabled, priority, next, JSON.stringify(params), dependencies, hours],
  )
  return row?.id ?? 0
}

/** Settings of a table that takes its rows from a query inside the database. */
export function fromQuery(query: string, more: Record<string, unknown> = {}): Record<string, unknown> {
  return { source: 'sql', query, ...more }
}

/** A step as its view shows it. */
export type StepNow = {
  run: number
  table: string
  state: string
  inserted: number | null
  updated: number | null
  deleted: number | null
  unchanged: number | null
  waiting_for: string[] | null
  error: string | null
  warnings: string[]
  run_id: string
}

export type RefreshStage = {
  db: TestDatabase
  query: Query
  lease: Lease
  options: HandlerOptions
  /** Asks for a refresh and works until nothing is ready; the steps of that run, by table. */
  refresh(table: string, upstream?: string, downstream?: boolean): Promise<Record<string, StepNow>>
  /** Works until nothing is ready. */
  work(): Promise<string[]>
  steps(run: number): Promise<Record<string, StepNow>>
  end(): Promise<void>
}

/** A database of its own and a worker's lease on it. */
export async function openRefreshStage(): Promise<RefreshStage> {
  const db = await createDatabase()
  const lease = await takeLease(db, 'tester', ['refresh.load'])
  const options = handlerOptions(db, lease)
  const work = () => workAll(loadTable, options)
  const steps = async (run: number) => {
    const rows = await db.query<StepNow>('select * from pawl.refresh_plan where run = $1', [run])
    return Object.fromEntries(rows.map(row => [row.table.replace(/^sqp\./, ''), row]))
  }
  return {
    db,
    query: db.query,
    lease,
    options,
    async refresh(table, upstream = 'stale', downstream = false) {
      const [row] = await db.query<{ run: number }>('select pawl.refresh_table($1, $2, $3) as run', [table, upstream, downstream])
      await work()
      return steps(row?.run ?? 0)
    },
    work,
    steps,
    async end() {
      await lease.stop()
      await db.drop()
    },
  }
}
