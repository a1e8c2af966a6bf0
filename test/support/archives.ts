import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { readConfig } from '../../src/config.ts'
import type { Query } from '../../src/database.ts'
import { openStore, type Store } from '../../src/store.ts'
import { unseal } from '../../src/seal.ts'
import type { HandlerOptions } from '../../src/worker.ts'
import { archive } from '../../workers/maintenance/archive.ts'
import { handlerOptions, type Lease, takeLease, workAll } from './engine.ts'
import { createDatabase, type TestDatabase } from './postgres.ts'
import { addPeople, type People } from './reports.ts'
import { collect } from './store.ts'

/** The month that every database of ours has, long ago: document 001 makes it. */
export const AUDIT = 'reporting.audit_logs'
export const AUDIT_MONTH = 'reporting.audit_logs_y2024m01'
export const RUN = `archive:${AUDIT_MONTH}`

export type ArchiveStage = {
  db: TestDatabase
  query: Query
  lease: Lease
  people: People
  folder: string
  store: Store
  /** Options of a worker with this store; `environment` beside it. */
  options(environment?: Record<string, string>, changes?: Partial<HandlerOptions>): HandlerOptions
  /** Works off the queue; what became of each delivery. */
  work(environment?: Record<string, string>, changes?: Partial<HandlerOptions>): Promise<string[]>
  /** What is in the store, drafts included. */
  files(): Promise<string[]>
}

/** A database, a store and a lease, gone when the test ends. */
export async function openArchiveStage(): Promise<ArchiveStage> {
  const db = await createDatabase()
  const lease = await takeLease(db)
  const folder = await mkdtemp(join(tmpdir(), 'pawl-archives-'))
  onTestFinished(async () => {
    await lease.stop()
    await db.drop()
    await rm(folder, { recursive: true, force: true })
  })
  const people = await addPeople(db.query)
  const options: ArchiveStage['options'] = (environment = {}, changes = {}) =>
    handlerOptions(db, lease, { config: readConfig({ DATABASE_URL: db.url, PAWL_ARCHIVE_STORE: folder, ...environment }), ...changes })
  return {
    db,
    query: db.query,
    lease,
    people,
    folder,
    store: openStore(folder, { config: readConfig({}) }),
    options,
    work: (environment, changes) => workAll(archive, options(environment, changes)),
    files: async () => (await readdir(folder)).toSorted(),
  }
}

/** Audit rows of January 2024 with all that makes CSV hard. */
export async function addAudit(query: Query, people: People, rows: number): Promise<void> {
  await query(
    `insert into reporting.audit_logs (user_id, organization_id, action, resource_type, resource_id, old_values, new_values, ip_address, user_agent, timestamp)
     select case when i % 3 = 0 then null else $2::uuid end, $1, 'read', 'report', gen_random_uuid(),
       jsonb_build_object('n', i, 'text', 'a "quoted", \\ and' || chr(10) || 'broken line'), null, '10.0.0.1'::inet + i,
       (array[null, '', '\\N', '\\.', 'plain', 'Grüße, ☃', '"', chr(10)])[1 + i % 8], '2024-01-01 00:00:00+00'::timestamptz + i * interval '1.234567 second'
     from generate_series(1, $3::integer) i`,
    [people.organization, people.admin, rows],
  )
}

/** Lets months of a table go that are older than `keep`, and plans them. The runs. */
export async function planArchives(query: Query, relation = AUDIT, keep = '1 year'): Promise<string[]> {
  await query('update pawl.retention set keep = $2::interval where relation = $1', [relation, keep])
  return (await query<{ run: string }>('select run from pawl.plan_archives() run')).map(row => row.run)
}

/** Count and hash of a table's rows, computed otherwise than the product does. */
export async function fingerprint(query: Query, relation: string): Promise<{ rows: number; hash: string }> {
  const [row] = await query<{ rows: number; hash: string }>(
    `select count(*) as rows, coalesce(md5(string_agg(md5(t::text), '' order by md5(t::text))), '') as hash from ${relation} t`,
  )
  return row ?? { rows: -1, hash: '' }
}

/** The same of an archive: its file, opened and loaded into a table by plain COPY. */
export async function fingerprintOfFile(stage: Pick<ArchiveStage, 'db' | 'store'>, key: string, like: string, identities: string[] = []) {
  return stage.db.transact(async (query, copy) => {
    const csv = await collect(unseal(stage.store.read(key), key, identities))
    await query(`create temporary table loaded (like ${like}) on commit drop`)
    await copy('copy loaded from stdin with (format csv, header true)', [csv])
    return fingerprint(query, 'loaded')
  })
}

/** The archive's row. */
export async function archiveOf(query: Query, partition = AUDIT_MONTH): Promise<Record<string, unknown>> {
  const [row] = await query(
    `select a.state, a.key, a.rows, a.bytes, a.sha256, a.late_writes, c.state as run, c.error, c.done, c.total, to_regclass(a.partition) is not null as stands
     from pawl.archives a join pawl.checkpoints c using (run_id) where a.partition = $1 order by a.id desc limit 1`,
    [partition],
  )
  return row ?? {}
}

/** The manifest beside a file. */
export async function manifestOf(folder: string, key: string): Promise<Record<string, unknown>> {
  return JSON.parse(await readFile(join(folder, `${key.split('.')[0]}.manifest.json`), 'utf8')) as Record<string, unknown>
}
