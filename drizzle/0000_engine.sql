-- The engine: who works, what runs, how far it is. No table of a domain stands here.
-- Locks: new objects only.

-- Roles belong to the whole cluster, so a second database of it finds them already there, and two migrations of two
-- databases may race to create one: both ways of losing that race are fine.
do $$
declare
  wanted text;
begin
  foreach wanted in array array['pawl_worker', 'pawl_producer', 'pawl_operator', 'pawl_observer'] loop
    if not exists (select from pg_roles where rolname = wanted) then
      begin
        execute format('create role %I nologin', wanted);
      exception
        when duplicate_object or unique_violation then null;
        when insufficient_privilege then
          raise exception 'role % is missing and % may not create it', wanted, current_user
            using errcode = '42501', hint = format('let an administrator run: create role %s nologin', wanted);
      end;
    end if;
  end loop;
end
$$;
--> statement-breakpoint
create schema if not exists pawl;
--> statement-breakpoint
revoke all on schema pawl from public;
--> statement-breakpoint
grant usage on schema pawl to pawl_worker, pawl_producer, pawl_operator, pawl_observer;
--> statement-breakpoint
comment on schema pawl is 'Pawl: the engine''s tables, the operators'' views, the functions other services call';
--> statement-breakpoint

create table pawl.kinds (
  kind text primary key,
  queue text not null,
  changed_function text not null,
  quiet_time interval not null default '1 minute'
);
--> statement-breakpoint
comment on table pawl.kinds is 'One row per kind of run: the queue that delivers it, the function (run_id, state, error) that keeps the domain''s own tables in step with the run''s state, and how long a run may go without a batch before it counts as stuck';
--> statement-breakpoint

create table pawl.leases (
  id integer generated always as identity primary key,
  state text not null default 'running',
  name text not null,
  host text not null,
  pid integer not null,
  version text not null,
  queues text[] not null,
  started_at timestamptz not null default now(),
  seen_at timestamptz not null default now(),
  stopped_at timestamptz,
  constraint leases_state_known check (state in ('running', 'draining', 'stopped', 'lost'))
) with (fillfactor = 50);
--> statement-breakpoint
comment on table pawl.leases is 'One row per worker process. While it lives it also holds the session advisory lock (1885435756, id), which the server frees the moment its connection dies';
--> statement-breakpoint

-- Without SET, so that it is inlined. What is no traceparent is nothing: a producer's tracing must not break its transaction.
create function pawl.traceparent() returns text
language sql stable
as $$ select substring(pg_catalog.current_setting('pawl.traceparent', true) from '^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$') $$;
--> statement-breakpoint
comment on function pawl.traceparent() is 'The W3C trace context that the transaction named with set local pawl.traceparent, or null';
--> statement-breakpoint

create table pawl.checkpoints (
  run_id text primary key,
  state text not null default 'pending',
  kind text not null references pawl.kinds (kind),
  subject text not null,
  total bigint,
  done bigint not null default 0,
  batch bigint not null default 0,
  epoch bigint not null default 0,
  owner integer,
  failures integer not null default 0,
  failures_max integer not null default 3,
  crashes integer not null default 0,
  crashed_at_batch bigint,
  waits_for text,
  priority integer not null default 0,
  job_id uuid,
  job_attempt integer,
  requested_by text not null default session_user,
  requested_at timestamptz not null default now(),
  started_at timestamptz,
  opened_at timestamptz,
  opened_done bigint,
  updated_at timestamptz not null default now(),
  finished_at timestamptz,
  cancel_requested_at timestamptz,
  cancel_requested_by text,
  cancel_reason text,
  error text,
  traceparent text default pawl.traceparent(),
  last_owner integer,
  constraint checkpoints_state_known check (state in ('pending', 'running', 'completed', 'failed', 'cancelled')),
  -- Timers are rows of their own, and pawl.runs, which has both, need not look here for them.
  constraint checkpoints_no_timers check (kind <> 'timer'),
  constraint checkpoints_final_has_time check ((state in ('completed', 'failed', 'cancelled')) = (finished_at is not null)),
  constraint checkpoints_running_has_owner check ((state = 'running') = (owner is not null))
) with (fillfactor = 70);
--> statement-breakpoint
create index checkpoints_unfinished on pawl.checkpoints (state, requested_at) where state in ('pending', 'running');
--> statement-breakpoint
create index checkpoints_recent on pawl.checkpoints (requested_at desc);
--> statement-breakpoint
create index checkpoints_waiting on pawl.checkpoints (waits_for) where waits_for is not null;
--> statement-breakpoint
create index checkpoints_ended on pawl.checkpoints (state, finished_at desc) where state in ('completed', 'failed', 'cancelled');
--> statement-breakpoint
comment on table pawl.checkpoints is 'One row per run: its state, its epoch (the fence, raised each time a worker opens it), who holds it, what went wrong. done and batch are folded in from pawl.lanes when the run is handed back or ends. traceparent: the span of whoever asked for it, the parent of the spans of its attempts';
--> statement-breakpoint

create table pawl.lanes (
  run_id text not null references pawl.checkpoints (run_id) on delete cascade,
  lane integer not null,
  finished boolean not null default false,
  epoch bigint not null,
  cursor jsonb not null default '{}',
  done bigint not null default 0,
  batch bigint not null default 0,
  updated_at timestamptz not null default now(),
  primary key (run_id, lane)
) with (fillfactor = 50);
--> statement-breakpoint
comment on table pawl.lanes is 'The cursors of a run, one per key range. Each batch locks its lane''s row, writes the business rows and moves the cursor, all in one transaction, and only where the epoch is still its own';
--> statement-breakpoint

create table pawl.paused_queues (
  queue text primary key,
  reason text,
  paused_by text not null default session_user,
  paused_at timestamptz not null default now()
);
--> statement-breakpoint
comment on table pawl.paused_queues is 'Queues that no worker claims from until pawl.resume(queue)';
--> statement-breakpoint

-- Inserts a job as pg-boss's own send() would: a bare insert into pgboss.job inherits nothing of its queue and wakes nobody.
create function pawl.enqueue(
  queue text,
  data jsonb,
  priority integer default 0,
  start_after timestamptz default null,
  singleton_key text default null
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  settings record;
  -- Past is now: how long a job has lain ready is counted from here.
  due timestamptz := greatest(enqueue.start_after, now());
  job uuid;
begin
  if enqueue.queue is null or enqueue.queue = '' then
    raise exception 'the queue has no name' using errcode = '22023', hint = 'name one of: select queue from pawl.queues';
  end if;
  if enqueue.data is null or jsonb_typeof(enqueue.data) <> 'object' then
    raise exception 'the data of a job must be a JSON object, not %', coalesce(jsonb_typeof(enqueue.data), 'null')
      using errcode = '22023', hint = 'wrap the value: {"value": …}';
  end if;
  if enqueue.priority is null then
    raise exception 'the priority is null' using errcode = '22023', hint = 'leave it out for 0; higher runs first';
  end if;
  if not isfinite(enqueue.start_after) or enqueue.start_after >= timestamptz '10000-01-01 00:00:00+00' then
    raise exception 'start_after is %', enqueue.start_after
      using errcode = '22023', hint = 'pass a time before the year 10000, or leave it out for now()';
  end if;
  -- In bytes, as pg-boss keeps it in an index, which takes 2704.
  if octet_length(enqueue.singleton_key) > 1000 then
    raise exception 'the singleton key has % bytes, 1000 at most', octet_length(enqueue.singleton_key)
      using errcode = '22023', hint = 'use a hash of it';
  end if;
  -- pg-boss's own queues are for itself: what lies there makes it send jobs with any settings.
  select q.* into settings from pgboss.queue q where q.name = enqueue.queue and q.name not like '\_\_pgboss%';
  if not found then
    raise exception 'queue "%" does not exist', left(enqueue.queue, 100)
      using errcode = '22023', hint = 'select queue from pawl.queues lists them; new ones appear when "pawl migrate up" runs';
  end if;
  insert into pgboss.job (
    name, data, priority, start_after, created_on, singleton_key, policy,
    retry_limit, retry_delay, retry_backoff, retry_delay_max,
    expire_seconds, deletion_seconds, heartbeat_seconds, dead_letter, keep_until, trace_context
  )
  values (
    -- Not now(): jobs of one transaction and one priority are taken in the order in which they were enqueued.
    enqueue.queue, enqueue.data, enqueue.priority, due, clock_timestamp(), enqueue.singleton_key, settings.policy,
    settings.retry_limit, settings.retry_delay, settings.retry_backoff, settings.retry_delay_max,
    settings.expire_seconds, settings.deletion_seconds, settings.heartbeat_seconds, settings.dead_letter,
    due + settings.retention_seconds * interval '1 second',
    -- As pg-boss's own send() stores it: the spans of whoever takes the job are its children.
    case when pawl.traceparent() is not null then jsonb_build_object('traceparent', pawl.traceparent()) end
  )
  on conflict do nothing
  returning id into job;
  if job is not null and due <= now() then
    -- The channel pg-boss listens on for the schema "pgboss".
    perform pg_notify('pgboss_' || left(encode(sha224('pgboss'::bytea), 'hex'), 24), enqueue.queue);
  end if;
  return job;
end
$$;
--> statement-breakpoint
comment on function pawl.enqueue(text, jsonb, integer, timestamptz, text) is
  'Enqueues a job in the caller''s transaction with the settings of its queue, and wakes a worker at commit. Returns the job id; null when a job with the same singleton key stands in the way';
--> statement-breakpoint

-- A job is only a delivery of a run; the run is the truth. A run whose job still waits needs no second one.
create function pawl.deliver(p_run_id text, p_start_after timestamptz default null) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  run record;
begin
  select c.job_id, c.priority, k.queue into strict run
  from pawl.checkpoints c join pawl.kinds k using (kind)
  where c.run_id = p_run_id;
  if p_start_after is null and exists (
    select from pgboss.job j
    where j.name = run.queue and j.id = run.job_id and j.state in ('created', 'retry') and j.start_after <= now()
  ) then
    perform pg_notify('pgboss_' || left(encode(sha224('pgboss'::bytea), 'hex'), 24), run.queue);
    return;
  end if;
  update pawl.checkpoints
  set job_id = pawl.enqueue(run.queue, jsonb_build_object('run_id', p_run_id), run.priority, p_start_after), job_attempt = null, updated_at = now()
  where run_id = p_run_id;
end
$$;
--> statement-breakpoint
comment on function pawl.deliver(text, timestamptz) is 'Enqueues a job that brings the run to a worker; the run continues at its cursors';
--> statement-breakpoint

create function pawl.changed(p_run_id text, p_state text, p_error text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  callee text;
begin
  select k.changed_function into strict callee
  from pawl.checkpoints c join pawl.kinds k using (kind)
  where c.run_id = p_run_id;
  execute format('select %s($1, $2, $3)', callee::regproc) using p_run_id, p_state, p_error;
end
$$;
--> statement-breakpoint
comment on function pawl.changed(text, text, text) is 'Tells the domain of a run that the run''s state changed, in the same transaction';
--> statement-breakpoint

create function pawl.lease_alive(p_lease integer, p_lease_time interval) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from pawl.leases l
    where l.id = p_lease and l.state in ('running', 'draining') and l.seen_at > clock_timestamp() - p_lease_time
  )
  -- Locks are not replicated: pawl.health on a standby has only the rows to go by.
  and (pg_is_in_recovery() or exists (
    select from pg_locks k
    where k.locktype = 'advisory' and k.granted and k.classid = 1885435756 and k.objid = p_lease::oid and k.objsubid = 2
      and k.database = (select d.oid from pg_database d where d.datname = current_database())
  ))
$$;
--> statement-breakpoint
comment on function pawl.lease_alive(integer, interval) is 'Whether the worker of this lease both holds its session lock and was seen within the lease time';
--> statement-breakpoint

-- Ends a run for good. The epoch, when given, is the fence; without it an operator or the rescue speaks.
create function pawl.finish(p_run_id text, p_epoch bigint, p_state text, p_error text default null) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update pawl.checkpoints c
  set state = p_state, error = p_error, owner = null, finished_at = clock_timestamp(), updated_at = clock_timestamp(),
      done = coalesce(l.done, c.done), batch = coalesce(l.batch, c.batch), total = case when p_state = 'completed' then coalesce(l.done, c.done) else c.total end
  from (select sum(lane.done) as done, sum(lane.batch) as batch from pawl.lanes lane where lane.run_id = p_run_id) l
  where c.run_id = p_run_id and c.state in ('pending', 'running') and (p_epoch is null or c.epoch = p_epoch);
  if not found then
    raise exception 'run % was taken over or has ended', p_run_id using errcode = 'PW001';
  end if;
  -- Raising the lanes' epoch shuts the door on a batch that is still on its way.
  update pawl.lanes set epoch = epoch + 1 where run_id = p_run_id;
  update pawl.checkpoints set epoch = epoch + 1 where run_id = p_run_id;
  perform pawl.changed(p_run_id, p_state, p_error);
  perform pawl.deliver(c.run_id) from pawl.checkpoints c where c.waits_for = p_run_id and c.state = 'pending';
end
$$;
--> statement-breakpoint
comment on function pawl.finish(text, bigint, text, text) is 'Ends a run as completed, failed or cancelled, tells its domain, and lets no later batch of it through';
--> statement-breakpoint

-- The worker that held the run is gone. Not a failure of the work, unless it dies three times at the same place.
create function pawl.note_crash(p_run_id text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  at_batch bigint;
  streak integer;
begin
  select coalesce(sum(batch), 0) into at_batch from pawl.lanes where run_id = p_run_id;
  update pawl.checkpoints
  set crashes = case when crashed_at_batch = at_batch then crashes + 1 else 1 end,
      crashed_at_batch = at_batch, state = 'pending', owner = null, epoch = epoch + 1, updated_at = clock_timestamp()
  where run_id = p_run_id
  returning crashes into streak;
  update pawl.lanes set epoch = epoch + 1 where run_id = p_run_id;
  if streak >= 3 then
    perform pawl.finish(p_run_id, null, 'failed',
      format('poison: the worker died %s times in a row at batch %s; look at its last log lines, then select pawl.retry(%L)', streak, at_batch, p_run_id));
    return false;
  end if;
  return true;
end
$$;
--> statement-breakpoint
comment on function pawl.note_crash(text) is 'Counts a crash at the run''s present place and takes the run from its dead worker; false when that made it poison and failed it';
--> statement-breakpoint

-- Outcomes: opened, gone (no such run), finished, paused, held (another worker is alive on it), cancelled, poisoned.
create function pawl.open_run(p_run_id text, p_owner integer, p_job_id uuid, p_job_attempt integer, p_lease_time interval)
returns table (outcome text, epoch bigint, kind text, subject text, official boolean, traceparent text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  run pawl.checkpoints;
begin
  select * into run from pawl.checkpoints c where c.run_id = p_run_id for update;
  if not found then
    return query select 'gone', null::bigint, null, null, false, null;
    return;
  end if;
  kind := run.kind;
  subject := run.subject;
  traceparent := run.traceparent;
  official := run.job_id is not distinct from p_job_id;
  if run.state in ('completed', 'failed', 'cancelled') then
    outcome := 'finished';
    return next;
    return;
  end if;
  if run.state = 'running' and run.owner <> p_owner and pawl.lease_alive(run.owner, p_lease_time) then
    outcome := 'held';
    return next;
    return;
  end if;
  if run.state = 'running' and run.owner <> p_owner then
    if not pawl.note_crash(p_run_id) then
      outcome := 'poisoned';
      return next;
      return;
    end if;
    -- The job that brought it to that worker brings it nowhere any more: this one is its delivery, also where the run is not opened now.
    update pawl.checkpoints c set job_id = p_job_id, job_attempt = p_job_attempt where c.run_id = p_run_id;
    official := true;
  end if;
  if run.cancel_requested_at is not null then
    perform pawl.finish(p_run_id, null, 'cancelled', pawl.cancel_text(run.cancel_requested_by, run.cancel_reason));
    outcome := 'cancelled';
    return next;
    return;
  end if;
  if exists (select from pawl.paused_queues p join pawl.kinds k on k.queue = p.queue where k.kind = run.kind) then
    outcome := 'paused';
    return next;
    return;
  end if;
  update pawl.checkpoints c
  set state = 'running', owner = p_owner, last_owner = p_owner, waits_for = null, epoch = c.epoch + 1, job_id = p_job_id, job_attempt = p_job_attempt,
      started_at = coalesce(c.started_at, clock_timestamp()), opened_at = clock_timestamp(), updated_at = clock_timestamp(),
      opened_done = (select coalesce(sum(l.done), 0) from pawl.lanes l where l.run_id = p_run_id)
  where c.run_id = p_run_id
  returning c.epoch into epoch;
  update pawl.lanes l set epoch = open_run.epoch where l.run_id = p_run_id;
  outcome := 'opened';
  return next;
end
$$;
--> statement-breakpoint
comment on function pawl.open_run(text, integer, uuid, integer, interval) is 'Opens a run for a worker: raises the epoch, so that whoever held it before can change nothing any more';
--> statement-breakpoint

create function pawl.cancel_text(p_by text, p_reason text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select 'cancelled by ' || coalesce(p_by, 'nobody') || coalesce(': ' || p_reason, '') $$;
--> statement-breakpoint
comment on function pawl.cancel_text(text, text) is 'The sentence that stands as the error of a cancelled run';
--> statement-breakpoint

create function pawl.hold_run(p_run_id text, p_epoch bigint) returns pawl.checkpoints
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  run pawl.checkpoints;
begin
  select * into run from pawl.checkpoints where run_id = p_run_id and epoch = p_epoch and state = 'running' for update;
  if not found then
    raise exception 'run % was taken over by another worker', p_run_id using errcode = 'PW001';
  end if;
  return run;
end
$$;
--> statement-breakpoint
comment on function pawl.hold_run(text, bigint) is 'Locks the run''s row where the epoch is still ours; raises PW001 otherwise';
--> statement-breakpoint

-- The fence of every batch. A worker that was presumed dead and wakes up finds no row here, and its transaction rolls back.
create function pawl.hold(p_run_id text, p_lane integer, p_epoch bigint) returns pawl.lanes
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  held pawl.lanes;
begin
  select * into held from pawl.lanes where run_id = p_run_id and lane = p_lane and epoch = p_epoch for update;
  if not found then
    raise exception 'run % was taken over by another worker', p_run_id using errcode = 'PW001';
  end if;
  return held;
end
$$;
--> statement-breakpoint
comment on function pawl.hold(text, integer, bigint) is 'First statement of a batch: locks the lane''s row where the epoch is still ours and returns it with its cursor; raises PW001 otherwise';
--> statement-breakpoint

-- plpgsql, though one statement would do: a function in SQL is planned anew at every call (0.18 ms of each batch), this one once a session.
create function pawl.stop_reason(p_run_id text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select case
      when c.cancel_requested_at is not null then 'cancel'
      when exists (select from pawl.paused_queues p where p.queue = k.queue) then 'pause'
    end
    from pawl.checkpoints c join pawl.kinds k using (kind)
    where c.run_id = p_run_id
  );
end
$$;
--> statement-breakpoint
comment on function pawl.stop_reason(text) is 'cancel, pause or null: what an operator wants of this run at its next batch edge';
--> statement-breakpoint

create function pawl.advance(p_run_id text, p_lane integer, p_epoch bigint, p_cursor jsonb, p_rows bigint, p_finished boolean) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  update pawl.lanes
  set cursor = p_cursor, done = done + p_rows, batch = batch + 1, finished = p_finished, updated_at = clock_timestamp()
  where run_id = p_run_id and lane = p_lane and epoch = p_epoch;
  if not found then
    raise exception 'run % was taken over by another worker', p_run_id using errcode = 'PW001';
  end if;
  return pawl.stop_reason(p_run_id);
end
$$;
--> statement-breakpoint
comment on function pawl.advance(text, integer, bigint, jsonb, bigint, boolean) is
  'Moves a lane''s cursor in the transaction of the batch it describes. Returns what an operator wants: cancel, pause or null';
--> statement-breakpoint

create function pawl.park(p_run_id text, p_epoch bigint, p_waits_for text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform pawl.release(p_run_id, p_epoch, false);
  update pawl.checkpoints set waits_for = p_waits_for where run_id = p_run_id;
end
$$;
--> statement-breakpoint
comment on function pawl.park(text, bigint, text) is 'Puts a run aside until another has ended; whoever ends that one delivers this one';
--> statement-breakpoint

create function pawl.release(p_run_id text, p_epoch bigint, p_redeliver boolean) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform pawl.hold_run(p_run_id, p_epoch);
  update pawl.checkpoints c
  set state = 'pending', owner = null, updated_at = clock_timestamp(),
      done = coalesce(l.done, c.done), batch = coalesce(l.batch, c.batch)
  from (select sum(lane.done) as done, sum(lane.batch) as batch from pawl.lanes lane where lane.run_id = p_run_id) l
  where c.run_id = p_run_id;
  if p_redeliver then
    perform pawl.deliver(p_run_id);
  end if;
end
$$;
--> statement-breakpoint
comment on function pawl.release(text, bigint, boolean) is 'Hands a run back at a batch edge, no attempt spent; with redeliver, a new job brings it to the next worker';
--> statement-breakpoint

-- Returns true when the run will be tried again.
create function pawl.fail(p_run_id text, p_epoch bigint, p_error text, p_retryable boolean) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  run pawl.checkpoints;
begin
  run := pawl.hold_run(p_run_id, p_epoch);
  update pawl.checkpoints set failures = failures + 1, updated_at = clock_timestamp() where run_id = p_run_id;
  if not p_retryable or run.failures >= run.failures_max then
    perform pawl.finish(p_run_id, p_epoch, 'failed', p_error);
    return false;
  end if;
  perform pawl.release(p_run_id, p_epoch, false);
  update pawl.checkpoints set error = p_error where run_id = p_run_id;
  perform pawl.changed(p_run_id, 'pending', p_error);
  return true;
end
$$;
--> statement-breakpoint
comment on function pawl.fail(text, bigint, text, boolean) is 'Counts a failure of the work. True: the run waits for its retry. False: it has failed for good';
--> statement-breakpoint

-- One round trip twice a second from every worker: says "I live", gives up runs this worker no longer works on, and
-- takes runs from workers that died (lock free) or hang (lease over). Returns the deliveries that are void now.
create function pawl.beat(p_lease integer, p_held text[], p_lease_time interval, p_may_rescue boolean)
returns table (run_id text, queue text, job_id uuid, job_attempt integer, reason text)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  orphan record;
begin
  update pawl.leases l set seen_at = clock_timestamp() where l.id = p_lease and l.state in ('running', 'draining');
  if not found then
    raise exception 'the lease of worker % was lost', p_lease using errcode = 'PW002';
  end if;
  -- Right after a restart nobody has had the time to take its lock again: a missing lock means nothing yet.
  if not p_may_rescue or clock_timestamp() - pg_postmaster_start_time() < interval '3 seconds' then
    return;
  end if;
  for orphan in
    select c.run_id, c.job_id, c.job_attempt, c.owner, k.queue,
      case when c.owner = p_lease then 'abandoned' when l.seen_at < clock_timestamp() - p_lease_time then 'hung' else 'dead' end as reason
    from pawl.checkpoints c
    join pawl.kinds k using (kind)
    left join pawl.leases l on l.id = c.owner
    where c.state = 'running' and case
      when c.owner = p_lease then c.run_id <> all (p_held) and c.updated_at < clock_timestamp() - interval '5 seconds'
      when l.id is null or l.state in ('stopped', 'lost') then true
      -- A beat younger than a second: its connection may just be reconnecting.
      else l.seen_at < clock_timestamp() - interval '1 second' and not pawl.lease_alive(c.owner, p_lease_time)
    end
    order by c.requested_at
    limit 100
    for update of c skip locked
  loop
    if orphan.reason <> 'abandoned' then
      update pawl.leases l set state = 'lost', stopped_at = clock_timestamp()
      where l.id = orphan.owner and l.state in ('running', 'draining');
      if not pawl.note_crash(orphan.run_id) then
        continue;
      end if;
    else
      update pawl.checkpoints c set state = 'pending', owner = null, epoch = c.epoch + 1 where c.run_id = orphan.run_id;
      update pawl.lanes l set epoch = l.epoch + 1 where l.run_id = orphan.run_id;
    end if;
    perform pawl.deliver(orphan.run_id);
    return query select orphan.run_id, orphan.queue, orphan.job_id, orphan.job_attempt, orphan.reason;
  end loop;
end
$$;
--> statement-breakpoint
comment on function pawl.beat(integer, text[], interval, boolean) is 'Heartbeat of a worker, and rescue of the runs of dead and hung ones';
--> statement-breakpoint

-- Backstop against a delivery that got lost (a deleted job, a purged queue, a restored backup): a pending run that no job will bring.
create function pawl.redeliver_lost(p_older_than interval) returns setof text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  lost text;
begin
  for lost in
    select c.run_id
    from pawl.checkpoints c join pawl.kinds k using (kind)
    where c.state = 'pending' and c.updated_at < now() - p_older_than
      and not exists (select from pawl.checkpoints w where w.run_id = c.waits_for and w.state in ('pending', 'running'))
      and not exists (select from pgboss.job j where j.name = k.queue and j.id = c.job_id and j.state in ('created', 'retry', 'active'))
    order by c.requested_at
    limit 1000
    for update of c skip locked
  loop
    perform pawl.deliver(lost);
    return next lost;
  end loop;
end
$$;
--> statement-breakpoint
comment on function pawl.redeliver_lost(interval) is 'Enqueues pending runs that no waiting job would bring to a worker any more';
--> statement-breakpoint
-- What a worker asks every second, one statement for all its queues: retries and jobs whose time has come notify nobody.
create function pawl.claimable(p_queues text[], p_at_most integer)
returns table (queue text, paused boolean, ready integer)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select q.name, exists (select from pawl.paused_queues p where p.queue = q.name), j.ready
  from unnest(p_queues) q (name)
  cross join lateral (
    select count(*)::integer as ready
    from (
      select from pgboss.job j
      where j.name = q.name and j.state < 'active' and not j.blocked and j.start_after < now()
      limit p_at_most
    ) found
  ) j;
end
$$;
--> statement-breakpoint
comment on function pawl.claimable(text[], integer) is 'Of each of these queues whether it is paused, and how many jobs are ready, counted no further than asked';
--> statement-breakpoint
-- Functions are executable by everyone unless taken away; each role gets what it is for, by name, in the last file.
revoke execute on all routines in schema pawl from public;
