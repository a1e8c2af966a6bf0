-- Document 002: campaigns, their timers, state log (by month), metrics and executions; adopted where they exist already.
-- Locks: ADD COLUMN and SET DEFAULT take ACCESS EXCLUSIVE on adopted tables until the end of the file, for moments: constraints, indexes and the
-- materialized views are left to 0014. Only a printed state log keeps them longer, as its rows are carried over: with a
-- large one, adopt in a quiet hour. The indexes that are built here are those of the new log.

-- The document as printed makes a plain state log, which can't become a partitioned one: its rows are carried over at the end.
do $$
begin
  if (select c.relkind from pg_class c where c.oid = to_regclass('public.campaign_state_log')) = 'r' then
    alter table public.campaign_state_log rename to campaign_state_log_printed;
    alter index public.campaign_state_log_pkey rename to campaign_state_log_printed_pkey;
    -- Its name must be free as well, or the new one gets a number behind it.
    if exists (select from pg_constraint where conrelid = 'public.campaign_state_log_printed'::regclass and conname = 'campaign_state_log_campaign_id_fkey') then
      alter table public.campaign_state_log_printed rename constraint campaign_state_log_campaign_id_fkey to campaign_state_log_printed_campaign_id_fkey;
    end if;
    drop index if exists public.idx_campaign_state_log_campaign_id, public.idx_campaign_state_log_created_at, public.idx_campaign_state_log_trigger_event;
  end if;
  -- The printed one lets a second timer slip in between two retries. It guards what it can until 0014 has built the better one.
  if pg_get_indexdef(to_regclass('public.unique_active_timer_per_type')) not like '%FAILED%' then
    alter index public.unique_active_timer_per_type rename to unique_active_timer_per_type_printed;
  end if;
  -- REFRESH … CONCURRENTLY needs unique indexes, the printed ones are not; the views hold nothing of their own.
  drop materialized view if exists public.mv_active_campaigns, public.mv_pending_timers;
end
$$;
--> statement-breakpoint
create table if not exists public.campaigns (
  id uuid primary key default gen_random_uuid(),
  status varchar(20) not null default 'CREATED',
  metadata jsonb not null default '{}',
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  start_time timestamp with time zone,
  end_time timestamp with time zone,
  duration_hours integer not null,
  auto_close boolean not null default true,
  rewards_enabled boolean not null default true,
  constraint valid_status check (status in ('CREATED', 'RUNNING', 'CLOSED', 'REWARD_CLAIM', 'EXPIRED')),
  constraint valid_duration check (duration_hours > 0),
  constraint valid_time_range check (end_time is null or end_time > start_time)
) with (fillfactor = 80);
--> statement-breakpoint
create table if not exists public.campaign_timers (
  id uuid primary key default gen_random_uuid(),
  campaign_id uuid not null references public.campaigns (id) on delete cascade,
  timer_type varchar(50) not null,
  status varchar(20) not null default 'PENDING',
  scheduled_at timestamp with time zone not null,
  executed_at timestamp with time zone,
  payload jsonb not null default '{}',
  retry_count integer not null default 0,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  constraint valid_timer_type check (timer_type in ('START_CAMPAIGN', 'CLOSE_CAMPAIGN', 'EXPIRE_CAMPAIGN', 'REWARD_REMINDER')),
  constraint valid_timer_status check (status in ('PENDING', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED')),
  constraint valid_retry_count check (retry_count >= 0 and retry_count <= 5)
);
--> statement-breakpoint
create table if not exists public.campaign_metrics (
  id uuid primary key default gen_random_uuid(),
  campaign_id uuid not null references public.campaigns (id) on delete cascade,
  metric_type varchar(50) not null,
  value decimal(15, 4) not null,
  attributes jsonb not null default '{}',
  recorded_at timestamp with time zone not null default now(),
  constraint valid_metric_type check (metric_type in ('ENGAGEMENT_COUNT', 'PARTICIPANT_COUNT', 'REWARD_CLAIMED', 'TIMER_EXECUTION_TIME', 'STATE_TRANSITION_TIME'))
);
--> statement-breakpoint
create table if not exists public.timer_executions (
  id uuid primary key default gen_random_uuid(),
  timer_id uuid not null references public.campaign_timers (id) on delete cascade,
  status varchar(20) not null default 'STARTED',
  result jsonb,
  error_message text,
  started_at timestamp with time zone not null default now(),
  completed_at timestamp with time zone,
  execution_time_ms integer,
  constraint valid_execution_status check (status in ('STARTED', 'COMPLETED', 'FAILED')),
  constraint valid_execution_time check (execution_time_ms is null or execution_time_ms >= 0),
  constraint valid_completion check (
    (status = 'COMPLETED' and completed_at is not null)
    or (status = 'FAILED' and completed_at is not null)
    or (status = 'STARTED' and completed_at is null)
  )
);
--> statement-breakpoint
-- The printed tables have ids without a default, which the document's own trigger relies on.
alter table public.campaigns alter column id set default gen_random_uuid(), alter column status set default 'CREATED';
--> statement-breakpoint
alter table public.campaign_timers alter column id set default gen_random_uuid(),
  add column if not exists next_attempt_at timestamp with time zone,
  add column if not exists claimed_by integer;
--> statement-breakpoint
alter table public.campaign_metrics alter column id set default gen_random_uuid();
--> statement-breakpoint
alter table public.timer_executions alter column id set default gen_random_uuid();
--> statement-breakpoint
do $$
begin
  if not exists (select from pg_constraint where conname = 'calculated_end_time' and conrelid = 'public.campaigns'::regclass) then
    alter table public.campaigns add constraint calculated_end_time
      check (end_time is null or end_time = start_time + (duration_hours * interval '1 hour')) not valid;
  end if;
end
$$;
--> statement-breakpoint
comment on table public.campaigns is 'Campaigns and their state (document 002): CREATED, RUNNING, CLOSED, REWARD_CLAIM, EXPIRED';
--> statement-breakpoint
comment on table public.campaign_timers is 'When something is to happen to a campaign (document 002). A row fires, whoever inserted it. FAILED with retry_count < 5 waits for next_attempt_at';
--> statement-breakpoint
comment on table public.campaign_metrics is 'Measurements of campaigns (document 002); TIMER_EXECUTION_TIME and STATE_TRANSITION_TIME are in milliseconds and written by Pawl';
--> statement-breakpoint
comment on table public.timer_executions is 'One row per attempt of a timer (document 002)';
--> statement-breakpoint
create table if not exists public.campaign_state_log (
  id uuid not null default gen_random_uuid(),
  campaign_id uuid not null references public.campaigns (id) on delete cascade,
  from_state varchar(20),
  to_state varchar(20) not null,
  trigger_event varchar(50) not null,
  metadata jsonb not null default '{}',
  created_at timestamp with time zone not null default now(),
  primary key (id, created_at),
  constraint valid_from_state check (from_state in ('CREATED', 'RUNNING', 'CLOSED', 'REWARD_CLAIM', 'EXPIRED')),
  constraint valid_to_state check (to_state in ('CREATED', 'RUNNING', 'CLOSED', 'REWARD_CLAIM', 'EXPIRED')),
  constraint valid_state_transition check (from_state <> to_state or from_state is null)
) partition by range (created_at);
--> statement-breakpoint
comment on table public.campaign_state_log is 'Every change of a campaign''s state (document 002), by month';
--> statement-breakpoint
create index if not exists idx_campaign_state_log_campaign_id on public.campaign_state_log (campaign_id);
--> statement-breakpoint
create index if not exists idx_campaign_state_log_created_at on public.campaign_state_log (created_at);
--> statement-breakpoint
create index if not exists idx_campaign_state_log_trigger_event on public.campaign_state_log (trigger_event);
--> statement-breakpoint
-- Ids that grow with time, where the server has them (18 and later): three rows a timer go to the end of their index instead of
-- all over it, which saves a quarter of the time a batch of firings takes.
do $$
begin
  if to_regprocedure('pg_catalog.uuidv7()') is not null then
    alter table public.campaign_metrics alter column id set default uuidv7();
    alter table public.timer_executions alter column id set default uuidv7();
    alter table public.campaign_state_log alter column id set default uuidv7();
  end if;
end
$$;
--> statement-breakpoint
create table if not exists public.campaign_state_log_archive (like public.campaign_state_log including defaults including constraints);
--> statement-breakpoint
alter table public.campaign_state_log_archive add column if not exists archived_at timestamp with time zone not null default now();
--> statement-breakpoint
comment on table public.campaign_state_log_archive is 'State log rows older than a year; campaigns may be gone, so nothing references them';
--> statement-breakpoint
create or replace function public.create_monthly_partitions() returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ select pawl.ensure_month_partitions('public.campaign_state_log'::regclass, 3) $$;
--> statement-breakpoint
comment on function public.create_monthly_partitions() is 'Document 002: this month''s state log partition and three ahead. Runs as its owner: a worker may not create tables in public';
--> statement-breakpoint
select public.create_monthly_partitions();
--> statement-breakpoint
do $$
begin
  if to_regclass('public.campaign_state_log_printed') is null then
    return;
  end if;
  perform pawl.ensure_month_partition('public.campaign_state_log'::regclass, month)
  from (select distinct date_trunc('month', created_at at time zone 'UTC')::date as month from public.campaign_state_log_printed) months;
  insert into public.campaign_state_log (id, campaign_id, from_state, to_state, trigger_event, metadata, created_at)
  select id, campaign_id, from_state, to_state, trigger_event, metadata, created_at from public.campaign_state_log_printed;
  drop table public.campaign_state_log_printed;
end
$$;
--> statement-breakpoint

-- Pawl fires timers set-wise and writes times and log itself: a trigger's call for each row would be a third of the work.
-- The setting is local to that transaction; everybody else's changes go through the triggers.
create or replace function pawl.touch_updated_at() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  new.updated_at := now();
  return new;
end
$$;
--> statement-breakpoint
comment on function pawl.touch_updated_at() is 'updated_at on every change; the documents'' update_updated_at_column, once for all of them';
--> statement-breakpoint
create or replace trigger update_campaigns_updated_at before update on public.campaigns
for each row when (current_setting('pawl.firing', true) is distinct from 'on') execute function pawl.touch_updated_at();
--> statement-breakpoint
create or replace trigger update_campaign_timers_updated_at before update on public.campaign_timers
for each row when (current_setting('pawl.firing', true) is distinct from 'on') execute function pawl.touch_updated_at();
--> statement-breakpoint
create or replace function public.log_campaign_state_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  old_status text;
  old_updated timestamptz;
begin
  if tg_op = 'UPDATE' then
    old_status := old.status;
    old_updated := old.updated_at;
  end if;
  insert into public.campaign_state_log (campaign_id, from_state, to_state, trigger_event, metadata)
  values (
    new.id, old_status, new.status,
    left(coalesce(nullif(new.metadata ->> 'trigger_event', ''), case when tg_op = 'INSERT' then 'CAMPAIGN_CREATED' else 'UNKNOWN' end), 50),
    jsonb_build_object('previous_updated_at', old_updated, 'new_updated_at', new.updated_at, 'changed_by', coalesce(new.metadata ->> 'changed_by', session_user))
  );
  return new;
end
$$;
--> statement-breakpoint
comment on function public.log_campaign_state_change() is 'Document 002: a state log row for each change of state, and one for the creation';
--> statement-breakpoint
create or replace trigger log_campaign_state_changes after update on public.campaigns
for each row when (old.status is distinct from new.status and current_setting('pawl.firing', true) is distinct from 'on')
execute function public.log_campaign_state_change();
--> statement-breakpoint
create or replace trigger log_campaign_creation after insert on public.campaigns
for each row execute function public.log_campaign_state_change();
--> statement-breakpoint
create or replace function public.validate_timer_schedule() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from public.campaigns where id = new.campaign_id and status = 'EXPIRED') then
    raise exception 'Cannot schedule timer for expired campaign: %', new.campaign_id
      using errcode = '22023', hint = 'create a new campaign: select pawl.create_campaign(…)';
  end if;
  if new.scheduled_at < now() - interval '1 minute' then
    raise exception 'Cannot schedule timer in the past: %', new.scheduled_at
      using errcode = '22023', hint = 'up to a minute ago is accepted; to restore old rows: set pawl.allow_past_timers = on';
  end if;
  return new;
end
$$;
--> statement-breakpoint
comment on function public.validate_timer_schedule() is 'Document 002: no timer for an expired campaign, none further back than a minute; not for rows that come as history (COMPLETED, CANCELLED)';
--> statement-breakpoint
create or replace trigger validate_timer_scheduling before insert on public.campaign_timers
for each row when (
  new.status not in ('COMPLETED', 'CANCELLED')
  and current_setting('pawl.firing', true) is distinct from 'on' and current_setting('pawl.allow_past_timers', true) is distinct from 'on'
)
execute function public.validate_timer_schedule();
--> statement-breakpoint
create or replace function public.validate_state_transition() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if (old.status, new.status) not in (
    ('CREATED', 'RUNNING'), ('RUNNING', 'CLOSED'), ('CLOSED', 'REWARD_CLAIM'),
    ('REWARD_CLAIM', 'EXPIRED'), ('RUNNING', 'EXPIRED'), ('CLOSED', 'EXPIRED')
  ) then
    raise exception 'Invalid state transition from % to %', old.status, new.status
      using errcode = '22023', hint = 'CREATED → RUNNING → CLOSED → REWARD_CLAIM → EXPIRED; RUNNING and CLOSED may expire at once';
  end if;
  return new;
end
$$;
--> statement-breakpoint
comment on function public.validate_state_transition() is 'Document 002: the state machine, for whoever updates a campaign by hand; equal to transitions in workers/campaigns/states.ts';
--> statement-breakpoint
create or replace trigger validate_campaign_state_transition before update on public.campaigns
for each row when (old.status is distinct from new.status and current_setting('pawl.firing', true) is distinct from 'on')
execute function public.validate_state_transition();
--> statement-breakpoint

create or replace function public.archive_old_state_logs() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  moved integer;
begin
  with gone as (
    delete from public.campaign_state_log where created_at < now() - interval '1 year'
    returning id, campaign_id, from_state, to_state, trigger_event, metadata, created_at
  )
  insert into public.campaign_state_log_archive (id, campaign_id, from_state, to_state, trigger_event, metadata, created_at)
  select * from gone
  on conflict do nothing;
  get diagnostics moved = row_count;
  insert into public.system_maintenance_log (operation, affected_rows, timestamp) values ('archive_state_logs', moved, now());
  raise notice 'Archived % old state log records', moved;
end
$$;
--> statement-breakpoint
comment on function public.archive_old_state_logs() is 'Document 002: state log rows older than a year go to campaign_state_log_archive, in one statement';
--> statement-breakpoint
create or replace function public.cleanup_timer_executions() returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  deleted integer;
begin
  delete from public.timer_executions where status = 'COMPLETED' and completed_at < now() - interval '6 months';
  get diagnostics deleted = row_count;
  insert into public.system_maintenance_log (operation, affected_rows, timestamp) values ('cleanup_timer_executions', deleted, now());
  raise notice 'Cleaned up % old timer execution records', deleted;
end
$$;
--> statement-breakpoint
comment on function public.cleanup_timer_executions() is 'Document 002: completed executions older than six months are deleted';
--> statement-breakpoint
create or replace function pawl.refresh_campaign_views(p_view text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if p_view not in ('mv_active_campaigns', 'mv_pending_timers') then
    raise exception '"%" is no view of the campaigns', p_view using errcode = '22023', hint = 'mv_active_campaigns or mv_pending_timers';
  end if;
  execute format('refresh materialized view concurrently public.%I', p_view);
end
$$;
--> statement-breakpoint
comment on function pawl.refresh_campaign_views(text) is 'Refreshes one of document 002''s materialized views while it is being read';
--> statement-breakpoint
revoke execute on function public.create_monthly_partitions(), public.archive_old_state_logs(), public.cleanup_timer_executions() from public;
--> statement-breakpoint
-- Nobody needs it for a trigger to fire.
revoke execute on function public.log_campaign_state_change(), public.validate_timer_schedule(), public.validate_state_transition() from public;
--> statement-breakpoint
revoke execute on all routines in schema pawl from public;
