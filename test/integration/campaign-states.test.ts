import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { codeOf } from '../../src/errors.ts'
import { effects, isTimerType, pathOf, type State, states, type TimerType, timerTypes, transitions } from '../../workers/campaigns/states.ts'
import { type CampaignStage, openCampaignStage } from './campaign-stage.ts'

let stage: CampaignStage

beforeAll(async () => {
  stage = await openCampaignStage()
})

afterAll(() => stage.close())

for (const from of states) {
  for (const to of states) {
    const allowed = from === to || transitions[from].includes(to)
    test(`a plain UPDATE from ${from} to ${to} is ${allowed ? 'accepted' : 'refused'}, as the table in the code has it`, async () => {
      const campaign = await stage.insertCampaign({ status: from })
      const update = stage.query(`update campaigns set status = $2, metadata = '{"trigger_event": "BY_HAND", "changed_by": "ada"}' where id = $1`, [
        campaign,
        to,
      ])
      if (!allowed) {
        await expect(update).rejects.toMatchObject({
          code: '22023',
          message: `Invalid state transition from ${from} to ${to}`,
          hint: expect.stringMatching(/RUNNING/),
        })
        expect(await stage.state(campaign)).toBe(from)
        return
      }
      await update
      const logged = await stage.query(
        `select from_state, to_state, trigger_event, metadata ->> 'changed_by' as by from campaign_state_log where campaign_id = $1 and from_state is not null`,
        [campaign],
      )
      expect(logged).toEqual(from === to ? [] : [{ from_state: from, to_state: to, trigger_event: 'BY_HAND', by: 'ada' }])
    })
  }
}

test('pawl.timer_effects holds the same twenty effects as the table in the code', async () => {
  const rows = await stage.query<{ timer_type: TimerType; from_state: State; effect: string }>(
    'select timer_type, from_state, coalesce(to_state, outcome) as effect from pawl.timer_effects',
  )
  expect(rows).toHaveLength(20)
  const held = Object.fromEntries(
    timerTypes.map(type => [type, Object.fromEntries(rows.filter(row => row.timer_type === type).map(row => [row.from_state, row.effect]))]),
  )
  expect(held).toEqual(effects)
})

test('every effect that moves a campaign is a transition that the state machine allows, step by step', () => {
  for (const type of timerTypes)
    for (const from of states)
      for (const rewards of [true, false]) {
        let at: State = from
        for (const next of pathOf(type, from, rewards)) {
          expect([type, at, transitions[at].includes(next) && next]).toEqual([type, at, next])
          at = next
        }
      }
  expect(timerTypes.every(isTimerType) && !isTimerType('NAP')).toBe(true)
})

type Deed =
  | { do: 'insert'; campaign: number; type: TimerType; minutes: number }
  | { do: 'fire'; limit: number }
  | { do: 'race'; limit: number }
  | { do: 'cancel' | 'retry' | 'shift'; timer: number }

const campaigns = fc.array(
  fc.record({
    autoClose: fc.boolean(),
    rewards: fc.boolean(),
    metadata: fc.constantFrom({}, { expire_hours: 0 }, { reward_reminder_hours: 0, expire_hours: 1 }),
  }),
  { minLength: 1, maxLength: 4 },
)
const nat = fc.nat(20)
const deed: fc.Arbitrary<Deed> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('insert' as const),
      campaign: nat,
      type: fc.constantFrom(...timerTypes),
      minutes: fc.integer({ min: -300, max: 5 }),
    }),
  },
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 5 }).chain(limit => fc.constantFrom<Deed>({ do: 'fire', limit }, { do: 'race', limit })) },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('cancel' as const, 'retry' as const, 'shift' as const), timer: nat }) },
)

async function act(ids: string[], step: Deed): Promise<void> {
  if (step.do === 'fire') return void (await stage.fire(step.limit))
  if (step.do === 'race') return void (await Promise.all([stage.fire(step.limit), stage.fire(step.limit), stage.fire(1)]))
  if (step.do === 'insert') {
    // One active timer of a type: the second is refused, and that is fine.
    await stage.insertTimer(ids[step.campaign % ids.length] ?? '', step.type, `${step.minutes} minutes`).catch(error => expect(codeOf(error)).toBe('23505'))
    return
  }
  const timers = await stage.query<{ id: string }>('select id from campaign_timers where campaign_id = any ($1) order by created_at, id', [ids])
  const id = timers[step.timer % Math.max(1, timers.length)]?.id
  if (id === undefined) return
  if (step.do === 'shift') return stage.shift(id, '-10 minutes')
  await stage.query(`select pawl.${step.do}($1)`, [id]).catch(error => expect([step.do, codeOf(error)]).toEqual(['retry', '22023']))
}

/** What is wrong with the rows of these campaigns; nothing, when all holds. */
async function faults(ids: string[]): Promise<unknown[]> {
  const wrong: unknown[] = []
  for (const id of ids) {
    const path = await stage.path(id)
    const [row] = await stage.query(
      `select c.status, c.rewards_enabled as rewards,
         (select count(*) from campaign_timers t where t.campaign_id = c.id and t.status = 'COMPLETED') as completed,
         (select count(*) from campaign_metrics m where m.campaign_id = c.id and m.metric_type = 'TIMER_EXECUTION_TIME') as executions,
         (select count(*) from campaign_metrics m where m.campaign_id = c.id and m.metric_type = 'STATE_TRANSITION_TIME') as transitions,
         (select count(*) from campaign_metrics m where m.campaign_id = c.id and m.value < 0) as negative,
         (select count(*) from pgboss.job j where j.name like 'campaign.%' and j.data ->> 'campaign_id' = c.id::text and j.name <> 'campaign.reward_reminder') as events
       from campaigns c where c.id = $1`,
      [id],
    )
    const counts = { executions: row?.completed, transitions: path.length - 1, events: path.length - 1, negative: 0, status: path.at(-1) }
    const seen = { executions: row?.executions, transitions: row?.transitions, events: row?.events, negative: row?.negative, status: row?.status }
    if (JSON.stringify(counts) !== JSON.stringify(seen)) wrong.push({ id, counts, seen })
    path.forEach((state, place) => {
      const before = path[place - 1]
      if (place === 0 ? state !== 'CREATED' : !transitions[before as State].includes(state as State)) wrong.push({ id, path })
    })
  }
  wrong.push(
    ...(await stage.query(
      `select t.id, t.timer_type, t.status, t.scheduled_at, t.executed_at, x.*
       from campaign_timers t
       cross join lateral (
         select count(*) filter (where e.status = 'COMPLETED') as completed, count(*) filter (where e.status = 'FAILED') as failed,
           count(*) filter (where e.status = 'STARTED') as started, min(e.started_at) as first
         from timer_executions e where e.timer_id = t.id
       ) x
       where t.campaign_id = any ($1) and (
         x.completed <> (t.status = 'COMPLETED')::integer or x.started > 0 or (t.status = 'FAILED' and x.failed = 0) or t.status = 'RUNNING'
         or x.first < t.scheduled_at or (t.status = 'COMPLETED' and t.executed_at < t.scheduled_at) or (t.status = 'PENDING' and t.scheduled_at <= now())
       )`,
      [ids],
    )),
  )
  const done = await stage.query<{ timer_type: TimerType; rewards: boolean; status: string; result: { outcome: string; from: State; to: State } }>(
    `select t.timer_type, c.rewards_enabled as rewards, e.status, e.result
     from timer_executions e join campaign_timers t on t.id = e.timer_id join campaigns c on c.id = t.campaign_id where c.id = any ($1)`,
    [ids],
  )
  for (const { timer_type: type, rewards, status, result } of done) {
    const effect = effects[type][result.from]
    const outcome = effect === 'event' || effect === 'none' || effect === 'refused' ? effect : 'transition'
    const wanted = { outcome, to: pathOf(type, result.from, rewards).at(-1) ?? result.from, status: effect === 'refused' ? 'FAILED' : 'COMPLETED' }
    if (result.outcome !== wanted.outcome || result.to !== wanted.to || status !== wanted.status) wrong.push({ type, result, wanted })
  }
  return wrong
}

test('whatever is inserted, cancelled, retried and fired in whatever order, each campaign goes a legal path and every row agrees with it', async () => {
  const seen = { fired: 0, refused: 0, moved: 0 }
  await fc.assert(
    fc.asyncProperty(campaigns, fc.array(deed, { minLength: 5, maxLength: 30 }), fc.integer({ min: 1, max: 7 }), async (made, deeds, limit) => {
      const ids = await Promise.all(made.map(campaign => stage.insertCampaign({ hours: 1, ...campaign })))
      for (const step of deeds) await act(ids, step)
      await stage.fireAll(limit)
      expect(await faults(ids)).toEqual([])
      const [sums] = await stage.query<typeof seen>(
        `select count(*) filter (where status = 'COMPLETED') as fired, count(*) filter (where status = 'FAILED') as refused,
           (select count(*) from campaign_state_log where campaign_id = any ($1) and from_state is not null) as moved
         from campaign_timers where campaign_id = any ($1)`,
        [ids],
      )
      for (const key of ['fired', 'refused', 'moved'] as const) seen[key] += sums?.[key] ?? 0
    }),
    { seed: 2002, numRuns: 120 },
  )
  // Or it would prove little.
  expect(seen.fired).toBeGreaterThan(200)
  expect(seen.refused).toBeGreaterThan(20)
  expect(seen.moved).toBeGreaterThan(100)
})
