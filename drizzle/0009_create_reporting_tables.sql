-- Document 001: organizations, their users, templates and reports, and what came of each execution. A schema of its own, because
-- document 000 has another table "users". Locks: new tables only.
create schema if not exists reporting;
--> statement-breakpoint
revoke all on schema reporting from public;
--> statement-breakpoint
comment on schema reporting is 'Reports: who owns them, what they show, when they ran (document 001)';
--> statement-breakpoint

-- A UNIQUE constraint bears the name of the index that the document puts beside it: two on the same column are dead weight.
create table reporting.organizations (
  id uuid primary key default gen_random_uuid(),
  name varchar(255) not null unique,
  domain varchar(255),
  slug varchar(100) not null constraint idx_organizations_slug unique,
  description text,
  settings jsonb default '{}',
  created_at timestamp with time zone default now(),
  updated_at timestamp with time zone default now(),
  is_active boolean default true,
  subscription_tier varchar(50) default 'free',
  subscription_expires_at timestamp with time zone,
  max_users integer default 10,
  max_reports integer default 100,
  storage_limit_gb integer default 5,
  constraint valid_subscription_tier check (subscription_tier in ('free', 'pro', 'enterprise')),
  -- As printed (~*) it takes capitals, and "Acme" beside "acme" would be two organizations at one address.
  constraint valid_slug check (slug ~ '^[a-z0-9-]{3,50}$'),
  constraint valid_domain check (domain ~* '^[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}$' or domain is null)
);
--> statement-breakpoint
comment on table reporting.organizations is 'Who owns users, templates and reports (document 001); deleting one deletes all of it';
--> statement-breakpoint
create index idx_organizations_domain on reporting.organizations (domain);
--> statement-breakpoint
create index idx_organizations_is_active on reporting.organizations (is_active);
--> statement-breakpoint
create index idx_organizations_subscription_tier on reporting.organizations (subscription_tier);
--> statement-breakpoint
create trigger update_organizations_updated_at before update on reporting.organizations
for each row execute function pawl.touch_updated_at();
--> statement-breakpoint

create table reporting.users (
  id uuid primary key default gen_random_uuid(),
  email varchar(255) not null constraint idx_users_email unique,
  username varchar(100) not null constraint idx_users_username unique,
  password_hash varchar(255) not null,
  first_name varchar(100) not null,
  last_name varchar(100) not null,
  organization_id uuid not null references reporting.organizations (id) on delete cascade,
  role varchar(50) not null default 'user',
  preferences jsonb default '{}',
  created_at timestamp with time zone default now(),
  updated_at timestamp with time zone default now(),
  is_active boolean default true,
  last_login timestamp with time zone,
  email_verified boolean default false,
  phone varchar(20),
  timezone varchar(50) default 'UTC',
  language varchar(10) default 'en',
  constraint valid_role check (role in ('super_admin', 'org_admin', 'report_manager', 'report_viewer', 'user')),
  constraint valid_email check (email ~* '^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$'),
  constraint valid_username check (username ~* '^[a-zA-Z0-9_-]{3,30}$')
);
--> statement-breakpoint
comment on table reporting.users is 'Who creates, runs and reads reports (document 001); another table than public.users of document 000';
--> statement-breakpoint
create index idx_users_organization_id on reporting.users (organization_id);
--> statement-breakpoint
create index idx_users_role on reporting.users (role);
--> statement-breakpoint
create index idx_users_is_active on reporting.users (is_active);
--> statement-breakpoint
create index idx_users_last_login on reporting.users (last_login desc);
--> statement-breakpoint
-- The document's is not unique. But who looks up lower(email) wants one account: with "Ada@…" beside "ada@…", a login or a
-- verification mail would reach whichever the index gives first. Both are the same mailbox wherever mail is delivered.
create unique index idx_users_email_lower on reporting.users (lower(email));
--> statement-breakpoint
create trigger update_users_updated_at before update on reporting.users
for each row execute function pawl.touch_updated_at();
--> statement-breakpoint

create table reporting.user_sessions (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references reporting.users (id) on delete cascade,
  created_at timestamp with time zone not null default now(),
  expires_at timestamp with time zone not null,
  ip_address inet,
  user_agent text,
  constraint session_expires_after_start check (expires_at > created_at)
);
--> statement-breakpoint
comment on table reporting.user_sessions is 'Sessions of users, which audit_logs.session_id names (only in the diagram of document 001)';
--> statement-breakpoint
create index idx_user_sessions_user_id on reporting.user_sessions (user_id);
--> statement-breakpoint
create index idx_user_sessions_expires_at on reporting.user_sessions (expires_at);
--> statement-breakpoint

-- The document says ON DELETE RESTRICT here and below. RESTRICT looks at once, and plain NO ACTION while executions, which go with their
-- reports, still stand after their users went: no organization that ever ran a report could be deleted. Looked at when the transaction
-- commits, all it owned is gone, and a user who made something that stays is refused as before.
create table reporting.templates (
  id uuid primary key default gen_random_uuid(),
  name varchar(255) not null,
  description text,
  organization_id uuid not null references reporting.organizations (id) on delete cascade,
  created_by uuid not null references reporting.users (id) on delete no action deferrable initially deferred,
  template_type varchar(50) not null,
  structure jsonb not null default '{}',
  parameters jsonb default '{}',
  configuration jsonb default '{}',
  is_active boolean default true,
  is_public boolean default false,
  created_at timestamp with time zone default now(),
  updated_at timestamp with time zone default now(),
  constraint valid_template_type check (template_type in ('tabular', 'chart', 'dashboard', 'custom')),
  constraint template_structure_is_object check (jsonb_typeof(structure) = 'object'),
  constraint template_parameters_is_object check (jsonb_typeof(parameters) = 'object'),
  constraint template_configuration_is_object check (jsonb_typeof(configuration) = 'object')
);
--> statement-breakpoint
comment on table reporting.templates is 'What a report shows and which parameters it takes (document 001); versions come with the next migration, as in the document';
--> statement-breakpoint
comment on column reporting.templates.structure is 'The blocks of the report: what each reads, and how it is shown';
--> statement-breakpoint
comment on column reporting.templates.parameters is 'The parameters that a report of this template takes, by name';
--> statement-breakpoint
create index idx_templates_organization_id on reporting.templates (organization_id);
--> statement-breakpoint
create index idx_templates_created_by on reporting.templates (created_by);
--> statement-breakpoint
create index idx_templates_template_type on reporting.templates (template_type);
--> statement-breakpoint
create index idx_templates_is_active on reporting.templates (is_active);
--> statement-breakpoint
create index idx_templates_is_public on reporting.templates (is_public);
--> statement-breakpoint
create index idx_templates_created_at on reporting.templates (created_at desc);
--> statement-breakpoint
create index idx_templates_active_org on reporting.templates (organization_id, name) where is_active = true;
--> statement-breakpoint
create trigger update_templates_updated_at before update on reporting.templates
for each row execute function pawl.touch_updated_at();
--> statement-breakpoint

create table reporting.template_fields (
  id uuid primary key default gen_random_uuid(),
  template_id uuid not null references reporting.templates (id) on delete cascade,
  name varchar(255) not null,
  field_type varchar(50) not null,
  position integer not null default 0,
  configuration jsonb not null default '{}',
  constraint unique_template_field_name unique (template_id, name),
  constraint template_field_configuration_is_object check (jsonb_typeof(configuration) = 'object')
);
--> statement-breakpoint
comment on table reporting.template_fields is 'Fields of a template in their order, for those who edit one (only in the diagram of document 001)';
--> statement-breakpoint

-- status stays nullable as printed: the document's batched data migration fills it in. What the engine counts with does not.
create table reporting.reports (
  id uuid primary key default gen_random_uuid(),
  name varchar(255) not null,
  description text,
  template_id uuid not null references reporting.templates (id) on delete no action deferrable initially deferred,
  organization_id uuid not null references reporting.organizations (id) on delete cascade,
  created_by uuid not null references reporting.users (id) on delete no action deferrable initially deferred,
  parameters jsonb default '{}',
  configuration jsonb default '{}',
  status varchar(50) default 'draft',
  priority integer not null default 5,
  scheduled_at timestamp with time zone,
  created_at timestamp with time zone default now(),
  updated_at timestamp with time zone default now(),
  last_executed timestamp with time zone,
  execution_count integer not null default 0,
  constraint valid_status check (status in ('draft', 'scheduled', 'processing', 'completed', 'failed', 'cancelled')),
  constraint valid_priority check (priority between 1 and 10),
  constraint scheduled_has_time check (status is distinct from 'scheduled' or scheduled_at is not null),
  constraint report_parameters_is_object check (jsonb_typeof(parameters) = 'object'),
  constraint report_configuration_is_object check (jsonb_typeof(configuration) = 'object')
);
--> statement-breakpoint
comment on table reporting.reports is 'Reports (document 001): draft, scheduled, processing, then completed, failed or cancelled';
--> statement-breakpoint
comment on column reporting.reports.priority is '1 is executed first, 10 last';
--> statement-breakpoint
comment on column reporting.reports.parameters is 'Values for the parameters of the template';
--> statement-breakpoint
comment on column reporting.reports.last_executed is 'When its last execution ended; changes in the same commit as execution_count';
--> statement-breakpoint
create index idx_reports_organization_id on reporting.reports (organization_id);
--> statement-breakpoint
create index idx_reports_template_id on reporting.reports (template_id);
--> statement-breakpoint
create index idx_reports_created_by on reporting.reports (created_by);
--> statement-breakpoint
create index idx_reports_status on reporting.reports (status);
--> statement-breakpoint
create index idx_reports_scheduled_at on reporting.reports (scheduled_at) where scheduled_at is not null;
--> statement-breakpoint
create index idx_reports_created_at on reporting.reports (created_at desc);
--> statement-breakpoint
create index idx_reports_last_executed on reporting.reports (last_executed desc);
--> statement-breakpoint
create index idx_reports_org_status_created on reporting.reports (organization_id, status, created_at desc);
--> statement-breakpoint
-- For the document's pagination: 20 of one in a hundred organizations' reports cost 1,084 pages by idx_reports_created_at, and 25 by this.
create index idx_reports_org_created on reporting.reports (organization_id, created_at desc);
--> statement-breakpoint
create index idx_reports_parameters_gin on reporting.reports using gin (parameters);
--> statement-breakpoint
create trigger update_reports_updated_at before update on reporting.reports
for each row execute function pawl.touch_updated_at();
--> statement-breakpoint

create table reporting.report_shares (
  id uuid primary key default gen_random_uuid(),
  report_id uuid not null references reporting.reports (id) on delete cascade,
  shared_with uuid not null references reporting.users (id) on delete cascade,
  permission varchar(20) not null default 'view',
  created_at timestamp with time zone not null default now(),
  constraint unique_report_share unique (report_id, shared_with),
  constraint valid_permission check (permission in ('view', 'edit'))
);
--> statement-breakpoint
comment on table reporting.report_shares is 'Who else may view or edit a report (only in the diagram of document 001)';
--> statement-breakpoint
create index idx_report_shares_shared_with on reporting.report_shares (shared_with);
--> statement-breakpoint

-- A unique key of a partitioned table must contain its partition key; ids are random, so they are unique over the months as well.
create table reporting.report_executions (
  id uuid not null default gen_random_uuid(),
  report_id uuid not null references reporting.reports (id) on delete cascade,
  executed_by uuid not null references reporting.users (id) on delete no action deferrable initially deferred,
  status varchar(50) not null default 'running',
  started_at timestamp with time zone not null default now(),
  completed_at timestamp with time zone,
  execution_time_ms integer,
  result_size_bytes bigint,
  output_format varchar(20),
  output_url text,
  error_message text,
  metadata jsonb default '{}',
  primary key (id, started_at),
  constraint valid_execution_status check (status in ('running', 'completed', 'failed', 'cancelled')),
  constraint valid_output_format check (output_format in ('pdf', 'excel', 'csv', 'json', 'html')),
  constraint valid_execution_time check (execution_time_ms >= 0),
  constraint completed_at_after_started check (completed_at is null or completed_at >= started_at)
) partition by range (started_at);
--> statement-breakpoint
comment on table reporting.report_executions is 'One row per execution of a report, by month of started_at (document 001); its id is the run''s in pawl.runs';
--> statement-breakpoint
create index idx_report_executions_report_id on reporting.report_executions (report_id);
--> statement-breakpoint
create index idx_report_executions_executed_by on reporting.report_executions (executed_by);
--> statement-breakpoint
create index idx_report_executions_status on reporting.report_executions (status);
--> statement-breakpoint
-- The covering index that the document's aggregation speaks of: with these two columns it never reads the table.
create index idx_report_executions_started_at on reporting.report_executions (started_at desc) include (status, execution_time_ms);
--> statement-breakpoint
create index idx_report_executions_completed_at on reporting.report_executions (completed_at desc);
--> statement-breakpoint

create table reporting.execution_logs (
  id bigint generated always as identity primary key,
  execution_id uuid not null,
  execution_started_at timestamp with time zone not null,
  level varchar(10) not null default 'info',
  message text not null,
  details jsonb,
  created_at timestamp with time zone not null default now(),
  constraint valid_level check (level in ('debug', 'info', 'warn', 'error')),
  constraint execution_logs_execution_fkey foreign key (execution_id, execution_started_at)
    references reporting.report_executions (id, started_at) on delete cascade
);
--> statement-breakpoint
comment on table reporting.execution_logs is 'What an execution had to say, in the order of id (only in the diagram of document 001)';
--> statement-breakpoint
comment on column reporting.execution_logs.execution_started_at is 'started_at of the execution, which says in which month it stands';
--> statement-breakpoint
create index idx_execution_logs_execution on reporting.execution_logs (execution_id, execution_started_at);
--> statement-breakpoint

create table reporting.audit_logs (
  id uuid not null default gen_random_uuid(),
  user_id uuid references reporting.users (id) on delete set null,
  organization_id uuid not null references reporting.organizations (id) on delete cascade,
  action varchar(100) not null,
  resource_type varchar(50) not null,
  resource_id uuid,
  old_values jsonb,
  new_values jsonb,
  ip_address inet,
  user_agent text,
  timestamp timestamp with time zone not null default now(),
  session_id uuid,
  primary key (id, timestamp),
  constraint valid_action check (action in ('create', 'read', 'update', 'delete', 'login', 'logout', 'export')),
  constraint valid_resource_type check (resource_type in ('user', 'organization', 'template', 'report', 'execution'))
) partition by range (timestamp);
--> statement-breakpoint
comment on table reporting.audit_logs is 'Who did what to which resource, by month of timestamp (document 001)';
--> statement-breakpoint
comment on column reporting.audit_logs.session_id is 'No reference: the row outlives the session';
--> statement-breakpoint
create index idx_audit_logs_user_id on reporting.audit_logs (user_id);
--> statement-breakpoint
create index idx_audit_logs_organization_id on reporting.audit_logs (organization_id);
--> statement-breakpoint
create index idx_audit_logs_action on reporting.audit_logs (action);
--> statement-breakpoint
create index idx_audit_logs_resource_type on reporting.audit_logs (resource_type);
--> statement-breakpoint
create index idx_audit_logs_resource_id on reporting.audit_logs (resource_id);
--> statement-breakpoint
create index idx_audit_logs_timestamp on reporting.audit_logs (timestamp desc);
--> statement-breakpoint

create function reporting.maintain_partitions() returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$
  select pawl.ensure_month_partitions('reporting.report_executions'::regclass, 3), pawl.ensure_month_partitions('reporting.audit_logs'::regclass, 3)
$$;
--> statement-breakpoint
comment on function reporting.maintain_partitions() is 'Document 001: this month''s partitions of executions and audit logs, and three ahead. Runs as its owner: a worker may not create tables here';
--> statement-breakpoint
-- The month that the document makes itself, so that its examples run, and those that are needed.
select pawl.ensure_month_partition('reporting.report_executions'::regclass, '2024-01-01'), pawl.ensure_month_partition('reporting.audit_logs'::regclass, '2024-01-01');
--> statement-breakpoint
select reporting.maintain_partitions();
--> statement-breakpoint
revoke execute on all routines in schema reporting from public;
