import { sql } from 'drizzle-orm'
import {
  bigint,
  bigserial,
  boolean,
  check,
  foreignKey,
  index,
  inet,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  timestamp,
  unique,
  uniqueIndex,
  varchar,
} from 'drizzle-orm/pg-core'

/** Document 000 as resolved: the host application's tables, the override operations and their audit trail. */
const moment = (name: string) => timestamp(name, { withTimezone: true })

export const users = pgTable('users', {
  id: bigserial({ mode: 'number' }).primaryKey(),
  username: varchar({ length: 255 }).notNull().unique(),
})

export const categories = pgTable(
  'categories',
  {
    id: bigserial({ mode: 'number' }).primaryKey(),
    name: varchar({ length: 255 }).notNull(),
    settings: jsonb().notNull().default({}),
    lastOverrideAt: moment('last_override_at'),
    lastOverrideBy: bigint('last_override_by', { mode: 'number' }),
    overrideCount: integer('override_count').default(0),
    lastOverrideRecipientsCount: integer('last_override_recipients_count').default(0),
  },
  table => [
    foreignKey({ name: 'fk_categories_last_override_user', columns: [table.lastOverrideBy], foreignColumns: [users.id] }).onDelete('set null'),
    index('idx_categories_last_override').on(table.lastOverrideAt.desc()).where(sql`last_override_at is not null`),
  ],
)

export const recipients = pgTable(
  'recipients',
  {
    id: bigserial({ mode: 'number' }).primaryKey(),
    categoryId: bigint('category_id', { mode: 'number' })
      .notNull()
      .references(() => categories.id, { onDelete: 'cascade' }),
    name: varchar({ length: 255 }),
    isAdSynced: boolean('is_ad_synced').notNull().default(false),
    isActive: boolean('is_active').notNull().default(true),
  },
  table => [index('idx_recipients_override_target').on(table.categoryId, table.id).where(sql`is_ad_synced and is_active`)],
)

/** Partitioned by month of operation_timestamp (written by hand in the migration). */
export const categoryOverrideAudit = pgTable(
  'category_override_audit',
  {
    id: bigserial({ mode: 'number' }),
    operationId: varchar('operation_id', { length: 50 }).notNull(),
    categoryId: bigint('category_id', { mode: 'number' }).notNull(),
    categoryName: varchar('category_name', { length: 255 }).notNull(),
    userId: bigint('user_id', { mode: 'number' }).notNull(),
    userName: varchar('user_name', { length: 255 }).notNull(),
    affectedRecipientsCount: integer('affected_recipients_count').notNull().default(0),
    operationTimestamp: moment('operation_timestamp').notNull().defaultNow(),
    operationStatus: varchar('operation_status', { length: 20 }).notNull().default('COMPLETED'),
    operationDurationMs: integer('operation_duration_ms'),
    errorMessage: text('error_message'),
    clientIp: inet('client_ip'),
    userAgent: text('user_agent'),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  table => [
    primaryKey({ name: 'category_override_audit_pkey', columns: [table.id, table.operationTimestamp] }),
    unique('idx_category_override_audit_operation_id').on(table.operationId, table.operationTimestamp),
    foreignKey({ name: 'fk_category_override_audit_category', columns: [table.categoryId], foreignColumns: [categories.id] }).onDelete('cascade'),
    foreignKey({ name: 'fk_category_override_audit_user', columns: [table.userId], foreignColumns: [users.id] }).onDelete('cascade'),
    check('chk_operation_status', sql`operation_status in ('STARTED', 'COMPLETED', 'FAILED')`),
    check('chk_affected_recipients_count', sql`affected_recipients_count >= 0`),
    check('chk_operation_duration', sql`operation_duration_ms is null or operation_duration_ms >= 0`),
    check('chk_valid_timestamps', sql`operation_timestamp <= now() + interval '1 hour'`),
    index('idx_category_override_audit_category_id').on(table.categoryId),
    index('idx_category_override_audit_user_id').on(table.userId),
    index('idx_category_override_audit_timestamp').on(table.operationTimestamp.desc()),
    index('idx_category_override_audit_status').on(table.operationStatus),
    index('idx_category_override_audit_active').on(table.operationTimestamp.desc()).where(sql`operation_status in ('STARTED', 'FAILED')`),
    index('idx_audit_category_status_timestamp').on(table.categoryId, table.operationStatus, table.operationTimestamp.desc()),
  ],
)

export const categoryOverrideAuditKeys = pgTable('category_override_audit_keys', {
  operationId: varchar('operation_id', { length: 50 }).primaryKey(),
})

export const categoryOverrideOperations = pgTable(
  'category_override_operations',
  {
    id: bigserial({ mode: 'number' }).primaryKey(),
    operationId: varchar('operation_id', { length: 50 }).notNull(),
    categoryId: bigint('category_id', { mode: 'number' }).notNull(),
    userId: bigint('user_id', { mode: 'number' }).notNull(),
    status: varchar({ length: 20, enum: ['PENDING', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED'] })
      .notNull()
      .default('PENDING'),
    totalRecipients: integer('total_recipients'),
    processedRecipients: integer('processed_recipients').default(0),
    batchSize: integer('batch_size').default(100),
    currentBatch: integer('current_batch').default(0),
    startedAt: moment('started_at').notNull().defaultNow(),
    lastUpdatedAt: moment('last_updated_at').notNull().defaultNow(),
    completedAt: moment('completed_at'),
    errorMessage: text('error_message'),
    retryCount: integer('retry_count').default(0),
    maxRetries: integer('max_retries').default(3),
    overrideSettings: jsonb('override_settings').notNull().default({}),
    operationTimestamp: moment('operation_timestamp').notNull().defaultNow(),
    revertsOperationId: varchar('reverts_operation_id', { length: 50 }),
    idempotencyKey: text('idempotency_key'),
    idempotencyRequest: jsonb('idempotency_request'),
  },
  table => [
    unique('idx_category_override_operations_operation_id').on(table.operationId),
    unique('operations_idempotency_key').on(table.idempotencyKey),
    foreignKey({ name: 'fk_category_override_operations_category', columns: [table.categoryId], foreignColumns: [categories.id] }).onDelete('cascade'),
    foreignKey({ name: 'fk_category_override_operations_user', columns: [table.userId], foreignColumns: [users.id] }).onDelete('cascade'),
    check('chk_override_operation_status', sql`status in ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED')`),
    check('chk_processed_recipients', sql`processed_recipients >= 0`),
    check('chk_total_recipients', sql`total_recipients is null or total_recipients >= 0`),
    check('chk_batch_size', sql`batch_size > 0 and batch_size <= 1000`),
    check('chk_retry_count', sql`retry_count >= 0 and retry_count <= max_retries`),
    check('chk_recipient_counts', sql`total_recipients is null or processed_recipients <= total_recipients`),
    index('idx_category_override_operations_status').on(table.status),
    index('idx_category_override_operations_started_at').on(table.startedAt.desc()),
    index('idx_category_override_operations_category_id').on(table.categoryId),
    index('idx_category_override_operations_active').on(table.startedAt.desc()).where(sql`status in ('PENDING', 'PROCESSING')`),
    index('idx_operations_user_status').on(table.userId, table.status),
    index('idx_operations_processing').on(table.startedAt.desc()).where(sql`status = 'PROCESSING'`),
    uniqueIndex('operations_one_processing_per_category').on(table.categoryId).where(sql`status = 'PROCESSING'`),
  ],
)

export const categoryRecipientSettings = pgTable(
  'category_recipient_settings',
  {
    id: bigserial({ mode: 'number' }).primaryKey(),
    categoryId: bigint('category_id', { mode: 'number' })
      .notNull()
      .references(() => categories.id, { onDelete: 'cascade' }),
    recipientId: bigint('recipient_id', { mode: 'number' })
      .notNull()
      .references(() => recipients.id, { onDelete: 'cascade' }),
    settings: jsonb().notNull().default({}),
    updatedByOperation: varchar('updated_by_operation', { length: 50 }),
    isOverrideGenerated: boolean('is_override_generated').default(false),
    overrideTimestamp: moment('override_timestamp'),
    previousSettings: jsonb('previous_settings'),
    previousOperation: varchar('previous_operation', { length: 50 }),
  },
  table => [
    unique().on(table.categoryId, table.recipientId),
    foreignKey({
      name: 'fk_category_recipient_settings_operation',
      columns: [table.updatedByOperation],
      foreignColumns: [categoryOverrideAuditKeys.operationId],
    }).onDelete('set null'),
    check('chk_valid_operation_reference', sql`updated_by_operation is null or (is_override_generated and override_timestamp is not null)`),
    index('idx_category_recipient_settings_override').on(table.updatedByOperation, table.overrideTimestamp.desc()).where(sql`is_override_generated = true`),
  ],
)

export const systemMaintenanceLog = pgTable(
  'system_maintenance_log',
  {
    id: bigserial({ mode: 'number' }).primaryKey(),
    operation: varchar({ length: 100 }).notNull(),
    affectedRows: integer('affected_rows'),
    timestamp: moment('timestamp').notNull().defaultNow(),
    details: jsonb(),
  },
  table => [index('idx_system_maintenance_log_operation').on(table.operation, table.timestamp.desc())],
)
