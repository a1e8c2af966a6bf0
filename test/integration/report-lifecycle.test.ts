import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { readExecution } from '../support/reports.ts'
import { type LivesStage, openLivesStage } from './report-lives.ts'

let stage: LivesStage
let report: string

beforeAll(async () => {
  stage = await openLivesStage()
})
afterAll(() => stage.end())
beforeEach(async () => {
  await stage.clear()
  report = await stage.add('little', ['id'])
})

test('an execution that completes: every status on the way, sane times, a count', async () => {
  expect(await stage.statusOf(report)).toBe('draft')
  const id = await stage.ask(report)
  expect(await stage.statusOf(report)).toBe('draft')
  expect(await readExecution(stage.query, id)).toMatchObject({ status: 'running', completed_at: null, execution_time_ms: null, output_url: null })
  expect((await stage.runOf(id))?.state).toBe('pending')
  expect(await stage.why(id)).toMatch(/^Waiting in queue reports.execute/)
  await stage.work()
  const [row] = await stage.query(
    `select r.status as report, r.execution_count, r.last_executed = e.completed_at as last, e.status as execution, e.completed_at >= e.started_at and e.completed_at <= clock_timestamp() as sane,
       e.execution_time_ms between 0 and extract(epoch from e.completed_at - e.started_at) * 1000 + 1 as timed, e.error_message
     from reporting.reports r join reporting.report_executions e on e.report_id = r.id where e.id = $1`,
    [id],
  )
  expect(row).toEqual({ report: 'completed', execution_count: 1, last: true, execution: 'completed', sane: true, timed: true, error_message: null })
  expect(await stage.why(id)).toMatch(/^Completed at .* with 3 rows, \d+ bytes: file:\/\/\//)
  const asked = await stage.query<{ cancelled: boolean; retried: boolean }>('select pawl.cancel($1) as cancelled, pawl.retry($1) as retried', [id])
  expect(asked).toEqual([{ cancelled: false, retried: false }])
  expect(await stage.statusOf(report)).toBe('completed')
})

test('a bug is tried four times, tells each time, and is taken up again by retry with the same id once it is mended', async () => {
  const moody = await stage.add('moods', ['mood'])
  const id = await stage.ask(moody)
  expect(await stage.workNext()).toMatchObject({ status: 'failed', output: { outcome: 'retry' } })
  expect(await readExecution(stage.query, id)).toMatchObject({ status: 'running', error_message: 'not today' })
  expect(await stage.statusOf(moody)).toBe('processing')
  await stage.query(`update pgboss.job set start_after = now() + interval '1 minute' where name = 'reports.execute' and data ->> 'run_id' = $1`, [id])
  expect(await stage.why(id)).toMatch(/^Waiting for its retry 1 of 3 at .* after: not today/)
  await stage.query(`update pgboss.job set start_after = now() where name = 'reports.execute' and data ->> 'run_id' = $1`, [id])
  expect(await stage.work()).toEqual(['retry', 'retry', 'failed'])
  const failed = await readExecution(stage.query, id)
  expect(failed).toMatchObject({ status: 'failed', error_message: 'not today', output_url: null })
  expect(failed.completed_at).not.toBeNull()
  expect(await stage.statusOf(moody)).toBe('failed')
  expect((await stage.query('select error, failures from pawl.failures where run_id = $1', [id]))[0]).toMatchObject({ error: 'not today', failures: 4 })
  expect(await stage.query(`select ok from pawl.health where "check" = 'failed runs'`)).toEqual([{ ok: false }])
  expect(await stage.why(id)).toMatch(/^Failed at .* not today\. Mend the cause/)

  await stage.query('create or replace function public.moody() returns integer language sql as $$ select 7 $$')
  expect(await stage.query('select pawl.retry($1) as again', [id])).toEqual([{ again: true }])
  expect(await readExecution(stage.query, id)).toMatchObject({ status: 'running', error_message: null, completed_at: null, execution_time_ms: null })
  expect(await stage.work()).toEqual(['completed'])
  expect(await readExecution(stage.query, id)).toMatchObject({ status: 'completed', error_message: null, metadata: { rows: 1 } })
  expect(await stage.query('select status, execution_count from reporting.reports where id = $1', [moody])).toEqual([
    { status: 'completed', execution_count: 1 },
  ])
  expect(await stage.query('select from pawl.failures where run_id = $1', [id])).toEqual([])
  expect(await stage.logOf(id)).toEqual([
    'info: asked for by admin',
    ...['tried again after: not today', 'tried again after: not today', 'tried again after: not today'].flatMap(after => [
      expect.stringMatching(/^info: (begun|resumed) by worker tester$/),
      expect.any(String),
      `warn: to be ${after}`,
    ]),
    expect.stringMatching(/^info: begun/),
    'debug: reading',
    'error: failed: not today',
    'warn: to be executed again',
    'info: begun by worker tester',
    'debug: reading',
    'info: completed with 1 rows',
  ])
})

test('what can never work is refused at once, with the reason', async () => {
  const broken = await stage.add('nowhere', ['id'])
  const id = await stage.ask(broken)
  expect(await stage.work()).toEqual(['failed'])
  expect(await readExecution(stage.query, id)).toMatchObject({ status: 'failed', error_message: 'the source "nowhere" of the report does not exist' })
  expect((await stage.runOf(id))?.failures).toBe(1)
  expect(await stage.statusOf(broken)).toBe('failed')
  expect(await stage.query('select key from pawl.stray_report_files(100) key')).toHaveLength(1)
})

test('cancelled while it waits: at once, and retried it completes', async () => {
  const id = await stage.ask(report)
  expect(await stage.query(`select pawl.cancel($1, 'not wanted') as done`, [id])).toEqual([{ done: true }])
  expect(await readExecution(stage.query, id)).toMatchObject({
    status: 'cancelled',
    error_message: `cancelled by ${stage.login}: not wanted`,
    execution_time_ms: 0,
  })
  // It never began: the report is what it was.
  expect(await stage.statusOf(report)).toBe('draft')
  expect(await stage.why(id)).toMatch(/^It was cancelled by \w+: not wanted at /)
  expect(await stage.work()).toEqual(['finished'])
  await stage.query('select pawl.retry($1)', [id])
  expect(await stage.work()).toEqual(['completed'])
  expect(await readExecution(stage.query, id)).toMatchObject({ status: 'completed', error_message: null })
  expect(await stage.statusOf(report)).toBe('completed')
})

test('of two executions at once, the report is processing until both have ended', async () => {
  const [first, second] = [await stage.ask(report), await stage.ask(report, 'json')]
  await stage.workNext()
  expect(await stage.statusOf(report)).toBe('processing')
  await stage.workNext()
  expect(await stage.statusOf(report)).toBe('completed')
  expect((await readExecution(stage.query, first)).status).toBe('completed')
  expect((await readExecution(stage.query, second)).status).toBe('completed')
  expect(await stage.query('select execution_count from reporting.reports where id = $1', [report])).toEqual([{ execution_count: 2 }])
})

test('executed by hand, a scheduled report keeps its time', async () => {
  await stage.query(`update reporting.reports set status = 'scheduled', scheduled_at = '2031-01-01 00:00+00' where id = $1`, [report])
  await stage.run(report)
  expect(await stage.query('select status, scheduled_at, execution_count from reporting.reports where id = $1', [report])).toEqual([
    { status: 'scheduled', scheduled_at: new Date('2031-01-01'), execution_count: 1 },
  ])
  await stage.query('delete from reporting.reports where id = $1', [report])
})

test('deleted before it began, or after it ended: nothing is left in work, and why still answers', async () => {
  const waiting = await stage.ask(report)
  await stage.query('delete from reporting.reports where id = $1', [report])
  await stage.work()
  expect(await stage.runOf(waiting)).toMatchObject({ state: 'cancelled' })
  const other = await stage.add('little', ['id'])
  const { id: done } = await stage.run(other)
  await stage.query('delete from reporting.reports where id = $1', [other])
  expect(await stage.why(done)).toMatch(/^Completed at .* its execution was deleted since/)
  await stage.sweep()
  expect((await stage.files()).sort()).toEqual(await stage.keptFiles())
})

test('an execution of an older month is found in its partition', async () => {
  const id = await stage.ask(report)
  await stage.query('delete from reporting.execution_logs where execution_id = $1', [id])
  await stage.query(`update reporting.report_executions set started_at = '2024-01-15 12:00+00' where id = $1`, [id])
  await stage.work()
  expect(
    await stage.query(
      'select tableoid::regclass::text as partition, status, execution_time_ms < 60000 as timed from reporting.report_executions where id = $1',
      [id],
    ),
  ).toEqual([{ partition: 'reporting.report_executions_y2024m01', status: 'completed', timed: true }])
  expect(await stage.logOf(id)).toEqual(['info: begun by worker tester', 'debug: reading', 'info: completed with 3 rows'])
  await stage.query('delete from reporting.execution_logs where execution_id = $1', [id])
  await stage.query(`update reporting.report_executions set started_at = date_trunc('month', now()) where id = $1`, [id])
  await stage.sweep()
  expect(await stage.files()).toContain((await readExecution(stage.query, id)).metadata.key)
})
