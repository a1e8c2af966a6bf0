import type { Database, Query } from '../database.ts'
import { readStatus, type RunRow, type Status } from '../status.ts'
import { readTables, type Table, type TableEdge } from './tables.ts'
import { readTimers, type Timers } from './timers.ts'

/** A run with the sentence of `pawl.why` where it waits, and of `pawl.stuck` where it should not. */
export type RunNow = RunRow & { why: string | null; stuck: string | null }

/** A row of `pawl.failures`. */
export type Failure = { run_id: string; kind: string; subject: string; failed_at: Date | null; failures: number; error: string | null; retry_with: string }

/** A row of `pawl.backups`. */
export type Backup = {
  backup_id: string
  state: string
  kind: string
  scope: string
  taken_at: Date
  verified_at: Date | null
  bytes: number
  rows: number | null
  encrypted: boolean
  error: string | null
  verify_seconds: number | null
}

/** A row of `pawl.health`. */
export type HealthCheck = { check: string; ok: boolean; detail: string }

/** Everything the page shows, as one transaction saw it. */
export type Snapshot = {
  now: Date
  database: string
  server: string
  runs: RunNow[]
  /** Those that have not ended; counted to UNFINISHED_MAX. */
  unfinished: { running: number; pending: number }
  queues: Status['queues']
  workers: Status['workers']
  failures: Failure[]
  tables: Table[]
  edges: TableEdge[]
  timers: Timers
  backups: Backup[]
  health: HealthCheck[]
}

const RUNS_MAX = 20
/** The rest of the page is to be seen as well. */
const ENDED_MAX = 6
/** Each is asked for by itself, and looks at its queue. */
const WHYS_MAX = 10
export const UNFINISHED_MAX = 1_000
/** A page must never be what slows the database down. */
const STATEMENT_MS = 2_000

/** Reads the page in one read-only view of the database: its parts agree with each other. An observer's rights are enough. */
export function readSnapshot(db: Database): Promise<Snapshot> {
  return db.transact(
    async query => {
      await query(`set transaction isolation level repeatable read, read only`)
      await query(`set local statement_timeout = ${STATEMENT_MS}`)
      const [about] = await query<{ now: Date; database: string; server: string }>(
        `select now() as now, current_database() as database, current_setting('server_version') as server`,
      )
      const { now, database, server } = about ?? { now: new Date(0), database: '', server: '' }
      const { runs, queues, workers } = await readStatus(query, RUNS_MAX)
      return {
        now,
        database,
        server,
        runs: await explained(query, runs),
        unfinished: await readUnfinished(query),
        queues,
        workers,
        failures: await query<Failure>(
          `select run_id, kind, subject, failed_at, failures, error, retry_with from pawl.failures where failed_at > now() - interval '7 days' limit 10`,
        ),
        ...(await readTables(query)),
        timers: await readTimers(query),
        backups: await query<Backup>(
          `select backup_id, state, kind, scope, taken_at, verified_at, bytes, rows, encrypted, error, verify_seconds::float8
           from pawl.backups where state <> 'deleted' limit 6`,
        ),
        health: await query<HealthCheck>(`select "check", ok, detail from pawl.health`),
      }
    },
    { timeoutMs: STATEMENT_MS + 1_000 },
  )
}

async function explained(query: Query, runs: RunRow[]): Promise<RunNow[]> {
  const ended = runs.filter(run => run.finished_at !== null).slice(0, ENDED_MAX)
  const shown = runs.filter(run => run.finished_at === null || ended.includes(run))
  const waiting = shown.filter(run => run.state === 'pending').slice(0, WHYS_MAX)
  const whys = await query<{ run_id: string; why: string }>(`select id as run_id, pawl.why(id) as why from unnest($1::text[]) id`, [
    waiting.map(run => run.run_id),
  ])
  const stuck = await query<{ run_id: string; reason: string }>(`select run_id, reason from pawl.stuck where run_id = any ($1)`, [shown.map(run => run.run_id)])
  const whyOf = new Map(whys.map(row => [row.run_id, row.why]))
  const stuckOf = new Map(stuck.map(row => [row.run_id, row.reason]))
  return shown.map(run => ({ ...run, why: whyOf.get(run.run_id) ?? null, stuck: stuckOf.get(run.run_id) ?? null }))
}

async function readUnfinished(query: Query): Promise<Snapshot['unfinished']> {
  const [row] = await query<Snapshot['unfinished']>(
    `select count(*) filter (where state = 'running') as running, count(*) filter (where state = 'pending') as pending
     from (select state from pawl.runs where kind <> 'timer' and state in ('running', 'pending') limit ${UNFINISHED_MAX}) r`,
  )
  return row ?? { running: 0, pending: 0 }
}
