-- Refreshes as runs of the engine: planning, order, what waits for what, ending.
-- Lock order everywhere: a run's own checkpoint, then those of its dependents by their place in the plan, then its lanes, audit row and configuration.
-- A source may take its time with a query, and a large table with its publishing.
insert into pawl.kinds (kind, queue, changed_function, quiet_time) values ('refresh', 'refresh.load', 'pawl.refresh_changed', interval '1 hour');
--> statement-breakpoint
create schema if not exists pawl_stage;
--> statement-breakpoint
revoke all on schema pawl_stage from public;
--> statement-breakpoint
comment on schema pawl_stage is 'Unlogged tables of refreshes under way; nothing in it is needed once its run has ended';
--> statement-breakpoint

create table pawl.refresh_runs (
  id bigint generated always as identity primary key,
  slot timestamptz unique,
  target text,
  requested_by text not null default session_user,
  requested_at timestamptz not null default now(),
  constraint refresh_runs_planned_or_asked check ((slot is null) <> (target is null))
);
--> statement-breakpoint
comment on table pawl.refresh_runs is 'One row per plan: of a slot (the minute it was made for, once however many workers there are), or asked for by someone (target)';
--> statement-breakpoint

create table pawl.refresh_steps (
  run_id text primary key references pawl.checkpoints (run_id) on delete cascade,
  place bigint generated always as identity unique,
  refresh_run bigint not null references pawl.refresh_runs (id) on delete cascade,
  config_id integer not null references sqp.refresh_config (id) on delete cascade,
  table_name text not null,
  outcome text,
  urgency double precision not null,
  estimate_ms bigint not null,
  source text not null,
  publish_group text,
  cause text,
  warnings text[] not null default '{}',
  extraction integer not null default 1,
  loaded boolean not null default false,
  staged_at timestamptz,
  saved jsonb not null default '{}',
  audit_id integer,
  source_epoch bigint,
  waits_for_source boolean not null default false,
  rows_inserted bigint,
  rows_updated bigint,
  rows_deleted bigint,
  rows_unchanged bigint,
  constraint refresh_steps_outcome_known check (outcome in ('completed', 'warning', 'failed', 'skipped', 'cancelled'))
) with (fillfactor = 70);
--> statement-breakpoint
create unique index refresh_steps_one_unfinished on pawl.refresh_steps (config_id) where outcome is null;
--> statement-breakpoint
create index refresh_steps_latest on pawl.refresh_steps (config_id, place desc);
--> statement-breakpoint
-- In the order of pawl.refresh_plan: as it is asked for whole, by table and by outcome.
create index refresh_steps_run on pawl.refresh_steps (refresh_run desc, urgency, place);
--> statement-breakpoint
create index refresh_steps_table on pawl.refresh_steps (table_name, refresh_run desc, urgency, place);
--> statement-breakpoint
create index refresh_steps_outcome on pawl.refresh_steps (outcome, refresh_run desc, urgency, place);
--> statement-breakpoint
create index refresh_steps_source on pawl.refresh_steps (source) where outcome is null;
--> statement-breakpoint
comment on table pawl.refresh_steps is 'One table of one plan. outcome is null until it has ended; urgency (seconds since 1970, smaller is sooner) was computed when it was planned; extraction counts the readings of its source';
--> statement-breakpoint

create table pawl.refresh_waits (
  run_id text not null references pawl.refresh_steps (run_id) on delete cascade,
  parent_run_id text not null references pawl.refresh_steps (run_id) on delete cascade,
  hard boolean not null,
  primary key (run_id, parent_run_id)
);
--> statement-breakpoint
create index refresh_waits_parent on pawl.refresh_waits (parent_run_id);
--> statement-breakpoint
comment on table pawl.refresh_waits is 'Which step waits for which, as of its plan';
--> statement-breakpoint

create table pawl.refresh_limits (
  source text primary key,
  concurrency integer not null,
  constraint refresh_limits_positive check (concurrency > 0)
);
--> statement-breakpoint
comment on table pawl.refresh_limits is 'How many refreshes may read from a source at once, over all workers; a source without a row has no limit. Named as in pawl.refresh_plan: bigquery, duckdb, sql, postgres:<connection>';
--> statement-breakpoint
comment on column pawl.refresh_limits.source is 'bigquery, duckdb, sql, or postgres:CONNECTION';
--> statement-breakpoint
comment on column pawl.refresh_limits.concurrency is 'How many refreshes may read from it at once';
--> statement-breakpoint
insert into pawl.refresh_limits (source, concurrency) values ('bigquery', 4);
--> statement-breakpoint

create function pawl.refresh_source(p_params jsonb) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select (p_params ->> 'source') || coalesce(':' || (p_params ->> 'connection'), '') $$;
--> statement-breakpoint
comment on function pawl.refresh_source(jsonb) is 'What the limit of a table''s source is kept under; null when it has no source';
--> statement-breakpoint

create function pawl.refresh_estimate(p_config_id integer) returns bigint
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce((sum(d.execution_time_ms * power(0.7, d.place)) / nullif(sum(power(0.7, d.place)), 0))::bigint, 60000)
  from (
    select a.execution_time_ms, row_number() over (order by a.refresh_started_at desc) - 1 as place
    from sqp.refresh_audit_log a
    where a.refresh_config_id = p_config_id and a.status in ('success', 'warning') and a.execution_time_ms is not null
    order by a.refresh_started_at desc
    limit 10
  ) d
$$;
--> statement-breakpoint
comment on function pawl.refresh_estimate(integer) is 'Milliseconds a refresh of this table will take: its last ten successes, each weighing 0.7 of the next newer; a minute when there is none';
--> statement-breakpoint

create function pawl.refresh_ahead(p_run_id text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select w.parent_run_id
  from pawl.refresh_waits w
  join pawl.refresh_steps me on me.run_id = w.run_id
  join pawl.refresh_steps p on p.run_id = w.parent_run_id
  where w.run_id = p_run_id and p.outcome is null
    -- Within a group that is published together, a parent has done its part once its rows are staged.
    and not coalesce(p.staged_at is not null and p.refresh_run = me.refresh_run and p.publish_group = me.publish_group, false)
  order by p.place desc
  limit 1
$$;
--> statement-breakpoint
comment on function pawl.refresh_ahead(text) is 'A step that this one must wait for; null when it waits for none';
--> statement-breakpoint

create function pawl.refresh_root(p_run_id text) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select coalesce(s.cause, format('%s %s', c.run_id, case when c.state = 'cancelled' then 'was ' || c.error else 'failed: ' || c.error end))
  from pawl.refresh_steps s join pawl.checkpoints c using (run_id)
  where s.run_id = p_run_id
$$;
--> statement-breakpoint
comment on function pawl.refresh_root(text) is 'What kept a step from its end: its own failure, or that of the step it was skipped for, which it begins with';
--> statement-breakpoint

create function pawl.refresh_culprit(p_cause text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select substring(p_cause from '^(.+?) (?:failed: |was )') $$;
--> statement-breakpoint
comment on function pawl.refresh_culprit(text) is 'The run that a cause names';
--> statement-breakpoint

create function pawl.refresh_order(p_configs integer[]) returns integer[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  parents integer[];
  children integer[];
  ready integer[];
  ordered integer[] := '{}';
  remaining integer[] := p_configs;
begin
  select array_agg(e.parent_id), array_agg(e.child_id) into parents, children
  from pawl.refresh_edges e
  where e.parent_id = any (p_configs) and e.child_id = any (p_configs);
  loop
    ready := array(
      select id from unnest(remaining) id
      where id not in (select e.child from unnest(parents, children) e (parent, child) where e.parent = any (remaining))
      order by id
    );
    exit when ready = '{}';
    ordered := ordered || ready;
    remaining := array(select id from unnest(remaining) id where id <> all (ready));
  end loop;
  return ordered;
end
$$;
--> statement-breakpoint
comment on function pawl.refresh_order(integer[]) is 'These tables, parents before their dependents; without those that stand in a circle or behind one';
--> statement-breakpoint

-- urgency(i) = min(due(i) - estimate(i), min over its dependents(urgency(c) - estimate(i))), due = next_refresh_at - 60 s × priority.
-- One number that never changes carries priority, what waits behind a table, how long that takes, and age: later plans come later.
create function pawl.add_refresh_run(p_slot timestamptz, p_target text, p_configs integer[]) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  run bigint;
  ordered integer[] := pawl.refresh_order(p_configs);
  step record;
begin
  insert into pawl.refresh_runs (slot, target) values (p_slot, p_target) returning id into run;
  -- Parents that are under way can't end while we look at them: their last act takes the same lock.
  perform from pawl.checkpoints c
  join pawl.refresh_steps s using (run_id)
  where s.outcome is null and s.config_id in (select e.parent_id from pawl.refresh_edges e where e.child_id = any (p_configs))
  order by s.place
  for share of c;
  insert into pawl.checkpoints (run_id, kind, subject)
  select format('refresh:%s:%s.%s', run, c.table_schema, c.table_name), 'refresh', c.table_schema || '.' || c.table_name
  from sqp.refresh_config c
  where c.id = any (p_configs);
  insert into pawl.refresh_steps (run_id, refresh_run, config_id, table_name, urgency, estimate_ms, source, publish_group)
  select format('refresh:%s:%s.%s', run, c.table_schema, c.table_name), run, c.id, c.table_schema || '.' || c.table_name,
    extract(epoch from coalesce(least(c.next_refresh_at, now()), now())) - 60 * c.priority - e.estimate_ms / 1000.0,
    e.estimate_ms, pawl.refresh_source(c.custom_sync_params), c.custom_sync_params ->> 'publish_group'
  from sqp.refresh_config c
  cross join lateral (select pawl.refresh_estimate(c.id) as estimate_ms) e
  where c.id = any (p_configs)
  -- A dependent's place comes after its parents': whoever locks by place locks downwards.
  order by array_position(ordered, c.id) nulls last, c.id;
  insert into pawl.refresh_waits (run_id, parent_run_id, hard)
  select s.run_id, p.run_id, bool_or(e.hard)
  from pawl.refresh_steps s
  join pawl.refresh_edges e on e.child_id = s.config_id
  join pawl.refresh_steps p on p.config_id = e.parent_id and p.outcome is null
  where s.refresh_run = run
  group by s.run_id, p.run_id;
  for step in select s.run_id, s.estimate_ms from pawl.refresh_steps s where s.refresh_run = run order by s.place desc loop
    update pawl.refresh_steps s
    set urgency = below.urgency
    from (
      select min(c.urgency) - step.estimate_ms / 1000.0 as urgency
      from pawl.refresh_waits w join pawl.refresh_steps c using (run_id)
      where w.parent_run_id = step.run_id
    ) below
    where s.run_id = step.run_id and s.urgency > below.urgency;
  end loop;
  -- pg-boss takes the highest first. Whole seconds before an epoch of our own fit its 32 bits until 2094.
  update pawl.checkpoints c
  set priority = greatest(-2147483647, least(2147483647, round(1767225600 - s.urgency)))::integer,
      waits_for = pawl.refresh_ahead(c.run_id)
  from pawl.refresh_steps s
  where s.refresh_run = run and c.run_id = s.run_id;
  if cardinality(ordered) < cardinality(p_configs) then
    -- Refused when a dependency is made; rows restored past the triggers may still close a circle. It must not stop the others.
    perform pawl.break_refresh_cycles(run);
  end if;
  perform pawl.deliver(c.run_id)
  from pawl.checkpoints c
  join pawl.refresh_steps s using (run_id)
  where s.refresh_run = run and c.waits_for is null and c.state = 'pending'
  order by s.urgency, s.place;
  return run;
end
$$;
--> statement-breakpoint
comment on function pawl.add_refresh_run(timestamptz, text, integer[]) is 'Writes a plan of these tables, in the caller''s transaction: steps, what they wait for, their urgency, and a job for each that waits for nothing';
--> statement-breakpoint

create function pawl.break_refresh_cycles(p_refresh_run bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  members text[];
  member record;
begin
  members := array(
    select s.run_id from pawl.refresh_steps s
    where s.refresh_run = p_refresh_run and sqp.dependency_path(s.config_id, s.config_id) is not null
  );
  -- Each fails for itself: with these, the first one's failure would skip the others.
  delete from pawl.refresh_waits w where w.run_id = any (members) and w.parent_run_id = any (members);
  for member in select s.run_id, s.config_id from pawl.refresh_steps s where s.run_id = any (members) order by s.place loop
    perform pawl.finish(member.run_id, null, 'failed',
      'dependency cycle: ' || array_to_string(sqp.dependency_path(member.config_id, member.config_id), ' → ') || '; take one of these dependencies out');
  end loop;
end
$$;
--> statement-breakpoint
comment on function pawl.break_refresh_cycles(bigint) is 'Fails the steps of a plan that stand in a circle, so that the others can go on';
--> statement-breakpoint

create function pawl.plan_refresh() returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  this_slot timestamptz := date_trunc('minute', now());
  due integer[];
  blocked integer[];
  held integer[] := '{}';
begin
  -- One planner at a time: the second finds the first one's steps unfinished, and plans nothing twice.
  perform pg_advisory_xact_lock(hashtext('pawl.refresh_plan'));
  if exists (select from pawl.refresh_runs r where r.slot = this_slot) then
    return null;
  end if;
  select array_agg(c.id) into due
  from sqp.refresh_config c
  where c.is_enabled and c.next_refresh_at <= now() and pawl.refresh_source(c.custom_sync_params) is not null
    and not exists (select from pawl.refresh_steps s where s.config_id = c.id and s.outcome is null);
  -- What was skipped waits for its parent's next turn, not for a turn of its own.
  loop
    select array_agg(distinct e.child_id) into blocked
    from pawl.refresh_edges e
    -- Not for one that has no turns any more. A range instead of an equality, here and below: for a table that was never refreshed the planner would
    -- otherwise walk all history backwards by place.
    join sqp.refresh_config p on p.id = e.parent_id and p.is_enabled and pawl.refresh_source(p.custom_sync_params) is not null
    left join lateral (select s.outcome from pawl.refresh_steps s where s.config_id between p.id and p.id order by s.config_id, s.place desc limit 1) latest on true
    where e.hard and e.child_id = any (due) and e.parent_id <> all (due)
      and (p.id = any (held) or latest.outcome in ('failed', 'skipped', 'cancelled'));
    exit when blocked is null;
    held := held || blocked;
    due := array(select id from unnest(due) id where id <> all (blocked));
  end loop;
  if coalesce(cardinality(due), 0) = 0 then
    return null;
  end if;
  return pawl.add_refresh_run(this_slot, null, due);
end
$$;
--> statement-breakpoint
comment on function pawl.plan_refresh() is 'Plans every table that is due: enabled, with a source, next_refresh_at in the past, not under way. One plan a minute, however many call. Null when there is nothing to plan';
--> statement-breakpoint

create function pawl.refresh_table(name text, upstream text default 'stale', downstream boolean default false) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  target sqp.refresh_config;
  above integer[];
  stale integer[];
  wanted integer[];
begin
  if refresh_table.upstream is null or refresh_table.upstream not in ('stale', 'all', 'none') then
    raise exception 'upstream must be stale, all or none, not %', left(coalesce(refresh_table.upstream, 'null'), 100)
      using errcode = '22023', hint = 'stale refreshes first what is due or has failed above it';
  end if;
  select c.* into target
  from sqp.refresh_config c
  where refresh_table.name in (c.table_schema || '.' || c.table_name, c.table_name)
  order by c.table_schema || '.' || c.table_name = refresh_table.name desc, c.table_schema = 'sqp' desc, c.id
  limit 1;
  if not found then
    raise exception 'table "%" is not registered for refresh', left(coalesce(refresh_table.name, 'null'), 100)
      using errcode = '22023', hint = 'select table_schema, table_name from sqp.refresh_config lists those that are';
  end if;
  if not target.is_enabled then
    raise exception 'refresh of %.% is disabled', target.table_schema, target.table_name
      using errcode = '22023', hint = format('update sqp.refresh_config set is_enabled = true where id = %s', target.id);
  end if;
  if pawl.refresh_source(target.custom_sync_params) is null then
    raise exception '%.% has no source', target.table_schema, target.table_name
      using errcode = '22023', hint = format('update sqp.refresh_config set custom_sync_params = ''{"source": "sql", "query": "select …"}'' where id = %s', target.id);
  end if;
  perform pg_advisory_xact_lock(hashtext('pawl.refresh_plan'));
  wanted := array[target.id];
  if refresh_table.upstream <> 'none' then
    with recursive up (id) as (
      select target.id
      union
      select e.parent_id from up join pawl.refresh_edges e on e.child_id = up.id
    )
    select array_agg(up.id) into above from up where up.id <> target.id;
    select array_agg(c.id) into stale
    from sqp.refresh_config c
    left join lateral (select s.run_id, s.outcome from pawl.refresh_steps s where s.config_id between c.id and c.id order by s.config_id, s.place desc limit 1) latest on true
    where c.id = any (above) and c.is_enabled and pawl.refresh_source(c.custom_sync_params) is not null
      and (refresh_table.upstream = 'all' or c.last_refresh_at is null or c.next_refresh_at <= now()
        or latest.outcome in ('failed', 'skipped', 'cancelled') or (latest.run_id is not null and latest.outcome is null));
    -- What lies between a stale table and the target would hand the old rows on.
    with recursive down (id) as (
      select unnest(stale)
      union
      select e.child_id from down join pawl.refresh_edges e on e.parent_id = down.id where e.child_id = any (above)
    )
    select wanted || coalesce(array_agg(down.id), '{}') into wanted from down;
  end if;
  if refresh_table.downstream then
    with recursive down (id) as (
      select target.id
      union
      select e.child_id from down join pawl.refresh_edges e on e.parent_id = down.id
    )
    select wanted || array_agg(down.id) into wanted from down;
  end if;
  -- Disabled tables never run; those under way are waited for, not run twice.
  select array_agg(c.id) into wanted
  from sqp.refresh_config c
  where c.id = any (wanted) and c.is_enabled and pawl.refresh_source(c.custom_sync_params) is not null
    and not exists (select from pawl.refresh_steps s where s.config_id = c.id and s.outcome is null);
  if wanted is null then
    return (select s.refresh_run from pawl.refresh_steps s where s.config_id = target.id and s.outcome is null);
  end if;
  return pawl.add_refresh_run(null, target.table_schema || '.' || target.table_name, wanted);
end
$$;
--> statement-breakpoint
comment on function pawl.refresh_table(text, text, boolean) is
  'Refreshes a table now, in the caller''s transaction: with what is stale above it (or all, or none of it), and on request everything below it. A table that is under way already is waited for. Returns the refresh run''s id. Errors: 22023 unknown, disabled or sourceless table, or a bad argument';
--> statement-breakpoint

-- Outcomes: started (or resumed), waits (parked behind a parent or behind its source's limit), gone (the table's registration was deleted).
create function pawl.start_refresh(p_run_id text, p_epoch bigint) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  run pawl.checkpoints := pawl.hold_run(p_run_id, p_epoch);
  step pawl.refresh_steps;
  config sqp.refresh_config;
  most integer;
  reading bigint;
  ahead text;
begin
  select * into step from pawl.refresh_steps s where s.run_id = p_run_id;
  if not found then
    return jsonb_build_object('outcome', 'gone');
  end if;
  select * into config from sqp.refresh_config c where c.id = step.config_id;
  if not config.is_enabled then
    raise exception 'refresh of % is disabled', step.table_name
      using errcode = '22023', hint = format('update sqp.refresh_config set is_enabled = true where id = %s', config.id);
  end if;
  ahead := pawl.refresh_ahead(p_run_id);
  if ahead is not null then
    perform pawl.park(p_run_id, p_epoch, ahead);
    return jsonb_build_object('outcome', 'waits', 'for', ahead);
  end if;
  select l.concurrency into most from pawl.refresh_limits l where l.source = step.source;
  if found then
    perform pg_advisory_xact_lock(hashtext('pawl.refresh_source'), hashtext(step.source));
    select count(*), (array_agg(s.run_id order by c.opened_at))[1] into reading, ahead
    from pawl.refresh_steps s join pawl.checkpoints c using (run_id)
    where s.source = step.source and s.outcome is null and s.run_id <> p_run_id and c.state = 'running' and s.source_epoch = c.epoch;
    if reading >= most then
      perform pawl.park(p_run_id, p_epoch, ahead);
      update pawl.refresh_steps set waits_for_source = true where refresh_steps.run_id = p_run_id;
      return jsonb_build_object('outcome', 'waits', 'for', ahead);
    end if;
  end if;
  if step.audit_id is null then
    -- One attempt a table: an older row that still says so belongs to nobody any more.
    update sqp.refresh_audit_log a
    set status = 'failed', refresh_completed_at = clock_timestamp(), error_message = 'abandoned'
    where a.table_schema = config.table_schema and a.table_name = config.table_name and a.status = 'running';
    insert into sqp.refresh_audit_log (refresh_config_id, table_schema, table_name, refresh_started_at, status, sync_metadata)
    values (config.id, config.table_schema, config.table_name, clock_timestamp(), 'running',
      jsonb_build_object('run_id', p_run_id, 'attempt', run.failures + 1, 'source', step.source))
    returning id into step.audit_id;
  end if;
  update pawl.refresh_steps s
  set audit_id = step.audit_id, source_epoch = p_epoch, waits_for_source = false,
      -- Whoever opens a step of a group anew may read it anew: until it is ready again the others must not publish it.
      staged_at = null,
      -- As it stands now: what failed when this was planned may have been retried.
      warnings = array(
        select format('%s was not refreshed (%s); its rows are of %s', p.table_name, pawl.refresh_root(latest.run_id), coalesce(c.last_refresh_at::text, 'no refresh yet'))
        from pawl.refresh_waits w
        join pawl.refresh_steps p on p.run_id = w.parent_run_id
        join sqp.refresh_config c on c.id = p.config_id
        cross join lateral (
          select l.run_id, l.outcome from pawl.refresh_steps l
          where l.config_id between p.config_id and p.config_id order by l.config_id, l.place desc limit 1
        ) latest
        where w.run_id = p_run_id and not w.hard and latest.outcome in ('failed', 'skipped', 'cancelled')
        order by p.place
      )
  where s.run_id = p_run_id;
  -- Its checkpoint may have expired while it lay idle, or with an attempt that an operator repeats.
  update sqp.refresh_checkpoints r
  set status = 'active', updated_at = clock_timestamp(), expires_at = clock_timestamp() + interval '1 hour'
  where r.function_name = 'refresh.load' and r.table_schema = config.table_schema and r.table_name = config.table_name and r.status = 'expired'
    and r.checkpoint_data ->> 'run_id' = p_run_id and r.checkpoint_data ->> 'extraction' = step.extraction::text;
  return jsonb_build_object(
    'outcome', 'started', 'run_id', p_run_id, 'refresh_run', step.refresh_run, 'config_id', config.id, 'schema', config.table_schema, 'table', config.table_name,
    'params', config.custom_sync_params, 'extraction', step.extraction, 'loaded', step.loaded, 'saved', step.saved, 'audit_id', step.audit_id,
    'group', step.publish_group);
end
$$;
--> statement-breakpoint
comment on function pawl.start_refresh(text, bigint) is 'Takes a table''s turn when its parents have ended and its source has room; opens the audit row of this attempt. Returns what the worker needs to know';
--> statement-breakpoint

create function pawl.remember_refresh(p_run_id text, p_epoch bigint, p_saved jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform pawl.hold_run(p_run_id, p_epoch);
  update pawl.refresh_steps set saved = saved || p_saved where run_id = p_run_id;
  update sqp.refresh_audit_log a
  set bigquery_job_id = coalesce(p_saved ->> 'bigquery_job_id', p_saved ->> 'job_id', a.bigquery_job_id), sync_metadata = a.sync_metadata || p_saved
  from pawl.refresh_steps s
  where s.run_id = p_run_id and a.id = s.audit_id;
end
$$;
--> statement-breakpoint
comment on function pawl.remember_refresh(text, bigint, jsonb) is 'Stores what a source wants the next worker of this extraction to know, such as the id of its job, before it acts on it';
--> statement-breakpoint

-- Begins to read the source from its first row: other lanes, another staging table.
create function pawl.restart_refresh(p_run_id text, p_epoch bigint) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  next_extraction integer;
begin
  perform pawl.hold_run(p_run_id, p_epoch);
  delete from pawl.lanes where run_id = p_run_id;
  update pawl.checkpoints set done = 0, total = null where run_id = p_run_id;
  update pawl.refresh_steps set extraction = extraction + 1, loaded = false, saved = '{}' where run_id = p_run_id returning extraction into next_extraction;
  return next_extraction;
end
$$;
--> statement-breakpoint
comment on function pawl.restart_refresh(text, bigint) is 'Gives up what was read so far, where it can''t be gone on with; returns the number of the new extraction';
--> statement-breakpoint

create function pawl.advance_refresh(p_run_id text, p_lane integer, p_epoch bigint, p_cursor jsonb, p_rows bigint, p_finished boolean) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  stop text := pawl.advance(p_run_id, p_lane, p_epoch, p_cursor, p_rows, p_finished);
begin
  -- Last, because every lane of the run locks this row until its commit.
  update sqp.refresh_checkpoints r
  set checkpoint_data = r.checkpoint_data || jsonb_build_object('lane_' || p_lane, p_cursor), last_processed_row = r.last_processed_row + p_rows,
      updated_at = clock_timestamp(), expires_at = clock_timestamp() + interval '1 hour'
  from pawl.refresh_steps s join sqp.refresh_config c on c.id = s.config_id
  where s.run_id = p_run_id and r.function_name = 'refresh.load' and r.table_schema = c.table_schema and r.table_name = c.table_name and r.status = 'active';
  return stop;
end
$$;
--> statement-breakpoint
comment on function pawl.advance_refresh(text, integer, bigint, jsonb, bigint, boolean) is 'pawl.advance, with the document''s checkpoint row beside it';
--> statement-breakpoint

create function pawl.open_refresh_checkpoint(p_run_id text, p_total bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  update pawl.checkpoints set total = p_total where run_id = p_run_id;
  insert into sqp.refresh_checkpoints (function_name, table_schema, table_name, checkpoint_data, last_processed_row, total_rows)
  select 'refresh.load', c.table_schema, c.table_name, jsonb_build_object('run_id', p_run_id, 'extraction', s.extraction), 0, p_total
  from pawl.refresh_steps s join sqp.refresh_config c on c.id = s.config_id
  where s.run_id = p_run_id
  on conflict (function_name, table_schema, table_name) where status = 'active'
  do update set checkpoint_data = excluded.checkpoint_data, last_processed_row = 0, total_rows = excluded.total_rows,
    updated_at = clock_timestamp(), expires_at = clock_timestamp() + interval '1 hour';
end
$$;
--> statement-breakpoint
comment on function pawl.open_refresh_checkpoint(text, bigint) is 'Opens the document''s checkpoint row of an extraction, or begins it again';
--> statement-breakpoint

-- A step of a group has its rows ready. The last one to get there publishes them all; the others lie down until it has.
create function pawl.stage_refresh(p_run_id text, p_epoch bigint) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  me pawl.refresh_steps;
  child record;
  other pawl.refresh_steps;
  root text;
begin
  select * into me from pawl.refresh_steps s where s.run_id = p_run_id;
  -- Two that get ready at the same moment would each wait for the other.
  perform pg_advisory_xact_lock(hashtext('pawl.refresh_group'), hashtext(me.refresh_run || ':' || me.publish_group));
  perform pawl.hold_run(p_run_id, p_epoch);
  -- Those under way can't end, and leave us behind, while we look at them: their last act takes the same lock. Nor can one that has failed be
  -- retried meanwhile: it would bring back what depends on us, and not us, who are about to be skipped because of it.
  perform from pawl.checkpoints c
  join pawl.refresh_steps s using (run_id)
  where s.refresh_run = me.refresh_run and s.publish_group = me.publish_group and s.run_id <> p_run_id
  order by s.place
  for share of c;
  -- What is published together fails together: as a skipped one, so that it follows when the one that failed is retried.
  select pawl.refresh_root(s.run_id) into root from pawl.refresh_steps s
  where s.refresh_run = me.refresh_run and s.publish_group = me.publish_group and s.outcome in ('failed', 'skipped', 'cancelled')
  order by s.cause is not null, s.place
  limit 1;
  if found then
    update pawl.refresh_steps s set cause = root where s.run_id = p_run_id;
    perform pawl.finish(p_run_id, p_epoch, 'cancelled', 'skipped: ' || root);
    return jsonb_build_object('outcome', 'skipped', 'because', root);
  end if;
  update pawl.refresh_steps s set staged_at = clock_timestamp() where s.run_id = p_run_id;
  for child in
    select w.run_id
    from pawl.refresh_waits w join pawl.refresh_steps s using (run_id) join pawl.checkpoints c using (run_id)
    where w.parent_run_id = p_run_id and s.refresh_run = me.refresh_run and s.publish_group = me.publish_group and c.state = 'pending' and s.staged_at is null
    order by s.place
    for update of c
  loop
    update pawl.checkpoints c set waits_for = pawl.refresh_ahead(c.run_id) where c.run_id = child.run_id;
    perform pawl.deliver(c.run_id) from pawl.checkpoints c where c.run_id = child.run_id and c.waits_for is null;
  end loop;
  select * into other from pawl.refresh_steps s
  where s.refresh_run = me.refresh_run and s.publish_group = me.publish_group and s.outcome is null and s.staged_at is null
  order by s.place desc
  limit 1;
  if found then
    perform pawl.park(p_run_id, p_epoch, other.run_id);
    -- It has read its source; the one it lies down for may be waiting for just that place.
    update pawl.refresh_steps s set source_epoch = null where s.run_id = p_run_id;
    perform pawl.release_refresh_source(p_run_id, me.source);
    return jsonb_build_object('outcome', 'waits', 'for', other.run_id);
  end if;
  return jsonb_build_object('outcome', 'publish', 'members', (
    select jsonb_agg(jsonb_build_object(
      'run_id', s.run_id, 'refresh_run', s.refresh_run, 'config_id', s.config_id, 'schema', c.table_schema, 'table', c.table_name,
      'params', c.custom_sync_params, 'extraction', s.extraction, 'audit_id', s.audit_id, 'loaded', s.loaded, 'saved', s.saved) order by s.urgency, s.place)
    from pawl.refresh_steps s join sqp.refresh_config c on c.id = s.config_id
    where s.refresh_run = me.refresh_run and s.publish_group = me.publish_group and s.outcome is null));
end
$$;
--> statement-breakpoint
comment on function pawl.stage_refresh(text, bigint) is 'Marks the rows of a step of a group as ready. waits: parked until the last of the group is; publish: it is the last, with all members, parents first; skipped: another of the group has failed, and so this one is ended';
--> statement-breakpoint

create function pawl.unstage_refresh(p_run_id text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform from pawl.checkpoints c where c.run_id = p_run_id and c.state = 'pending' for update;
  if found then
    delete from pawl.lanes l where l.run_id = p_run_id;
    update pawl.checkpoints c set done = 0, total = null, waits_for = null where c.run_id = p_run_id;
    update pawl.refresh_steps s set staged_at = null, loaded = false, extraction = s.extraction + 1, saved = '{}' where s.run_id = p_run_id;
    perform pawl.deliver(p_run_id);
  end if;
end
$$;
--> statement-breakpoint
comment on function pawl.unstage_refresh(text) is 'Has a member of a group read again whose staged rows were lost (a crash of the server empties unlogged tables)';
--> statement-breakpoint

-- p_counts: inserted, updated, deleted, unchanged, memory_mb, metadata; audit_id: of the attempt that is published. In the transaction that writes the table.
create function pawl.finish_refresh(p_run_id text, p_epoch bigint, p_counts jsonb, p_warnings text[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  step pawl.refresh_steps;
begin
  -- First, as everywhere: who takes the run over at this moment locks it before its step, too.
  perform from pawl.checkpoints c where c.run_id = p_run_id for update;
  update pawl.refresh_steps s
  set rows_inserted = (p_counts ->> 'inserted')::bigint, rows_updated = (p_counts ->> 'updated')::bigint,
      rows_deleted = (p_counts ->> 'deleted')::bigint, rows_unchanged = (p_counts ->> 'unchanged')::bigint,
      warnings = s.warnings || p_warnings
  where s.run_id = p_run_id
  returning * into step;
  if not found then
    perform pawl.finish(p_run_id, p_epoch, 'cancelled', 'cancelled: its configuration was deleted');
    return;
  end if;
  -- Cancelled and retried since its publisher looked, it is to be read again: what was read before is not its rows any more.
  if p_epoch is null and (step.staged_at is null or step.audit_id is distinct from (p_counts ->> 'audit_id')::integer) then
    raise exception 'run % is no longer ready to be published', p_run_id using errcode = 'PW001';
  end if;
  update sqp.refresh_audit_log a
  set status = case when step.warnings = '{}' then 'success' else 'warning' end,
      refresh_completed_at = clock_timestamp(),
      execution_time_ms = least(2147483647, round(extract(epoch from clock_timestamp() - a.refresh_started_at) * 1000)),
      rows_processed = (p_counts ->> 'processed')::bigint, rows_inserted = step.rows_inserted, rows_updated = step.rows_updated, rows_deleted = step.rows_deleted,
      memory_used_mb = (p_counts ->> 'memory_mb')::numeric,
      sync_metadata = a.sync_metadata || coalesce(p_counts -> 'metadata', '{}'),
      bigquery_job_id = coalesce(p_counts -> 'metadata' ->> 'bigquery_job_id', a.bigquery_job_id),
      error_message = nullif(array_to_string(step.warnings, '; '), '')
  where a.id = step.audit_id;
  perform pawl.finish(p_run_id, p_epoch, 'completed');
end
$$;
--> statement-breakpoint
comment on function pawl.finish_refresh(text, bigint, jsonb, text[]) is 'Ends a refresh in the transaction that published it: counts, audit row, next due time, and its dependents go on. Without an epoch: a parked member of the group that the caller publishes';
--> statement-breakpoint

create function pawl.refresh_changed(p_run_id text, p_state text, p_error text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  step pawl.refresh_steps;
  config sqp.refresh_config;
begin
  select * into step from pawl.refresh_steps s where s.run_id = p_run_id;
  if not found then
    -- The step went with its configuration; the audit row stays.
    update sqp.refresh_audit_log a
    set status = 'failed', refresh_completed_at = clock_timestamp(), error_message = coalesce(p_error, 'its configuration was deleted')
    where a.status = 'running' and a.sync_metadata ->> 'run_id' = p_run_id;
    return;
  end if;
  select * into config from sqp.refresh_config c where c.id = step.config_id;
  if p_state in ('failed', 'pending') and p_error is not null and step.audit_id is null then
    -- It failed before its turn began.
    insert into sqp.refresh_audit_log (refresh_config_id, table_schema, table_name, refresh_started_at, refresh_completed_at, status, error_message, error_details, execution_time_ms)
    values (config.id, config.table_schema, config.table_name, clock_timestamp(), clock_timestamp(), 'failed', p_error,
      jsonb_build_object('run_id', p_run_id, 'state', p_state), 0);
  end if;
  if p_state <> 'completed' then
    update sqp.refresh_audit_log a
    set status = 'failed', refresh_completed_at = clock_timestamp(), error_message = p_error,
        execution_time_ms = least(2147483647, round(extract(epoch from clock_timestamp() - a.refresh_started_at) * 1000)),
        error_details = coalesce(a.error_details, '{}') || jsonb_build_object('run_id', p_run_id, 'state', p_state)
    where a.id = step.audit_id and a.status = 'running';
  end if;
  if p_state = 'pending' then
    perform pawl.reopen_refresh(p_run_id, p_error);
    return;
  end if;
  if step.cause is not null then
    insert into sqp.refresh_audit_log (refresh_config_id, table_schema, table_name, refresh_started_at, refresh_completed_at, status, error_message, error_details, execution_time_ms)
    values (config.id, config.table_schema, config.table_name, clock_timestamp(), clock_timestamp(), 'failed', p_error,
      jsonb_build_object('run_id', p_run_id, 'state', 'skipped', 'cause', step.cause), 0);
  else
    -- The next slot after now: a day of downtime is one refresh behind, not twenty-four.
    update sqp.refresh_config c
    set last_refresh_at = case when p_state = 'completed' then clock_timestamp() else c.last_refresh_at end,
        next_refresh_at = case
          when c.next_refresh_at > now() then c.next_refresh_at
          else c.next_refresh_at + make_interval(hours => c.refresh_frequency_hours
            * (1 + floor(extract(epoch from now() - c.next_refresh_at) / 3600 / c.refresh_frequency_hours))::integer)
        end
    where c.id = config.id;
  end if;
  update pawl.refresh_steps s
  set outcome = case
        when p_state = 'completed' then case when s.warnings = '{}' then 'completed' else 'warning' end
        when s.cause is not null then 'skipped'
        else p_state
      end,
      source_epoch = null, waits_for_source = false
  where s.run_id = p_run_id;
  update sqp.refresh_checkpoints r
  set status = case when p_state = 'completed' then 'completed' else 'expired' end, updated_at = clock_timestamp()
  where r.function_name = 'refresh.load' and r.table_schema = config.table_schema and r.table_name = config.table_name and r.status = 'active'
    and step.cause is null;
  perform pawl.release_refresh_children(p_run_id, p_state);
  if step.source_epoch is not null or step.waits_for_source then
    perform pawl.release_refresh_source(p_run_id, step.source);
  end if;
end
$$;
--> statement-breakpoint
comment on function pawl.refresh_changed(text, text, text) is 'Keeps audit row, configuration and dependents of a refresh in step with its run';
--> statement-breakpoint

-- pawl.finish delivers whoever waits for the run that ends; so a dependent that must wait longer is pointed at another parent.
create function pawl.release_refresh_children(p_run_id text, p_state text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  root text := pawl.refresh_root(p_run_id);
  down text[] := array[p_run_id];
  child text;
begin
  -- A skipped one was found here already, with all below it.
  if p_state <> 'completed' and not exists (select from pawl.refresh_steps s where s.run_id = p_run_id and s.cause is not null) then
    -- All that hard dependencies lead to, at once: recursion through pawl.finish would end at the stack's depth.
    down := array(
      with recursive down (run_id) as (
        select p_run_id
        union
        select n.run_id
        from down d
        join pawl.refresh_steps m on m.run_id = d.run_id
        cross join lateral (
          select w.run_id from pawl.refresh_waits w where w.parent_run_id = m.run_id and w.hard
          union all
          -- What is published together fails together.
          select s.run_id from pawl.refresh_steps s where s.refresh_run = m.refresh_run and s.publish_group = m.publish_group
        ) n
      )
      select s.run_id from down join pawl.refresh_steps s using (run_id) order by s.place
    );
  end if;
  -- All locks before the first change. A cursor that locks as it goes passes over rows that were changed on the way.
  perform from pawl.checkpoints c join pawl.refresh_steps s using (run_id)
  where c.state = 'pending' and (s.run_id = any (down) or exists (select from pawl.refresh_waits w where w.run_id = s.run_id and w.parent_run_id = any (down)))
  order by s.place
  for update of c;
  down := array(select s.run_id from pawl.refresh_steps s join pawl.checkpoints c using (run_id) where s.run_id = any (down) and c.state = 'pending' order by s.place);
  update pawl.refresh_steps s set cause = root where s.run_id = any (down);
  -- They wait for each other too, and the end of one must not bring the next to a worker.
  update pawl.checkpoints c set waits_for = null where c.run_id = any (down);
  foreach child in array down loop
    perform pawl.finish(child, null, 'cancelled', 'skipped: ' || root);
  end loop;
  -- Those that go on: of a parent that failed, the ones that depend on it softly.
  update pawl.checkpoints c
  set waits_for = coalesce(pawl.refresh_ahead(c.run_id), p_run_id), updated_at = clock_timestamp()
  from pawl.refresh_waits w join pawl.refresh_steps s using (run_id)
  where w.parent_run_id = p_run_id and w.run_id = c.run_id and c.state = 'pending' and s.cause is null;
end
$$;
--> statement-breakpoint
comment on function pawl.release_refresh_children(text, text) is 'When a step has ended: skips what depended on it and can''t go on, and points the rest at what they still wait for';
--> statement-breakpoint

-- Without a run: the limit was changed.
create function pawl.release_refresh_source(p_run_id text, p_source text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  room bigint;
  holder text;
  first text;
  next_run text;
begin
  -- Whoever is just finding the source full must be seen waiting, or see that it is not full any more.
  perform pg_advisory_xact_lock(hashtext('pawl.refresh_source'), hashtext(p_source));
  select count(*), min(s.run_id) into room, holder
  from pawl.refresh_steps s join pawl.checkpoints c using (run_id)
  where s.source = p_source and s.outcome is null and c.state = 'running' and s.source_epoch = c.epoch and s.run_id is distinct from p_run_id;
  room := (select greatest(0, l.concurrency - room) from pawl.refresh_limits l where l.source = p_source);
  for next_run in
    select s.run_id
    from pawl.refresh_steps s join pawl.checkpoints c using (run_id)
    where s.source = p_source and s.waits_for_source and s.outcome is null and c.state = 'pending'
    order by s.urgency, s.place
    limit room
    -- One that is locked is just being opened, and asks for the source itself, or ends, and then comes through here.
    for update of c skip locked
  loop
    first := coalesce(first, next_run);
    update pawl.checkpoints c set waits_for = null, updated_at = clock_timestamp() where c.run_id = next_run;
    perform pawl.deliver(next_run);
  end loop;
  -- The others go on waiting for one that has its place, so that they are not all woken to lie down again.
  update pawl.checkpoints c
  set waits_for = coalesce(first, holder)
  from pawl.refresh_steps s
  where s.run_id = c.run_id and s.source = p_source and s.waits_for_source and s.outcome is null and c.state = 'pending' and c.waits_for = p_run_id;
end
$$;
--> statement-breakpoint
comment on function pawl.release_refresh_source(text, text) is 'Lets the most urgent of those that wait for a source go on, as many as it has room for';
--> statement-breakpoint

create function pawl.refresh_limit_changed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform pawl.release_refresh_source(null, old.source);
  return null;
end
$$;
--> statement-breakpoint
comment on function pawl.refresh_limit_changed() is 'Has a higher limit, or none, take effect at once';
--> statement-breakpoint
create trigger refresh_limit_changed after update or delete on pawl.refresh_limits
for each row execute function pawl.refresh_limit_changed();
--> statement-breakpoint

-- With an error: it waits for its next attempt. Without: an operator wants it again, and what was skipped because of it too.
create function pawl.reopen_refresh(p_run_id text, p_error text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  step pawl.refresh_steps;
  other text;
  revived text[];
  run_again text;
begin
  select * into step from pawl.refresh_steps s where s.run_id = p_run_id;
  if p_error is not null then
    update pawl.refresh_steps s set audit_id = null, source_epoch = null where s.run_id = p_run_id;
    perform pawl.release_refresh_source(p_run_id, step.source);
    return;
  end if;
  if step.cause is not null then
    raise exception '% was skipped because %', p_run_id, step.cause
      using errcode = '22023', hint = format('retry that one: select pawl.retry(%L); this one follows it', pawl.refresh_culprit(step.cause));
  end if;
  if step.outcome is not null then
    -- A planner must not plan the same table at the same moment.
    perform pg_advisory_xact_lock(hashtext('pawl.refresh_plan'));
  end if;
  select pawl.refresh_root(latest.run_id) into other
  from pawl.refresh_waits w
  join pawl.refresh_steps p on p.run_id = w.parent_run_id
  cross join lateral (
    select l.run_id, l.outcome from pawl.refresh_steps l
    where l.config_id between p.config_id and p.config_id order by l.config_id, l.place desc limit 1
  ) latest
  where w.run_id = p_run_id and w.hard and latest.outcome in ('failed', 'skipped', 'cancelled')
    -- Parents of its own group were skipped because of this one: they follow it.
    and pawl.refresh_culprit(pawl.refresh_root(latest.run_id)) is distinct from p_run_id
  order by p.place
  limit 1;
  if found then
    raise exception '% depends on what has not been refreshed: %', step.table_name, other
      using errcode = '22023', hint = format('retry that one first: select pawl.retry(%L)', pawl.refresh_culprit(other));
  end if;
  select s.run_id into other from pawl.refresh_steps s where s.config_id = step.config_id and s.outcome is null and s.run_id <> p_run_id;
  if found then
    raise exception '% has been planned again as %', step.table_name, other
      using errcode = '22023', hint = format('select pawl.why(%L)', other);
  end if;
  -- A reading that was complete is not gone on with: what was wrong with it may have been mended at its source.
  if step.loaded then
    delete from pawl.lanes l where l.run_id = p_run_id;
    update pawl.checkpoints c set done = 0, total = null where c.run_id = p_run_id;
  end if;
  update pawl.refresh_steps s
  set outcome = null, audit_id = null, staged_at = null, warnings = '{}',
      extraction = s.extraction + case when s.loaded then 1 else 0 end, saved = case when s.loaded then '{}' else s.saved end, loaded = false
  where s.run_id = p_run_id;
  -- The latest step of each table, where it was skipped because of this one.
  with again as (
    update pawl.refresh_steps s
    set outcome = null, cause = null, audit_id = null, staged_at = null, warnings = '{}',
        extraction = s.extraction + case when s.loaded then 1 else 0 end, saved = case when s.loaded then '{}' else s.saved end, loaded = false
    where s.outcome = 'skipped' and pawl.refresh_culprit(s.cause) = p_run_id
      and not exists (select from pawl.refresh_steps o where o.config_id = s.config_id and o.place > s.place)
    returning s.run_id, s.place
  )
  select coalesce(array_agg(a.run_id order by a.place), '{}') into revived from again a;
  -- Something else may have failed above it since; then it is that for which it stays skipped.
  loop
    update pawl.refresh_steps s
    set outcome = 'skipped', cause = above.root
    from (
      select w.run_id, min(pawl.refresh_root(latest.run_id)) as root
      from pawl.refresh_waits w
      join pawl.refresh_steps p on p.run_id = w.parent_run_id
      cross join lateral (
        select l.run_id, l.outcome from pawl.refresh_steps l
        where l.config_id between p.config_id and p.config_id order by l.config_id, l.place desc limit 1
      ) latest
      where w.run_id = any (revived) and w.hard and latest.outcome in ('failed', 'skipped', 'cancelled')
      group by w.run_id
    ) above
    where s.run_id = above.run_id and s.outcome is null;
    exit when not found;
  end loop;
  foreach run_again in array revived loop
    select s.cause into other from pawl.refresh_steps s where s.run_id = run_again;
    -- One of a group that had its rows ready: they are read anew, as those of the one that failed are.
    delete from pawl.lanes l where l.run_id = run_again and not exists (select from pawl.lanes o where o.run_id = run_again and not o.finished);
    if other is not null then
      update pawl.checkpoints c set error = 'skipped: ' || other, updated_at = clock_timestamp() where c.run_id = run_again;
      continue;
    end if;
    update pawl.checkpoints c
    set state = 'pending', finished_at = null, error = null, failures = 0, waits_for = pawl.refresh_ahead(c.run_id), updated_at = clock_timestamp()
    where c.run_id = run_again;
    perform pawl.deliver(c.run_id) from pawl.checkpoints c where c.run_id = run_again and c.waits_for is null;
  end loop;
end
$$;
--> statement-breakpoint
comment on function pawl.reopen_refresh(text, text) is 'Makes a step ready for another attempt; on an operator''s retry, those skipped because of it follow';
--> statement-breakpoint

-- The worker writes rows, it does not own the tables: their columns change only here, and only to what a source can deliver.
create function pawl.widen_refreshed_table(p_schema text, p_table text, p_column text, p_type text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '100ms'
as $$
declare
  relation regclass := to_regclass(format('%I.%I', p_schema, p_table));
  standing text;
  seen_by text;
begin
  if relation is null or not exists (select from sqp.refresh_config c where c.table_schema = p_schema and c.table_name = p_table and c.is_enabled) then
    raise exception '%.% is not refreshed', p_schema, p_table using errcode = '22023', hint = 'register it in sqp.refresh_config';
  end if;
  -- A worker may register any table, but those that say what it may do are not for it to change.
  if p_schema in ('pawl', 'pgboss') then
    raise exception '%.% belongs to Pawl itself', p_schema, p_table using errcode = '42501', hint = 'its migrations change it, and nothing else';
  end if;
  -- A table that is rewritten runs the functions in its checks and indexes: not those of a worker, who may register any table, with our rights.
  if exists (
    select from pg_class c join pg_roles o on o.oid = c.relowner
    where c.oid = relation and o.rolname <> current_user and not o.rolsuper and pg_has_role(o.oid, 'pawl_worker', 'member')
  ) then
    raise exception '%.% belongs to a worker', p_schema, p_table
      using errcode = '42501', hint = 'change its columns by hand, or register another';
  end if;
  if p_type !~ '^(boolean|smallint|integer|bigint|real|double precision|numeric|numeric\(\d+,\d+\)|text|character varying(\(\d+\))?|bytea|uuid|date|time without time zone|timestamp(\(\d\))? with(out)? time zone|interval|jsonb|json|character\(\d+\)|inet|cidr|daterange|tsrange|tstzrange|int4range|int8range|numrange)(\[\])?$' then
    raise exception 'type % is none that a source delivers', p_type using errcode = '22023', hint = 'add the column by hand';
  end if;
  select format_type(a.atttypid, a.atttypmod) into standing from pg_attribute a where a.attrelid = relation and a.attname = p_column and not a.attisdropped;
  if not found then
    execute format('alter table %s add column %I %s', relation, p_column, p_type);
    return;
  end if;
  select string_agg(distinct v.oid::regclass::text, ', ') into seen_by
  from pg_depend d
  join pg_rewrite r on r.oid = d.objid and d.classid = 'pg_rewrite'::regclass
  join pg_class v on v.oid = r.ev_class
  join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
  where d.refclassid = 'pg_class'::regclass and d.refobjid = relation and a.attname = p_column;
  if seen_by is not null then
    raise exception 'column % of %.% is used by %', p_column, p_schema, p_table, seen_by
      using errcode = '0A000', hint = format('it is %s and the source delivers %s: change it together with those views, which Pawl never drops', standing, p_type);
  end if;
  execute format('alter table %s alter column %I type %s', relation, p_column, p_type);
end
$$;
--> statement-breakpoint
comment on function pawl.widen_refreshed_table(text, text, text, text) is 'Adds a column to a refreshed table, or widens one; waits 100 ms for its lock at most (55P03). Drops nothing: views in the way are named';
--> statement-breakpoint

create function pawl.drop_refresh_staging() returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  staged record;
  dropped integer := 0;
begin
  for staged in
    select c.oid::regclass as relation
    from pg_class c
    where c.relnamespace = 'pawl_stage'::regnamespace and c.relkind = 'r'
      and not exists (
        select from pawl.refresh_steps s
        where s.outcome is null and c.relname ~ format('^refresh_%s_%s_%s(_|$)', s.refresh_run, s.config_id, s.extraction)
      )
  loop
    begin
      execute format('drop table %s', staged.relation);
      dropped := dropped + 1;
    exception when insufficient_privilege then
      raise warning 'staging table % belongs to another login and stays', staged.relation;
    end;
  end loop;
  return dropped;
end
$$;
--> statement-breakpoint
comment on function pawl.drop_refresh_staging() is 'Drops staging tables whose run has ended; a run drops its own, this is for those that died first';
--> statement-breakpoint

-- Two halves that are each in order by an index, so that the first rows of a long history are found without the rest of it.
create view pawl.refresh_plan as
select
  u.run, u."table", u.state, u.urgency, u.waiting_for, u.source, u.urgent_at, u.estimate_ms, u.inserted, u.updated, u.deleted, u.unchanged,
  u.started_at, u.finished_at, u.error, u.warnings, u.publish_group, u.run_id
from (
  (
    select
      s.refresh_run as run,
      s.table_name as "table",
      case when c.state = 'running' then 'running' when w.waiting_for is null and ahead.run_id is null then 'ready' else 'waiting' end as state,
      s.urgency,
      coalesce(w.waiting_for, case when ahead.run_id is null then null when s.waits_for_source then array['source ' || s.source] else array[ahead.subject] end) as waiting_for,
      s.source,
      to_timestamp(s.urgency) as urgent_at,
      s.estimate_ms,
      s.rows_inserted as inserted,
      s.rows_updated as updated,
      s.rows_deleted as deleted,
      s.rows_unchanged as unchanged,
      c.started_at,
      c.finished_at,
      coalesce(s.cause, c.error) as error,
      s.warnings,
      s.publish_group,
      s.run_id,
      s.place
    from pawl.refresh_steps s
    join pawl.checkpoints c using (run_id)
    -- What it waited for may have ended: then it is only to be opened.
    left join pawl.checkpoints ahead on ahead.run_id = c.waits_for and ahead.state in ('pending', 'running') and c.state = 'pending'
    left join lateral (
      select array_agg(p.table_name order by p.place) as waiting_for
      from pawl.refresh_waits rw join pawl.refresh_steps p on p.run_id = rw.parent_run_id
      where rw.run_id = s.run_id and p.outcome is null and c.state = 'pending'
    ) w on true
    where s.outcome is null
    order by s.refresh_run desc, s.urgency, s.place
  )
  union all
  (
    select s.refresh_run, s.table_name, s.outcome, s.urgency, null, s.source, to_timestamp(s.urgency), s.estimate_ms,
      s.rows_inserted, s.rows_updated, s.rows_deleted, s.rows_unchanged,
      (select c.started_at from pawl.checkpoints c where c.run_id = s.run_id),
      (select c.finished_at from pawl.checkpoints c where c.run_id = s.run_id),
      coalesce(s.cause, (select c.error from pawl.checkpoints c where c.run_id = s.run_id)),
      s.warnings, s.publish_group, s.run_id, s.place
    from pawl.refresh_steps s
    where s.outcome is not null
    order by s.refresh_run desc, s.urgency, s.place
  )
) u
order by u.run desc, u.urgency, u.place;
--> statement-breakpoint
comment on view pawl.refresh_plan is 'Every step of every refresh run, newest run first, the most urgent first: its state (waiting, ready, running, completed, warning, failed, skipped, cancelled), what it waits for, what it changed';
--> statement-breakpoint
comment on column pawl.refresh_plan.run is 'The plan it belongs to, as pawl.refresh_table returns it';
--> statement-breakpoint
comment on column pawl.refresh_plan."table" is 'Schema and name';
--> statement-breakpoint
comment on column pawl.refresh_plan.state is 'waiting, ready, running, completed, warning (completed, with warnings), failed, skipped (for another''s failure), cancelled';
--> statement-breakpoint
comment on column pawl.refresh_plan.urgency is 'Smaller is sooner; seconds since 1970, moved by priority and by what waits behind it';
--> statement-breakpoint
comment on column pawl.refresh_plan.waiting_for is 'Tables it waits for, or the source whose limit is reached';
--> statement-breakpoint
comment on column pawl.refresh_plan.source is 'Where it reads from, as pawl.refresh_limits names it';
--> statement-breakpoint
comment on column pawl.refresh_plan.urgent_at is 'urgency as a time';
--> statement-breakpoint
comment on column pawl.refresh_plan.estimate_ms is 'How long it will take, by its last ten successes';
--> statement-breakpoint
comment on column pawl.refresh_plan.inserted is 'Rows that were new';
--> statement-breakpoint
comment on column pawl.refresh_plan.updated is 'Rows that were changed';
--> statement-breakpoint
comment on column pawl.refresh_plan.deleted is 'Rows that were gone from the source';
--> statement-breakpoint
comment on column pawl.refresh_plan.unchanged is 'Rows that were equal';
--> statement-breakpoint
comment on column pawl.refresh_plan.started_at is 'When a worker first opened it';
--> statement-breakpoint
comment on column pawl.refresh_plan.finished_at is 'When it ended';
--> statement-breakpoint
comment on column pawl.refresh_plan.error is 'Why it failed, or for whose failure it was skipped';
--> statement-breakpoint
comment on column pawl.refresh_plan.warnings is 'What was not as it should be, though it succeeded';
--> statement-breakpoint
comment on column pawl.refresh_plan.publish_group is 'Tables with the same group are published together';
--> statement-breakpoint
comment on column pawl.refresh_plan.run_id is 'Its id in pawl.runs';
--> statement-breakpoint
revoke execute on all routines in schema pawl from public;
