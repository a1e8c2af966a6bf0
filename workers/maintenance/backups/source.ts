import type { Config } from '../../../src/config.ts'
import { connectDirect, type DirectConnection, type Query } from '../../../src/database.ts'
import { PawlError } from '../../../src/errors.ts'
import { refuseSharedSession } from '../../../src/pooler.ts'
import type { Scope } from './manifest.ts'
import { type Origin, readOrigin } from './origin.ts'
import { listTables, qualified, type Table } from './snapshot.ts'

/**
 * Shorter than a second, PostgreSQL's deadlock_timeout: in a circle with a migration it is always us who gives up, and never the
 * migration that is chosen as the victim.
 */
const LOCK_WAIT_MS = 800

/** The database that a backup is taken of, on a session of its own: the lock and the snapshot live as long as it. */
export type Source = {
  connection: DirectConnection
  origin: Origin
  server: { version: string; major: number }
  /** Where the WAL stood before any snapshot of this session; on a standby, how far it was replayed. */
  lsn: string
  /** By the server's clock. */
  now: Date
}

/** Connects and asks what must be known beforehand. Throws `database.pooler` where sessions are shared. */
export async function openSource(config: Config): Promise<Source> {
  const connect = () => connectDirect(config, 'pawl backup')
  const connection = await connect()
  try {
    await refuseSharedSession(connection, connect)
    const [row] = await connection.query<{ version: string; number: number; lsn: string; now: Date }>(
      `select current_setting('server_version') as version, current_setting('server_version_num')::integer as number,
         (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end)::text as lsn, now()`,
    )
    if (row === undefined) throw new Error('the server said nothing about itself')
    const { version, number, lsn, now } = row
    return { connection, origin: await readOrigin(connection.query), server: { version, major: Math.floor(number / 10_000) }, lsn, now }
  } catch (error) {
    await connection.close()
    throw error
  }
}

/** Object ids of tables; undefined: everything. */
export type Named = readonly number[] | undefined

/** What is dumped: tables with rows of their own, all that are locked, and what pg_dump must be told to find them; undefined: nothing. */
export type Selection = { tables: Table[]; locked: string[]; patterns: string[] | undefined }

/** A snapshot that stays until its connection ends. */
export type Held = { snapshot: string; takenAt: Date; selection: Selection }

/**
 * Takes the snapshot and exports it, after all tables are locked (ACCESS SHARE, as pg_dump does): `truncate` and a rewriting `alter table` don't
 * heed snapshots, and after one of them a table is empty for whoever looks at it with an older one. No lock is waited for while others are
 * held. Throws as PostgreSQL does: who calls it may try again.
 */
export async function hold({ query }: DirectConnection, scope: Scope, named: Named): Promise<Held> {
  const before = await select(query, named)
  await query('begin transaction isolation level repeatable read, read only')
  // The structure alone is read from the catalogs, which heed snapshots.
  if (scope !== 'schema' && before.locked.length > 0) {
    await query(`set local lock_timeout = ${LOCK_WAIT_MS}`)
    await query(`lock table ${before.locked.map(name => `only ${name}`).join(', ')} in access share mode`)
    await query('set local lock_timeout = 0')
  }
  const [row] = await query<{ snapshot: string; taken_at: Date }>('select pg_export_snapshot() as snapshot, now() as taken_at')
  if (row === undefined) throw new Error('pg_export_snapshot() returned no row')
  // Asked again: what came between the list and the locks is in the snapshot as well.
  return { snapshot: row.snapshot, takenAt: row.taken_at, selection: named === undefined ? await select(query, named) : before }
}

/** All tables, or those named. A partitioned one has no rows to read, and is locked all the same: pg_dump does so, too. */
async function select(query: Query, named: Named): Promise<Selection> {
  const found = await query<Table & { kind: string }>(
    `select n.nspname as schema, c.relname as name, c.relkind::text as kind
     from pg_class c
     join pg_namespace n on n.oid = c.relnamespace
     where ($1::bigint[] is null and c.relkind = 'p' and n.nspname !~ '^pg_') or c.oid::bigint = any($1::bigint[])
     order by n.nspname collate "C", c.relname collate "C"`,
    [named ?? null],
  )
  const plain = (tables: readonly Table[]) => tables.map(({ schema, name }) => ({ schema, name }))
  const tables = named === undefined ? await listTables(query) : plain(found.filter(table => table.kind === 'r'))
  const all = named === undefined ? [...tables, ...found] : found
  return { tables, locked: all.map(qualified), patterns: named === undefined ? undefined : found.map(qualified) }
}

/** The tables that `words` name, with all their partitions, and above them the tables that these are partitions of. Throws `backup.tables`. */
export async function resolve({ query }: DirectConnection, words: readonly string[]): Promise<number[]> {
  const found = await query<{ word: string; oid: number | null }>(
    `select word, (select c.oid from pg_class c where c.oid = to_regclass(word) and c.relkind in ('r', 'p'))::bigint as oid
     from unnest($1::text[]) word`,
    [words],
  )
  const unknown = found.filter(row => row.oid === null).map(row => row.word)
  if (found.length === 0 || unknown.length > 0) {
    throw new PawlError('backup.tables', found.length === 0 ? 'no table is named' : `there is no table ${unknown.join(', ')}`, {
      hint: 'name tables as schema.table',
    })
  }
  const rows = await query<{ oid: number }>(
    `with recursive below(oid) as (
       select unnest($1::bigint[])
       union
       select i.inhrelid::bigint from pg_inherits i join below on i.inhparent::bigint = below.oid),
     above(oid) as (
       select oid from below
       union
       select i.inhparent::bigint from pg_inherits i join above on i.inhrelid::bigint = above.oid)
     select oid from above`,
    [found.map(row => row.oid)],
  )
  return rows.map(({ oid }) => oid)
}
