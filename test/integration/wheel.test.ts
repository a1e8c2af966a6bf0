import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { type Clock, systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { type Daemon, startDaemon } from '../../src/daemon.ts'
import type { Database } from '../../src/database.ts'
import type { Turning } from '../../src/loop.ts'
import { campaignWheel } from '../../workers/campaigns/wheel.ts'
import { loops, workers } from '../../workers/index.ts'
import { silent } from '../support/postgres.ts'
import { until } from '../support/until.ts'
import { type CampaignStage, openCampaignStage } from './campaign-stage.ts'

/** Far below the backstop of 15 s: what is quicker than this was woken. */
const AT_ONCE_MS = 5_000

let stage: CampaignStage
let daemon: Daemon | undefined
let turning: Turning | undefined

beforeAll(async () => {
  stage = await openCampaignStage()
})

afterEach(async () => {
  await turning?.stop()
  await daemon?.drain('the test is over')
  turning = daemon = undefined
  await stage.query('delete from campaigns; delete from pawl.paused_queues')
})

afterAll(() => stage.close())

async function work(clock: Clock = systemClock): Promise<Daemon> {
  const config = readConfig({ DATABASE_URL: stage.db.url, PAWL_HTTP_PORT: '0', PAWL_HTTP_HOST: '127.0.0.1' })
  daemon = await startDaemon({ config, log: silent, workers: workers.filter(worker => worker.queue.startsWith('campaigns.')), loops, clock })
  return daemon
}

/** The lone wheel, its statements counted; nobody listens for it. */
function turnAlone(): { statements: string[]; wheel: Turning } {
  const statements: string[] = []
  const query: Database['query'] = (text, values) => {
    statements.push(text)
    return stage.query(text, values)
  }
  turning = campaignWheel().start({
    config: readConfig({ DATABASE_URL: stage.db.url }),
    db: { ...stage.db, query },
    log: silent,
    clock: systemClock,
    lease: () => undefined,
  })
  return { statements, wheel: turning }
}

const fired = (timer: string) => async () => (await stage.timer(timer)).status === 'COMPLETED'

/** Milliseconds from due to executed, by the database's clock; negative when early. */
async function lateness(): Promise<number[]> {
  const rows = await stage.query<{ ms: number }>(
    `select (extract(epoch from executed_at - scheduled_at) * 1000)::float8 as ms from campaign_timers where status = 'COMPLETED' and timer_type = 'START_CAMPAIGN'`,
  )
  return rows.map(row => row.ms)
}

test('fires at the due instant: never early, and far sooner than the backstop', async () => {
  await work()
  const timers: string[] = []
  for (const due of ['300 milliseconds', '500 milliseconds', '501 milliseconds', '900 milliseconds'])
    timers.push(await stage.insertTimer(await stage.insertCampaign(), 'START_CAMPAIGN', due))
  for (const timer of timers) await until('it has fired', fired(timer), AT_ONCE_MS)
  const late = await lateness()
  expect(late).toHaveLength(4)
  expect(Math.min(...late)).toBeGreaterThanOrEqual(0)
  expect(Math.max(...late)).toBeLessThan(2_000)
})

test('fires what create_campaign asked for, through START and CLOSE to the claim phase, without a hand', async () => {
  await work()
  const campaign = await stage.create({ startsIn: '0 seconds', hours: 1 })
  await until('it runs', async () => (await stage.state(campaign)) === 'RUNNING', AT_ONCE_MS)
  const close = await stage.timerOf(campaign, 'CLOSE_CAMPAIGN')
  await stage.query(`select pawl.reschedule_timer($1, now() + interval '200 milliseconds')`, [close])
  await until('rewards are claimed', async () => (await stage.state(campaign)) === 'REWARD_CLAIM', AT_ONCE_MS)
  expect(await stage.path(campaign)).toEqual(['CREATED', 'RUNNING', 'CLOSED', 'REWARD_CLAIM'])
})

test('a worker whose own clock is an hour off, ahead or behind, fires at the same instant', async () => {
  for (const hours of [1, -1]) {
    await work({ ...systemClock, now: () => systemClock.now() + hours * 3_600_000 })
    const timer = await stage.insertTimer(await stage.insertCampaign(), 'START_CAMPAIGN', '400 milliseconds')
    const later = await stage.insertTimer(await stage.insertCampaign(), 'START_CAMPAIGN', '59 minutes')
    await until('it has fired', fired(timer), AT_ONCE_MS)
    expect((await stage.timer(later)).status).toBe('PENDING')
    expect(Math.min(...(await lateness()))).toBeGreaterThanOrEqual(0)
    expect(Math.max(...(await lateness()))).toBeLessThan(2_000)
    await daemon?.drain('next clock')
  }
})

test('pausing campaigns.fire stops firing, and resuming it starts at once', async () => {
  await work()
  await stage.query(`select pawl.pause('campaigns.fire', 'quiet')`)
  const campaign = await stage.insertCampaign()
  const timer = await stage.insertTimer(campaign, 'START_CAMPAIGN')
  // The wheel has looked, and left it: its turn is the only one that asks this.
  const control = await stage.insertTimer(await stage.insertCampaign(), 'START_CAMPAIGN', '100 milliseconds')
  await until(
    'both are due',
    async () => (await stage.query(`select from campaign_timers where scheduled_at < now() - interval '300 milliseconds'`)).length === 2,
  )
  expect([(await stage.timer(timer)).status, (await stage.timer(control)).status, await stage.state(campaign)]).toEqual(['PENDING', 'PENDING', 'CREATED'])
  await stage.query(`select pawl.resume('campaigns.fire')`)
  await until('it has fired', fired(timer), AT_ONCE_MS)
  await until('the other one too', fired(control), AT_ONCE_MS)
})

test('a retry comes by itself: the job is performed when its backoff has passed', async () => {
  const campaign = await stage.insertCampaign()
  await stage.query(`
    create function public.refuse() returns trigger language plpgsql as $$ begin raise exception 'not yet'; end $$;
    create trigger refuse before update on public.campaigns for each row when (new.id = '${campaign}') execute function public.refuse()`)
  await work()
  const timer = await stage.insertTimer(campaign, 'START_CAMPAIGN')
  await until('it has failed once', async () => (await stage.timer(timer)).status === 'FAILED', AT_ONCE_MS)
  await stage.query('drop trigger refuse on public.campaigns; drop function public.refuse')
  await until('the retry has fired it', fired(timer), 15_000)
  expect((await stage.timer(timer)).retry_count).toBeGreaterThan(0)
  expect((await stage.executions(timer)).at(-1)).toMatchObject({ status: 'COMPLETED' })
})

test('a backlog of two thousand overdue timers is worked off, each once and in order of being due', async () => {
  await stage.query(`
    set pawl.allow_past_timers = 'on';
    insert into campaigns (duration_hours, auto_close) select 1, false from generate_series(1, 2000);
    insert into campaign_timers (campaign_id, timer_type, scheduled_at)
    select id, 'START_CAMPAIGN', now() - interval '1 hour' + row_number() over () * interval '1 second' from campaigns;
    reset pawl.allow_past_timers`)
  const { statements } = turnAlone()
  await until('all have fired', async () => (await stage.query(`select from campaigns where status = 'RUNNING'`)).length === 2000, 30_000)
  const [counts] = await stage.query(
    `select count(*) as executions, count(distinct timer_id) as timers, count(*) filter (where status = 'COMPLETED') as completed from timer_executions`,
  )
  expect(counts).toEqual({ executions: 2000, timers: 2000, completed: 2000 })
  expect(statements.filter(text => text.includes('fire_timers')).length).toBeLessThan(20)
})

test('without a notification, it is the backstop that asks: the wheel rests in its first seconds, and it stops in the midst of its sleep', async () => {
  const { statements, wheel } = turnAlone()
  await until('it has turned', () => statements.some(text => text.includes('redeliver_lost_timers')))
  const timer = await stage.insertTimer(await stage.insertCampaign(), 'START_CAMPAIGN')
  // On a busy machine the first turn takes longer than OVERLAP_MS, and another goes beside it.
  expect(statements.filter(text => text.includes('fire_timers')).length).toBeLessThanOrEqual(3)
  expect((await stage.timer(timer)).status).toBe('PENDING')
  wheel.notified('')
  await until('it has fired', fired(timer), AT_ONCE_MS)
  const begun = systemClock.elapsed()
  await wheel.stop()
  expect(systemClock.elapsed() - begun).toBeLessThan(2_000)
})

test('goes on after its connections were cut', async () => {
  await work()
  await stage.query(`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like 'pawl%'`)
  const timer = await stage.insertTimer(await stage.insertCampaign(), 'START_CAMPAIGN', '200 milliseconds')
  await until('it has fired', fired(timer), 10_000)
  expect(Math.min(...(await lateness()))).toBeGreaterThanOrEqual(0)
})
