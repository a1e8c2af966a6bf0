import { afterAll, beforeAll, expect, test } from 'vitest'
import { until } from '../support/until.ts'
import { type CampaignStage, openCampaignStage } from './campaign-stage.ts'

let stage: CampaignStage

beforeAll(async () => {
  stage = await openCampaignStage()
})

afterAll(() => stage.close())

test('an earlier timer that comes back while a later one is being taken keeps its turn', async () => {
  const { query, db } = stage
  // Comparing two timers of one instant waits for the gate: so the wheel's first look has its snapshot, and goes on when we say.
  const [rank] = await query<{ text: string }>(`select pg_get_functiondef('pawl.timer_rank(text)'::regprocedure) as text`)
  await query(`
    create or replace function pawl.timer_rank(p_timer_type text) returns integer language plpgsql immutable as $$
    begin
      perform pg_advisory_xact_lock_shared(4711);
      return pg_catalog.array_position(array['START_CAMPAIGN', 'CLOSE_CAMPAIGN', 'REWARD_REMINDER', 'EXPIRE_CAMPAIGN'], p_timer_type);
    end $$`)
  const campaign = await stage.insertCampaign()
  const start = await stage.insertTimer(campaign, 'START_CAMPAIGN', '-2 hours')
  const close = await stage.insertTimer(campaign, 'CLOSE_CAMPAIGN', '-1 hour')
  const expire = await stage.insertTimer(campaign, 'EXPIRE_CAMPAIGN', '-1 hour')
  await query('update campaign_timers set scheduled_at = (select scheduled_at from campaign_timers where id = $2) where id = $1', [expire, close])
  await query('select pawl.cancel($1)', [start])
  let firing: Promise<number> = Promise.resolve(0)
  await db.transact(async gate => {
    await gate('select pg_advisory_xact_lock(4711)')
    firing = stage.fire()
    await until(
      'the wheel looks',
      async () => (await query(`select from pg_stat_activity where wait_event = 'advisory' and query like '%fire_timers%'`)).length === 1,
    )
    await query('select pawl.retry($1)', [start])
  })
  expect(await firing).toBe(0)
  expect([(await stage.timer(close)).status, await stage.state(campaign)]).toEqual(['PENDING', 'CREATED'])
  await query(rank?.text ?? '')
  await stage.fireAll()
  expect(await stage.path(campaign)).toEqual(['CREATED', 'RUNNING', 'CLOSED', 'REWARD_CLAIM', 'EXPIRED'])
})
