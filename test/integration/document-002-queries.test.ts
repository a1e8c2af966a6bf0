import { afterAll, beforeAll, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { cronLines, schedules } from '../../src/schedules.ts'
import { performing } from '../../src/task.ts'
import { sweep } from '../../workers/maintenance/sweep.ts'
import { handlerOptions, type Lease, takeLease } from '../support/engine.ts'
import { type CampaignStage, openCampaignStage } from './campaign-stage.ts'
import { EXECUTION_TIMES, FAILED_TIMERS, STATE_DISTRIBUTION, STUCK_TIMERS, TABLE_STATISTICS } from './document-002.ts'

let stage: CampaignStage
let lease: Lease

beforeAll(async () => {
  stage = await openCampaignStage()
  lease = await takeLease(stage.db, 'sweeper', ['maintenance.sweep'])
  for (const [status, count] of [
    ['CREATED', 4],
    ['RUNNING', 2],
    ['CLOSED', 1],
    ['REWARD_CLAIM', 1],
  ] as const)
    for (let n = 0; n < count; n += 1) await stage.insertCampaign({ status, hours: 10 * (n + 1) })
})

afterAll(async () => {
  await lease.stop()
  await stage.close()
})

const campaignsOf = async (status: string) =>
  (await stage.query<{ id: string }>('select id from campaigns where status = $1 order by duration_hours', [status])).map(row => row.id)
const perform = (data: unknown) => performing(sweep, handlerOptions(stage.db, lease))(data, 'a job', new AbortController().signal)

/** A row of maintenance in the making: what the operation wrote down, newest last. */
const maintenance = async (operation: string) =>
  (await stage.query('select affected_rows from system_maintenance_log where operation = $1 order by id', [operation])).map(row => row.affected_rows)

test('campaign state distribution: count and percentage of each state, the most frequent first', async () => {
  const rows = await stage.query<Record<string, unknown>>(STATE_DISTRIBUTION)
  expect(rows.slice(0, 2)).toEqual([
    { status: 'CREATED', count: 4, percentage: '50.00' },
    { status: 'RUNNING', count: 2, percentage: '25.00' },
  ])
  expect(rows.slice(2).map(row => [row.count, row.percentage])).toEqual([
    [1, '12.50'],
    [1, '12.50'],
  ])
})

test('stuck timers: PENDING for more than ten minutes after they were due, by type', async () => {
  const created = await campaignsOf('CREATED')
  await stage.insertTimer(created[0] ?? '', 'START_CAMPAIGN', '-11 minutes')
  const oldest = await stage.timer(await stage.insertTimer(created[1] ?? '', 'START_CAMPAIGN', '-3 hours'))
  await stage.insertTimer(created[2] ?? '', 'START_CAMPAIGN', '-9 minutes')
  await stage.insertTimer(created[2] ?? '', 'CLOSE_CAMPAIGN', '1 hour')
  expect(await stage.query(STUCK_TIMERS)).toEqual([{ timer_type: 'START_CAMPAIGN', stuck_count: 2, oldest_stuck: oldest.scheduled_at }])
  await stage.fireAll()
  expect(await stage.query(STUCK_TIMERS)).toEqual([])
})

test('failed timers needing retry: those that wait for one for more than five minutes', async () => {
  const [campaign, other] = [await stage.insertCampaign(), await stage.insertCampaign()]
  const waiting = await stage.insertTimer(campaign, 'REWARD_REMINDER', '1 hour')
  const spent = await stage.insertTimer(other, 'REWARD_REMINDER', '1 hour')
  await stage.query(
    `begin; set local pawl.firing = 'on';
     update campaign_timers set status = 'FAILED', retry_count = case id when '${waiting}' then 2 else 5 end, updated_at = now() - interval '6 minutes'
     where id in ('${waiting}', '${spent}'); commit`,
  )
  const { scheduled_at, updated_at } = await stage.timer(waiting)
  expect(await stage.query(FAILED_TIMERS)).toEqual([{ campaign_id: campaign, timer_type: 'REWARD_REMINDER', retry_count: 2, scheduled_at, updated_at }])
  await stage.query(`update campaign_timers set payload = '{"touched": true}' where id = $1`, [waiting])
  expect(await stage.query(FAILED_TIMERS)).toEqual([])
})

test('average execution times of the last day by type, failures counted', async () => {
  await stage.query('delete from timer_executions')
  const [timer] = await stage.query<{ id: string }>(`select id from campaign_timers where timer_type = 'START_CAMPAIGN' limit 1`)
  const [close] = await stage.query<{ id: string }>(`select id from campaign_timers where timer_type = 'CLOSE_CAMPAIGN' limit 1`)
  const insert = (id: string | undefined, status: string, ms: number, age: string) =>
    stage.query(
      `insert into timer_executions (timer_id, status, execution_time_ms, started_at, completed_at) values ($1, $2, $3, now() - $4::interval, now())`,
      [id, status, ms, age],
    )
  await insert(timer?.id, 'COMPLETED', 10, '1 hour')
  await insert(timer?.id, 'COMPLETED', 21, '23 hours')
  await insert(timer?.id, 'FAILED', 60, '2 hours')
  await insert(timer?.id, 'COMPLETED', 9_999, '25 hours')
  await insert(close?.id, 'COMPLETED', 5, '1 minute')
  const rows = await stage.query<Record<string, unknown>>(EXECUTION_TIMES)
  expect(rows.map(row => ({ ...row, avg_ms: Number(row.avg_ms) }))).toEqual([
    { timer_type: 'START_CAMPAIGN', executions: 3, avg_ms: 30, max_ms: 60, failures: 1 },
    { timer_type: 'CLOSE_CAMPAIGN', executions: 1, avg_ms: 5, max_ms: 5, failures: 0 },
  ])
})

test("table statistics: the planner's figures of every campaign table", async () => {
  await stage.query('analyze campaigns, campaign_timers, campaign_state_log')
  const rows = await stage.query<{ schemaname: string; tablename: string; attname: string; n_distinct: number }>(TABLE_STATISTICS)
  expect(rows.find(row => row.tablename === 'campaigns' && row.attname === 'id')).toMatchObject({ schemaname: 'public', n_distinct: -1 })
  for (const table of ['campaigns', 'campaign_timers', 'campaign_state_log']) expect(rows.map(row => row.tablename)).toContain(table)
  expect(rows.map(row => row.tablename)).toEqual(rows.map(row => row.tablename).toSorted())
})

test('archive_old_state_logs moves what is older than a year, in one go, and writes down how many', async () => {
  const [campaign] = await campaignsOf('CLOSED')
  await stage.query(`select pawl.ensure_month_partition('campaign_state_log', (now() - n * interval '1 month')::date) from generate_series(11, 14) n`)
  await stage.query(
    `insert into campaign_state_log (campaign_id, from_state, to_state, trigger_event, metadata, created_at)
     select $1, 'CREATED', 'RUNNING', 'OLD ' || days, '{"a": 1}', now() - days * interval '1 day' from unnest('{364, 366, 380, 400}'::integer[]) days`,
    [campaign],
  )
  const [before] = await stage.query('select count(*) as n from campaign_state_log')
  await stage.query('select archive_old_state_logs()')
  expect(
    await stage.query(
      `select trigger_event, campaign_id, metadata, archived_at > now() - interval '1 minute' as now from campaign_state_log_archive order by 1`,
    ),
  ).toEqual([366, 380, 400].map(days => ({ trigger_event: `OLD ${days}`, campaign_id: campaign, metadata: { a: 1 }, now: true })))
  expect(await stage.query('select count(*) as n from campaign_state_log')).toEqual([{ n: Number(before?.n) - 3 }])
  await stage.query('select archive_old_state_logs()')
  expect([await maintenance('archive_state_logs'), (await stage.query('select from campaign_state_log_archive')).length]).toEqual([[3, 0], 3])
  // The archive outlives the campaign.
  await stage.query('delete from campaigns where id = $1', [campaign])
  expect(await stage.query('select from campaign_state_log_archive')).toHaveLength(3)
})

test('cleanup_timer_executions deletes completed ones older than six months, and no others', async () => {
  await stage.query('delete from timer_executions')
  await stage.query(
    `insert into timer_executions (timer_id, status, started_at, completed_at)
     select t.id, v.status, now() - v.age::interval, case when v.status <> 'STARTED' then now() - v.age::interval end
     from (select id from campaign_timers limit 1) t,
       (values ('COMPLETED', '7 months'), ('COMPLETED', '9 months'), ('COMPLETED', '5 months'), ('FAILED', '7 months'), ('STARTED', '7 months')) v (status, age)`,
  )
  await stage.query('select cleanup_timer_executions()')
  expect((await stage.query('select status from timer_executions order by 1')).map(row => row.status)).toEqual(['COMPLETED', 'FAILED', 'STARTED'])
  await stage.query('select cleanup_timer_executions()')
  expect(await maintenance('cleanup_timer_executions')).toEqual([2, 0])
})

test('the materialized views are refreshed by their schedules while they are read, and hold the right figures', async () => {
  await stage.query('delete from campaign_timers')
  const [first, second] = [await stage.insertCampaign(), await stage.insertCampaign()]
  await stage.insertTimer(first, 'START_CAMPAIGN', '30 minutes')
  await stage.insertTimer(second, 'START_CAMPAIGN', '50 minutes')
  await stage.insertTimer(first, 'CLOSE_CAMPAIGN', '2 hours')
  await stage.db.transact(async reader => {
    await reader('select count(*) from mv_active_campaigns, mv_pending_timers')
    for (const schedule of ['refresh-active-campaigns', 'refresh-pending-timers']) expect(await perform({ schedule })).toMatchObject({ status: 'completed' })
  })
  const [next] = await stage.query('select scheduled_at as at from campaign_timers where campaign_id = $1 and timer_type = $2', [first, 'START_CAMPAIGN'])
  const pending = await stage.query<Record<string, unknown>>('select * from mv_pending_timers')
  expect(pending.map(row => ({ ...row, avg_retries: Number(row.avg_retries) }))).toEqual([
    { timer_type: 'START_CAMPAIGN', timer_count: 2, next_execution: next?.at, avg_retries: 0 },
  ])
  const active = await stage.query('select status, campaign_count, avg_duration::float8 as avg_duration from mv_active_campaigns order by status')
  expect(active).toEqual(
    await stage.query(
      `select status, count(*) as campaign_count, avg(duration_hours)::float8 as avg_duration from campaigns where status in ('CREATED', 'RUNNING', 'REWARD_CLAIM') group by 1 order by 1`,
    ),
  )
  await expect(stage.query(`select pawl.refresh_campaign_views('pg_class')`)).rejects.toMatchObject({ code: '22023' })
})

test('the schedules of pg-boss are those of the document, in UTC', async () => {
  const rows = await stage.query<{ schedule: string; cron: string }>('select schedule, cron, timezone, queue, data from pawl.schedules')
  expect(rows.toSorted((a, b) => a.schedule.localeCompare(b.schedule))).toEqual(
    [...cronLines(readConfig({}))]
      .map(([key, cron]) => ({ schedule: key, cron, timezone: 'UTC', queue: 'maintenance.sweep', data: { schedule: key } }))
      .toSorted((a, b) => a.schedule.localeCompare(b.schedule)),
  )
  expect(Object.fromEntries(rows.map(row => [row.schedule, row.cron]))).toMatchObject({
    'create-monthly-partitions': '0 0 1 * *',
    'refresh-active-campaigns': '*/5 * * * *',
    'refresh-pending-timers': '* * * * *',
    'archive-state-logs': '0 2 1 * *',
    'cleanup-timer-executions': '0 3 * * 0',
  })
})

for (const { key } of schedules) {
  test(`the sweep task does what ${key} says`, async () => {
    expect(await perform({ schedule: key })).toEqual({ status: 'completed', output: { outcome: 'completed', schedule: key, duration_ms: expect.any(Number) } })
    // As pg-boss writes it down.
    await stage.query(`select pawl.enqueue('maintenance.sweep', jsonb_build_object('schedule', $1::text))`, [key])
    await stage.query(
      `update pgboss.job set state = 'completed', started_on = now(), completed_on = now() where name = 'maintenance.sweep' and data ->> 'schedule' = $1`,
      [key],
    )
    expect(await stage.query(`select last_run_at > now() - interval '1 minute' as now from pawl.schedules where schedule = $1`, [key])).toEqual([{ now: true }])
  })
}

test.each([[{ schedule: 'nap' }], [{}], [null]])('a sweep of %j is refused into the dead letter queue', async data => {
  expect(await perform(data)).toMatchObject({ status: 'deadletter', output: { outcome: 'refused', error: expect.stringMatching(/schedule|object/) } })
})
