import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { performing } from '../../src/task.ts'
import { fireTimer } from '../../workers/campaigns/fire.ts'
import type { TimerType } from '../../workers/campaigns/states.ts'
import { handlerOptions, type Lease, takeLease } from '../support/engine.ts'
import { until } from '../support/until.ts'
import { type CampaignStage, openCampaignStage } from './campaign-stage.ts'

let stage: CampaignStage
let lease: Lease

// A rule of the host's: changing a cursed campaign raises, in the way the curse names.
beforeAll(async () => {
  stage = await openCampaignStage()
  lease = await takeLease(stage.db, 'retrier', ['campaigns.fire'])
  await stage.query(`
    create table public.curses (campaign_id uuid, way text);
    create function public.curse() returns trigger language plpgsql as $$
    declare way text := (select c.way from public.curses c where c.campaign_id = new.id);
    begin
      if way = 'assert' then assert false, 'campaign is cursed by assertion'; end if;
      if way is not null then raise exception 'campaign is cursed' using errcode = way; end if;
      return new;
    end $$;
    create trigger curse before update on public.campaigns for each row execute function public.curse()`)
})

afterEach(() => stage.query('delete from public.curses; delete from campaign_timers; delete from pgboss.job'))

afterAll(async () => {
  await lease.stop()
  await stage.close()
})

/** A campaign with a due timer that cannot fire until `bless`. */
async function cursed(way = 'P0001', type: TimerType = 'START_CAMPAIGN', due = '-10 minutes'): Promise<{ campaign: string; timer: string }> {
  const campaign = await stage.insertCampaign()
  const timer = await stage.insertTimer(campaign, type, due)
  await stage.query('insert into public.curses values ($1, $2)', [campaign, way])
  return { campaign, timer }
}

const bless = () => stage.query('delete from public.curses')

async function retried(timer: string): Promise<unknown> {
  return (await stage.query('select pawl.fire_timer($1) as state', [timer]))[0]?.state
}

const perform = (data: unknown) => performing(fireTimer, handlerOptions(stage.db, lease))(data, 'a job', new AbortController().signal)

test.each([
  ['P0001', 'campaign is cursed'],
  ['23514', 'campaign is cursed'],
  ['assert', 'campaign is cursed by assertion'],
])('one timer that raises %s fails by itself: its neighbours fire, and a job is to bring its retry', async (way, says) => {
  const neighbours = await Promise.all(Array.from({ length: 6 }, () => stage.insertCampaign()))
  for (const neighbour of neighbours.slice(0, 3)) await stage.insertTimer(neighbour, 'START_CAMPAIGN', '-20 minutes')
  const { campaign, timer } = await cursed(way)
  for (const neighbour of neighbours.slice(3)) await stage.insertTimer(neighbour, 'START_CAMPAIGN', '-1 second')
  expect(await stage.fire()).toBe(6)
  for (const neighbour of neighbours) expect(await stage.state(neighbour)).toBe('RUNNING')
  expect(await stage.state(campaign)).toBe('CREATED')
  expect(await stage.timer(timer)).toMatchObject({ status: 'FAILED', retry_count: 0, next_attempt_at: expect.any(Date), executed_at: null })
  expect(await stage.executions(timer)).toMatchObject([{ status: 'FAILED', error_message: says, completed_at: expect.any(Date) }])
  const [job, ...others] = await stage.jobs('campaigns.fire')
  expect([job?.data, others]).toEqual([{ timer_id: timer }, []])
  // 2 s, a quarter of it by chance.
  expect(job?.in_seconds).toBeGreaterThan(1)
  expect(job?.in_seconds).toBeLessThanOrEqual(2)
  // Not again before that.
  expect(await stage.fire()).toBe(0)
  expect(await stage.executions(timer)).toHaveLength(1)
})

test('after the first attempt come five retries, each later than the one before, then the dead letter queue', async () => {
  const { timer } = await cursed()
  await stage.fire()
  for (let retry = 1; retry <= 5; retry += 1) {
    const waits = (await stage.jobs('campaigns.fire')).at(-1)?.in_seconds ?? 0
    expect(waits).toBeGreaterThan(0.75 * 2 ** retry - 0.5)
    expect(waits).toBeLessThanOrEqual(2 ** retry)
    expect((await stage.jobs('campaigns.fire')).length).toBe(retry)
    expect(await retried(timer)).toBe('failed')
    expect(await stage.timer(timer)).toMatchObject({ status: 'FAILED', retry_count: retry })
    expect(await stage.executions(timer)).toHaveLength(1 + retry)
  }
  expect(await stage.timer(timer)).toMatchObject({ next_attempt_at: null, executed_at: expect.any(Date) })
  expect((await stage.jobs('campaigns.fire.dead')).map(job => job.data)).toEqual([{ timer_id: timer, error: 'campaign is cursed' }])
  expect((await stage.jobs('campaigns.fire')).length).toBe(5)
  // For good: a job that comes late changes nothing.
  expect(await retried(timer)).toBe('failed')
  expect(await stage.executions(timer)).toHaveLength(6)
  expect(await stage.query('select state, attempt, failures, error from pawl.runs where run_id = $1', [timer])).toMatchObject([
    { state: 'failed', failures: 6, error: 'campaign is cursed' },
  ])
})

test('a retry that succeeds completes the timer and is counted', async () => {
  const { campaign, timer } = await cursed()
  await stage.fire()
  expect(await retried(timer)).toBe('failed')
  await bless()
  expect(await retried(timer)).toBe('completed')
  expect(await stage.timer(timer)).toMatchObject({ status: 'COMPLETED', retry_count: 2, next_attempt_at: null })
  expect((await stage.executions(timer)).map(execution => execution.status)).toEqual(['FAILED', 'FAILED', 'COMPLETED'])
  expect([await stage.state(campaign), await retried(timer)]).toEqual(['RUNNING', 'completed'])
})

test('later timers of that campaign wait for its retry and then go on, or when it has failed for good', async () => {
  for (const ending of ['success', 'failure']) {
    const { campaign, timer } = await cursed()
    const close = await stage.insertTimer(campaign, 'CLOSE_CAMPAIGN', '-5 minutes')
    await stage.fireAll()
    expect((await stage.timer(close)).status).toBe('PENDING')
    expect(await stage.query('select from pawl.stuck where run_id = $1', [close])).toEqual([])
    expect((await stage.query<{ why: string }>('select pawl.why($1)', [close]))[0]?.why).toContain(
      `it waits for START_CAMPAIGN of the same campaign, which comes first; select pawl.why('${timer}')`,
    )
    if (ending === 'success') await bless()
    for (let retry = 1; retry <= 5; retry += 1) await retried(timer)
    await bless()
    await stage.fireAll()
    expect([ending, await stage.state(campaign), (await stage.timer(close)).status]).toEqual(
      ending === 'success' ? [ending, 'REWARD_CLAIM', 'COMPLETED'] : [ending, 'CREATED', 'FAILED'],
    )
  }
})

test.each(['40001', '40P01', '55P03', '53100', '57P01', '58030', '08006'])(
  'SQLSTATE %s is the world and no failure of the timer: the turn fails, nothing is written, the next one fires',
  async way => {
    const { campaign, timer } = await cursed(way)
    const neighbour = await stage.insertCampaign()
    await stage.insertTimer(neighbour, 'START_CAMPAIGN')
    await expect(stage.fire()).rejects.toMatchObject({ code: way })
    expect(await stage.timer(timer)).toMatchObject({ status: 'PENDING', retry_count: 0 })
    expect([await stage.executions(timer), await stage.jobs('campaigns.fire')]).toEqual([[], []])
    await bless()
    // The server answers with an error before it has let go of the locks.
    await until('both run', async () => {
      await stage.fire()
      return (await stage.state(campaign)) === 'RUNNING' && (await stage.state(neighbour)) === 'RUNNING'
    })
    expect([(await stage.timer(timer)).retry_count, (await stage.executions(timer)).map(execution => execution.status)]).toEqual([0, ['COMPLETED']])
  },
)

test('the task of campaigns.fire performs a retry, and is content with a timer that needs none', async () => {
  const { timer } = await cursed()
  await stage.fire()
  await bless()
  expect(await perform({ timer_id: timer })).toEqual({ status: 'completed', output: { outcome: 'completed', timer: 'completed' } })
  expect(await perform({ timer_id: timer })).toMatchObject({ output: { timer: 'completed' } })
  expect(await stage.executions(timer)).toHaveLength(2)
  expect(await perform({ timer_id: crypto.randomUUID() })).toEqual({ status: 'completed', output: { outcome: 'completed', timer: 'gone' } })
  const early = await stage.insertTimer(await stage.insertCampaign(), 'START_CAMPAIGN', '1 hour')
  expect([await perform({ timer_id: early }), await stage.executions(early)]).toMatchObject([{ output: { timer: 'pending' } }, []])
})

test.each([[{}], [{ timer_id: 7 }], [{ timer_id: 'no uuid' }], [null], ['text']])('a job with data %j is refused into the dead letter queue', async data => {
  expect(await perform(data)).toMatchObject({ status: 'deadletter', output: { outcome: 'refused' } })
})

test('a job redriven from the dead letter queue carries its error, and starts the timer over with five new retries', async () => {
  const { campaign, timer } = await cursed()
  await stage.fire()
  for (let retry = 1; retry <= 5; retry += 1) await retried(timer)
  const [dead] = await stage.jobs('campaigns.fire.dead')
  await bless()
  expect(await perform(dead?.data)).toEqual({ status: 'completed', output: { outcome: 'completed', timer: 'redriven' } })
  expect(await stage.timer(timer)).toMatchObject({ status: 'PENDING', retry_count: 0, executed_at: null })
  expect([await stage.fire(), await stage.state(campaign)]).toEqual([1, 'RUNNING'])
  // Redriven once more, it is over.
  expect([await perform(dead?.data), await stage.fire(), (await stage.executions(timer)).length]).toMatchObject([{ status: 'completed' }, 0, 7])
})

test('a retry whose job was lost is enqueued again after a minute, once', async () => {
  const { timer } = await cursed()
  await stage.fire()
  await stage.query('delete from pgboss.job')
  const redeliver = async () => (await stage.query('select pawl.redeliver_lost_timers() as n'))[0]?.n
  expect(await redeliver()).toBe(0)
  await stage.query(`update campaign_timers set next_attempt_at = now() - interval '61 seconds' where id = $1`, [timer])
  expect([await redeliver(), await redeliver()]).toEqual([1, 0])
  expect((await stage.jobs('campaigns.fire')).map(job => job.data)).toEqual([{ timer_id: timer }])
})

test('EXPIRE cancels a timer that waits for its retry', async () => {
  const campaign = await stage.insertCampaign({ status: 'CLOSED', rewards: false })
  const reminder = await stage.insertTimer(campaign, 'REWARD_REMINDER', '1 hour')
  await stage.query(`update campaign_timers set status = 'FAILED', next_attempt_at = now() where id = $1`, [reminder])
  await stage.insertTimer(campaign, 'EXPIRE_CAMPAIGN')
  expect(await stage.fireAll()).toBe(1)
  expect(await stage.timer(reminder)).toMatchObject({ status: 'CANCELLED', next_attempt_at: null })
  expect(await retried(reminder)).toBe('cancelled')
})
