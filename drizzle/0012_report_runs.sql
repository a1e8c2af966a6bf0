-- Reports as runs of the engine: asking for an execution, who may, what it may read, schedules, ending.
-- Lock order everywhere: checkpoint, then report, then execution.
-- A large report may be silent for long while the server sorts.
insert into pawl.kinds (kind, queue, changed_function, quiet_time) values ('report', 'reports.execute', 'pawl.report_changed', interval '15 minutes');
--> statement-breakpoint

-- What a report may read is what this role may read, and nothing is granted to it here: tables and views are opened to reports by name.
do $$
begin
  if not exists (select from pg_roles where rolname = 'pawl_report') then
    begin
      create role pawl_report nologin;
    exception
      -- Another database of the cluster was migrated at the same moment.
      when duplicate_object or unique_violation then null;
      when insufficient_privilege then
        raise exception 'role pawl_report is missing and % may not create it', current_user
          using errcode = '42501', hint = 'let an administrator run: create role pawl_report nologin; grant pawl_report to pawl_worker';
    end;
  end if;
  if not pg_has_role('pawl_worker', 'pawl_report', 'member') then
    begin
      grant pawl_report to pawl_worker;
    exception when insufficient_privilege then
      raise exception 'pawl_worker is no member of pawl_report and % may not grant it', current_user
        using errcode = '42501', hint = 'let an administrator run: grant pawl_report to pawl_worker';
    end;
  end if;
end
$$;
--> statement-breakpoint

create table pawl.report_files (
  key text primary key,
  run_id text not null,
  epoch bigint not null,
  created_at timestamptz not null default now()
);
--> statement-breakpoint
create index report_files_run on pawl.report_files (run_id);
--> statement-breakpoint
comment on table pawl.report_files is 'Files that an attempt may have left in the store: written down before they exist, struck out when they are gone or have become the output of their execution';
--> statement-breakpoint

create function pawl.log_execution(p_execution uuid, p_level text, p_message text, p_details jsonb default null) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$
  insert into reporting.execution_logs (execution_id, execution_started_at, level, message, details)
  select e.id, e.started_at, p_level, p_message, p_details
  from reporting.report_executions e
  where e.id = p_execution
$$;
--> statement-breakpoint
comment on function pawl.log_execution(uuid, text, text, jsonb) is 'Adds a line to the log of a report''s execution';
--> statement-breakpoint

create function pawl.audit_execution(p_execution uuid, p_action text, p_values jsonb) returns void
language sql security definer set search_path = pg_catalog, pg_temp
as $$
  insert into reporting.audit_logs (user_id, organization_id, action, resource_type, resource_id, new_values)
  select e.executed_by, r.organization_id, p_action, 'execution', e.id, p_values
  from reporting.report_executions e
  join reporting.reports r on r.id = e.report_id
  where e.id = p_execution
$$;
--> statement-breakpoint
comment on function pawl.audit_execution(uuid, text, jsonb) is 'Adds a line to the audit log of the report''s organization: create when an execution was asked for, export when its file is there';
--> statement-breakpoint

-- Members of the organization: its administrators, its report managers and whoever made the report. Everyone else needs a share.
create function pawl.report_permission(p_report_id uuid, p_user_id uuid) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select case
    when u.role = 'super_admin' then 'edit'
    when u.organization_id = r.organization_id and (u.id = r.created_by or u.role in ('org_admin', 'report_manager')) then 'edit'
    else (select s.permission from reporting.report_shares s where s.report_id = r.id and s.shared_with = u.id)
  end
  from reporting.reports r, reporting.users u
  where r.id = p_report_id and u.id = p_user_id
$$;
--> statement-breakpoint
comment on function pawl.report_permission(uuid, uuid) is 'edit: may execute the report with any parameters; view: may execute it as it stands; null: may not';
--> statement-breakpoint

-- Values reach a statement as text that PostgreSQL itself has read as the declared type: '{1,2}' for integer[], never a piece of SQL.
-- Dates are written as the reader reads them, whatever the caller's session is set to.
create function pawl.report_value(p_name text, p_type text, p_value jsonb) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp set datestyle = 'ISO, YMD'
as $$
declare
  types constant jsonb := '{"text": "text", "integer": "bigint", "number": "numeric", "boolean": "boolean", "date": "date", "timestamp": "timestamptz", "uuid": "uuid"}';
  base constant text := types ->> regexp_replace(p_type, '\[\]$', '');
  value text;
begin
  if base is null then
    raise exception 'parameter "%" is declared with the type "%"', p_name, coalesce(p_type, 'null')
      using errcode = '22023', hint = 'a template''s parameters are text, integer, number, boolean, date, timestamp or uuid, or a list of one of them, such as text[]';
  end if;
  -- A null in the list of "not_in" would leave no row at all.
  if p_type like '%[]' and jsonb_typeof(p_value) = 'array'
    and not exists (select from jsonb_array_elements(p_value) e where jsonb_typeof(e) not in ('string', 'number', 'boolean')) then
    execute format('select array(select v::%s from jsonb_array_elements_text($1) v)::text', base) using p_value into value;
  elsif p_type not like '%[]' and jsonb_typeof(p_value) in ('string', 'number', 'boolean') then
    execute format('select ($1::%s)::text', base) using p_value #>> '{}' into value;
  end if;
  if value is null then
    raise exception 'parameter "%" must be of the type %, not %', p_name, p_type, left(p_value::text, 100)
      using errcode = '22023', hint = case when p_type like '%[]' then 'pass a JSON list of strings, numbers or booleans' else 'pass a JSON string, number or boolean' end;
  end if;
  return value;
exception when data_exception then
  -- Our own refusals above have such a code too, and say more.
  if sqlstate = '22023' and sqlerrm like 'parameter "%' then
    raise;
  end if;
  raise exception 'parameter "%" must be of the type %, not %', p_name, p_type, left(p_value::text, 100) using errcode = '22023', hint = sqlerrm;
end
$$;
--> statement-breakpoint
comment on function pawl.report_value(text, text, jsonb) is 'A parameter''s value as text of its declared type; raises 22023 when it is none';
--> statement-breakpoint

create function pawl.report_parameters(p_declared jsonb, p_stored jsonb, p_given jsonb) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  declared record;
  value jsonb;
  resolved jsonb := '{}';
  unknown text;
begin
  if jsonb_typeof(p_given) is distinct from 'object' then
    raise exception 'parameters must be a JSON object, not %', coalesce(jsonb_typeof(p_given), 'null')
      using errcode = '22023', hint = 'pass an object such as {"region": "EU"}, or leave them out for the report''s own';
  end if;
  select k into unknown from jsonb_object_keys(p_given) k where not coalesce(p_declared, '{}') ? k order by k limit 1;
  if found then
    raise exception 'parameter "%" is not declared by the report''s template', left(unknown, 100)
      using errcode = '22023', hint = coalesce('it declares ' || (select string_agg(k, ', ' order by k) from jsonb_object_keys(p_declared) k), 'it declares none');
  end if;
  for declared in select d.key as name, d.value as spec from jsonb_each(coalesce(p_declared, '{}')) d order by d.key loop
    -- A JSON null takes a stored value back.
    value := case when p_given ? declared.name then p_given -> declared.name else coalesce(p_stored -> declared.name, declared.spec -> 'default') end;
    if value is null or jsonb_typeof(value) = 'null' then
      if (declared.spec -> 'required')::text = 'true' then
        raise exception 'parameter "%" is required', declared.name using errcode = '22023', hint = format('pass {"%s": …} of the type %s', declared.name, declared.spec ->> 'type');
      end if;
      continue;
    end if;
    if jsonb_typeof(declared.spec -> 'choices') = 'array' and not (declared.spec -> 'choices') @> value then
      raise exception 'parameter "%" can''t be %', declared.name, left(value::text, 100) using errcode = '22023', hint = 'its choices are ' || left((declared.spec -> 'choices')::text, 500);
    end if;
    resolved := resolved || jsonb_build_object(declared.name, pawl.report_value(declared.name, coalesce(declared.spec ->> 'type', 'text'), value));
  end loop;
  -- Ten characters such as 1e99999 are a number of a hundred thousand.
  if length(resolved::text) > 200000 then
    raise exception 'the parameters have % characters when they are read, 200000 at most', length(resolved::text) using errcode = '22023', hint = 'shorten them';
  end if;
  return resolved;
end
$$;
--> statement-breakpoint
comment on function pawl.report_parameters(jsonb, jsonb, jsonb) is
  'The parameters of an execution by name, each as text of its declared type: what was given, else what the report stores, else the template''s default. Raises 22023 for unknown, missing and ill-typed ones';
--> statement-breakpoint

create function pawl.add_report_execution(p_report reporting.reports, p_user_id uuid, p_output_format text, p_given jsonb, p_scheduled_at timestamptz) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  chosen constant text := case lower(p_output_format) when 'xlsx' then 'excel' else lower(p_output_format) end;
  asking record;
  template reporting.templates;
  permission text;
  parameters jsonb;
  owner text;
  execution uuid := gen_random_uuid();
begin
  if chosen is null or chosen not in ('csv', 'json', 'html', 'excel', 'pdf') then
    raise exception 'there is no output format "%"', left(coalesce(p_output_format, 'null'), 100) using errcode = '22023', hint = 'use csv, json, html, excel or pdf';
  end if;
  select u.is_active, u.username, o.is_active as organization_active, o.name as organization into asking
  from reporting.users u join reporting.organizations o on o.id = u.organization_id
  where u.id = p_user_id;
  if not found then
    raise exception 'user % does not exist', coalesce(p_user_id::text, 'null') using errcode = '23503', hint = 'pass the id of a row of reporting.users';
  end if;
  if asking.is_active is not true or asking.organization_active is not true then
    raise exception '% is not active', case when asking.is_active is not true then format('user "%s"', asking.username) else format('organization "%s"', asking.organization) end
      using errcode = '42501', hint = 'set is_active, or let somebody else execute the report';
  end if;
  select o.name into owner from reporting.organizations o where o.id = p_report.organization_id and o.is_active is not true;
  if found then
    raise exception 'organization "%" of report % is not active', owner, p_report.id using errcode = '42501', hint = 'set is_active';
  end if;
  permission := pawl.report_permission(p_report.id, p_user_id);
  if permission is null then
    raise exception 'user "%" may not execute report %', asking.username, p_report.id
      using errcode = '42501', hint = 'its creator, its organization''s administrators and report managers may; others need a row in reporting.report_shares';
  end if;
  if permission = 'view' and p_given <> '{}' then
    raise exception 'user "%" may execute report % only with its own parameters', asking.username, p_report.id
      using errcode = '42501', hint = 'leave the parameters out, or share the report with the permission edit';
  end if;
  select t.* into strict template from reporting.templates t where t.id = p_report.template_id;
  if template.is_active is not true or not (template.organization_id = p_report.organization_id or template.is_public is true) then
    raise exception 'template "%" of report % is %', template.name, p_report.id, case when template.is_active is not true then 'not active' else 'another organization''s' end
      using errcode = '22023', hint = 'activate it, make it public, or give the report another one';
  end if;
  parameters := pawl.report_parameters(template.parameters, p_report.parameters, coalesce(p_given, '{}'));
  insert into reporting.report_executions (id, report_id, executed_by, output_format, metadata)
  values (execution, p_report.id, p_user_id, chosen,
    jsonb_build_object('parameters', parameters, 'template_version', template.version)
      || case when p_scheduled_at is null then '{}' else jsonb_build_object('scheduled_at', p_scheduled_at) end);
  -- pg-boss takes the highest first, a report's priority is 1 for the first.
  insert into pawl.checkpoints (run_id, kind, subject, priority)
  values (execution::text, 'report', format('report "%s" as %s', p_report.name, chosen), 10 - p_report.priority);
  perform pawl.log_execution(execution, 'info', case when p_scheduled_at is null then 'asked for by ' || asking.username else 'scheduled for ' || p_scheduled_at end,
    jsonb_build_object('format', chosen, 'parameters', parameters));
  perform pawl.audit_execution(execution, 'create', jsonb_build_object('report_id', p_report.id, 'output_format', chosen, 'parameters', parameters));
  perform pawl.deliver(execution::text);
  return execution;
end
$$;
--> statement-breakpoint
comment on function pawl.add_report_execution(reporting.reports, uuid, text, jsonb, timestamptz) is 'Checks who asks, the format and the parameters, and adds execution, run, log, audit row and job, in the caller''s transaction';
--> statement-breakpoint

create function pawl.run_report(report_id uuid, executed_by uuid, output_format text default 'csv', parameters jsonb default '{}') returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  report reporting.reports;
begin
  select r.* into report from reporting.reports r where r.id = run_report.report_id;
  if not found then
    raise exception 'report % does not exist', coalesce(run_report.report_id::text, 'null') using errcode = '23503', hint = 'pass the id of a row of reporting.reports';
  end if;
  if length(run_report.parameters::text) > 100000 then
    raise exception 'the parameters have % characters, 100000 at most', length(run_report.parameters::text) using errcode = '22023', hint = 'shorten them';
  end if;
  return pawl.add_report_execution(report, run_report.executed_by, run_report.output_format, run_report.parameters, null);
end
$$;
--> statement-breakpoint
comment on function pawl.run_report(uuid, uuid, text, jsonb) is
  'Executes a report as csv, json, html, excel (xlsx) or pdf, in the caller''s transaction; the parameters given win over the report''s own. Returns the execution id. Errors: 22023 bad argument, 23503 unknown report or user, 42501 the user may not';
--> statement-breakpoint

create function pawl.announce_report() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if new.scheduled_at < now() + interval '20 seconds' then
    perform pg_notify('pawl_reports', round(extract(epoch from new.scheduled_at) * 1000)::text);
  end if;
  return null;
end
$$;
--> statement-breakpoint
comment on function pawl.announce_report() is 'Wakes the wheels for a report that is due before they would look by themselves';
--> statement-breakpoint
create trigger announce_scheduled_report after insert or update of status, scheduled_at on reporting.reports
for each row when (new.status = 'scheduled') execute function pawl.announce_report();
--> statement-breakpoint

-- Each turn moves scheduled_at, and counted from the 28 February that stood for a 31st, the 31st would never come back.
create table pawl.report_rhythms (
  report_id uuid primary key references reporting.reports (id) on delete cascade,
  every text not null,
  first_at timestamptz not null,
  next_at timestamptz not null
);
--> statement-breakpoint
comment on table pawl.report_rhythms is 'Where the rhythm of a repeated report began: its turns are counted from there, until somebody sets another time or another rhythm';
--> statement-breakpoint

create function pawl.next_report_time(p_report reporting.reports) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  given constant text := p_report.configuration ->> 'repeat_every';
  every interval;
  zone constant text := (select coalesce(u.timezone, 'UTC') from reporting.users u where u.id = p_report.created_by);
  began constant timestamptz := coalesce((
    select h.first_at from pawl.report_rhythms h
    where h.report_id = p_report.id and h.every = given and h.next_at = p_report.scheduled_at), p_report.scheduled_at);
  after constant timestamptz := greatest(now(), p_report.scheduled_at);
  local timestamp;
  by_clock boolean;
  turn bigint;
  upcoming timestamptz;
begin
  if given is null then
    return null;
  end if;
  begin
    every := given::interval;
  exception when data_exception then
    raise exception 'repeat_every of report % is "%"', p_report.id, left(given, 100) using errcode = '22023', hint = 'it must be an interval such as "1 day" or "1 month"';
  end;
  -- Of mixed signs, "1 month -30 days" stands still in some months and goes back in others.
  if every < interval '1 minute' or extract(years from every) < 0 or extract(months from every) < 0 or extract(days from every) < 0 or extract(hours from every) < 0
      or extract(minutes from every) < 0 or extract(seconds from every) < 0 or not isfinite(every) or not isfinite(began) then
    raise exception 'repeat_every of report % is %, from %', p_report.id, every, began using errcode = '22023', hint = 'a minute is the least';
  end if;
  -- Days and months go by the clock of whoever made it: nine in the morning stays nine. Hours and minutes are always as long, also in the
  -- night that has an hour twice.
  -- Only now: a report that is executed once needs no time zone.
  local := began at time zone zone;
  by_clock := extract(days from every) <> 0 or extract(months from every) <> 0 or extract(years from every) <> 0;
  -- Straight to where it must be looked for: a minute's rhythm that nobody looked at for years has millions of turns. Months are up to 31
  -- days long where an interval counts 30, and clocks have been moved by a day.
  turn := greatest(0, floor((extract(epoch from after - began) - 172800)
    / (extract(epoch from every) * case when extract(months from every) + extract(years from every) > 0 then 1.04 else 1 end)));
  loop
    turn := turn + 1;
    upcoming := case when by_clock then (local + every * turn) at time zone zone else began + every * turn end;
    exit when upcoming > after;
  end loop;
  return upcoming;
end
$$;
--> statement-breakpoint
comment on function pawl.next_report_time(reporting.reports) is 'When a report with configuration.repeat_every (an interval such as "1 day") is due again: its next time after now, however long nobody looked; null when it does not repeat';
--> statement-breakpoint

-- A report that can't be started fails by itself: the others are not to wait for it.
create function pawl.start_scheduled_report(p_report reporting.reports) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  upcoming timestamptz;
  execution uuid;
begin
  upcoming := pawl.next_report_time(p_report);
  -- Slower than its own rhythm: this turn is left out.
  if upcoming is null or not exists (
    select from reporting.report_executions e
    where e.report_id = p_report.id and e.status = 'running' and e.metadata ? 'scheduled_at'
  ) then
    perform pawl.add_report_execution(p_report, p_report.created_by, coalesce(p_report.configuration ->> 'output_format', 'csv'), '{}', p_report.scheduled_at);
  end if;
  if upcoming is not null then
    insert into pawl.report_rhythms as h (report_id, every, first_at, next_at)
    values (p_report.id, p_report.configuration ->> 'repeat_every', p_report.scheduled_at, upcoming)
    on conflict (report_id) do update
    set first_at = case when h.every = excluded.every and h.next_at = p_report.scheduled_at then h.first_at else excluded.first_at end,
        every = excluded.every, next_at = excluded.next_at;
  end if;
  update reporting.reports r set status = case when upcoming is null then 'processing' else 'scheduled' end, scheduled_at = coalesce(upcoming, r.scheduled_at) where r.id = p_report.id;
exception when others then
  -- A lock, a full disk: the next turn tries again.
  if pawl.passes(sqlstate) then
    raise;
  end if;
  insert into reporting.report_executions (report_id, executed_by, status, completed_at, execution_time_ms, error_message, metadata)
  values (p_report.id, p_report.created_by, 'failed', now(), 0, sqlerrm, jsonb_build_object('scheduled_at', p_report.scheduled_at))
  returning id into execution;
  perform pawl.log_execution(execution, 'error', 'failed: ' || sqlerrm, jsonb_build_object('sqlstate', sqlstate));
  -- What repeats is tried again at its next time: a right may have come back by then.
  update reporting.reports r set status = case when upcoming is null then 'failed' else 'scheduled' end, scheduled_at = coalesce(upcoming, r.scheduled_at) where r.id = p_report.id;
end
$$;
--> statement-breakpoint
comment on function pawl.start_scheduled_report(reporting.reports) is 'Executes a report whose time has come, and sets its next time where it repeats';
--> statement-breakpoint

create function pawl.start_scheduled_reports(p_limit integer, out started integer, out more boolean, out next_at_ms double precision, out now_ms double precision)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  locked reporting.reports[];
  due reporting.reports;
begin
  started := 0;
  if not exists (select from pawl.paused_queues p where p.queue = 'reports.execute') then
    -- All at once: a turn that comes beside this one must not get ahead with those that come last.
    locked := array(
      select r from reporting.reports r
      where r.status = 'scheduled' and r.scheduled_at <= now()
      order by r.priority, r.scheduled_at, r.id
      limit p_limit
      for no key update skip locked
    );
    foreach due in array locked loop
      perform pawl.start_scheduled_report(due);
      started := started + 1;
    end loop;
    -- What is due still, somebody else has locked: it is asked for again soon, but not all the time.
    next_at_ms := extract(epoch from least(
      (select min(r.scheduled_at) from reporting.reports r where r.status = 'scheduled' and r.scheduled_at > now()),
      (select now() + interval '1 second' where exists (select from reporting.reports r where r.status = 'scheduled' and r.scheduled_at <= now()))
    )) * 1000;
  end if;
  more := started = p_limit;
  now_ms := extract(epoch from clock_timestamp()) * 1000;
end
$$;
--> statement-breakpoint
comment on function pawl.start_scheduled_reports(integer) is 'One turn of the wheel: executes the scheduled reports that are due, priority 1 first; next_at_ms: when the next one is due';
--> statement-breakpoint

-- Outcomes: started (or resumed), gone (the report was deleted, and the execution with it). p_token: the name, which says nothing, of the file this attempt will write.
create function pawl.start_report(p_run_id text, p_epoch bigint, p_token text) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  run pawl.checkpoints := pawl.hold_run(p_run_id, p_epoch);
  report reporting.reports;
  file text;
  answer jsonb;
begin
  select p_token || '.' || case e.output_format when 'excel' then 'xlsx' else e.output_format end into file
  from reporting.report_executions e where e.id = p_run_id::uuid;
  select r.* into report
  from reporting.reports r
  where r.id = (select e.report_id from reporting.report_executions e where e.id = p_run_id::uuid)
  for no key update;
  if not found then
    return jsonb_build_object('outcome', 'gone');
  end if;
  -- Asked again when the answer was lost with its connection.
  insert into pawl.report_files (key, run_id, epoch) values (file, p_run_id, p_epoch) on conflict do nothing;
  insert into pawl.lanes (run_id, lane, epoch) values (p_run_id, 0, p_epoch) on conflict do nothing;
  -- A report that waits for its time keeps it, whoever executes it meanwhile.
  update reporting.reports r set status = 'processing' where r.id = report.id and r.status not in ('scheduled', 'processing');
  perform pawl.log_execution(p_run_id::uuid, 'info', format('%s by worker %s', case when run.opened_done > 0 then 'resumed' else 'begun' end, coalesce(l.name, 'unknown')),
    jsonb_build_object('attempt', p_epoch))
  from (select) one left join pawl.leases l on l.id = run.owner;
  select jsonb_build_object(
    'outcome', 'started',
    'key', file,
    'report', jsonb_build_object('id', report.id, 'name', report.name, 'description', report.description, 'configuration', coalesce(report.configuration, '{}')),
    'template', jsonb_build_object(
      'type', t.template_type, 'structure', t.structure, 'configuration', coalesce(t.configuration, '{}'), 'parameters', coalesce(t.parameters, '{}'),
      'fields', coalesce((
        select jsonb_agg(jsonb_build_object('name', f.name, 'type', f.field_type, 'configuration', f.configuration) order by f.position, f.name)
        from reporting.template_fields f where f.template_id = t.id), '[]')
    ),
    'organization', jsonb_build_object('id', o.id, 'name', o.name),
    'user', e.executed_by,
    'format', e.output_format,
    'parameters', coalesce(e.metadata -> 'parameters', '{}'),
    'opened_at', run.opened_at,
    'cursor', l.cursor,
    'earlier', coalesce((select jsonb_agg(f.key order by f.epoch) from pawl.report_files f where f.run_id = p_run_id and f.epoch < p_epoch), '[]')
  ) into answer
  from reporting.report_executions e
  join reporting.templates t on t.id = report.template_id
  join reporting.organizations o on o.id = report.organization_id
  join pawl.lanes l on l.run_id = p_run_id and l.lane = 0
  where e.id = p_run_id::uuid;
  return answer;
end
$$;
--> statement-breakpoint
comment on function pawl.start_report(text, bigint, text) is 'Begins or resumes an execution: what is to be made of what, where the last attempt stood, and the files that earlier attempts may have left';
--> statement-breakpoint

-- The file starts anew: nothing of an earlier attempt counts.
create function pawl.restart_report(p_run_id text, p_epoch bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform pawl.hold_run(p_run_id, p_epoch);
  update pawl.lanes set cursor = '{}', done = 0, finished = false, updated_at = clock_timestamp() where run_id = p_run_id;
end
$$;
--> statement-breakpoint
comment on function pawl.restart_report(text, bigint) is 'Takes an execution back to its first row';
--> statement-breakpoint

create function pawl.adopt_report_draft(p_run_id text, p_epoch bigint, p_key text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform pawl.hold(p_run_id, 0, p_epoch);
  -- Rows that were counted behind the draft's whole part are read again, and counted again.
  update pawl.lanes
  set cursor = cursor || jsonb_build_object('file', p_key, 'part', 0), done = coalesce((cursor ->> 'total')::bigint, 0), updated_at = clock_timestamp() where run_id = p_run_id and lane = 0;
end
$$;
--> statement-breakpoint
comment on function pawl.adopt_report_draft(text, bigint, text) is 'The whole part of the last attempt''s draft stands in this one''s now, and that one may go';
--> statement-breakpoint

create function pawl.finish_report(p_run_id text, p_epoch bigint, p_key text, p_output jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  perform from pawl.checkpoints c where c.run_id = p_run_id for update;
  -- Called again after a lost answer: the file is the execution's already, and whoever is refused here removes it.
  if exists (select from reporting.report_executions e where e.id = p_run_id::uuid and e.metadata ->> 'key' = p_key) then
    return;
  end if;
  perform pawl.hold_run(p_run_id, p_epoch);
  update reporting.report_executions e
  set output_url = p_output ->> 'url', result_size_bytes = (p_output ->> 'bytes')::bigint, error_message = null,
      metadata = e.metadata || (p_output - 'url' - 'bytes') || jsonb_build_object('key', p_key, 'rows', (select l.done from pawl.lanes l where l.run_id = p_run_id and l.lane = 0))
  where e.id = p_run_id::uuid;
  -- Deleted while it was made: nobody will ask for the file, which stays a stray and is removed.
  if not found then
    perform pawl.finish(p_run_id, p_epoch, 'cancelled', 'cancelled: what it worked on was deleted');
    return;
  end if;
  -- From now on it is the execution's file, and no stray.
  delete from pawl.report_files f where f.key = p_key;
  perform pawl.finish(p_run_id, p_epoch, 'completed');
  perform pawl.audit_execution(p_run_id::uuid, 'export', p_output - 'url');
end
$$;
--> statement-breakpoint
comment on function pawl.finish_report(text, bigint, text, jsonb) is 'Last write of an execution: its file, report, log and audit row, and the end of its run, together. p_output: url, bytes, sha256, content_type, read_from';
--> statement-breakpoint

create function pawl.report_changed(p_run_id text, p_state text, p_error text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  execution record;
  ended timestamptz;
begin
  select e.id, e.report_id, c.started_at as begun, c.done into execution
  from reporting.report_executions e join pawl.checkpoints c on c.run_id = p_run_id
  where e.id = p_run_id::uuid;
  if not found then
    return;
  end if;
  perform from reporting.reports r where r.id = execution.report_id for no key update;
  ended := case when p_state in ('completed', 'failed', 'cancelled') then clock_timestamp() end;
  update reporting.report_executions e
  set status = case when ended is null then 'running' else p_state end,
      -- The server's clock may have been set back since.
      completed_at = greatest(ended, case when ended is not null then e.started_at end),
      execution_time_ms = case when ended is not null then greatest(0, least(2147483647, extract(epoch from ended - coalesce(execution.begun, ended)) * 1000))::integer end,
      error_message = p_error
  where e.id = execution.id;
  perform pawl.log_execution(execution.id, case p_state when 'completed' then 'info' when 'failed' then 'error' else 'warn' end,
    case when p_state = 'completed' then format('completed with %s rows', execution.done)
         when p_state = 'pending' and p_error is null then 'to be executed again'
         when p_state = 'pending' then 'to be tried again after: ' || p_error
         when p_state = 'failed' then 'failed: ' || p_error
         else coalesce(p_error, p_state) end);
  if ended is null then
    return;
  end if;
  -- The report's row is locked: of two executions that end together, the second sees the first one's end.
  update reporting.reports r
  set last_executed = case when p_state = 'completed' then ended else r.last_executed end,
      execution_count = r.execution_count + (p_state = 'completed')::integer,
      status = case
        when r.status = 'processing' and not exists (select from reporting.report_executions o where o.report_id = r.id and o.status = 'running') then p_state
        else r.status
      end
  where r.id = execution.report_id;
end
$$;
--> statement-breakpoint
comment on function pawl.report_changed(text, text, text) is 'Keeps execution and report in step with the run: status, times, execution_count, last_executed, log';
--> statement-breakpoint

-- With its row, the last that knows of a file is gone: it becomes a stray.
create function pawl.report_execution_deleted() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into pawl.report_files (key, run_id, epoch) values (old.metadata ->> 'key', old.id::text, 0) on conflict do nothing;
  return null;
end
$$;
--> statement-breakpoint
comment on function pawl.report_execution_deleted() is 'Gives the file of an execution that is deleted to the sweep of strays';
--> statement-breakpoint
create trigger report_execution_deleted after delete on reporting.report_executions
for each row when (old.metadata ->> 'key' is not null) execute function pawl.report_execution_deleted();
--> statement-breakpoint

-- Of runs that have ended: what is still in work or will be continued is its own worker's to clear.
create function pawl.stray_report_files(p_limit integer) returns setof text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select f.key
  from pawl.report_files f
  where not exists (select from pawl.checkpoints c where c.run_id = f.run_id and c.state in ('pending', 'running'))
    -- A row that moved to another month's partition was deleted there, too.
    and not exists (select from reporting.report_executions e where e.id = f.run_id::uuid and e.metadata ->> 'key' = f.key)
  order by f.created_at
  limit p_limit
$$;
--> statement-breakpoint
comment on function pawl.stray_report_files(integer) is 'Files in the store that belong to nothing any more';
--> statement-breakpoint
revoke execute on all routines in schema pawl from public;
