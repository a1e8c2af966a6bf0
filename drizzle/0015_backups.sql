-- Backups as runs of the engine, what they left in the store, and what each worker finds of the machine it stands on.
-- Locks: new objects only.
-- A dump is one statement as far as the run can tell, and may be silent for long.
insert into pawl.kinds (kind, queue, changed_function, quiet_time) values ('backup', 'maintenance.backup', 'pawl.backup_changed', interval '30 minutes');
--> statement-breakpoint

create table pawl.backup_records (
  backup_id text primary key,
  run_id text,
  kind text not null,
  scope text not null,
  place text not null,
  taken_at timestamptz not null,
  lsn pg_lsn not null,
  server_version text not null,
  encrypted boolean not null,
  bytes bigint not null,
  tables integer not null,
  rows bigint not null,
  verified_at timestamptz,
  verify_seconds numeric,
  verify_error text,
  deleted_at timestamptz,
  recorded_at timestamptz not null default now()
);
--> statement-breakpoint
create index backup_records_taken on pawl.backup_records (taken_at desc);
--> statement-breakpoint
comment on table pawl.backup_records is
  'What "pawl backups" reads from the store, for psql: one row per backup that was taken of this database. The store is the truth; a restored database knows those up to its own';
--> statement-breakpoint

create table pawl.worker_checks (
  worker text not null,
  "check" text not null,
  ok boolean not null,
  detail text not null,
  data jsonb not null default '{}',
  checked_at timestamptz not null default now(),
  -- How long it has been as it is: what was fine an hour ago is news, what has been missing for a week is not.
  since timestamptz not null default now(),
  primary key (worker, "check")
);
--> statement-breakpoint
comment on table pawl.worker_checks is 'What each worker last found where SQL can''t look: client tools for backups, room on its disks, how fast the database answers it, its pool';
--> statement-breakpoint

create function pawl.record_worker_checks(p_worker text, p_checks jsonb) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$
  -- Workers come and go, and a pod's name never comes back.
  delete from pawl.worker_checks w where w.checked_at < now() - interval '2 days';
  delete from pawl.worker_checks w where w.worker = p_worker and w."check" not in (select c ->> 'check' from jsonb_array_elements(p_checks) c);
  insert into pawl.worker_checks as w (worker, "check", ok, detail, data)
  select p_worker, c."check", c.ok, c.detail, coalesce(c.data, '{}')
  from jsonb_to_recordset(p_checks) c ("check" text, ok boolean, detail text, data jsonb)
  on conflict (worker, "check") do update
  set ok = excluded.ok, detail = excluded.detail, data = excluded.data, checked_at = now(),
      since = case when w.ok = excluded.ok then w.since else now() end;
$$;
--> statement-breakpoint
comment on function pawl.record_worker_checks(text, jsonb) is 'Replaces what a worker last found; an array of {check, ok, detail, data}';
--> statement-breakpoint

create sequence pawl.backup_run_seq;
--> statement-breakpoint
create function pawl.request_backup(kind text default 'manual', scope text default 'full', tables text[] default null) returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  word text;
  named regclass;
  run text;
begin
  if request_backup.kind is null or request_backup.kind not in ('daily', 'weekly', 'manual', 'pre_migration') then
    raise exception 'there is no kind of backup "%"', left(coalesce(request_backup.kind, 'null'), 100) using errcode = '22023', hint = 'use daily, weekly, manual or pre_migration';
  end if;
  if request_backup.scope is null or request_backup.scope not in ('full', 'schema', 'tables') then
    raise exception 'there is no scope of a backup "%"', left(coalesce(request_backup.scope, 'null'), 100) using errcode = '22023', hint = 'use full, schema or tables';
  end if;
  if (request_backup.scope = 'tables') <> (coalesce(cardinality(request_backup.tables), 0) > 0) then
    raise exception 'scope "tables" and a list of tables belong together' using errcode = '22023', hint = 'select pawl.request_backup(''manual'', ''tables'', array[''public.campaigns''])';
  end if;
  foreach word in array coalesce(request_backup.tables, '{}') loop
    begin
      named := to_regclass(word);
    exception
      when syntax_error or invalid_name or feature_not_supported then named := null;
    end;
    if not exists (select from pg_class c where c.oid = named and c.relkind in ('r', 'p')) then
      raise exception 'there is no table "%"', left(coalesce(word, 'null'), 100) using errcode = '22023', hint = 'name tables as schema.table';
    end if;
  end loop;
  -- Two askers at once: the second one gets the first one's run.
  perform pg_advisory_xact_lock(hashtext('pawl.request_backup'), 0);
  select c.run_id into run
  from pawl.checkpoints c join pawl.lanes l on l.run_id = c.run_id and l.lane = 0
  where c.kind = 'backup' and c.state in ('pending', 'running') and c.cancel_requested_at is null
    and l.cursor ->> 'kind' = request_backup.kind and l.cursor ->> 'scope' = request_backup.scope
    and l.cursor -> 'tables' is not distinct from coalesce(to_jsonb(request_backup.tables), 'null')
  limit 1;
  if found then
    return run;
  end if;
  run := 'backup_' || nextval('pawl.backup_run_seq');
  insert into pawl.checkpoints (run_id, kind, subject)
  values (run, 'backup', format('%s backup of %s%s', replace(request_backup.kind, '_', '-'), current_database(),
    case request_backup.scope when 'full' then '' when 'schema' then ', structure only' else ', tables ' || array_to_string(request_backup.tables, ', ') end));
  insert into pawl.lanes (run_id, lane, epoch, cursor)
  values (run, 0, 0, jsonb_build_object('kind', request_backup.kind, 'scope', request_backup.scope, 'tables', request_backup.tables));
  perform pawl.deliver(run);
  return run;
end
$$;
--> statement-breakpoint
comment on function pawl.request_backup(text, text, text[]) is
  'Has a worker take a backup and prove it by a restore; the run''s id. kind: daily, weekly, manual, pre_migration; scope: full, schema, tables. One that waits or runs already is not asked for twice';
--> statement-breakpoint

-- Who has no place for backups has chosen so; a run that fails every night would teach him to look away.
create function pawl.schedule_backup(p_kind text) returns text
language sql security definer set search_path = pg_catalog, pg_temp
as $$
  select pawl.request_backup(p_kind)
  where exists (
    select from pawl.worker_checks w where w."check" = 'backup' and w.data ->> 'place' is not null and w.checked_at > now() - interval '1 day'
  )
$$;
--> statement-breakpoint
comment on function pawl.schedule_backup(text) is 'What the daily and the weekly schedule call: requests a backup where any worker has a place for one; null otherwise';
--> statement-breakpoint

-- An attempt begins at its first table: a dump can't be continued, its snapshot died with its connection.
create function pawl.begin_backup(p_run_id text, p_epoch bigint) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  request jsonb;
begin
  perform pawl.hold_run(p_run_id, p_epoch);
  update pawl.lanes set done = 0, updated_at = clock_timestamp() where run_id = p_run_id and lane = 0 returning cursor into request;
  update pawl.checkpoints set total = null, opened_done = 0 where run_id = p_run_id;
  return request;
end
$$;
--> statement-breakpoint
comment on function pawl.begin_backup(text, bigint) is 'Begins an attempt at a backup: what was asked for';
--> statement-breakpoint

create function pawl.advance_backup(p_run_id text, p_epoch bigint, p_done bigint, p_total bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform pawl.hold(p_run_id, 0, p_epoch);
  update pawl.lanes set done = p_done, batch = batch + 1, updated_at = clock_timestamp() where run_id = p_run_id and lane = 0;
  update pawl.checkpoints set total = p_total where run_id = p_run_id and total is distinct from p_total;
end
$$;
--> statement-breakpoint
comment on function pawl.advance_backup(text, bigint, bigint, bigint) is 'Says how far a backup is: tables dumped, restored and compared, of all such steps';
--> statement-breakpoint

create function pawl.record_backup(p_backup jsonb) returns void
language sql set search_path = pg_catalog, pg_temp
as $$
  insert into pawl.backup_records as b (
    backup_id, run_id, kind, scope, place, taken_at, lsn, server_version, encrypted, bytes, tables, rows, verified_at, verify_seconds, verify_error
  )
  select
    p_backup #>> '{manifest,name}', p_backup ->> 'run_id', p_backup #>> '{manifest,kind}', p_backup #>> '{manifest,scope}', p_backup ->> 'place',
    (p_backup #>> '{manifest,takenAt}')::timestamptz, (p_backup #>> '{manifest,lsn}')::pg_lsn, p_backup #>> '{manifest,server,version}',
    jsonb_array_length(p_backup #> '{manifest,sealed,recipients}') > 0,
    (select sum((f.value ->> 'bytes')::bigint) from jsonb_each(p_backup #> '{manifest,files}') f),
    t.tables, t.rows,
    (p_backup #>> '{verification,verifiedAt}')::timestamptz, (p_backup #>> '{verification,seconds}')::numeric, p_backup ->> 'verify_error'
  from (
    select count(*) as tables, coalesce(sum((e ->> 'rows')::bigint), 0) as rows from jsonb_array_elements(p_backup #> '{manifest,tables}') e
  ) t
  on conflict (backup_id) do update
  set run_id = coalesce(excluded.run_id, b.run_id), verified_at = coalesce(excluded.verified_at, b.verified_at),
      verify_seconds = coalesce(excluded.verify_seconds, b.verify_seconds), verify_error = excluded.verify_error
$$;
--> statement-breakpoint
comment on function pawl.record_backup(jsonb) is 'Writes down a backup, or that it was verified: {manifest, place, run_id, verification, verify_error}';
--> statement-breakpoint

create function pawl.finish_backup(p_run_id text, p_epoch bigint, p_backup jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- Asked again when the answer was lost with its connection.
  if exists (
    select from pawl.backup_records b join pawl.checkpoints c on c.run_id = p_run_id and c.state = 'completed'
    where b.backup_id = p_backup #>> '{manifest,name}' and b.run_id = p_run_id and b.verified_at is not null
  ) then
    return;
  end if;
  perform pawl.hold_run(p_run_id, p_epoch);
  perform pawl.record_backup(p_backup);
  perform pawl.finish(p_run_id, p_epoch, 'completed');
end
$$;
--> statement-breakpoint
comment on function pawl.finish_backup(text, bigint, jsonb) is 'Last write of a backup''s run: its record, verified, and the end of the run, together';
--> statement-breakpoint

create function pawl.backup_changed(p_run_id text, p_state text, p_error text) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$
  insert into public.system_maintenance_log (operation, affected_rows, timestamp, details)
  select 'backup_' || (l.cursor ->> 'kind'), case p_state when 'completed' then 1 else 0 end, now(),
    jsonb_strip_nulls(jsonb_build_object('run_id', p_run_id, 'state', p_state, 'error', p_error))
  from pawl.lanes l
  where l.run_id = p_run_id and l.lane = 0 and p_state in ('completed', 'failed', 'cancelled')
$$;
--> statement-breakpoint
comment on function pawl.backup_changed(text, text, text) is 'Notes the end of a backup in system_maintenance_log, as "backup_daily" and so on';
--> statement-breakpoint

create view pawl.backups as
select
  b.backup_id,
  case when b.deleted_at is not null then 'deleted' when b.verified_at is not null then 'verified' else 'unverified' end as state,
  b.kind,
  b.scope,
  b.taken_at,
  b.verified_at,
  b.bytes,
  b.tables,
  b.rows,
  b.encrypted,
  b.place,
  b.verify_error as error,
  b.run_id,
  b.verify_seconds,
  b.lsn,
  b.server_version,
  b.deleted_at
from pawl.backup_records b
order by b.taken_at desc;
--> statement-breakpoint
comment on view pawl.backups is 'Backups of this database, newest first. state: verified (a real restore had the same rows and hashes), unverified, deleted. Those that are under way: select * from pawl.runs where kind = ''backup''';
--> statement-breakpoint
comment on column pawl.backups.backup_id is 'Its name in the store';
--> statement-breakpoint
comment on column pawl.backups.state is 'verified, unverified or deleted';
--> statement-breakpoint
comment on column pawl.backups.kind is 'daily, weekly, manual or pre_migration';
--> statement-breakpoint
comment on column pawl.backups.scope is 'full, schema (structure only) or tables';
--> statement-breakpoint
comment on column pawl.backups.taken_at is 'The instant whose rows it holds';
--> statement-breakpoint
comment on column pawl.backups.verified_at is 'When a restore of it was found equal; null: it doesn''t count';
--> statement-breakpoint
comment on column pawl.backups.bytes is 'The size of its files in the store';
--> statement-breakpoint
comment on column pawl.backups.tables is 'How many tables it holds';
--> statement-breakpoint
comment on column pawl.backups.rows is 'How many rows it holds';
--> statement-breakpoint
comment on column pawl.backups.encrypted is 'Whether it was encrypted for anybody';
--> statement-breakpoint
comment on column pawl.backups.place is 'The store it lies in';
--> statement-breakpoint
comment on column pawl.backups.error is 'Why it could not be verified';
--> statement-breakpoint
comment on column pawl.backups.run_id is 'The run that took it; null when the command line did';
--> statement-breakpoint
comment on column pawl.backups.verify_seconds is 'How long restore and comparison took';
--> statement-breakpoint
comment on column pawl.backups.lsn is 'The place in the WAL it belongs to, for recovery to a point in time';
--> statement-breakpoint
comment on column pawl.backups.server_version is 'The PostgreSQL it was taken of';
--> statement-breakpoint
comment on column pawl.backups.deleted_at is 'When retention took it from the store';
--> statement-breakpoint
revoke execute on all routines in schema pawl from public;
