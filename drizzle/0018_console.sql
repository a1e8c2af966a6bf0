-- What operators see and steer, and who may do what.
create function pawl.queue_counts()
returns table (queue text, ready bigint, delayed bigint, active bigint, failed bigint, oldest_ready_seconds integer)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- plpgsql binds late, so that no view of ours stands in the way of a pg-boss upgrade that alters its tables.
  return query
  select q.name,
    coalesce(j.ready, 0), coalesce(j.delayed, 0), coalesce(j.active, 0), q.failed_count::bigint, j.oldest
  from pgboss.queue q
  left join (
    select job.name,
      count(*) filter (where job.state < 'active' and not job.blocked and job.start_after <= now()) as ready,
      count(*) filter (where job.state < 'active' and (job.blocked or job.start_after > now())) as delayed,
      count(*) filter (where job.state = 'active') as active,
      -- Whoever writes into pgboss.job himself may write any time.
      -- Floored row by row: least() of a number and of no ready job at all would be the number.
      extract(epoch from now() - min(greatest(job.start_after, now() - interval '60 years')) filter (where job.state < 'active' and not job.blocked and job.start_after <= now()))::integer as oldest
    from pgboss.job job
    -- Named one by one, as in the condition of pg-boss's index: what is over is not read.
    where job.state in ('created', 'retry', 'active')
    group by job.name
  ) j on j.name = q.name
  where q.name not like '\_\_pgboss%';
end
$$;
--> statement-breakpoint
comment on function pawl.queue_counts() is 'Waiting, active and failed jobs of each queue, counted now; failed as of pg-boss''s last monitor pass';
--> statement-breakpoint

create function pawl.waiting_jobs(p_run_id text) returns table (state text, start_after timestamptz, ahead bigint)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select j.state::text, j.start_after,
    (
      select count(*) from pgboss.job o
      where o.name = j.name and o.state < 'active' and not o.blocked and o.start_after <= now()
        and (o.priority > j.priority or (o.priority = j.priority and o.created_on < j.created_on))
    )
  from pawl.checkpoints c
  join pawl.kinds k using (kind)
  join pgboss.job j on j.name = k.queue and j.id = c.job_id
  where c.run_id = p_run_id;
end
$$;
--> statement-breakpoint
comment on function pawl.waiting_jobs(text) is 'The job that is to bring a run to a worker, and how many stand before it';
--> statement-breakpoint

create function pawl.job_due(p_run_id text) returns timestamptz
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select j.start_after
    from pawl.checkpoints c
    join pawl.kinds k using (kind)
    join pgboss.job j on j.name = k.queue and j.id = c.job_id
    where c.run_id = p_run_id
  );
end
$$;
--> statement-breakpoint
comment on function pawl.job_due(text) is 'When the job that is to bring a run to a worker may be taken; null when there is none';
--> statement-breakpoint

create function pawl.timer_error(p_timer uuid) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select x.error_message from public.timer_executions x where x.timer_id = p_timer and x.status = 'FAILED' order by x.started_at desc limit 1
$$;
--> statement-breakpoint
comment on function pawl.timer_error(uuid) is 'Why the timer''s last attempt failed';
--> statement-breakpoint

-- Each half is one table and expressions of it, with no join and no condition of its own, and the expressions are those of the indexes: only so
-- does the planner look through the UNION ALL and read the newest rows, or those of a state, by the indexes of both. (With joins, the first twenty
-- of a million runs took three seconds.) statement_timestamp() and not clock_timestamp(), which as a volatile function would bar the way again.
create view pawl.runs as
select
  c.run_id,
  c.kind,
  c.state,
  c.subject,
  c.moved as done,
  c.total,
  case when c.state = 'completed' then 100.0 when c.total > 0 then least(100.0, round(c.moved * 100.0 / c.total, 1)) end as percent,
  c.rows_per_second,
  case when c.state = 'running' and c.rows_per_second > 0 and c.total >= c.moved
    then statement_timestamp() + (c.total - c.moved) / c.rows_per_second * interval '1 second' end as eta,
  case when c.started_at is not null then least(c.failures, c.failures_max) + case when c.state = 'failed' and c.failures > 0 then 0 else 1 end end as attempt,
  c.failures,
  (select l.name from pawl.leases l where l.id = c.owner) as worker,
  c.started_at,
  case when c.state in ('pending', 'running') then greatest(c.updated_at, (select max(lane.updated_at) from pawl.lanes lane where lane.run_id = c.run_id))
    else c.updated_at end as updated_at,
  c.finished_at,
  c.error,
  c.requested_at,
  c.requested_by,
  c.cancel_requested_by as cancelled_by,
  c.cancel_requested_at as cancelled_at,
  c.cancel_reason
from (
  select p.*,
    case
      when p.state = 'running' then round((p.moved - p.opened_done) / greatest(extract(epoch from statement_timestamp() - p.opened_at), 0.001))
      when p.state = 'completed' then round(p.moved / greatest(extract(epoch from p.finished_at - p.started_at), 0.001))
    end as rows_per_second
  from (
    select run.*,
      case when run.state in ('pending', 'running')
        then coalesce((select sum(lane.done) from pawl.lanes lane where lane.run_id = run.run_id), run.done)::bigint
        else run.done end as moved
    from pawl.checkpoints run
  ) p
) c
union all
select
  t.id::text,
  'timer',
  case when t.status = 'PENDING' or (t.status = 'FAILED' and t.retry_count < 5) then 'pending' else lower(t.status) end,
  t.timer_type || ' of campaign ' || t.campaign_id,
  case when t.status = 'COMPLETED' then 1 else 0 end::bigint,
  1::bigint,
  case when t.status = 'COMPLETED' then 100.0 else 0.0 end,
  null::numeric,
  case when t.status = 'PENDING' or (t.status = 'FAILED' and t.retry_count < 5) then coalesce(t.next_attempt_at, t.scheduled_at) end,
  t.retry_count + 1,
  case when t.status = 'FAILED' then least(5, t.retry_count) + 1 else t.retry_count end,
  (select l.name from pawl.leases l where l.id = t.claimed_by),
  case when t.status <> 'PENDING' then coalesce(t.executed_at, t.updated_at) end,
  t.updated_at,
  case when t.status in ('COMPLETED', 'CANCELLED') or (t.status = 'FAILED' and t.retry_count >= 5) then coalesce(t.executed_at, t.updated_at) end,
  case t.status
    when 'FAILED' then (select x.error_message from public.timer_executions x where x.timer_id = t.id and x.status = 'FAILED' order by x.started_at desc limit 1)
    when 'CANCELLED' then t.payload ->> 'cancelled'
  end,
  t.created_at,
  null::text,
  case when t.status = 'CANCELLED' then t.payload ->> 'cancelled_by' end,
  case when t.status = 'CANCELLED' and t.payload ? 'cancelled_by' then t.executed_at end,
  case when t.status = 'CANCELLED' then t.payload ->> 'cancel_reason' end
from public.campaign_timers t;
--> statement-breakpoint
comment on view pawl.runs is 'Every run of every kind: state, progress, rate, when it will be done, who works on it. state: pending, running, completed, failed, cancelled';
--> statement-breakpoint
comment on column pawl.runs.run_id is 'The run''s id: of the operation, timer or execution, or refresh:PLAN:TABLE, backup_N, archive:PARTITION, backfill:NAME';
--> statement-breakpoint
comment on column pawl.runs.kind is 'override, timer, refresh, report, backup, archive or backfill';
--> statement-breakpoint
comment on column pawl.runs.state is 'pending (waits), running, completed, failed (for good: an attempt that will be repeated is pending), cancelled';
--> statement-breakpoint
comment on column pawl.runs.subject is 'What it is about, for people';
--> statement-breakpoint
comment on column pawl.runs.done is 'Rows, tables or pages done so far, as they are committed';
--> statement-breakpoint
comment on column pawl.runs.total is 'How many there are to do; null while nobody knows';
--> statement-breakpoint
comment on column pawl.runs.percent is 'done of total; null while there is no total';
--> statement-breakpoint
comment on column pawl.runs.rows_per_second is 'Since a worker opened it; over its whole life once it is completed';
--> statement-breakpoint
comment on column pawl.runs.eta is 'When it will be done, as fast as it goes now; of a waiting timer when it is due';
--> statement-breakpoint
comment on column pawl.runs.attempt is 'The number of the attempt that runs or comes next';
--> statement-breakpoint
comment on column pawl.runs.failures is 'Attempts that failed; a dead worker is none';
--> statement-breakpoint
comment on column pawl.runs.worker is 'Who works on it; null when nobody does';
--> statement-breakpoint
comment on column pawl.runs.started_at is 'When a worker first opened it';
--> statement-breakpoint
comment on column pawl.runs.updated_at is 'When it last moved: its last batch, or its last change of state';
--> statement-breakpoint
comment on column pawl.runs.finished_at is 'When it ended; null before';
--> statement-breakpoint
comment on column pawl.runs.error is 'Why it failed or was cancelled; of a run that will be repeated, what its last attempt failed with';
--> statement-breakpoint
comment on column pawl.runs.requested_at is 'When it was asked for';
--> statement-breakpoint
comment on column pawl.runs.requested_by is 'Which login asked for it; null for timers';
--> statement-breakpoint
comment on column pawl.runs.cancelled_by is 'Which login asked to cancel it, also while it has not stopped yet; null where no person did';
--> statement-breakpoint
comment on column pawl.runs.cancelled_at is 'When that was asked';
--> statement-breakpoint
comment on column pawl.runs.cancel_reason is 'The reason that was given';
--> statement-breakpoint

create view pawl.timers as
select
  t.id as timer_id,
  case when t.status = 'PENDING' or (t.status = 'FAILED' and t.retry_count < 5) then 'pending' else lower(t.status) end as state,
  t.timer_type,
  t.campaign_id,
  t.scheduled_at,
  case when t.status = 'PENDING' or (t.status = 'FAILED' and t.retry_count < 5) then coalesce(t.next_attempt_at, t.scheduled_at) end as due_at,
  case when t.status = 'COMPLETED' then round((extract(epoch from t.executed_at - t.scheduled_at) * 1000)::numeric, 1) end as late_ms,
  t.retry_count,
  t.executed_at,
  t.payload,
  case when t.status = 'FAILED' then (select x.error_message from public.timer_executions x where x.timer_id = t.id and x.status = 'FAILED' order by x.started_at desc limit 1) end as error
from public.campaign_timers t;
--> statement-breakpoint
comment on view pawl.timers is 'Campaign timers: state as in pawl.runs, when due, how late they fired, why they failed';
--> statement-breakpoint
comment on column pawl.timers.timer_id is 'Its id in campaign_timers, and its run id';
--> statement-breakpoint
comment on column pawl.timers.state is 'pending (waits, or waits for a retry), running (a handler is at work), completed, failed (for good), cancelled';
--> statement-breakpoint
comment on column pawl.timers.timer_type is 'START_CAMPAIGN, CLOSE_CAMPAIGN, REWARD_REMINDER or EXPIRE_CAMPAIGN';
--> statement-breakpoint
comment on column pawl.timers.campaign_id is 'The campaign it belongs to';
--> statement-breakpoint
comment on column pawl.timers.scheduled_at is 'When it was to fire';
--> statement-breakpoint
comment on column pawl.timers.due_at is 'When it fires: scheduled_at, or its next attempt; null when it is over';
--> statement-breakpoint
comment on column pawl.timers.late_ms is 'Milliseconds between scheduled_at and its firing; null until it has fired';
--> statement-breakpoint
comment on column pawl.timers.retry_count is 'Retries made; five at most';
--> statement-breakpoint
comment on column pawl.timers.executed_at is 'When it fired, failed for good or was cancelled';
--> statement-breakpoint
comment on column pawl.timers.payload is 'What it was given; of a cancelled one also by whom and why';
--> statement-breakpoint
comment on column pawl.timers.error is 'What its last attempt failed with';
--> statement-breakpoint

create table pawl.sweeps (
  schedule text primary key,
  last_run_at timestamptz not null,
  duration_ms integer not null
);
--> statement-breakpoint
comment on table pawl.sweeps is 'When each schedule last did its work, and how long that took; the worker that did it writes it down';
--> statement-breakpoint
create function pawl.schedule_rows() returns table (name text, key text, cron text, timezone text, data jsonb)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select s.name::text, s.key::text, s.cron::text, s.timezone::text, s.data::jsonb
  from pgboss.schedule s;
end
$$;
--> statement-breakpoint
comment on function pawl.schedule_rows() is 'pg-boss''s schedules; bound late, as its tables are its own';
--> statement-breakpoint
create view pawl.schedules as
select s.key as schedule, s.cron, s.timezone, s.name as queue, s.data,
  -- As the worker wrote it down, or the document's own function.
  greatest(w.last_run_at, (select max(m.timestamp) from public.system_maintenance_log m where m.operation = replace(s.key, '-', '_'))) as last_run_at,
  w.duration_ms
from pawl.schedule_rows() s
left join pawl.sweeps w on w.schedule = s.key
order by s.name, s.key;
--> statement-breakpoint
comment on view pawl.schedules is 'What runs by the clock, in UTC: cron line, queue, and when it last ran';
--> statement-breakpoint
comment on column pawl.schedules.schedule is 'Its name, as in src/schedules.ts';
--> statement-breakpoint
comment on column pawl.schedules.cron is 'When it runs: minute, hour, day, month, weekday';
--> statement-breakpoint
comment on column pawl.schedules.timezone is 'The time zone the cron line is read in';
--> statement-breakpoint
comment on column pawl.schedules.queue is 'The queue that carries it';
--> statement-breakpoint
comment on column pawl.schedules.data is 'What its job carries';
--> statement-breakpoint
comment on column pawl.schedules.last_run_at is 'When it last ran';
--> statement-breakpoint
comment on column pawl.schedules.duration_ms is 'How long that took; what is only asked for then takes longer';
--> statement-breakpoint

create view pawl.queues as
select c.queue, c.ready, c.delayed, c.active, c.failed, p.queue is not null as paused, c.oldest_ready_seconds
from pawl.queue_counts() c
left join pawl.paused_queues p on p.queue = c.queue
order by c.queue;
--> statement-breakpoint
comment on view pawl.queues is 'Each queue: jobs ready now, delayed, active, failed; whether it is paused; how long its oldest ready job has waited';
--> statement-breakpoint
comment on column pawl.queues.queue is 'Its name; NAME.dead holds what could not be worked on';
--> statement-breakpoint
comment on column pawl.queues.ready is 'Jobs that a worker could take now';
--> statement-breakpoint
comment on column pawl.queues.delayed is 'Jobs whose time has not come, or that wait for others';
--> statement-breakpoint
comment on column pawl.queues.active is 'Jobs that a worker has';
--> statement-breakpoint
comment on column pawl.queues.failed is 'Jobs that failed for good, as of pg-boss''s last look';
--> statement-breakpoint
comment on column pawl.queues.paused is 'Whether pawl.pause stopped it';
--> statement-breakpoint
comment on column pawl.queues.oldest_ready_seconds is 'How long its oldest ready job has waited; null when there is none';
--> statement-breakpoint

create view pawl.backlog as
select least(
  coalesce((
    -- With the active ones: a number that falls when workers take up what is ready would send those workers away in mid-run.
    -- Events are for others to read, dead letters for people.
    select sum(q.ready + q.active)
    from pawl.queues q
    where not q.paused and q.queue not like 'campaign.%' and q.queue not like '%.dead'
  ), 0) + (
    select count(*)
    from pawl.timers t
    where t.state = 'pending' and t.due_at < now() - interval '10 seconds'
      and not exists (select from pawl.paused_queues p where p.queue = 'campaigns.fire')
  ),
  2147483647
)::integer as jobs;
--> statement-breakpoint
comment on view pawl.backlog is 'One number, for autoscalers: jobs that want a worker now (ready or active, in queues that are not paused), and timers that are ten seconds overdue';
--> statement-breakpoint
comment on column pawl.backlog.jobs is 'How many jobs and overdue timers want a worker now';
--> statement-breakpoint

create view pawl.failures as
select r.run_id, r.kind, r.state, r.subject, r.finished_at as failed_at,
  case when r.kind = 'timer' then (
    select count(*)::integer from public.timer_executions x where x.timer_id = r.run_id::uuid and x.status = 'FAILED'
  ) else r.failures end as failures,
  r.error, format('select pawl.retry(%L)', r.run_id) as retry_with
from pawl.runs r
where r.state = 'failed'
order by r.finished_at desc;
--> statement-breakpoint
comment on view pawl.failures is 'Runs that failed for good, newest first, each with the statement that runs it again from its cursor';
--> statement-breakpoint
comment on column pawl.failures.run_id is 'The run''s id';
--> statement-breakpoint
comment on column pawl.failures.kind is 'override, timer, refresh, report, backup, archive or backfill';
--> statement-breakpoint
comment on column pawl.failures.state is 'Always failed';
--> statement-breakpoint
comment on column pawl.failures.subject is 'What it is about, for people';
--> statement-breakpoint
comment on column pawl.failures.failed_at is 'When it failed for good';
--> statement-breakpoint
comment on column pawl.failures.failures is 'Attempts that failed';
--> statement-breakpoint
comment on column pawl.failures.error is 'What the last attempt failed with';
--> statement-breakpoint
comment on column pawl.failures.retry_with is 'The statement that runs it again from its cursor';
--> statement-breakpoint

create view pawl.workers as
select
  l.id,
  case when l.state in ('running', 'draining') and not pawl.lease_alive(l.id, interval '10 seconds') then 'silent' else l.state end as state,
  l.name,
  (select count(*) from pawl.checkpoints c where c.owner = l.id and c.state = 'running') as runs,
  l.queues,
  l.host,
  l.pid,
  l.version,
  l.started_at,
  l.seen_at
from pawl.leases l
where l.state in ('running', 'draining') or l.stopped_at > now() - interval '1 day'
order by l.state in ('running', 'draining') desc, l.started_at desc;
--> statement-breakpoint
comment on view pawl.workers is 'Worker processes alive now or within a day. silent: its lock is free or it was not seen for ten seconds; its runs are being taken over';
--> statement-breakpoint
comment on column pawl.workers.id is 'The number of its lease';
--> statement-breakpoint
comment on column pawl.workers.state is 'running, draining (claims nothing, hands over), silent (was not heard of for ten seconds), stopped, lost (others took its runs)';
--> statement-breakpoint
comment on column pawl.workers.name is 'PAWL_WORKER_NAME, or host and process';
--> statement-breakpoint
comment on column pawl.workers.runs is 'How many runs it holds';
--> statement-breakpoint
comment on column pawl.workers.queues is 'The queues it takes from';
--> statement-breakpoint
comment on column pawl.workers.host is 'The machine it runs on';
--> statement-breakpoint
comment on column pawl.workers.pid is 'Its process there';
--> statement-breakpoint
comment on column pawl.workers.version is 'The version of Pawl it runs';
--> statement-breakpoint
comment on column pawl.workers.started_at is 'When it started';
--> statement-breakpoint
comment on column pawl.workers.seen_at is 'Its last heartbeat; two a second';
--> statement-breakpoint

create view pawl.stuck as
select c.run_id, c.kind, c.state, c.subject, c.since, c.reason
from (
  select c.run_id, c.kind, c.state, c.subject, m.moved_at as since,
    case
      when c.state = 'running' and not pawl.lease_alive(c.owner, interval '15 seconds') then 'its worker is silent and nobody has taken it over; is a worker running?'
      when c.state = 'running' and m.moved_at < clock_timestamp() - k.quiet_time then 'no batch has committed for ' || k.quiet_time || '; look for locks: select * from pg_stat_activity where wait_event_type = ''Lock'''
      when c.state = 'pending' and p.queue is null and w.run_id is null and m.moved_at < clock_timestamp() - interval '1 minute'
        and coalesce(pawl.job_due(c.run_id) <= clock_timestamp() - interval '1 minute', true)
        then 'no worker has opened it for a minute; are workers running, and have they free slots? select * from pawl.workers'
    end as reason
  from pawl.checkpoints c
  join pawl.kinds k using (kind)
  left join pawl.paused_queues p on p.queue = k.queue
  left join pawl.checkpoints w on w.run_id = c.waits_for and w.state in ('pending', 'running')
  cross join lateral (
    select greatest(c.updated_at, max(lane.updated_at)) as moved_at from pawl.lanes lane where lane.run_id = c.run_id
  ) m
  where c.state in ('pending', 'running')
) c
where c.reason is not null
union all
select t.timer_id::text, 'timer', t.state, format('%s of campaign %s', t.timer_type, t.campaign_id), t.due_at,
  'it has been due for a minute; are workers running that take campaigns.fire? select * from pawl.workers'
from pawl.timers t
where t.state = 'pending' and t.due_at < now() - interval '1 minute'
  and not exists (select from pawl.paused_queues p where p.queue = 'campaigns.fire')
  and not exists (
    select from public.campaign_timers b
    where b.campaign_id = t.campaign_id and b.scheduled_at <= t.scheduled_at and b.id <> t.timer_id
      -- Not by the index on status, whatever the planner thinks of it.
      and (b.status || '' in ('PENDING', 'RUNNING') or (b.status || '' = 'FAILED' and b.retry_count < 5))
  )
order by since;
--> statement-breakpoint
comment on view pawl.stuck is 'Runs that should be moving and are not, longest first, each with the reason and where to look. Runs that wait for a paused queue, another run or a retry are not stuck';
--> statement-breakpoint
comment on column pawl.stuck.run_id is 'The run''s id';
--> statement-breakpoint
comment on column pawl.stuck.kind is 'override, timer, refresh, report, backup, archive or backfill';
--> statement-breakpoint
comment on column pawl.stuck.state is 'pending or running';
--> statement-breakpoint
comment on column pawl.stuck.subject is 'What it is about, for people';
--> statement-breakpoint
comment on column pawl.stuck.since is 'When it last moved, or should have begun';
--> statement-breakpoint
comment on column pawl.stuck.reason is 'Why it counts as stuck, and where to look';
--> statement-breakpoint

create view pawl.tables as
select
  c.table_schema || '.' || c.table_name as "table",
  coalesce(c.is_enabled and f.source is not null and (c.last_refresh_at is null or c.next_refresh_at <= statement_timestamp()
    or latest.outcome in ('failed', 'skipped', 'cancelled')), false) as stale,
  c.last_refresh_at as refreshed_at,
  c.next_refresh_at as due_at,
  case
    when not c.is_enabled then format('it is disabled: update sqp.refresh_config set is_enabled = true where id = %s', c.id)
    when f.source is null then format('it has no source and is never planned: update sqp.refresh_config set custom_sync_params = … where id = %s', c.id)
    when latest.state = 'running' then format('it is being refreshed since %s: select pawl.why(%L)', latest.started_at, latest.run_id)
    when latest.state = 'pending' then format('it is planned and waits: select pawl.why(%L)', latest.run_id)
    when latest.outcome = 'failed' then format('its last refresh failed: %s; mend that, then select pawl.retry(%L)', latest.error, latest.run_id)
    when latest.outcome = 'skipped' then format('its last refresh was skipped, because %s', latest.cause)
    when latest.outcome = 'cancelled' then format('its last refresh was %s; select pawl.retry(%L) brings it back', latest.error, latest.run_id)
    when c.next_refresh_at <= statement_timestamp() and parent.name is not null
      then format('it waits for the next refresh of %s, which did not succeed: select reason from pawl.tables where "table" = %L', parent.name, parent.name)
    when c.next_refresh_at <= statement_timestamp() and exists (select from pawl.paused_queues p where p.queue in ('refresh.load', 'maintenance.sweep'))
      then format('it is due since %s, and queue %s is paused', c.next_refresh_at,
        (select string_agg(p.queue, ', ') from pawl.paused_queues p where p.queue in ('refresh.load', 'maintenance.sweep')))
    when c.next_refresh_at <= statement_timestamp()
      then format('it is due since %s; the schedule plan-refresh takes it within a minute, where a worker takes maintenance.sweep', c.next_refresh_at)
    when c.last_refresh_at is null then format('it was never refreshed: select pawl.refresh_table(%L)', c.table_schema || '.' || c.table_name)
    else format('it is fresh until %s', coalesce(c.next_refresh_at::text, 'it is asked for'))
  end as reason,
  c.refresh_frequency_hours,
  f.source,
  latest.run_id
from sqp.refresh_config c
cross join lateral (select pawl.refresh_source(c.custom_sync_params) as source) f
left join lateral (
  select s.run_id, s.outcome, s.cause, k.state, k.started_at, k.error
  from pawl.refresh_steps s join pawl.checkpoints k using (run_id)
  -- By a range, or the planner may walk the whole history by its place to find the last step of a table that was never refreshed.
  where s.config_id between c.id and c.id
  order by s.config_id, s.place desc
  limit 1
) latest on true
left join lateral (
  select p.table_schema || '.' || p.table_name as name
  from pawl.refresh_edges e
  join sqp.refresh_config p on p.id = e.parent_id and p.is_enabled
  cross join lateral (select s.outcome from pawl.refresh_steps s where s.config_id between p.id and p.id order by s.config_id, s.place desc limit 1) above
  where e.child_id = c.id and e.hard and above.outcome in ('failed', 'skipped', 'cancelled')
  limit 1
) parent on latest.outcome is not null or latest.run_id is null
order by 1;
--> statement-breakpoint
comment on view pawl.tables is 'Every table that is registered for refresh: whether it is stale (due, never filled, or its last refresh did not succeed), since when, and why';
--> statement-breakpoint
comment on column pawl.tables."table" is 'Schema and name';
--> statement-breakpoint
comment on column pawl.tables.stale is 'Whether its rows are older than they should be: it is due, was never filled, or its last refresh did not succeed. Not those that are disabled or have no source';
--> statement-breakpoint
comment on column pawl.tables.refreshed_at is 'When its last successful refresh ended';
--> statement-breakpoint
comment on column pawl.tables.due_at is 'When its next refresh is planned';
--> statement-breakpoint
comment on column pawl.tables.reason is 'Why it is as it is, and what to do';
--> statement-breakpoint
comment on column pawl.tables.refresh_frequency_hours is 'How often it is to be refreshed';
--> statement-breakpoint
comment on column pawl.tables.source is 'Where it is filled from, as pawl.refresh_limits names it; null: nowhere';
--> statement-breakpoint
comment on column pawl.tables.run_id is 'Its latest refresh, of any state';
--> statement-breakpoint

-- A view reads tables as its owner but calls functions as its reader, and a reader without pg_read_all_stats sees only his own transactions.
create function pawl.activity()
returns table (connections bigint, oldest_transaction interval, standbys bigint, replay_lag interval, slot_bytes numeric)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select a.connections, a.oldest, r.standbys, r.lag, s.bytes
  from (
    select count(*) as connections, max(now() - x.xact_start) filter (where x.backend_type = 'client backend') as oldest from pg_stat_activity x
  ) a
  cross join (
    -- An idle standby has no lag to show; what it has not yet replayed tells more than the time of its last word.
    select count(*) as standbys, max(x.replay_lag) filter (where x.replay_lsn is distinct from x.sent_lsn) as lag from pg_stat_replication x where x.state = 'streaming'
  ) r
  cross join (
    select sum(case when pg_is_in_recovery() then 0 else pg_wal_lsn_diff(pg_current_wal_lsn(), x.restart_lsn) end) as bytes
    from pg_replication_slots x where not x.active
  ) s
$$;
--> statement-breakpoint
comment on function pawl.activity() is 'Connections, the oldest transaction, standbys with their lag, and WAL that unused slots keep, as far as the owner of Pawl may see';
--> statement-breakpoint

-- Sessions are everybody's to see in pg_locks, but this one only by its number.
create function pawl.migrating() returns text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select string_agg(k.pid::text, ', ')
  from pg_locks k
  where k.locktype = 'advisory' and k.granted and k.classid = 1885435756 and k.objid = 0 and k.objsubid = 2
    and k.database = (select d.oid from pg_database d where d.datname = current_database())
$$;
--> statement-breakpoint
comment on function pawl.migrating() is 'The processes that migrate this database at this moment, or null';
--> statement-breakpoint

create view pawl.health as
select h."check", h.ok, h.detail
from (
  select 1 as place, 'workers' as "check", count(*) > 0 as ok, format('%s alive', count(*)) as detail
  from pawl.leases l where l.state = 'running' and pawl.lease_alive(l.id, interval '10 seconds')
  union all
  select 2, 'stuck runs', count(*) = 0, format('%s stuck', count(*)) from pawl.stuck
  union all
  select 3, 'failed runs', count(*) = 0, format('%s failed in the last 24 hours', count(*))
  from pawl.checkpoints c where c.state = 'failed' and c.finished_at > now() - interval '24 hours'
  union all
  select 4, 'queue age', coalesce(max(q.oldest_ready_seconds), 0) < 300, format('oldest ready job has waited %s s', coalesce(max(q.oldest_ready_seconds), 0))
  -- Events are for others to read, or not.
  from pawl.queues q where not q.paused and q.queue not like 'campaign.%'
  union all
  select 5, 'paused queues', true, coalesce(string_agg(p.queue, ', ' order by p.queue), 'none') from pawl.paused_queues p
  union all
  select coalesce(k.place, 16), coalesce(k.name, m.parent) || ' partitions', m.ahead >= 2,
    case when m.has_now then format('%s months ahead', m.ahead) else 'none for this month: rows are refused' end
  -- Whatever is partitioned by time, a host's own tables too: the month that nobody made refuses its first row.
  from pawl.months_ahead m
  left join (values (6, 'audit', 'public.category_override_audit'), (11, 'state log', 'public.campaign_state_log'),
          (15, 'report', 'reporting.report_executions'), (16, 'audit log', 'reporting.audit_logs')) k (place, name, parent) using (parent)
  union all
  select 9, 'overdue timers', count(*) = 0, format('%s due for more than 10 seconds', count(*))
  -- By the expressions that have an index and statistics of their own: of status and time apart, the planner expects all of those that wait.
  from pawl.timers t where t.state = 'pending' and t.due_at < now() - interval '10 seconds'
  union all
  select 10, 'failed timers', count(*) = 0, format('%s failed in the last 24 hours', count(*))
  from pawl.runs r where r.kind = 'timer' and r.state = 'failed' and r.finished_at > now() - interval '24 hours'
  union all
  select 12, 'overdue refreshes', count(*) = 0, format('%s due for more than an hour and not under way', count(*))
  from sqp.refresh_config c
  where c.is_enabled and c.next_refresh_at < now() - interval '1 hour' and pawl.refresh_source(c.custom_sync_params) is not null
    and not exists (select from pawl.refresh_steps s where s.config_id = c.id and s.outcome is null)
    and not exists (select from pawl.paused_queues p where p.queue = 'refresh.load')
    -- Skipped ones wait for their parent's next turn.
    and coalesce((select s.outcome from pawl.refresh_steps s where s.config_id between c.id and c.id order by s.config_id, s.place desc limit 1), '') <> 'skipped'
  union all
  select 13, 'refresh sources', true, format('%s enabled tables have a source, %s have none and are never planned',
    count(*) filter (where pawl.refresh_source(c.custom_sync_params) is not null), count(*) filter (where pawl.refresh_source(c.custom_sync_params) is null))
  from sqp.refresh_config c where c.is_enabled
  union all
  select 14, 'refresh dependencies', count(*) = 0, coalesce('not registered: ' || string_agg(distinct named.name, ', '), 'all name a registered table')
  from sqp.refresh_config c
  cross join lateral unnest(c.dependencies) named (name)
  where not exists (
    select from sqp.refresh_config p
    where named.name in (p.table_schema || '.' || p.table_name, case when p.table_schema = c.table_schema then p.table_name end)
  )
  union all
  select 17, 'overdue reports', count(*) = 0, format('%s scheduled and due for more than a minute', count(*))
  from reporting.reports r
  where r.status = 'scheduled' and r.scheduled_at < now() - interval '1 minute'
    and not exists (select from pawl.paused_queues p where p.queue = 'reports.execute')
  union all
  select 18, 'verified backup',
    case
      when c.workers = 0 then true
      when v.taken_at is null then least(c.since, f.first_end) > now() - interval '26 hours'
      else v.taken_at > now() - case when d.daily then interval '26 hours' else interval '8 days' end
    end,
    case
      when c.workers = 0 then 'off: no worker has a place for backups'
      when v.taken_at is null then format('none yet; a place is known since %s', least(c.since, f.first_end))
      else format('%s of %s, %s bytes, restored in %s s', v.backup_id, v.taken_at, v.bytes, v.verify_seconds)
    end
  from (
    select count(*) as workers, min(w.since) as since from pawl.worker_checks w
    where w."check" = 'backup' and w.data ->> 'place' is not null and w.checked_at > now() - interval '1 day'
  ) c
  -- Workers come and go, and with them what they knew: backups that ended, if badly, tell how long there has been a place.
  cross join (
    select least(
      (select min(m.timestamp) from public.system_maintenance_log m where m.operation = 'backup_daily'),
      (select min(m.timestamp) from public.system_maintenance_log m where m.operation = 'backup_weekly')
    ) as first_end
  ) f
  cross join (select exists (select from pawl.schedule_rows() s where s.key = 'backup-daily') as daily) d
  left join lateral (
    select b.backup_id, b.taken_at, b.bytes, b.verify_seconds from pawl.backup_records b
    where b.verified_at is not null and b.deleted_at is null and b.scope = 'full' order by b.taken_at desc limit 1
  ) v on true
  union all
  select 19, 'replication', coalesce(a.replay_lag, '0') < interval '1 minute' and coalesce(a.slot_bytes, 0) < 10::bigint * 2 ^ 30,
    format('%s standbys, %s s behind at most; unused slots keep %s of WAL', a.standbys, coalesce(round(extract(epoch from a.replay_lag)), 0), pg_size_pretty(coalesce(a.slot_bytes, 0)))
  from pawl.activity() a
  union all
  select 20, 'dead rows', count(*) = 0, coalesce(string_agg(format('%s: %s dead of %s', t.relid::regclass, t.n_dead_tup, t.n_live_tup + t.n_dead_tup), '; '), 'vacuum keeps up')
  from pg_stat_user_tables t
  where t.n_dead_tup > 100000 and t.n_dead_tup > t.n_live_tup and t.schemaname !~ '^pg_'
  union all
  select 21, 'wraparound', max(age(d.datfrozenxid)) < 1000000000, format('oldest transaction id is %s old; vacuum must have come before 2,000,000,000', max(age(d.datfrozenxid)))
  from pg_database d
  union all
  select 23, 'retention', coalesce(not l.details ? 'errors', true), coalesce(l.details ->> 'errors', 'its rules are followed')
  from (select) one
  left join lateral (
    select m.details from public.system_maintenance_log m where m.operation = 'prune_history' order by m.timestamp desc limit 1
  ) l on true
  union all
  select 22, 'database size', true, pg_size_pretty(pg_database_size(current_database()))
  union all
  -- What workers found on their machines: their client tools, disks, pool, and how fast they are answered.
  select 30, 'worker ' || w."check", bool_and(w.ok), coalesce(string_agg(format('%s: %s', w.worker, w.detail), '; ') filter (where not w.ok), max(w.detail))
  from pawl.worker_checks w
  where w.checked_at > now() - interval '1 hour' and exists (select from pawl.leases l where l.name = w.worker and l.state = 'running')
  group by w."check"
  union all
  select 7, 'connections', a.connections < 0.9 * current_setting('max_connections')::integer,
    format('%s of %s', a.connections, current_setting('max_connections'))
  from pawl.activity() a
  union all
  select 8, 'oldest transaction', coalesce(a.oldest_transaction, '0') < interval '1 hour',
    format('%s s', coalesce(round(extract(epoch from a.oldest_transaction)), 0))
  from pawl.activity() a
) h
order by h.place;
--> statement-breakpoint
comment on view pawl.health is 'One row per check; select * from pawl.health where not ok shows what needs a person';
--> statement-breakpoint
comment on column pawl.health."check" is 'What was looked at; "worker …" is what workers found on their machines';
--> statement-breakpoint
comment on column pawl.health.ok is 'Whether nobody needs to do anything';
--> statement-breakpoint
comment on column pawl.health.detail is 'The figures behind it';
--> statement-breakpoint

create view pawl.deploy as
with health as materialized (
  select * from pawl.health
), unfit as (
  select string_agg(format('%s: %s', h."check", h.detail), '; ') filter (where not h.ok) as what, bool_and(h.ok) as ok
  from health h
  -- These two have lines of their own.
  where h."check" not in ('verified backup', 'oldest transaction')
), alive as (
  select
    count(*) filter (where w.state = 'running') as running,
    count(distinct w.version) filter (where w.state in ('running', 'draining')) as versions,
    string_agg(distinct w.version, ', ') filter (where w.state in ('running', 'draining')) as names,
    count(*) filter (where w.state = 'draining') as draining,
    string_agg(w.name, ', ') filter (where w.state = 'draining') as drained
  from pawl.workers w
), open as (
  select
    count(*) filter (where c.state = 'running') as running,
    count(*) filter (where c.state = 'pending') as pending,
    string_agg(c.run_id, ', ') filter (where c.kind = 'backup' and c.state = 'running') as backups,
    string_agg(c.run_id, ', ') filter (where c.kind = 'backfill') as backfills
  from pawl.checkpoints c
  where c.state in ('pending', 'running')
)
select d."check", d.ok, d.detail
from (
  select 1 as place, 'ready' as "check", a.running > 0 and a.versions < 2 as ok,
    case when a.running = 0 then 'no worker is alive' else format('%s workers alive, version %s', a.running, a.names) end as detail
  from alive a
  union all
  select 2, 'draining', a.draining = 0, coalesce('still draining: ' || a.drained || '; wait for them', 'no worker is draining') from alive a
  union all
  select 3, 'migration', m.pids is null, coalesce('process ' || m.pids || ' migrates at this moment; wait for it', 'nobody migrates; "pawl migrate plan" says what is pending')
  from (select pawl.migrating() as pids) m
  union all
  select 4, 'backups in work', o.backups is null, coalesce(o.backups || ' would begin anew; wait for it', 'none') from open o
  union all
  select 5, 'months in their last step', count(*) = 0,
    coalesce(string_agg(a.partition, ', ') || ' is out of its table and its file not verified yet; the run goes on after the deploy', 'none')
  from pawl.archives a
  where a.state in ('detached', 'written')
  union all
  select 6, 'backfills', true, coalesce(o.backfills || ' not done; a migration that requires it will say so and change nothing', 'none under way') from open o
  union all
  select 7, 'verified backup', h.ok, h.detail from health h where h."check" = 'verified backup'
  union all
  select 8, 'oldest transaction', coalesce(a.oldest_transaction, '0') < interval '1 minute',
    format('%s s; a migration waits for it, and others behind the migration', coalesce(round(extract(epoch from a.oldest_transaction)), 0))
  from pawl.activity() a
  union all
  select 9, 'health', u.ok, coalesce(u.what, 'all checks are fine') from unfit u
  union all
  select 10, 'runs', true, format('%s running are handed over at their next batch edge, %s wait; no attempt is spent', o.running, o.pending) from open o
) d
order by d.place;
--> statement-breakpoint
comment on view pawl.deploy is 'Whether now is a good moment to deploy: one row per reason, and select bool_and(ok) from pawl.deploy in one word. Runs under way are no reason to wait';
--> statement-breakpoint
comment on column pawl.deploy."check" is 'What was looked at';
--> statement-breakpoint
comment on column pawl.deploy.ok is 'Whether it is no reason to wait';
--> statement-breakpoint
comment on column pawl.deploy.detail is 'What was found, and what to wait for';
--> statement-breakpoint

create function pawl.timer_of(p_run_id text) returns uuid
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if p_run_id !~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then
    return null;
  end if;
  return (select t.id from public.campaign_timers t where t.id = p_run_id::uuid);
end
$$;
--> statement-breakpoint
comment on function pawl.timer_of(text) is 'The timer whose run id this is, or null';
--> statement-breakpoint

create function pawl.cancel_timer(p_timer uuid, p_reason text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update public.campaign_timers t
  set status = 'CANCELLED', next_attempt_at = null, executed_at = clock_timestamp(),
      payload = t.payload || jsonb_build_object(
        'cancelled', pawl.cancel_text(session_user, p_reason), 'cancelled_by', session_user, 'cancel_reason', p_reason)
  where t.id = p_timer and (t.status = 'PENDING' or (t.status = 'FAILED' and t.retry_count < 5));
  if not found then
    return false;
  end if;
  perform pg_notify('pawl_timers', '0');
  return true;
end
$$;
--> statement-breakpoint
comment on function pawl.cancel_timer(uuid, text) is 'Cancels a timer that has not fired; who and why stand in its payload. Never changes the campaign''s state';
--> statement-breakpoint

create function pawl.retry_timer(p_timer uuid) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  timer public.campaign_timers;
begin
  select * into timer from public.campaign_timers t where t.id = p_timer for update;
  if timer.status <> 'FAILED' and timer.status <> 'CANCELLED' then
    return false;
  end if;
  if exists (
    select from public.campaign_timers t
    where t.campaign_id = timer.campaign_id and t.timer_type = timer.timer_type and t.id <> timer.id
      and (t.status in ('PENDING', 'RUNNING') or (t.status = 'FAILED' and t.retry_count < 5))
  ) then
    raise exception 'campaign % has another active % timer', timer.campaign_id, timer.timer_type
      using errcode = '22023', hint = format('select * from pawl.timers where campaign_id = %L', timer.campaign_id);
  end if;
  update public.campaign_timers t
  set status = 'PENDING', retry_count = 0, next_attempt_at = null, executed_at = null, payload = t.payload - array['cancelled', 'cancelled_by', 'cancel_reason']
  where t.id = p_timer;
  return true;
end
$$;
--> statement-breakpoint
comment on function pawl.retry_timer(uuid) is 'Lets a failed or cancelled timer fire again, now if it is overdue, with five new retries';
--> statement-breakpoint

create function pawl.session_text(p_pid integer) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select format('process %s (%s%s%s)', p_pid, coalesce(nullif(a.application_name, ''), a.usename, 'unknown'), ', ' || nullif(a.state, ''),
    ', in a transaction since ' || date_trunc('second', a.xact_start))
  from (select p_pid as pid) asked left join pg_stat_activity a using (pid)
$$;
--> statement-breakpoint
comment on function pawl.session_text(integer) is 'A session of the server in words, for pawl.why';
--> statement-breakpoint

-- Each batch locks its lane first, so the lane's row names the transaction, that its process, and that one whom it waits for.
create function pawl.blocked_by(p_run_id text) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select pawl.session_text(b.pid) || format('; select pg_terminate_backend(%s) ends it', b.pid)
  from (
    select l.xmax from pawl.lanes l where l.run_id = p_run_id
    union
    select c.xmax from pawl.checkpoints c where c.run_id = p_run_id
  ) held
  join pg_locks k on k.locktype = 'transactionid' and k.granted and k.transactionid = held.xmax
  cross join lateral unnest(pg_blocking_pids(k.pid)) b (pid)
  limit 1
$$;
--> statement-breakpoint
comment on function pawl.blocked_by(text) is 'Who holds the lock that the present batch of a run waits for, or null';
--> statement-breakpoint

-- Not a run, but somebody who asks about it wants to hear of the runs it has.
create function pawl.why_other(p_id text) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  report reporting.reports;
  execution record;
  timer record;
  refreshed record;
begin
  select t."table", t.reason into refreshed from pawl.tables t where p_id in (t."table", split_part(t."table", '.', 2));
  if found then
    return format('Table %s: %s.', refreshed."table", refreshed.reason);
  end if;
  if p_id ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' then
    select e.status, e.error_message, e.completed_at, e.report_id into execution from reporting.report_executions e where e.id = p_id::uuid;
    if found and execution.status = 'failed' then
      return format('It could not be started, and failed at %s: %s. Mend that, then schedule report %s again or call pawl.run_report.',
        execution.completed_at, coalesce(execution.error_message, 'no reason was recorded'), execution.report_id);
    elsif found then
      return format('Execution %s is %s; its run is long over and was pruned (select * from pawl.retention).', p_id, execution.status);
    end if;
    select * into report from reporting.reports r where r.id = p_id::uuid;
    if found and report.status = 'scheduled' then
      return case
        when exists (select from pawl.paused_queues p where p.queue = 'reports.execute') and report.scheduled_at <= now()
          then format('Report %s is due since %s, and queue reports.execute is paused; select pawl.resume(''reports.execute'') lets it go on.', report.name, report.scheduled_at)
        when report.scheduled_at > now() then format('Report %s is executed at %s, in %s.', report.name, report.scheduled_at, date_trunc('second', report.scheduled_at - now()))
        when not exists (select from pawl.workers w where w.state = 'running' and 'reports.execute' = any (w.queues))
          then format('Report %s is due since %s, but no worker is running for queue reports.execute; start one with "pawl work".', report.name, report.scheduled_at)
        else format('Report %s is due since %s; a worker starts it within moments.', report.name, report.scheduled_at)
      end;
    elsif found then
      return format('Report %s is %s and not scheduled; its last execution is %s.', report.name, report.status, coalesce(
        (select format('%s: select pawl.why(%L)', e.status, e.id) from reporting.report_executions e where e.report_id = report.id order by e.started_at desc limit 1), 'none yet'));
    end if;
    if exists (select from public.campaigns c where c.id = p_id::uuid) then
      select t.timer_type, t.id, coalesce(t.next_attempt_at, t.scheduled_at) as due_at into timer
      from public.campaign_timers t
      where t.campaign_id = p_id::uuid and (t.status in ('PENDING', 'RUNNING') or (t.status = 'FAILED' and t.retry_count < 5))
      order by 3 limit 1;
      return (
        select case when timer.id is null then format('The campaign is %s, and no timer of it is to come.', c.status)
          else format('The campaign is %s; next comes %s at %s: select pawl.why(%L).', c.status, timer.timer_type, timer.due_at, timer.id) end
        from public.campaigns c where c.id = p_id::uuid
      );
    end if;
  end if;
  return format('There is no run "%s"; select run_id, subject from pawl.runs lists them, and those that ended long ago were pruned (select * from pawl.retention).', left(p_id, 100));
end
$$;
--> statement-breakpoint
comment on function pawl.why_other(text) is 'What pawl.why says to the id of a report, a campaign, a refreshed table, an execution that has no run, or to nothing it knows';
--> statement-breakpoint

create function pawl.why_timer(p_timer uuid) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  timer public.campaign_timers;
  pause record;
  ahead record;
  outcome text;
  holder text;
begin
  select * into timer from public.campaign_timers t where t.id = p_timer;
  if timer.status = 'COMPLETED' then
    select case x.result ->> 'outcome'
        when 'none' then format('; nothing to do any more, as the campaign was %s already', x.result ->> 'from')
        when 'transition' then format('; the campaign went from %s to %s', x.result ->> 'from', x.result ->> 'to')
      end into outcome
    from public.timer_executions x where x.timer_id = p_timer and x.status = 'COMPLETED' order by x.started_at desc limit 1;
    return format('Fired at %s, %s ms after it was due%s.', timer.executed_at,
      round((extract(epoch from timer.executed_at - timer.scheduled_at) * 1000)::numeric, 1), coalesce(outcome, ''));
  elsif timer.status = 'CANCELLED' then
    return format('It was %s at %s; select pawl.retry(%L) brings it back.',
      coalesce(timer.payload ->> 'cancelled', case
        when exists (select from public.campaigns c where c.id = timer.campaign_id and c.status = 'EXPIRED') then 'cancelled when its campaign expired'
        else 'cancelled by whoever set its status'
      end), coalesce(timer.executed_at, timer.updated_at), p_timer);
  elsif timer.status = 'RUNNING' and not pawl.lease_alive(timer.claimed_by, interval '10 seconds') then
    return format('Its worker %s has gone silent in the middle of a handler; another worker takes it back within a minute and fires it again (select * from pawl.workers).',
      coalesce((select l.name from pawl.leases l where l.id = timer.claimed_by), 'unknown'));
  elsif timer.status = 'RUNNING' then
    return format('A handler in worker %s is at work on it since %s.', coalesce((select l.name from pawl.leases l where l.id = timer.claimed_by), 'unknown'), timer.updated_at);
  elsif timer.status = 'FAILED' and timer.retry_count >= 5 then
    return format('Failed for good at %s: %s. Mend the cause, then select pawl.retry(%L).', timer.executed_at, coalesce(pawl.timer_error(p_timer), 'no reason was recorded'), p_timer);
  end if;
  select * into pause from pawl.paused_queues p where p.queue = 'campaigns.fire';
  if found then
    return format('Waiting: queue campaigns.fire was paused by %s at %s%s; select pawl.resume(''campaigns.fire'') lets it go on.', pause.paused_by, pause.paused_at, coalesce(' (' || pause.reason || ')', ''));
  end if;
  if timer.status = 'FAILED' then
    return format('Waiting for retry %s of 5 at %s after: %s. select pawl.retry(%L) starts it now.', timer.retry_count + 1, timer.next_attempt_at, pawl.timer_error(p_timer), p_timer);
  end if;
  if timer.scheduled_at > now() then
    return format('It is due at %s, in %s; select pawl.reschedule_timer(%L, …) moves it.', timer.scheduled_at, date_trunc('second', timer.scheduled_at - now()), p_timer);
  end if;
  select t.id, t.timer_type, t.status into ahead
  from public.campaign_timers t
  where t.campaign_id = timer.campaign_id and t.id <> p_timer
    and (t.scheduled_at, pawl.timer_rank(t.timer_type)) < (timer.scheduled_at, pawl.timer_rank(timer.timer_type))
    and (t.status in ('PENDING', 'RUNNING') or (t.status = 'FAILED' and t.retry_count < 5))
  order by t.scheduled_at, pawl.timer_rank(t.timer_type) limit 1;
  if found then
    return format('Due, but it waits for %s of the same campaign, which comes first; select pawl.why(%L) says where that one is.', ahead.timer_type, ahead.id);
  end if;
  select pawl.session_text(k.pid) into holder
  from public.campaigns c
  join public.campaign_timers t on t.campaign_id = c.id
  join pg_locks k on k.locktype = 'transactionid' and k.granted and k.transactionid in (c.xmax, t.xmax)
  where t.id = p_timer
  limit 1;
  if found then
    return format('Due, but %s has its campaign or itself locked; it fires as soon as that transaction ends.', holder);
  end if;
  if not exists (select from pawl.workers w where w.state = 'running' and 'campaigns.fire' = any (w.queues)) then
    return 'Due, but no worker is running for queue campaigns.fire; start one with "pawl work".';
  end if;
  return format('Due since %s; a worker fires it within moments.', timer.scheduled_at);
end
$$;
--> statement-breakpoint
comment on function pawl.why_timer(uuid) is 'Why a timer is where it is, in one sentence, and what to do';
--> statement-breakpoint

create function pawl.cancel(run_id text, reason text default null) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  run pawl.checkpoints;
begin
  if length(cancel.reason) > 1000 then
    raise exception 'the reason has % characters, 1000 at most', length(cancel.reason) using errcode = '22023', hint = 'shorten it';
  end if;
  select * into run from pawl.checkpoints c where c.run_id = cancel.run_id for update;
  if not found and pawl.timer_of(cancel.run_id) is not null then
    return pawl.cancel_timer(pawl.timer_of(cancel.run_id), cancel.reason);
  end if;
  if run.run_id is null then
    raise exception 'run "%" does not exist', left(coalesce(cancel.run_id, 'null'), 100) using errcode = '22023', hint = 'select run_id, subject from pawl.runs where state in (''pending'', ''running'')';
  end if;
  if run.state not in ('pending', 'running') then
    return false;
  end if;
  update pawl.checkpoints c
  set cancel_requested_at = coalesce(c.cancel_requested_at, clock_timestamp()),
      cancel_requested_by = coalesce(c.cancel_requested_by, session_user),
      cancel_reason = coalesce(c.cancel_reason, cancel.reason)
  where c.run_id = cancel.run_id;
  if run.state = 'pending' then
    perform pawl.finish(cancel.run_id, null, 'cancelled', pawl.cancel_text(session_user, cancel.reason));
  end if;
  return true;
end
$$;
--> statement-breakpoint
comment on function pawl.cancel(text, text) is 'Cancels a run: a waiting one at once, a running one at its next batch edge; what was applied stays and is counted. False when it had ended already';
--> statement-breakpoint

create function pawl.retry(run_id text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  run pawl.checkpoints;
begin
  select * into run from pawl.checkpoints c where c.run_id = retry.run_id for update;
  if not found and pawl.timer_of(retry.run_id) is not null then
    return pawl.retry_timer(pawl.timer_of(retry.run_id));
  end if;
  if run.run_id is null then
    raise exception 'run "%" does not exist', left(coalesce(retry.run_id, 'null'), 100) using errcode = '22023', hint = 'select run_id, subject, error from pawl.failures';
  end if;
  if run.state in ('running', 'completed') or (run.state = 'pending' and run.failures = 0) then
    return false;
  end if;
  update pawl.checkpoints c
  set state = 'pending', finished_at = null, error = null, failures = 0, crashes = 0, crashed_at_batch = null, waits_for = null,
      cancel_requested_at = null, cancel_requested_by = null, cancel_reason = null, updated_at = clock_timestamp()
  where c.run_id = retry.run_id;
  perform pawl.changed(retry.run_id, 'pending', null);
  perform pawl.deliver(retry.run_id);
  return true;
end
$$;
--> statement-breakpoint
comment on function pawl.retry(text) is 'Runs a failed or cancelled run again from its cursor, with a fresh budget of attempts; a run that waits for its retry starts now. False when there is nothing to retry';
--> statement-breakpoint

create function pawl.queue_must_exist(p_queue text) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from pgboss.queue q where q.name = p_queue and q.name not like '\_\_pgboss%') then
    raise exception 'queue "%" does not exist', left(coalesce(p_queue, 'null'), 100) using errcode = '22023', hint = 'select queue from pawl.queues';
  end if;
end
$$;
--> statement-breakpoint
comment on function pawl.queue_must_exist(text) is 'Raises 22023 for a queue that is not there';
--> statement-breakpoint

create function pawl.pause(queue text, reason text default null) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform pawl.queue_must_exist(pause.queue);
  if length(pause.reason) > 1000 then
    raise exception 'the reason has % characters, 1000 at most', length(pause.reason) using errcode = '22023', hint = 'shorten it';
  end if;
  insert into pawl.paused_queues (queue, reason) values (pause.queue, pause.reason) on conflict do nothing;
  if not found then
    return false;
  end if;
  perform pg_notify('pawl', 'paused');
  return true;
end
$$;
--> statement-breakpoint
comment on function pawl.pause(text, text) is 'Stops work on a queue until pawl.resume: nothing new is claimed, running runs stop at their next batch edge and keep their place. False when it was paused already';
--> statement-breakpoint

create function pawl.resume(queue text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform pawl.queue_must_exist(resume.queue);
  delete from pawl.paused_queues p where p.queue = resume.queue;
  if not found then
    return false;
  end if;
  perform pg_notify('pawl', 'resumed');
  return true;
end
$$;
--> statement-breakpoint
comment on function pawl.resume(text) is 'Lets a paused queue go on. False when it was not paused';
--> statement-breakpoint

create function pawl.why(run_id text) returns text
language plpgsql stable security definer set search_path = pg_catalog, pg_temp
as $$
declare
  run record;
  job record;
  pause record;
  step record;
  alive bigint;
  draining text;
  in_work text;
  hindrance text;
begin
  select r.*, c.waits_for, c.failures_max, c.cancel_requested_at, c.cancel_requested_by, c.owner, c.last_owner, c.crashes, c.opened_at, c.opened_done, k.queue, k.quiet_time
  into run
  from pawl.runs r
  join pawl.checkpoints c using (run_id)
  join pawl.kinds k on k.kind = r.kind
  where r.run_id = why.run_id and r.kind <> 'timer';
  if not found and pawl.timer_of(why.run_id) is not null then
    return pawl.why_timer(pawl.timer_of(why.run_id));
  end if;
  if run.run_id is null then
    return pawl.why_other(why.run_id);
  end if;
  select rs.cause, rs.waits_for_source, rs.source, l.concurrency into step
  from pawl.refresh_steps rs left join pawl.refresh_limits l using (source)
  where rs.run_id = why.run_id;
  if run.state = 'completed' and run.kind = 'report' then
    return coalesce((
      select format('Completed at %s with %s rows, %s bytes: %s', run.finished_at, run.done, e.result_size_bytes, e.output_url)
      from reporting.report_executions e where e.id = run.run_id::uuid
    ), format('Completed at %s with %s rows; its execution was deleted since.', run.finished_at, run.done));
  elsif run.state = 'completed' then
    return format('Completed at %s with %s rows; nothing to do. It took %s%s.', run.finished_at, run.done,
      coalesce(date_trunc('milliseconds', run.finished_at - run.started_at)::text, 'no time'),
      coalesce((select ' on worker ' || l.name from pawl.leases l where l.id = run.last_owner), ''));
  elsif step.cause is not null then
    return format('Skipped at %s because %s. Mend that and select pawl.retry(%L); this one follows it.', run.finished_at, step.cause, pawl.refresh_culprit(step.cause));
  elsif run.state = 'cancelled' then
    return format('It was %s at %s, after %s rows, which stay; select pawl.retry(%L) goes on from there.', run.error, run.finished_at, run.done, run.run_id);
  elsif run.state = 'failed' then
    return format('Failed at %s after %s rows: %s. Mend the cause, then select pawl.retry(%L) goes on from there.', run.finished_at, run.done, run.error, run.run_id);
  elsif run.state = 'running' then
    if run.cancel_requested_at is not null and pawl.lease_alive(run.owner, interval '10 seconds') then
      return format('Running; %s asked to cancel it at %s, and it stops at its next batch edge.', run.cancel_requested_by, run.cancel_requested_at);
    elsif not pawl.lease_alive(run.owner, interval '10 seconds') then
      return format('Its worker %s has gone silent; another takes it over within seconds if one is running (select * from pawl.workers).', run.worker);
    elsif exists (select from pawl.leases l where l.id = run.owner and l.state = 'draining') then
      return format('Running; its worker %s is draining and hands it over at its next batch edge.', run.worker);
    elsif exists (select from pawl.paused_queues p where p.queue = run.queue) then
      return format('Running on worker %s until its next batch edge, as queue %s was paused; select pawl.resume(%L) lets it go on.', run.worker, run.queue, run.queue);
    end if;
    -- Asked once each: at a second look the lock may be free, and the sentence would end in nothing.
    hindrance := pawl.blocked_by(run.run_id);
    if hindrance is not null then
      return format('Running on worker %s, but its batch waits for a lock that is held by %s.', run.worker, hindrance);
    end if;
    hindrance := pawl.backfill_throttle(run.run_id);
    if hindrance is not null then
      return format('Running on worker %s, %s of about %s rows done, but it holds back: %s. It goes on by itself when that is over.',
        run.worker, run.done, coalesce(run.total::text, '?'), hindrance);
    end if;
    if run.updated_at < clock_timestamp() - run.quiet_time then
      return format('Worker %s holds it, but no batch has committed since %s; look for locks: select * from pg_stat_activity where wait_event_type = ''Lock''.', run.worker, run.updated_at);
    end if;
    return format('Running on worker %s: %s of %s rows, %s rows/s, done %s, begun %s; nothing to do.', run.worker, run.done, coalesce(run.total::text, '?'), run.rows_per_second,
      coalesce('at ' || run.eta, 'soon'), run.started_at);
  end if;
  select * into pause from pawl.paused_queues p where p.queue = run.queue;
  if found then
    return format('Waiting: queue %s was paused by %s at %s%s; select pawl.resume(%L) lets it go on.', run.queue, pause.paused_by, pause.paused_at, coalesce(' (' || pause.reason || ')', ''), run.queue);
  end if;
  if step.waits_for_source and exists (select from pawl.checkpoints w where w.run_id = run.waits_for and w.state in ('pending', 'running')) then
    return format('Waiting: %s refreshes read from source %s, and its limit is %s; the most urgent goes on when one ends. update pawl.refresh_limits set concurrency = … where source = %L allows more.',
      step.concurrency, step.source, step.concurrency, step.source);
  end if;
  if exists (select from pawl.checkpoints w where w.run_id = run.waits_for and w.state in ('pending', 'running')) then
    return format('Waiting for %s, which comes first; select pawl.why(%L) says where that one is.', run.waits_for, run.waits_for);
  end if;
  select * into job from pawl.waiting_jobs(run.run_id);
  if found and run.failures > 0 and job.start_after > clock_timestamp() then
    return format('Waiting for its retry %s of %s at %s after: %s. select pawl.retry(%L) starts it now.', run.failures, run.failures_max, job.start_after, run.error, run.run_id);
  end if;
  if found and job.start_after > clock_timestamp() then
    return format('Waiting until %s, as was asked.', job.start_after);
  end if;
  select count(*) filter (where w.state = 'running'), ' (draining: ' || string_agg(w.name, ', ') filter (where w.state = 'draining') || ')' into alive, draining
  from pawl.workers w where w.state in ('running', 'draining') and run.queue = any (w.queues);
  if alive = 0 then
    return format('Waiting: no worker is running for queue %s%s; start one with "pawl work".', run.queue, draining);
  end if;
  if job.state is null or job.state not in ('created', 'retry', 'active') then
    return 'Waiting, but the job that was to bring it to a worker is gone; a worker enqueues a new one within a minute.';
  elsif job.state = 'active' then
    return 'A worker has its job and is about to open it; if that worker dies, the job comes to another one.';
  end if;
  select string_agg(format('%s on %s', busy.run_id, coalesce(busy.worker, 'an unknown worker')), ', ') into in_work
  from (
    select c.run_id, l.name as worker
    from pawl.checkpoints c join pawl.kinds k using (kind) left join pawl.leases l on l.id = c.owner
    where c.state = 'running' and k.queue = run.queue
    order by c.requested_at limit 5
  ) busy;
  return format('Waiting in queue %s (jobs before it: %s, workers alive: %s); it starts when a worker has a free slot.', run.queue, job.ahead, alive)
    || coalesce(' In work there: ' || in_work || '.', '')
    || case when run.crashes > 0 then format(' Its worker died (%s of 3 times in a row at one place); it goes on where it was.', run.crashes) else '' end;
end
$$;
--> statement-breakpoint
comment on function pawl.why(text) is 'Why a run is where it is, in one sentence, and what to do';
--> statement-breakpoint

-- Each role gets what it is for, by name.
revoke execute on all routines in schema pawl from public;
--> statement-breakpoint
grant execute on function
  pawl.request_override(bigint, bigint, jsonb, integer, inet, text, text),
  pawl.revert_override(text, bigint),
  pawl.enqueue(text, jsonb, integer, timestamptz, text),
  pawl.create_campaign(integer, timestamptz, boolean, boolean, jsonb, uuid),
  pawl.schedule_timer(uuid, text, timestamptz, jsonb),
  pawl.refresh_table(text, text, boolean),
  pawl.run_report(uuid, uuid, text, jsonb)
to pawl_producer;
--> statement-breakpoint
grant execute on function
  pawl.cancel(text, text), pawl.retry(text), pawl.pause(text, text), pawl.resume(text),
  pawl.reschedule_timer(uuid, timestamptz),
  pawl.refresh_table(text, text, boolean),
  pawl.run_report(uuid, uuid, text, jsonb),
  pawl.request_backup(text, text, text[]),
  pawl.plan_archives(), pawl.extend_partitions(integer)
to pawl_operator;
--> statement-breakpoint
grant execute on function pawl.index_report(interval), pawl.why(text) to pawl_operator, pawl_observer;
--> statement-breakpoint
grant select on pawl.runs, pawl.timers, pawl.schedules, pawl.queues, pawl.failures, pawl.workers, pawl.stuck, pawl.health, pawl.refresh_plan, pawl.refresh_edges, pawl.backups, pawl.partitions, pawl.retention, pawl.archives, pawl.backlog, pawl.tables, pawl.deploy, pawl.months_ahead to pawl_observer, pawl_operator;
--> statement-breakpoint
-- How long, not what: the conditions are run as the owner.
grant update (keep) on pawl.retention to pawl_operator;
--> statement-breakpoint
-- Used by the views; a view reads tables as its owner, but calls functions as its reader.
grant execute on function pawl.queue_counts(), pawl.job_due(text), pawl.lease_alive(integer, interval), pawl.activity(), pawl.migrating(), pawl.schedule_rows(), pawl.refresh_source(jsonb) to pawl_observer, pawl_operator;
--> statement-breakpoint
-- Not the kinds: pawl.changed runs, as its owner, whatever function is named there. Nor the ledger of migrations.
grant select on all tables in schema pawl to pawl_worker;
--> statement-breakpoint
grant insert, update, delete on pawl.leases, pawl.checkpoints, pawl.lanes, pawl.paused_queues, pawl.refresh_steps, pawl.report_files, pawl.backup_records, pawl.sweeps to pawl_worker;
--> statement-breakpoint
grant usage on all sequences in schema pawl to pawl_worker;
--> statement-breakpoint
grant execute on all routines in schema pawl to pawl_worker;
--> statement-breakpoint
-- What is asked for there runs with the rights of Pawl's owner; and what is named there is read or dropped with them. A worker may make a view
-- in pawl_stage, and whoever reads a view runs its functions.
revoke execute on function
  pawl.request_backfill(regclass, text, text, integer, text, text, interval, interval),
  pawl.add_backfill(regclass, text, text, integer, text, text, interval, interval, text[]),
  pawl.add_archive(text, text, timestamptz, timestamptz, text),
  pawl.archive_hindrance(text, text)
from pawl_worker;
--> statement-breakpoint
grant select, insert, update, delete on
  public.category_override_operations, public.category_override_audit, public.category_override_audit_keys, public.category_recipient_settings,
  public.system_maintenance_log
to pawl_worker;
--> statement-breakpoint
grant select on public.users, public.categories, public.recipients to pawl_worker;
--> statement-breakpoint
grant select on public.v_category_override_summary, public.v_override_operation_history to pawl_worker, pawl_operator, pawl_observer;
--> statement-breakpoint
-- Sequences by what they serve: an adopted host may call them otherwise, or have identity columns.
do $$
declare
  served record;
  sequence text;
begin
  for served in
    select *
    from (values
      ('public.category_override_operations', 'id'), ('public.category_override_audit', 'id'),
      ('public.category_recipient_settings', 'id'), ('public.system_maintenance_log', 'id')
    ) columns (relation, attribute)
    where exists (select from pg_attribute a where a.attrelid = relation::regclass and a.attname = attribute)
  loop
    sequence := pg_get_serial_sequence(served.relation, served.attribute);
    if sequence is not null then
      execute format('grant usage on sequence %s to pawl_worker', sequence);
    end if;
  end loop;
end
$$;
--> statement-breakpoint
grant execute on function
  public.cleanup_old_override_operations(), public.maintain_audit_partitions(), public.create_monthly_partitions(),
  public.archive_old_state_logs(), public.cleanup_timer_executions()
to pawl_worker;
--> statement-breakpoint
grant select, insert, update, delete on
  public.campaigns, public.campaign_timers, public.campaign_state_log, public.campaign_metrics, public.timer_executions, public.campaign_state_log_archive
to pawl_worker;
--> statement-breakpoint
grant select on public.mv_active_campaigns, public.mv_pending_timers to pawl_worker, pawl_operator, pawl_observer;
--> statement-breakpoint
-- The worker writes the refreshed tables. Who refreshes tables elsewhere grants it the same there.
grant usage on schema sqp to pawl_worker, pawl_operator, pawl_observer;
--> statement-breakpoint
grant select, insert, update, delete on all tables in schema sqp to pawl_worker;
--> statement-breakpoint
grant usage on all sequences in schema sqp to pawl_worker;
--> statement-breakpoint
grant execute on all routines in schema sqp to pawl_worker;
--> statement-breakpoint
grant usage, create on schema pawl_stage to pawl_worker;
--> statement-breakpoint
grant select on all tables in schema sqp to pawl_operator, pawl_observer;
--> statement-breakpoint
-- Not custom_sync_params: whoever writes that has the worker run a query of his.
grant update (is_enabled, refresh_frequency_hours, priority, next_refresh_at, dependencies) on sqp.refresh_config to pawl_operator;
--> statement-breakpoint
grant select, insert, update, delete on pawl.refresh_limits to pawl_operator;
--> statement-breakpoint
grant usage on schema reporting to pawl_worker, pawl_operator, pawl_observer;
--> statement-breakpoint
grant select on
  reporting.organizations, reporting.templates, reporting.template_fields, reporting.reports, reporting.report_shares,
  reporting.report_executions, reporting.execution_logs, reporting.audit_logs
to pawl_worker, pawl_operator, pawl_observer;
--> statement-breakpoint
-- Not the hash of anybody's password, nor the token that proves an address.
grant select (id, email, username, first_name, last_name, organization_id, role, is_active, timezone, language) on reporting.users to pawl_worker, pawl_operator, pawl_observer;
--> statement-breakpoint
grant insert, update on reporting.report_executions to pawl_worker;
--> statement-breakpoint
grant insert on reporting.execution_logs, reporting.audit_logs to pawl_worker;
--> statement-breakpoint
grant update on reporting.reports to pawl_worker;
--> statement-breakpoint
grant update (status, scheduled_at, priority) on reporting.reports to pawl_operator;
--> statement-breakpoint
grant execute on all routines in schema reporting to pawl_worker;
--> statement-breakpoint
-- pg-boss's own schema stands already; "pawl migrate up" grants this anew each time, as a newer pg-boss may bring new tables.
grant usage on schema pgboss to pawl_worker;
--> statement-breakpoint
grant select, insert, update, delete on all tables in schema pgboss to pawl_worker;
--> statement-breakpoint
grant usage on all sequences in schema pgboss to pawl_worker;
--> statement-breakpoint
grant execute on all functions in schema pgboss to pawl_worker;
