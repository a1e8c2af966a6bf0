import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { onTestFinished } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import { openLog } from '../../src/log.ts'
import type { BackupContext } from '../../workers/maintenance/backups/context.ts'
import { readSequences, readTables, settle } from '../../workers/maintenance/backups/snapshot.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { postgres15Bin } from '../support/postgres15.ts'

/** A database with one of each thing that a dump could lose or a hash could miss. */
const CONTENT = `
  create extension hstore;
  create schema "Shop ""A""";
  create type mood as enum ('sad', 'glad');
  create type place as (x double precision, y double precision);
  create table "Shop ""A"""."held" (
    id bigint generated always as identity primary key,
    held text,
    at timestamptz not null default clock_timestamp(),
    took interval, price money, ratio double precision, raw bytea, doc jsonb, feeling mood, spot place, tags hstore, kin regclass,
    doubled double precision generated always as (ratio * 2) stored,
    gone integer
  );
  alter table "Shop ""A"""."held" drop column gone;
  insert into "Shop ""A"""."held" (held, took, price, ratio, raw, doc, feeling, spot, tags, kin)
    select repeat(md5(i::text), 1 + i % 5), i * interval '61 minutes', (i / 7.0)::numeric::money, i / 3.0, decode(md5(i::text), 'hex'),
      jsonb_build_object('i', i, 'none', null), (array['sad', 'glad'])[1 + i % 2]::mood, row(i / 7.0, -i)::place, hstore('k', i::text), 'pg_class'::regclass
    from generate_series(1, 5000) i;
  create table accounts (id integer primary key, amount bigint not null);
  insert into accounts select i, 1000 from generate_series(1, 200) i;
  create table measured (id bigint, day date not null, value numeric, primary key (id, day)) partition by range (day);
  create table measured_2026_01 partition of measured for values from ('2026-01-01') to ('2026-02-01');
  create table measured_2026_02 partition of measured for values from ('2026-02-01') to ('2026-03-01');
  insert into measured select i, date '2026-01-01' + i % 59, i / 9.0 from generate_series(1, 3000) i;
  create unlogged table staging (n integer);
  insert into staging select i % 10 from generate_series(1, 1000) i;
  create table parent (n integer); create table child (m integer) inherits (parent);
  insert into parent values (1), (1), (null); insert into child values (2, 3);
  create materialized view summed as select sum(amount) as total from accounts;
  create sequence backwards increment -1; select nextval('backwards');
  select lo_from_bytea(4711, '\\x0102');`

export type TakeStage = Awaited<ReturnType<typeof openTakeStage>>

/** A database with content, and a directory for its backups, until the test ends. */
export async function openTakeStage(environment: Record<string, string> = {}) {
  const db = await createDatabase()
  onTestFinished(() => db.drop())
  // The schema of the login's own name, `pawl`, would come first.
  const setting = await connectDirect(readConfig({ DATABASE_URL: db.url }), 'test')
  await setting.query(`alter database ${new URL(db.url).pathname.slice(1)} set search_path = public`)
  await setting.close()
  await db.query(CONTENT)
  const directory = await mkdtemp(join(tmpdir(), 'pawl-backups-'))
  onTestFinished(() => rm(directory, { recursive: true, force: true }))
  const progress: { step: string; done: number; total: number }[] = []
  const context = (more: Record<string, string> = {}, signal = new AbortController().signal): BackupContext => ({
    config: readConfig({ DATABASE_URL: db.url, BACKUP_DIR: directory, ...environment, ...more }),
    log: openLog({ level: 'silent' }),
    clock: systemClock,
    signal,
    told: step => void progress.push(step),
  })
  return { db, directory, progress, context, files: async () => (await readdir(directory)).sort() }
}

/** An empty database beside it. */
export async function emptyDatabase(): Promise<TestDatabase> {
  const db = await createDatabase({ empty: true })
  onTestFinished(() => db.drop())
  return db
}

/** Tables and sequences, as whoever verifies reads them. */
export async function contentOf(db: TestDatabase) {
  const connection = await connectDirect(readConfig({ DATABASE_URL: db.url }), 'test')
  try {
    await settle(connection.query)
    return { tables: await readTables(connection.query), sequences: await readSequences(connection.query) }
  } finally {
    await connection.close()
  }
}

/** Stock tools alone: `sh -c "…"` with pg_restore in its path. Throws with what they said. */
export async function shell(script: string): Promise<string> {
  const { stdout } = await promisify(execFile)('/bin/bash', ['--norc', '-c', `set -eo pipefail; ${script}`], {
    env: { PATH: `${postgres15Bin}:/usr/bin:/bin`, LC_ALL: 'C' },
    maxBuffer: 64 * 1024 * 1024,
  })
  return stdout
}

/** Sessions of pg_dump and of ours on this database: what a failed backup must not leave running. */
export async function sessionsOf(db: TestDatabase): Promise<{ pid: number; name: string; query: string }[]> {
  return db.query(
    `select pid, application_name as name, query from pg_stat_activity
     where datname = current_database() and application_name in ('pg_dump', 'pg_dumpall', 'pawl backup')`,
  )
}

/** Rows that take a while to dump and can't be compressed: those of ten megabytes, again and again, further apart than zstd looks back. */
export async function addBulk(db: TestDatabase, megabytes: number): Promise<void> {
  await db.query(`create table bulk (id integer, content bytea); alter table bulk alter content set storage external`)
  for (let at = 0; at < 10; at++) await db.query('insert into bulk values ($1, $2)', [at, randomBytes(1024 * 1024)])
  await db.query('insert into bulk select id + 10 * round, content from bulk, generate_series(1, $1) round order by round, id', [megabytes / 10 - 1])
}
