import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import { openStore, type Store } from '../../src/store.ts'
import { findBackup, listBackups } from '../../workers/maintenance/backups/catalog.ts'
import { aloneWith, reading } from '../../workers/maintenance/backups/lock.ts'
import { type Origin, readOrigin } from '../../workers/maintenance/backups/origin.ts'
import { pruneBackups } from '../../workers/maintenance/backups/prune.ts'
import { cleanup } from '../../workers/maintenance/cleanup.ts'
import { contextFor, keysIn, manifestOf, putBackup, putFile } from '../support/backups.ts'
import { handlerOptions, takeLease } from '../support/engine.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { failure } from '../support/store.ts'

const DAY_MS = 86_400_000
const NOW = Date.parse('2026-11-21T04:00:00Z')

let db: TestDatabase
let origin: Origin
let folder: string
let places = 0

beforeAll(async () => {
  db = await createDatabase()
  origin = await readOrigin(db.query)
  folder = await mkdtemp(join(tmpdir(), 'pawl-prune-'))
})
afterAll(async () => {
  await db.drop()
  await rm(folder, { recursive: true, force: true })
})

const own = () => ({ database: origin.database, cluster: origin.cluster })
const config = (place?: string) => readConfig({ DATABASE_URL: db.url, ...(place === undefined ? {} : { BACKUP_DIR: place }) })
const newDirectory = () => join(folder, String(++places))

/** A backup each of so many days ago. */
const putDays = (store: Store, days: number[], changes: Parameters<typeof putBackup>[1] = {}) =>
  Promise.all(days.map(days => putBackup(store, { ...own(), takenAt: new Date(NOW - days * DAY_MS).toISOString(), ...changes })))

const clock = { now: () => NOW, elapsed: () => 0, sleep: () => Promise.resolve() }

test('retention deletes what it says in the dry run, leaves what is being read, and comes back for it', async () => {
  const store = openStore(newDirectory(), { config: config() })
  const kept = await putDays(store, [1, 2, 3, 4, 5, 6, 7])
  const [first = '', second = ''] = await putDays(store, [41, 42], { verified: false })
  const foreign = await putDays(store, [400], { cluster: '7300000000000000009' })
  const context = contextFor(config(), { clock })
  const dry = await pruneBackups(context, store, { isDryRun: true })
  expect(dry.decisions.filter(({ verdict }) => verdict === 'delete').map(({ backup, why }) => [backup.manifest.name, why])).toEqual([
    [first, 'not verified, 30 days old or older'],
    [second, 'not verified, 30 days old or older'],
  ])
  expect(dry).toMatchObject({ removed: [], busy: [] })
  const told: string[] = []
  const { manifest } = await findBackup(store, first)
  await reading(config(), manifest, async () => {
    // Two may read at once.
    await reading(config(), manifest, async () => {})
    expect(await pruneBackups(context, store, { told: async name => void told.push(name) })).toMatchObject({ removed: [second], busy: [first] })
  })
  expect(told).toEqual([second])
  expect(await pruneBackups(context, store)).toMatchObject({ removed: [first], busy: [] })
  expect((await listBackups(store)).backups.map(stored => stored.manifest.name).sort()).toEqual([...kept, ...foreign].sort())
  expect(await pruneBackups(context, store)).toMatchObject({ removed: [], busy: [] })
})

test('nobody reads a backup while it is removed, and where its database is gone nobody is asked', async () => {
  const store = openStore(newDirectory(), { config: config() })
  const { manifest } = await findBackup(store, await putBackup(store, own()))
  const remover = await connectDirect(config(), 'remover')
  await aloneWith(remover.query, manifest.name, async () => {
    expect(await failure(reading(config(), manifest, async () => {}))).toMatchObject({ code: 'backup.busy', retryable: true })
    const gone = new URL(db.url)
    gone.pathname = '/not_there_any_more'
    expect(await reading(readConfig({ DATABASE_URL: gone.href }), manifest, async () => 'read')).toBe('read')
  })
  await remover.close()
})

test('the nightly cleanup removes, writes down what went, and has the rights it needs', async () => {
  const place = newDirectory()
  const store = openStore(place, { config: config() })
  const lease = await takeLease(db)
  onTestFinished(() => lease.stop())
  await putDays(store, [1, 2, 3])
  const [old = ''] = await putDays(store, [50], { verified: false })
  const dead = manifestOf(own())
  await putFile(store, dead.files.dump.key, 'a dump')
  const broken = await putBackup(store, { ...own(), takenAt: new Date(NOW - 50 * DAY_MS).toISOString() })
  await store.remove(`${broken}.dump.zst`)
  const { manifest } = await findBackup(store, old)
  await db.query('select pawl.record_backup($1)', [JSON.stringify({ manifest, place })])
  const perform = (place: string | undefined) =>
    cleanup.perform({}, { ...handlerOptions(db, lease), config: config(place), clock, signal: new AbortController().signal })

  const details = { removed: [old], abandoned: [dead.name], scratch_databases: [], busy: [], foreign: [], broken: [broken], kept: 3 }
  expect(await perform(place)).toEqual({ affected: 2, ...details })
  expect(await db.query('select affected_rows, details from public.system_maintenance_log where operation = $1', ['backup_cleanup'])).toEqual([
    { affected_rows: 2, details },
  ])
  expect(await db.query('select state, deleted_at is not null as is_gone from pawl.backups where backup_id = $1', [old])).toEqual([
    { state: 'deleted', is_gone: true },
  ])
  expect(await keysIn(store)).not.toContain(`${old}.dump.zst`)
  expect(await perform(undefined)).toEqual({ skipped: 'no place for backups is named' })
  const [rights] = await db.query(
    `select has_table_privilege('pawl_worker', 'public.system_maintenance_log', 'insert') as log, has_table_privilege('pawl_worker', 'pawl.backup_records', 'update') as records,
       has_function_privilege('pawl_worker', 'pg_control_system()', 'execute') as origin`,
  )
  expect(rights).toEqual({ log: true, records: true, origin: true })
})
