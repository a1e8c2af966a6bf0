import { afterAll, beforeAll, expect, test } from 'vitest'
import { type CampaignStage, openCampaignStage } from './campaign-stage.ts'

let stage: CampaignStage
let campaign: string

beforeAll(async () => {
  stage = await openCampaignStage()
  campaign = await stage.insertCampaign()
})

afterAll(() => stage.close())

function insert(table: string, columns: Record<string, unknown>) {
  const places = Object.keys(columns).map((_, place) => `$${place + 1}`)
  return stage.query(`insert into ${table} (${Object.keys(columns).join(', ')}) values (${places.join(', ')}) returning *`, Object.values(columns))
}

const hours = (n: number) => new Date(Date.UTC(2026, 0, 1, n))

/** Inserts a row of these columns and those that must be there. */
const ofCampaigns = (columns: object) => insert('campaigns', { duration_hours: 1, ...columns })
const ofTimers = (columns: object) => insert('campaign_timers', { campaign_id: campaign, timer_type: 'REWARD_REMINDER', scheduled_at: hours(1e6), ...columns })
const ofLog = (columns: object) => insert('campaign_state_log', { campaign_id: campaign, to_state: 'CLOSED', trigger_event: 'T', ...columns })
const ofMetrics = (columns: object) => insert('campaign_metrics', { campaign_id: campaign, metric_type: 'ENGAGEMENT_COUNT', value: 1, ...columns })
const ofExecutions = async (columns: object) => insert('timer_executions', { timer_id: (await ofTimers({ status: 'CANCELLED' }))[0]?.id, ...columns })

/** For a check that another one, which comes first by name, implies: rolled back with the refusal. */
const without = (table: string, constraint: string, statement: string) =>
  stage.db.transact(async inside => {
    await inside(`alter table ${table} drop constraint ${constraint}`)
    await inside(statement)
  })

const refusals: [constraint: string, code: string, attempt: () => Promise<unknown>][] = [
  ['valid_status', '23514', () => ofCampaigns({ status: 'PAUSED' })],
  ['valid_duration', '23514', () => ofCampaigns({ duration_hours: 0 })],
  [
    'valid_time_range',
    '23514',
    () =>
      without('campaigns', 'calculated_end_time', `insert into campaigns (duration_hours, start_time, end_time) values (1, now(), now() - interval '1 hour')`),
  ],
  ['calculated_end_time', '23514', () => ofCampaigns({ start_time: hours(0), end_time: hours(2), duration_hours: 3 })],
  ['valid_timer_type', '23514', () => ofTimers({ timer_type: 'NAP' })],
  ['valid_timer_status', '23514', () => ofTimers({ status: 'LATE' })],
  ['valid_retry_count', '23514', () => ofTimers({ retry_count: -1 })],
  ['valid_retry_count', '23514', () => ofTimers({ retry_count: 6 })],
  ['campaign_timers_campaign_id_fkey', '23503', () => ofTimers({ campaign_id: '00000000-0000-4000-8000-000000000000' })],
  ['valid_from_state', '23514', () => ofLog({ from_state: 'PAUSED' })],
  ['valid_to_state', '23514', () => ofLog({ to_state: 'PAUSED' })],
  ['valid_state_transition', '23514', () => ofLog({ from_state: 'CLOSED' })],
  ['campaign_state_log_campaign_id_fkey', '23503', () => ofLog({ campaign_id: '00000000-0000-4000-8000-000000000000' })],
  ['valid_metric_type', '23514', () => ofMetrics({ metric_type: 'NAPS' })],
  ['campaign_metrics_campaign_id_fkey', '23503', () => ofMetrics({ campaign_id: '00000000-0000-4000-8000-000000000000' })],
  [
    'valid_execution_status',
    '23514',
    () => without('timer_executions', 'valid_completion', `insert into timer_executions (timer_id, status) values (gen_random_uuid(), 'LATE')`),
  ],
  ['valid_execution_time', '23514', () => ofExecutions({ execution_time_ms: -1 })],
  ['valid_completion', '23514', () => ofExecutions({ status: 'STARTED', completed_at: hours(1) })],
  ['valid_completion', '23514', () => ofExecutions({ status: 'COMPLETED' })],
  ['valid_completion', '23514', () => ofExecutions({ status: 'FAILED' })],
  ['timer_executions_timer_id_fkey', '23503', () => ofExecutions({ timer_id: '00000000-0000-4000-8000-000000000000' })],
]

for (const [place, [constraint, code, attempt]] of refusals.entries()) {
  test(`${constraint} refuses what it should (${place + 1})`, () => expect(attempt()).rejects.toMatchObject({ code, constraint }))
}

test('the checks let the edges of what they allow pass, and all five kinds of metrics', async () => {
  await ofCampaigns({ start_time: hours(0), end_time: hours(3), duration_hours: 3 })
  await ofCampaigns({ start_time: hours(0) })
  for (const retry_count of [0, 5]) await ofTimers({ retry_count, status: 'CANCELLED' })
  await ofLog({ from_state: null })
  for (const metric_type of ['ENGAGEMENT_COUNT', 'PARTICIPANT_COUNT', 'REWARD_CLAIMED', 'TIMER_EXECUTION_TIME', 'STATE_TRANSITION_TIME'])
    await ofMetrics({ metric_type })
  await ofExecutions({ status: 'FAILED', completed_at: hours(1), execution_time_ms: 0 })
})

test('one active timer of a type: PENDING, RUNNING and FAILED with retries left count, what is over does not', async () => {
  const own = await stage.insertCampaign()
  const add = (status: string, retry_count = 0) => ofTimers({ campaign_id: own, status, retry_count })
  for (const status of ['COMPLETED', 'CANCELLED', 'COMPLETED']) await add(status)
  await add('FAILED', 5)
  await add('FAILED', 4)
  for (const status of ['PENDING', 'RUNNING', 'FAILED'])
    await expect(add(status)).rejects.toMatchObject({ code: '23505', constraint: 'unique_active_timer_per_type' })
})
