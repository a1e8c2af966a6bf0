import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { readConfig } from '../../src/config.ts'
import type { Query } from '../../src/database.ts'
import { openStore } from '../../src/store.ts'
import { AUDIT, addAudit, archiveOf, fingerprint, fingerprintOfFile } from '../support/archives.ts'
import type { TestDatabase } from '../support/postgres.ts'
import type { WorkerOptions, WorkerProcess } from '../support/process.ts'
import { addPeople } from '../support/reports.ts'
import { until } from '../support/until.ts'
import { openStage } from './stage.ts'

export type ArchiveCrash = {
  db: TestDatabase
  query: Query
  folder: string
  /** The months, as tables. */
  months: string[]
  workers: readonly WorkerProcess[]
  start(environment?: Record<string, string>): Promise<WorkerProcess>
}

/** Months of the audit with `rows` rows each, planned to be archived; each step of an archive takes `paceMs` longer, before it commits. */
export async function openArchiveCrash(months: number, rows: number, paceMs: number): Promise<ArchiveCrash> {
  const { db, query, workers, start } = await openStage()
  const folder = await mkdtemp(join(tmpdir(), 'pawl-crash-archives-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const people = await addPeople(query)
  await addAudit(query, people, rows)
  const names: string[] = []
  for (let month = 1; month <= months; month += 1) {
    const first = `2023-${String(month).padStart(2, '0')}-01`
    const [made] = await query<{ name: string }>('select pawl.ensure_month_partition($1, $2) as name', [AUDIT, first])
    names.push(made?.name ?? '')
    await query(
      `insert into ${AUDIT} select (gen_random_uuid()), user_id, organization_id, action, resource_type, resource_id, old_values, new_values, ip_address, user_agent,
         $1::timestamptz + (timestamp - '2024-01-01 00:00:00+00'), session_id from ${AUDIT}_y2024m01`,
      [`${first} 00:00:00+00`],
    )
  }
  await query(`
    create function public.pace_archive() returns trigger language plpgsql as $$ begin perform pg_sleep(${paceMs} / 1000.0); return null; end $$;
    create trigger pace_archive after update on pawl.archives for each row when (new.state <> old.state) execute function public.pace_archive();
    create trigger pace_files after insert on pawl.archive_files for each row execute function public.pace_archive()`)
  return {
    db,
    query,
    folder,
    months: names,
    workers,
    start: (environment = {}) =>
      start({ env: { PAWL_ARCHIVE_STORE: folder, PAWL_LEASE_SECONDS: '3', PAWL_CONCURRENCY: '2', ...environment } } satisfies WorkerOptions),
  }
}

/** Lets the months go, and nothing else. */
export async function planMonths(query: Query): Promise<void> {
  // Those of 2023; the month that the rows were copied from stays.
  await query(`update pawl.retention set keep = now() - '2024-01-02 00:00:00+00'::timestamptz where relation = $1`, [AUDIT])
  await query('select pawl.plan_archives()')
}

/** Kills a worker as the loss of its machine does. */
export async function kill(worker: WorkerProcess, query: Query): Promise<void> {
  worker.signal('SIGKILL')
  await worker.exited
  // What it had sent and not committed is gone with it.
  await query(`select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = $1 and pid <> pg_backend_pid()`, [worker.name])
}

/** Waits until every archive is over. */
export function allOver(query: Query, patienceMs = 120_000): Promise<unknown> {
  return until(
    'every archive is over',
    async () => {
      // Three deaths in one place fail a run, and it says what to do; the killer here did not mean the month.
      await query(`select pawl.retry(run_id) from pawl.checkpoints where kind = 'archive' and state = 'failed' and error like 'poison%'`)
      const [row] = await query<{ left: number }>(`select count(*) as left from pawl.checkpoints where kind = 'archive' and state in ('pending', 'running')`)
      return row?.left === 0
    },
    patienceMs,
  )
}

/** What is wrong with the archives of months that held `before`; an empty list when each is one whole file and nothing else is left. */
export async function archiveFaults({ db, query, folder, months }: ArchiveCrash, before: Map<string, { rows: number; hash: string }>): Promise<string[]> {
  const store = openStore(folder, { config: readConfig({}) })
  const faults: string[] = []
  const wanted: string[] = []
  for (const month of months) {
    const row = await archiveOf(query, month)
    if (row.state !== 'dropped' || row.run !== 'completed' || row.stands !== false) {
      faults.push(`${month} is ${String(row.state)}, its run ${String(row.run)}: ${String(row.error)}`)
      continue
    }
    const key = String(row.key)
    wanted.push(key, `${key.split('.')[0]}.manifest.json`)
    const file = await fingerprintOfFile({ db, store }, key, AUDIT)
    const was = before.get(month)
    if (file.rows !== was?.rows || file.hash !== was.hash) faults.push(`${month} had ${was?.rows} rows, ${key} has ${file.rows}, or others`)
  }
  const there = (await readdir(folder)).toSorted()
  if (JSON.stringify(there) !== JSON.stringify(wanted.toSorted())) faults.push(`in the store: ${there.join(', ')}; wanted: ${wanted.toSorted().join(', ')}`)
  const noted = await query('select key from pawl.archive_files')
  if (noted.length > 0) faults.push(`still written down: ${JSON.stringify(noted)}`)
  return faults
}

/** What each month holds, by its name. */
export async function fingerprints({ query, months }: ArchiveCrash): Promise<Map<string, { rows: number; hash: string }>> {
  const found = new Map<string, { rows: number; hash: string }>()
  for (const month of months) found.set(month, await fingerprint(query, month))
  return found
}
