import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type CampaignStage, openCampaignStage } from './campaign-stage.ts'

const INVALID = '22023'

let stage: CampaignStage
let campaign: string

beforeAll(async () => {
  stage = await openCampaignStage()
  campaign = await stage.create({ hours: 3, startsIn: '1 hour', metadata: { name: 'Spring' } })
})

afterAll(() => stage.close())

async function answer<Value>(sql: string, values: unknown[] = []): Promise<Value> {
  const [row] = await stage.query<{ answer: Value }>(`select ${sql} as answer`, values)
  if (row === undefined) throw new Error(`no row: ${sql}`)
  return row.answer
}

const run = async (id: string) => (await stage.query('select * from pawl.runs where run_id = $1', [id]))[0]
const timers = async (id: string) => (await stage.query('select * from pawl.timers where timer_id = $1', [id]))[0]

/** What pawl.why says: one line, without holes where a value was missing. */
async function why(id: string): Promise<string> {
  const text = await answer<string>('pawl.why($1)', [id])
  expect(text).toMatch(/^[A-Z].*\.$/)
  expect(text).not.toMatch(/\bnull\b| {2}|\(\)|%/)
  return text
}

/** Everything a call could change. */
const everything = () =>
  stage.query(`select (select md5(string_agg(c::text, '|' order by id)) from campaigns c) as campaigns,
    (select md5(string_agg(t::text, '|' order by id)) from campaign_timers t) as timers,
    (select count(*) from campaign_state_log) as log, (select count(*) from pgboss.job) as jobs, (select count(*) from pawl.paused_queues) as paused`)

describe('create_campaign', () => {
  test('inserts CREATED with its START, and its CLOSE only with auto_close', async () => {
    const [row] = await stage.query('select status, metadata, duration_hours, auto_close, rewards_enabled, start_time, end_time from campaigns where id = $1', [
      campaign,
    ])
    expect(row).toEqual({
      status: 'CREATED',
      metadata: { name: 'Spring' },
      duration_hours: 3,
      auto_close: true,
      rewards_enabled: true,
      start_time: null,
      end_time: null,
    })
    expect(await stage.pending(campaign)).toEqual({ START_CAMPAIGN: 1, CLOSE_CAMPAIGN: 4 })
    expect(await stage.pending(await stage.create({ autoClose: false }))).toEqual({ START_CAMPAIGN: 1 })
    const [logged] = await stage.query('select from_state, to_state, trigger_event from campaign_state_log where campaign_id = $1', [campaign])
    expect(logged).toEqual({ from_state: null, to_state: 'CREATED', trigger_event: 'CAMPAIGN_CREATED' })
  })

  test('with one argument starts now, closes by itself and has rewards', async () => {
    const id = await answer<string>('pawl.create_campaign(1)')
    expect(await stage.pending(id)).toEqual({ START_CAMPAIGN: 0, CLOSE_CAMPAIGN: 1 })
    expect(await stage.query('select auto_close, rewards_enabled, metadata from campaigns where id = $1', [id])).toEqual([
      { auto_close: true, rewards_enabled: true, metadata: {} },
    ])
    await stage.fireAll()
  })

  test('asked again with the same id and arguments gives the same id and creates nothing, even when its start has passed', async () => {
    const id = crypto.randomUUID()
    const create = (startAt: string) => answer<string>(`pawl.create_campaign(2, $2, metadata => '{"b": 1, "a": 2}', id => $1)`, [id, startAt])
    const startAt = await answer<string>(`(now() + interval '1 hour')::text`)
    expect(await create(startAt)).toBe(id)
    const before = await everything()
    expect(await create(startAt)).toBe(id)
    expect(await create('2020-01-01')).toBe(id)
    expect(await everything()).toEqual(before)
  })

  test('asked twice at once with one id gives one campaign and two timers', async () => {
    const id = crypto.randomUUID()
    const create = () => answer<string>(`pawl.create_campaign(2, now() + interval '1 hour', id => $1)`, [id])
    expect(await Promise.all([create(), create(), create()])).toEqual([id, id, id])
    expect(await stage.query('select count(*) as n from campaign_timers where campaign_id = $1', [id])).toEqual([{ n: 2 }])
  })

  test('a minute ago is accepted, and in a transaction that is rolled back nothing stays', async () => {
    expect(await answer(`pawl.create_campaign(1, now() - interval '59 seconds')`)).toMatch(/^[0-9a-f-]{36}$/)
    await stage.fireAll()
    const before = await everything()
    await expect(
      stage.db.transact(async inside => {
        await inside('select pawl.create_campaign(1)')
        throw new Error('never mind')
      }),
    ).rejects.toThrow('never mind')
    expect(await everything()).toEqual(before)
  })
})

describe('an operator', () => {
  test('sees a waiting timer in pawl.timers and pawl.runs, and why', async () => {
    const start = await stage.timerOf(campaign, 'START_CAMPAIGN')
    const { scheduled_at } = await stage.timer(start)
    expect(await timers(start)).toEqual({
      timer_id: start,
      state: 'pending',
      timer_type: 'START_CAMPAIGN',
      campaign_id: campaign,
      scheduled_at,
      due_at: scheduled_at,
      late_ms: null,
      retry_count: 0,
      executed_at: null,
      payload: {},
      error: null,
    })
    expect(await run(start)).toMatchObject({
      run_id: start,
      kind: 'timer',
      state: 'pending',
      subject: `START_CAMPAIGN of campaign ${campaign}`,
      done: 0,
      total: 1,
      percent: '0.0',
      eta: scheduled_at,
      attempt: 1,
      failures: 0,
      worker: null,
      started_at: null,
      finished_at: null,
      error: null,
    })
    expect(await why(start)).toMatch(new RegExp(`It is due at .*, in 00:59:.*; select pawl\\.reschedule_timer\\('${start}'`))
  })

  test('moves a waiting timer, and no other', async () => {
    const id = await stage.create()
    const start = await stage.timerOf(id, 'START_CAMPAIGN')
    expect(await answer(`pawl.reschedule_timer($1, now() + interval '30 minutes')`, [start])).toBe(true)
    expect(await stage.pending(id)).toMatchObject({ START_CAMPAIGN: 0.5 })
    expect(await answer('pawl.reschedule_timer($1, now())', [start])).toBe(true)
    expect(await stage.fire()).toBe(1)
    const before = await everything()
    expect(await answer('pawl.reschedule_timer($1, now())', [start])).toBe(false)
    expect(await everything()).toEqual(before)
  })

  test('cancels a timer with a reason, which leaves the campaign as it is, and brings it back', async () => {
    const id = await stage.create({ hours: 1 })
    const start = await stage.timerOf(id, 'START_CAMPAIGN')
    const me = await answer<string>('session_user::text')
    expect(await answer('pawl.cancel($1, $2)', [start, 'not this week'])).toBe(true)
    expect(await answer('pawl.cancel($1)', [start])).toBe(false)
    expect([await stage.state(id), (await run(start))?.state, (await timers(start))?.state]).toEqual(['CREATED', 'cancelled', 'cancelled'])
    expect(await why(start)).toMatch(
      new RegExp(`^It was cancelled by ${me}: not this week at \\d{4}-.*; select pawl\\.retry\\('${start}'\\) brings it back\\.$`),
    )
    expect(await stage.query('select cancelled_by, cancel_reason, cancelled_at is not null as dated, error from pawl.runs where run_id = $1', [start])).toEqual(
      [{ cancelled_by: me, cancel_reason: 'not this week', dated: true, error: `cancelled by ${me}: not this week` }],
    )
    await stage.query(`update campaign_timers set scheduled_at = now() where id = $1`, [start])
    expect(await stage.fireAll()).toBe(0)
    expect(await answer('pawl.retry($1)', [start])).toBe(true)
    expect(await stage.timer(start)).toMatchObject({ status: 'PENDING', payload: {}, executed_at: null })
    expect([await stage.fireAll(), await stage.state(id)]).toEqual([1, 'RUNNING'])
    expect([await answer('pawl.retry($1)', [start]), await answer('pawl.cancel($1)', [start])]).toEqual([false, false])
    expect(await why(start)).toMatch(/^Fired at .*, [\d.]+ ms after it was due; the campaign went from CREATED to RUNNING\.$/)
    expect(await run(start)).toMatchObject({ state: 'completed', done: 1, percent: '100.0', finished_at: expect.any(Date) })
    expect(Number((await timers(start))?.late_ms)).toBeGreaterThan(0)
  })

  test('cannot bring a timer back beside another one of its type', async () => {
    const id = await stage.create()
    const start = await stage.timerOf(id, 'START_CAMPAIGN')
    await answer('pawl.cancel($1)', [start])
    await answer(`pawl.schedule_timer($1, 'START_CAMPAIGN', now() + interval '1 day')`, [id])
    await expect(answer('pawl.retry($1)', [start])).rejects.toMatchObject({
      code: INVALID,
      message: expect.stringContaining('another active START_CAMPAIGN'),
      hint: expect.stringContaining(id),
    })
  })

  test('sees what failed for good, with the statement that retries it', async () => {
    const id = await stage.insertCampaign()
    const close = await stage.insertTimer(id, 'CLOSE_CAMPAIGN')
    await stage.fireAll()
    const says = 'CLOSE_CAMPAIGN cannot happen to a campaign that is CREATED'
    expect(await why(close)).toMatch(new RegExp(`^Failed for good at .*: ${says}. Mend the cause, then select pawl.retry\\('${close}'\\)`))
    const [failure] = await stage.query<{ retry_with: string }>('select * from pawl.failures where run_id = $1', [close])
    expect(failure).toMatchObject({
      kind: 'timer',
      state: 'failed',
      subject: `CLOSE_CAMPAIGN of campaign ${id}`,
      error: says,
      retry_with: `select pawl.retry('${close}')`,
    })
    expect(await stage.query(`select ok, detail from pawl.health where "check" = 'failed timers'`)).toEqual([
      { ok: false, detail: '1 failed in the last 24 hours' },
    ])
    await stage.query(`update campaigns set status = 'RUNNING' where id = $1`, [id])
    expect(await stage.query(failure?.retry_with ?? '')).toEqual([{ retry: true }])
    expect([await stage.fireAll(), await stage.state(id)]).toEqual([1, 'REWARD_CLAIM'])
    expect(await stage.query('select from pawl.failures where run_id = $1', [close])).toEqual([])
  })

  test('sees an overdue timer in stuck and health, unless the queue is paused, which stops all firing', async () => {
    const id = await stage.create()
    const start = await stage.timerOf(id, 'START_CAMPAIGN')
    await stage.shift(start, '-2 minutes')
    expect(await stage.query('select run_id, kind, state, subject, reason from pawl.stuck')).toEqual([
      { run_id: start, kind: 'timer', state: 'pending', subject: `START_CAMPAIGN of campaign ${id}`, reason: expect.stringContaining('due for a minute') },
    ])
    expect(await stage.query(`select ok, detail from pawl.health where "check" = 'overdue timers'`)).toEqual([
      { ok: false, detail: '1 due for more than 10 seconds' },
    ])
    expect(await why(start)).toMatch(/^Due, but no worker is running for queue campaigns\.fire; start one with "pawl work"\.$/)
    expect(await answer('pawl.pause($1, $2)', ['campaigns.fire', 'quiet hour'])).toBe(true)
    expect(await stage.query('select from pawl.stuck')).toEqual([])
    expect(await why(start)).toMatch(
      /^Waiting: queue campaigns\.fire was paused by .* \(quiet hour\); select pawl\.resume\('campaigns\.fire'\) lets it go on\.$/,
    )
    expect([await stage.fire(), await answer('pawl.fire_timer($1)', [start])]).toEqual([0, 'paused'])
    expect(await stage.query('select paused from pawl.queues where queue = $1', ['campaigns.fire'])).toEqual([{ paused: true }])
    expect(await answer('pawl.resume($1)', ['campaigns.fire'])).toBe(true)
    expect(await stage.fireAll()).toBe(1)
    expect(await stage.query(`select ok from pawl.health where "check" in ('overdue timers', 'stuck runs', 'state log partitions')`)).toEqual([
      { ok: true },
      { ok: true },
      { ok: true },
    ])
  })
})
