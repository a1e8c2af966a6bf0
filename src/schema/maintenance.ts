import { sql } from 'drizzle-orm'
import { bigint, boolean, check, customType, index, integer, interval, jsonb, numeric, primaryKey, text, timestamp, uniqueIndex } from 'drizzle-orm/pg-core'
import { pawl } from './pawl.ts'

const moment = (name: string) => timestamp(name, { withTimezone: true })
const pgLsn = customType<{ data: string }>({ dataType: () => 'pg_lsn' })

/** Backups that were taken of this database; the store they lie in is the truth. Functions and the view backups stand in `drizzle/0015…`. */
export const backupRecords = pawl.table(
  'backup_records',
  {
    backupId: text('backup_id').primaryKey(),
    runId: text('run_id'),
    kind: text().notNull(),
    scope: text().notNull(),
    place: text().notNull(),
    takenAt: moment('taken_at').notNull(),
    lsn: pgLsn().notNull(),
    serverVersion: text('server_version').notNull(),
    encrypted: boolean().notNull(),
    bytes: bigint({ mode: 'number' }).notNull(),
    tables: integer().notNull(),
    rows: bigint({ mode: 'number' }).notNull(),
    verifiedAt: moment('verified_at'),
    verifySeconds: numeric('verify_seconds'),
    verifyError: text('verify_error'),
    deletedAt: moment('deleted_at'),
    recordedAt: moment('recorded_at').notNull().defaultNow(),
  },
  table => [index('backup_records_taken').on(table.takenAt.desc())],
)

/** What each worker last found of its own machine. */
export const workerChecks = pawl.table(
  'worker_checks',
  {
    worker: text().notNull(),
    check: text().notNull(),
    ok: boolean().notNull(),
    detail: text().notNull(),
    data: jsonb().notNull().default({}),
    checkedAt: moment('checked_at').notNull().defaultNow(),
    since: moment('since').notNull().defaultNow(),
  },
  table => [primaryKey({ columns: [table.worker, table.check] })],
)

/** How long each table keeps its rows (docs/retention.md). Functions and views stand in `drizzle/0016…`. */
export const retention = pawl.table(
  'retention',
  {
    relation: text().primaryKey(),
    how: text().notNull(),
    keep: interval(),
    moment: text(),
    condition: text(),
    note: text().notNull(),
  },
  table => [
    check('retention_how_known', sql`${table.how} in ('archive', 'delete', 'function')`),
    check('retention_keep_at_least_a_day', sql`${table.keep} >= interval '1 day'`),
    check('retention_delete_says_what', sql`(${table.how} = 'delete') = (${table.moment} is not null and ${table.condition} is not null)`),
  ],
)

/** Months that leave a partitioned table, or have left it: where their files are. */
export const archives = pawl.table(
  'archives',
  {
    id: bigint({ mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    partition: text().notNull(),
    state: text().notNull().default('planned'),
    parent: text().notNull(),
    fromAt: moment('from_at').notNull(),
    toAt: moment('to_at').notNull(),
    runId: text('run_id').notNull().unique(),
    lateWrites: bigint('late_writes', { mode: 'number' }).notNull().default(0),
    key: text(),
    place: text(),
    rows: bigint({ mode: 'number' }),
    bytes: bigint({ mode: 'number' }),
    sha256: text(),
    content: jsonb(),
    plannedAt: moment('planned_at').notNull().defaultNow(),
    detachedAt: moment('detached_at'),
    writtenAt: moment('written_at'),
    verifiedAt: moment('verified_at'),
    droppedAt: moment('dropped_at'),
  },
  table => [
    uniqueIndex('archives_one_at_a_time').on(table.partition).where(sql`${table.state} <> 'dropped'`),
    check('archives_state_known', sql`${table.state} in ('planned', 'detached', 'written', 'verified', 'dropped')`),
    check(
      'archives_written_has_file',
      sql`${table.state} not in ('written', 'verified', 'dropped') or (${table.key} is not null and ${table.rows} is not null and ${table.sha256} is not null)`,
    ),
  ],
)

/** What an attempt at an archive may have left in the store. */
export const archiveFiles = pawl.table('archive_files', {
  key: text().primaryKey(),
  runId: text('run_id').notNull(),
  epoch: bigint({ mode: 'number' }).notNull(),
  createdAt: moment('created_at').notNull().defaultNow(),
})

/** What each backfill changes (docs/migrations.md): text that runs with the rights of Pawl's owner. Functions stand in `drizzle/0017…`. */
export const backfills = pawl.table(
  'backfills',
  {
    id: bigint({ mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    runId: text('run_id').notNull().unique(),
    state: text().notNull().default('pending'),
    relation: text().notNull(),
    keyColumn: text('key_column').notNull(),
    keyType: text('key_type').notNull(),
    assignments: text().notNull(),
    condition: text().notNull(),
    batchSize: integer('batch_size').notNull(),
    batchTime: interval('batch_time').notNull(),
    lagLimit: interval('lag_limit').notNull(),
    searchPath: text('search_path').array().notNull(),
    requestedBy: text('requested_by').notNull().default(sql`session_user`),
    requestedAt: moment('requested_at').notNull().defaultNow(),
    finishedAt: moment('finished_at'),
    throttle: text(),
    throttledAt: moment('throttled_at'),
    markLsn: pgLsn('mark_lsn'),
    markAt: moment('mark_at'),
  },
  table => [check('backfills_state_known', sql`${table.state} in ('pending', 'completed', 'failed', 'cancelled')`)],
)
