// What document 003 asks of its tables, as the catalogue prints it. Where RESOLVED.md decides otherwise, its row is named.

const id = (table: string) => `id integer not null nextval('sqp.${table}_id_seq'::regclass)`
const time = (name: string, rest = '') => `${name} timestamp with time zone${rest}`
const made = time('created_at', ' CURRENT_TIMESTAMP')
const touched = time('updated_at', ' CURRENT_TIMESTAMP')
const text = (name: string) => `${name} text not null`

/** New Tables: name, type, null or not, default, in the document's order. Columns with a default are not null beyond it. */
export const COLUMNS: Record<string, string[]> = {
  refresh_config: [
    id('refresh_config'),
    text('table_schema'),
    text('table_name'),
    'is_enabled boolean not null true',
    'refresh_frequency_hours integer not null 24',
    'priority integer not null 100',
    time('last_refresh_at'),
    time('next_refresh_at'),
    "custom_sync_params jsonb not null '{}'::jsonb",
    "dependencies text[] not null '{}'::text[]",
    made,
    touched,
  ],
  refresh_audit_log: [
    id('refresh_audit_log'),
    'refresh_config_id integer',
    text('table_schema'),
    text('table_name'),
    time('refresh_started_at', ' not null'),
    time('refresh_completed_at'),
    "status text not null 'running'::text",
    // 64 bits: a table may have more rows than the document's INTEGER counts.
    'rows_processed bigint',
    'rows_inserted bigint',
    'rows_updated bigint',
    'rows_deleted bigint',
    'execution_time_ms integer',
    'memory_used_mb numeric(10,2)',
    'error_message text',
    'error_details jsonb',
    'bigquery_job_id text',
    "sync_metadata jsonb '{}'::jsonb",
    made,
  ],
  refresh_dependencies: [
    id('refresh_dependencies'),
    'parent_config_id integer not null',
    'dependent_config_id integer not null',
    "dependency_type text not null 'hard'::text",
    made,
  ],
  refresh_data_quality: [
    id('refresh_data_quality'),
    'audit_log_id integer',
    text('metric_name'),
    'metric_value numeric',
    'expected_value numeric',
    'threshold_min numeric',
    'threshold_max numeric',
    'is_within_threshold boolean',
    made,
  ],
  refresh_checkpoints: [
    id('refresh_checkpoints'),
    text('function_name'),
    text('table_schema'),
    text('table_name'),
    'checkpoint_data jsonb not null',
    'last_processed_row bigint',
    'total_rows bigint',
    "status text not null 'active'::text",
    made,
    touched,
    time('expires_at', " (CURRENT_TIMESTAMP + '01:00:00'::interval)"),
  ],
}

/** Keys, checks and references, as `pg_get_constraintdef` prints them. */
export const CONSTRAINTS: Record<string, string> = {
  'refresh_config refresh_config_pkey': 'PRIMARY KEY (id)',
  'refresh_config refresh_config_table_schema_table_name_key': 'UNIQUE (table_schema, table_name)',
  'refresh_audit_log refresh_audit_log_pkey': 'PRIMARY KEY (id)',
  'refresh_audit_log refresh_audit_log_status_check': "CHECK ((status = ANY (ARRAY['running'::text, 'success'::text, 'failed'::text, 'warning'::text])))",
  // A table whose registration is deleted keeps its history.
  'refresh_audit_log refresh_audit_log_refresh_config_id_fkey': 'FOREIGN KEY (refresh_config_id) REFERENCES sqp.refresh_config(id) ON DELETE SET NULL',
  'refresh_dependencies refresh_dependencies_pkey': 'PRIMARY KEY (id)',
  'refresh_dependencies refresh_dependencies_dependency_type_check': "CHECK ((dependency_type = ANY (ARRAY['hard'::text, 'soft'::text])))",
  'refresh_dependencies refresh_dependencies_parent_config_id_fkey': 'FOREIGN KEY (parent_config_id) REFERENCES sqp.refresh_config(id) ON DELETE CASCADE',
  'refresh_dependencies refresh_dependencies_dependent_config_id_fkey': 'FOREIGN KEY (dependent_config_id) REFERENCES sqp.refresh_config(id) ON DELETE CASCADE',
  'refresh_dependencies refresh_dependencies_parent_config_id_dependent_config_id_key': 'UNIQUE (parent_config_id, dependent_config_id)',
  'refresh_data_quality refresh_data_quality_pkey': 'PRIMARY KEY (id)',
  'refresh_data_quality refresh_data_quality_audit_log_id_fkey': 'FOREIGN KEY (audit_log_id) REFERENCES sqp.refresh_audit_log(id) ON DELETE CASCADE',
  'refresh_checkpoints refresh_checkpoints_pkey': 'PRIMARY KEY (id)',
  'refresh_checkpoints refresh_checkpoints_status_check': "CHECK ((status = ANY (ARRAY['active'::text, 'completed'::text, 'expired'::text])))",
}

/** Of each index: table, columns, and the predicate of a partial one. */
export const INDEXES: Record<string, string> = {
  idx_refresh_config_next_refresh: 'refresh_config (next_refresh_at) WHERE (is_enabled = true)',
  idx_refresh_config_priority: 'refresh_config (priority DESC) WHERE (is_enabled = true)',
  idx_audit_log_status_time: 'refresh_audit_log (status, refresh_started_at DESC)',
  idx_audit_log_table: 'refresh_audit_log (table_schema, table_name, refresh_started_at DESC)',
  idx_audit_log_config_id: 'refresh_audit_log (refresh_config_id, refresh_started_at DESC)',
  idx_dependencies_parent: 'refresh_dependencies (parent_config_id)',
  idx_dependencies_dependent: 'refresh_dependencies (dependent_config_id)',
  idx_quality_audit_id: 'refresh_data_quality (audit_log_id)',
  idx_quality_threshold: 'refresh_data_quality (is_within_threshold, created_at DESC)',
  idx_checkpoints_active: "refresh_checkpoints (function_name, status) WHERE (status = 'active'::text)",
  idx_checkpoints_expired: "refresh_checkpoints (expires_at) WHERE (status = 'active'::text)",
  // RESOLVED 15: UNIQUE … WHERE is no table constraint.
  refresh_checkpoints_one_active: "refresh_checkpoints (function_name, table_schema, table_name) WHERE (status = 'active'::text) unique",
}

/** Initial Data Population: the eight tables, and what they are refreshed after. */
export const PRIORITIES: Record<string, number> = {
  asin_performance_data: 90,
  daily_sqp_data: 90,
  monthly_summary: 80,
  quarterly_summary: 80,
  search_performance_summary: 80,
  search_query_performance: 70,
  weekly_summary: 80,
  yearly_summary: 80,
}
export const FOLLOW_ASIN_DATA = ['monthly_summary', 'search_performance_summary', 'weekly_summary']

/** Everything of these tables that adoption must bring in step, a line each. $1: their names. */
export const SHAPE = `
  select concat_ws(' ', 'column', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)) as line
  from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum where attrelid = any ($1::regclass[]) and attnum > 0
  union select concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated) from pg_constraint where conrelid = any ($1::regclass[]) and contype <> 'n'
  union select concat_ws(' ', 'index', pg_get_indexdef(indexrelid), indisvalid) from pg_index where indrelid = any ($1::regclass[])
  union select concat_ws(' ', 'trigger', pg_get_triggerdef(oid)) from pg_trigger where tgrelid = any ($1::regclass[]) and not tgisinternal
  union select concat_ws(' ', 'storage', relname, reloptions) from pg_class where oid = any ($1::regclass[])
  union select concat_ws(' ', 'function', oid::regprocedure, md5(prosrc), prosecdef, proacl is null) from pg_proc where pronamespace = 'sqp'::regnamespace
  union select concat_ws(' ', 'event trigger', evtname, evtevent, evtfoid::regproc, evttags) from pg_event_trigger
  order by 1`
export const TABLES = Object.keys(COLUMNS).map(table => `sqp.${table}`)
