import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readConfig } from '../../src/config.ts'
import type { Query } from '../../src/database.ts'
import type { HandlerOptions } from '../../src/worker.ts'
import { executeReport } from '../../workers/reports/execute.ts'
import { handlerOptions, type Lease, takeLease, workAll } from './engine.ts'
import { createDatabase, type TestDatabase } from './postgres.ts'

/** An execution as document 001 keeps it. */
export type Execution = {
  id: string
  status: string
  output_format: string
  output_url: string | null
  result_size_bytes: number | null
  execution_time_ms: number | null
  error_message: string | null
  completed_at: Date | null
  metadata: Record<string, unknown> & { rows?: number; sha256?: string; key?: string }
}

export type People = { organization: string; admin: string; viewer: string; stranger: string }

/** Two organizations: the first with an administrator and a viewer, the second with a stranger. */
export async function addPeople(query: Query): Promise<People> {
  const [row] = await query<People>(
    `with own as (insert into reporting.organizations (name, slug) values ('Own', 'own') returning id),
     other as (insert into reporting.organizations (name, slug) values ('Other', 'other') returning id),
     people as (
       insert into reporting.users (email, username, password_hash, first_name, last_name, organization_id, role)
       select 'admin@own.example', 'admin', '!', 'Ad', 'Min', id, 'org_admin' from own
       union all select 'viewer@own.example', 'viewer', '!', 'Vie', 'Wer', id, 'report_viewer' from own
       union all select 'stranger@other.example', 'stranger', '!', 'Stran', 'Ger', id, 'org_admin' from other
       returning id, username
     )
     select (select id from own) as organization, (select id from people where username = 'admin') as admin,
       (select id from people where username = 'viewer') as viewer, (select id from people where username = 'stranger') as stranger`,
  )
  if (row === undefined) throw new Error('no people were added')
  return row
}

/** What a report is made of, for tests. `structure` may be anything, also what no template may hold. */
export type ReportParts = {
  name?: string
  type?: string
  structure: unknown
  declared?: Record<string, unknown>
  parameters?: Record<string, unknown>
  configuration?: Record<string, unknown>
  priority?: number
}

/** A template and a report of it, made by the administrator; the report's id. */
export async function addReport(query: Query, people: People, parts: ReportParts): Promise<string> {
  const { name = `report ${Math.random()}`, type = 'tabular', structure, declared = {}, parameters = {}, configuration = {}, priority = 5 } = parts
  const [row] = await query<{ id: string }>(
    `with template as (
       insert into reporting.templates (name, organization_id, created_by, template_type, structure, parameters) values ($1, $2, $3, $4, $5, $6) returning id
     )
     insert into reporting.reports (name, template_id, organization_id, created_by, parameters, configuration, priority)
     select $1, id, $2, $3, $7, $8, $9 from template returning id`,
    [
      name,
      people.organization,
      people.admin,
      type,
      JSON.stringify(structure),
      JSON.stringify(declared),
      JSON.stringify(parameters),
      JSON.stringify(configuration),
      priority,
    ],
  )
  return row?.id ?? ''
}

/** A table `public.sales` with as many rows, which reports may read: ids, regions, amounts, days, notes with all that a format must escape. */
export async function addSales(query: Query, rows: number): Promise<void> {
  await query(`
    create table public.sales (id bigint primary key, region text, amount numeric(12, 2), placed_on date, shipped_at timestamptz, paid boolean, note text, details jsonb);
    grant select on public.sales to pawl_report`)
  await query(
    `insert into public.sales
     select i, (array['EU', 'US', 'APAC'])[1 + i % 3], (i * 7919 % 1000003) / 100.0, date '2026-01-01' + (i % 365)::integer,
       timestamptz '2026-01-01 00:00:00+00' + i * interval '1 minute', i % 4 <> 0, case i % 5
         when 0 then null when 1 then '=1+1' when 2 then 'a "quoted", text' when 3 then E'two\\nlines\\tand a \\\\ backslash' else 'grüße €' end,
       jsonb_build_object('i', i)
     from generate_series(1, $1::bigint) i`,
    [rows],
  )
}

export async function readExecution(query: Query, id: string): Promise<Execution> {
  const [row] = await query<Execution>('select * from reporting.report_executions where id = $1', [id])
  if (row === undefined) throw new Error(`there is no execution ${id}`)
  return row
}

/** The file of a completed execution. */
export function fileOf(execution: Execution): Promise<Buffer> {
  if (execution.output_url === null) throw new Error(`execution ${execution.id} is ${execution.status}: ${execution.error_message ?? ''}`)
  return readFile(fileURLToPath(execution.output_url))
}

export type ReportStage = {
  db: TestDatabase
  query: Query
  people: People
  lease: Lease
  options: HandlerOptions
  /** Where reports are kept. */
  folder: string
  files(): Promise<string[]>
  /** Asks for an execution, works until nothing is ready, and reads what became of it. */
  run(report: string, format?: string, parameters?: Record<string, unknown>, user?: string): Promise<Execution>
  ask(report: string, format?: string, parameters?: unknown, user?: string): Promise<string>
  work(): Promise<string[]>
  end(): Promise<void>
}

/** A database of its own with people in it, a worker's lease, and a folder for its reports. */
export async function openReportStage(environment: Record<string, string> = {}): Promise<ReportStage> {
  const db = await createDatabase()
  const folder = await mkdtemp(join(tmpdir(), 'pawl-reports-'))
  const people = await addPeople(db.query)
  const lease = await takeLease(db, 'tester', ['reports.execute'])
  const options = handlerOptions(db, lease, { config: readConfig({ DATABASE_URL: db.url, PAWL_REPORT_STORE: folder, ...environment }) })
  const work = () => workAll(executeReport, options)
  const ask: ReportStage['ask'] = async (report, format = 'csv', parameters = {}, user = people.admin) => {
    const [row] = await db.query<{ id: string }>('select pawl.run_report($1, $2, $3, $4) as id', [report, user, format, JSON.stringify(parameters)])
    return row?.id ?? ''
  }
  return {
    db,
    query: db.query,
    people,
    lease,
    options,
    folder,
    files: () => readdir(folder),
    ask,
    async run(report, format, parameters, user) {
      const id = await ask(report, format, parameters, user)
      await work()
      return readExecution(db.query, id)
    },
    work,
    async end() {
      await lease.stop()
      await db.drop()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
