import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { applyFile, type Outcome } from './migrate/apply.ts'
import type { Config } from './config.ts'
import { connectDirect, type Query } from './database.ts'
import { codeOf, PawlError } from './errors.ts'
import { acceptStructure, findDrift } from './migrate/drift.ts'
import { type ExclusiveContext, exclusively } from './migrate/exclusive.ts'
import { compare, createLedger, type MigrationState, type Recorded, readLedger, recordDown, recordUp } from './migrate/ledger.ts'
import { type Migrations, MigrationsRefused, type Problem, problem, readJournal, readMigrations } from './migrate/files.ts'
import { type Plan, planOf } from './migrate/plan.ts'

/**
 * `dir` is drizzle's directory (see `migrationsDir`); `version` is noted in the ledger as `app_version`. `beforeDestructive` is called under the lock
 * before anything is changed, with the files that delete data; when it throws, nothing is. It is who takes a backup.
 */
export type MigrateContext = ExclusiveContext & {
  dir: string
  version?: string | undefined
  beforeDestructive?: ((tags: string[]) => Promise<void>) | undefined
}

/** `before` and `after` run under the lock, around the files and also when none is pending: for what has migrations of its own. */
export type UpOptions = { to?: string; before?: (query: Query) => Promise<void>; after?: (query: Query) => Promise<void> }

/** One file that was run, in the order of running. */
export type Moved = Outcome & { tag: string }

/** The schemas whose indexes `verifyMigrations` looks at. */
const OUR_SCHEMAS = ['public', 'pawl', 'sqp', 'reporting']

/** Where the migrations are: PAWL_MIGRATIONS_DIR, else `drizzle` beside the bundle, else `drizzle` one level up. Throws `migrate.directory`. */
export function migrationsDir(config: Pick<Config, 'migrationsDir'>): string {
  const candidates =
    config.migrationsDir !== undefined ? [config.migrationsDir] : ['./drizzle', '../drizzle'].map(path => fileURLToPath(new URL(path, import.meta.url)))
  const found = candidates.find(dir => existsSync(join(dir, 'meta', '_journal.json')))
  if (found !== undefined) return found
  throw new PawlError('migrate.directory', `no migrations in ${candidates.join(' or ')}`, {
    hint: 'set PAWL_MIGRATIONS_DIR to the directory that holds meta/_journal.json',
  })
}

/**
 * Applies what is pending, oldest first, up to and including `to`; returns what was applied.
 * Safe to call from many replicas at once: one works, the others wait and find nothing left to do.
 * Throws `MigrationsRefused` (code `migrate.refused`) before anything is changed when files and database contradict each other.
 */
export async function migrateUp(context: MigrateContext, options: UpOptions = {}): Promise<Moved[]> {
  const migrations = await readMigrations(context.dir)
  const last = options.to === undefined ? migrations.entries.length : migrations.entries.findIndex(entry => entry.tag === options.to) + 1
  if (options.to !== undefined && last === 0)
    throw new MigrationsRefused([problem('missing', options.to, 'the journal has no such migration', 'pawl migrate status lists them')])
  return exclusively(context, async query => {
    const { states, problems } = compare(migrations, await readLedger(query))
    if (problems.length > 0) throw new MigrationsRefused(problems)
    const waiting = new Set(states.filter(state => state.state === 'pending').map(state => state.tag))
    const pending = migrations.entries.slice(0, last).filter(migration => waiting.has(migration.tag))
    const destructive = pending.filter(migration => migration.up?.destructive).map(migration => migration.tag)
    if (destructive.length > 0) await context.beforeDestructive?.(destructive)
    await createLedger(query)
    await options.before?.(query)
    const moved: Moved[] = []
    for (const migration of pending) {
      if (migration.up === undefined) continue
      const record = (query: Query, durationMs: number) => recordUp(query, migration, durationMs, context.version)
      const outcome = await applyFile(context, query, { tag: migration.tag, file: migration.up, record })
      context.log.info({ migration: migration.tag, duration_ms: outcome.durationMs, tries: outcome.tries }, 'migration applied')
      moved.push({ tag: migration.tag, ...outcome })
    }
    await options.after?.(query)
    return moved
  })
}

/**
 * Takes back the newest `steps` migrations, newest first; returns what was taken back.
 * Throws `MigrationsRefused` before the first of them when a down file is missing or was edited,
 * `migrate.destructive` when one of them opens with `-- pawl:destructive`, `allowDataLoss` is not set and nobody takes a backup first.
 */
export async function migrateDown(context: MigrateContext, options: { steps?: number; allowDataLoss?: boolean } = {}): Promise<Moved[]> {
  const migrations = await readMigrations(context.dir)
  return exclusively(context, async query => {
    const ledger = await readLedger(query)
    const steps = ledger
      .filter(row => row.tag !== null)
      .reverse()
      .slice(0, options.steps ?? 1)
    const downs = steps.map(row => ({ row, tag: row.tag ?? '', file: migrations.entries.find(entry => entry.tag === row.tag)?.down }))
    refuseDowns(migrations, ledger, steps)
    const destructive = downs.filter(down => down.file?.destructive).map(down => down.tag)
    if (destructive.length > 0 && context.beforeDestructive === undefined && !options.allowDataLoss) {
      throw new PawlError('migrate.destructive', `taking back ${destructive.join(', ')} deletes data; nothing was changed`, {
        hint: 'set BACKUP_DIR or BACKUP_S3_BUCKET, and a verified backup is taken first; without one, say --allow-data-loss',
      })
    }
    if (destructive.length > 0) await context.beforeDestructive?.(destructive)
    if (downs.length > 0) await createLedger(query)
    const moved: Moved[] = []
    for (const { row, tag, file } of downs) {
      if (file === undefined) continue
      const outcome = await applyFile(context, query, { tag, file, record: query => recordDown(query, row) })
      context.log.info({ migration: tag, duration_ms: outcome.durationMs, tries: outcome.tries }, 'migration taken back')
      moved.push({ tag, ...outcome })
    }
    return moved
  })
}

/** An edited up file does not hinder the way back, nor does a file that is not part of it. */
function refuseDowns(migrations: Migrations, ledger: Recorded[], steps: Recorded[]): void {
  const tags = new Set(steps.map(row => row.tag))
  const hindering = compare(migrations, ledger).problems.filter(found => tags.has(found.tag) && found.kind !== 'edited')
  if (hindering.length > 0) throw new MigrationsRefused(hindering)
}

/** Every migration that the files or the database know, in order, with its state. Changes nothing and takes no lock. */
export async function migrationStatus(context: MigrateContext): Promise<MigrationState[]> {
  const migrations = await readMigrations(context.dir)
  return connected(context, async query => compare(migrations, await readLedger(query)).states)
}

/**
 * What `up` would do at this moment: the pending files in order, their locks as far as their text says, and what it would refuse.
 * Changes nothing and takes no lock, also on an empty database and while another process migrates.
 */
export async function planMigrations(context: MigrateContext): Promise<Plan> {
  const migrations = await readMigrations(context.dir)
  return connected(context, async query => planOf(query, migrations, await readLedger(query)))
}

/** What `verifyMigrations` found; a note is no problem. */
export type Verdict = { ok: boolean; problems: Problem[]; notes?: string[] }

/**
 * Whether the database is what the files say: all applied, none edited, no index left invalid, and the structure as the files left it. Changes nothing,
 * but for one thing: after an upgrade of PostgreSQL, which prints texts in its own way, the structure is recorded anew, with a note.
 */
export async function verifyMigrations(context: MigrateContext): Promise<Verdict> {
  const migrations = await readMigrations(context.dir)
  const verdict = await connected(context, async query => {
    const ledger = await readLedger(query)
    const { states, problems } = compare(migrations, ledger)
    const drift = ledger.some(row => row.tag !== null) ? await findDrift(query) : { problems: [] }
    problems.push(...drift.problems)
    for (const state of states.filter(state => state.state === 'pending')) {
      problems.push(problem('pending', state.tag, 'it is not applied', 'run pawl migrate up'))
    }
    for (const index of await invalidIndexes(query)) {
      problems.push(
        problem(
          'invalid_index',
          index,
          'the index is invalid: it costs writes and serves no read',
          `drop it (drop index concurrently ${index}) and build it again`,
        ),
      )
    }
    return { ok: problems.length === 0, problems, outdated: drift.outdated }
  })
  const { outdated, ...found } = verdict
  if (outdated === undefined) return found
  await acceptDrift(context)
  return { ...found, notes: [`the structure was recorded on PostgreSQL ${outdated} and could not be compared; it is recorded anew as it is`] }
}

/** Takes the structure as it is now for what the migrations made (`pawl migrate verify --accept`). */
export async function acceptDrift(context: MigrateContext): Promise<void> {
  await exclusively(context, async query => {
    await createLedger(query)
    await acceptStructure(query)
  })
}

/** An index that is being built at this moment is invalid as well, but nobody's leftover. */
async function invalidIndexes(query: Query): Promise<string[]> {
  const rows = await query<{ name: string }>(
    `select format('%I.%I', n.nspname, c.relname) as name
    from pg_index i
    join pg_class c on c.oid = i.indexrelid
    join pg_namespace n on n.oid = c.relnamespace
    where not i.indisvalid
      and n.nspname = any ($1)
      and not exists (select from pg_stat_progress_create_index p where p.index_relid = i.indexrelid)
    order by 1`,
    [OUR_SCHEMAS],
  )
  return rows.map(row => row.name)
}

/**
 * For workers, before they claim anything: throws `schema.too_old` when a migration this code was written with is not applied.
 * A newer schema is accepted: during a rolling deploy the old workers go on (expand first, contract later).
 */
export async function requireSchema(query: Query, dir: string): Promise<void> {
  const journal = await readJournal(dir)
  const rows = await query<{ version: string }>('select version from pawl.schema_migrations').catch(error => {
    // undefined_table, invalid_schema_name: nothing was ever migrated here.
    if (['42P01', '3F000'].includes(codeOf(error) ?? '')) return []
    throw error
  })
  const applied = new Set(rows.map(row => row.version))
  const lacking = journal.filter(entry => !applied.has(entry.tag)).map(entry => entry.tag)
  if (lacking.length === 0) return
  throw new PawlError('schema.too_old', `the database lacks ${lacking.length} of ${journal.length} migrations, the first is ${lacking[0]}`, {
    hint: 'run pawl migrate up',
  })
}

async function connected<Result>(context: MigrateContext, work: (query: Query) => Promise<Result>): Promise<Result> {
  const connection = await (context.connect ?? connectDirect)(context.config, 'pawl migrate')
  try {
    return await work(connection.query)
  } finally {
    await connection.close()
  }
}
