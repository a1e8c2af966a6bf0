// What document 001 asks of its tables, written down from its text. Where RESOLVED.md or the diagram decides, it is said.

const id = 'id uuid not null gen_random_uuid()'
const text = (name: string, length: number, rest = '') => `${name} character varying(${length})${rest}`
const word = (value: string) => ` '${value}'::character varying`
const time = (name: string, rest = '') => `${name} timestamp with time zone${rest}`
const made = [time('created_at', ' now()'), time('updated_at', ' now()')]
const reference = (name: string) => `${name} uuid not null`
const json = (name: string) => `${name} jsonb '{}'::jsonb`

/** Core Tables: name, type, null or not, default, in the document's order. */
export const COLUMNS: Record<string, string[]> = {
  users: [
    id,
    text('email', 255, ' not null'),
    text('username', 100, ' not null'),
    text('password_hash', 255, ' not null'),
    text('first_name', 100, ' not null'),
    text('last_name', 100, ' not null'),
    reference('organization_id'),
    text('role', 50, ` not null${word('user')}`),
    json('preferences'),
    ...made,
    'is_active boolean true',
    time('last_login'),
    'email_verified boolean false',
    text('phone', 20),
    text('timezone', 50, word('UTC')),
    text('language', 10, word('en')),
    // Document 004.
    'emailVerificationToken text',
    'emailVerificationExpiry timestamp(3) without time zone',
  ],
  organizations: [
    id,
    text('name', 255, ' not null'),
    text('domain', 255),
    text('slug', 100, ' not null'),
    'description text',
    json('settings'),
    ...made,
    'is_active boolean true',
    text('subscription_tier', 50, word('free')),
    time('subscription_expires_at'),
    'max_users integer 10',
    'max_reports integer 100',
    'storage_limit_gb integer 5',
  ],
  templates: [
    id,
    text('name', 255, ' not null'),
    'description text',
    reference('organization_id'),
    reference('created_by'),
    text('template_type', 50, ' not null'),
    "structure jsonb not null '{}'::jsonb",
    json('parameters'),
    json('configuration'),
    'is_active boolean true',
    'is_public boolean false',
    ...made,
    // At the end: they come with the forward migration template, which sets NOT NULL.
    'version integer not null 1',
    'parent_template_id uuid',
  ],
  reports: [
    id,
    text('name', 255, ' not null'),
    'description text',
    reference('template_id'),
    reference('organization_id'),
    reference('created_by'),
    json('parameters'),
    json('configuration'),
    text('status', 50, word('draft')),
    // Not null beyond the document, like the count: both are reckoned with.
    'priority integer not null 5',
    time('scheduled_at'),
    ...made,
    time('last_executed'),
    'execution_count integer not null 0',
  ],
  report_executions: [
    id,
    reference('report_id'),
    reference('executed_by'),
    text('status', 50, ` not null${word('running')}`),
    // RESOLVED 22: part of the key.
    time('started_at', ' not null now()'),
    time('completed_at'),
    'execution_time_ms integer',
    'result_size_bytes bigint',
    text('output_format', 20),
    'output_url text',
    'error_message text',
    json('metadata'),
  ],
  audit_logs: [
    id,
    'user_id uuid',
    reference('organization_id'),
    text('action', 100, ' not null'),
    text('resource_type', 50, ' not null'),
    'resource_id uuid',
    'old_values jsonb',
    'new_values jsonb',
    'ip_address inet',
    'user_agent text',
    time('timestamp', ' not null now()'),
    'session_id uuid',
  ],
}

/** What the diagram alone names: only what makes them what they are called. */
export const DIAGRAM: Record<string, string[]> = {
  user_sessions: [reference('user_id'), time('expires_at', ' not null')],
  template_fields: [reference('template_id'), text('name', 255, ' not null'), text('field_type', 50, ' not null')],
  report_shares: [reference('report_id'), reference('shared_with')],
  execution_logs: [reference('execution_id'), time('execution_started_at', ' not null'), 'message text not null'],
}

const owned = 'FOREIGN KEY (organization_id) REFERENCES reporting.organizations(id) ON DELETE CASCADE'
// RESTRICT in the document: looked at when the transaction commits, so that an organization can go with all it owns.
const stays = (column: string, table: string) => `FOREIGN KEY (${column}) REFERENCES reporting.${table}(id) DEFERRABLE INITIALLY DEFERRED`
const goes = (column: string, table: string) => `FOREIGN KEY (${column}) REFERENCES reporting.${table}(id) ON DELETE CASCADE`

/** Keys and references, as `pg_get_constraintdef` prints them. */
export const KEYS: Record<string, string> = {
  'organizations organizations_pkey': 'PRIMARY KEY (id)',
  'organizations organizations_name_key': 'UNIQUE (name)',
  // RESOLVED 4: UNIQUE under the name of the index that the document puts beside it.
  'organizations idx_organizations_slug': 'UNIQUE (slug)',
  'users users_pkey': 'PRIMARY KEY (id)',
  'users idx_users_email': 'UNIQUE (email)',
  'users idx_users_username': 'UNIQUE (username)',
  'users users_organization_id_fkey': owned,
  'user_sessions user_sessions_pkey': 'PRIMARY KEY (id)',
  'user_sessions user_sessions_user_id_fkey': goes('user_id', 'users'),
  'templates templates_pkey': 'PRIMARY KEY (id)',
  'templates unique_template_name_version': 'UNIQUE (organization_id, name, version)',
  'templates templates_organization_id_fkey': owned,
  'templates templates_created_by_fkey': stays('created_by', 'users'),
  'templates templates_parent_template_id_fkey': 'FOREIGN KEY (parent_template_id) REFERENCES reporting.templates(id)',
  'template_fields template_fields_pkey': 'PRIMARY KEY (id)',
  'template_fields unique_template_field_name': 'UNIQUE (template_id, name)',
  'template_fields template_fields_template_id_fkey': goes('template_id', 'templates'),
  'reports reports_pkey': 'PRIMARY KEY (id)',
  'reports reports_template_id_fkey': stays('template_id', 'templates'),
  'reports reports_organization_id_fkey': owned,
  'reports reports_created_by_fkey': stays('created_by', 'users'),
  'report_shares report_shares_pkey': 'PRIMARY KEY (id)',
  'report_shares unique_report_share': 'UNIQUE (report_id, shared_with)',
  'report_shares report_shares_report_id_fkey': goes('report_id', 'reports'),
  'report_shares report_shares_shared_with_fkey': goes('shared_with', 'users'),
  'report_executions report_executions_pkey': 'PRIMARY KEY (id, started_at)',
  'report_executions report_executions_report_id_fkey': goes('report_id', 'reports'),
  'report_executions report_executions_executed_by_fkey': stays('executed_by', 'users'),
  'execution_logs execution_logs_pkey': 'PRIMARY KEY (id)',
  'execution_logs execution_logs_execution_fkey':
    'FOREIGN KEY (execution_id, execution_started_at) REFERENCES reporting.report_executions(id, started_at) ON DELETE CASCADE',
  'audit_logs audit_logs_pkey': 'PRIMARY KEY (id, "timestamp")',
  'audit_logs audit_logs_user_id_fkey': 'FOREIGN KEY (user_id) REFERENCES reporting.users(id) ON DELETE SET NULL',
  'audit_logs audit_logs_organization_id_fkey': owned,
}

/** Checks by table; what each refuses is shown by rows. */
export const CHECKS: Record<string, string[]> = {
  organizations: ['valid_domain', 'valid_slug', 'valid_subscription_tier'],
  users: ['valid_email', 'valid_role', 'valid_username'],
  user_sessions: ['session_expires_after_start'],
  templates: ['template_configuration_is_object', 'template_parameters_is_object', 'template_structure_is_object', 'valid_template_type', 'valid_version'],
  template_fields: ['template_field_configuration_is_object'],
  reports: ['report_configuration_is_object', 'report_parameters_is_object', 'scheduled_has_time', 'valid_priority', 'valid_status'],
  report_shares: ['valid_permission'],
  report_executions: ['completed_at_after_started', 'valid_execution_status', 'valid_execution_time', 'valid_output_format'],
  execution_logs: ['valid_level'],
  audit_logs: ['valid_action', 'valid_resource_type'],
}

const plain = (table: string, columns: string[]) => columns.map(column => [`idx_${table}_${column}`, `${table} (${column})`] as const)
const newest = (table: string, columns: string[]) => columns.map(column => [`idx_${table}_${column}`, `${table} (${column} DESC)`] as const)

/** Of each index of the document: table and columns, method where it is no b-tree, predicate where it is partial. */
export const INDEXES: Record<string, string> = {
  ...Object.fromEntries([
    ...plain('users', ['organization_id', 'role', 'is_active']),
    ...newest('users', ['last_login']),
    ...plain('organizations', ['domain', 'is_active', 'subscription_tier']),
    ...plain('templates', ['organization_id', 'created_by', 'template_type', 'is_active', 'is_public', 'version', 'parent_template_id']),
    ...newest('templates', ['created_at']),
    ...plain('reports', ['organization_id', 'template_id', 'created_by', 'status']),
    ...newest('reports', ['created_at', 'last_executed']),
    ...plain('report_executions', ['report_id', 'executed_by', 'status']),
    ...newest('report_executions', ['completed_at']),
    ...plain('audit_logs', ['user_id', 'organization_id', 'action', 'resource_type', 'resource_id']),
  ]),
  idx_users_email: 'users (email) unique',
  idx_users_username: 'users (username) unique',
  idx_organizations_slug: 'organizations (slug) unique',
  idx_reports_scheduled_at: 'reports (scheduled_at) WHERE (scheduled_at IS NOT NULL)',
  idx_audit_logs_timestamp: 'audit_logs ("timestamp" DESC)',
  // "Covering", says the document of the aggregation that reads it.
  idx_report_executions_started_at: 'report_executions (started_at DESC) INCLUDE (status, execution_time_ms)',
  // Index Strategy.
  idx_reports_org_status_created: 'reports (organization_id, status, created_at DESC)',
  idx_templates_active_org: 'templates (organization_id, name) WHERE (is_active = true)',
  idx_users_email_lower: 'users (lower((email)::text)) unique',
  idx_reports_parameters_gin: 'reports gin (parameters)',
  unique_template_name_version: 'templates (organization_id, name, version) unique',
  // Document 004.
  users_emailVerificationToken_idx: 'users ("emailVerificationToken") unique',
}

export const TRIGGERS = ['organizations', 'reports', 'templates', 'users'].map(table => `update_${table}_updated_at`)
