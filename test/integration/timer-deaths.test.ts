import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { ClaimedTimer } from '../../workers/campaigns/handlers.ts'
import { type Lease, takeLease } from '../support/engine.ts'
import { until } from '../support/until.ts'
import { type CampaignStage, openCampaignStage } from './campaign-stage.ts'

const LEASE_TIME = '10 seconds'

let stage: CampaignStage
const leases: Lease[] = []

beforeAll(async () => {
  stage = await openCampaignStage()
})

afterEach(async () => {
  for (const lease of leases.splice(0)) await lease.stop()
  await stage.query('delete from campaigns; delete from pgboss.job')
})

afterAll(() => stage.close())

async function lend(name = 'handling'): Promise<Lease> {
  const lease = await takeLease(stage.db, name, ['campaigns.fire'])
  leases.push(lease)
  return lease
}

async function due(): Promise<{ campaign: string; timer: string }> {
  const campaign = await stage.insertCampaign()
  return { campaign, timer: await stage.insertTimer(campaign, 'START_CAMPAIGN', '-1 minute') }
}

/** As the wheel claims, but nobody works on it. */
async function claim(lease: Lease, timer: string): Promise<ClaimedTimer> {
  const [claimed] = await stage.query<ClaimedTimer>(`select * from pawl.claim_timers('{START_CAMPAIGN}', 10, $1, $2)`, [lease.id, timer])
  if (claimed === undefined) throw new Error('nothing was claimed')
  return claimed
}

const conclude = (claimed: ClaimedTimer, lease: Lease) =>
  stage.query(`select pawl.conclude_timer($1, $2, $3, '{"by": "hand"}', null)`, [claimed.timer_id, claimed.execution_id, lease.id])

const rescue = async () => (await stage.query(`select pawl.rescue_timers('${LEASE_TIME}') as n`))[0]?.n

describe('a worker that dies while its handler is at work', () => {
  test.each(['die', 'hang', 'stop'] as const)('(%s) loses the timer, which fires later with no retry spent', async way => {
    const { campaign, timer } = await due()
    const lease = await lend()
    await claim(lease, timer)
    expect([await stage.fire(), await rescue()]).toEqual([0, 0])
    await lease[way]()
    await until('the timer is taken from it', async () => (await rescue()) === 1)
    expect(await stage.timer(timer)).toMatchObject({ status: 'PENDING', retry_count: 0, claimed_by: null })
    expect(await stage.executions(timer)).toMatchObject([{ status: 'FAILED', error_message: 'the worker died', completed_at: expect.any(Date) }])
    expect([await stage.fire(), await stage.state(campaign), (await stage.timer(timer)).retry_count]).toEqual([1, 'RUNNING', 0])
  })

  test('three times makes the timer poison: failed for good, with that reason, in the dead letter queue', async () => {
    const { campaign, timer } = await due()
    for (let death = 1; death <= 3; death += 1) {
      const lease = await lend()
      await claim(lease, timer)
      await lease.die()
      await until('the timer is taken from it', async () => (await rescue()) === 1)
    }
    expect(await stage.timer(timer)).toMatchObject({ status: 'FAILED', retry_count: 5, claimed_by: null })
    expect((await stage.executions(timer)).map(execution => execution.error_message)).toEqual([
      'the worker died',
      'the worker died',
      'poison: its worker died three times',
    ])
    expect((await stage.jobs('campaigns.fire.dead')).map(job => job.data)).toEqual([{ timer_id: timer, error: 'poison: its worker died three times' }])
    expect([await stage.fire(), await stage.state(campaign)]).toEqual([0, 'CREATED'])
  })

  test('and is woken: what it claims before its next beat is its own, and once it was given up it claims nothing', async () => {
    const { timer } = await due()
    const lease = await lend('woken')
    await lease.hang()
    await claim(lease, timer)
    expect(await rescue()).toBe(0)
    await stage.query(`update pawl.leases set state = 'lost' where id = $1`, [lease.id])
    expect(await rescue()).toBe(1)
    await expect(claim(lease, timer)).rejects.toThrow('nothing was claimed')
    expect(await stage.timer(timer)).toMatchObject({ status: 'PENDING', claimed_by: null })
  })

  test('and wakes up again is refused, whether the timer has fired meanwhile or is at work elsewhere', async () => {
    const { campaign, timer } = await due()
    const [zombie, successor] = [await lend('zombie'), await lend('successor')]
    const old = await claim(zombie, timer)
    await zombie.hang()
    expect(await rescue()).toBe(1)
    await expect(conclude(old, zombie)).rejects.toMatchObject({ code: 'PW001' })
    const fresh = await claim(successor, timer)
    await expect(conclude(old, zombie)).rejects.toMatchObject({ code: 'PW001' })
    await expect(conclude(fresh, zombie)).rejects.toMatchObject({ code: 'PW001' })
    // Not even under the successor's name: that execution has ended.
    await expect(conclude(old, successor)).rejects.toMatchObject({ code: 'PW001' })
    expect([await stage.state(campaign), (await stage.timer(timer)).status]).toEqual(['CREATED', 'RUNNING'])
    await conclude(fresh, successor)
    await expect(conclude(old, zombie)).rejects.toMatchObject({ code: 'PW001' })
    expect(await stage.path(campaign)).toEqual(['CREATED', 'RUNNING'])
    expect((await stage.executions(timer)).map(execution => execution.status)).toEqual(['FAILED', 'COMPLETED'])
  })

  test('a RUNNING timer that no worker claims, or whose claim nobody remembers, is taken back as well', async () => {
    const [adopted, forgotten] = [await due(), await due()]
    await claim(await lend(), forgotten.timer)
    await stage.query(`update campaign_timers set status = 'RUNNING' where id = $1`, [adopted.timer])
    expect(await rescue()).toBe(0)
    await stage.query(`begin; set local pawl.firing = 'on'; update campaign_timers set updated_at = now() - interval '11 minutes'; commit`)
    expect(await rescue()).toBe(2)
    expect(await stage.fireAll()).toBe(2)
  })
})
