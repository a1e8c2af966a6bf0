import { type Mutant, within } from './mutant.ts'

const SQL = 'drizzle/0000_engine.sql'
const ENGINE = ['test/integration/engine.test.ts', 'test/integration/override-runs.test.ts']
const FENCE = ['test/integration/fence.test.ts']

/** Fence, lease, rescue, counters and the loop itself: what every domain stands on. */
export const engine: readonly Mutant[] = [
  {
    name: 'no fence in a batch',
    why: 'a worker that was presumed dead and wakes up writes rows of a run that is another’s',
    changes: within(
      SQL,
      ['where run_id = p_run_id and lane = p_lane and epoch = p_epoch for update;', 'where run_id = p_run_id and lane = p_lane for update;'],
      ['where run_id = p_run_id and lane = p_lane and epoch = p_epoch;', 'where run_id = p_run_id and lane = p_lane;'],
    ),
    tests: ['test/integration/override-runs.test.ts'],
    quick: true,
  },
  {
    name: 'no fence around a run',
    why: 'a zombie starts, parks, hands back or fails a run that is another’s',
    changes: within(SQL, [
      "where run_id = p_run_id and epoch = p_epoch and state = 'running' for update;",
      "where run_id = p_run_id and state = 'running' for update;",
    ]),
    tests: FENCE,
  },
  {
    name: 'no fence at the end of a run',
    why: 'a zombie completes a run that another worker is still walking',
    changes: within(SQL, [
      "where c.run_id = p_run_id and c.state in ('pending', 'running') and (p_epoch is null or c.epoch = p_epoch);",
      "where c.run_id = p_run_id and c.state in ('pending', 'running');",
    ]),
    tests: FENCE,
  },
  {
    name: 'the epoch is not raised',
    why: 'whoever held the run before is as good as whoever opens it',
    changes: within(SQL, ['epoch = c.epoch + 1, job_id = p_job_id', 'epoch = c.epoch, job_id = p_job_id']),
    tests: FENCE,
  },
  {
    name: 'the lanes keep the old epoch',
    why: 'the new owner’s batches are refused, or the old one’s are not',
    changes: within(SQL, ['update pawl.lanes l set epoch = open_run.epoch where l.run_id = p_run_id;', '']),
    tests: ENGINE,
  },
  {
    name: 'a living worker is robbed',
    why: 'two workers take the run from each other for ever',
    changes: within(SQL, ['and run.owner <> p_owner and pawl.lease_alive(run.owner, p_lease_time) then', 'and run.owner <> p_owner and false then']),
    tests: FENCE,
  },
  {
    name: 'a worker that hangs is alive',
    why: 'its runs wait for it until somebody kills it',
    changes: within(SQL, ["and l.state in ('running', 'draining') and l.seen_at > clock_timestamp() - p_lease_time", "and l.state in ('running', 'draining')"]),
    tests: ['test/integration/timer-deaths.test.ts', 'test/integration/why.test.ts'],
  },
  {
    name: 'a worker without its lock is alive',
    why: 'kill -9 costs ten seconds instead of one',
    changes: within(SQL, ['and (pg_is_in_recovery() or exists (', 'and (true or exists (']),
    tests: ['test/integration/timer-deaths.test.ts', 'test/integration/why.test.ts'],
  },
  {
    name: 'poison is swallowed once more',
    why: 'a run that kills its worker takes one more with it than documented',
    changes: within(SQL, ['if streak >= 3 then', 'if streak >= 4 then']),
    tests: ['test/integration/why.test.ts'],
  },
  {
    name: 'crashes at other places count as one streak',
    why: 'three deploys by kill -9 in a long run make it poison',
    changes: within(SQL, ['case when crashed_at_batch = at_batch then crashes + 1 else 1 end', 'crashes + 1']),
    tests: FENCE,
  },
  {
    name: 'one attempt too many',
    why: 'a failure is tried five times where four are promised',
    changes: within(SQL, ['if not p_retryable or run.failures >= run.failures_max then', 'if not p_retryable or run.failures > run.failures_max then']),
    tests: ['test/integration/report-lifecycle.test.ts'],
  },
  {
    name: 'the lane forgets what it had counted',
    why: 'done is the size of the last batch',
    changes: within(SQL, ['set cursor = p_cursor, done = done + p_rows, batch = batch + 1', 'set cursor = p_cursor, done = p_rows, batch = batch + 1']),
    tests: ENGINE,
  },
  {
    name: 'nobody is asked whether to stop',
    why: 'pawl.cancel and pawl.pause are heard only between two runs',
    changes: within(SQL, ["when c.cancel_requested_at is not null then 'cancel'", "when c.cancel_requested_at is null and false then 'cancel'"]),
    tests: ENGINE,
  },
  {
    name: 'handed back and forgotten',
    why: 'after a deploy the run waits half a minute for the backstop',
    changes: within('src/checkpoint.ts', ["await query('select pawl.release($1, $2, true)'", "await query('select pawl.release($1, $2, false)'"]),
    tests: ENGINE,
  },
  {
    name: 'a new job wakes nobody',
    why: 'what is enqueued waits for somebody’s poll',
    changes: within(SQL, ['if job is not null and due <= now() then', 'if job is not null and due < now() then']),
    tests: ['test/integration/enqueue.test.ts'],
  },
  {
    name: 'the loop ignores drain',
    why: 'SIGTERM waits for the end of a run, and the kubelet kills the worker in the middle of it',
    changes: within('src/batches.ts', ["if (context.drain.aborted) seen.ending = 'drain'\n      else if (context.turn.aborted)", 'if (context.turn.aborted)']),
    tests: ['test/integration/engine.test.ts'],
    quick: true,
  },
  {
    name: 'the loop ignores cancel',
    why: 'an operator’s cancel changes nothing until the run has ended',
    changes: within('src/batches.ts', ["if (step.stop !== null && !(step.finished && step.stop !== 'gone'))", "if (step.stop === 'pause')"]),
    tests: ['test/integration/engine.test.ts'],
  },
  {
    name: 'a lane that failed stops nobody',
    why: 'the run is settled while its other lane still writes',
    changes: within('src/batches.ts', ["if (seen.failed || seen.ending !== 'finished') return", "if (seen.ending !== 'finished') return"]),
    tests: ['test/unit/batches.test.ts'],
  },
  {
    name: 'patience without an end',
    why: 'a worker that drains while the database is away never leaves',
    changes: within('src/batches.ts', [
      "if (classify(error) !== 'transient' || context.drain.aborted || attempt >= attemptsMax) throw error",
      "if (classify(error) !== 'transient') throw error",
    ]),
    tests: ['test/unit/batches.test.ts'],
  },
  {
    name: 'a batch in several transactions',
    why: 'killed between its rows and its cursor, the rows are written twice',
    changes: within('src/batches.ts', [
      '  return lane =>\n    db.transact(async query => {',
      '  return lane =>\n    ((work: (query: Query) => Promise<Step>) => work(db.query))(async query => {',
    ]),
    tests: FENCE,
  },
  {
    name: 'a restart of the database is a failure of the work',
    why: 'four restarts use up a run’s attempts',
    changes: within('src/errors.ts', ["  '57P01', // admin_shutdown\n", '']),
    tests: ['test/unit/errors.test.ts'],
    quick: true,
  },
  {
    name: 'a migration under way is a bug',
    why: 'a rolling update spends an attempt of a run that waited for a new column',
    changes: within('src/errors.ts', ["new Set(['tupledesc_match', ", "new Set(['tuple_match', "]),
    tests: ['test/integration/expand.test.ts'],
    quick: true,
  },
  {
    name: 'refused by the fence is a bug',
    why: 'the zombie counts a failure of a run that is another’s',
    changes: within('src/errors.ts', ["  if (code === FENCE_SQLSTATE) return 'lost'\n", '']),
    tests: ['test/unit/errors.test.ts'],
  },
  {
    name: 'bad input is tried again',
    why: 'what can never work is tried four times, over half an hour',
    changes: within('src/worker.ts', ["failRun(db.query, run, messageOf(error), verdict === 'bug')", 'failRun(db.query, run, messageOf(error), true)']),
    tests: ['test/integration/report-lifecycle.test.ts'],
  },
  {
    name: 'a passing error spends an attempt',
    why: 'deploys while the database is restarted wear runs out',
    changes: within('src/worker.ts', [
      'await settle(context, () => handBack(db.query, run))',
      'await settle(context, () => failRun(db.query, run, messageOf(error), true))',
    ]),
    tests: FENCE,
  },
  {
    name: 'held runs are never let go of',
    why: 'a worker that had a run once refuses it for ever',
    changes: within('src/worker.ts', ['      held.delete(runId)\n', '      held.has(runId)\n']),
    tests: ENGINE,
  },
  {
    name: 'a run taken from a dead worker keeps its job',
    why: 'where it is not opened at once, nothing but the backstop brings it',
    changes: within('drizzle/0000_engine.sql', ['    official := true;\n', '    official := official;\n']),
    tests: ENGINE,
  },
  {
    name: 'a delivery to a run that is held is lost',
    why: 'when its holder dies, nothing but the backstop brings the run',
    changes: within('src/worker.ts', [
      "opening.official && (opening.outcome === 'held' || opening.outcome === 'paused')",
      "opening.official && opening.outcome === 'paused'",
    ]),
    tests: FENCE,
  },
  {
    name: 'a task that is refused is tried again',
    why: 'a job with nonsense for data comes back until its retries are spent',
    changes: within('src/task.ts', ["status: verdict === 'refused' ? 'deadletter' : 'failed'", "status: 'failed'"]),
    tests: ['test/integration/campaign-retries.test.ts'],
  },
  {
    name: 'the wheel trusts the worker’s clock',
    why: 'a worker whose clock is wrong fires late, or turns without a pause',
    changes: within('src/wheel.ts', ['offsetMs = done.nowMs - turnedMs', 'offsetMs = 0']),
    tests: ['test/unit/wheel.test.ts'],
  },
  {
    name: 'the wheel forgets who turns beside it',
    why: 'the pool is closed under a turn that is still at work',
    changes: within('src/wheel.ts', ['    // Whoever stops us closes the database next.\n    await beside\n', '']),
    tests: ['test/unit/wheel.test.ts'],
  },
  {
    name: 'a long statement ignores drain',
    why: 'a report of an hour keeps a worker from leaving for an hour',
    changes: within(
      'src/stop.ts',
      ['AbortSignal.any([over.signal, drain, turn])', 'AbortSignal.any([over.signal, turn])'],
      ["      if (drain.aborted) return tell('drain')\n", ''],
    ),
    tests: ['test/unit/stop.test.ts'],
  },
  {
    name: 'passwords are logged',
    why: 'an error’s message quotes the URL it could not reach',
    changes: within('src/log.ts', [
      "line.replace(URL_PASSWORD, '$1:[redacted]@').replace(URL_PARAMETER, '$1[redacted]')",
      "line.replace(URL_PARAMETER, '$1[redacted]')",
    ]),
    tests: ['test/unit/log.test.ts'],
    quick: true,
  },
]
