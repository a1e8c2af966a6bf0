import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type CampaignStage, openCampaignStage } from './campaign-stage.ts'

const INVALID = '22023'
const NO_REFERENCE = '23503'
const NOWHERE = '00000000-0000-4000-8000-000000000000'

let stage: CampaignStage
let campaign: string
let expired: string

beforeAll(async () => {
  stage = await openCampaignStage()
  campaign = await stage.create({ hours: 3, startsIn: '1 hour' })
  expired = await stage.insertCampaign({ status: 'EXPIRED' })
})

afterAll(() => stage.close())

async function answer<Value>(sql: string, values: unknown[] = []): Promise<Value> {
  const [row] = await stage.query<{ answer: Value }>(`select ${sql} as answer`, values)
  if (row === undefined) throw new Error(`no row: ${sql}`)
  return row.answer
}

/** Everything a call could change. */
const everything = () =>
  stage.query(`select (select md5(string_agg(c::text, '|' order by id)) from campaigns c) as campaigns,
    (select md5(string_agg(t::text, '|' order by id)) from campaign_timers t) as timers,
    (select count(*) from campaign_state_log) as log, (select count(*) from pgboss.job) as jobs, (select count(*) from pawl.paused_queues) as paused`)

describe('bad input is refused with SQLSTATE and hint, and changes nothing', () => {
  const create = 'pawl.create_campaign($1)'
  const full = 'pawl.create_campaign($1, now() + $2::interval, $3, $4, $5, $6)'
  const schedule = 'pawl.schedule_timer($1, $2, now() + $3::interval)'
  const reschedule = 'pawl.reschedule_timer($1, now() + $2::interval)'
  const kept = '00000000-0000-4000-8000-00000000000a'
  beforeAll(() => answer(full, [5, '1 hour', true, true, { a: 1 }, kept]))

  type Refused = [what: string, code: string, says: RegExp, sql: string, values: () => unknown[]]
  const refused: Refused[] = [
    ...[0, -1, 87601, null].map<Refused>(hours => [
      `a campaign of ${hours} hours`,
      INVALID,
      new RegExp(`duration_hours must be .* not ${hours}`),
      create,
      () => [hours],
    ]),
    ['a campaign that started long ago', INVALID, /in the past/, full, () => [1, '-61 seconds', true, true, {}, null]],
    ['a campaign that starts at no time', INVALID, /start_at must be a time/, full, () => [1, null, true, true, {}, null]],
    ['a campaign that starts never', INVALID, /start_at must be a time/, `pawl.create_campaign($1, 'infinity')`, () => [1]],
    ['a campaign with auto_close null', INVALID, /auto_close/, full, () => [1, '1 hour', null, true, {}, null]],
    ['a campaign with rewards_enabled null', INVALID, /rewards_enabled/, full, () => [1, '1 hour', true, null, {}, null]],
    ...['[1]', '"a"', '1', 'null', null].map<Refused>(json => [
      `metadata ${json}`,
      INVALID,
      /metadata must be a JSON object/,
      full,
      () => [1, '1 hour', true, true, json, null],
    ]),
    ['the same id with other hours', INVALID, /exists with other arguments/, full, () => [6, '1 hour', true, true, { a: 1 }, kept]],
    ['the same id with other auto_close', INVALID, /exists with other arguments/, full, () => [5, '1 hour', false, true, { a: 1 }, kept]],
    ['the same id with other rewards', INVALID, /exists with other arguments/, full, () => [5, '1 hour', true, false, { a: 1 }, kept]],
    ['the same id with other metadata', INVALID, /exists with other arguments/, full, () => [5, '1 hour', true, true, {}, kept]],
    ['a timer of an unknown type', INVALID, /no timer type "NAP"/, schedule, () => [campaign, 'NAP', '1 hour']],
    ['a timer without a type', INVALID, /no timer type "null"/, schedule, () => [campaign, null, '1 hour']],
    ['a timer without a time', INVALID, /needs a time/, schedule, () => [campaign, 'EXPIRE_CAMPAIGN', null]],
    ['a timer for never', INVALID, /needs a time/, `pawl.schedule_timer($1, $2, 'infinity')`, () => [campaign, 'EXPIRE_CAMPAIGN']],
    ['a timer further back than the tolerance', INVALID, /in the past/, schedule, () => [campaign, 'EXPIRE_CAMPAIGN', '-61 seconds']],
    ['a timer of an unknown campaign', NO_REFERENCE, /campaign .* does not exist/, schedule, () => [NOWHERE, 'EXPIRE_CAMPAIGN', '1 hour']],
    ['a timer of no campaign', NO_REFERENCE, /campaign null does not exist/, schedule, () => [null, 'EXPIRE_CAMPAIGN', '1 hour']],
    ['a timer of an expired campaign', INVALID, /expired campaign/, schedule, () => [expired, 'EXPIRE_CAMPAIGN', '1 hour']],
    ['a second active timer of a type', INVALID, /has an active START_CAMPAIGN timer already/, schedule, () => [campaign, 'START_CAMPAIGN', '2 hours']],
    ...['[]', '"a"', null].map<Refused>(json => [
      `payload ${json}`,
      INVALID,
      /payload must be a JSON object/,
      `pawl.schedule_timer($1, 'EXPIRE_CAMPAIGN', now(), $2)`,
      () => [campaign, json],
    ]),
    ['moving an unknown timer', INVALID, /timer .* does not exist/, reschedule, () => [NOWHERE, '1 hour']],
    ['moving no timer', INVALID, /timer null does not exist/, reschedule, () => [null, '1 hour']],
    ['moving a timer into the past', INVALID, /cannot be moved/, reschedule, () => [NOWHERE, '-61 seconds']],
    ['moving a timer to no time', INVALID, /cannot be moved/, reschedule, () => [NOWHERE, null]],
    ['cancelling a timer that is not there', INVALID, /does not exist/, 'pawl.cancel($1)', () => [NOWHERE]],
    ['retrying a timer that is not there', INVALID, /does not exist/, 'pawl.retry($1)', () => [NOWHERE]],
  ]
  for (const [what, code, says, sql, values] of refused) {
    test(what, async () => {
      const before = await everything()
      await expect(answer(sql, values())).rejects.toMatchObject({ code, message: expect.stringMatching(says), hint: expect.stringMatching(/\w{3}/) })
      expect(await everything()).toEqual(before)
    })
  }

  test('plain SQL meets the same rules of the document', async () => {
    const insert = 'insert into campaign_timers (campaign_id, timer_type, scheduled_at) values ($1, $2, now() + $3::interval)'
    await expect(stage.query(insert, [campaign, 'EXPIRE_CAMPAIGN', '-61 seconds'])).rejects.toMatchObject({
      code: INVALID,
      message: expect.stringMatching(/^Cannot schedule timer in the past/),
    })
    await expect(stage.query(insert, [expired, 'EXPIRE_CAMPAIGN', '1 hour'])).rejects.toMatchObject({
      code: INVALID,
      message: `Cannot schedule timer for expired campaign: ${expired}`,
    })
    await expect(stage.query(insert, [campaign, 'START_CAMPAIGN', '1 hour'])).rejects.toMatchObject({
      code: '23505',
      constraint: 'unique_active_timer_per_type',
    })
    // Rows that come as history are no appointments.
    await stage.query(`insert into campaign_timers (campaign_id, timer_type, status, scheduled_at) values ($1, 'START_CAMPAIGN', 'COMPLETED', '2020-01-01')`, [
      expired,
    ])
  })
})
