import { type Mutant, within } from './mutant.ts'

const OVERRIDES = 'drizzle/0004_override_runs.sql'
const CAMPAIGNS = 'drizzle/0006_campaign_timers.sql'
const FIRING = ['test/integration/campaign-firing.test.ts']
const RETRIES = ['test/integration/campaign-retries.test.ts']
const DEATHS = ['test/integration/timer-deaths.test.ts']

const overrides: readonly Mutant[] = [
  {
    name: 'lanes overlap by one',
    why: 'the recipient at the edge is written and counted twice',
    changes: within(OVERRIDES, ['r.is_active and r.id > after and r.id <= upto', 'r.is_active and r.id >= after and r.id <= upto']),
    tests: ['test/integration/overrides.test.ts'],
    quick: true,
  },
  {
    name: 'a full batch is the last',
    why: 'recipients behind the first batch are left out, and the operation says completed',
    changes: within(OVERRIDES, ['finished := cardinality(recipients) < operation.batch_size;', 'finished := cardinality(recipients) <= operation.batch_size;']),
    tests: ['test/integration/overrides.test.ts'],
  },
  {
    name: 'the cursor stands before its rows',
    why: 'the last recipient of each batch is written again by the next one',
    changes: within(OVERRIDES, [
      'case when finished then upto else recipients[cardinality(recipients)] end',
      'case when finished then upto else recipients[cardinality(recipients)] - 1 end',
    ]),
    tests: ['test/integration/overrides.test.ts'],
  },
  {
    name: 'progress counts a whole batch',
    why: 'processed_recipients promises more than the rows that carry the operation',
    changes: within(OVERRIDES, [
      '  -- Last, because every lane of the operation locks this row until its commit.\n  update public.category_override_operations o\n  set processed_recipients = o.processed_recipients + rows,',
      '  update public.category_override_operations o\n  set processed_recipients = o.processed_recipients + operation.batch_size,',
    ]),
    tests: ['test/integration/overrides.test.ts'],
  },
  {
    name: 'a category’s operations overtake each other',
    why: 'the older settings win',
    changes: within(OVERRIDES, [
      "and (o.status = 'PROCESSING' or (o.status = 'PENDING' and o.id < operation.id))",
      "and o.status = 'PROCESSING' and o.id < operation.id",
    ]),
    tests: ['test/integration/override-order.test.ts'],
  },
  {
    name: 'a slice goes on after a stop',
    why: 'the server commits batch after batch of a run that was cancelled',
    changes: within(OVERRIDES, [
      'exit when finished or stop is not null or clock_timestamp() - started >= p_slice;',
      'exit when finished or clock_timestamp() - started >= p_slice;',
    ]),
    tests: ['test/integration/override-runs.test.ts'],
  },
  {
    name: 'a revert takes back what others wrote',
    why: 'settings that somebody changed since are overwritten with old ones',
    changes: within(OVERRIDES, [
      's.updated_by_operation = operation.reverts_operation_id and s.settings = operation.override_settings and s.previous_settings is not null',
      's.updated_by_operation = operation.reverts_operation_id and s.previous_settings is not null',
    ]),
    tests: ['test/integration/revert.test.ts'],
  },
]

const campaigns: readonly Mutant[] = [
  {
    name: 'timers fire a second early',
    why: 'a campaign is announced before it begins',
    changes: within(CAMPAIGNS, [
      "where t.status = 'PENDING' and t.scheduled_at <= now() and (t.timer_type = any (p_types)) is distinct from p_others",
      "where t.status = 'PENDING' and t.scheduled_at <= now() + interval '1 second' and (t.timer_type = any (p_types)) is distinct from p_others",
    ]),
    tests: [...FIRING, 'test/integration/wheel.test.ts'],
  },
  {
    name: 'no second look behind the locks',
    why: 'CLOSE fires while the START before it has just failed',
    changes: within(CAMPAIGNS, [
      '  from unnest(timers) l (id)\n  join public.campaign_timers t on t.id = l.id\n  where not exists (',
      '  from unnest(timers) l (id)\n  join public.campaign_timers t on t.id = l.id\n  where true or not exists (',
    ]),
    tests: ['test/integration/timer-order.test.ts'],
  },
  {
    name: 'a timer that is locked is waited for',
    why: 'one stuck transaction of somebody else stops every wheel',
    changes: within(CAMPAIGNS, ['    for update of t skip locked\n  )', '    for update of t\n  )']),
    tests: FIRING,
  },
  {
    name: 'a retry that succeeds is not counted',
    why: 'retry_count says one less than the executions',
    changes: within(CAMPAIGNS, ["when d.status = 'FAILED' then least(5, d.retry_count + 1) else d.retry_count end", 'else d.retry_count end']),
    tests: RETRIES,
  },
  {
    name: 'four retries instead of five',
    why: 'the document promises five',
    changes: within(CAMPAIGNS, ['if made >= 5 or p_final then', 'if made >= 4 or p_final then']),
    tests: RETRIES,
  },
  {
    name: 'a passing error fails the timer',
    why: 'a deadlock uses up a retry',
    changes: within(CAMPAIGNS, [
      "as $$ select left(p_sqlstate, 2) in ('40', '53', '57', '58', 'XX', '08', 'PW') or p_sqlstate = '55P03' $$;",
      "as $$ select left(p_sqlstate, 2) in ('PW') $$;",
    ]),
    tests: RETRIES,
  },
  {
    name: 'reminders tell nobody',
    why: 'the timer completes, and no event comes of it',
    changes: within(CAMPAIGNS, ["from due d where d.outcome = 'event'", "from due d where d.outcome = 'events'"]),
    tests: FIRING,
  },
  {
    name: 'EXPIRE leaves timers behind',
    why: 'a reminder is sent for a campaign that is over',
    changes: within(CAMPAIGNS, [
      "and o.campaign_id = d.campaign_id and o.id <> d.id and (o.status = 'PENDING'",
      "and o.campaign_id = d.campaign_id and o.id <> d.id and (o.status = 'RUNNING'",
    ]),
    tests: FIRING,
  },
  {
    name: 'a zombie concludes a timer',
    why: 'a handler that was presumed dead fires what another has at work',
    changes: within(
      CAMPAIGNS,
      ["where t.id = p_timer and t.status = 'RUNNING' and t.claimed_by = p_lease for update;", 'where t.id = p_timer for update;'],
      [
        "from public.timer_executions x where x.id = p_execution and x.status = 'STARTED';\n  if not found then",
        'from public.timer_executions x where x.id = p_execution;\n  if not found then',
      ],
    ),
    tests: DEATHS,
  },
  {
    name: 'a claim is no sign of life',
    why: 'what a worker claims as it wakes up is taken from it at once, and counts as a death',
    changes: within(CAMPAIGNS, ['set seen_at = clock_timestamp() where l.id = p_lease', 'set seen_at = l.seen_at where l.id = p_lease']),
    tests: DEATHS,
  },
  {
    name: 'a shutdown fails the handler’s timer',
    why: 'each deploy costs timers a retry',
    changes: within('workers/campaigns/handlers.ts', [
      "if ('error' in outcome && signal.aborted) {",
      "if ('error' in outcome && !signal.aborted && signal.aborted) {",
    ]),
    tests: ['test/integration/timer-handlers.test.ts'],
  },
  {
    name: 'a closed campaign can be started again',
    why: 'the table in code no longer says what the database does',
    changes: within('workers/campaigns/states.ts', ["  CLOSED: ['REWARD_CLAIM', 'EXPIRED'],", "  CLOSED: ['REWARD_CLAIM', 'EXPIRED', 'RUNNING'],"]),
    tests: ['test/integration/campaign-states.test.ts'],
  },
]

const REFRESH = 'drizzle/0008_refresh_runs.sql'

const refresh: readonly Mutant[] = [
  {
    name: 'children do not wait for their parents',
    why: 'a summary is made of yesterday’s rows',
    changes: within(REFRESH, ['where w.run_id = p_run_id and p.outcome is null', 'where w.run_id = p_run_id and p.outcome is null and not w.hard']),
    tests: ['test/integration/refresh-order.test.ts', 'test/integration/refresh-plan.test.ts'],
  },
  {
    name: 'urgency is not inherited',
    why: 'what is urgent waits behind what is not',
    changes: within(REFRESH, [
      'where s.run_id = step.run_id and s.urgency > below.urgency;',
      'where s.run_id = step.run_id and s.urgency > below.urgency and false;',
    ]),
    tests: ['test/integration/refresh-order.test.ts'],
  },
  {
    name: 'one more reading than the limit',
    why: 'the warehouse is asked for more at once than was agreed',
    changes: within(REFRESH, ['if reading >= most then', 'if reading > most then']),
    tests: ['test/integration/refresh-limits.test.ts'],
  },
  {
    name: 'published without the fence',
    why: 'a zombie ends the run that another has begun anew',
    changes: within('workers/refresh/publish.ts', ['step.run_id === run.runId ? run.epoch : null', 'null']),
    tests: ['test/integration/refresh-fence.test.ts'],
  },
  {
    name: 'published although the table moved',
    why: 'what was judged is not what is done',
    changes: within('workers/refresh/publish.ts', ['    if (done?.rows !== rows) throw', '    if (done === undefined) throw']),
    tests: ['test/integration/refresh-publish.test.ts'],
  },
  {
    name: 'a null is no difference',
    why: 'a value that became null keeps its old one for ever',
    changes: within('workers/refresh/difference.ts', ["is distinct from row(${side('t')})`", "<> row(${side('t')})`"]),
    tests: ['test/integration/refresh-nulls.test.ts'],
  },
  {
    name: 'staged rows are taken on trust',
    why: 'after a crash of the server the unlogged table is empty, and so is what is published',
    changes: within('workers/refresh/stage.ts', ['    if (counts.staged !== counts.read) return false\n', '']),
    tests: ['test/integration/refresh-fence.test.ts'],
  },
  {
    name: 'the last stop before publishing is missed',
    why: 'what was cancelled is published all the same',
    changes: within('workers/refresh/load.ts', ['  if (stop !== null) return stop\n', "  if (stop === 'pause') return stop\n"]),
    tests: ['test/integration/refresh-fence.test.ts'],
  },
  {
    name: 'a group’s member is retried behind its back',
    why: 'what comes after the group is refreshed although the group was skipped',
    changes: within(REFRESH, [
      's.publish_group = me.publish_group and s.run_id <> p_run_id',
      's.publish_group = me.publish_group and s.outcome is null and s.run_id <> p_run_id',
    ]),
    tests: ['test/integration/refresh-group-retry.test.ts'],
  },
  {
    name: 'staged is as good as published',
    why: 'a table that is retried is read from parents that are still being published',
    changes: within(REFRESH, [
      'and not coalesce(p.staged_at is not null and p.refresh_run = me.refresh_run and p.publish_group = me.publish_group, false)',
      'and p.staged_at is null',
    ]),
    tests: ['test/integration/refresh-group-retry.test.ts'],
  },
]

/** What is particular to overrides, campaigns and refreshes. */
export const domains: readonly Mutant[] = [...overrides, ...campaigns, ...refresh]
