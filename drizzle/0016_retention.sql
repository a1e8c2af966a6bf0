-- How long rows are kept, and how whole months leave the database. Months ahead, for every table that is partitioned by time.
-- Locks: new objects only. What runs later takes no lock that others wait for longer than 50 ms; see docs/decisions/0012-months-leave-in-three-steps.md.
insert into pawl.kinds (kind, queue, changed_function, quiet_time) values ('archive', 'maintenance.archive', 'pawl.archive_changed', interval '1 hour');
--> statement-breakpoint

create table pawl.retention (
  relation text primary key,
  how text not null,
  keep interval,
  moment text,
  condition text,
  note text not null,
  constraint retention_how_known check (how in ('archive', 'delete', 'function')),
  constraint retention_keep_at_least_a_day check (keep >= interval '1 day'),
  constraint retention_delete_says_what check ((how = 'delete') = (moment is not null and condition is not null))
);
--> statement-breakpoint
comment on table pawl.retention is
  'How long each table keeps its rows. keep null: for ever. how: archive (whole months go to a file, then are dropped), delete (rows, oldest first, daily), function (a document''s own function does it, at the time the document states). Change one: update pawl.retention set keep = ''2 years'' where relation = …';
--> statement-breakpoint
comment on column pawl.retention.relation is 'The table';
--> statement-breakpoint
comment on column pawl.retention.how is 'archive (whole months), delete (rows) or function (the document''s own)';
--> statement-breakpoint
comment on column pawl.retention.keep is 'How long its rows stay; null is for ever';
--> statement-breakpoint
comment on column pawl.retention.note is 'Why it is so';
--> statement-breakpoint
comment on column pawl.retention.moment is 'SQL: from when on a row''s time counts; pawl.prune runs it as the owner, so only the owner may write it';
--> statement-breakpoint
comment on column pawl.retention.condition is 'SQL: which rows may go at all';
--> statement-breakpoint
insert into pawl.retention (relation, how, keep, moment, condition, note) values
  ('public.category_override_audit', 'archive', null, null, null, 'Document 000 names no end for its audit. A month that leaves takes updated_by_operation of the settings it explains with it'),
  ('public.campaign_state_log', 'archive', null, null, null, 'Document 002 moves rows older than a year into campaign_state_log_archive every month; its months are empty after that'),
  ('reporting.report_executions', 'archive', null, null, null, 'Document 001 names no end. A month leaves with its execution logs, and the files of its reports are removed from the store'),
  ('reporting.audit_logs', 'archive', null, null, null, 'Document 001 names no end for its audit'),
  ('public.category_override_operations', 'function', '30 days', null, null, 'Document 000: cleanup_old_override_operations(), daily'),
  ('public.timer_executions', 'function', '6 months', null, null, 'Document 002: cleanup_timer_executions(), weekly; completed ones only'),
  ('public.campaign_state_log_archive', 'delete', null, 'created_at', 'true', 'Document 002 archives into it and names no end'),
  ('public.campaign_metrics', 'delete', null, 'recorded_at', 'true', 'Document 002 names no end'),
  ('reporting.execution_logs', 'delete', null, 'created_at', 'true', 'Document 001 names no end; they go with the month of their executions'),
  ('reporting.user_sessions', 'delete', null, 'expires_at', 'true', 'Document 001 names no end; they are the host''s to end'),
  ('sqp.refresh_audit_log', 'delete', null, 'refresh_started_at', 'status <> ''running''', 'Document 003 names no end for its audit; refresh_data_quality goes with it'),
  ('sqp.refresh_data_quality', 'delete', null, 'created_at', 'true', 'Document 003 names no end'),
  ('sqp.refresh_checkpoints', 'delete', '30 days', 'updated_at', 'status in (''completed'', ''expired'')', 'Bookkeeping: nobody goes on with one that has ended'),
  ('pawl.checkpoints', 'delete', '90 days', 'finished_at',
    'state in (''completed'', ''failed'', ''cancelled'')
     and not exists (select from pawl.archives a where a.run_id = r.run_id and a.state <> ''dropped'')
     and not exists (select from pawl.checkpoints w where w.waits_for = r.run_id and w.state = ''pending'')',
    'Bookkeeping: runs that have ended, with their lanes and refresh steps. What they did stands in the tables of their domain'),
  ('pawl.refresh_runs', 'delete', '90 days', 'requested_at', 'not exists (select from pawl.refresh_steps s where s.refresh_run = r.id)',
    'Bookkeeping: plans whose steps have gone with their runs'),
  ('pawl.leases', 'delete', '30 days', 'stopped_at',
    'state in (''stopped'', ''lost'') and not exists (select from pawl.checkpoints c where c.owner = r.id)
     and not exists (select from public.campaign_timers t where t.status = ''RUNNING'' and t.claimed_by = r.id)',
    'Bookkeeping: workers that are gone');
--> statement-breakpoint
create function pawl.keep_documents_word() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'how long % keeps its rows is written in its document''s function', old.relation
    using errcode = '22023', hint = 'the note says which; replace that function to change it';
end
$$;
--> statement-breakpoint
comment on function pawl.keep_documents_word() is 'Refuses a new keep where it would change nothing';
--> statement-breakpoint
create trigger keep_documents_word before update of keep on pawl.retention
for each row when (old.how = 'function' and new.keep is distinct from old.keep) execute function pawl.keep_documents_word();
--> statement-breakpoint

create table pawl.archives (
  id bigint generated always as identity primary key,
  partition text not null,
  state text not null default 'planned',
  parent text not null,
  from_at timestamptz not null,
  to_at timestamptz not null,
  run_id text not null unique,
  late_writes bigint not null default 0,
  key text,
  place text,
  rows bigint,
  bytes bigint,
  sha256 text,
  content jsonb,
  planned_at timestamptz not null default now(),
  detached_at timestamptz,
  written_at timestamptz,
  verified_at timestamptz,
  dropped_at timestamptz,
  constraint archives_state_known check (state in ('planned', 'detached', 'written', 'verified', 'dropped')),
  constraint archives_written_has_file check (state not in ('written', 'verified', 'dropped') or (key is not null and rows is not null and sha256 is not null))
);
--> statement-breakpoint
create unique index archives_one_at_a_time on pawl.archives (partition) where state <> 'dropped';
--> statement-breakpoint
comment on table pawl.archives is
  'One row per month that leaves a table: planned, detached (a table by itself), written (its file is in the store), verified (the file was read back, loaded and was equal), dropped. key, place: where the file is';
--> statement-breakpoint
comment on column pawl.archives.id is 'Its number';
--> statement-breakpoint
comment on column pawl.archives.partition is 'The month''s own table';
--> statement-breakpoint
comment on column pawl.archives.state is 'planned, detached, written, verified or dropped';
--> statement-breakpoint
comment on column pawl.archives.parent is 'The table it was a month of';
--> statement-breakpoint
comment on column pawl.archives.from_at is 'Where the month begins';
--> statement-breakpoint
comment on column pawl.archives.to_at is 'Where it ends, itself not included';
--> statement-breakpoint
comment on column pawl.archives.run_id is 'The run that archives it';
--> statement-breakpoint
comment on column pawl.archives.key is 'Its file in the store';
--> statement-breakpoint
comment on column pawl.archives.place is 'The store';
--> statement-breakpoint
comment on column pawl.archives.rows is 'Rows in its file';
--> statement-breakpoint
comment on column pawl.archives.bytes is 'The size of its file';
--> statement-breakpoint
comment on column pawl.archives.sha256 is 'Of its file';
--> statement-breakpoint
comment on column pawl.archives.planned_at is 'When retention wanted it to go';
--> statement-breakpoint
comment on column pawl.archives.detached_at is 'When it left its table';
--> statement-breakpoint
comment on column pawl.archives.written_at is 'When its file was complete';
--> statement-breakpoint
comment on column pawl.archives.verified_at is 'When its file was read back and found equal';
--> statement-breakpoint
comment on column pawl.archives.dropped_at is 'When its table was dropped';
--> statement-breakpoint
comment on column pawl.archives.content is 'Count and sums of the hashes of its rows, in the snapshot that was written';
--> statement-breakpoint
comment on column pawl.archives.late_writes is 'Rows that were written after it was detached and before it was dropped; any makes it be written anew';
--> statement-breakpoint
create table pawl.archive_files (
  key text primary key,
  run_id text not null,
  epoch bigint not null,
  created_at timestamptz not null default now()
);
--> statement-breakpoint
comment on table pawl.archive_files is 'Files that an attempt may have left in the store: written down before they exist, struck out when they are gone or are the archive''s own';
--> statement-breakpoint

-- Bounds are text that the server prints by the session's settings and reads back by the same.
create view pawl.partitions as
select
  format('%I.%I', pn.nspname, pc.relname) as parent,
  format('%I.%I', cn.nspname, c.relname) as partition,
  case when i.inhdetachpending then 'detaching' else 'attached' end as state,
  b.from_at,
  b.to_at,
  ((extract(year from b.from_at at time zone 'UTC') - extract(year from now() at time zone 'UTC')) * 12
    + extract(month from b.from_at at time zone 'UTC') - extract(month from now() at time zone 'UTC'))::integer as ahead,
  nullif(c.reltuples, -1)::bigint as rows,
  pg_total_relation_size(c.oid) as bytes
from pg_partitioned_table p
join pg_attribute a on a.attrelid = p.partrelid and a.attnum = p.partattrs[0] and a.atttypid in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)
join pg_class pc on pc.oid = p.partrelid and pc.relpersistence <> 't'
join pg_namespace pn on pn.oid = pc.relnamespace
join pg_inherits i on i.inhparent = p.partrelid
join pg_class c on c.oid = i.inhrelid
join pg_namespace cn on cn.oid = c.relnamespace
-- Once a partition, and not once for each column that comes of it.
cross join lateral (select pg_get_expr(c.relpartbound, c.oid) as bound offset 0) e
cross join lateral (
  select (regexp_match(e.bound, 'FROM \(''([^'']*)'''))[1]::timestamptz as from_at, (regexp_match(e.bound, 'TO \(''([^'']*)'''))[1]::timestamptz as to_at offset 0
) b
-- pg-boss looks after its own.
where p.partstrat = 'r' and pn.nspname <> 'pgboss'
union all
select
  x.parent,
  x.partition,
  case when x.state = 'dropped' then 'archived' else 'detached' end,
  x.from_at,
  x.to_at,
  ((extract(year from x.from_at at time zone 'UTC') - extract(year from now() at time zone 'UTC')) * 12
    + extract(month from x.from_at at time zone 'UTC') - extract(month from now() at time zone 'UTC'))::integer,
  coalesce(x.rows, (select nullif(c.reltuples, -1)::bigint from pg_class c where c.oid = to_regclass(x.partition))),
  case when x.state = 'dropped' then x.bytes else pg_total_relation_size(to_regclass(x.partition)) end
from pawl.archives x
where x.state <> 'planned' and not exists (select from pg_inherits i where i.inhrelid = to_regclass(x.partition));
--> statement-breakpoint
comment on view pawl.partitions is
  'Partitions of every table that is partitioned by time. state: attached, detaching, detached (by itself, on its way out), archived (its file is in pawl.archives). ahead: months from this one. rows: as of the last ANALYZE; bytes with indexes, of the file once archived';
--> statement-breakpoint
comment on column pawl.partitions.parent is 'The partitioned table';
--> statement-breakpoint
comment on column pawl.partitions.partition is 'The month''s own table';
--> statement-breakpoint
comment on column pawl.partitions.state is 'attached, detaching, detached (on its way out) or archived (a file)';
--> statement-breakpoint
comment on column pawl.partitions.from_at is 'Where the month begins';
--> statement-breakpoint
comment on column pawl.partitions.to_at is 'Where it ends, itself not included';
--> statement-breakpoint
comment on column pawl.partitions.ahead is 'Months from this one; negative is past';
--> statement-breakpoint
comment on column pawl.partitions.rows is 'As of the last ANALYZE, or exactly once it is archived';
--> statement-breakpoint
comment on column pawl.partitions.bytes is 'With indexes; of the file once it is archived';
--> statement-breakpoint

create view pawl.months_ahead as
-- Of all tables at once: bounds are texts, and take their time to be read.
with covered as materialized (
  select p.parent, range_agg(tstzrange(p.from_at, p.to_at)) as all_of_them from pawl.partitions p where p.state = 'attached' group by p.parent
)
select t.parent, coalesce(m.ahead, 0) as ahead, m.ahead is not null as has_now
from (
  select format('%I.%I', n.nspname, c.relname) as parent
  from pg_partitioned_table p
  join pg_attribute a on a.attrelid = p.partrelid and a.attnum = p.partattrs[0] and a.atttypid in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)
  join pg_class c on c.oid = p.partrelid and c.relpersistence <> 't' and not c.relispartition
  join pg_namespace n on n.oid = c.relnamespace
  where p.partstrat = 'r' and n.nspname <> 'pgboss'
) t
left join covered using (parent)
left join lateral (
  -- From now on without a gap: a month behind a hole helps nobody when the hole comes.
  select max(s.months) as ahead
  from generate_series(0, 120) s (months)
  where covered.all_of_them @> tstzrange(now(), (date_trunc('month', now() at time zone 'UTC') + make_interval(months => s.months + 1)) at time zone 'UTC')
) m on true;
--> statement-breakpoint
comment on view pawl.months_ahead is 'For every table partitioned by time: how many whole months behind this one can be written to, as its partitions'' bounds say';
--> statement-breakpoint
comment on column pawl.months_ahead.parent is 'The partitioned table';
--> statement-breakpoint
comment on column pawl.months_ahead.ahead is 'How many whole months behind this one can be written to';
--> statement-breakpoint
comment on column pawl.months_ahead.has_now is 'Whether this very moment has a partition: without it rows are refused';
--> statement-breakpoint

create function pawl.extend_partitions(months_ahead integer default 3) returns table (parent text, created integer)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if extend_partitions.months_ahead is null or extend_partitions.months_ahead not between 1 and 60 then
    raise exception 'months ahead must be 1 to 60, not %', coalesce(extend_partitions.months_ahead::text, 'null') using errcode = '22023', hint = 'select * from pawl.extend_partitions(3)';
  end if;
  return query
  select r.relation, pawl.ensure_month_partitions(r.relation::regclass, extend_partitions.months_ahead)
  from pawl.retention r
  where r.how = 'archive' and (select c.relkind from pg_class c where c.oid = to_regclass(r.relation)) = 'p'
  order by r.relation;
end
$$;
--> statement-breakpoint
comment on function pawl.extend_partitions(integer) is 'Creates this month''s partition and those of the months ahead for every table that pawl.retention archives by month; how many were new';
--> statement-breakpoint

-- Each batch is found, locked and deleted by itself, oldest first; what someone else has locked is for tomorrow. A row's place is its own within
-- one partition only. Finding a batch may mean to read and sort the whole table: of a million runs, 20 batches of 1000 took 16 s, one of 20000 took 4 s.
create function pawl.prune(p_rows integer default 20000, p_batch integer default 20000) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  rule pawl.retention;
  gone bigint;
  batch bigint;
  counts jsonb := '{}';
  errors jsonb := '{}';
  sum_of_all bigint := 0;
  more boolean := false;
begin
  -- Two at once would only wait for each other.
  if not pg_try_advisory_xact_lock(hashtext('pawl.prune'), 0) then
    return 0;
  end if;
  for rule in select * from pawl.retention r where r.how = 'delete' and r.keep is not null and to_regclass(r.relation) is not null order by r.relation loop
    gone := 0;
    begin
      loop
        execute format(
          'with gone as materialized (
             select r.tableoid as part, r.ctid as place from %1$s r where (%2$s) and (%3$s) < now() - $1 order by (%3$s) limit $2 for update skip locked
           )
           delete from %1$s t using gone where t.ctid = gone.place and t.tableoid = gone.part',
          rule.relation::regclass, rule.condition, rule.moment
        ) using rule.keep, least(p_batch, p_rows - gone);
        get diagnostics batch = row_count;
        gone := gone + batch;
        exit when batch < p_batch or gone >= p_rows;
      end loop;
    exception
      -- One rule that can't be followed must not keep all others from being; pawl.health names it. What it had deleted comes back.
      when undefined_column or undefined_function or datatype_mismatch or syntax_error or foreign_key_violation or insufficient_privilege or invalid_text_representation then
        gone := 0;
        errors := errors || jsonb_build_object(rule.relation, sqlerrm);
    end;
    more := more or gone >= p_rows;
    sum_of_all := sum_of_all + gone;
    if gone > 0 then
      counts := counts || jsonb_build_object(rule.relation, gone);
    end if;
  end loop;
  insert into public.system_maintenance_log (operation, affected_rows, timestamp, details) values ('prune_history', least(sum_of_all, 2147483647), now(),
    counts || case when errors = '{}' then '{}' else jsonb_build_object('errors', errors) end);
  -- The rest in transactions of their own, so that none holds its locks for long.
  if more then
    perform pawl.enqueue('maintenance.sweep', '{"schedule": "prune-history"}');
  end if;
  return sum_of_all;
end
$$;
--> statement-breakpoint
comment on function pawl.prune(integer, integer) is 'Deletes what pawl.retention keeps no longer, oldest first, at most p_rows of each table; counts go into system_maintenance_log, and what is left is asked for at once';
--> statement-breakpoint

create function pawl.archive_changed(p_run_id text, p_state text, p_error text) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$
  insert into public.system_maintenance_log (operation, affected_rows, timestamp, details)
  select 'archive_partition', least(coalesce(a.rows, 0), 2147483647), now(),
    jsonb_strip_nulls(jsonb_build_object('partition', a.partition, 'state', p_state, 'key', a.key, 'bytes', a.bytes, 'error', p_error))
  from pawl.archives a
  where a.run_id = p_run_id and p_state in ('completed', 'failed', 'cancelled')
$$;
--> statement-breakpoint
comment on function pawl.archive_changed(text, text, text) is 'Notes in system_maintenance_log how the archive of a month ended';
--> statement-breakpoint

create function pawl.add_archive(p_partition text, p_parent text, p_from timestamptz, p_to timestamptz, p_state text) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  run text := 'archive:' || p_partition;
begin
  -- A month that was archived, brought back and is old again: its first run has its name, also where retention has taken that run since.
  if exists (select from pawl.checkpoints c where c.run_id = run) or exists (select from pawl.archives a where a.run_id = run) then
    select run || ':' || n into run
    from generate_series(2, 1000) n
    where not exists (select from pawl.checkpoints c where c.run_id = run || ':' || n)
      and not exists (select from pawl.archives a where a.run_id = run || ':' || n)
    order by n limit 1;
  end if;
  insert into pawl.archives (partition, parent, from_at, to_at, state, detached_at, run_id)
  values (p_partition, p_parent, p_from, p_to, p_state, case when p_state = 'detached' then now() end, run)
  on conflict do nothing;
  if not found then
    return null;
  end if;
  insert into pawl.checkpoints (run_id, kind, subject) values (run, 'archive', format('%s of %s', to_char(p_from at time zone 'UTC', 'YYYY-MM'), p_parent));
  perform pawl.deliver(run);
  return run;
end
$$;
--> statement-breakpoint
comment on function pawl.add_archive(text, text, timestamptz, timestamptz, text) is 'Writes down a month that is to leave, with its run; null when it is under way already';
--> statement-breakpoint

-- Rows that a run will still write to must stay where it finds them.
create function pawl.archive_hindrance(p_parent text, p_partition text) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  unfinished bigint := 0;
begin
  if p_parent = 'reporting.report_executions' then
    execute format('select count(*) from %s where status = ''running''', p_partition::regclass) into unfinished;
  elsif p_parent = 'public.category_override_audit' then
    execute format('select count(*) from %s where operation_status = ''STARTED''', p_partition::regclass) into unfinished;
  end if;
  return case when unfinished > 0 then format('%s of its rows are still at work', unfinished) end;
end
$$;
--> statement-breakpoint
comment on function pawl.archive_hindrance(text, text) is 'Why a month can''t leave yet, or null';
--> statement-breakpoint

create function pawl.plan_archives() returns setof text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  month record;
  run text;
  planned integer := 0;
begin
  perform pg_advisory_xact_lock(hashtext('pawl.plan_archives'), 0);
  for month in
    select p.parent, p.partition, p.from_at, p.to_at
    from pawl.partitions p
    join pawl.retention r on r.relation = p.parent
    where r.how = 'archive' and p.state = 'attached' and p.to_at <= now() - r.keep
    order by p.from_at, p.partition
  loop
    if pawl.archive_hindrance(month.parent, month.partition) is null then
      run := pawl.add_archive(month.partition, month.parent, month.from_at, month.to_at, 'planned');
      if run is not null then
        planned := planned + 1;
        return next run;
      end if;
    end if;
  end loop;
  insert into public.system_maintenance_log (operation, affected_rows, timestamp) values ('plan_archives', planned, now());
end
$$;
--> statement-breakpoint
comment on function pawl.plan_archives() is 'Has every whole month that pawl.retention keeps no longer archived, and dropped after that; the new runs. Months with rows still at work wait for the next plan';
--> statement-breakpoint

create function pawl.hold_archive(p_run_id text, p_epoch bigint) returns pawl.archives
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  archive pawl.archives;
begin
  perform pawl.hold_run(p_run_id, p_epoch);
  select * into strict archive from pawl.archives a where a.run_id = p_run_id for update;
  return archive;
end
$$;
--> statement-breakpoint
comment on function pawl.hold_archive(text, bigint) is 'Locks run and archive where the epoch is still ours; raises PW001 otherwise';
--> statement-breakpoint

create function pawl.step_archive(p_run_id text, p_epoch bigint, p_step jsonb, p_done bigint) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$
  update pawl.lanes
  set cursor = cursor || p_step, done = coalesce(p_done, done), updated_at = clock_timestamp(),
      -- What each attempt does anew is no way forward: a month that kills its worker there must come to be known as poison.
      batch = batch + (p_step ->> 'step' not in ('writing', 'written', 'written to'))::integer
  where run_id = p_run_id and lane = 0 and epoch = p_epoch
$$;
--> statement-breakpoint
comment on function pawl.step_archive(text, bigint, jsonb, bigint) is 'Notes a step of an archive''s run in its lane';
--> statement-breakpoint

-- Outcomes: started, gone (its table was dropped by someone else), kept (pawl.retention keeps it longer by now).
create function pawl.start_archive(p_run_id text, p_epoch bigint) returns jsonb
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  archive pawl.archives := pawl.hold_archive(p_run_id, p_epoch);
  part regclass := to_regclass(archive.partition);
  hindrance text;
begin
  insert into pawl.lanes (run_id, lane, epoch) values (p_run_id, 0, p_epoch) on conflict do nothing;
  if part is null then
    perform pawl.finish(p_run_id, p_epoch, 'cancelled', 'cancelled: its table was dropped by someone else');
    -- Its name must be free for the month that somebody makes anew.
    if archive.key is null then
      delete from pawl.archives a where a.id = archive.id;
    else
      update pawl.archives a set state = 'dropped', dropped_at = now() where a.id = archive.id;
    end if;
    return jsonb_build_object('outcome', 'gone');
  end if;
  if archive.state = 'planned' and exists (select from pg_inherits i where i.inhrelid = part and not i.inhdetachpending) then
    if not exists (select from pawl.retention r where r.relation = archive.parent and r.how = 'archive' and archive.to_at <= now() - r.keep) then
      perform pawl.finish(p_run_id, p_epoch, 'cancelled', 'cancelled: pawl.retention keeps it longer by now');
      delete from pawl.archives a where a.id = archive.id;
      return jsonb_build_object('outcome', 'kept');
    end if;
    hindrance := pawl.archive_hindrance(archive.parent, archive.partition);
    if hindrance is not null then
      raise exception '% can''t be archived: %', archive.partition, hindrance
        using errcode = '22023', hint = format('end or cancel them (select * from pawl.runs where state in (''pending'', ''running'')), then select pawl.retry(%L)', p_run_id);
    end if;
  end if;
  -- What is granted on a table is not granted on its partitions.
  execute format('grant select on %s to pawl_worker', part);
  return jsonb_build_object(
    'outcome', 'started',
    'stop', pawl.stop_reason(p_run_id),
    'state', archive.state,
    'parent', archive.parent,
    'partition', archive.partition,
    'from', archive.from_at,
    'to', archive.to_at,
    'relation', (select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = part),
    'table', (select c.relname from pg_class c where c.oid = to_regclass(archive.parent)),
    -- CONCURRENTLY is for the owner, outside of functions, and not beside a default partition.
    'concurrently', coalesce((
      select pg_has_role(session_user, c.relowner, 'usage') and p.partdefid = 0
      from pg_class c join pg_partitioned_table p on p.partrelid = c.oid where c.oid = to_regclass(archive.parent)
    ), false),
    'key', archive.key,
    'sha256', archive.sha256,
    'rows', archive.rows
  );
end
$$;
--> statement-breakpoint
comment on function pawl.start_archive(text, bigint) is 'Where an archive stands and what it is about; asked before each step';
--> statement-breakpoint

-- Log lines keep their execution from leaving. They go ahead into a table of their own, which is archived like a month.
create function pawl.move_dependents(p_run_id text, p_epoch bigint, p_limit integer) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '50ms'
as $$
declare
  archive pawl.archives := pawl.hold_archive(p_run_id, p_epoch);
  logs text := 'execution_logs_y' || to_char(archive.from_at at time zone 'UTC', 'YYYY"m"MM');
  page uuid[];
begin
  if archive.parent <> 'reporting.report_executions' or archive.state <> 'planned' then
    return 0;
  end if;
  execute format('select array_agg(e.id order by e.id) from (select id from %s where id > $1 order by id limit $2) e', archive.partition::regclass)
    into page
    using (select coalesce(l.cursor ->> 'logs_after', '00000000-0000-0000-0000-000000000000')::uuid from pawl.lanes l where l.run_id = p_run_id and l.lane = 0), p_limit;
  if page is null then
    -- Should one be added meanwhile, the detaching is refused and a second pass finds it.
    update pawl.lanes l set cursor = l.cursor - 'logs_after' where l.run_id = p_run_id;
    return 0;
  end if;
  if exists (select from reporting.execution_logs l where l.execution_id = any (page)) then
    if to_regclass(format('reporting.%I', logs)) is null then
      execute format('create table reporting.%I (like reporting.execution_logs)', logs);
      execute format('comment on table reporting.%I is %L', logs, 'Log lines of executions that are being archived; they are archived after them');
    end if;
    execute format(
      'with gone as (
         delete from reporting.execution_logs l
         where l.execution_id = any ($1) and l.execution_started_at >= $2 and l.execution_started_at < $3
         returning l.*
       )
       insert into reporting.%I select * from gone', logs
    ) using page, archive.from_at, archive.to_at;
  end if;
  perform pawl.step_archive(p_run_id, p_epoch, jsonb_build_object('step', 'moving log lines', 'logs_after', page[cardinality(page)]), null);
  return cardinality(page);
end
$$;
--> statement-breakpoint
comment on function pawl.move_dependents(text, bigint, integer) is 'Moves what refers to the month''s rows out of the way, a batch at a time; 0 when nothing is left';
--> statement-breakpoint

create function pawl.note_late_write() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update pawl.archives set late_writes = late_writes + 1 where partition = format('%I.%I', tg_table_schema, tg_table_name) and state <> 'dropped';
  return null;
end
$$;
--> statement-breakpoint
comment on function pawl.note_late_write() is 'A detached month was written to (a cascade, a person): its file would be of yesterday';
--> statement-breakpoint

-- With p_detach, for workers that don't own the table: ACCESS EXCLUSIVE on the parent, waited for no longer than others may wait behind it.
create function pawl.detach_archive(p_run_id text, p_epoch bigint, p_detach boolean) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '50ms'
as $$
declare
  archive pawl.archives := pawl.hold_archive(p_run_id, p_epoch);
  part regclass := archive.partition::regclass;
  logs text := 'reporting.execution_logs_y' || to_char(archive.from_at at time zone 'UTC', 'YYYY"m"MM');
begin
  if archive.state <> 'planned' then
    return;
  end if;
  if exists (select from pg_inherits i where i.inhrelid = part) then
    if not p_detach then
      raise exception '% is still attached to %', archive.partition, archive.parent using errcode = '55000';
    end if;
    execute format('alter table %s detach partition %s %s', archive.parent::regclass, part,
      (select case when i.inhdetachpending then 'finalize' else '' end from pg_inherits i where i.inhrelid = part));
  end if;
  execute format('create or replace trigger note_late_write after insert or update or delete on %s for each row execute function pawl.note_late_write()', part);
  execute format('create or replace trigger note_late_truncate after truncate on %s for each statement execute function pawl.note_late_write()', part);
  execute format('comment on table %s is %L', part, format('Detached from %s to be archived: select * from pawl.archives where partition = %L', archive.parent, archive.partition));
  update pawl.archives a set state = 'detached', detached_at = clock_timestamp() where a.id = archive.id;
  perform pawl.step_archive(p_run_id, p_epoch, jsonb_build_object('step', 'detached'), null);
  -- From now on no line can be added: each would have to name an execution.
  if archive.parent = 'reporting.report_executions' and to_regclass(logs) is not null then
    perform pawl.add_archive(logs, 'reporting.execution_logs', archive.from_at, archive.to_at, 'detached');
  end if;
end
$$;
--> statement-breakpoint
comment on function pawl.detach_archive(text, bigint, boolean) is 'The month is a table by itself: detached here, or by its owner before. From now on every write to it is noted';
--> statement-breakpoint

create function pawl.begin_archive_file(p_run_id text, p_epoch bigint, p_key text) returns setof text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  archive pawl.archives := pawl.hold_archive(p_run_id, p_epoch);
begin
  if archive.state not in ('detached', 'written', 'verified') then
    raise exception '% is %, not detached', archive.partition, archive.state using errcode = '55000';
  end if;
  insert into pawl.archive_files (key, run_id, epoch)
  select f.key, p_run_id, p_epoch from unnest(array[p_key, archive.key]) f (key) where f.key is not null
  on conflict do nothing;
  -- The count starts anew with the snapshot that comes after this.
  update pawl.archives a
  set state = 'detached', late_writes = 0, key = null, place = null, rows = null, bytes = null, sha256 = null, content = null, written_at = null, verified_at = null
  where a.id = archive.id;
  perform pawl.step_archive(p_run_id, p_epoch, jsonb_build_object('step', 'writing'), 0);
  return query select f.key from pawl.archive_files f where f.run_id = p_run_id and f.key <> p_key;
end
$$;
--> statement-breakpoint
comment on function pawl.begin_archive_file(text, bigint, text) is 'Writes a file''s key down before the file exists; the keys that earlier attempts may have left';
--> statement-breakpoint

create function pawl.touch_archive(p_run_id text, p_epoch bigint) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform pawl.hold(p_run_id, 0, p_epoch);
  update pawl.lanes set updated_at = clock_timestamp() where run_id = p_run_id and lane = 0;
end
$$;
--> statement-breakpoint
comment on function pawl.touch_archive(text, bigint) is 'Says that a long step still moves; raises PW001 when the run is another''s';
--> statement-breakpoint

create function pawl.archive_written(p_run_id text, p_epoch bigint, p_file jsonb) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  archive pawl.archives := pawl.hold_archive(p_run_id, p_epoch);
begin
  update pawl.archives a
  set state = 'written', key = p_file ->> 'key', place = p_file ->> 'place', rows = (p_file ->> 'rows')::bigint, bytes = (p_file ->> 'bytes')::bigint,
      sha256 = p_file ->> 'sha256', content = p_file -> 'content', written_at = clock_timestamp()
  where a.id = archive.id and a.state in ('detached', 'written');
  update pawl.checkpoints c set total = (p_file ->> 'rows')::bigint where c.run_id = p_run_id;
  perform pawl.step_archive(p_run_id, p_epoch, jsonb_build_object('step', 'written'), (p_file ->> 'rows')::bigint);
end
$$;
--> statement-breakpoint
comment on function pawl.archive_written(text, bigint, jsonb) is 'The file is in the store: {key, place, rows, bytes, sha256, content}';
--> statement-breakpoint

create function pawl.archive_verified(p_run_id text, p_epoch bigint, p_key text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  archive pawl.archives := pawl.hold_archive(p_run_id, p_epoch);
begin
  if archive.state not in ('written', 'verified') or archive.key is distinct from p_key then
    raise exception '% was not written as %', archive.partition, p_key using errcode = '55000';
  end if;
  update pawl.archives a set state = 'verified', verified_at = clock_timestamp() where a.id = archive.id;
  -- From now on it is the archive's file, and no stray.
  delete from pawl.archive_files f where f.key = p_key;
  perform pawl.step_archive(p_run_id, p_epoch, jsonb_build_object('step', 'verified'), null);
end
$$;
--> statement-breakpoint
comment on function pawl.archive_verified(text, bigint, text) is 'The file was read back from the store, loaded and is equal to the month';
--> statement-breakpoint

-- What knows of the month's rows and would outlive them. Returns how much was done; 0: nothing is left.
create function pawl.clear_dependents(p_run_id text, p_epoch bigint, p_limit integer) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '50ms'
as $$
declare
  archive pawl.archives := pawl.hold_archive(p_run_id, p_epoch);
  part regclass := archive.partition::regclass;
  operation text;
  last_id uuid;
  changed bigint;
  done bigint := 0;
begin
  if archive.state <> 'verified' then
    raise exception '% is %, not verified', archive.partition, archive.state using errcode = '55000';
  end if;
  if archive.parent = 'public.category_override_audit' then
    -- The reference would empty all rows of an operation in one go.
    while done < p_limit loop
      execute format('select k.operation_id from public.category_override_audit_keys k where exists (select from %s a where a.operation_id = k.operation_id) limit 1', part)
        into operation;
      exit when operation is null;
      update public.category_recipient_settings s set updated_by_operation = null
      where s.ctid = any (array(
        select r.ctid from public.category_recipient_settings r where r.updated_by_operation = operation and r.is_override_generated limit p_limit for update
      ));
      get diagnostics changed = row_count;
      if changed < p_limit then
        delete from public.category_override_audit_keys k where k.operation_id = operation;
      end if;
      done := done + changed + 1;
    end loop;
  elsif archive.parent = 'reporting.report_executions' then
    execute format(
      'with page as (select id, metadata ->> ''key'' as key from %s where id > coalesce($1, ''00000000-0000-0000-0000-000000000000'') order by id limit $2),
         strays as (insert into pawl.report_files (key, run_id, epoch) select key, id::text, 0 from page where key is not null on conflict do nothing)
       select max(id::text)::uuid, count(*) from page', part
    ) into last_id, done using (select (l.cursor ->> 'files_after')::uuid from pawl.lanes l where l.run_id = p_run_id and l.lane = 0), p_limit;
  end if;
  if done > 0 then
    perform pawl.step_archive(p_run_id, p_epoch, jsonb_strip_nulls(jsonb_build_object('step', 'clearing', 'files_after', last_id)), null);
  end if;
  return done;
end
$$;
--> statement-breakpoint
comment on function pawl.clear_dependents(text, bigint, integer) is 'Audit: takes the month''s operation ids out of settings and keys. Executions: gives their files to the sweep of strays. A batch a call';
--> statement-breakpoint

-- Outcomes: dropped (and the run with it completed), changed (someone wrote to it: it is to be written anew).
create function pawl.drop_archive(p_run_id text, p_epoch bigint) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '50ms'
as $$
declare
  archive pawl.archives;
  counted bigint;
begin
  -- Asked again when the answer was lost with its connection.
  if exists (select from pawl.archives a join pawl.checkpoints c using (run_id) where a.run_id = p_run_id and a.state = 'dropped' and c.state = 'completed') then
    return 'dropped';
  end if;
  archive := pawl.hold_archive(p_run_id, p_epoch);
  if archive.state <> 'verified' then
    raise exception '% is %, not verified: it stays', archive.partition, archive.state using errcode = '55000';
  end if;
  if exists (select from pg_inherits i where i.inhrelid = archive.partition::regclass) then
    raise exception '% was attached again: it stays', archive.partition using errcode = '55000', hint = format('select pawl.cancel(%L)', p_run_id);
  end if;
  -- Counted before it is locked: whoever writes meanwhile leaves a note, and the lock waits for him.
  execute format('select count(*) from %s', archive.partition::regclass) into counted;
  execute format('lock table %s in access exclusive mode', archive.partition::regclass);
  if counted <> archive.rows or (select a.late_writes from pawl.archives a where a.id = archive.id) > 0 then
    -- Its file stands down as a stray until the next one is there.
    insert into pawl.archive_files (key, run_id, epoch) values (archive.key, p_run_id, 0) on conflict do nothing;
    update pawl.archives a set state = 'detached', verified_at = null, written_at = null where a.id = archive.id;
    update pawl.lanes l set cursor = l.cursor - 'files_after' where l.run_id = p_run_id;
    perform pawl.step_archive(p_run_id, p_epoch, jsonb_build_object('step', 'written to'), 0);
    return 'changed';
  end if;
  execute format('drop table %s', archive.partition::regclass);
  update pawl.archives a set state = 'dropped', dropped_at = clock_timestamp() where a.id = archive.id;
  perform pawl.step_archive(p_run_id, p_epoch, jsonb_build_object('step', 'dropped'), null);
  perform pawl.finish(p_run_id, p_epoch, 'completed');
  return 'dropped';
end
$$;
--> statement-breakpoint
comment on function pawl.drop_archive(text, bigint) is 'Drops the detached month whose file was verified and that nobody has written to since, and completes the run, together';
--> statement-breakpoint

create function pawl.stray_archive_files(p_limit integer) returns setof text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select f.key
  from pawl.archive_files f
  where not exists (select from pawl.checkpoints c where c.run_id = f.run_id and c.state in ('pending', 'running'))
  order by f.created_at
  limit p_limit
$$;
--> statement-breakpoint
comment on function pawl.stray_archive_files(integer) is 'Files in the store that belong to no archive: their runs have ended without them';
--> statement-breakpoint
create function pawl.forget_archive_files(p_keys text[]) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$ delete from pawl.archive_files f where f.key = any (p_keys) $$;
--> statement-breakpoint
comment on function pawl.forget_archive_files(text[]) is 'Strikes out files that were removed from the store';
--> statement-breakpoint
revoke execute on all routines in schema pawl from public;
