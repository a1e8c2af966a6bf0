import { spawnSync } from 'node:child_process'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { openStore } from '../../src/store.ts'
import type { BackupContext } from '../../workers/maintenance/backups/context.ts'
import { takeBackup } from '../../workers/maintenance/backups/take.ts'
import { pgbouncerMissing, startPgbouncer } from '../support/pgbouncer.ts'
import { startS3 } from '../support/s3.ts'
import { failure } from '../support/store.ts'
import { until } from '../support/until.ts'
import { addBulk, openTakeStage, sessionsOf, type TakeStage } from './take-stage.ts'

const FULL = { kind: 'manual', scope: 'full' } as const

/** Does something once, when pg_dump is in the middle of its rows. */
function when(context: BackupContext, act: () => void): BackupContext {
  let isDone = false
  const told: BackupContext['told'] = progress => {
    if (isDone || progress.step !== 'dump') return
    isDone = true
    act()
  }
  return { ...context, told }
}

/** No process and no session of a failed backup goes on. */
async function nothingRuns({ db }: TakeStage): Promise<void> {
  await until('no session is left', async () => (await sessionsOf(db)).length === 0)
  expect(childrenNamed('pg_dump')).toEqual([])
}

function childrenNamed(name: string): number[] {
  const { stdout } = spawnSync('ps', ['-o', 'pid=,comm=', '--ppid', String(process.pid)], { encoding: 'utf8' })
  return stdout
    .split('\n')
    .filter(line => line.trim().endsWith(` ${name}`))
    .map(line => Number.parseInt(line, 10))
}

test('a pg_dump that is killed leaves nothing, and is tried again', async () => {
  const stage = await openTakeStage()
  await addBulk(stage.db, 40)
  const killing = when(stage.context(), () => {
    const [pid] = childrenNamed('pg_dump')
    if (pid === undefined) throw new Error('pg_dump does not run')
    process.kill(pid, 'SIGKILL')
  })
  const error = await failure(takeBackup(killing, FULL))
  expect(error).toMatchObject({ code: 'backup.dump', retryable: true, message: expect.stringContaining('pg_dump was killed (SIGKILL)') })
  expect(await stage.files()).toEqual([])
  await nothingRuns(stage)
})

test('a server that ends the session of pg_dump is a failure that passes', async () => {
  const stage = await openTakeStage()
  await addBulk(stage.db, 40)
  const ending = when(stage.context(), () => {
    stage.db.query(`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'pg_dump'`).catch(() => {})
  })
  expect(await failure(takeBackup(ending, FULL))).toMatchObject({ code: 'backup.dump', retryable: true })
  expect(await stage.files()).toEqual([])
  await nothingRuns(stage)
})

test('a lost connection, which takes lock and snapshot with it, ends the backup', async () => {
  const stage = await openTakeStage()
  await addBulk(stage.db, 40)
  const losing = when(stage.context(), () => {
    stage.db
      .query(`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'pawl backup'`)
      .catch(() => {})
  })
  expect(await failure(takeBackup(losing, FULL))).toMatchObject({ code: 'backup.connection', retryable: true })
  expect(await stage.files()).toEqual([])
  await nothingRuns(stage)
})

test('a backup that is told to stop does, leaves nothing, and throws the reason', async () => {
  const stage = await openTakeStage()
  await addBulk(stage.db, 40)
  const stopping = new AbortController()
  const reason = new Error('the worker drains')
  const context = when(stage.context({}, stopping.signal), () => stopping.abort(reason))
  expect(await failure(takeBackup(context, FULL))).toBe(reason)
  expect(await stage.files()).toEqual([])
  await nothingRuns(stage)
  expect(await failure(takeBackup(context, FULL))).toBe(reason)
})

test('a backup that takes too long is broken off', async () => {
  const stage = await openTakeStage()
  await addBulk(stage.db, 40)
  const context = stage.context()
  const impatient = { ...context, config: { ...context.config, backup: { ...context.config.backup, dumpMs: 150 } } }
  const error = await failure(takeBackup(impatient, FULL))
  expect(error).toMatchObject({ code: 'backup.too_long', retryable: false, hint: expect.stringContaining('PAWL_BACKUP_HOURS') })
  expect(await stage.files()).toEqual([])
  await nothingRuns(stage)
})

test('a killed upload leaves neither object nor parts, wherever it is killed', async () => {
  const s3 = await startS3()
  onTestFinished(() => s3.close())
  for (const [name, value] of Object.entries(s3.env)) vi.stubEnv(name, value)
  onTestFinished(() => void vi.unstubAllEnvs())
  const stage = await openTakeStage({ BACKUP_S3_BUCKET: `s3://${s3.bucket}/database`, PAWL_BACKUP_STORAGE_CLASS: 'STANDARD_IA', PAWL_S3_PATH_STYLE: 'true' })
  await addBulk(stage.db, 20)
  const listed = async () => {
    const entries = []
    for await (const entry of openStore(`s3://${s3.bucket}/database`, { config: s3.config }).list()) entries.push(entry.key)
    return entries.sort()
  }
  const points = [
    ['the second part', ({ path }: { path: string }) => path.includes('partNumber=2&')],
    ['the completion', ({ method, path }: { method: string; path: string }) => method === 'POST' && path.includes('uploadId=')],
    ['the roles', ({ method, path }: { method: string; path: string }) => method === 'PUT' && path.includes('.roles.')],
    ['the manifest', ({ method, path }: { method: string; path: string }) => method === 'PUT' && path.includes('.manifest.json')],
  ] as const
  for (const [what, matches] of points) {
    // The SDK asks three times before it gives up.
    s3.fail(3, matches, 'reset')
    expect(await failure(takeBackup(stage.context(), FULL)), what).toMatchObject({ code: 'store.unreachable', retryable: true })
    expect(s3.uploads(), what).toEqual([])
    expect(await listed(), what).toEqual([])
    await nothingRuns(stage)
  }
  s3.asked.length = 0
  const { stored } = await takeBackup(stage.context(), FULL)
  const { name, files } = stored.manifest
  expect(await listed()).toEqual([`${name}.dump.zst`, `${name}.manifest.json`, `${name}.roles.zst`])
  const begun = s3.asked.find(({ method, path }) => method === 'POST' && path.includes('?uploads'))
  expect(begun?.path).toContain(files.dump.key)
  expect(begun?.headers).toMatchObject({ 'x-amz-storage-class': 'STANDARD_IA', 'x-amz-meta-pawl-backup': name })
})

const isRoot = process.getuid?.() === 0
if (!isRoot) console.warn('SKIPPED: a backup onto a full disk. Run it as root, who may mount one of 2 MB')

test.runIf(isRoot)('a full disk leaves nothing on it', async () => {
  const full = await mkdtemp(join(tmpdir(), 'pawl-full-'))
  onTestFinished(() => rm(full, { recursive: true, force: true }))
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', full], { encoding: 'utf8' })
  if (mounted.status !== 0 && process.env.CI === undefined) {
    console.warn(`SKIPPED: a backup onto a full disk. This machine lets root mount none: ${mounted.stderr}`)
    return
  }
  expect(mounted.stderr).toBe('')
  onTestFinished(() => void spawnSync('umount', ['-l', full]))
  const stage = await openTakeStage({ BACKUP_DIR: full })
  await addBulk(stage.db, 10)
  const error = await failure(takeBackup(stage.context(), FULL))
  expect(error).toMatchObject({ code: 'store.full', message: expect.stringContaining(full) })
  expect(spawnSync('ls', ['-A', full], { encoding: 'utf8' }).stdout).toBe('')
  await nothingRuns(stage)
})

test('tools that are missing or of another version are named before anything is begun', async () => {
  const stage = await openTakeStage()
  const empty = await mkdtemp(join(tmpdir(), 'pawl-tools-'))
  onTestFinished(() => rm(empty, { recursive: true, force: true }))
  const missing = await failure(takeBackup(stage.context({ PAWL_PG_BIN: empty }), FULL))
  expect(missing).toMatchObject({ code: 'tools.missing', message: expect.stringContaining(empty), hint: expect.stringContaining('postgresql-client-15') })
  for (const tool of ['pg_dump', 'pg_dumpall', 'pg_restore']) {
    await writeFile(join(empty, tool), '#!/bin/sh\necho "pg_dump (PostgreSQL) 14.9"\n')
    await chmod(join(empty, tool), 0o755)
  }
  const other = await failure(takeBackup(stage.context({ PAWL_PG_BIN: empty }), FULL))
  expect(other).toMatchObject({ code: 'tools.version', message: expect.stringContaining(`PostgreSQL 15, and its pg_dump is not in ${empty} (14.9)`) })
  expect(await stage.files()).toEqual([])
  expect(await failure(takeBackup(stage.context({ BACKUP_DIR: '' }), FULL))).toMatchObject({ code: 'backup.place_unset' })
})

test('a login that may not read everything is told so, and what to grant', async () => {
  const stage = await openTakeStage()
  const name = `reader_${process.pid}`
  await stage.db.query(`create role ${name} login password 'reader'`)
  const as = stage.context({ DATABASE_URL: stage.db.urlAs(name, 'reader') })
  try {
    expect(await failure(takeBackup(as, FULL))).toMatchObject({ code: 'backup.denied', hint: expect.stringContaining('pg_read_all_data') })
    await stage.db.query(`grant pg_read_all_data to ${name}`)
    // Large objects belong to nobody but their owner.
    expect(await failure(takeBackup(as, FULL))).toMatchObject({ code: 'backup.dump', retryable: false, message: expect.stringContaining('large object 4711') })
    await stage.db.query('select lo_unlink(4711)')
    expect((await takeBackup(as, FULL)).stored.manifest.files.roles).toBeDefined()
  } finally {
    await stage.db.query(`drop owned by ${name}; drop role ${name}`)
  }
})

test('tables that there are not, and a place that can not be written to, are refused', async () => {
  const stage = await openTakeStage()
  const tables = { kind: 'manual', scope: 'tables' } as const
  expect(await failure(takeBackup(stage.context(), { ...tables, tables: ['accounts', 'public.nothing', 'summed'] }))).toMatchObject({
    code: 'backup.tables',
    message: expect.stringContaining('public.nothing, summed'),
  })
  expect(await failure(takeBackup(stage.context(), tables))).toMatchObject({ code: 'backup.tables' })
  expect(await stage.files()).toEqual([])
  const occupied = join(stage.directory, 'occupied')
  await writeFile(occupied, '')
  expect(await failure(takeBackup(stage.context({ BACKUP_DIR: occupied }), FULL))).toMatchObject({ code: 'store.place' })
  await nothingRuns(stage)
})

test.skipIf(pgbouncerMissing())('a transaction pooler is refused', async () => {
  const stage = await openTakeStage()
  const through = await startPgbouncer(stage.db.url, 'transaction')
  expect(await failure(takeBackup(stage.context({ DATABASE_URL: through }), FULL))).toMatchObject({ code: 'database.pooler' })
})
