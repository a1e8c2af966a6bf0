import { sql } from 'drizzle-orm'
import { bigint, boolean, check, doublePrecision, index, integer, jsonb, primaryKey, text, timestamp, uniqueIndex } from 'drizzle-orm/pg-core'
import { checkpoints, pawl } from './pawl.ts'
import { refreshConfig } from './sqp.ts'

/** Plans of refreshes. Functions and the view refresh_plan stand in `drizzle/0008…`. */
const moment = (name: string) => timestamp(name, { withTimezone: true })
const count = (name: string) => bigint(name, { mode: 'number' })

export const refreshRuns = pawl.table(
  'refresh_runs',
  {
    id: count('id').primaryKey().generatedAlwaysAsIdentity(),
    slot: moment('slot').unique('refresh_runs_slot_key'),
    target: text(),
    requestedBy: text('requested_by').notNull().default(sql`session_user`),
    requestedAt: moment('requested_at').notNull().defaultNow(),
  },
  () => [check('refresh_runs_planned_or_asked', sql`(slot is null) <> (target is null)`)],
)

export const refreshSteps = pawl.table(
  'refresh_steps',
  {
    runId: text('run_id')
      .primaryKey()
      .references(() => checkpoints.runId, { onDelete: 'cascade' }),
    place: count('place').notNull().generatedAlwaysAsIdentity().unique('refresh_steps_place_key'),
    refreshRun: count('refresh_run')
      .notNull()
      .references(() => refreshRuns.id, { onDelete: 'cascade' }),
    configId: integer('config_id')
      .notNull()
      .references(() => refreshConfig.id, { onDelete: 'cascade' }),
    tableName: text('table_name').notNull(),
    outcome: text({ enum: ['completed', 'warning', 'failed', 'skipped', 'cancelled'] }),
    urgency: doublePrecision().notNull(),
    estimateMs: count('estimate_ms').notNull(),
    source: text().notNull(),
    publishGroup: text('publish_group'),
    cause: text(),
    warnings: text().array().notNull().default([]),
    extraction: integer().notNull().default(1),
    loaded: boolean().notNull().default(false),
    stagedAt: moment('staged_at'),
    saved: jsonb().notNull().default({}),
    auditId: integer('audit_id'),
    sourceEpoch: count('source_epoch'),
    waitsForSource: boolean('waits_for_source').notNull().default(false),
    rowsInserted: count('rows_inserted'),
    rowsUpdated: count('rows_updated'),
    rowsDeleted: count('rows_deleted'),
    rowsUnchanged: count('rows_unchanged'),
  },
  table => [
    check('refresh_steps_outcome_known', sql`outcome in ('completed', 'warning', 'failed', 'skipped', 'cancelled')`),
    uniqueIndex('refresh_steps_one_unfinished').on(table.configId).where(sql`outcome is null`),
    index('refresh_steps_latest').on(table.configId, table.place.desc()),
    index('refresh_steps_run').on(table.refreshRun.desc(), table.urgency, table.place),
    index('refresh_steps_table').on(table.tableName, table.refreshRun.desc(), table.urgency, table.place),
    index('refresh_steps_outcome').on(table.outcome, table.refreshRun.desc(), table.urgency, table.place),
    index('refresh_steps_source').on(table.source).where(sql`outcome is null`),
  ],
)

export const refreshWaits = pawl.table(
  'refresh_waits',
  {
    runId: text('run_id')
      .notNull()
      .references(() => refreshSteps.runId, { onDelete: 'cascade' }),
    parentRunId: text('parent_run_id')
      .notNull()
      .references(() => refreshSteps.runId, { onDelete: 'cascade' }),
    hard: boolean().notNull(),
  },
  table => [primaryKey({ columns: [table.runId, table.parentRunId] }), index('refresh_waits_parent').on(table.parentRunId)],
)

export const refreshLimits = pawl.table('refresh_limits', { source: text().primaryKey(), concurrency: integer().notNull() }, () => [
  check('refresh_limits_positive', sql`concurrency > 0`),
])
