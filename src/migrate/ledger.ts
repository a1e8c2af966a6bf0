import { hostname } from 'node:os'
import type { Query } from '../database.ts'
import { type Migration, type Migrations, outOfOrder, type Problem, type ProblemKind, problem } from './files.ts'

/** One migration as the files and the database have it; `state` is the first problem it has, if it has one. */
export type MigrationState = {
  tag: string
  state: 'applied' | ProblemKind
  appliedAt: Date | undefined
  appliedBy: string | undefined
  durationMs: number | undefined
  /** sha256 of the up file on disk. */
  checksum: string | undefined
  /** sha256 of the up file that was applied. */
  appliedChecksum: string | undefined
}

/** What the database says was applied: a row of our ledger and the row of drizzle's table that was committed with it. */
export type Recorded = {
  tag: string | null
  applied_at: Date | null
  applied_by: string | null
  checksum: string | null
  rollback_checksum: string | null
  duration_ms: number | null
  journal_when: number | null
  drizzle_when: number | null
  drizzle_hash: string | null
  drizzle_rows: number
}

const TABLES = `
create schema if not exists pawl;
create schema if not exists drizzle;
create table if not exists drizzle.__drizzle_migrations (
  id serial primary key,
  hash text not null,
  created_at bigint
);
create table if not exists pawl.schema_migrations (
  version varchar(255) primary key,
  applied_at timestamptz default now(),
  rollback_sql text,
  checksum varchar(64),
  applied_by varchar(255) default current_user,
  rollback_checksum varchar(64),
  duration_ms integer,
  host text,
  app_version text,
  journal_when bigint
);
create table if not exists pawl.schema_objects (
  object text primary key,
  parent text,
  definition text not null,
  server_major integer not null,
  recorded_at timestamptz not null default now()
);
comment on table pawl.schema_objects is 'What the migrations have made, object by object, so that pawl migrate verify can tell what somebody changed by hand; texts of another major version of PostgreSQL are not compared';
comment on table pawl.schema_migrations is 'One row per applied migration (document 001): the sha256 of the file as it was applied, and the SQL that undoes it';
comment on column pawl.schema_migrations.journal_when is 'created_at of the row in drizzle.__drizzle_migrations that was committed together with this one';`

async function ledgerExists(query: Query, alsoObjects = false): Promise<boolean> {
  const [row] = await query<{ present: boolean }>(
    `select to_regclass('pawl.schema_migrations') is not null and to_regclass('drizzle.__drizzle_migrations') is not null
      and (not $1 or to_regclass('pawl.schema_objects') is not null) as present`,
    [alsoObjects],
  )
  return row?.present ?? false
}

/** Makes the tables where they are missing. Only under the migration lock: `if not exists` alone is no protection from a race. */
export async function createLedger(query: Query): Promise<void> {
  // Asked first, because `create schema if not exists` demands the right to create schemas even when there is nothing to create.
  if (!(await ledgerExists(query, true))) await query(TABLES)
}

/** What was applied, newest last. One statement, so that a migration that commits meanwhile is seen in both tables or in neither. */
export async function readLedger(query: Query): Promise<Recorded[]> {
  if (!(await ledgerExists(query))) return []
  return query<Recorded>(`
    select l.version as tag, l.applied_at, l.applied_by, l.checksum, l.rollback_checksum, l.duration_ms, l.journal_when,
      d.created_at as drizzle_when, d.hash as drizzle_hash, coalesce(d.copies, 0)::integer as drizzle_rows
    from pawl.schema_migrations l
    full join (
      select created_at, min(hash) as hash, count(*) as copies
      from drizzle.__drizzle_migrations
      group by created_at
    ) d on d.created_at = l.journal_when
    order by l.journal_when nulls first, l.applied_at, l.version`)
}

/** Records an up file in both tables. Belongs into the transaction of the file. */
export async function recordUp(query: Query, migration: Migration, durationMs: number, version: string | undefined): Promise<void> {
  await query('insert into drizzle.__drizzle_migrations (hash, created_at) values ($1, $2)', [migration.up?.checksum, migration.when])
  await query(
    `insert into pawl.schema_migrations (version, rollback_sql, checksum, rollback_checksum, duration_ms, host, app_version, journal_when)
    values ($1, $2, $3, $4, $5, $6, $7, $8)`,
    [migration.tag, migration.down?.text, migration.up?.checksum, migration.down?.checksum, Math.round(durationMs), hostname(), version, migration.when],
  )
}

/** Takes a migration out of both tables. Belongs into the transaction of the down file. */
export async function recordDown(query: Query, recorded: Recorded): Promise<void> {
  await query('delete from drizzle.__drizzle_migrations where created_at = $1 and hash = $2', [recorded.journal_when, recorded.checksum])
  await query('delete from pawl.schema_migrations where version = $1', [recorded.tag])
}

/** Puts files and database side by side: a state for every migration either of them knows, and everything that is wrong. */
export function compare(migrations: Migrations, ledger: Recorded[]): { states: MigrationState[]; problems: Problem[] } {
  const applied = new Map(ledger.filter(row => row.tag !== null).map(row => [row.tag, row]))
  const newest = ledger.filter(row => row.tag !== null && row.journal_when !== null).at(-1)
  const problems = [...migrations.problems]
  const states: MigrationState[] = []
  for (const entry of migrations.entries) {
    const row = applied.get(entry.tag)
    // Rows of drizzle's table that match nothing of ours are those of the host application, which may use drizzle as well.
    const drizzleOnly = row === undefined && ledger.some(other => other.tag === null && other.drizzle_when === entry.when)
    if (row !== undefined) problems.push(...problemsOf(entry, row))
    else if (drizzleOnly) {
      problems.push(
        problem(
          'unpaired',
          entry.tag,
          'drizzle.__drizzle_migrations records it, pawl.schema_migrations does not',
          'see whether drizzle-kit migrate applied it whole; then undo it and delete that row',
        ),
      )
    } else if (newest?.journal_when != null && entry.when <= newest.journal_when) {
      problems.push(outOfOrder(entry.tag, newest.tag ?? '', 'is applied already'))
    }
    states.push(stateOf(entry.tag, row, entry.up?.checksum, problems))
  }
  const known = new Set(migrations.entries.map(entry => entry.tag))
  for (const row of applied.values()) {
    if (row.tag === null || known.has(row.tag)) continue
    problems.push(
      problem(
        'missing',
        row.tag,
        'it is applied, but its file and journal entry are not here',
        'deploy the code that has them, or restore them; code that is older than the database cannot migrate it',
      ),
    )
    states.push(stateOf(row.tag, row, undefined, problems))
  }
  const told = new Set(states.map(state => state.tag))
  for (const { tag } of migrations.problems) {
    if (!told.has(tag)) states.push(stateOf(tag, undefined, undefined, problems))
    told.add(tag)
  }
  return { states, problems }
}

function problemsOf(entry: Migration, row: Recorded): Problem[] {
  const found: Problem[] = []
  if (entry.up !== undefined && entry.up.checksum !== row.checksum) {
    found.push(
      problem(
        'edited',
        entry.tag,
        `${entry.tag}.sql was changed after it was applied`,
        'restore it from version control and put the change into a new migration',
      ),
    )
  }
  if (entry.down !== undefined && entry.down.checksum !== row.rollback_checksum) {
    found.push(problem('down_edited', entry.tag, `down/${entry.tag}.sql was changed after the migration was applied`, 'restore it from version control'))
  }
  if (row.drizzle_rows > 1) {
    found.push(
      problem(
        'duplicate',
        entry.tag,
        `drizzle.__drizzle_migrations records it ${row.drizzle_rows} times`,
        'a migrator without a lock may have run it that often: see what it did twice, then delete the extra rows',
      ),
    )
  } else if (row.drizzle_hash !== row.checksum || row.journal_when !== entry.when) {
    found.push(
      problem(
        'unpaired',
        entry.tag,
        'its rows in drizzle.__drizzle_migrations, pawl.schema_migrations and the journal do not match',
        `both tables must have checksum ${row.checksum} and created_at ${entry.when}; correct the one that was touched`,
      ),
    )
  }
  return found
}

function stateOf(tag: string, row: Recorded | undefined, checksum: string | undefined, problems: Problem[]): MigrationState {
  return {
    tag,
    state: problems.find(found => found.tag === tag)?.kind ?? (row === undefined ? 'pending' : 'applied'),
    appliedAt: row?.applied_at ?? undefined,
    appliedBy: row?.applied_by ?? undefined,
    durationMs: row?.duration_ms ?? undefined,
    checksum,
    appliedChecksum: row?.checksum ?? undefined,
  }
}
