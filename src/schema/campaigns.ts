import { sql } from 'drizzle-orm'
import { boolean, check, index, integer, jsonb, numeric, pgTable, primaryKey, text, timestamp, uniqueIndex, uuid, varchar } from 'drizzle-orm/pg-core'
import { pawl } from './pawl.ts'

/** Document 002 as resolved: campaigns and what happens to them. Functions, triggers and materialized views stand in `drizzle/0005…`. */
const moment = (name: string) => timestamp(name, { withTimezone: true })

export const campaigns = pgTable(
  'campaigns',
  {
    id: uuid().primaryKey().defaultRandom(),
    status: varchar({ length: 20 }).notNull().default('CREATED'),
    metadata: jsonb().notNull().default({}),
    createdAt: moment('created_at').notNull().defaultNow(),
    updatedAt: moment('updated_at').notNull().defaultNow(),
    startTime: moment('start_time'),
    endTime: moment('end_time'),
    durationHours: integer('duration_hours').notNull(),
    autoClose: boolean('auto_close').notNull().default(true),
    rewardsEnabled: boolean('rewards_enabled').notNull().default(true),
  },
  table => [
    check('valid_status', sql`status in ('CREATED', 'RUNNING', 'CLOSED', 'REWARD_CLAIM', 'EXPIRED')`),
    check('valid_duration', sql`duration_hours > 0`),
    check('valid_time_range', sql`end_time is null or end_time > start_time`),
    check('calculated_end_time', sql`end_time is null or end_time = start_time + (duration_hours * interval '1 hour')`),
    index('idx_campaigns_status').on(table.status),
    index('idx_campaigns_start_time').on(table.startTime),
    index('idx_campaigns_end_time').on(table.endTime),
    index('idx_campaigns_created_at').on(table.createdAt),
  ],
)

// As pawl.runs and pawl.timers have them.
const timerState = sql.raw(`case when status = 'PENDING' or (status = 'FAILED' and retry_count < 5) then 'pending' else lower(status) end`)
const timerDue = sql.raw(`case when status = 'PENDING' or (status = 'FAILED' and retry_count < 5) then coalesce(next_attempt_at, scheduled_at) end`)
const timerEnded = sql.raw(
  `case when status in ('COMPLETED', 'CANCELLED') or (status = 'FAILED' and retry_count >= 5) then coalesce(executed_at, updated_at) end`,
)

export const campaignTimers = pgTable(
  'campaign_timers',
  {
    id: uuid().primaryKey().defaultRandom(),
    campaignId: uuid('campaign_id')
      .notNull()
      .references(() => campaigns.id, { onDelete: 'cascade' }),
    timerType: varchar('timer_type', { length: 50 }).notNull(),
    status: varchar({ length: 20 }).notNull().default('PENDING'),
    scheduledAt: moment('scheduled_at').notNull(),
    executedAt: moment('executed_at'),
    payload: jsonb().notNull().default({}),
    retryCount: integer('retry_count').notNull().default(0),
    createdAt: moment('created_at').notNull().defaultNow(),
    updatedAt: moment('updated_at').notNull().defaultNow(),
    nextAttemptAt: moment('next_attempt_at'),
    claimedBy: integer('claimed_by'),
  },
  table => [
    check('valid_timer_type', sql`timer_type in ('START_CAMPAIGN', 'CLOSE_CAMPAIGN', 'EXPIRE_CAMPAIGN', 'REWARD_REMINDER')`),
    check('valid_timer_status', sql`status in ('PENDING', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED')`),
    check('valid_retry_count', sql`retry_count >= 0 and retry_count <= 5`),
    index('idx_campaign_timers_campaign_id').on(table.campaignId),
    index('idx_campaign_timers_status').on(table.status),
    index('idx_campaign_timers_scheduled_at').on(table.scheduledAt),
    index('idx_campaign_timers_timer_type').on(table.timerType),
    index('idx_campaign_timers_processing').on(table.status, table.scheduledAt).where(sql`status in ('PENDING', 'FAILED')`),
    index('campaign_timers_running').on(table.claimedBy).where(sql`status = 'RUNNING'`),
    index('campaign_timers_recent').on(table.createdAt.desc()),
    index('campaign_timers_run_id').using('hash', sql`(id::text)`),
    index('campaign_timers_open').on(sql`(${timerState})`, sql`(${timerDue})`).where(sql`(${timerState}) in ('pending', 'running')`),
    index('campaign_timers_ended').on(sql`(${timerState})`, sql`(${timerEnded}) desc`).where(sql`(${timerState}) in ('failed', 'cancelled')`),
    uniqueIndex('unique_active_timer_per_type')
      .on(table.campaignId, table.timerType)
      .where(sql`status in ('PENDING', 'RUNNING') or (status = 'FAILED' and retry_count < 5)`),
  ],
)

const stateLogColumns = () => ({
  id: uuid().notNull().defaultRandom(),
  fromState: varchar('from_state', { length: 20 }),
  toState: varchar('to_state', { length: 20 }).notNull(),
  triggerEvent: varchar('trigger_event', { length: 50 }).notNull(),
  metadata: jsonb().notNull().default({}),
  createdAt: moment('created_at').notNull().defaultNow(),
})

/** Partitioned by month of created_at (written by hand in the migration). */
export const campaignStateLog = pgTable(
  'campaign_state_log',
  {
    ...stateLogColumns(),
    campaignId: uuid('campaign_id')
      .notNull()
      .references(() => campaigns.id, { onDelete: 'cascade' }),
  },
  table => [
    primaryKey({ columns: [table.id, table.createdAt] }),
    check('valid_state_transition', sql`from_state <> to_state or from_state is null`),
    index('idx_campaign_state_log_campaign_id').on(table.campaignId),
    index('idx_campaign_state_log_created_at').on(table.createdAt),
    index('idx_campaign_state_log_trigger_event').on(table.triggerEvent),
  ],
)

export const campaignStateLogArchive = pgTable(
  'campaign_state_log_archive',
  { ...stateLogColumns(), campaignId: uuid('campaign_id').notNull(), archivedAt: moment('archived_at').notNull().defaultNow() },
  table => [uniqueIndex('campaign_state_log_archive_id').on(table.id, table.createdAt)],
)

export const campaignMetrics = pgTable(
  'campaign_metrics',
  {
    id: uuid().primaryKey().defaultRandom(),
    campaignId: uuid('campaign_id')
      .notNull()
      .references(() => campaigns.id, { onDelete: 'cascade' }),
    metricType: varchar('metric_type', { length: 50 }).notNull(),
    value: numeric({ precision: 15, scale: 4 }).notNull(),
    attributes: jsonb().notNull().default({}),
    recordedAt: moment('recorded_at').notNull().defaultNow(),
  },
  table => [
    index('idx_campaign_metrics_campaign_id').on(table.campaignId),
    index('idx_campaign_metrics_type').on(table.metricType),
    index('idx_campaign_metrics_recorded_at').on(table.recordedAt),
    index('idx_campaign_metrics_analytics').on(table.campaignId, table.metricType, table.recordedAt),
  ],
)

export const timerExecutions = pgTable(
  'timer_executions',
  {
    id: uuid().primaryKey().defaultRandom(),
    timerId: uuid('timer_id')
      .notNull()
      .references(() => campaignTimers.id, { onDelete: 'cascade' }),
    status: varchar({ length: 20 }).notNull().default('STARTED'),
    result: jsonb(),
    errorMessage: text('error_message'),
    startedAt: moment('started_at').notNull().defaultNow(),
    completedAt: moment('completed_at'),
    executionTimeMs: integer('execution_time_ms'),
  },
  table => [
    index('idx_timer_executions_timer_id').on(table.timerId),
    index('idx_timer_executions_status').on(table.status),
    index('idx_timer_executions_started_at').on(table.startedAt),
  ],
)

export const timerEffects = pawl.table(
  'timer_effects',
  { timerType: text('timer_type').notNull(), fromState: text('from_state').notNull(), outcome: text().notNull(), toState: text('to_state') },
  table => [primaryKey({ columns: [table.timerType, table.fromState] })],
)
