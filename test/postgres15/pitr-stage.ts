import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { databaseIdentity, giveTo, idOf } from '../../src/embedded/binaries.ts'
import { environment } from '../../src/embedded/cluster.ts'
import { migrationsDir } from '../../src/migrate.ts'
import { ask } from '../support/embedded.ts'
import { withDatabase } from '../support/global.ts'
import { type Postgres15, postgres15Bin, runPostgres15, startPostgres15 } from '../support/postgres15.ts'
import { until } from '../support/until.ts'

/** A directory that the database's user may write to. */
export function directory(name: string): string {
  const path = mkdtempSync(join(tmpdir(), `pawl-${name}-`))
  chmodSync(path, 0o755)
  giveTo(databaseIdentity(), path)
  return path
}

/** As docs/recovery.md sets archiving up. */
export const archiving = (archive: string) => ({
  wal_level: 'replica',
  archive_mode: 'on',
  archive_command: 'test ! -f /archive/%f && cp %p /archive/.%f && sync /archive/.%f && mv /archive/.%f /archive/%f'.replaceAll('/archive', archive),
  full_page_writes: 'on',
})

export function baseBackup(source: Postgres15, into: string): void {
  const { hostname, port, username, password } = new URL(source.url)
  const target = ['-D', into, '-h', hostname, '-p', port, '-U', username]
  runPostgres15('pg_basebackup', [...target, '-X', 'stream', '-c', 'fast', '--no-sync'], { env: { PGPASSWORD: password } })
}

/** Ends the segment under way and waits until the archive has it. */
export async function archiveAll(url: string): Promise<void> {
  const [row] = await ask<{ segment: string }>(url, 'select pg_walfile_name(pg_switch_wal()) as segment')
  const segment = row?.segment ?? 'none'
  await until(`${segment} is archived`, async () => {
    const [archiver] = await ask<{ there: boolean }>(url, `select last_archived_wal >= '${segment}' as there from pg_stat_archiver`)
    return archiver?.there === true
  })
}

/** What a recovery adds to a copy of the base backup. */
export function recoverTo(data: string, archive: string, target: Record<string, string>): void {
  const settings = { restore_command: `cp ${archive}/%f %p`, recovery_target_action: 'promote', ...target }
  const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value}'\n`)
  writeFileSync(join(data, 'postgresql.auto.conf'), lines.join(''))
  writeFileSync(join(data, 'recovery.signal'), '')
  for (const file of ['postgresql.auto.conf', 'recovery.signal']) giveTo(databaseIdentity(), join(data, file))
}

/** A cluster recovered to the target and promoted: the copy of another is at `base`, its WAL in `archive`. */
export async function recover(base: string, archive: string, target: Record<string, string>): Promise<Postgres15> {
  const recovered = await startPostgres15({
    settings: { full_page_writes: 'on' },
    prepare(place) {
      copy(base, place.data)
      recoverTo(place.data, archive, target)
    },
  })
  try {
    await until('the recovery has ended', async () => {
      const [row] = await ask<{ recovering: boolean }>(recovered.url, 'select pg_is_in_recovery() as recovering')
      return row?.recovering === false
    })
    return recovered
  } catch (error) {
    await recovered.stop()
    throw error
  }
}

/** A recovery that is expected to fail: how the server ended, and what it said. */
export function failRecovery(base: string, archive: string, target: Record<string, string>): { status: number | null; said: string; state: string } {
  const root = directory('broken')
  const data = join(root, 'data')
  try {
    copy(base, data)
    recoverTo(data, archive, target)
    const flags = ['-c', 'listen_addresses=', '-c', `unix_socket_directories=${root}`, '-c', 'fsync=off']
    const ended = spawnSync(join(postgres15Bin, 'postgres'), ['-D', data, ...flags], {
      ...idOf(databaseIdentity()),
      cwd: '/',
      env: environment(),
      encoding: 'utf8',
      timeout: 60_000,
    })
    const state = runPostgres15('pg_controldata', ['-D', data])
    return { status: ended.status, said: ended.stderr, state: /cluster state: +(.+)/.exec(state)?.[1] ?? '' }
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
}

export function copy(from: string, to: string): void {
  const copied = spawnSync('cp', ['-a', from, to], { encoding: 'utf8' })
  if (copied.status !== 0) throw new Error(`could not copy ${from}: ${copied.stderr}`)
}

/** The project's migrations, and after them one whose way back deletes a table; the directory. */
export function withDestructiveMigration(tag: string, table: string): string {
  const dir = mkdtempSync(join(tmpdir(), 'pawl-migrations-'))
  cpSync(migrationsDir({ migrationsDir: undefined }), dir, { recursive: true })
  const journal = JSON.parse(readFileSync(join(dir, 'meta', '_journal.json'), 'utf8')) as { entries: { idx: number; when: number }[] }
  const last = journal.entries.at(-1)
  journal.entries.push({ ...last, idx: journal.entries.length, when: (last?.when ?? 0) + 1_000, tag } as (typeof journal.entries)[number])
  writeFileSync(join(dir, 'meta', '_journal.json'), JSON.stringify(journal))
  writeFileSync(join(dir, `${tag}.sql`), `create table ${table} (id integer primary key);\n`)
  writeFileSync(join(dir, 'down', `${tag}.sql`), `-- pawl:destructive\ndrop table ${table};\n`)
  return dir
}

/** `name` on the cluster. */
export const on = (cluster: Postgres15, name: string) => withDatabase(cluster.url, name)
