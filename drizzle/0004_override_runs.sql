-- Overrides as runs of the engine: requesting, working through a category batch by batch, ending.
-- Lock order everywhere: checkpoint or lane, then the category's advisory lock, then the operation, its audit row, the category.
insert into pawl.kinds (kind, queue, changed_function) values ('override', 'overrides.apply', 'pawl.override_changed');
--> statement-breakpoint

create function pawl.lock_override_category(p_category_id bigint) returns void
language sql set search_path = pg_catalog, pg_temp
as $$ select pg_advisory_xact_lock(hashtext('pawl.overrides'), hashtext(p_category_id::text)) $$;
--> statement-breakpoint
comment on function pawl.lock_override_category(bigint) is
  'Starting and ending operations of one category take turns: without it an operation could park behind one that is just ending and never be woken';
--> statement-breakpoint

create function pawl.add_override_operation(
  p_category_id bigint, p_user_id bigint, p_settings jsonb, p_batch_size integer, p_client_ip inet, p_user_agent text,
  p_idempotency_key text, p_request jsonb, p_reverts text
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  -- Short: the id stands in every settings row it wrote, and in people's mouths.
  new_number bigint := nextval('public.category_override_operations_id_seq');
  new_id text := 'ovr_' || new_number;
  user_name text;
  category record;
  earlier record;
begin
  select u.username into user_name from public.users u where u.id = p_user_id;
  if not found then
    raise exception 'user % does not exist', coalesce(p_user_id::text, 'null') using errcode = '23503', hint = 'pass the id of a row of public.users';
  end if;
  select c.name, c.settings into category from public.categories c where c.id = p_category_id;
  if not found then
    raise exception 'category % does not exist', coalesce(p_category_id::text, 'null') using errcode = '23503', hint = 'pass the id of a row of public.categories';
  end if;
  insert into public.category_override_operations (
    id, operation_id, category_id, user_id, batch_size, override_settings, operation_timestamp, reverts_operation_id, idempotency_key, idempotency_request
  )
  values (new_number, new_id, p_category_id, p_user_id, p_batch_size, coalesce(p_settings, category.settings, '{}'), now(), p_reverts, p_idempotency_key, p_request)
  on conflict (idempotency_key) do nothing;
  if not found then
    select o.operation_id, o.idempotency_request into earlier
    from public.category_override_operations o where o.idempotency_key = p_idempotency_key;
    if earlier.idempotency_request is distinct from p_request then
      raise exception 'idempotency key "%" belongs to operation %, which was requested with other arguments', p_idempotency_key, earlier.operation_id
        using errcode = '22023', hint = 'use a new key for a new request';
    end if;
    return earlier.operation_id;
  end if;
  insert into public.category_override_audit (
    operation_id, category_id, category_name, user_id, user_name, operation_timestamp, operation_status, client_ip, user_agent
  )
  values (new_id, p_category_id, left(category.name, 255), p_user_id, left(user_name, 255), now(), 'STARTED', p_client_ip, p_user_agent);
  insert into pawl.checkpoints (run_id, kind, subject)
  values (new_id, 'override', case when p_reverts is null then '' else 'revert of ' || p_reverts || ', ' end || format('category %s "%s"', p_category_id, category.name));
  perform pawl.deliver(new_id);
  return new_id;
end
$$;
--> statement-breakpoint
comment on function pawl.add_override_operation(bigint, bigint, jsonb, integer, inet, text, text, jsonb, text) is
  'Operation, audit row, run and job of a checked request, in the caller''s transaction';
--> statement-breakpoint

create function pawl.request_override(
  category_id bigint,
  user_id bigint,
  settings jsonb default null,
  batch_size integer default 100,
  client_ip inet default null,
  user_agent text default null,
  idempotency_key text default null
) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if request_override.settings is not null and jsonb_typeof(request_override.settings) <> 'object' then
    raise exception 'settings must be a JSON object, not %', jsonb_typeof(request_override.settings)
      using errcode = '22023', hint = 'pass an object such as {"channel": "email"}, or null for the category''s own settings';
  end if;
  if request_override.batch_size is null or request_override.batch_size not between 1 and 1000 then
    raise exception 'batch_size must be from 1 to 1000, not %', coalesce(request_override.batch_size::text, 'null')
      using errcode = '22023', hint = 'leave it out for 100';
  end if;
  if length(request_override.user_agent) > 2000 then
    raise exception 'user_agent has % characters, 2000 at most', length(request_override.user_agent)
      using errcode = '22023', hint = 'shorten it; nothing was enqueued';
  end if;
  if request_override.idempotency_key = '' or length(request_override.idempotency_key) > 200 then
    raise exception 'idempotency_key must have 1 to 200 characters, not %', length(request_override.idempotency_key)
      using errcode = '22023', hint = 'use a UUID or a hash of the request';
  end if;
  return pawl.add_override_operation(
    request_override.category_id, request_override.user_id, request_override.settings, request_override.batch_size,
    request_override.client_ip, request_override.user_agent, request_override.idempotency_key,
    jsonb_build_object('category_id', request_override.category_id, 'user_id', request_override.user_id,
                       'settings', request_override.settings, 'batch_size', request_override.batch_size),
    null
  );
end
$$;
--> statement-breakpoint
comment on function pawl.request_override(bigint, bigint, jsonb, integer, inet, text, text) is
  'Applies settings (null: the category''s own, as they are now) to every AD-synced, active recipient of a category, in batches of 1 to 1000, in the caller''s transaction. Returns the operation id; the same idempotency key returns the same id and enqueues nothing. Errors: 22023 bad argument, 23503 unknown category or user';
--> statement-breakpoint

create function pawl.revert_override(operation_id text, user_id bigint) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  target record;
begin
  select o.* into target from public.category_override_operations o where o.operation_id = revert_override.operation_id;
  if not found then
    raise exception 'operation "%" does not exist', left(coalesce(revert_override.operation_id, 'null'), 100)
      using errcode = '22023', hint = 'operations are kept for 30 days: select operation_id from public.v_override_operation_history';
  end if;
  if target.reverts_operation_id is not null then
    raise exception 'operation % is itself a revert', revert_override.operation_id
      using errcode = '22023', hint = 'request the override again instead';
  end if;
  if target.status in ('PENDING', 'PROCESSING') then
    raise exception 'operation % is still %', revert_override.operation_id, target.status
      using errcode = '22023', hint = format('wait for it, or cancel it first: select pawl.cancel(%L)', revert_override.operation_id);
  end if;
  return pawl.add_override_operation(
    target.category_id, revert_override.user_id, target.override_settings, target.batch_size, null, null, null, null, revert_override.operation_id);
end
$$;
--> statement-breakpoint
comment on function pawl.revert_override(text, bigint) is
  'Puts back what each recipient''s row held before the operation, where no one has changed it since; runs as an operation of its own, whose id it returns';
--> statement-breakpoint

-- Outcomes: started (or resumed), waits (parked behind another operation of the category), gone (the category or the user was deleted, and the operation with it).
create function pawl.start_override(p_run_id text, p_epoch bigint, p_lanes integer) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  operation public.category_override_operations;
  ahead text;
  top bigint;
  expected bigint;
  lanes integer;
  bounds bigint[];
begin
  perform pawl.hold_run(p_run_id, p_epoch);
  select * into operation from public.category_override_operations o where o.operation_id = p_run_id;
  if not found then
    return 'gone';
  end if;
  if operation.status = 'PROCESSING' then
    return 'started';
  end if;
  perform pawl.lock_override_category(operation.category_id);
  select o.operation_id into ahead
  from public.category_override_operations o
  where o.category_id = operation.category_id and o.operation_id <> p_run_id
    and (o.status = 'PROCESSING' or (o.status = 'PENDING' and o.id < operation.id))
  -- Behind the nearest one: each ending then wakes one operation, not the whole line.
  order by o.id < operation.id desc, o.id desc
  limit 1;
  if found then
    perform pawl.park(p_run_id, p_epoch, ahead);
    return 'waits';
  end if;
  if not exists (select from pawl.lanes l where l.run_id = p_run_id) then
    if operation.reverts_operation_id is null then
      select max(r.id), count(*) into top, expected
      from public.recipients r where r.category_id = operation.category_id and r.is_ad_synced and r.is_active;
    else
      select max(s.recipient_id), count(*) filter (where s.updated_by_operation = operation.reverts_operation_id) into top, expected
      from public.category_recipient_settings s where s.category_id = operation.category_id;
    end if;
    -- A second lane pays from the second batch on: one lane's commit wait is the other's work.
    lanes := greatest(1, least(p_lanes, expected / operation.batch_size)::integer);
    select array_agg(b.id order by b.id) into bounds
    from generate_series(1, lanes - 1) i
    cross join lateral (
      select r.id from public.recipients r
      where r.category_id = operation.category_id and r.is_ad_synced and r.is_active
      order by r.id offset expected * i / lanes - 1 limit 1
    ) b
    where operation.reverts_operation_id is null;
    insert into pawl.lanes (run_id, lane, epoch, cursor)
    select p_run_id, i, p_epoch, jsonb_build_object('after', coalesce(bounds[i], 0), 'upto', coalesce(bounds[i + 1], top, 0))
    from generate_series(0, coalesce(array_length(bounds, 1), 0)) i;
    update pawl.checkpoints set total = expected where run_id = p_run_id;
  end if;
  update public.category_override_operations
  set status = 'PROCESSING', started_at = case when current_batch = 0 then clock_timestamp() else started_at end,
      total_recipients = coalesce(total_recipients, expected)
  where category_override_operations.operation_id = p_run_id;
  return 'started';
end
$$;
--> statement-breakpoint
comment on function pawl.start_override(text, bigint, integer) is
  'Takes the category''s turn: snapshots the upper recipient id and the total, and cuts the key range into lanes. Lane n walks (after, upto] by recipient id';
--> statement-breakpoint

-- The hot path: one call, one transaction, one round trip. The cursor comes from the lane's own row, so a call whose answer
-- was lost with its connection is simply made again.
create function pawl.apply_override_batch(p_run_id text, p_lane integer, p_epoch bigint, out rows integer, out finished boolean, out stop text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  held pawl.lanes := pawl.hold(p_run_id, p_lane, p_epoch);
  operation record;
  after bigint := held.cursor -> 'after';
  upto bigint := held.cursor -> 'upto';
  recipients bigint[];
  inserted integer;
begin
  rows := 0;
  finished := held.finished;
  if finished then
    return;
  end if;
  select o.category_id, o.batch_size, o.override_settings, o.operation_timestamp into operation
  from public.category_override_operations o where o.operation_id = p_run_id;
  if not found then
    finished := true;
    stop := 'gone';
    return;
  end if;
  recipients := array(
    select r.id
    from public.recipients r
    where r.category_id = operation.category_id and r.is_ad_synced and r.is_active and r.id > after and r.id <= upto
    order by r.id
    limit operation.batch_size
  );
  -- UPDATE first, INSERT only for what is missing: where the rows exist, that costs a fifth less than one upsert.
  update public.category_recipient_settings s
  set settings = operation.override_settings,
      updated_by_operation = p_run_id,
      is_override_generated = true,
      override_timestamp = operation.operation_timestamp,
      previous_settings = s.settings,
      previous_operation = s.updated_by_operation
  where s.category_id = operation.category_id and s.recipient_id = any (recipients);
  get diagnostics rows = row_count;
  if rows < cardinality(recipients) then
    insert into public.category_recipient_settings as s
      (category_id, recipient_id, settings, updated_by_operation, is_override_generated, override_timestamp, previous_settings)
    select operation.category_id, missing, operation.override_settings, p_run_id, true, operation.operation_timestamp, 'null'
    from unnest(recipients) missing
    -- The host application may insert the same row just now: then it is there to be updated.
    on conflict (category_id, recipient_id) do update
    set settings = excluded.settings,
        updated_by_operation = excluded.updated_by_operation,
        is_override_generated = true,
        override_timestamp = excluded.override_timestamp,
        previous_settings = s.settings,
        previous_operation = s.updated_by_operation
    where s.updated_by_operation is distinct from p_run_id;
    get diagnostics inserted = row_count;
    rows := rows + inserted;
  end if;
  finished := cardinality(recipients) < operation.batch_size;
  stop := pawl.advance(p_run_id, p_lane, p_epoch,
    jsonb_build_object('after', case when finished then upto else recipients[cardinality(recipients)] end, 'upto', upto), rows, finished);
  -- Last, because every lane of the operation locks this row until its commit.
  update public.category_override_operations o
  set processed_recipients = o.processed_recipients + rows,
      total_recipients = greatest(o.total_recipients, o.processed_recipients + rows),
      current_batch = o.current_batch + 1,
      last_updated_at = clock_timestamp()
  where o.operation_id = p_run_id;
end
$$;
--> statement-breakpoint
comment on function pawl.apply_override_batch(text, integer, bigint) is
  'One fenced batch of an override: settings, cursor and progress columns commit together. stop: cancel, pause, gone or null';
--> statement-breakpoint

create function pawl.revert_override_batch(p_run_id text, p_lane integer, p_epoch bigint, out rows integer, out finished boolean, out stop text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  held pawl.lanes := pawl.hold(p_run_id, p_lane, p_epoch);
  operation record;
  after bigint := held.cursor -> 'after';
  upto bigint := held.cursor -> 'upto';
  seen integer;
  last bigint;
begin
  rows := 0;
  finished := held.finished;
  if finished then
    return;
  end if;
  select o.category_id, o.batch_size, o.override_settings, o.reverts_operation_id into operation
  from public.category_override_operations o where o.operation_id = p_run_id;
  if not found then
    finished := true;
    stop := 'gone';
    return;
  end if;
  with page as materialized (
    select s.recipient_id,
      -- A row that an earlier revert has put back no longer knows what it held before that: it stays.
      s.updated_by_operation = operation.reverts_operation_id and s.settings = operation.override_settings and s.previous_settings is not null as untouched,
      s.previous_settings = 'null' as was_absent,
      earlier.operation_id as earlier, earlier.operation_timestamp as earlier_timestamp
    from public.category_recipient_settings s
    left join public.category_override_audit earlier on earlier.operation_id = s.previous_operation
    where s.category_id = operation.category_id and s.recipient_id > after and s.recipient_id <= upto
    order by s.recipient_id
    limit operation.batch_size
    for update of s
  ), removed as (
    delete from public.category_recipient_settings s
    using page p
    where s.category_id = operation.category_id and s.recipient_id = p.recipient_id and p.untouched and p.was_absent
    returning 1
  ), restored as (
    update public.category_recipient_settings s
    set settings = s.previous_settings,
        -- An operation whose audit is gone can't be named any more.
        updated_by_operation = p.earlier,
        is_override_generated = p.earlier is not null,
        override_timestamp = p.earlier_timestamp,
        previous_settings = null,
        previous_operation = null
    from page p
    where s.category_id = operation.category_id and s.recipient_id = p.recipient_id and p.untouched and not p.was_absent
    returning 1
  )
  select (select count(*) from removed) + (select count(*) from restored), (select count(*) from page), (select max(p.recipient_id) from page p)
  into rows, seen, last;
  finished := seen < operation.batch_size;
  stop := pawl.advance(p_run_id, p_lane, p_epoch,
    jsonb_build_object('after', case when finished then upto else last end, 'upto', upto), rows, finished);
  update public.category_override_operations o
  set processed_recipients = o.processed_recipients + rows,
      total_recipients = greatest(o.total_recipients, o.processed_recipients + rows),
      current_batch = o.current_batch + 1,
      last_updated_at = clock_timestamp()
  where o.operation_id = p_run_id;
end
$$;
--> statement-breakpoint
comment on function pawl.revert_override_batch(text, integer, bigint) is
  'One fenced batch of a revert: a page of the category''s rows, of which those that still hold what the operation wrote go back to what they were';
--> statement-breakpoint

create procedure pawl.apply_override_batches(
  p_run_id text, p_lane integer, p_epoch bigint, p_slice interval,
  inout batches integer, inout rows integer, inout finished boolean, inout stop text
)
language plpgsql
as $$
declare
  started timestamptz := clock_timestamp();
  reverts boolean := (select o.reverts_operation_id is not null from public.category_override_operations o where o.operation_id = p_run_id);
  step record;
begin
  batches := 0;
  rows := 0;
  loop
    if reverts then
      select * into step from pawl.revert_override_batch(p_run_id, p_lane, p_epoch);
    else
      select * into step from pawl.apply_override_batch(p_run_id, p_lane, p_epoch);
    end if;
    commit;
    batches := batches + 1;
    rows := rows + step.rows;
    finished := step.finished;
    stop := step.stop;
    exit when finished or stop is not null or clock_timestamp() - started >= p_slice;
  end loop;
end
$$;
--> statement-breakpoint
comment on procedure pawl.apply_override_batches(text, integer, bigint, interval, integer, integer, boolean, text) is
  'Batches of an operation, override or revert, one after another, each a transaction of its own, for a slice of time: a worker asks once a slice, not once a batch. No search_path of its own, or it could not commit: every name in it is qualified';
--> statement-breakpoint

create function pawl.override_changed(p_run_id text, p_state text, p_error text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  operation public.category_override_operations;
begin
  select * into operation from public.category_override_operations o where o.operation_id = p_run_id;
  if not found then
    return;
  end if;
  perform pawl.lock_override_category(operation.category_id);
  if p_state = 'pending' and operation.status in ('FAILED', 'CANCELLED') and exists (
    select from public.category_override_operations o where o.reverts_operation_id = p_run_id and o.status <> 'CANCELLED'
  ) then
    -- It would go on at its cursor, and the rows before that, which were put back, would be counted as its own.
    raise exception 'operation % was reverted and cannot go on', p_run_id
      using errcode = '22023', hint = format('request it anew: select pawl.request_override(%s, …)', operation.category_id);
  end if;
  update public.category_override_operations o
  set status = case
        when p_state <> 'pending' then upper(p_state)
        -- A retry that waits keeps its turn; one an operator asked for goes back in line.
        when o.status in ('FAILED', 'CANCELLED') then 'PENDING'
        else o.status
      end,
      error_message = p_error,
      retry_count = least(o.max_retries, (select c.failures from pawl.checkpoints c where c.run_id = p_run_id)),
      total_recipients = case when p_state = 'completed' then o.processed_recipients else o.total_recipients end
  where o.operation_id = p_run_id
  returning * into operation;
  update public.category_override_audit a
  set operation_status = case p_state when 'completed' then 'COMPLETED' when 'pending' then 'STARTED' else 'FAILED' end,
      affected_recipients_count = operation.processed_recipients,
      error_message = p_error,
      operation_duration_ms = case when p_state = 'pending' then null else
        least(2147483647, greatest(0, extract(epoch from clock_timestamp() - operation.started_at) * 1000))::integer end
  where a.operation_id = p_run_id and a.operation_timestamp = operation.operation_timestamp;
end
$$;
--> statement-breakpoint
comment on function pawl.override_changed(text, text, text) is
  'Keeps the operation and its audit row in step with the run';
--> statement-breakpoint
revoke execute on all routines in schema pawl from public;
