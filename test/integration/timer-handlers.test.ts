import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import type { Database } from '../../src/database.ts'
import type { Turning } from '../../src/loop.ts'
import { performing } from '../../src/task.ts'
import { fireTimer } from '../../workers/campaigns/fire.ts'
import { type ClaimedTimer, claimHandled, type Handlers, handlers as installed } from '../../workers/campaigns/handlers.ts'
import { campaignWheel } from '../../workers/campaigns/wheel.ts'
import { handlerOptions, type Lease, takeLease } from '../support/engine.ts'
import { silent } from '../support/postgres.ts'
import { until } from '../support/until.ts'
import { type CampaignStage, openCampaignStage } from './campaign-stage.ts'

let stage: CampaignStage
let turning: Turning | undefined
const leases: Lease[] = []

beforeAll(async () => {
  stage = await openCampaignStage()
})

afterEach(async () => {
  await turning?.stop()
  turning = undefined
  for (const lease of leases.splice(0)) await lease.stop()
  await stage.query('delete from campaigns; delete from pgboss.job; delete from pawl.paused_queues')
})

afterAll(() => stage.close())

async function lend(name = 'handling'): Promise<Lease> {
  const lease = await takeLease(stage.db, name, ['campaigns.fire'])
  leases.push(lease)
  return lease
}

async function turn(handlers: Handlers, { patienceMs = 5_000, db = stage.db, lease = undefined as Lease | undefined } = {}): Promise<Lease> {
  const held = lease ?? (await lend())
  turning = campaignWheel(handlers, patienceMs).start({
    config: readConfig({ DATABASE_URL: stage.db.url }),
    db,
    log: silent,
    clock: systemClock,
    lease: () => held.id,
  })
  return held
}

async function due(): Promise<{ campaign: string; timer: string }> {
  const campaign = await stage.insertCampaign()
  return { campaign, timer: await stage.insertTimer(campaign, 'START_CAMPAIGN', '-1 minute') }
}

const settled = (timer: string) => until('the timer is settled', async () => !['PENDING', 'RUNNING'].includes(String((await stage.timer(timer)).status)))

/** As the wheel claims, but nobody works on it. */
async function claim(lease: Lease, timer: string): Promise<ClaimedTimer> {
  const [claimed] = await stage.query<ClaimedTimer>(`select * from pawl.claim_timers('{START_CAMPAIGN}', 10, $1, $2)`, [lease.id, timer])
  if (claimed === undefined) throw new Error('nothing was claimed')
  return claimed
}

const rescue = async () => (await stage.query(`select pawl.rescue_timers('10 seconds') as n`))[0]?.n

test('a handler that succeeds lets the timer take effect, and its answer stands in the result', async () => {
  const { campaign, timer } = await due()
  const seen: ClaimedTimer[] = []
  await turn({
    START_CAMPAIGN: async claimed => {
      seen.push(claimed)
      expect(await stage.timer(timer)).toMatchObject({ status: 'RUNNING' })
      return { checked: [1, 2], outcome: 'mine' }
    },
  })
  await settled(timer)
  expect(await stage.state(campaign)).toBe('RUNNING')
  expect(await stage.timer(timer)).toMatchObject({ status: 'COMPLETED', claimed_by: null, retry_count: 0 })
  // What Pawl says of it, no handler unsays.
  expect(await stage.executions(timer)).toMatchObject([
    { status: 'COMPLETED', error_message: null, result: { checked: [1, 2], outcome: 'transition', from: 'CREATED', to: 'RUNNING' } },
  ])
  expect(seen).toMatchObject([
    { timer_id: timer, campaign_id: campaign, timer_type: 'START_CAMPAIGN', attempt: 1, payload: {}, scheduled_at: expect.any(Date) },
  ])
})

const nonsense = (value: unknown) => async () => value as Record<string, unknown>
const failing: [what: string, handler: (timer: ClaimedTimer, signal: AbortSignal) => Promise<Record<string, unknown> | undefined>, says: RegExp][] = [
  ['throws', () => Promise.reject(new Error('the shop is shut')), /^the shop is shut$/],
  [
    'throws at once',
    () => {
      throw new Error('no promise even')
    },
    /^no promise even$/,
  ],
  ['throws a NUL', () => Promise.reject(new Error('a\0b')), /^ab$/],
  ['hangs', () => new Promise(() => {}), /^the handler has not answered within 0\.05 s$/],
  ['returns a number', nonsense(7), /^the handler returned nonsense: 7$/],
  ['returns a list', nonsense([1]), /^the handler returned nonsense: 1$/],
  ['returns null', nonsense(null), /^the handler returned nonsense: null$/],
  ['returns what cannot be stored', nonsense({ text: 'a\0b' }), /^what the handler returned cannot be stored/],
  [
    'returns a circle',
    async () => {
      const circle: Record<string, unknown> = {}
      circle.self = circle
      return circle
    },
    /circular/i,
  ],
]

for (const [what, handler, says] of failing) {
  test(`a handler that ${what} is a failed attempt, with a job for its retry, and the campaign stays as it was`, async () => {
    const { campaign, timer } = await due()
    await turn({ START_CAMPAIGN: handler }, { patienceMs: 50 })
    await settled(timer)
    expect(await stage.timer(timer)).toMatchObject({ status: 'FAILED', retry_count: 0, claimed_by: null, next_attempt_at: expect.any(Date) })
    expect(await stage.executions(timer)).toMatchObject([{ status: 'FAILED', error_message: expect.stringMatching(says), completed_at: expect.any(Date) }])
    expect([await stage.state(campaign), (await stage.jobs('campaigns.fire')).map(job => job.data)]).toEqual(['CREATED', [{ timer_id: timer }]])
  })
}

test('a handler that hangs is told so by its signal', async () => {
  const { timer } = await due()
  const told = Promise.withResolvers<void>()
  await turn({ START_CAMPAIGN: (_, signal) => new Promise(() => signal.addEventListener('abort', () => told.resolve())) }, { patienceMs: 50 })
  await told.promise
  await settled(timer)
})

test('retries come through the handler too: five of them, then the dead letter queue', async () => {
  const { timer } = await due()
  const attempts: number[] = []
  const lease = await lend()
  installed.START_CAMPAIGN = async claimed => {
    attempts.push(claimed.attempt)
    throw new Error('still shut')
  }
  try {
    await Promise.all(
      await claimHandled({ ...handlerOptions(stage.db, lease), handlers: installed, patienceMs: 1_000, signal: new AbortController().signal }, 10),
    )
    for (let retry = 1; retry <= 5; retry += 1) {
      const settlement = await performing(fireTimer, handlerOptions(stage.db, lease))({ timer_id: timer }, 'a job', new AbortController().signal)
      expect(settlement).toEqual({ status: 'completed', output: { outcome: 'completed', timer: 'handled' } })
    }
  } finally {
    delete installed.START_CAMPAIGN
  }
  expect(attempts).toEqual([1, 2, 3, 4, 5, 6])
  expect(await stage.timer(timer)).toMatchObject({ status: 'FAILED', retry_count: 5 })
  expect(await stage.executions(timer)).toHaveLength(6)
  expect((await stage.jobs('campaigns.fire.dead')).map(job => job.data)).toEqual([{ timer_id: timer, error: 'still shut' }])
})

test('CLOSE waits for the handler of an overdue START, and then follows without being asked', async () => {
  const { campaign } = await due()
  const close = await stage.insertTimer(campaign, 'CLOSE_CAMPAIGN', '-1 second')
  const [begun, open] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  await turn({
    START_CAMPAIGN: async () => {
      begun.resolve()
      await open.promise
      return {}
    },
  })
  await begun.promise
  expect(await stage.fire()).toBe(0)
  expect((await stage.timer(close)).status).toBe('PENDING')
  open.resolve()
  await until('the campaign is closed', async () => (await stage.state(campaign)) === 'REWARD_CLAIM', 10_000)
  expect(await stage.executions(close)).toHaveLength(1)
})

test('many due timers go to handlers of two workers, each timer once', async () => {
  const timers = await Promise.all(Array.from({ length: 80 }, async () => (await due()).timer))
  const seen: string[] = []
  const handlers: Handlers = { START_CAMPAIGN: async ({ timer_id }) => void seen.push(timer_id) }
  await turn(handlers)
  const first = turning
  await turn(handlers, { lease: await lend('other') })
  await until(
    'all have fired',
    async () => (await stage.query(`select from campaign_timers where status = 'COMPLETED' and timer_type = 'START_CAMPAIGN'`)).length === 80,
  )
  await first?.stop()
  expect(seen.toSorted()).toEqual(timers.toSorted())
})

test('a handler at work is seen by operators, cannot be cancelled, and nothing is claimed while the queue is paused or without a lease', async () => {
  const { timer } = await due()
  const lease = await lend('visible')
  const context = {
    ...handlerOptions(stage.db, lease),
    handlers: { START_CAMPAIGN: async () => ({}) },
    patienceMs: 1_000,
    signal: new AbortController().signal,
  }
  await stage.query(`select pawl.pause('campaigns.fire')`)
  expect(await claimHandled(context, 10)).toEqual([])
  await stage.query(`select pawl.resume('campaigns.fire')`)
  expect(await claimHandled({ ...context, lease: () => undefined }, 10)).toEqual([])
  await claim(lease, timer)
  expect(await stage.query('select state, worker from pawl.runs where run_id = $1', [timer])).toEqual([{ state: 'running', worker: 'visible' }])
  expect((await stage.query('select pawl.why($1)', [timer]))[0]?.why).toMatch(/^A handler in worker visible is at work on it since /)
  expect(await stage.query('select pawl.cancel($1), pawl.retry($1)', [timer])).toEqual([{ cancel: false, retry: false }])
  expect([await rescue(), await claimHandled(context, 10)]).toEqual([0, []])
})

test('an answer that the database was away to hear is told again', async () => {
  const { timer } = await due()
  let refusals = 0
  const query: Database['query'] = async (text, values) => {
    if (text.includes('conclude_timer') && (refusals += 1) <= 3) throw Object.assign(new Error('the database system is shutting down'), { code: '57P03' })
    return stage.query(text, values)
  }
  await turn({ START_CAMPAIGN: async () => ({}) }, { db: { ...stage.db, query } })
  await settled(timer)
  expect([refusals, (await stage.timer(timer)).status, (await stage.executions(timer)).length]).toEqual([4, 'COMPLETED', 1])
})

test('a handler that a shutdown breaks off has not failed: its timer is handed back, and the next worker fires it', async () => {
  const { timer } = await due()
  let begun: () => void = () => {}
  const atWork = new Promise<void>(resolve => {
    begun = resolve
  })
  const obedient: Handlers = {
    START_CAMPAIGN: (_timer, signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(new Error('asked to stop')))
        begun()
      }),
  }
  await turn(obedient)
  await atWork
  await turning?.stop()
  expect(await stage.timer(timer)).toMatchObject({ status: 'PENDING', retry_count: 0 })
  await turn({ START_CAMPAIGN: async () => undefined }, { lease: await lend('next') })
  await settled(timer)
  expect(await stage.timer(timer)).toMatchObject({ status: 'COMPLETED', retry_count: 0 })
})
