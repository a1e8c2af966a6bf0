import { expect } from 'vitest'
import type { Query } from '../../src/database.ts'
import { addReport, type Execution, fileOf, type ReportParts, type ReportStage } from './reports.ts'
import { until } from './until.ts'

/** SQL, and what breaks out of quotes, lists, COPY and format strings; each calls the canary where it is taken for a statement's text. */
export const payloads: readonly string[] = [
  `'; select public.canary(); --`,
  `"; select public.canary(); --`,
  `') ; copy (select public.canary()) to program 'true'; --`,
  `x' or '1'='1`,
  `' || public.canary()::text || '`,
  `1); drop table public.words; --`,
  `\\'; select public.canary(); --`,
  `$$; select public.canary(); $$`,
  `{a,"b}`,
  `{"a","b"}`,
  `{{since}}`,
  `"`,
  `\\`,
  `\\.`,
  `\\N`,
  `''`,
  `%s %I %L %1$s`,
  `current_setting('pawl.organization_id')`,
  `pawl.parameter_1`,
  `NULL`,
  `\u02bc; select 1`,
  `\uff07; select 1`,
  `\u202etxt.exe`,
  `\ufeff=1+1`,
  `E'\\x27' 😀`,
  `a\nb\tc\rd`,
  `\u0001\u001f\u007f`,
  ` `,
  ``,
]

/** A function that nobody may get to call. Calls are counted by the server, also those of transactions that are rolled back. */
export async function addCanary(query: Query): Promise<void> {
  await query(`do $$ begin execute format('alter database %I set track_functions = ''all''', current_database()); end $$`)
  await query(`create function public.canary() returns integer language plpgsql as $$ begin return 1; end $$`)
}

/** How often it was called, in sessions that have ended. */
export async function canaryCalls(query: Query): Promise<number> {
  const [row] = await query<{ calls: number }>(
    `select coalesce(sum(calls), 0)::integer as calls from pg_stat_user_functions where schemaname = 'public' and funcname = 'canary'`,
  )
  return row?.calls ?? 0
}

/** Rows that asking for an execution adds, wherever it does. */
export async function traces(query: Query): Promise<Record<string, unknown> | undefined> {
  const [row] = await query(`select
    (select count(*) from reporting.report_executions) as executions, (select count(*) from reporting.execution_logs) as logs,
    (select count(*) from reporting.audit_logs) as audits, (select count(*) from pawl.checkpoints) as runs, (select count(*) from pgboss.job) as jobs`)
  return row
}

/** Asks as someone, expects the refusal, and that it left nothing. */
export async function expectRefusal(query: Query, ask: () => Promise<unknown>, refusal: { code: string; message: RegExp; hint?: RegExp }): Promise<void> {
  const before = await traces(query)
  const error = await ask().then(
    () => undefined,
    (thrown: { code?: string; message?: string; hint?: string }) => thrown,
  )
  expect(error?.message).toMatch(refusal.message)
  expect(error?.code).toBe(refusal.code)
  expect(error?.hint ?? '').toMatch(refusal.hint ?? /./)
  expect(await traces(query)).toEqual(before)
}

/** Executes a report of these parts, which has to fail at once and for good, say why in every place, and leave no file. */
export async function expectFailure(
  stage: ReportStage,
  parts: ReportParts,
  message: RegExp,
  options: { format?: string; parameters?: Record<string, unknown> } = {},
) {
  const before = await stage.files()
  const report = await addReport(stage.query, stage.people, parts)
  const id = await stage.ask(report, options.format, options.parameters)
  expect(await stage.work()).toEqual(['failed'])
  await expectFailed(stage, id, message)
  expect(await left(stage)).toEqual(before)
  return { report, id }
}

/** What execution, log, run and report say of a failure. */
export async function expectFailed({ query }: ReportStage, id: string, message: RegExp): Promise<void> {
  const [row] = await query<Record<string, unknown>>(
    `select e.status, e.error_message, e.output_url, e.completed_at is not null as ended, r.status as report, c.state, c.failures, c.error,
       (select l.message from reporting.execution_logs l where l.execution_id = e.id and l.level = 'error' order by l.id desc limit 1) as log
     from reporting.report_executions e join reporting.reports r on r.id = e.report_id left join pawl.checkpoints c on c.run_id = e.id::text
     where e.id = $1`,
    [id],
  )
  expect(row?.error_message).toMatch(message)
  const error = row?.error_message
  expect(row).toEqual({
    status: 'failed',
    error_message: error,
    output_url: null,
    ended: true,
    report: 'failed',
    state: 'failed',
    failures: 1,
    error,
    log: `failed: ${error}`,
  })
}

/** The files in the store after a sweep: what the wheel would remove is removed. */
export async function left(stage: ReportStage): Promise<string[]> {
  const { openStore } = await import('../../src/store.ts')
  const store = openStore(stage.folder, { config: stage.options.config })
  const strays = await stage.query<{ key: string }>('select key from pawl.stray_report_files(100) key')
  for (const { key } of strays) await store.remove(key)
  await stage.query('delete from pawl.report_files where key = any ($1)', [strays.map(stray => stray.key)])
  return stage.files()
}

export type JsonBlock = { title: string | null; kind: string; text?: string; columns: { name: string; label: string }[]; rows: Record<string, unknown>[] }

/** The blocks of an execution's json. */
export async function blocksOf(execution: Execution): Promise<JsonBlock[]> {
  return (JSON.parse((await fileOf(execution)).toString()) as { blocks: JsonBlock[] }).blocks
}

/** The canary was never called; and had it been, in a transaction that was rolled back, this would have seen it. */
export async function expectCanaryUntouched({ db, query }: ReportStage): Promise<void> {
  expect(await canaryCalls(query)).toBe(0)
  const { connectDirect } = await import('../../src/database.ts')
  const { readConfig } = await import('../../src/config.ts')
  const connection = await connectDirect(readConfig({ DATABASE_URL: db.url }), 'control')
  await connection.query('begin transaction read only')
  await connection.query('select public.canary()')
  await connection.close()
  await until('the server has counted the call', async () => (await canaryCalls(query)) === 1)
}
