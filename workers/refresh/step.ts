import { readSettings, type Settings } from './settings.ts'

/** What the database says of a step; see `pawl.start_refresh`. */
export type StepRow = {
  run_id: string
  refresh_run: number
  config_id: number
  schema: string
  table: string
  params: unknown
  extraction: number
  loaded: boolean
  saved: Record<string, unknown>
  audit_id: number
}

/** One table of one plan, its settings checked. `extraction` and `saved` change as it is read. */
export type Prepared = StepRow & { name: string; settings: Settings }

/** Checks the settings of a step. Throws `refresh.settings`. */
export function prepared(row: StepRow): Prepared {
  const name = `${row.schema}.${row.table}`
  return { ...row, name, settings: readSettings(name, row.params) }
}
