import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect, type Query } from '../../src/database.ts'
import type { WorkerOptions, WorkerProcess } from '../support/process.ts'
import { addPeople, addReport, addSales, type People } from '../support/reports.ts'
import { until } from '../support/until.ts'
import { openStage, type Recorded, recordBatches } from './stage.ts'

/** How many rows a report of each format has; they are read in pages of 50,000. */
export const ROWS = { csv: 300_000, json: 150_000, html: 60_000, excel: 60_000, pdf: 2_000 } as const
export type Format = keyof typeof ROWS
export const FORMATS = Object.keys(ROWS) as Format[]

/** What workers that are killed work on. */
export type ReportCrash = {
  query: Query
  url: string
  workers: readonly WorkerProcess[]
  people: People
  /** The store. */
  folder: string
  /** The one report of each format. */
  reports: Readonly<Record<Format, string>>
  start(options?: Starting): Promise<WorkerProcess>
  /** Asks for an execution of the format's report; its id. */
  ask(format: Format): Promise<string>
  gate: Gate
}

/** A place of the product at which whoever comes by is held. */
export type Gate = {
  /** `part 2`: before the run's 2nd checkpoint commits; `row 30000`: while that row is read; `reading`: before the first; `output`: when the file is there. */
  shut(place: string): Promise<void>
  /** Who stands there: the worker, and the process id of its backend. */
  caught(): Promise<Caught>
  /** Nobody who comes now is held; those that stand there still are. */
  forget(): Promise<void>
  /** Lets everybody go. */
  open(): Promise<void>
}

/** `url`: another way to the database than the stage's own. */
type Starting = WorkerOptions & { url?: string }

export type Caught = { worker: WorkerProcess; backend: number }

type Ground = { query: Query; url: string; workers: readonly WorkerProcess[]; start(options?: Starting): Promise<WorkerProcess> }

/** A database with a report of each format, and a store; each checkpoint takes at least `paceMs`. */
export async function openReports(paceMs = 0): Promise<ReportCrash> {
  const { db, query, workers, start } = await openStage()
  return furnish({ query, url: db.url, workers, start }, paceMs)
}

/** The same, on a database that is there already. */
export async function furnish({ query, url, workers, start }: Ground, paceMs = 0): Promise<ReportCrash> {
  const folder = await mkdtemp(join(tmpdir(), 'pawl-crash-reports-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const people = await addPeople(query)
  await addSales(query, Math.max(...Object.values(ROWS)))
  await recordBatches(query, paceMs)
  await addPlaces(query)
  const reports: Record<string, string> = {}
  for (const format of FORMATS) reports[format] = await addReport(query, people, { name: format, structure: structureOf(format) })
  const gate = await openGate(query, url, workers)
  return {
    query,
    url,
    workers,
    people,
    folder,
    gate,
    reports: reports as Record<Format, string>,
    start: options => start({ ...options, env: { PAWL_REPORT_STORE: folder, ...options?.env } }),
    async ask(format) {
      const [row] = await query<{ id: string }>('select pawl.run_report($1, $2, $3) as id', [reports[format], people.admin, format])
      return row?.id ?? ''
    },
  }
}

function structureOf(format: Format) {
  const columns = format === 'pdf' ? ['id', 'region'] : ['id', 'region', 'amount', 'note']
  return { source: 'public.gated_sales', columns, key: ['id'], filters: [{ column: 'id', operator: '<=', value: ROWS[format] }] }
}

const GATE = 471_101
const STANDS = 471_102

/**
 * Places at which the product can be held, and rows that may not be read again. Whoever waits looks again and again instead of waiting for
 * a lock: reports have a lock_timeout. `passing` says that it is stable, or the view would not be read by its key.
 */
async function addPlaces(query: Query): Promise<void> {
  await query(`
    create table public.gates (place text primary key);
    create table public.closed_rows (upto bigint);
    create function public.gate(p_place text) returns void language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
    begin
      if exists (select from public.gates g where g.place = p_place) then
        perform pg_advisory_lock_shared(${STANDS});
        while not pg_try_advisory_lock_shared(${GATE}) loop perform pg_sleep(0.01); end loop;
        perform pg_advisory_unlock_shared(${GATE}), pg_advisory_unlock_shared(${STANDS});
      end if;
    end $$;
    create function public.passing(p_id bigint, p_region text) returns text language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
    begin
      perform public.gate('row ' || p_id);
      if exists (select from public.closed_rows c where p_id <= c.upto) then raise exception 'row % was read again', p_id; end if;
      return p_region;
    end $$;
    create view public.gated_sales as
      select id, case when id % 1000 = 0 then public.passing(id, region) else region end as region, amount, note from public.sales;
    grant select on public.gated_sales to pawl_report;
    create function public.gate_part() returns trigger language plpgsql as $$ begin perform public.gate('part ' || new.batch); return null; end $$;
    create trigger gate_part after update on pawl.lanes for each row when (new.batch is distinct from old.batch) execute function public.gate_part();
    create function public.gate_reading() returns trigger language plpgsql as $$ begin perform public.gate('reading'); return null; end $$;
    create trigger gate_reading after insert on reporting.execution_logs for each row when (new.message = 'reading') execute function public.gate_reading();
    create function public.gate_output() returns trigger language plpgsql as $$ begin perform public.gate('output'); return null; end $$;
    create trigger gate_output after update on reporting.report_executions
    for each row when (new.output_url is distinct from old.output_url) execute function public.gate_output()`)
}

async function openGate(query: Query, url: string, workers: readonly WorkerProcess[]): Promise<Gate> {
  // Its own session: the lock is the session's.
  const keeper = await connectDirect(readConfig({ DATABASE_URL: url }), 'gate keeper')
  onTestFinished(() => keeper.close())
  const forget = async () => void (await keeper.query('delete from public.gates'))
  return {
    forget,
    async shut(place) {
      await keeper.query(`select pg_advisory_lock(${GATE})`)
      await keeper.query('insert into public.gates values ($1)', [place])
    },
    async open() {
      await forget()
      await keeper.query('select pg_advisory_unlock_all()')
    },
    caught: () =>
      until('a worker stands at the gate', async () => {
        const [row] = await query<{ pid: number; name: string }>(
          `select l.pid, a.application_name as name from pg_locks l join pg_stat_activity a on a.pid = l.pid
           where l.locktype = 'advisory' and l.objid = ${STANDS} and l.database = (select oid from pg_database where datname = current_database())`,
        )
        const worker = workers.find(candidate => candidate.name === row?.name)
        return row && worker && { worker, backend: row.pid }
      }),
  }
}

/** Kills a worker that stands at a gate as the loss of its machine does: what it had sent and not committed is gone with it. */
export async function killCaught({ query, gate }: ReportCrash): Promise<WorkerProcess> {
  const { worker, backend } = await gate.caught()
  worker.signal('SIGKILL')
  await worker.exited
  await query('select pg_terminate_backend($1, 10000)', [backend])
  await gate.open()
  return worker
}

/** What the execution's log says of each opening: begun or resumed, by whom. */
export async function openings(query: Query, id: string): Promise<string[]> {
  const lines = await query<{ message: string }>(
    `select message from reporting.execution_logs where execution_id = $1 and message ~ '^(begun|resumed) by worker' order by id`,
    [id],
  )
  return lines.map(line => line.message.replace(' by worker', ''))
}

/** What is in the store, drafts included. */
export const filesIn = async ({ folder }: ReportCrash) => (await readdir(folder)).toSorted()

/** Rows that recorded batches brought, all attempts together. */
export const rowsOf = (batches: readonly Recorded[]) => batches.reduce((sum, batch) => sum + batch.rows, 0)
