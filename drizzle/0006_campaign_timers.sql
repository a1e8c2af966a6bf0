-- Firing: what a timer does to a campaign, set-wise and in one transaction; asking for campaigns and timers; retries.
-- Lock order: campaign, then timer. The wheel's claims skip what is locked and never wait.
create table pawl.timer_effects (
  timer_type text not null,
  from_state text not null,
  outcome text not null,
  to_state text,
  primary key (timer_type, from_state),
  constraint timer_effects_outcome_known check (outcome in ('transition', 'event', 'none', 'refused')),
  constraint timer_effects_target check ((outcome = 'transition') = (to_state is not null))
);
--> statement-breakpoint
comment on table pawl.timer_effects is 'What a timer does to a campaign in a state: moves it, only tells of it (event), nothing (it is past that), or is refused. Equal to effects in workers/campaigns/states.ts';
--> statement-breakpoint
insert into pawl.timer_effects (timer_type, from_state, outcome, to_state) values
  ('START_CAMPAIGN', 'CREATED', 'transition', 'RUNNING'),
  ('START_CAMPAIGN', 'RUNNING', 'none', null),
  ('START_CAMPAIGN', 'CLOSED', 'none', null),
  ('START_CAMPAIGN', 'REWARD_CLAIM', 'none', null),
  ('START_CAMPAIGN', 'EXPIRED', 'none', null),
  ('CLOSE_CAMPAIGN', 'CREATED', 'refused', null),
  ('CLOSE_CAMPAIGN', 'RUNNING', 'transition', 'CLOSED'),
  ('CLOSE_CAMPAIGN', 'CLOSED', 'none', null),
  ('CLOSE_CAMPAIGN', 'REWARD_CLAIM', 'none', null),
  ('CLOSE_CAMPAIGN', 'EXPIRED', 'none', null),
  ('EXPIRE_CAMPAIGN', 'CREATED', 'refused', null),
  ('EXPIRE_CAMPAIGN', 'RUNNING', 'transition', 'EXPIRED'),
  ('EXPIRE_CAMPAIGN', 'CLOSED', 'transition', 'EXPIRED'),
  ('EXPIRE_CAMPAIGN', 'REWARD_CLAIM', 'transition', 'EXPIRED'),
  ('EXPIRE_CAMPAIGN', 'EXPIRED', 'none', null),
  ('REWARD_REMINDER', 'CREATED', 'event', null),
  ('REWARD_REMINDER', 'RUNNING', 'event', null),
  ('REWARD_REMINDER', 'CLOSED', 'event', null),
  ('REWARD_REMINDER', 'REWARD_CLAIM', 'event', null),
  ('REWARD_REMINDER', 'EXPIRED', 'none', null);
--> statement-breakpoint

create function pawl.timer_rank(p_timer_type text) returns integer
-- Without SET, so that it is inlined: as a call it took half of a turn's time.
language sql immutable
as $$ select pg_catalog.array_position(array['START_CAMPAIGN', 'CLOSE_CAMPAIGN', 'REWARD_REMINDER', 'EXPIRE_CAMPAIGN'], p_timer_type) $$;
--> statement-breakpoint
comment on function pawl.timer_rank(text) is 'Order of timers of one campaign that are due at the same instant: START first, EXPIRE last';
--> statement-breakpoint

create function pawl.hours_in(p_metadata jsonb, p_name text, p_default numeric) returns interval
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select case
    when jsonb_typeof(p_metadata -> p_name) = 'number' and (p_metadata ->> p_name)::numeric between 0 and 87600
      then ((p_metadata ->> p_name)::numeric * interval '1 hour')
    else p_default * interval '1 hour'
  end
$$;
--> statement-breakpoint
comment on function pawl.hours_in(jsonb, text, numeric) is 'Hours named in a campaign''s metadata, from 0 to ten years; the default for anything else';
--> statement-breakpoint

-- Wakes the wheels for what is due before they would look by themselves (every 15 s).
create function pawl.announce_timers() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  earliest timestamptz;
begin
  select min(a.scheduled_at) into earliest from arrived a where a.status = 'PENDING';
  if earliest < now() + interval '20 seconds' then
    perform pg_notify('pawl_timers', round(extract(epoch from earliest) * 1000)::text);
  end if;
  return null;
end
$$;
--> statement-breakpoint
comment on function pawl.announce_timers() is 'NOTIFY pawl_timers with the earliest new due time, in milliseconds since the epoch';
--> statement-breakpoint
create trigger announce_new_timers after insert on public.campaign_timers
referencing new table as arrived for each statement execute function pawl.announce_timers();
--> statement-breakpoint
create trigger announce_changed_timers after update on public.campaign_timers
referencing new table as arrived for each statement
when (current_setting('pawl.firing', true) is distinct from 'on') execute function pawl.announce_timers();
--> statement-breakpoint

-- All of it in one statement: a few timers or five hundred cost one plan, one snapshot and one commit. The caller holds the
-- locks of campaigns and timers, and gives at most one timer a campaign, as no row can be updated twice here.
create function pawl.fire_set(p_timers uuid[], p_begun timestamptz, p_details jsonb default null, p_execution uuid default null) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  fired integer;
begin
  perform set_config('pawl.firing', 'on', true);
  with due as materialized (
    select t.id, t.campaign_id, t.timer_type, t.status, t.scheduled_at, t.payload, t.retry_count,
      c.status as from_state, c.duration_hours, c.auto_close, c.rewards_enabled, c.metadata, c.updated_at as campaign_updated_at,
      e.outcome, e.to_state as first_state,
      case when t.timer_type = 'CLOSE_CAMPAIGN' and e.outcome = 'transition' and c.rewards_enabled then 'REWARD_CLAIM' else e.to_state end as to_state
    from unnest(p_timers) wanted (id)
    join public.campaign_timers t on t.id = wanted.id
    join public.campaigns c on c.id = t.campaign_id
    join pawl.timer_effects e on e.timer_type = t.timer_type and e.from_state = c.status
  ), steps as materialized (
    select d.id, d.campaign_id, d.timer_type, d.scheduled_at, d.payload, d.campaign_updated_at, d.from_state, d.first_state as to_state
    from due d where d.outcome = 'transition'
    union all
    select d.id, d.campaign_id, d.timer_type, d.scheduled_at, d.payload, d.campaign_updated_at, d.first_state, d.to_state
    from due d where d.outcome = 'transition' and d.to_state <> d.first_state
  ), moved as (
    update public.campaigns c
    set status = d.to_state,
        updated_at = now(),
        -- When it was to start, not when we came to it: so end_time is when its CLOSE timer is due.
        start_time = case when d.timer_type = 'START_CAMPAIGN' then d.scheduled_at else c.start_time end,
        end_time = case when d.timer_type = 'START_CAMPAIGN' then d.scheduled_at + d.duration_hours * interval '1 hour' else c.end_time end
    from due d
    where c.id = d.campaign_id and d.outcome = 'transition'
  ), logged as (
    -- clock_timestamp(): the two steps of one CLOSE must not share their time.
    insert into public.campaign_state_log (campaign_id, from_state, to_state, trigger_event, metadata, created_at)
    select s.campaign_id, s.from_state, s.to_state, s.timer_type,
      jsonb_build_object('timer_id', s.id, 'previous_updated_at', s.campaign_updated_at, 'new_updated_at', now(), 'changed_by', 'pawl'),
      clock_timestamp()
    from steps s
  ), executed as (
    insert into public.timer_executions (timer_id, status, result, error_message, started_at, completed_at, execution_time_ms)
    select d.id, case when d.outcome = 'refused' then 'FAILED' else 'COMPLETED' end,
      coalesce(p_details, '{}') || jsonb_build_object('outcome', d.outcome, 'from', d.from_state, 'to', coalesce(d.to_state, d.from_state)),
      case when d.outcome = 'refused' then format('%s cannot happen to a campaign that is %s', d.timer_type, d.from_state) end,
      p_begun, clock_timestamp(), greatest(0, extract(epoch from clock_timestamp() - p_begun) * 1000)::integer
    from due d
    where p_execution is null
  ), concluded as (
    update public.timer_executions x
    set status = case when d.outcome = 'refused' then 'FAILED' else 'COMPLETED' end,
        result = coalesce(p_details, '{}') || jsonb_build_object('outcome', d.outcome, 'from', d.from_state, 'to', coalesce(d.to_state, d.from_state)),
        error_message = case when d.outcome = 'refused' then format('%s cannot happen to a campaign that is %s', d.timer_type, d.from_state) end,
        completed_at = clock_timestamp(),
        execution_time_ms = greatest(0, extract(epoch from clock_timestamp() - x.started_at) * 1000)::integer
    from due d
    where x.id = p_execution and x.timer_id = d.id
  ), done as (
    update public.campaign_timers t
    set status = case when d.outcome = 'refused' then 'FAILED' else 'COMPLETED' end,
        executed_at = clock_timestamp(),
        -- Refused is for good: no retry makes a campaign that never started closable.
        retry_count = case when d.outcome = 'refused' then 5 when d.status = 'FAILED' then least(5, d.retry_count + 1) else d.retry_count end,
        next_attempt_at = null,
        claimed_by = null,
        updated_at = now()
    from due d
    where t.id = d.id
  ), measured as (
    insert into public.campaign_metrics (campaign_id, metric_type, value, attributes)
    select d.campaign_id, 'TIMER_EXECUTION_TIME', round((extract(epoch from clock_timestamp() - p_begun) * 1000)::numeric, 4),
      jsonb_build_object('timer_id', d.id, 'timer_type', d.timer_type)
    from due d where d.outcome <> 'refused'
    union all
    select s.campaign_id, 'STATE_TRANSITION_TIME', round((extract(epoch from clock_timestamp() - s.scheduled_at) * 1000)::numeric, 4),
      jsonb_build_object('timer_id', s.id, 'from', s.from_state, 'to', s.to_state)
    from steps s
  ), silenced as (
    update public.campaign_timers o
    set status = 'CANCELLED', next_attempt_at = null, updated_at = now()
    from due d
    where d.timer_type = 'EXPIRE_CAMPAIGN' and d.outcome = 'transition'
      and o.campaign_id = d.campaign_id and o.id <> d.id and (o.status = 'PENDING' or (o.status = 'FAILED' and o.retry_count < 5))
  ), scheduled as (
    insert into public.campaign_timers (campaign_id, timer_type, scheduled_at)
    select d.campaign_id, n.timer_type, n.scheduled_at
    from due d
    cross join lateral (
      -- From the moment the claim phase opens, late or not: people were promised that long.
      select 'EXPIRE_CAMPAIGN', now() + pawl.hours_in(d.metadata, 'expire_hours', 72) where d.timer_type = 'CLOSE_CAMPAIGN'
      union all
      select 'REWARD_REMINDER', now() + pawl.hours_in(d.metadata, 'reward_reminder_hours', 24) where d.timer_type = 'CLOSE_CAMPAIGN' and d.rewards_enabled
      union all
      -- For campaigns that were inserted with a START timer alone; one that was cancelled on purpose stays cancelled.
      select 'CLOSE_CAMPAIGN', d.scheduled_at + d.duration_hours * interval '1 hour'
      where d.timer_type = 'START_CAMPAIGN' and d.auto_close
        -- || '' keeps the planner off the index on the type: with statistics from before the rush it read all of that type for each row.
        and not exists (select from public.campaign_timers k where k.campaign_id = d.campaign_id and k.timer_type || '' = 'CLOSE_CAMPAIGN')
    ) n (timer_type, scheduled_at)
    where d.outcome = 'transition'
    on conflict do nothing
  ), told as (
    insert into pgboss.job (
      name, data, policy, retry_limit, retry_delay, retry_backoff, retry_delay_max,
      expire_seconds, deletion_seconds, heartbeat_seconds, dead_letter, keep_until
    )
    select q.name, v.data, q.policy, q.retry_limit, q.retry_delay, q.retry_backoff, q.retry_delay_max,
      q.expire_seconds, q.deletion_seconds, q.heartbeat_seconds, q.dead_letter, now() + q.retention_seconds * interval '1 second'
    from (
      select s.to_state as event, s.campaign_id, s.id, s.scheduled_at, s.payload from steps s
      union all
      select d.timer_type, d.campaign_id, d.id, d.scheduled_at, d.payload from due d where d.outcome = 'event'
    ) happened
    join (values
      ('RUNNING', 'campaign.started'), ('CLOSED', 'campaign.closed'), ('REWARD_CLAIM', 'campaign.reward_claim'),
      ('EXPIRED', 'campaign.expired'), ('REWARD_REMINDER', 'campaign.reward_reminder')
    ) names (event, queue) on names.event = happened.event
    join pgboss.queue q on q.name = names.queue
    cross join lateral (
      select jsonb_build_object(
        'event', names.queue, 'campaign_id', happened.campaign_id, 'timer_id', happened.id,
        'scheduled_at', happened.scheduled_at, 'happened_at', now(), 'payload', happened.payload
      ) as data
    ) v
    returning name, data
  ), woken as (
    select pg_notify('pgboss_' || left(encode(sha224('pgboss'::bytea), 'hex'), 24), names.name) from (select distinct t.name from told t) names
  ), heard as (
    select pg_notify('pawl_campaigns', jsonb_build_object('event', t.name, 'campaign_id', t.data -> 'campaign_id')::text) from told t
  )
  select (select count(*) from due) + 0 * ((select count(*) from woken) + (select count(*) from heard)) into fired;
  perform pawl.enqueue('campaigns.fire.dead', jsonb_build_object('timer_id', d.id, 'error', 'refused'))
  from public.campaign_timers d
  where d.id = any (p_timers) and d.status = 'FAILED';
  return fired;
end
$$;
--> statement-breakpoint
comment on function pawl.fire_set(uuid[], timestamptz, jsonb, uuid) is
  'Fires locked timers, one a campaign: transition, state log, execution, metrics, next timers and events (jobs campaign.… and NOTIFY pawl_campaigns), all in one statement';
--> statement-breakpoint

create function pawl.passes(p_sqlstate text) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp
as $$ select left(p_sqlstate, 2) in ('40', '53', '57', '58', 'XX', '08', 'PW') or p_sqlstate = '55P03' $$;
--> statement-breakpoint
comment on function pawl.passes(text) is 'Whether an error is the world''s and not the work''s: deadlocks, shutdowns, full disks. As classify in src/errors.ts has it';
--> statement-breakpoint

-- retry_count is the number of retries made: 0 after the first failure, 5 after the last.
create function pawl.fail_timer(p_timer uuid, p_error text, p_begun timestamptz, p_execution uuid default null, p_final boolean default false) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  timer public.campaign_timers;
  made integer;
  again timestamptz;
begin
  perform set_config('pawl.firing', 'on', true);
  select * into timer from public.campaign_timers t where t.id = p_timer for update;
  if not found then
    return;
  end if;
  made := least(5, timer.retry_count + case when timer.status = 'FAILED' then 1 else 0 end);
  if p_execution is null then
    insert into public.timer_executions (timer_id, status, error_message, started_at, completed_at, execution_time_ms)
    values (p_timer, 'FAILED', p_error, p_begun, clock_timestamp(), greatest(0, extract(epoch from clock_timestamp() - p_begun) * 1000)::integer);
  else
    update public.timer_executions x
    set status = 'FAILED', error_message = p_error, completed_at = clock_timestamp(),
        execution_time_ms = greatest(0, extract(epoch from clock_timestamp() - x.started_at) * 1000)::integer
    where x.id = p_execution and x.status = 'STARTED';
  end if;
  if made >= 5 or p_final then
    update public.campaign_timers t
    set status = 'FAILED', retry_count = 5, next_attempt_at = null, claimed_by = null, executed_at = clock_timestamp(), updated_at = now()
    where t.id = p_timer;
    perform pawl.enqueue('campaigns.fire.dead', jsonb_build_object('timer_id', p_timer, 'error', p_error));
    -- Those that had to wait for it go on.
    perform pg_notify('pawl_timers', '0');
    return;
  end if;
  -- 2, 4, 8, 16, 32 seconds, a quarter of it by chance.
  again := clock_timestamp() + interval '1 second' * (2 ^ (made + 1)) * (0.75 + random() / 4);
  update public.campaign_timers t
  set status = 'FAILED', retry_count = made, next_attempt_at = again, claimed_by = null, updated_at = now()
  where t.id = p_timer;
  perform pawl.enqueue('campaigns.fire', jsonb_build_object('timer_id', p_timer), 0, again);
end
$$;
--> statement-breakpoint
comment on function pawl.fail_timer(uuid, text, timestamptz, uuid, boolean) is
  'Records a failed attempt. Until five retries were made, a job on campaigns.fire brings the next one; after that the timer stays FAILED, with a job on campaigns.fire.dead';
--> statement-breakpoint

-- One bad timer never fails its neighbours: when the set fails, each is tried by itself. OTHERS leaves out assert_failure, and a
-- trigger of the host may assert.
create function pawl.fire_each(p_timers uuid[], p_begun timestamptz) returns integer
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  one uuid;
  fired integer := 0;
begin
  begin
    return pawl.fire_set(p_timers, p_begun);
  exception
    when others or assert_failure then
      if pawl.passes(sqlstate) then
        raise;
      end if;
  end;
  foreach one in array p_timers loop
    begin
      fired := fired + pawl.fire_set(array[one], clock_timestamp());
    exception
      when others or assert_failure then
        if pawl.passes(sqlstate) then
          raise;
        end if;
        perform pawl.fail_timer(one, sqlerrm, p_begun);
    end;
  end loop;
  return fired;
end
$$;
--> statement-breakpoint
comment on function pawl.fire_each(uuid[], timestamptz) is 'Fires locked timers; those that cannot be are failed, each by itself. Returns how many fired';
--> statement-breakpoint

-- Timers go in their order, campaign by campaign: only the first that is still to happen may be taken. The planner's ways are fixed:
-- for a backlog on tables it has not analyzed it would sort all of it for each turn, instead of reading the index up to the limit.
create function pawl.due_timers(p_limit integer, p_types text[], p_others boolean, out timers uuid[], out more boolean, out due_at timestamptz[])
language plpgsql set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
begin
  with locked as materialized (
    select t.id, t.scheduled_at
    from public.campaign_timers t
    join public.campaigns c on c.id = t.campaign_id
    -- now() and not clock_timestamp(): a volatile bound is no index condition (25 ms instead of 0.1 with 200,000 future timers).
    where t.status = 'PENDING' and t.scheduled_at <= now() and (t.timer_type = any (p_types)) is distinct from p_others
      and not exists (
        select from public.campaign_timers b
        where b.campaign_id = t.campaign_id and b.id <> t.id
          and (b.scheduled_at, pawl.timer_rank(b.timer_type)) < (t.scheduled_at, pawl.timer_rank(t.timer_type))
          -- Not by the index on status, whatever the planner thinks of it.
          and (b.status || '' in ('PENDING', 'RUNNING') or (b.status || '' = 'FAILED' and b.retry_count < 5))
      )
    order by t.scheduled_at
    limit p_limit
    -- In this order: who held a timer and not yet its campaign would let another worker have the campaign's next timer before it.
    for no key update of c skip locked
    for update of t skip locked
  )
  select array_agg(l.id order by l.scheduled_at), count(*) >= p_limit into timers, more from locked l;
  -- Looked at again behind the locks: the first look may be older than what another worker, now gone, or a person did to an earlier one.
  select array_agg(t.id order by t.scheduled_at), array_agg(t.scheduled_at order by t.scheduled_at) into timers, due_at
  from unnest(timers) l (id)
  join public.campaign_timers t on t.id = l.id
  where not exists (
    select from public.campaign_timers b
    where b.campaign_id = t.campaign_id and b.id <> t.id
      and (b.scheduled_at, pawl.timer_rank(b.timer_type)) < (t.scheduled_at, pawl.timer_rank(t.timer_type))
      and (b.status || '' in ('PENDING', 'RUNNING') or (b.status || '' = 'FAILED' and b.retry_count < 5))
  );
  more := more and timers is not null;
end
$$;
--> statement-breakpoint
comment on function pawl.due_timers(integer, text[], boolean) is
  'Locks due campaigns and timers, oldest first, past those another worker has; of each campaign the first one. p_others: all types but p_types. due_at: when each was due';
--> statement-breakpoint

create function pawl.timers_left(p_types text[]) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
  select exists (
    select from public.campaign_timers t
    where t.status = 'PENDING' and t.scheduled_at <= now() and (t.timer_type = any (p_types)) is distinct from true
      and not exists (
        select from public.campaign_timers b
        where b.campaign_id = t.campaign_id and b.id <> t.id
          and (b.scheduled_at, pawl.timer_rank(b.timer_type)) < (t.scheduled_at, pawl.timer_rank(t.timer_type))
          and (b.status || '' in ('PENDING', 'RUNNING') or (b.status || '' = 'FAILED' and b.retry_count < 5))
      )
  )
$$;
--> statement-breakpoint
comment on function pawl.timers_left(text[]) is 'Whether a timer is due that could fire now but for somebody''s lock; p_types are those that a handler takes';
--> statement-breakpoint

-- One turn of the wheel, one round trip. next_at_ms and now_ms are the database's clock: a worker's own is never asked.
create function pawl.fire_timers(
  p_limit integer, p_handled text[],
  out fired integer, out more boolean, out next_at_ms double precision, out now_ms double precision, out late_ms double precision[]
)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  due uuid[];
  due_at timestamptz[];
begin
  fired := 0;
  more := false;
  if not exists (select from pawl.paused_queues p where p.queue = 'campaigns.fire') then
    select d.timers, d.more, d.due_at into due, more, due_at from pawl.due_timers(p_limit, p_handled, true) d;
    if due is not null then
      fired := pawl.fire_each(due, clock_timestamp());
      -- From what was read anyway: the rows are not asked again unless some of them failed, which is rare. date_part, as extract counts in numeric.
      if fired < cardinality(due) then
        due_at := array(select t.scheduled_at from public.campaign_timers t where t.id = any (due) and t.executed_at is not null);
      end if;
      late_ms := array(select round(date_part('epoch', clock_timestamp() - d.at) * 1000) from unnest(due_at) d (at));
    end if;
    if not more then
      next_at_ms := extract(epoch from (select min(t.scheduled_at) from public.campaign_timers t where t.status = 'PENDING' and t.scheduled_at > now())) * 1000;
      -- The next one of a campaign whose first has just fired, or one that somebody has locked: nobody would announce it.
      if pawl.timers_left(p_handled) then
        next_at_ms := least(next_at_ms, extract(epoch from clock_timestamp()) * 1000 + case when fired > 0 then 0 else 50 end);
      end if;
    end if;
  end if;
  now_ms := extract(epoch from clock_timestamp()) * 1000;
end
$$;
--> statement-breakpoint
comment on function pawl.fire_timers(integer, text[]) is
  'Fires what is due, at most p_limit; p_handled are types that a handler in the worker takes. more: ask again at once; next_at_ms: when the next one is due; late_ms: how late each was that fired';
--> statement-breakpoint

create function pawl.fire_timer(p_timer uuid) returns text
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  timer public.campaign_timers;
begin
  perform from public.campaigns c join public.campaign_timers t on t.campaign_id = c.id where t.id = p_timer for no key update of c;
  select * into timer from public.campaign_timers t where t.id = p_timer for update;
  if not found then
    return 'gone';
  end if;
  if not (timer.status = 'FAILED' and timer.retry_count < 5) and not (timer.status = 'PENDING' and timer.scheduled_at <= now()) then
    return lower(timer.status);
  end if;
  if exists (select from pawl.paused_queues p where p.queue = 'campaigns.fire') then
    return 'paused';
  end if;
  perform pawl.fire_each(array[p_timer], clock_timestamp());
  -- Those that had to wait for it go on.
  perform pg_notify('pawl_timers', '0');
  return (select lower(t.status) from public.campaign_timers t where t.id = p_timer);
end
$$;
--> statement-breakpoint
comment on function pawl.fire_timer(uuid) is 'Fires one timer that is due or waits for its retry; the state it is in afterwards';
--> statement-breakpoint

create function pawl.claim_timers(p_types text[], p_limit integer, p_lease integer, p_timer uuid default null)
returns table (timer_id uuid, execution_id uuid, campaign_id uuid, timer_type text, scheduled_at timestamptz, payload jsonb, attempt integer)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  due uuid[];
begin
  if exists (select from pawl.paused_queues p where p.queue = 'campaigns.fire') then
    return;
  end if;
  perform set_config('pawl.firing', 'on', true);
  if p_timer is null then
    select d.timers into due from pawl.due_timers(p_limit, p_types, false) d;
  else
    perform from public.campaigns c join public.campaign_timers t on t.campaign_id = c.id where t.id = p_timer for no key update of c;
    due := array(
      select t.id from public.campaign_timers t
      where t.id = p_timer and t.timer_type = any (p_types) and ((t.status = 'FAILED' and t.retry_count < 5) or (t.status = 'PENDING' and t.scheduled_at <= now()))
      for update
    );
  end if;
  if cardinality(due) > 0 then
    -- To claim is to be alive. A worker that was stopped for long claims before it beats again: under the lease as it was left,
    -- whoever looks would take the timer from it at once and count a death.
    update pawl.leases l set seen_at = clock_timestamp() where l.id = p_lease and l.state in ('running', 'draining');
    if not found then
      return;
    end if;
  end if;
  return query
  with claimed as (
    update public.campaign_timers t
    set status = 'RUNNING', claimed_by = p_lease, retry_count = t.retry_count + case when t.status = 'FAILED' then 1 else 0 end, updated_at = now()
    where t.id = any (due)
    returning t.*
  ), started as (
    insert into public.timer_executions (timer_id) select c.id from claimed c
    returning timer_executions.id, timer_executions.timer_id
  )
  select c.id, s.id, c.campaign_id, c.timer_type::text, c.scheduled_at, c.payload, c.retry_count + 1
  from claimed c join started s on s.timer_id = c.id
  order by c.scheduled_at;
end
$$;
--> statement-breakpoint
comment on function pawl.claim_timers(text[], integer, integer, uuid) is 'Takes due timers for a handler in the worker of that lease: RUNNING, with an execution STARTED';
--> statement-breakpoint

create function pawl.conclude_timer(p_timer uuid, p_execution uuid, p_lease integer, p_result jsonb, p_error text) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  began timestamptz;
begin
  perform from public.campaigns c join public.campaign_timers t on t.campaign_id = c.id where t.id = p_timer for no key update of c;
  perform from public.campaign_timers t where t.id = p_timer and t.status = 'RUNNING' and t.claimed_by = p_lease for update;
  if not found then
    raise exception 'timer % was taken over by another worker', p_timer using errcode = 'PW001';
  end if;
  select x.started_at into began from public.timer_executions x where x.id = p_execution and x.status = 'STARTED';
  if not found then
    raise exception 'execution % has ended already', p_execution using errcode = 'PW001';
  end if;
  if p_error is not null then
    perform pawl.fail_timer(p_timer, p_error, began, p_execution);
    return;
  end if;
  begin
    perform pawl.fire_set(array[p_timer], began, p_result, p_execution);
  exception
    when others or assert_failure then
      if pawl.passes(sqlstate) then
        raise;
      end if;
      perform pawl.fail_timer(p_timer, sqlerrm, began, p_execution);
  end;
  perform pg_notify('pawl_timers', '0');
end
$$;
--> statement-breakpoint
comment on function pawl.conclude_timer(uuid, uuid, integer, jsonb, text) is 'Ends a handler''s attempt: the timer fires, or failed with p_error. Raises PW001 when the timer was taken from this worker';
--> statement-breakpoint

create function pawl.release_timer(p_timer uuid, p_execution uuid, p_lease integer) returns void
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  update public.campaign_timers t set status = 'PENDING', claimed_by = null where t.id = p_timer and t.status = 'RUNNING' and t.claimed_by = p_lease;
  if not found then
    raise exception 'timer % was taken over by another worker', p_timer using errcode = 'PW001';
  end if;
  update public.timer_executions x
  set status = 'FAILED', error_message = 'handed back: the worker was shut down', completed_at = clock_timestamp()
  where x.id = p_execution and x.status = 'STARTED';
end
$$;
--> statement-breakpoint
comment on function pawl.release_timer(uuid, uuid, integer) is 'Hands a timer back whose handler was stopped by a shutdown: another worker takes it at once, no retry spent. Raises PW001 when it was taken from this worker';
--> statement-breakpoint

create function pawl.rescue_timers(p_lease_time interval) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  orphan record;
  rescued integer := 0;
begin
  for orphan in
    select t.id, x.id as execution, x.started_at,
      (select count(*) from public.timer_executions d where d.timer_id = t.id and d.error_message = 'the worker died') as deaths
    from public.campaign_timers t
    left join public.timer_executions x on x.timer_id = t.id and x.status = 'STARTED'
    -- Without a claim: adopted from another runner, which is given as long.
    where t.status = 'RUNNING' and (
      not pawl.lease_alive(t.claimed_by, p_lease_time) and (t.claimed_by is not null or t.updated_at < now() - p_lease_time)
      -- Far beyond a handler's patience: its worker lives, but the answer to its claim got lost on the way.
      or t.updated_at < now() - interval '10 minutes'
    )
    limit 500
    for update of t skip locked
  loop
    if orphan.deaths >= 2 then
      perform pawl.fail_timer(orphan.id, 'poison: its worker died three times', coalesce(orphan.started_at, now()), orphan.execution, true);
    else
      update public.timer_executions x
      set status = 'FAILED', error_message = 'the worker died', completed_at = clock_timestamp()
      where x.id = orphan.execution;
      update public.campaign_timers t set status = 'PENDING', claimed_by = null where t.id = orphan.id;
    end if;
    rescued := rescued + 1;
  end loop;
  return rescued;
end
$$;
--> statement-breakpoint
comment on function pawl.rescue_timers(interval) is 'Takes timers from handlers whose worker is gone; no retry is spent, but three deaths are poison';
--> statement-breakpoint

-- Backstop: retries whose job was lost. The wheel itself only looks at PENDING timers.
create function pawl.redeliver_lost_timers() returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  enqueued integer;
begin
  select count(pawl.enqueue('campaigns.fire', jsonb_build_object('timer_id', lost.id))) into enqueued
  from (
    select t.id
    from public.campaign_timers t
    where t.status = 'FAILED' and t.retry_count < 5 and coalesce(t.next_attempt_at, t.updated_at) < now() - interval '1 minute'
      and not exists (
        select from pgboss.job j where j.name = 'campaigns.fire' and j.state < 'completed' and j.data ->> 'timer_id' = t.id::text
      )
    limit 1000
  ) lost;
  return enqueued;
end
$$;
--> statement-breakpoint
comment on function pawl.redeliver_lost_timers() is 'Enqueues retries that no job would bring any more';
--> statement-breakpoint

create function pawl.create_campaign(
  duration_hours integer,
  start_at timestamptz default now(),
  auto_close boolean default true,
  rewards_enabled boolean default true,
  metadata jsonb default '{}',
  id uuid default null
) returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  new_id uuid := coalesce(create_campaign.id, gen_random_uuid());
  kept public.campaigns;
begin
  if create_campaign.duration_hours is null or create_campaign.duration_hours not between 1 and 87600 then
    raise exception 'duration_hours must be from 1 to 87600, not %', coalesce(create_campaign.duration_hours::text, 'null')
      using errcode = '22023', hint = 'pass whole hours; ten years at most';
  end if;
  if create_campaign.start_at is null or not isfinite(create_campaign.start_at) or create_campaign.start_at >= timestamptz '10000-01-01 00:00:00+00' then
    raise exception 'start_at must be a time before the year 10000, not %', coalesce(create_campaign.start_at::text, 'null') using errcode = '22023', hint = 'leave it out for now()';
  end if;
  -- Not for an id that is there: who asks again after a lost answer asks with the same times.
  if create_campaign.start_at < now() - interval '1 minute' and not exists (select from public.campaigns c where c.id = create_campaign.id) then
    raise exception 'start_at % is in the past', create_campaign.start_at using errcode = '22023', hint = 'up to a minute ago is accepted; leave it out for now()';
  end if;
  if create_campaign.auto_close is null or create_campaign.rewards_enabled is null then
    raise exception 'auto_close and rewards_enabled must not be null' using errcode = '22023', hint = 'leave them out for true';
  end if;
  if create_campaign.metadata is null or jsonb_typeof(create_campaign.metadata) <> 'object' then
    raise exception 'metadata must be a JSON object, not %', coalesce(jsonb_typeof(create_campaign.metadata), 'null')
      using errcode = '22023', hint = 'leave it out for {}; reward_reminder_hours and expire_hours are numbers in it';
  end if;
  insert into public.campaigns (id, duration_hours, auto_close, rewards_enabled, metadata)
  values (new_id, create_campaign.duration_hours, create_campaign.auto_close, create_campaign.rewards_enabled, create_campaign.metadata)
  on conflict on constraint campaigns_pkey do nothing;
  if not found then
    select * into kept from public.campaigns c where c.id = new_id;
    if (kept.duration_hours, kept.auto_close, kept.rewards_enabled, kept.metadata)
      is distinct from (create_campaign.duration_hours, create_campaign.auto_close, create_campaign.rewards_enabled, create_campaign.metadata) then
      raise exception 'campaign % exists with other arguments', new_id using errcode = '22023', hint = 'use a new id for a new campaign';
    end if;
    return new_id;
  end if;
  insert into public.campaign_timers (campaign_id, timer_type, scheduled_at)
  select new_id, 'START_CAMPAIGN', create_campaign.start_at
  union all
  select new_id, 'CLOSE_CAMPAIGN', create_campaign.start_at + create_campaign.duration_hours * interval '1 hour' where create_campaign.auto_close;
  return new_id;
end
$$;
--> statement-breakpoint
comment on function pawl.create_campaign(integer, timestamptz, boolean, boolean, jsonb, uuid) is
  'Creates a campaign with its START timer and, with auto_close, its CLOSE timer. Returns its id; the same id with the same arguments creates nothing. Errors: 22023 bad argument';
--> statement-breakpoint

create function pawl.schedule_timer(campaign_id uuid, timer_type text, at timestamptz, payload jsonb default '{}') returns uuid
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  new_id uuid;
  other record;
begin
  if schedule_timer.timer_type is null or pawl.timer_rank(schedule_timer.timer_type) is null then
    raise exception 'there is no timer type "%"', left(coalesce(schedule_timer.timer_type, 'null'), 100)
      using errcode = '22023', hint = 'START_CAMPAIGN, CLOSE_CAMPAIGN, EXPIRE_CAMPAIGN or REWARD_REMINDER';
  end if;
  if schedule_timer.at is null or not isfinite(schedule_timer.at) or schedule_timer.at >= timestamptz '10000-01-01 00:00:00+00' then
    raise exception 'a timer needs a time before the year 10000, not %', coalesce(schedule_timer.at::text, 'null') using errcode = '22023', hint = 'pass a timestamptz such as now() + interval ''1 hour''';
  end if;
  if schedule_timer.payload is null or jsonb_typeof(schedule_timer.payload) <> 'object' then
    raise exception 'payload must be a JSON object, not %', coalesce(jsonb_typeof(schedule_timer.payload), 'null') using errcode = '22023', hint = 'leave it out for {}';
  end if;
  perform from public.campaigns c where c.id = schedule_timer.campaign_id;
  if not found then
    raise exception 'campaign % does not exist', coalesce(schedule_timer.campaign_id::text, 'null') using errcode = '23503', hint = 'pass the id of a row of public.campaigns';
  end if;
  insert into public.campaign_timers (campaign_id, timer_type, scheduled_at, payload)
  values (schedule_timer.campaign_id, schedule_timer.timer_type, schedule_timer.at, schedule_timer.payload)
  on conflict do nothing
  returning id into new_id;
  if new_id is null then
    select t.id, t.scheduled_at into other
    from public.campaign_timers t
    where t.campaign_id = schedule_timer.campaign_id and t.timer_type = schedule_timer.timer_type
      and (t.status in ('PENDING', 'RUNNING') or (t.status = 'FAILED' and t.retry_count < 5));
    raise exception 'campaign % has an active % timer already, % at %', schedule_timer.campaign_id, schedule_timer.timer_type, other.id, other.scheduled_at
      using errcode = '22023', hint = format('move it: select pawl.reschedule_timer(%L, …), or cancel it: select pawl.cancel(%L)', other.id, other.id);
  end if;
  return new_id;
end
$$;
--> statement-breakpoint
comment on function pawl.schedule_timer(uuid, text, timestamptz, jsonb) is
  'Schedules a timer of a campaign; its id. One active timer of a type per campaign. Errors: 22023 bad argument, time in the past, expired campaign or second timer; 23503 unknown campaign';
--> statement-breakpoint

create function pawl.reschedule_timer(timer_id uuid, at timestamptz) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if reschedule_timer.at is null or not isfinite(reschedule_timer.at) or reschedule_timer.at < now() - interval '1 minute'
    or reschedule_timer.at >= timestamptz '10000-01-01 00:00:00+00' then
    raise exception 'a timer cannot be moved to %', coalesce(reschedule_timer.at::text, 'null') using errcode = '22023', hint = 'pass a time that is not past, before the year 10000';
  end if;
  update public.campaign_timers t set scheduled_at = reschedule_timer.at where t.id = reschedule_timer.timer_id and t.status = 'PENDING';
  if found then
    return true;
  end if;
  perform from public.campaign_timers t where t.id = reschedule_timer.timer_id;
  if not found then
    raise exception 'timer % does not exist', coalesce(reschedule_timer.timer_id::text, 'null') using errcode = '22023', hint = 'select timer_id from pawl.timers';
  end if;
  return false;
end
$$;
--> statement-breakpoint
comment on function pawl.reschedule_timer(uuid, timestamptz) is 'Moves a pending timer to another time. False when it has fired, failed or was cancelled';
--> statement-breakpoint
revoke execute on all routines in schema pawl from public;
