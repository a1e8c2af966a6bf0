import { sql } from 'drizzle-orm'
import {
  type AnyPgColumn,
  boolean,
  check,
  index,
  inet,
  integer,
  jsonb,
  pgSchema,
  text,
  timestamp,
  unique,
  uniqueIndex,
  uuid,
  varchar,
} from 'drizzle-orm/pg-core'

/**
 * Document 001 as resolved, with the two columns of document 004: who owns reports and what they show; when they ran is in `executions.ts`.
 * Triggers, partitions and what of the references is looked at only on commit stand in `drizzle/0009…`.
 */
export const reporting = pgSchema('reporting')

const key = () => uuid().primaryKey().defaultRandom()
const moment = (name: string) => timestamp(name, { withTimezone: true })
const made = () => ({ createdAt: moment('created_at').defaultNow(), updatedAt: moment('updated_at').defaultNow() })
/** The organization that owns the row, which goes with it. */
export const organizationId = () =>
  uuid('organization_id')
    .notNull()
    .references(() => organizations.id, { onDelete: 'cascade' })
/** A user who can't be deleted while the row stands; looked at when the transaction commits, see the migration. */
export const userWhoStays = (name: string) =>
  uuid(name)
    .notNull()
    .references(() => users.id)

export const organizations = reporting.table(
  'organizations',
  {
    id: key(),
    name: varchar({ length: 255 }).notNull(),
    domain: varchar({ length: 255 }),
    slug: varchar({ length: 100 }).notNull(),
    description: text(),
    settings: jsonb().default({}),
    ...made(),
    isActive: boolean('is_active').default(true),
    subscriptionTier: varchar('subscription_tier', { length: 50 }).default('free'),
    subscriptionExpiresAt: moment('subscription_expires_at'),
    maxUsers: integer('max_users').default(10),
    maxReports: integer('max_reports').default(100),
    storageLimitGb: integer('storage_limit_gb').default(5),
  },
  table => [
    unique('organizations_name_key').on(table.name),
    unique('idx_organizations_slug').on(table.slug),
    check('valid_subscription_tier', sql`subscription_tier in ('free', 'pro', 'enterprise')`),
    check('valid_slug', sql`slug ~ '^[a-z0-9-]{3,50}$'`),
    check('valid_domain', sql`domain ~* '^[a-zA-Z0-9.-]+\\.[a-zA-Z]{2,}$' or domain is null`),
    index('idx_organizations_domain').on(table.domain),
    index('idx_organizations_is_active').on(table.isActive),
    index('idx_organizations_subscription_tier').on(table.subscriptionTier),
  ],
)

export const users = reporting.table(
  'users',
  {
    id: key(),
    email: varchar({ length: 255 }).notNull(),
    username: varchar({ length: 100 }).notNull(),
    passwordHash: varchar('password_hash', { length: 255 }).notNull(),
    firstName: varchar('first_name', { length: 100 }).notNull(),
    lastName: varchar('last_name', { length: 100 }).notNull(),
    organizationId: organizationId(),
    role: varchar({ length: 50 }).notNull().default('user'),
    preferences: jsonb().default({}),
    ...made(),
    isActive: boolean('is_active').default(true),
    lastLogin: moment('last_login'),
    emailVerified: boolean('email_verified').default(false),
    phone: varchar({ length: 20 }),
    timezone: varchar({ length: 50 }).default('UTC'),
    language: varchar({ length: 10 }).default('en'),
    emailVerificationToken: text('emailVerificationToken'),
    emailVerificationExpiry: timestamp('emailVerificationExpiry', { precision: 3 }),
  },
  table => [
    unique('idx_users_email').on(table.email),
    unique('idx_users_username').on(table.username),
    check('valid_role', sql`role in ('super_admin', 'org_admin', 'report_manager', 'report_viewer', 'user')`),
    check('valid_email', sql`email ~* '^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\\.[A-Za-z]{2,}$'`),
    check('valid_username', sql`username ~* '^[a-zA-Z0-9_-]{3,30}$'`),
    index('idx_users_organization_id').on(table.organizationId),
    index('idx_users_role').on(table.role),
    index('idx_users_is_active').on(table.isActive),
    index('idx_users_last_login').on(table.lastLogin.desc()),
    uniqueIndex('idx_users_email_lower').on(sql`lower(${table.email})`),
    uniqueIndex('users_emailVerificationToken_idx').on(table.emailVerificationToken),
  ],
)

export const userSessions = reporting.table(
  'user_sessions',
  {
    id: key(),
    userId: uuid('user_id')
      .notNull()
      .references(() => users.id, { onDelete: 'cascade' }),
    createdAt: moment('created_at').notNull().defaultNow(),
    expiresAt: moment('expires_at').notNull(),
    ipAddress: inet('ip_address'),
    userAgent: text('user_agent'),
  },
  table => [
    check('session_expires_after_start', sql`expires_at > created_at`),
    index('idx_user_sessions_user_id').on(table.userId),
    index('idx_user_sessions_expires_at').on(table.expiresAt),
  ],
)

export const templates = reporting.table(
  'templates',
  {
    id: key(),
    name: varchar({ length: 255 }).notNull(),
    description: text(),
    organizationId: organizationId(),
    createdBy: userWhoStays('created_by'),
    templateType: varchar('template_type', { length: 50 }).notNull(),
    structure: jsonb().notNull().default({}),
    parameters: jsonb().default({}),
    configuration: jsonb().default({}),
    isActive: boolean('is_active').default(true),
    isPublic: boolean('is_public').default(false),
    ...made(),
    version: integer().notNull().default(1),
    parentTemplateId: uuid('parent_template_id').references((): AnyPgColumn => templates.id),
  },
  table => [
    unique('unique_template_name_version').on(table.organizationId, table.name, table.version),
    check('valid_template_type', sql`template_type in ('tabular', 'chart', 'dashboard', 'custom')`),
    check('valid_version', sql`version > 0`),
    check('template_structure_is_object', sql`jsonb_typeof(structure) = 'object'`),
    check('template_parameters_is_object', sql`jsonb_typeof(parameters) = 'object'`),
    check('template_configuration_is_object', sql`jsonb_typeof(configuration) = 'object'`),
    index('idx_templates_organization_id').on(table.organizationId),
    index('idx_templates_created_by').on(table.createdBy),
    index('idx_templates_template_type').on(table.templateType),
    index('idx_templates_is_active').on(table.isActive),
    index('idx_templates_is_public').on(table.isPublic),
    index('idx_templates_created_at').on(table.createdAt.desc()),
    index('idx_templates_active_org').on(table.organizationId, table.name).where(sql`is_active = true`),
    index('idx_templates_version').on(table.version),
    index('idx_templates_parent_template_id').on(table.parentTemplateId),
  ],
)

export const templateFields = reporting.table(
  'template_fields',
  {
    id: key(),
    templateId: uuid('template_id')
      .notNull()
      .references(() => templates.id, { onDelete: 'cascade' }),
    name: varchar({ length: 255 }).notNull(),
    fieldType: varchar('field_type', { length: 50 }).notNull(),
    position: integer().notNull().default(0),
    configuration: jsonb().notNull().default({}),
  },
  table => [
    unique('unique_template_field_name').on(table.templateId, table.name),
    check('template_field_configuration_is_object', sql`jsonb_typeof(configuration) = 'object'`),
  ],
)

export const reports = reporting.table(
  'reports',
  {
    id: key(),
    name: varchar({ length: 255 }).notNull(),
    description: text(),
    templateId: uuid('template_id')
      .notNull()
      .references(() => templates.id),
    organizationId: organizationId(),
    createdBy: userWhoStays('created_by'),
    parameters: jsonb().default({}),
    configuration: jsonb().default({}),
    status: varchar({ length: 50 }).default('draft'),
    priority: integer().notNull().default(5),
    scheduledAt: moment('scheduled_at'),
    ...made(),
    lastExecuted: moment('last_executed'),
    executionCount: integer('execution_count').notNull().default(0),
  },
  table => [
    check('valid_status', sql`status in ('draft', 'scheduled', 'processing', 'completed', 'failed', 'cancelled')`),
    check('valid_priority', sql`priority between 1 and 10`),
    check('scheduled_has_time', sql`status is distinct from 'scheduled' or scheduled_at is not null`),
    check('report_parameters_is_object', sql`jsonb_typeof(parameters) = 'object'`),
    check('report_configuration_is_object', sql`jsonb_typeof(configuration) = 'object'`),
    index('idx_reports_organization_id').on(table.organizationId),
    index('idx_reports_template_id').on(table.templateId),
    index('idx_reports_created_by').on(table.createdBy),
    index('idx_reports_status').on(table.status),
    index('idx_reports_scheduled_at').on(table.scheduledAt).where(sql`scheduled_at is not null`),
    index('idx_reports_created_at').on(table.createdAt.desc()),
    index('idx_reports_last_executed').on(table.lastExecuted.desc()),
    index('idx_reports_org_status_created').on(table.organizationId, table.status, table.createdAt.desc()),
    index('idx_reports_org_created').on(table.organizationId, table.createdAt.desc()),
    index('idx_reports_parameters_gin').using('gin', table.parameters),
  ],
)

export const reportShares = reporting.table(
  'report_shares',
  {
    id: key(),
    reportId: uuid('report_id')
      .notNull()
      .references(() => reports.id, { onDelete: 'cascade' }),
    sharedWith: uuid('shared_with')
      .notNull()
      .references(() => users.id, { onDelete: 'cascade' }),
    permission: varchar({ length: 20 }).notNull().default('view'),
    createdAt: moment('created_at').notNull().defaultNow(),
  },
  table => [
    unique('unique_report_share').on(table.reportId, table.sharedWith),
    check('valid_permission', sql`permission in ('view', 'edit')`),
    index('idx_report_shares_shared_with').on(table.sharedWith),
  ],
)
