import { closeSync, openSync, readdirSync, rmSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { upgrade } from '../../bin/commands/migrate.ts'
import { readConfig } from '../../src/config.ts'
import { type Database, openDatabase } from '../../src/database.ts'
import { countFaults, endOf, holderOf, recordBatches, recordedBatches, startCrew } from '../crash/stage.ts'
import { ask } from '../support/embedded.ts'
import { faultsOf, requestOverride, seedCategory } from '../support/overrides.ts'
import { silent } from '../support/postgres.ts'
import { type Postgres15, runPostgres15, startPostgres15 } from '../support/postgres15.ts'
import { runPawl } from '../support/process.ts'
import { until } from '../support/until.ts'
import { archiveAll, archiving, baseBackup, copy, directory, failRecovery, on, recover, withDestructiveMigration } from './pitr-stage.ts'

const RECIPIENTS = 10_000
const TAG = '0099_precious'

// The drill of docs/recovery.md, once: an archive, a base backup, a run under way, a table dropped by mistake, a migration regretted.
const places: string[] = []
const crew = startCrew()
let source: Postgres15
let archive: string
let base: string
let runId: string
/** By the server's clock, a moment before the table was dropped; and how far the run was then, at least and at most. */
let beforeMistake: string
let doneBefore: number
let doneAfter: number
let restorePoint: { name: string; lsn: string }

function open(cluster: Postgres15): Database {
  return openDatabase(readConfig({ DATABASE_URL: on(cluster, 'shop') }), silent, { max: 2 })
}

const doneOf = async (db: Database) => {
  const [row] = await db.query<{ done: number }>('select coalesce(sum(done), 0)::bigint as done from pawl.lanes where run_id = $1', [runId])
  return row?.done ?? 0
}

/** What has to be so before there is anything to test. */
function required(fact: boolean, what: string): void {
  if (!fact) throw new Error(`not so: ${what}`)
}

beforeAll(async () => {
  archive = directory('archive')
  base = join(directory('base'), 'data')
  places.push(archive, join(base, '..'))
  source = await startPostgres15({ settings: archiving(archive) })
  await ask(source.url, 'create database shop')
  const url = on(source, 'shop')
  const migrations = withDestructiveMigration(TAG, 'public.precious')
  places.push(migrations)
  const env = { PAWL_MIGRATIONS_DIR: migrations }
  await upgrade(readConfig({ DATABASE_URL: url }), silent)
  baseBackup(source, base)

  const db = open(source)
  try {
    await recordBatches(db.query, 20)
    await db.query('create table public.orders as select id from generate_series(1, 1000) id')
    const category = await seedCategory(db.query, RECIPIENTS)
    await crew.start(url)
    runId = await requestOverride(db.query, category, { batchSize: 50 })
    await holderOf(db.query, runId)
    await until('ten batches are done', async () => (await recordedBatches(db.query, runId)).length >= 10)
    doneBefore = await doneOf(db)
    const [moment] = await db.query<{ at: string }>('select clock_timestamp()::text as at')
    beforeMistake = moment?.at ?? ''
    doneAfter = await doneOf(db)
    await db.query('drop table public.orders')
    required((await endOf(db.query, runId)) === 'completed', 'the run completed on the source')
    // More than one segment between the base backup and the targets.
    await archiveAll(source.url)

    required((await runPawl(['migrate', 'up'], url, { env })).code === 0, 'migrated up')
    await db.query('insert into public.precious select generate_series(1, 500)')
    const down = await runPawl(['migrate', 'down', '--allow-data-loss', '--json'], url, { env })
    required(down.code === 0, `migrated down: ${down.stderr}`)
    restorePoint = (JSON.parse(down.stdout) as { restore_points: (typeof restorePoint)[] }).restore_points[0] ?? { name: '', lsn: '' }
    const [gone] = await db.query<{ there: string | null }>(`select to_regclass('public.precious') as there`)
    required(gone?.there === null, 'the table went with the migration')
  } finally {
    await db.close()
    await crew.end()
  }
  await archiveAll(source.url)
})

afterAll(async () => {
  await crew.end()
  await source?.stop()
  for (const place of places) rmSync(place, { recursive: true, force: true })
})

async function recovered(target: Record<string, string>): Promise<{ cluster: Postgres15; db: Database }> {
  const cluster = await recover(base, archive, target)
  const db = open(cluster)
  onTestFinished(async () => {
    await crew.end()
    await db.close()
    await cluster.stop()
  })
  return { cluster, db }
}

async function timelineOf(db: Database): Promise<number | undefined> {
  await db.query('checkpoint')
  return (await db.query<{ timeline: number }>('select timeline_id as timeline from pg_control_checkpoint()'))[0]?.timeline
}

test('pg_verifybackup accepts the base backup, and refuses it with one byte changed', () => {
  runPostgres15('pg_verifybackup', [base])
  const harmed = join(directory('harmed'), 'data')
  places.push(join(harmed, '..'))
  copy(base, harmed)
  const file = join(harmed, 'global', 'pg_filenode.map')
  const handle = openSync(file, 'r+')
  writeSync(handle, Buffer.from([0xff]), 0, 1, Math.floor(statSync(file).size / 2))
  closeSync(handle)
  expect(() => runPostgres15('pg_verifybackup', [harmed])).toThrow('checksum mismatch')
})

test('recovered to a moment before the mistake, the table is back, and the run that was under way goes on where it was then, once the queues are resumed', async () => {
  const { cluster, db } = await recovered({ recovery_target_time: beforeMistake })
  expect(await timelineOf(db)).toBe(2)
  expect(await db.query('select count(*) from public.orders')).toEqual([{ count: 1000 }])
  const done = await doneOf(db)
  expect(done).toBeGreaterThanOrEqual(doneBefore)
  expect(done).toBeLessThanOrEqual(doneAfter)
  expect(done).toBeLessThan(RECIPIENTS)
  const held = `select c.state, l.name, l.state as lease from pawl.checkpoints c left join pawl.leases l on l.id = c.owner where run_id = '${runId}'`
  expect(await db.query(held)).toEqual([{ state: 'running', name: 'worker-1', lease: 'running' }])

  await db.query(`select pawl.pause(queue, 'recovered') from pawl.queues`)
  const worker = await crew.start(on(cluster, 'shop'), { name: 'second-life' })
  // The lease of the old timeline has a row that says it runs, and nobody holds its lock.
  await until('the run is taken from the worker of the old timeline', async () => (await db.query<{ state: string }>(held))[0]?.state === 'pending')
  expect(await db.query(`select state from pawl.leases where name = 'worker-1'`)).toEqual([{ state: 'lost' }])
  expect(worker.log.filter(line => line.msg === 'run opened')).toEqual([])
  expect(await doneOf(db)).toBe(done)

  await db.query(`select pawl.resume(queue) from pawl.paused_queues where reason = 'recovered'`)
  expect(await endOf(db.query, runId)).toBe('completed')
  expect(await faultsOf(db.query, runId, RECIPIENTS)).toEqual([])
  expect(await countFaults(db.query, runId)).toEqual([])
  const batches = await recordedBatches(db.query, runId)
  expect(new Set(batches.map(batch => batch.worker))).toEqual(new Set(['worker-1', 'second-life']))
})

test('recovered to the point that `pawl migrate down` marked, what the migration deleted is back', async () => {
  expect(restorePoint.name).toMatch(/^pawl_before_0099_precious_\d{8}T\d{9}Z$/)
  const { db } = await recovered({ recovery_target_name: restorePoint.name })
  expect(await timelineOf(db)).toBe(2)
  expect(await db.query('select count(*) from public.precious')).toEqual([{ count: 500 }])
  expect(await db.query('select state from pawl.checkpoints')).toEqual([{ state: 'completed' }])
})

test('where a segment of the WAL is missing, the server ends instead of opening a database that lacks what came after', async () => {
  const [row] = await ask<{ segment: string }>(source.url, `select pg_walfile_name('${restorePoint.lsn}') as segment`)
  const gap = directory('gap')
  places.push(gap)
  for (const segment of readdirSync(archive)) if (segment !== row?.segment) copy(join(archive, segment), join(gap, segment))
  const failed = failRecovery(base, gap, { recovery_target_name: restorePoint.name })
  expect(failed.status).toBe(1)
  expect(failed.said).toMatch(/FATAL: {2}recovery ended before configured recovery target was reached/)
  expect(failed.state).toBe('in archive recovery')
})

test('a restore point of a name that was never made is no end either', () => {
  const failed = failRecovery(base, archive, { recovery_target_name: 'pawl_before_nothing' })
  expect(failed).toMatchObject({ status: 1, state: 'in archive recovery' })
  expect(failed.said).toContain('recovery ended before configured recovery target was reached')
})
