-- Document 003: what is refreshed, in which order, what came of it. Adopted where it exists already.
-- Locks: new objects; on an adopted refresh_audit_log the row counts become bigint, which rewrites it once, and adopted tables are scanned for
-- constraints and indexed under those locks. They are small.
create schema if not exists sqp;
--> statement-breakpoint
do $$
begin
  -- The document's own would list every table made below, under a name that no table has (sqp.sqp.…).
  drop event trigger if exists auto_register_refresh_tables;
exception when insufficient_privilege then
  null;
end
$$;
--> statement-breakpoint
create table if not exists sqp.refresh_config (
  id serial primary key,
  table_schema text not null,
  table_name text not null,
  is_enabled boolean not null default true,
  refresh_frequency_hours integer not null default 24,
  priority integer not null default 100,
  last_refresh_at timestamp with time zone,
  next_refresh_at timestamp with time zone,
  custom_sync_params jsonb not null default '{}',
  dependencies text[] not null default '{}',
  created_at timestamp with time zone default current_timestamp,
  updated_at timestamp with time zone default current_timestamp,
  unique (table_schema, table_name)
);
--> statement-breakpoint
create table if not exists sqp.refresh_audit_log (
  id serial primary key,
  refresh_config_id integer references sqp.refresh_config (id) on delete set null,
  table_schema text not null,
  table_name text not null,
  refresh_started_at timestamp with time zone not null,
  refresh_completed_at timestamp with time zone,
  status text not null default 'running' check (status in ('running', 'success', 'failed', 'warning')),
  rows_processed bigint,
  rows_inserted bigint,
  rows_updated bigint,
  rows_deleted bigint,
  execution_time_ms integer,
  memory_used_mb decimal(10, 2),
  error_message text,
  error_details jsonb,
  bigquery_job_id text,
  sync_metadata jsonb default '{}',
  created_at timestamp with time zone default current_timestamp
);
--> statement-breakpoint
create table if not exists sqp.refresh_dependencies (
  id serial primary key,
  parent_config_id integer not null references sqp.refresh_config (id) on delete cascade,
  dependent_config_id integer not null references sqp.refresh_config (id) on delete cascade,
  dependency_type text not null default 'hard' check (dependency_type in ('hard', 'soft')),
  created_at timestamp with time zone default current_timestamp,
  unique (parent_config_id, dependent_config_id)
);
--> statement-breakpoint
create table if not exists sqp.refresh_data_quality (
  id serial primary key,
  audit_log_id integer references sqp.refresh_audit_log (id) on delete cascade,
  metric_name text not null,
  metric_value decimal,
  expected_value decimal,
  threshold_min decimal,
  threshold_max decimal,
  is_within_threshold boolean,
  created_at timestamp with time zone default current_timestamp
);
--> statement-breakpoint
create table if not exists sqp.refresh_checkpoints (
  id serial primary key,
  function_name text not null,
  table_schema text not null,
  table_name text not null,
  checkpoint_data jsonb not null,
  last_processed_row bigint,
  total_rows bigint,
  status text not null default 'active' check (status in ('active', 'completed', 'expired')),
  created_at timestamp with time zone default current_timestamp,
  updated_at timestamp with time zone default current_timestamp,
  expires_at timestamp with time zone default (current_timestamp + interval '1 hour')
) with (fillfactor = 50);
--> statement-breakpoint
-- What an adopted table may lack. NOT NULL is set where no row stands against it.
do $$
declare
  wanted record;
  loose boolean;
begin
  for wanted in
    select * from (values
      ('refresh_config', 'is_enabled'), ('refresh_config', 'refresh_frequency_hours'), ('refresh_config', 'priority'), ('refresh_config', 'custom_sync_params'),
      ('refresh_config', 'dependencies'), ('refresh_audit_log', 'status'), ('refresh_dependencies', 'parent_config_id'),
      ('refresh_dependencies', 'dependent_config_id'), ('refresh_dependencies', 'dependency_type'), ('refresh_checkpoints', 'status')
    ) needed (relation, attribute)
    join pg_attribute a on a.attrelid = ('sqp.' || relation)::regclass and a.attname = attribute and not a.attnotnull
  loop
    execute format('select exists (select from sqp.%I where %I is null)', wanted.relation, wanted.attribute) into loose;
    if loose then
      raise exception 'sqp.%.% has rows without a value', wanted.relation, wanted.attribute
        using errcode = '23502', hint = format('give them one: update sqp.%I set %I = … where %I is null', wanted.relation, wanted.attribute, wanted.attribute);
    end if;
    execute format('alter table sqp.%I alter column %I set not null', wanted.relation, wanted.attribute);
  end loop;
  alter table sqp.refresh_audit_log alter column status set default 'running';
  alter table sqp.refresh_checkpoints alter column status set default 'active';
  alter table sqp.refresh_checkpoints set (fillfactor = 50);
  -- The printed document counts rows in 32 bits. All columns in one statement: each would rewrite the table.
  for wanted in
    select string_agg(format('alter column %I type bigint', a.attname), ', ') as changes from pg_attribute a
    where a.attrelid = 'sqp.refresh_audit_log'::regclass and a.attname like 'rows\_%' and a.atttypid = 'integer'::regtype
    having count(*) > 0
  loop
    execute 'alter table sqp.refresh_audit_log ' || wanted.changes;
  end loop;
  -- As printed, a configuration or an audit row that anything refers to can't be deleted any more.
  for wanted in
    select k.conname, relation, attribute, referred, deed
    from (values
      ('refresh_audit_log', 'refresh_config_id', 'refresh_config', 'set null', 'n'), ('refresh_data_quality', 'audit_log_id', 'refresh_audit_log', 'cascade', 'c')
    ) needed (relation, attribute, referred, deed, code)
    join pg_constraint k on k.contype = 'f' and k.conrelid = ('sqp.' || relation)::regclass and k.confrelid = ('sqp.' || referred)::regclass and k.confdeltype::text <> code
  loop
    execute format('alter table sqp.%I drop constraint %I, add constraint %I foreign key (%I) references sqp.%I (id) on delete %s',
      wanted.relation, wanted.conname, wanted.conname, wanted.attribute, wanted.referred, wanted.deed);
  end loop;
  -- One attempt and one active checkpoint a table: what the document had no rule against. The newest stay as they are.
  update sqp.refresh_audit_log a
  set status = 'failed', refresh_completed_at = coalesce(a.refresh_completed_at, current_timestamp), error_message = coalesce(a.error_message, 'abandoned')
  where a.status = 'running' and exists (
    select from sqp.refresh_audit_log n
    where n.table_schema = a.table_schema and n.table_name = a.table_name and n.status = 'running' and (n.refresh_started_at, n.id) > (a.refresh_started_at, a.id)
  );
  update sqp.refresh_checkpoints r
  set status = 'expired'
  where r.status = 'active' and exists (
    select from sqp.refresh_checkpoints n
    where n.function_name = r.function_name and n.table_schema = r.table_schema and n.table_name = r.table_name and n.status = 'active' and n.id > r.id
  );
  -- The document's trigger wrote the schema into the table's name as well.
  update sqp.refresh_config c
  set table_name = k.relname
  from pg_class k
  where c.table_schema = 'sqp' and k.relnamespace = 'sqp'::regnamespace and c.table_name = format('sqp.%I', k.relname)
    and not exists (select from sqp.refresh_config o where o.table_schema = 'sqp' and o.table_name = k.relname);
  if not exists (select from pg_constraint where conname = 'chk_refresh_frequency' and conrelid = 'sqp.refresh_config'::regclass) then
    alter table sqp.refresh_config add constraint chk_refresh_frequency check (refresh_frequency_hours > 0);
  end if;
  if not exists (select from pg_constraint where conname = 'chk_no_self_dependency' and conrelid = 'sqp.refresh_dependencies'::regclass) then
    alter table sqp.refresh_dependencies add constraint chk_no_self_dependency check (parent_config_id <> dependent_config_id);
  end if;
end
$$;
--> statement-breakpoint
create index if not exists idx_refresh_config_next_refresh on sqp.refresh_config (next_refresh_at) where is_enabled = true;
--> statement-breakpoint
create index if not exists idx_refresh_config_priority on sqp.refresh_config (priority desc) where is_enabled = true;
--> statement-breakpoint
create index if not exists idx_audit_log_status_time on sqp.refresh_audit_log (status, refresh_started_at desc);
--> statement-breakpoint
create index if not exists idx_audit_log_table on sqp.refresh_audit_log (table_schema, table_name, refresh_started_at desc);
--> statement-breakpoint
create index if not exists idx_audit_log_config_id on sqp.refresh_audit_log (refresh_config_id, refresh_started_at desc);
--> statement-breakpoint
create unique index if not exists idx_audit_log_one_running on sqp.refresh_audit_log (table_schema, table_name) where status = 'running';
--> statement-breakpoint
create index if not exists idx_dependencies_parent on sqp.refresh_dependencies (parent_config_id);
--> statement-breakpoint
create index if not exists idx_dependencies_dependent on sqp.refresh_dependencies (dependent_config_id);
--> statement-breakpoint
create index if not exists idx_quality_audit_id on sqp.refresh_data_quality (audit_log_id);
--> statement-breakpoint
create index if not exists idx_quality_threshold on sqp.refresh_data_quality (is_within_threshold, created_at desc);
--> statement-breakpoint
-- UNIQUE … WHERE inside CREATE TABLE, as printed, is no SQL.
create unique index if not exists refresh_checkpoints_one_active on sqp.refresh_checkpoints (function_name, table_schema, table_name) where status = 'active';
--> statement-breakpoint
create index if not exists idx_checkpoints_active on sqp.refresh_checkpoints (function_name, status) where status = 'active';
--> statement-breakpoint
create index if not exists idx_checkpoints_expired on sqp.refresh_checkpoints (expires_at) where status = 'active';
--> statement-breakpoint
comment on schema sqp is 'Amazon Search Query Performance and how its tables are refreshed (document 003)';
--> statement-breakpoint
comment on table sqp.refresh_config is 'One row per table that is refreshed: when next, how urgent, from where (custom_sync_params), after which others';
--> statement-breakpoint
comment on table sqp.refresh_audit_log is 'One row per attempt to refresh a table: when, how it ended, what it changed';
--> statement-breakpoint
comment on table sqp.refresh_dependencies is 'Which table is refreshed before which; hard: a failed parent skips its dependents, soft: they go on with a warning';
--> statement-breakpoint
comment on table sqp.refresh_data_quality is 'Each measured quality of each attempt, with what was expected and allowed';
--> statement-breakpoint
comment on table sqp.refresh_checkpoints is 'How far a refresh has read its source; active while it runs, expired when nobody has renewed it';
--> statement-breakpoint

-- Both places that name dependencies count: the table, and the array in the configuration (those are hard).
create view pawl.refresh_edges as
select d.parent_config_id as parent_id, d.dependent_config_id as child_id, d.dependency_type = 'hard' as hard
from sqp.refresh_dependencies d
union
select p.id, c.id, true
from sqp.refresh_config c
cross join lateral unnest(c.dependencies) named (name)
join sqp.refresh_config p on named.name in (p.table_schema || '.' || p.table_name, case when p.table_schema = c.table_schema then p.table_name end)
where not exists (select from sqp.refresh_dependencies d where d.parent_config_id = p.id and d.dependent_config_id = c.id and d.dependency_type = 'hard');
--> statement-breakpoint
comment on view pawl.refresh_edges is 'Every dependency between refreshed tables, from refresh_dependencies and from the dependencies array';
--> statement-breakpoint
comment on column pawl.refresh_edges.parent_id is 'refresh_config.id of the table that comes first';
--> statement-breakpoint
comment on column pawl.refresh_edges.child_id is 'refresh_config.id of the table that waits for it';
--> statement-breakpoint
comment on column pawl.refresh_edges.hard is 'Whether the failure of the one skips the other; otherwise it only warns';
--> statement-breakpoint

-- Breadth first, each table once: walking every path would take for ever on a dense graph.
create function sqp.dependency_path(p_from integer, p_to integer) returns text[]
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  parents integer[];
  children integer[];
  seen integer[] := '{}';
  came_from integer[] := '{}';
  frontier integer[] := array[p_from];
  found_ids integer[];
  found_from integer[];
  path integer[];
begin
  -- Read once: the view costs as much for a level as for all.
  select array_agg(e.parent_id), array_agg(e.child_id) into parents, children from pawl.refresh_edges e;
  loop
    select array_agg(n.child_id), array_agg(n.parent_id) into found_ids, found_from
    from (
      select distinct on (e.child_id) e.child_id, e.parent_id
      from unnest(parents, children) e (parent_id, child_id)
      where e.parent_id = any (frontier) and e.child_id <> all (seen)
    ) n;
    if found_ids is null then
      return null;
    end if;
    seen := seen || found_ids;
    came_from := came_from || found_from;
    exit when p_to = any (found_ids);
    frontier := found_ids;
  end loop;
  path := array[p_to];
  loop
    path := came_from[array_position(seen, path[1])] || path;
    exit when path[1] = p_from;
  end loop;
  return array(
    select c.table_schema || '.' || c.table_name
    from unnest(path) with ordinality walked (id, place)
    join sqp.refresh_config c using (id)
    order by walked.place
  );
end
$$;
--> statement-breakpoint
comment on function sqp.dependency_path(integer, integer) is 'The tables from one to another along the dependencies, both included; null when no way leads there';
--> statement-breakpoint

create function sqp.reject_dependency_cycle() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  cycle text[];
begin
  -- Two transactions that each add one half of a circle would not see each other.
  perform pg_advisory_xact_lock(hashtext('sqp.refresh_dependencies'));
  if tg_table_name = 'refresh_dependencies' then
    cycle := sqp.dependency_path(new.parent_config_id, new.parent_config_id);
  else
    cycle := sqp.dependency_path(new.id, new.id);
  end if;
  if cycle is not null then
    raise exception 'dependency cycle: %', array_to_string(cycle, ' → ')
      using errcode = '23514', hint = 'take one of these dependencies out: no order could satisfy them all';
  end if;
  return null;
end
$$;
--> statement-breakpoint
comment on function sqp.reject_dependency_cycle() is 'Refuses a dependency that closes a circle, naming the circle';
--> statement-breakpoint
create or replace trigger reject_dependency_cycle after insert or update on sqp.refresh_dependencies
for each row execute function sqp.reject_dependency_cycle();
--> statement-breakpoint
-- A new table that names no parents has none: no circle, and no need for one CREATE TABLE to wait for another's commit.
create or replace trigger reject_dependency_cycle_added after insert on sqp.refresh_config
for each row when (new.dependencies <> '{}') execute function sqp.reject_dependency_cycle();
--> statement-breakpoint
create or replace trigger reject_dependency_cycle_changed after update of dependencies, table_schema, table_name on sqp.refresh_config
for each row when (old.dependencies is distinct from new.dependencies or old.table_name <> new.table_name or old.table_schema <> new.table_schema)
execute function sqp.reject_dependency_cycle();
--> statement-breakpoint

create function sqp.expire_checkpoints() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  expired integer;
begin
  update sqp.refresh_checkpoints set status = 'expired', updated_at = current_timestamp where status = 'active' and expires_at < current_timestamp;
  get diagnostics expired = row_count;
  return expired;
end
$$;
--> statement-breakpoint
comment on function sqp.expire_checkpoints() is 'Marks checkpoints that nobody has renewed as expired; a live run renews its own with every chunk';
--> statement-breakpoint
create or replace function sqp.cleanup_expired_checkpoints() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform sqp.expire_checkpoints();
  return null;
end
$$;
--> statement-breakpoint
comment on function sqp.cleanup_expired_checkpoints() is 'The document''s clean-up, which it attached to nothing; here it runs before each new checkpoint, so that an abandoned one does not stand in its way';
--> statement-breakpoint
create or replace trigger cleanup_expired_checkpoints before insert on sqp.refresh_checkpoints
for each statement execute function sqp.cleanup_expired_checkpoints();
--> statement-breakpoint
create or replace function sqp.update_refresh_config_timestamp() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  new.updated_at = current_timestamp;
  return new;
end
$$;
--> statement-breakpoint
comment on function sqp.update_refresh_config_timestamp() is 'Sets updated_at to the time of every change of a configuration';
--> statement-breakpoint
create or replace trigger update_refresh_config_timestamp before update on sqp.refresh_config
for each row execute function sqp.update_refresh_config_timestamp();
--> statement-breakpoint

-- The document's eight tables; it names them and leaves their columns open. A share is a fraction of 1.
create table if not exists sqp.asin_performance_data (
  report_date date not null,
  marketplace text not null,
  asin text not null,
  search_query text not null,
  search_query_volume bigint,
  impressions bigint not null,
  clicks bigint not null,
  cart_adds bigint not null,
  purchases bigint not null,
  impression_share numeric(7, 4),
  click_share numeric(7, 4),
  purchase_share numeric(7, 4),
  median_price numeric(12, 2),
  currency char(3),
  primary key (report_date, marketplace, asin, search_query)
);
--> statement-breakpoint
create table if not exists sqp.search_query_performance (
  report_date date not null,
  marketplace text not null,
  search_query text not null,
  search_query_score integer,
  search_query_volume bigint,
  total_impressions bigint not null,
  total_clicks bigint not null,
  total_cart_adds bigint not null,
  total_purchases bigint not null,
  click_rate numeric(7, 4),
  purchase_rate numeric(7, 4),
  primary key (report_date, marketplace, search_query)
);
--> statement-breakpoint
create table if not exists sqp.daily_sqp_data (
  day date not null,
  marketplace text not null,
  asin text not null,
  impressions bigint not null,
  clicks bigint not null,
  cart_adds bigint not null,
  purchases bigint not null,
  revenue numeric(14, 2),
  primary key (day, marketplace, asin)
);
--> statement-breakpoint
create table if not exists sqp.search_performance_summary (
  marketplace text not null,
  search_query text not null,
  first_seen date not null,
  last_seen date not null,
  asins bigint not null,
  impressions bigint not null,
  clicks bigint not null,
  cart_adds bigint not null,
  purchases bigint not null,
  click_rate numeric(9, 6),
  purchase_rate numeric(9, 6),
  primary key (marketplace, search_query)
);
--> statement-breakpoint
create table if not exists sqp.weekly_summary (
  week_start date not null,
  marketplace text not null,
  asin text not null,
  search_queries bigint not null,
  impressions bigint not null,
  clicks bigint not null,
  cart_adds bigint not null,
  purchases bigint not null,
  primary key (week_start, marketplace, asin)
);
--> statement-breakpoint
create table if not exists sqp.monthly_summary (
  month_start date not null,
  marketplace text not null,
  asin text not null,
  search_queries bigint not null,
  impressions bigint not null,
  clicks bigint not null,
  cart_adds bigint not null,
  purchases bigint not null,
  primary key (month_start, marketplace, asin)
);
--> statement-breakpoint
create table if not exists sqp.quarterly_summary (
  quarter_start date not null,
  marketplace text not null,
  asins bigint not null,
  impressions bigint not null,
  clicks bigint not null,
  cart_adds bigint not null,
  purchases bigint not null,
  primary key (quarter_start, marketplace)
);
--> statement-breakpoint
create table if not exists sqp.yearly_summary (
  year_start date not null,
  marketplace text not null,
  asins bigint not null,
  impressions bigint not null,
  clicks bigint not null,
  cart_adds bigint not null,
  purchases bigint not null,
  primary key (year_start, marketplace)
);
--> statement-breakpoint
do $$
declare
  described record;
begin
  for described in
    select * from (values
      ('asin_performance_data', 'Impressions, clicks and purchases per day, marketplace, ASIN and search query'),
      ('search_query_performance', 'The whole market per day, marketplace and search query'),
      ('daily_sqp_data', 'Impressions, clicks, purchases and revenue per day, marketplace and ASIN'),
      ('search_performance_summary', 'asin_performance_data per marketplace and search query'),
      ('weekly_summary', 'asin_performance_data per week, marketplace and ASIN'),
      ('monthly_summary', 'asin_performance_data per month, marketplace and ASIN'),
      ('quarterly_summary', 'monthly_summary per quarter and marketplace'),
      ('yearly_summary', 'quarterly_summary per year and marketplace')
    ) texts (relation, meaning)
  loop
    if obj_description(('sqp.' || described.relation)::regclass) is null then
      execute format('comment on table sqp.%I is %L', described.relation, described.meaning);
    end if;
  end loop;
end
$$;
--> statement-breakpoint

create function sqp.register_existing_tables() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  registered integer;
begin
  insert into sqp.refresh_config (table_schema, table_name, priority, next_refresh_at)
  select t.schemaname, t.tablename,
    case
      when t.tablename like '%\_data' then 90
      when t.tablename like '%summary%' then 80
      else 70
    end,
    current_timestamp + interval '1 hour'
  from pg_tables t
  where t.schemaname = 'sqp' and t.tablename in (
    'asin_performance_data', 'search_query_performance', 'search_performance_summary', 'daily_sqp_data',
    'weekly_summary', 'monthly_summary', 'quarterly_summary', 'yearly_summary'
  )
  on conflict (table_schema, table_name) do nothing;
  get diagnostics registered = row_count;
  insert into sqp.refresh_dependencies (parent_config_id, dependent_config_id)
  select p.id, d.id
  from sqp.refresh_config p
  cross join sqp.refresh_config d
  where p.table_schema = 'sqp' and d.table_schema = 'sqp' and p.table_name = 'asin_performance_data'
    and d.table_name in ('search_performance_summary', 'weekly_summary', 'monthly_summary')
  on conflict do nothing;
  return registered;
end
$$;
--> statement-breakpoint
comment on function sqp.register_existing_tables() is 'Registers the document''s eight tables with its priorities and dependencies; those registered already stay as they are';
--> statement-breakpoint
select sqp.register_existing_tables();
--> statement-breakpoint

-- A table that nobody has described gets no turn of its own: it is listed, disabled, until it has a source.
create function sqp.register_new_tables() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  registered integer;
begin
  insert into sqp.refresh_config (table_schema, table_name, is_enabled, priority, next_refresh_at)
  select n.nspname, c.relname, false, 50, current_timestamp + interval '24 hours'
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = 'sqp' and c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
    and c.relname not in ('refresh_config', 'refresh_audit_log', 'refresh_dependencies', 'refresh_data_quality', 'refresh_checkpoints')
  on conflict (table_schema, table_name) do nothing;
  get diagnostics registered = row_count;
  return registered;
end
$$;
--> statement-breakpoint
comment on function sqp.register_new_tables() is 'Lists tables of sqp that are not registered yet, disabled and with priority 50; no partitions, no temporary tables. A schedule calls it, for servers where the event trigger may not be made';
--> statement-breakpoint
create or replace function sqp.auto_register_table_for_refresh() returns event_trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from pg_event_trigger_ddl_commands() e where e.schema_name = 'sqp' and e.object_type = 'table' and not e.in_extension) then
    begin
      perform sqp.register_new_tables();
    exception when others then
      -- Somebody's CREATE TABLE must not fail for our book-keeping; the sweep will list it.
      raise warning 'new tables of sqp were not registered for refresh: %', sqlerrm;
    end;
  end if;
end
$$;
--> statement-breakpoint
comment on function sqp.auto_register_table_for_refresh() is 'Lists a new table of sqp for refresh, disabled until it has a source';
--> statement-breakpoint
do $$
begin
  drop event trigger if exists auto_register_refresh_tables;
  create event trigger auto_register_refresh_tables on ddl_command_end
    when tag in ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO')
    execute function sqp.auto_register_table_for_refresh();
exception when insufficient_privilege then
  raise notice 'event trigger auto_register_refresh_tables needs a superuser and was not made; the schedule register-refresh-tables does the same every five minutes';
end
$$;
--> statement-breakpoint
revoke execute on all routines in schema sqp from public;
