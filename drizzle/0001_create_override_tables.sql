-- Document 000, V1.0: the host application's tables (adopted when they exist, created when they don't), the audit trail and
-- the operations. Locks: ADD COLUMN takes ACCESS EXCLUSIVE on adopted tables to the end of the file, which neither rewrites nor reads one of them;
-- what has to read them (indexes, constraints) is left to 0014, where it stops nobody.
create temporary table pawl_creates on commit drop as
select wanted.relation
from unnest(array['users', 'categories', 'recipients', 'category_recipient_settings', 'system_maintenance_log']) wanted (relation)
where to_regclass('public.' || wanted.relation) is null;
--> statement-breakpoint
create table if not exists public.users (
  id bigserial primary key,
  username varchar(255) not null unique
);
--> statement-breakpoint
create table if not exists public.categories (
  id bigserial primary key,
  name varchar(255) not null,
  settings jsonb not null default '{}'
);
--> statement-breakpoint
create table if not exists public.recipients (
  id bigserial primary key,
  category_id bigint not null references public.categories (id) on delete cascade,
  name varchar(255),
  is_ad_synced boolean not null default false,
  is_active boolean not null default true
);
--> statement-breakpoint
create table if not exists public.category_recipient_settings (
  id bigserial primary key,
  category_id bigint not null references public.categories (id) on delete cascade,
  recipient_id bigint not null references public.recipients (id) on delete cascade,
  settings jsonb not null default '{}',
  unique (category_id, recipient_id)
);
--> statement-breakpoint
create table if not exists public.system_maintenance_log (
  id bigserial primary key,
  operation varchar(100) not null,
  affected_rows integer,
  timestamp timestamptz not null default now()
);
--> statement-breakpoint

-- The way back drops the tables that bear this comment, and never a host's own.
do $$
declare
  created text;
begin
  for created in select relation from pawl_creates loop
    execute format('comment on table public.%I is %L', created, 'Created by Pawl (document 000); the host application had none');
  end loop;
end
$$;
--> statement-breakpoint

-- Preflight over what the host brought: every missing column is named at once, before anything is changed.
do $$
declare
  needed record;
  problems text[] := '{}';
begin
  for needed in
    select *
    from (values
      ('users', 'id', 'integer'), ('users', 'username', 'text'),
      ('categories', 'id', 'integer'), ('categories', 'name', 'text'),
      ('recipients', 'id', 'integer'), ('recipients', 'category_id', 'integer'),
      ('recipients', 'is_ad_synced', 'boolean'), ('recipients', 'is_active', 'boolean'),
      ('category_recipient_settings', 'category_id', 'integer'), ('category_recipient_settings', 'recipient_id', 'integer'),
      ('system_maintenance_log', 'operation', 'text'), ('system_maintenance_log', 'affected_rows', 'integer'),
      ('system_maintenance_log', 'timestamp', 'timestamp'),
      -- Of these Pawl adds what is not there, but it can't work with another type.
      ('categories', 'settings', 'jsonb'), ('category_recipient_settings', 'settings', 'jsonb'), ('system_maintenance_log', 'details', 'jsonb')
    ) wanted (relation, attribute, family)
    where family <> 'jsonb' or exists (
      select from pg_attribute a where a.attrelid = to_regclass('public.' || relation) and a.attname = attribute and not a.attisdropped
    )
  loop
    if not exists (
      select
      from pg_attribute a join pg_type t on t.oid = a.atttypid
      where a.attrelid = to_regclass('public.' || needed.relation) and a.attname = needed.attribute and not a.attisdropped
        and case needed.family
          when 'integer' then t.typname in ('int4', 'int8')
          when 'boolean' then t.typname = 'bool'
          when 'jsonb' then t.typname = 'jsonb'
          when 'timestamp' then t.typcategory = 'D'
          else t.typcategory = 'S'
        end
    ) then
      problems := problems || format('column public.%s.%s (%s)', needed.relation, needed.attribute, needed.family);
    end if;
  end loop;
  for needed in
    select *
    from (values
      ('users', array['id']), ('categories', array['id']), ('recipients', array['id']),
      ('category_recipient_settings', array['category_id', 'recipient_id'])
    ) wanted (relation, attributes)
  loop
    if not exists (
      select
      from pg_index i
      -- Neither a reference nor ON CONFLICT takes a deferrable, partial, invalid or expression index; included columns don't matter.
      where i.indrelid = to_regclass('public.' || needed.relation)
        and i.indisunique and i.indimmediate and i.indisvalid and i.indpred is null and i.indexprs is null
        and (
          select array_agg(a.attname::text order by a.attname)
          from pg_attribute a where a.attrelid = i.indrelid and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])
        ) = needed.attributes
    ) then
      problems := problems || format('unique index on public.%s(%s)', needed.relation, array_to_string(needed.attributes, ', '));
    end if;
  end loop;
  -- An override inserts the rows that are missing, and knows only its own columns.
  for needed in
    select a.attname
    from pg_attribute a
    where a.attrelid = 'public.category_recipient_settings'::regclass and a.attnum > 0 and not a.attisdropped
      and a.attnotnull and not a.atthasdef and a.attidentity = '' and a.attname not in ('category_id', 'recipient_id', 'settings')
  loop
    problems := problems || format('default of column public.category_recipient_settings.%s, which is not null', needed.attname);
  end loop;
  if problems <> '{}' then
    raise exception 'the host application''s tables cannot be adopted; missing: %', array_to_string(problems, '; ')
      using errcode = '42P16', hint = 'add what is named, then run "pawl migrate up" again; nothing was changed';
  end if;
end
$$;
--> statement-breakpoint
-- The way back drops the columns that bear this comment, and never a host's own.
do $$
declare
  lacking record;
begin
  for lacking in
    select *
    from (values
      ('categories', 'settings', 'jsonb not null default ''{}'''),
      ('category_recipient_settings', 'settings', 'jsonb not null default ''{}'''),
      ('system_maintenance_log', 'details', 'jsonb')
    ) wanted (relation, attribute, definition)
    where not exists (
      select from pg_attribute a where a.attrelid = to_regclass('public.' || relation) and a.attname = attribute and not a.attisdropped
    )
  loop
    execute format('alter table public.%I add column %I %s', lacking.relation, lacking.attribute, lacking.definition);
    execute format('comment on column public.%I.%I is %L', lacking.relation, lacking.attribute, 'Added by Pawl (document 000); the host application had none');
  end loop;
end
$$;
--> statement-breakpoint

-- Makes PARENT_yYYYYmMM with UTC bounds. LIKE and ATTACH take SHARE UPDATE EXCLUSIVE on the parent where PARTITION OF takes
-- ACCESS EXCLUSIVE: behind a 3 s reader an insert stalled 46 ms instead of 2,525 ms. No DEFAULT partition: it blocks what it catches.
-- Attaching waits for writers of the tables that the parent refers to, and everyone who comes behind it waits with it: 50 ms at a time.
create function pawl.ensure_month_partition(parent regclass, month date) returns text
language plpgsql set search_path = pg_catalog, pg_temp set timezone = 'UTC' set lock_timeout = '50ms'
as $$
declare
  first date := date_trunc('month', month)::date;
  next date := (date_trunc('month', month) + interval '1 month')::date;
  space text;
  base text;
  part text;
begin
  select n.nspname, c.relname into strict space, base
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.oid = parent and c.relkind = 'p';
  part := base || '_y' || to_char(first, 'YYYY') || 'm' || to_char(first, 'MM');
  for attempt in 1..60 loop
    begin
      perform pg_advisory_xact_lock(hashtext('pawl.ensure_month_partition'), hashtext(part));
      if to_regclass(format('%I.%I', space, part)) is not null then
        return null;
      end if;
      execute format('create table %I.%I (like %s including defaults including constraints)', space, part, parent);
      execute format('alter table %s attach partition %I.%I for values from (%L) to (%L)', parent, space, part, first, next);
      return space || '.' || part;
    exception when lock_not_available then
      if attempt = 60 then
        raise;
      end if;
      -- Its locks are gone with the attempt: those who waited go first.
      perform pg_sleep(0.15);
    end;
  end loop;
end
$$;
--> statement-breakpoint
comment on function pawl.ensure_month_partition(regclass, date) is 'Creates the month''s partition (UTC bounds) of a partitioned table; its name, or null when it was there';
--> statement-breakpoint
create function pawl.ensure_month_partitions(parent regclass, months_ahead integer default 3) returns integer
language sql set search_path = pg_catalog, pg_temp
as $$
  select count(pawl.ensure_month_partition(parent, ((now() at time zone 'UTC')::date + make_interval(months => ahead))::date))::integer
  from generate_series(0, months_ahead) ahead
$$;
--> statement-breakpoint
comment on function pawl.ensure_month_partitions(regclass, integer) is 'Creates this month''s partition and those of the months ahead; how many were new';
--> statement-breakpoint

-- The audit is partitioned by month, and a unique key of a partitioned table must contain its partition key, so the ids
-- live here too: unique over all months, and what category_recipient_settings may point to.
create table public.category_override_audit_keys (
  operation_id varchar(50) primary key
);
--> statement-breakpoint
comment on table public.category_override_audit_keys is 'Every audited operation id once; kept in step with category_override_audit by its triggers';
--> statement-breakpoint
create sequence public.category_override_audit_id_seq;
--> statement-breakpoint
create table public.category_override_audit (
  id bigint not null default nextval('public.category_override_audit_id_seq'),
  operation_id varchar(50) not null,
  category_id bigint not null,
  category_name varchar(255) not null,
  user_id bigint not null,
  user_name varchar(255) not null,
  affected_recipients_count integer not null default 0,
  operation_timestamp timestamp with time zone not null default now(),
  operation_status varchar(20) not null default 'COMPLETED',
  operation_duration_ms integer,
  error_message text,
  client_ip inet,
  user_agent text,
  created_at timestamp with time zone not null default now(),
  constraint category_override_audit_pkey primary key (id, operation_timestamp),
  constraint idx_category_override_audit_operation_id unique (operation_id, operation_timestamp),
  constraint fk_category_override_audit_category foreign key (category_id) references public.categories (id) on delete cascade,
  constraint fk_category_override_audit_user foreign key (user_id) references public.users (id) on delete cascade,
  constraint chk_operation_status check (operation_status in ('STARTED', 'COMPLETED', 'FAILED')),
  constraint chk_affected_recipients_count check (affected_recipients_count >= 0),
  constraint chk_operation_duration check (operation_duration_ms is null or operation_duration_ms >= 0),
  constraint chk_valid_timestamps check (operation_timestamp <= now() + interval '1 hour')
) partition by range (operation_timestamp);
--> statement-breakpoint
alter sequence public.category_override_audit_id_seq owned by public.category_override_audit.id;
--> statement-breakpoint
comment on table public.category_override_audit is 'Audit trail of every category override (document 000), by month; a cancelled operation stands as FAILED with who and why';
--> statement-breakpoint
create index idx_category_override_audit_category_id on public.category_override_audit (category_id);
--> statement-breakpoint
create index idx_category_override_audit_user_id on public.category_override_audit (user_id);
--> statement-breakpoint
create index idx_category_override_audit_timestamp on public.category_override_audit (operation_timestamp desc);
--> statement-breakpoint
create index idx_category_override_audit_status on public.category_override_audit (operation_status);
--> statement-breakpoint
create index idx_category_override_audit_active on public.category_override_audit (operation_timestamp desc) where operation_status in ('STARTED', 'FAILED');
--> statement-breakpoint
create index idx_audit_category_status_timestamp on public.category_override_audit (category_id, operation_status, operation_timestamp desc);
--> statement-breakpoint
create function public.keep_category_override_audit_key() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' then
    insert into public.category_override_audit_keys (operation_id) values (new.operation_id);
    return new;
  end if;
  delete from public.category_override_audit_keys where operation_id = old.operation_id;
  return old;
end
$$;
--> statement-breakpoint
comment on function public.keep_category_override_audit_key() is 'Keeps category_override_audit_keys equal to the ids of the audit';
--> statement-breakpoint
-- Firing a trigger asks for no right, making one does: anyone could hang this on a temporary table of his own and delete keys as its owner.
revoke execute on function public.keep_category_override_audit_key() from public;
--> statement-breakpoint
create trigger trigger_category_override_audit_key_insert before insert on public.category_override_audit
for each row execute function public.keep_category_override_audit_key();
--> statement-breakpoint
create function public.refuse_audit_key_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'the operation_id of an audit row never changes' using errcode = '22023', hint = 'insert a row of its own';
end
$$;
--> statement-breakpoint
comment on function public.refuse_audit_key_change() is 'An audited id that changed would leave settings rows naming an operation nobody audited';
--> statement-breakpoint
revoke execute on function public.refuse_audit_key_change() from public;
--> statement-breakpoint
create trigger trigger_category_override_audit_key_update before update of operation_id on public.category_override_audit
for each row when (new.operation_id is distinct from old.operation_id) execute function public.refuse_audit_key_change();
--> statement-breakpoint
create trigger trigger_category_override_audit_key_delete after delete on public.category_override_audit
for each row execute function public.keep_category_override_audit_key();
--> statement-breakpoint
create function public.maintain_audit_partitions() returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select pawl.ensure_month_partitions('public.category_override_audit'::regclass, 3) $$;
--> statement-breakpoint
comment on function public.maintain_audit_partitions() is 'Document 000: this month''s audit partition and three ahead. Runs as its owner: a worker may not create tables in public';
--> statement-breakpoint
select public.maintain_audit_partitions();
--> statement-breakpoint

-- fillfactor: progress moves with every batch, and room in the page keeps those updates off the indexes (HOT).
create table public.category_override_operations (
  id bigserial primary key,
  operation_id varchar(50) not null,
  category_id bigint not null,
  user_id bigint not null,
  status varchar(20) not null default 'PENDING',
  total_recipients integer,
  processed_recipients integer default 0,
  batch_size integer default 100,
  current_batch integer default 0,
  started_at timestamp with time zone not null default now(),
  last_updated_at timestamp with time zone not null default now(),
  completed_at timestamp with time zone,
  error_message text,
  retry_count integer default 0,
  max_retries integer default 3,
  override_settings jsonb not null default '{}',
  operation_timestamp timestamp with time zone not null default now(),
  reverts_operation_id varchar(50),
  idempotency_key text,
  idempotency_request jsonb,
  constraint idx_category_override_operations_operation_id unique (operation_id),
  constraint operations_idempotency_key unique (idempotency_key),
  constraint fk_category_override_operations_category foreign key (category_id) references public.categories (id) on delete cascade,
  constraint fk_category_override_operations_user foreign key (user_id) references public.users (id) on delete cascade,
  constraint chk_override_operation_status check (status in ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED')),
  constraint chk_processed_recipients check (processed_recipients >= 0),
  constraint chk_total_recipients check (total_recipients is null or total_recipients >= 0),
  constraint chk_batch_size check (batch_size > 0 and batch_size <= 1000),
  constraint chk_retry_count check (retry_count >= 0 and retry_count <= max_retries),
  constraint chk_recipient_counts check (total_recipients is null or processed_recipients <= total_recipients)
) with (fillfactor = 50);
--> statement-breakpoint
comment on table public.category_override_operations is 'Override operations in work and done (document 000); processed_recipients equals the rows that carry the operation, in every snapshot';
--> statement-breakpoint
create index idx_category_override_operations_status on public.category_override_operations (status);
--> statement-breakpoint
create index idx_category_override_operations_started_at on public.category_override_operations (started_at desc);
--> statement-breakpoint
create index idx_category_override_operations_category_id on public.category_override_operations (category_id);
--> statement-breakpoint
create index idx_category_override_operations_active on public.category_override_operations (started_at desc) where status in ('PENDING', 'PROCESSING');
--> statement-breakpoint
create index idx_operations_user_status on public.category_override_operations (user_id, status);
--> statement-breakpoint
create index idx_operations_processing on public.category_override_operations (started_at desc) where status = 'PROCESSING';
--> statement-breakpoint
-- One operation a category at a time, whatever any worker believes.
create unique index operations_one_processing_per_category on public.category_override_operations (category_id) where status = 'PROCESSING';
--> statement-breakpoint
create function public.touch_category_override_operation() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  new.last_updated_at := clock_timestamp();
  if new.status in ('COMPLETED', 'FAILED', 'CANCELLED') then
    new.completed_at := coalesce(new.completed_at, clock_timestamp());
  else
    new.completed_at := null;
  end if;
  return new;
end
$$;
--> statement-breakpoint
comment on function public.touch_category_override_operation() is 'last_updated_at on every change; completed_at on every final status, or the cleanup would never see FAILED and CANCELLED rows';
--> statement-breakpoint
create trigger trigger_touch_category_override_operation_insert before insert on public.category_override_operations
for each row execute function public.touch_category_override_operation();
--> statement-breakpoint
-- Not for the progress of a batch, which brings its own time: the call would be a third of what that update costs.
create trigger trigger_touch_category_override_operation before update on public.category_override_operations
for each row when (new.status is distinct from old.status or new.last_updated_at = old.last_updated_at)
execute function public.touch_category_override_operation();
--> statement-breakpoint
create function public.cleanup_old_override_operations() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  deleted_count integer;
begin
  delete from public.category_override_operations
  where status in ('COMPLETED', 'FAILED', 'CANCELLED') and completed_at < now() - interval '30 days';
  get diagnostics deleted_count = row_count;
  insert into public.system_maintenance_log (operation, affected_rows, timestamp) values ('cleanup_override_operations', deleted_count, now());
  return deleted_count;
end
$$;
--> statement-breakpoint
comment on function public.cleanup_old_override_operations() is 'Document 000: deletes operations that ended more than 30 days ago and logs how many';
--> statement-breakpoint
create function public.get_override_operation_progress(op_id varchar(50)) returns json
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select json_build_object(
    'operationId', operation_id,
    'status', status,
    'totalRecipients', total_recipients,
    'processedRecipients', processed_recipients,
    'progressPercent', case
      when total_recipients > 0 then round(processed_recipients::decimal / total_recipients * 100, 2)
      when status = 'COMPLETED' then 100
      else 0
    end,
    'startedAt', started_at,
    'lastUpdatedAt', last_updated_at,
    'completedAt', completed_at,
    'errorMessage', error_message,
    'retryCount', retry_count
  )
  from public.category_override_operations
  where operation_id = op_id
$$;
--> statement-breakpoint
comment on function public.get_override_operation_progress(varchar) is 'Document 000: one operation''s progress as JSON; null when there is no such operation';
--> statement-breakpoint
revoke execute on all routines in schema pawl from public;
--> statement-breakpoint
revoke execute on function
  public.cleanup_old_override_operations(), public.maintain_audit_partitions(), public.touch_category_override_operation()
from public;
