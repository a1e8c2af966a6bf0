import { sql } from 'drizzle-orm'
import {
  bigint,
  boolean,
  check,
  date,
  index,
  integer,
  jsonb,
  numeric,
  pgSchema,
  primaryKey,
  serial,
  text,
  timestamp,
  unique,
  uniqueIndex,
  char,
} from 'drizzle-orm/pg-core'

/** Document 003 as resolved: what is refreshed, and the tables that are. Functions, triggers and views stand in `drizzle/0007…`. */
export const sqp = pgSchema('sqp')

const moment = (name: string) => timestamp(name, { withTimezone: true })
const count = (name: string) => bigint(name, { mode: 'number' })

export const refreshConfig = sqp.table(
  'refresh_config',
  {
    id: serial().primaryKey(),
    tableSchema: text('table_schema').notNull(),
    tableName: text('table_name').notNull(),
    isEnabled: boolean('is_enabled').notNull().default(true),
    refreshFrequencyHours: integer('refresh_frequency_hours').notNull().default(24),
    priority: integer().notNull().default(100),
    lastRefreshAt: moment('last_refresh_at'),
    nextRefreshAt: moment('next_refresh_at'),
    customSyncParams: jsonb('custom_sync_params').notNull().default({}),
    dependencies: text().array().notNull().default([]),
    createdAt: moment('created_at').default(sql`current_timestamp`),
    updatedAt: moment('updated_at').default(sql`current_timestamp`),
  },
  table => [
    unique('refresh_config_table_schema_table_name_key').on(table.tableSchema, table.tableName),
    check('chk_refresh_frequency', sql`refresh_frequency_hours > 0`),
    index('idx_refresh_config_next_refresh').on(table.nextRefreshAt).where(sql`is_enabled = true`),
    index('idx_refresh_config_priority').on(table.priority.desc()).where(sql`is_enabled = true`),
  ],
)

export const refreshAuditLog = sqp.table(
  'refresh_audit_log',
  {
    id: serial().primaryKey(),
    refreshConfigId: integer('refresh_config_id').references(() => refreshConfig.id, { onDelete: 'set null' }),
    tableSchema: text('table_schema').notNull(),
    tableName: text('table_name').notNull(),
    refreshStartedAt: moment('refresh_started_at').notNull(),
    refreshCompletedAt: moment('refresh_completed_at'),
    status: text().notNull().default('running'),
    rowsProcessed: count('rows_processed'),
    rowsInserted: count('rows_inserted'),
    rowsUpdated: count('rows_updated'),
    rowsDeleted: count('rows_deleted'),
    executionTimeMs: integer('execution_time_ms'),
    memoryUsedMb: numeric('memory_used_mb', { precision: 10, scale: 2 }),
    errorMessage: text('error_message'),
    errorDetails: jsonb('error_details'),
    bigqueryJobId: text('bigquery_job_id'),
    syncMetadata: jsonb('sync_metadata').default({}),
    createdAt: moment('created_at').default(sql`current_timestamp`),
  },
  table => [
    check('refresh_audit_log_status_check', sql`status in ('running', 'success', 'failed', 'warning')`),
    index('idx_audit_log_status_time').on(table.status, table.refreshStartedAt.desc()),
    index('idx_audit_log_table').on(table.tableSchema, table.tableName, table.refreshStartedAt.desc()),
    index('idx_audit_log_config_id').on(table.refreshConfigId, table.refreshStartedAt.desc()),
    uniqueIndex('idx_audit_log_one_running').on(table.tableSchema, table.tableName).where(sql`status = 'running'`),
  ],
)

export const refreshDependencies = sqp.table(
  'refresh_dependencies',
  {
    id: serial().primaryKey(),
    parentConfigId: integer('parent_config_id')
      .notNull()
      .references(() => refreshConfig.id, { onDelete: 'cascade' }),
    dependentConfigId: integer('dependent_config_id')
      .notNull()
      .references(() => refreshConfig.id, { onDelete: 'cascade' }),
    dependencyType: text('dependency_type').notNull().default('hard'),
    createdAt: moment('created_at').default(sql`current_timestamp`),
  },
  table => [
    unique('refresh_dependencies_parent_config_id_dependent_config_id_key').on(table.parentConfigId, table.dependentConfigId),
    check('refresh_dependencies_dependency_type_check', sql`dependency_type in ('hard', 'soft')`),
    check('chk_no_self_dependency', sql`parent_config_id <> dependent_config_id`),
    index('idx_dependencies_parent').on(table.parentConfigId),
    index('idx_dependencies_dependent').on(table.dependentConfigId),
  ],
)

export const refreshDataQuality = sqp.table(
  'refresh_data_quality',
  {
    id: serial().primaryKey(),
    auditLogId: integer('audit_log_id').references(() => refreshAuditLog.id, { onDelete: 'cascade' }),
    metricName: text('metric_name').notNull(),
    metricValue: numeric('metric_value'),
    expectedValue: numeric('expected_value'),
    thresholdMin: numeric('threshold_min'),
    thresholdMax: numeric('threshold_max'),
    isWithinThreshold: boolean('is_within_threshold'),
    createdAt: moment('created_at').default(sql`current_timestamp`),
  },
  table => [index('idx_quality_audit_id').on(table.auditLogId), index('idx_quality_threshold').on(table.isWithinThreshold, table.createdAt.desc())],
)

export const refreshCheckpoints = sqp.table(
  'refresh_checkpoints',
  {
    id: serial().primaryKey(),
    functionName: text('function_name').notNull(),
    tableSchema: text('table_schema').notNull(),
    tableName: text('table_name').notNull(),
    checkpointData: jsonb('checkpoint_data').notNull(),
    lastProcessedRow: count('last_processed_row'),
    totalRows: count('total_rows'),
    status: text().notNull().default('active'),
    createdAt: moment('created_at').default(sql`current_timestamp`),
    updatedAt: moment('updated_at').default(sql`current_timestamp`),
    expiresAt: moment('expires_at').default(sql`(current_timestamp + interval '1 hour')`),
  },
  table => [
    check('refresh_checkpoints_status_check', sql`status in ('active', 'completed', 'expired')`),
    uniqueIndex('refresh_checkpoints_one_active').on(table.functionName, table.tableSchema, table.tableName).where(sql`status = 'active'`),
    index('idx_checkpoints_active').on(table.functionName, table.status).where(sql`status = 'active'`),
    index('idx_checkpoints_expired').on(table.expiresAt).where(sql`status = 'active'`),
  ],
)

const counted = {
  impressions: count('impressions').notNull(),
  clicks: count('clicks').notNull(),
  cartAdds: count('cart_adds').notNull(),
  purchases: count('purchases').notNull(),
}
const share = (name: string) => numeric(name, { precision: 7, scale: 4 })
const rate = (name: string) => numeric(name, { precision: 9, scale: 6 })

export const asinPerformanceData = sqp.table(
  'asin_performance_data',
  {
    reportDate: date('report_date').notNull(),
    marketplace: text().notNull(),
    asin: text().notNull(),
    searchQuery: text('search_query').notNull(),
    searchQueryVolume: count('search_query_volume'),
    ...counted,
    impressionShare: share('impression_share'),
    clickShare: share('click_share'),
    purchaseShare: share('purchase_share'),
    medianPrice: numeric('median_price', { precision: 12, scale: 2 }),
    currency: char({ length: 3 }),
  },
  table => [primaryKey({ columns: [table.reportDate, table.marketplace, table.asin, table.searchQuery] })],
)

export const searchQueryPerformance = sqp.table(
  'search_query_performance',
  {
    reportDate: date('report_date').notNull(),
    marketplace: text().notNull(),
    searchQuery: text('search_query').notNull(),
    searchQueryScore: integer('search_query_score'),
    searchQueryVolume: count('search_query_volume'),
    totalImpressions: count('total_impressions').notNull(),
    totalClicks: count('total_clicks').notNull(),
    totalCartAdds: count('total_cart_adds').notNull(),
    totalPurchases: count('total_purchases').notNull(),
    clickRate: share('click_rate'),
    purchaseRate: share('purchase_rate'),
  },
  table => [primaryKey({ columns: [table.reportDate, table.marketplace, table.searchQuery] })],
)

export const dailySqpData = sqp.table(
  'daily_sqp_data',
  {
    day: date().notNull(),
    marketplace: text().notNull(),
    asin: text().notNull(),
    ...counted,
    revenue: numeric({ precision: 14, scale: 2 }),
  },
  table => [primaryKey({ columns: [table.day, table.marketplace, table.asin] })],
)

export const searchPerformanceSummary = sqp.table(
  'search_performance_summary',
  {
    marketplace: text().notNull(),
    searchQuery: text('search_query').notNull(),
    firstSeen: date('first_seen').notNull(),
    lastSeen: date('last_seen').notNull(),
    asins: count('asins').notNull(),
    ...counted,
    clickRate: rate('click_rate'),
    purchaseRate: rate('purchase_rate'),
  },
  table => [primaryKey({ columns: [table.marketplace, table.searchQuery] })],
)

export const weeklySummary = sqp.table(
  'weekly_summary',
  {
    weekStart: date('week_start').notNull(),
    marketplace: text().notNull(),
    asin: text().notNull(),
    searchQueries: count('search_queries').notNull(),
    ...counted,
  },
  table => [primaryKey({ columns: [table.weekStart, table.marketplace, table.asin] })],
)

export const monthlySummary = sqp.table(
  'monthly_summary',
  {
    monthStart: date('month_start').notNull(),
    marketplace: text().notNull(),
    asin: text().notNull(),
    searchQueries: count('search_queries').notNull(),
    ...counted,
  },
  table => [primaryKey({ columns: [table.monthStart, table.marketplace, table.asin] })],
)

export const quarterlySummary = sqp.table(
  'quarterly_summary',
  { quarterStart: date('quarter_start').notNull(), marketplace: text().notNull(), asins: count('asins').notNull(), ...counted },
  table => [primaryKey({ columns: [table.quarterStart, table.marketplace] })],
)

export const yearlySummary = sqp.table(
  'yearly_summary',
  { yearStart: date('year_start').notNull(), marketplace: text().notNull(), asins: count('asins').notNull(), ...counted },
  table => [primaryKey({ columns: [table.yearStart, table.marketplace] })],
)
