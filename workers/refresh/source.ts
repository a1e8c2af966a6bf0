import type { Clock } from '../../src/clock.ts'
import type { Config } from '../../src/config.ts'
import type { Log } from '../../src/log.ts'

/** A column as a source delivers it: its name, and the PostgreSQL type that holds every value of it without loss. */
export type Column = { name: string; type: string }

/** Where the reading of one lane stands; JSON, and opaque to whoever stores it. */
export type Cursor = Record<string, unknown>

/** Some whole rows in COPY's text format (tab, \N, backslash escapes, one newline a row), all columns in the extraction's order. */
export type Chunk = {
  data: readonly Uint8Array[]
  rows: number
  /** Where the next chunk of this lane begins. */
  next: Cursor
  /** Nothing comes after it in this lane. */
  finished: boolean
}

/** One reading of a source, from its opening to its last row. Lanes may be read side by side, by one caller each. */
export type Extraction = {
  columns: readonly Column[]
  /** Rows that will come; null where the source can't say. */
  total: number | null
  /** Where each lane begins; at least one, `context.lanes` at most. Not asked again once a run has cut its lanes. */
  cursors: readonly Cursor[]
  /** Reads on from a cursor: at most about `chunkBytes`. The same cursor gives the same rows again. */
  read(cursor: Cursor, signal: AbortSignal): Promise<Chunk>
  /** What the audit row should say of it: bigquery_job_id, bytes_billed … */
  facts(): Record<string, unknown>
  close(): Promise<void>
}

/** What a source is opened with. */
export type SourceContext = {
  /** Letters, digits and underscores; the same for every worker of this extraction, another for the next one. */
  name: string
  /** `schema.table` of the target, and the id of the refresh run: for labels and messages. */
  table: string
  refreshRun: number
  /** What `remember` stored, by this worker or by one that died; empty at first. */
  saved: Record<string, unknown>
  /** Stores facts for whoever resumes, durably before it resolves. Throws when the run was taken over. */
  remember(facts: Record<string, unknown>): Promise<void>
  /** Values of `{window_from}` and `{window_to}` in the query, where the table replaces a window. */
  window: { from: string; to: string } | undefined
  lanes: number
  chunkBytes: number
  config: Config
  log: Log
  clock: Clock
  signal: AbortSignal
}

/** Opens a reading with settings that were checked. A PawlError that is not retryable means: asked for the wrong thing. */
export type Source<Settings> = (settings: Settings, context: SourceContext) => Promise<Extraction>
