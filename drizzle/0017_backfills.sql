-- Backfills: large changes of a table's rows, batch by batch on the engine, in place of one long statement or a block that commits.
-- Locks: new objects only.
create table pawl.backfills (
  id bigint generated always as identity primary key,
  run_id text not null unique,
  state text not null default 'pending',
  relation text not null,
  key_column text not null,
  key_type text not null,
  assignments text not null,
  condition text not null,
  batch_size integer not null,
  batch_time interval not null,
  lag_limit interval not null,
  search_path text[] not null,
  requested_by text not null default session_user,
  requested_at timestamptz not null default now(),
  finished_at timestamptz,
  throttle text,
  throttled_at timestamptz,
  mark_lsn pg_lsn,
  mark_at timestamptz,
  constraint backfills_state_known check (state in ('pending', 'completed', 'failed', 'cancelled'))
) with (fillfactor = 50);
--> statement-breakpoint
comment on table pawl.backfills is 'What each backfill changes, as its owner asked for it: the text runs with the rights of Pawl''s owner, so nobody else may write here. Stays when the run''s own row is gone, for pawl.require_backfill';
--> statement-breakpoint
comment on column pawl.backfills.throttle is 'Why it holds back just now; null when it does not';
--> statement-breakpoint
comment on column pawl.backfills.mark_lsn is 'A position in the WAL that no standby had replayed at mark_at: how far behind they are, also when they have stopped to tell';
--> statement-breakpoint
insert into pawl.kinds (kind, queue, changed_function) values ('backfill', 'maintenance.backfill', 'pawl.backfill_changed');
--> statement-breakpoint

create function pawl.backfill_changed(p_run_id text, p_state text, p_error text) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$
  update pawl.backfills
  set state = p_state, throttle = null, throttled_at = null, finished_at = case when p_state <> 'pending' then clock_timestamp() end
  where run_id = p_run_id
$$;
--> statement-breakpoint
comment on function pawl.backfill_changed(text, text, text) is 'Keeps the backfill in step with its run';
--> statement-breakpoint

-- The schemas in which the text finds what it doesn't name in full, and with it the triggers it fires. Not one in which a worker could make something
-- that is found instead; and the temporary schema last, where it would otherwise be first.
create function pawl.backfill_path(p_schemas text[]) returns text
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select concat_ws(', ', 'pg_catalog', string_agg(quote_ident(n.nspname), ', ' order by s.place), 'pg_temp')
  from unnest(p_schemas) with ordinality s (name, place)
  join pg_namespace n on n.nspname = s.name and n.nspname <> 'pg_catalog' and not has_schema_privilege('pawl_worker', n.oid, 'create')
$$;
--> statement-breakpoint
comment on function pawl.backfill_path(text[]) is 'The search_path a backfill runs with, out of that of whoever requested it';
--> statement-breakpoint

-- A cursor takes one statement and explains it: none is run, and a text that holds two is refused.
create function pawl.explain_one(p_statement text) returns json
language plpgsql
as $$
declare
  explanation refcursor;
  answer json;
begin
  open explanation for execute 'explain (format json) ' || p_statement;
  fetch explanation into answer;
  close explanation;
  return answer;
end
$$;
--> statement-breakpoint
comment on function pawl.explain_one(text) is 'The plan of one statement, which is not run; an error for two. Has the search_path of its caller, as the text it explains will have';
--> statement-breakpoint

-- Each text must be whole by itself, or the two together could comment out what stands between them, the range of the batch, or close its
-- parentheses. An expression that stands with parentheses around it and without is nothing else.
create function pawl.check_backfill(p_relation text, p_assignments text, p_condition text) returns bigint
language plpgsql
as $$
declare
  part text := 'condition';
  answer json;
begin
  perform pawl.explain_one(format(E'select from %s t where\n%s\n', p_relation, p_condition));
  answer := pawl.explain_one(format(E'select from %s t where (\n%s\n)', p_relation, p_condition));
  part := 'assignments';
  perform pawl.explain_one(format(E'update %s t set\n%s\nwhere false', p_relation, p_assignments));
  perform pawl.explain_one(format(E'update %s t set\n%s\nwhere false and (\n%s\n)', p_relation, p_assignments, p_condition));
  return (answer -> 0 -> 'Plan' ->> 'Plan Rows')::numeric::bigint;
exception
  when lock_not_available or query_canceled then
    raise;
  when invalid_cursor_definition then
    raise exception 'the % of the backfill are no single statement', part
      using errcode = '22023', hint = 'one list of assignments, one condition, no semicolon; request a second backfill for a second change';
  when others then
    raise exception 'the % of the backfill can''t be run: %', part, sqlerrm
      using errcode = '22023',
        hint = format('it has to stand in "update %s t set ASSIGNMENTS where CONDITION", with names found in: %s; nothing was changed', p_relation, current_setting('search_path'));
end
$$;
--> statement-breakpoint
comment on function pawl.check_backfill(text, text, text) is 'Raises where the text of a backfill is not what it says to be; how many rows its condition is estimated to meet';
--> statement-breakpoint

create function pawl.backfill_key(p_table regclass, p_key text, out name text, out type text)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  columns text[];
  key record;
begin
  if p_key is null then
    select array_agg(a.attname::text order by array_position(i.indkey::smallint[], a.attnum)) into columns
    from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey::smallint[])
    where i.indrelid = p_table and i.indisprimary;
    if columns is null then
      raise exception 'table % has no primary key', p_table using errcode = '22023', hint = 'name a column to walk by: key => ''id''; it must be not null and lead an index';
    elsif cardinality(columns) > 1 then
      raise exception 'the primary key of % has % columns: %', p_table, cardinality(columns), array_to_string(columns, ', ')
        using errcode = '22023', hint = format('walk by one of them that leads an index: key => %L', columns[1]);
    end if;
  end if;
  select a.attname::text as name, a.attnotnull, case when t.typtype = 'd' then t.typbasetype else t.oid end as type into key
  from pg_attribute a join pg_type t on t.oid = a.atttypid
  where a.attrelid = p_table and a.attname = coalesce(p_key, columns[1]) and a.attnum > 0 and not a.attisdropped;
  if not found then
    raise exception 'table % has no column "%"', p_table, p_key using errcode = '22023', hint = 'key is the bare name of a column';
  elsif not key.attnotnull then
    raise exception 'column "%" of % may be null', key.name, p_table using errcode = '22023', hint = 'rows without a key would never be met: walk by a column that is not null';
  elsif not exists (select from pg_type t where t.oid = key.type and t.typnamespace = 'pg_catalog'::regnamespace) then
    -- Its operators may live in a schema that is not looked into, and another order be taken for its own.
    raise exception 'column "%" of % is of type %, which is none of PostgreSQL''s own', key.name, p_table, format_type(key.type, null)
      using errcode = '22023', hint = 'walk by another column';
  elsif not exists (
    select from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am m on m.oid = c.relam
    where i.indrelid = p_table and i.indkey[0] = (select a.attnum from pg_attribute a where a.attrelid = p_table and a.attname = key.name)
      and m.amname = 'btree' and i.indisvalid and i.indpred is null
  ) then
    raise exception 'no index of % leads with column "%"', p_table, key.name
      using errcode = '22023', hint = format('each batch would read the whole table: create index concurrently on %s (%I) first', p_table, key.name);
  end if;
  name := key.name;
  -- With -1 and not null: "character" would be a type of one letter.
  type := format_type(key.type, -1);
end
$$;
--> statement-breakpoint
comment on function pawl.backfill_key(regclass, text) is 'The column by which a backfill walks a table, and its type; raises where there is none it could';
--> statement-breakpoint

-- What may change a text's meaning between the request and a batch is pinned in both.
create function pawl.add_backfill(
  p_table regclass, p_assignments text, p_condition text, p_batch_size integer, p_key text, p_name text,
  p_batch_time interval, p_lag_limit interval, p_schemas text[]
) returns text
language plpgsql
set search_path = pg_catalog, pg_temp set standard_conforming_strings = on set transform_null_equals = off set lock_timeout = '3s'
as $$
declare
  target record;
  key record;
  earlier pawl.backfills;
  expected bigint;
  owner oid;
  new_id bigint;
  new_run text;
  is_empty boolean;
begin
  select format('%I.%I', n.nspname, c.relname) as name, c.relkind, n.nspname as space into target
  from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = p_table;
  if not found then
    raise exception 'the table is null or not there' using errcode = '22023', hint = 'name it with its schema: ''public.orders''';
  elsif target.relkind not in ('r', 'p') or target.space in ('pg_catalog', 'information_schema', 'pgboss') or target.space like 'pg\_%' then
    raise exception '% is no table that can be backfilled', target.name using errcode = '22023', hint = 'a plain or partitioned table of yours';
  elsif p_batch_size is null or p_batch_size not between 1 and 100000 then
    raise exception 'batch_size must be from 1 to 100000, not %', coalesce(p_batch_size::text, 'null') using errcode = '22023', hint = 'leave it out for 1000';
  elsif p_batch_time is null or p_batch_time not between '1 millisecond' and '10 seconds' then
    raise exception 'batch_time must be from 1 ms to 10 s, not %', coalesce(p_batch_time::text, 'null') using errcode = '22023', hint = 'leave it out for 100 ms';
  elsif p_lag_limit is null or p_lag_limit < '0' then
    raise exception 'lag_limit must be an interval from 0, not %', coalesce(p_lag_limit::text, 'null') using errcode = '22023', hint = 'leave it out for 10 s';
  elsif p_name !~ '^[A-Za-z_][A-Za-z0-9_.-]{0,99}$' then
    raise exception 'the name "%" is not of 1 to 100 letters, digits, _ . - with a letter first', p_name using errcode = '22023', hint = 'the run is then called backfill:NAME';
  elsif coalesce(p_assignments, '') ~ '^\s*$' or coalesce(p_condition, '') ~ '^\s*$' then
    raise exception 'the assignments or the condition are empty' using errcode = '22023', hint = 'such as ''total = price * amount'' and ''total is null''';
  end if;
  select * into key from pawl.backfill_key(p_table, p_key);
  -- A row whose key moves while the table is walked by it may be met twice, or never.
  if p_assignments ~* format('(^|,)\s*("%1$s"|%1$s)\s*=(?!>)|\(([^()]*,)?\s*("%1$s"|%1$s)\s*(,[^()]*)?\)\s*=(?!>)', regexp_replace(key.name, '([^A-Za-z0-9_])', '\\\1', 'g')) then
    raise exception 'the assignments change "%", by which the table is walked', key.name using errcode = '22023', hint = 'walk by another column: key => …';
  end if;
  select c.relowner into owner from pg_class c where c.oid = 'pawl.backfills'::regclass;
  if not (has_table_privilege(owner, p_table, 'select') and has_table_privilege(owner, p_table, 'update')) then
    raise exception 'the owner of Pawl may not update %', target.name
      using errcode = '42501', hint = format('grant select, update on %s to %s', target.name, owner::regrole);
  end if;
  perform set_config('search_path', pawl.backfill_path(p_schemas), true);
  expected := pawl.check_backfill(target.name, p_assignments, p_condition);
  perform set_config('search_path', 'pg_catalog, pg_temp', true);
  if p_name is not null then
    perform pg_advisory_xact_lock(hashtext('pawl.backfills'), hashtext(p_name));
    select * into earlier from pawl.backfills b where b.run_id = 'backfill:' || p_name;
    if found and earlier.state <> 'completed' and not exists (select from pawl.checkpoints c where c.run_id = earlier.run_id) then
      -- It ended without success, and so long ago that retention has taken its run: nothing is left that could be retried.
      delete from pawl.backfills b where b.id = earlier.id;
    elsif found and (earlier.relation, earlier.key_column, earlier.assignments, earlier.condition) = (target.name, key.name, p_assignments, p_condition) then
      return earlier.run_id;
    elsif found then
      raise exception 'backfill "%" was requested before, with another table or text', p_name using errcode = '22023', hint = 'use a new name for a new change';
    end if;
  end if;
  new_id := nextval(pg_get_serial_sequence('pawl.backfills', 'id'));
  new_run := 'backfill:' || coalesce(p_name, new_id::text);
  insert into pawl.backfills (id, run_id, relation, key_column, key_type, assignments, condition, batch_size, batch_time, lag_limit, search_path)
  overriding system value
  values (new_id, new_run, target.name, key.name, key.type, p_assignments, p_condition, p_batch_size, p_batch_time, p_lag_limit, p_schemas);
  insert into pawl.checkpoints (run_id, kind, subject, total) values (new_run, 'backfill', left(format('%s: %s', target.name, p_assignments), 200), expected);
  -- A new database has no rows to change, and its next migration may ask at once whether this is done.
  execute format('select not exists (select from %s)', target.name) into is_empty;
  if is_empty then
    perform pawl.finish(new_run, null, 'completed');
  else
    perform pawl.deliver(new_run);
  end if;
  return new_run;
end
$$;
--> statement-breakpoint
comment on function pawl.add_backfill(regclass, text, text, integer, text, text, interval, interval, text[]) is 'Backfill, run and job of a request that was checked, in the caller''s transaction';
--> statement-breakpoint

create function pawl.request_backfill(
  "table" regclass,
  assignments text,
  condition text default 'true',
  batch_size integer default 1000,
  key text default null,
  name text default null,
  batch_time interval default '100 milliseconds',
  lag_limit interval default '10 seconds'
) returns text
language sql
as $$ select pawl.add_backfill($1, $2, $3, $4, $5, $6, $7, $8, current_schemas(false)::text[]) $$;
--> statement-breakpoint
comment on function pawl.request_backfill(regclass, text, text, integer, text, text, interval, interval) is
  'Has a worker run "update TABLE t set ASSIGNMENTS where CONDITION" in batches by KEY (null: the primary key), in the caller''s transaction. For the owner of Pawl alone, with whose rights it runs. Returns the run id; the same NAME and text return the same run. Errors: 22023 bad argument, and nothing is changed';
--> statement-breakpoint

create function pawl.backfill_done(run text) returns boolean
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$ select b.state = 'completed' from pawl.backfills b where b.run_id = run or b.run_id = 'backfill:' || run $$;
--> statement-breakpoint
comment on function pawl.backfill_done(text) is 'Whether the backfill of this run id or name has changed every row; null when there is none';
--> statement-breakpoint

create function pawl.require_backfill(run text) returns void
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  backfill record;
begin
  select b.run_id, c.state, c.done, c.total, c.error into backfill
  from pawl.backfills b
  left join pawl.runs c using (run_id)
  where b.run_id = require_backfill.run or b.run_id = 'backfill:' || require_backfill.run;
  if not found then
    raise exception 'there is no backfill "%"', require_backfill.run using errcode = '55000', hint = 'request it in an earlier migration: select pawl.request_backfill(…, name => …)';
  elsif not pawl.backfill_done(require_backfill.run) then
    raise exception 'backfill % is not done: it is % with % of about % rows%', backfill.run_id, backfill.state, backfill.done, coalesce(backfill.total::text, '?'),
        coalesce(': ' || backfill.error, '')
      using errcode = '55000', hint = format('select pawl.why(%L) says what it waits for; run "pawl migrate up" again when it has completed', backfill.run_id);
  end if;
end
$$;
--> statement-breakpoint
comment on function pawl.require_backfill(text) is 'For a migration that needs the backfill of this run id or name: raises 55000 until it is completed';
--> statement-breakpoint

-- Outcomes: started (or resumed), gone (the table was dropped, or the backfill has been completed before).
create function pawl.start_backfill(p_run_id text, p_epoch bigint) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  backfill pawl.backfills;
begin
  perform pawl.hold_run(p_run_id, p_epoch);
  select * into backfill from pawl.backfills b where b.run_id = p_run_id and b.state <> 'completed';
  if not found or to_regclass(backfill.relation) is null then
    return 'gone';
  end if;
  -- The table itself is left to the batches: somebody may wait for it just now, and they know how to give way.
  if not exists (select from pawl.lanes l where l.run_id = p_run_id) then
    insert into pawl.lanes (run_id, lane, epoch, cursor) values (p_run_id, 0, p_epoch, jsonb_build_object('size', backfill.batch_size));
  end if;
  return 'started';
end
$$;
--> statement-breakpoint
comment on function pawl.start_backfill(text, bigint) is 'Gives the run of a backfill its one lane';
--> statement-breakpoint

create function pawl.backfill_obstacle(p_backfill pawl.backfills) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  behind record;
  waiting record;
begin
  select l.pid, l.mode into waiting
  from pg_locks l
  where l.locktype = 'relation' and not l.granted and l.relation = to_regclass(p_backfill.relation)
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
  order by l.waitstart limit 1;
  if found then
    return format('process %s waits for %s on %s, and comes first', waiting.pid, waiting.mode, p_backfill.relation);
  end if;
  -- A standby whose replay stands still reports no lag, only the same place again: so a place is noted, and the time it takes them to get there.
  select coalesce(nullif(r.application_name, ''), host(r.client_addr), 'standby') as name, r.replay_lsn into behind
  from pg_stat_replication r
  where r.state = 'streaming' and r.replay_lsn < p_backfill.mark_lsn
  order by r.replay_lsn limit 1;
  if found and p_backfill.mark_at < clock_timestamp() - p_backfill.lag_limit then
    return format('standby %s has not replayed since %s, longer than %s', behind.name, date_trunc('second', p_backfill.mark_at), p_backfill.lag_limit);
  elsif behind.name is null and (p_backfill.mark_at is null or p_backfill.mark_at < clock_timestamp() - p_backfill.lag_limit / 4) then
    update pawl.backfills set mark_lsn = pg_current_wal_lsn(), mark_at = clock_timestamp() where id = p_backfill.id;
  end if;
  return null;
end
$$;
--> statement-breakpoint
comment on function pawl.backfill_obstacle(pawl.backfills) is 'Why a backfill should hold back at this moment, or null: a standby that is behind, somebody who waits for the table';
--> statement-breakpoint

-- The hot path: fence, rows and cursor in one transaction. The texts were checked when they were stored, and only Pawl's owner can store any.
create function pawl.apply_backfill_batch(
  p_run_id text, p_lane integer, p_epoch bigint, out batches integer, out rows integer, out finished boolean, out stop text, out wait_ms integer, out throttle text
)
language plpgsql security definer
set search_path = pg_catalog, pg_temp set standard_conforming_strings = on set transform_null_equals = off set datestyle = 'ISO, YMD'
set extra_float_digits = 1 set lock_timeout = '3s'
as $$
declare
  held pawl.lanes := pawl.hold(p_run_id, p_lane, p_epoch);
  backfill pawl.backfills;
  size integer := held.cursor -> 'size';
  after text := held.cursor ->> 'after';
  upto text := held.cursor ->> 'upto';
  last text;
  begun timestamptz := clock_timestamp();
  range text;
  share numeric;
begin
  batches := 0;
  rows := 0;
  wait_ms := 0;
  finished := held.finished;
  if finished then
    return;
  end if;
  select * into backfill from pawl.backfills b where b.run_id = p_run_id and b.state <> 'completed';
  if not found then
    finished := true;
    stop := 'gone';
    return;
  end if;
  throttle := pawl.backfill_obstacle(backfill);
  if throttle is not null then
    wait_ms := 500;
    stop := pawl.stop_reason(p_run_id);
    -- It stands still and is not stuck.
    update pawl.lanes l set updated_at = clock_timestamp() where l.run_id = p_run_id and l.lane = p_lane;
    update pawl.backfills b set throttle = apply_backfill_batch.throttle, throttled_at = coalesce(b.throttled_at, clock_timestamp()) where b.id = backfill.id;
    return;
  end if;
  if upto is null then
    -- Rows that come later are the business of a default or a trigger. Keys travel as text, which is exact for every type that has an order.
    execute format('select t.%1$I::text from %2$s t order by t.%1$I desc limit 1', backfill.key_column, backfill.relation) into upto;
  end if;
  range := format('t.%1$I <= $2::%2$s', backfill.key_column, backfill.key_type)
    || case when after is null then '' else format(' and t.%1$I > $1::%2$s', backfill.key_column, backfill.key_type) end;
  execute format('select max.key::text from (select t.%1$I as key from %2$s t where %3$s order by t.%1$I limit $3) max order by max.key desc limit 1',
    backfill.key_column, backfill.relation, range)
  into last using after, upto, size;
  if last is not null then
    -- The condition is part of the UPDATE: a row that somebody has changed meanwhile is looked at again, as it is then.
    perform set_config('search_path', pawl.backfill_path(backfill.search_path), true);
    -- Deferred triggers would run at the commit, with the worker's rights and path.
    set constraints all immediate;
    execute format(E'update %s t set\n%s\nwhere %s and (\n%s\n)', backfill.relation, backfill.assignments, range, backfill.condition)
    using after, last;
    get diagnostics rows = row_count;
    perform set_config('search_path', 'pg_catalog, pg_temp', true);
  end if;
  batches := 1;
  finished := last is null or last = upto;
  share := extract(epoch from backfill.batch_time) / greatest(extract(epoch from clock_timestamp() - begun), 0.0001);
  -- Whoever waits for a row of ours waits for our transaction's end.
  if exists (
    select from pg_locks l
    where l.locktype = 'transactionid' and not l.granted and l.transactionid = pg_current_xact_id()::xid
  ) then
    throttle := 'others wait for rows it changes; it works in smaller batches and rests as long as each took';
    wait_ms := least(5000, 1000 * extract(epoch from clock_timestamp() - begun))::integer;
    share := least(share, 0.5);
  end if;
  size := greatest(1, backfill.batch_size / 10, least(10 * backfill.batch_size, 1000000, size * least(2, greatest(0.5, share))))::integer;
  stop := pawl.advance(p_run_id, p_lane, p_epoch,
    jsonb_build_object('after', coalesce(last, upto), 'upto', upto, 'size', size), rows, finished);
  if backfill.throttle is distinct from apply_backfill_batch.throttle then
    update pawl.backfills b
    set throttle = apply_backfill_batch.throttle, throttled_at = case when apply_backfill_batch.throttle is not null then clock_timestamp() end
    where b.id = backfill.id;
  end if;
end
$$;
--> statement-breakpoint
comment on function pawl.apply_backfill_batch(text, integer, bigint) is
  'One fenced batch of a backfill, with its owner''s rights, or none and the reason where it should hold back. The size of the batches follows the time they take';
--> statement-breakpoint

create function pawl.backfill_throttle(p_run_id text) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select format('%s (since %s)', b.throttle, date_trunc('second', b.throttled_at)) from pawl.backfills b where b.run_id = p_run_id and b.throttle is not null
$$;
--> statement-breakpoint
comment on function pawl.backfill_throttle(text) is 'Why a backfill holds back, for pawl.why; null when it does not';
--> statement-breakpoint
revoke execute on all routines in schema pawl from public;
