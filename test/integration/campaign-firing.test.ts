import { afterAll, beforeAll, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import { until } from '../support/until.ts'
import { type CampaignStage, openCampaignStage } from './campaign-stage.ts'

let stage: CampaignStage

beforeAll(async () => {
  stage = await openCampaignStage()
})

afterAll(() => stage.close())

/** A campaign whose START was due `ago`, and has fired. */
async function started(options: Parameters<CampaignStage['create']>[0] = {}, ago = '-1 second'): Promise<string> {
  const campaign = await stage.create(options)
  await stage.shift(await stage.timerOf(campaign, 'START_CAMPAIGN'), ago)
  await stage.fireAll()
  expect(await stage.state(campaign)).toBe('RUNNING')
  return campaign
}

async function closed(options: Parameters<CampaignStage['create']>[0] = {}): Promise<string> {
  const campaign = await started(options)
  await stage.shift(await stage.timerOf(campaign, 'CLOSE_CAMPAIGN'), '-1 second')
  await stage.fireAll()
  return campaign
}

test('START sets the campaign running and fills its times, from when it was due and not from when it fired', async () => {
  const campaign = await stage.create({ hours: 48 })
  const start = await stage.timerOf(campaign, 'START_CAMPAIGN')
  await stage.shift(start, '-90 minutes')
  expect(await stage.fire()).toBe(1)
  const timer = await stage.timer(start)
  const [row] = await stage.query<{ start_time: Date; end_time: Date }>('select status, start_time, end_time from campaigns where id = $1', [campaign])
  expect(row).toMatchObject({ status: 'RUNNING', start_time: timer.scheduled_at })
  expect((row?.end_time.getTime() ?? 0) - (row?.start_time.getTime() ?? 0)).toBe(48 * 3_600_000)
  expect(timer).toMatchObject({ status: 'COMPLETED', retry_count: 0, claimed_by: null, next_attempt_at: null, executed_at: expect.any(Date) })
  expect(await stage.executions(start)).toMatchObject([
    { status: 'COMPLETED', result: { outcome: 'transition', from: 'CREATED', to: 'RUNNING' }, error_message: null },
  ])
  const [logged] = await stage.query(`select trigger_event, metadata from campaign_state_log where campaign_id = $1 and to_state = 'RUNNING'`, [campaign])
  expect(logged).toMatchObject({ trigger_event: 'START_CAMPAIGN', metadata: { timer_id: start, changed_by: 'pawl' } })
  // create_campaign made its CLOSE already: no second one.
  expect(await stage.pending(campaign)).toEqual({ CLOSE_CAMPAIGN: 49 })
})

test('nothing fires before it is due', async () => {
  const campaign = await stage.create({ startsIn: '2 seconds' })
  expect(await stage.fire()).toBe(0)
  expect([await stage.state(campaign), (await stage.timer(await stage.timerOf(campaign, 'START_CAMPAIGN'))).status]).toEqual(['CREATED', 'PENDING'])
  await stage.query('select pawl.cancel(id::text) from campaign_timers where campaign_id = $1', [campaign])
})

test('a bare campaign with a START timer alone gets its CLOSE timer with auto_close, and none without', async () => {
  const [auto, manual] = [await stage.insertCampaign({ hours: 5 }), await stage.insertCampaign({ autoClose: false })]
  for (const campaign of [auto, manual]) await stage.insertTimer(campaign, 'START_CAMPAIGN', '-1 hour')
  await stage.fireAll()
  expect([await stage.state(auto), await stage.pending(auto)]).toEqual(['RUNNING', { CLOSE_CAMPAIGN: 4 }])
  expect([await stage.state(manual), await stage.pending(manual)]).toEqual(['RUNNING', {}])
})

test('a CLOSE timer that was cancelled on purpose stays cancelled when the campaign starts', async () => {
  const campaign = await stage.create()
  await stage.query('select pawl.cancel($1)', [await stage.timerOf(campaign, 'CLOSE_CAMPAIGN')])
  await stage.shift(await stage.timerOf(campaign, 'START_CAMPAIGN'), '-1 second')
  await stage.fireAll()
  expect([await stage.state(campaign), await stage.pending(campaign)]).toEqual(['RUNNING', {}])
})

test('CLOSE with rewards goes on to REWARD_CLAIM at once, with a reminder in 24 and the end in 72 hours', async () => {
  const campaign = await closed({ rewards: true })
  expect(await stage.path(campaign)).toEqual(['CREATED', 'RUNNING', 'CLOSED', 'REWARD_CLAIM'])
  expect(await stage.pending(campaign)).toEqual({ EXPIRE_CAMPAIGN: 72, REWARD_REMINDER: 24 })
  const [execution] = await stage.executions(await stage.timerOf(campaign, 'CLOSE_CAMPAIGN'))
  expect(execution?.result).toEqual({ outcome: 'transition', from: 'RUNNING', to: 'REWARD_CLAIM' })
})

test('CLOSE without rewards stays CLOSED, with the end in 72 hours and no reminder', async () => {
  const campaign = await closed({ rewards: false })
  expect([await stage.state(campaign), await stage.pending(campaign)]).toEqual(['CLOSED', { EXPIRE_CAMPAIGN: 72 }])
})

test('hours in the metadata count, fractions too; what is no number or out of range does not', async () => {
  const named = await closed({ metadata: { expire_hours: 10, reward_reminder_hours: 0.5 } })
  expect(await stage.pending(named)).toEqual({ EXPIRE_CAMPAIGN: 10, REWARD_REMINDER: 0.5 })
  for (const metadata of [
    { expire_hours: '10', reward_reminder_hours: null },
    { expire_hours: -1, reward_reminder_hours: 87601 },
    { expire_hours: {}, reward_reminder_hours: [1] },
  ])
    expect(await stage.pending(await closed({ metadata }))).toEqual({ EXPIRE_CAMPAIGN: 72, REWARD_REMINDER: 24 })
})

test('EXPIRE ends the campaign and cancels what was still to come', async () => {
  const campaign = await closed()
  await stage.shift(await stage.timerOf(campaign, 'EXPIRE_CAMPAIGN'), '-1 second')
  expect(await stage.fireAll()).toBe(1)
  expect(await stage.path(campaign)).toEqual(['CREATED', 'RUNNING', 'CLOSED', 'REWARD_CLAIM', 'EXPIRED'])
  expect(await stage.timer(await stage.timerOf(campaign, 'REWARD_REMINDER'))).toMatchObject({ status: 'CANCELLED' })
  expect(await stage.pending(campaign)).toEqual({})
})

test('REWARD_REMINDER changes no state, logs nothing, and tells', async () => {
  const campaign = await closed()
  const reminder = await stage.timerOf(campaign, 'REWARD_REMINDER')
  await stage.shift(reminder, '-1 second')
  expect(await stage.fireAll()).toBe(1)
  expect(await stage.path(campaign)).toHaveLength(4)
  expect(await stage.executions(reminder)).toMatchObject([{ status: 'COMPLETED', result: { outcome: 'event', from: 'REWARD_CLAIM', to: 'REWARD_CLAIM' } }])
  expect((await stage.jobs('campaign.reward_reminder')).filter(job => job.data.timer_id === reminder)).toHaveLength(1)
})

test('a timer whose change has happened already completes and says so', async () => {
  const campaign = await started()
  const again = await stage.insertTimer(campaign, 'START_CAMPAIGN')
  await stage.fireAll()
  expect(await stage.timer(again)).toMatchObject({ status: 'COMPLETED' })
  expect(await stage.executions(again)).toMatchObject([{ status: 'COMPLETED', result: { outcome: 'none', from: 'RUNNING', to: 'RUNNING' } }])
  expect(await stage.path(campaign)).toEqual(['CREATED', 'RUNNING'])
})

test.each(['CLOSE_CAMPAIGN', 'EXPIRE_CAMPAIGN'] as const)(
  '%s of a campaign that never started fails at once, without retry, into the dead letter queue',
  async type => {
    const campaign = await stage.insertCampaign()
    const timer = await stage.insertTimer(campaign, type)
    await stage.fireAll()
    expect(await stage.timer(timer)).toMatchObject({ status: 'FAILED', retry_count: 5, next_attempt_at: null })
    const says = `${type} cannot happen to a campaign that is CREATED`
    expect(await stage.executions(timer)).toMatchObject([
      { status: 'FAILED', error_message: says, completed_at: expect.any(Date), result: { outcome: 'refused' } },
    ])
    expect((await stage.jobs('campaigns.fire.dead')).map(job => job.data).filter(data => data.timer_id === timer)).toEqual([
      { timer_id: timer, error: 'refused' },
    ])
    expect((await stage.jobs('campaigns.fire')).filter(job => job.data.timer_id === timer)).toEqual([])
    expect(await stage.query('select count(*) as n from campaign_metrics where campaign_id = $1', [campaign])).toEqual([{ n: 0 }])
    expect(await stage.query('select state, error from pawl.failures where run_id = $1', [timer])).toEqual([{ state: 'failed', error: says }])
  },
)

test('overdue START, CLOSE and EXPIRE of one campaign fire in that order, whatever the order and size of the batches', async () => {
  for (const limit of [1, 2, 500]) {
    const campaign = await stage.insertCampaign({ rewards: false })
    // Two at the very same instant: their kind decides.
    for (const type of ['EXPIRE_CAMPAIGN', 'CLOSE_CAMPAIGN', 'START_CAMPAIGN'] as const)
      await stage.insertTimer(campaign, type, type === 'EXPIRE_CAMPAIGN' ? '-1 hour' : '-2 hours')
    await stage.query(
      `update campaign_timers set scheduled_at = (select min(scheduled_at) from campaign_timers where campaign_id = $1)
      where campaign_id = $1 and timer_type <> 'EXPIRE_CAMPAIGN'`,
      [campaign],
    )
    await stage.fireAll(limit)
    expect([limit, await stage.path(campaign)]).toEqual([limit, ['CREATED', 'RUNNING', 'CLOSED', 'EXPIRED']])
  }
})

test('overdue START and CLOSE fire in that order when two wheels turn at once', async () => {
  const campaigns = await Promise.all(Array.from({ length: 20 }, () => stage.insertCampaign()))
  for (const campaign of campaigns)
    for (const type of ['CLOSE_CAMPAIGN', 'START_CAMPAIGN'] as const)
      await stage.insertTimer(campaign, type, type === 'START_CAMPAIGN' ? '-2 hours' : '-1 hour')
  const turn = async () => {
    while ((await stage.query<{ n: number }>(`select count(*) as n from campaign_timers where status = 'PENDING' and scheduled_at <= now()`))[0]?.n)
      await stage.fire(3)
  }
  await Promise.all([turn(), turn(), turn()])
  for (const campaign of campaigns) expect(await stage.path(campaign)).toEqual(['CREATED', 'RUNNING', 'CLOSED', 'REWARD_CLAIM'])
  expect(await stage.query(`select count(*) as n from campaign_timers where status = 'FAILED' and campaign_id = any ($1)`, [campaigns])).toEqual([{ n: 0 }])
})

test('CLOSE waits while another session has the START timer locked or half fired', async () => {
  const campaign = await stage.insertCampaign()
  const start = await stage.insertTimer(campaign, 'START_CAMPAIGN', '-2 hours')
  const close = await stage.insertTimer(campaign, 'CLOSE_CAMPAIGN', '-1 hour')
  await stage.db.transact(async other => {
    await other('select from campaign_timers where id = $1 for update', [start])
    expect(await stage.fire(1)).toBe(0)
    expect(await stage.fire()).toBe(0)
  })
  expect([(await stage.timer(close)).status, await stage.state(campaign)]).toEqual(['PENDING', 'CREATED'])
  await stage.db.transact(async other => {
    expect(await other(`select fired from pawl.fire_timers(1, '{}')`)).toEqual([{ fired: 1 }])
    expect(await stage.fire()).toBe(0)
  })
  expect(await stage.fireAll()).toBe(1)
  expect(await stage.state(campaign)).toBe('REWARD_CLAIM')
})

test('each change of state is one job on its event queue and one NOTIFY, with all a listener needs', async () => {
  const listener = await connectDirect(readConfig({ DATABASE_URL: stage.db.url }), 'listener')
  const heard: { event: string; campaign_id: string }[] = []
  listener.onNotify((channel, payload) => channel === 'pawl_campaigns' && heard.push(JSON.parse(payload)))
  await listener.query('listen pawl_campaigns')
  const campaign = await closed({ hours: 7 })
  await stage.query(`update campaign_timers set payload = '{"note": "last call"}' where campaign_id = $1 and timer_type = 'REWARD_REMINDER'`, [campaign])
  for (const type of ['REWARD_REMINDER', 'EXPIRE_CAMPAIGN'] as const) {
    await stage.shift(await stage.timerOf(campaign, type), '-1 second')
    await stage.fireAll()
  }
  const told = ['campaign.started', 'campaign.closed', 'campaign.reward_claim', 'campaign.reward_reminder', 'campaign.expired']
  const ours = () => heard.filter(event => event.campaign_id === campaign).map(event => event.event)
  await until('all five were heard', () => ours().length >= 5)
  expect(ours().toSorted()).toEqual(told.toSorted())
  await listener.close()
  for (const [queue, type] of [
    ['campaign.started', 'START_CAMPAIGN'],
    ['campaign.closed', 'CLOSE_CAMPAIGN'],
    ['campaign.reward_claim', 'CLOSE_CAMPAIGN'],
    ['campaign.reward_reminder', 'REWARD_REMINDER'],
    ['campaign.expired', 'EXPIRE_CAMPAIGN'],
  ] as const) {
    const timer = await stage.timer(await stage.timerOf(campaign, type))
    const mine = (await stage.jobs(queue)).map(job => job.data).filter(data => data.campaign_id === campaign)
    expect(mine).toEqual([
      {
        event: queue,
        campaign_id: campaign,
        timer_id: timer.id,
        scheduled_at: expect.any(String),
        happened_at: expect.any(String),
        payload: type === 'REWARD_REMINDER' ? { note: 'last call' } : {},
      },
    ])
    expect(new Date(String(mine[0]?.scheduled_at))).toEqual(timer.scheduled_at)
  }
})

test('unread events make no worker unhealthy', async () => {
  await stage.query(`update pgboss.job set start_after = now() - interval '1 hour' where name like 'campaign.%'`)
  expect(await stage.query(`select max(oldest_ready_seconds) >= 3600 as old from pawl.queues where queue like 'campaign.%'`)).toEqual([{ old: true }])
  await stage.query(`delete from pgboss.job where name like '%.dead'`)
  expect(await stage.query(`select ok from pawl.health where "check" = 'queue age'`)).toEqual([{ ok: true }])
})
