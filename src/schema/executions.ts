import { sql } from 'drizzle-orm'
import { bigint, check, foreignKey, index, inet, integer, jsonb, primaryKey, text, timestamp, uuid, varchar } from 'drizzle-orm/pg-core'
import { organizationId, reporting, reports, users, userWhoStays } from './reporting.ts'

/** What came of reports (document 001 as resolved), and who did what to anything of it. */
const moment = (name: string) => timestamp(name, { withTimezone: true })

/** Partitioned by month of started_at (written by hand in the migration). */
export const reportExecutions = reporting.table(
  'report_executions',
  {
    id: uuid().notNull().defaultRandom(),
    reportId: uuid('report_id')
      .notNull()
      .references(() => reports.id, { onDelete: 'cascade' }),
    executedBy: userWhoStays('executed_by'),
    status: varchar({ length: 50 }).notNull().default('running'),
    startedAt: moment('started_at').notNull().defaultNow(),
    completedAt: moment('completed_at'),
    executionTimeMs: integer('execution_time_ms'),
    resultSizeBytes: bigint('result_size_bytes', { mode: 'number' }),
    outputFormat: varchar('output_format', { length: 20 }),
    outputUrl: text('output_url'),
    errorMessage: text('error_message'),
    metadata: jsonb().default({}),
  },
  table => [
    primaryKey({ columns: [table.id, table.startedAt] }),
    check('valid_execution_status', sql`status in ('running', 'completed', 'failed', 'cancelled')`),
    check('valid_output_format', sql`output_format in ('pdf', 'excel', 'csv', 'json', 'html')`),
    check('valid_execution_time', sql`execution_time_ms >= 0`),
    check('completed_at_after_started', sql`completed_at is null or completed_at >= started_at`),
    index('idx_report_executions_report_id').on(table.reportId),
    index('idx_report_executions_executed_by').on(table.executedBy),
    index('idx_report_executions_status').on(table.status),
    // With status and execution_time_ms included, which drizzle can't say.
    index('idx_report_executions_started_at').on(table.startedAt.desc()),
    index('idx_report_executions_completed_at').on(table.completedAt.desc()),
  ],
)

export const executionLogs = reporting.table(
  'execution_logs',
  {
    id: bigint({ mode: 'number' }).primaryKey().generatedAlwaysAsIdentity(),
    executionId: uuid('execution_id').notNull(),
    executionStartedAt: moment('execution_started_at').notNull(),
    level: varchar({ length: 10 }).notNull().default('info'),
    message: text().notNull(),
    details: jsonb(),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  table => [
    foreignKey({
      name: 'execution_logs_execution_fkey',
      columns: [table.executionId, table.executionStartedAt],
      foreignColumns: [reportExecutions.id, reportExecutions.startedAt],
    }).onDelete('cascade'),
    check('valid_level', sql`level in ('debug', 'info', 'warn', 'error')`),
    index('idx_execution_logs_execution').on(table.executionId, table.executionStartedAt),
  ],
)

/** Partitioned by month of timestamp (written by hand in the migration). */
export const auditLogs = reporting.table(
  'audit_logs',
  {
    id: uuid().notNull().defaultRandom(),
    userId: uuid('user_id').references(() => users.id, { onDelete: 'set null' }),
    organizationId: organizationId(),
    action: varchar({ length: 100 }).notNull(),
    resourceType: varchar('resource_type', { length: 50 }).notNull(),
    resourceId: uuid('resource_id'),
    oldValues: jsonb('old_values'),
    newValues: jsonb('new_values'),
    ipAddress: inet('ip_address'),
    userAgent: text('user_agent'),
    timestamp: moment('timestamp').notNull().defaultNow(),
    sessionId: uuid('session_id'),
  },
  table => [
    primaryKey({ columns: [table.id, table.timestamp] }),
    check('valid_action', sql`action in ('create', 'read', 'update', 'delete', 'login', 'logout', 'export')`),
    check('valid_resource_type', sql`resource_type in ('user', 'organization', 'template', 'report', 'execution')`),
    index('idx_audit_logs_user_id').on(table.userId),
    index('idx_audit_logs_organization_id').on(table.organizationId),
    index('idx_audit_logs_action').on(table.action),
    index('idx_audit_logs_resource_type').on(table.resourceType),
    index('idx_audit_logs_resource_id').on(table.resourceId),
    index('idx_audit_logs_timestamp').on(table.timestamp.desc()),
  ],
)
