import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { claimHandled, type Handlers } from '../../workers/campaigns/handlers.ts'
import { takeLease } from '../support/engine.ts'
import { silent } from '../support/postgres.ts'
import { type CampaignStage, openCampaignStage } from './campaign-stage.ts'

let stage: CampaignStage

beforeAll(async () => {
  stage = await openCampaignStage()
})

afterAll(() => stage.close())

test('what a handler lets happen is counted with its lateness, its retries without', async () => {
  const due = async () => stage.insertTimer(await stage.insertCampaign(), 'START_CAMPAIGN', '-1 minute')
  const timer = await due()
  const told: [number, readonly number[]][] = []
  const metrics = { timers: (fired: number, late: readonly number[]) => void told.push([fired, late]) }
  const lease = await takeLease(stage.db, 'handling', ['campaigns.fire'])
  onTestFinished(() => lease.stop())
  const fails = [true, false]
  const handlers: Handlers = {
    START_CAMPAIGN: async () => {
      if (fails.shift() === true) throw new Error('not yet')
      return undefined
    },
  }
  const context = {
    db: stage.db,
    log: silent,
    clock: systemClock,
    metrics,
    lease: () => lease.id,
    handlers,
    patienceMs: 5_000,
    signal: new AbortController().signal,
  }
  await Promise.all(await claimHandled(context, 1, timer))
  expect(told).toEqual([])
  await Promise.all(await claimHandled(context, 1, timer))
  expect(told).toEqual([[1, []]])
  await Promise.all(await claimHandled(context, 1, await due()))
  expect(told[1]).toEqual([1, [expect.any(Number)]])
  expect(told[1]?.[1][0]).toBeGreaterThanOrEqual(60_000)
  expect(told[1]?.[1][0]).toBeLessThan(120_000)
})

test('fire_timers tells how late each timer was that it fired, and leaves out those that could not be', async () => {
  const turn = async () => (await stage.query<{ fired: number; late_ms: number[] | null }>(`select fired, late_ms from pawl.fire_timers(10, '{}')`))[0]
  expect(await turn()).toEqual({ fired: 0, late_ms: null })
  const campaigns: string[] = []
  for (const due of ['-3 minutes', '-1 minute', '-100 days']) {
    const campaign = await stage.insertCampaign({ autoClose: false })
    campaigns.push(campaign)
    await stage.insertTimer(campaign, 'START_CAMPAIGN', due)
  }
  const near = (expected: number) => expect.toSatisfy((late: number) => late >= expected && late < expected + 30_000, `about ${expected} ms`)
  expect(await turn()).toEqual({ fired: 3, late_ms: [near(100 * 86_400_000), near(180_000), near(60_000)] })

  await stage.query(`
    create function public.refuse() returns trigger language plpgsql as $$ begin if new.id = '${campaigns[0]}' then raise 'no' using errcode = '23514'; end if; return new; end $$;
    create trigger refuse before update on public.campaigns for each row execute function public.refuse()`)
  for (const campaign of campaigns.slice(0, 2)) await stage.insertTimer(campaign, 'EXPIRE_CAMPAIGN', '-2 minutes')
  expect(await turn()).toEqual({ fired: 1, late_ms: [near(120_000)] })
})
