import { onTestFinished } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { connectDirect, type DirectConnection } from '../../src/database.ts'
import type { Settlement } from '../../src/worker.ts'
import { executeReport } from '../../workers/reports/execute.ts'
import { reportWheel } from '../../workers/reports/wheel.ts'
import { workOne } from '../support/engine.ts'
import { silent } from '../support/postgres.ts'
import { addReport, openReportStage, type ReportStage } from '../support/reports.ts'
import { until } from '../support/until.ts'

/** A stage to watch executions live on; short words for what they are. */
export type LivesStage = ReportStage & {
  /** The login that asks, as the database calls it. */
  login: string
  add(source: string, columns: string[]): Promise<string>
  workNext(): Promise<Settlement | undefined>
  statusOf(report: string): Promise<string | undefined>
  runOf(id: string): Promise<{ state: string; error: string | null; failures: number } | undefined>
  why(id: string): Promise<string>
  logOf(id: string): Promise<string[]>
  /** An execution of a report of public.gated that is held up within its statement, until the gate is opened. */
  underWay(report: string): Promise<{ gate: { open(): Promise<unknown> }; execution: string; working: Promise<Settlement | undefined> }>
  /** One turn of the wheel, which keeps house. */
  sweep(): Promise<void>
  /** Files that an execution names; nothing else may be in the store once it is swept. */
  keptFiles(): Promise<string[]>
  /** What a test that failed left behind is not the next one's. */
  clear(): Promise<void>
}

/** With three tables to read: `little` has three rows, `moods` fails, and `gated` waits for the gate of `underWay`. */
export async function openLivesStage(): Promise<LivesStage> {
  const stage = await openReportStage()
  const { query } = stage
  await query(`
    create table public.little (id integer primary key);
    insert into public.little select generate_series(1, 3);
    create function public.moody() returns integer language plpgsql as $$ begin raise exception 'not today'; end $$;
    create view public.gated as select 1 as id, pg_advisory_xact_lock_shared(42)::text as gate;
    create view public.moods as select public.moody() as mood;
    grant select on public.little, public.gated, public.moods to pawl_report`)
  const workNext = () => workOne(executeReport, stage.options)
  const strays = async () => (await query('select from pawl.stray_report_files(100)')).length
  return {
    ...stage,
    login: new URL(stage.db.url).username,
    add: (source, columns) => addReport(query, stage.people, { structure: { source, columns } }),
    workNext,
    statusOf: async report => (await query<{ status: string }>('select status from reporting.reports where id = $1', [report]))[0]?.status,
    runOf: async id =>
      (await query<{ state: string; error: string | null; failures: number }>('select state, error, failures from pawl.runs where run_id = $1', [id]))[0],
    why: async id => (await query<{ why: string | null }>('select pawl.why($1) as why', [id]))[0]?.why ?? '',
    async logOf(id) {
      const lines = await query<{ line: string }>(`select level || ': ' || message as line from reporting.execution_logs where execution_id = $1 order by id`, [
        id,
      ])
      return lines.map(({ line }) => line)
    },
    async underWay(report) {
      const gate = await closeGate(stage)
      const execution = await stage.ask(report)
      const working = workNext()
      const waits = `select from pg_locks where locktype = 'advisory' and objid = 42 and not granted and database = (select oid from pg_database where datname = current_database())`
      await until('its statement waits', async () => (await query(waits)).length > 0)
      return { gate, execution, working }
    },
    async sweep() {
      const wheel = reportWheel.start({ config: stage.options.config, db: stage.db, log: silent, clock: systemClock, lease: () => stage.lease.id })
      try {
        await until('no strays are left', async () => (await strays()) === 0)
      } finally {
        await wheel.stop()
      }
    },
    async keptFiles() {
      const kept = await query<{ key: string }>(`select metadata ->> 'key' as key from reporting.report_executions where status = 'completed'`)
      return kept.map(({ key }) => key).sort()
    },
    async clear() {
      await query(`select pawl.resume('reports.execute'), (select count(pawl.cancel(run_id)) from pawl.runs where state in ('pending', 'running'))`)
      await stage.work()
    },
  }
}

/** Keeps whoever reads public.gated waiting in mid-statement until it is opened. */
async function closeGate({ options }: ReportStage): Promise<DirectConnection & { open(): Promise<unknown> }> {
  const gate = await connectDirect(options.config, 'gate')
  onTestFinished(() => gate.close())
  await gate.query('select pg_advisory_lock(42)')
  return { ...gate, open: () => gate.query('select pg_advisory_unlock(42)') }
}
