import type { Query } from '../../../src/database.ts'
import { codeOf } from '../../../src/errors.ts'
import type { Handlers } from '../../../workers/campaigns/handlers.ts'
import { campaignWheel } from '../../../workers/campaigns/wheel.ts'
import { silent } from '../lane.ts'
import type { Cast } from '../scenario.ts'
import type { Actor, WorkerPart, World } from '../world.ts'

export function clearCampaigns(query: Query): Promise<unknown> {
  return query('delete from public.campaigns')
}

/** Campaigns all of whose timers are due, from START to the EXPIRE that CLOSE makes, with no hour between them. */
export async function addCampaigns(query: Query, count: number): Promise<string[]> {
  const rows = await query<{ id: string }>(
    `insert into public.campaigns (duration_hours, metadata)
     select 1, '{"expire_hours": 0, "reward_reminder_hours": 0}' from generate_series(1, $1::integer) returning id`,
    [count],
  )
  const ids = rows.map(row => row.id)
  await query(`set pawl.allow_past_timers = on`)
  await query(
    `insert into public.campaign_timers (campaign_id, timer_type, scheduled_at)
     select id, timer, now() - seconds * interval '1 second'
     from unnest($1::uuid[]) id cross join (values ('START_CAMPAIGN', 50), ('REWARD_REMINDER', 40), ('CLOSE_CAMPAIGN', 30)) due (timer, seconds)`,
    [ids],
  )
  return ids
}

/** Lets loose a worker that turns the product's own wheel; its heartbeat is the wheel's housekeeping, which rescues timers. */
export async function hireWheel(world: World, name: string, handlersOf: (name: string) => Handlers): Promise<void> {
  const queues = ['campaigns.fire']
  const part: WorkerPart = { lease: await world.lane.register(name, queues), held: new Set(), drain: new AbortController(), queues, beat }
  let isBeating = false
  function beat() {
    const actor = world.actors.get(name)
    if (isBeating || actor === undefined || part.drain.signal.aborted) return
    isBeating = true
    const looks = actor.db.query(`select * from pawl.beat($1, '{}', interval '10 seconds', true)`, [part.lease])
    void looks
      .then(() => actor.db.query(`select pawl.rescue_timers(interval '10 seconds')`))
      .catch(async error => {
        if (codeOf(error) === 'PW002') part.lease = await world.scheduler.act(name, 'a new lease', () => world.lane.register(name, queues))
      })
      .finally(() => {
        isBeating = false
      })
  }
  const turn = async (actor: Actor) => {
    const turning = campaignWheel(handlersOf(name)).start({
      config: world.lane.config,
      db: actor.db,
      log: silent,
      clock: actor.clock,
      lease: () => part.lease,
    })
    await new Promise<void>(resolve => part.drain.signal.addEventListener('abort', () => resolve(), { once: true }))
    await turning.stop()
    await world.scheduler.act(name, 'the connections close', () => world.lane.bury(name))
  }
  world.spawn(name, turn, part)
}

/** Two wheels, and a third one where both are gone. */
export async function wheelCrew(world: World, handlersOf: (name: string) => Handlers = () => ({})): Promise<Pick<Cast, 'isEnded' | 'stuck' | 'timePasses'>> {
  await hireWheel(world, 'w1', handlersOf)
  await hireWheel(world, 'w2', handlersOf)
  const isBusy = (actor: Actor) => actor.worker === undefined && actor.state !== 'done' && actor.state !== 'dead'
  return {
    async isEnded() {
      if ([...world.actors.values()].some(isBusy)) return false
      const [left] = await world.query<{ left: number }>(`select count(*)::integer as left from public.campaigns where status <> 'EXPIRED'`)
      return left?.left === 0
    },
    async stuck() {
      return JSON.stringify(
        await world.query(
          `select c.status, t.timer_type, t.status as timer, pawl.why(t.id::text) from public.campaigns c join public.campaign_timers t on t.campaign_id = c.id
           where t.status not in ('COMPLETED', 'CANCELLED')`,
        ),
      )
    },
    async timePasses() {
      const workers = [...world.actors.values()].filter(actor => actor.worker !== undefined)
      if (workers.every(({ state }) => state === 'dead' || state === 'done')) await hireWheel(world, `w${workers.length + 1}`, handlersOf)
    },
  }
}

/** Everything a campaign's life leaves behind, each exactly once. */
export async function campaignFaults(query: Query, ids: readonly string[]): Promise<string[]> {
  const rows = await query<{ id: string; status: string; path: string; timers: string; executions: string; events: string; open: number }>(
    `select c.id, c.status,
       (select string_agg(l.to_state, ' ' order by l.created_at) from public.campaign_state_log l where l.campaign_id = c.id) as path,
       (select string_agg(t.timer_type || ':' || t.status, ' ' order by pawl.timer_rank(t.timer_type), t.created_at)
        from public.campaign_timers t where t.campaign_id = c.id) as timers,
       (select string_agg(t.timer_type, ' ' order by pawl.timer_rank(t.timer_type), x.started_at)
        from public.timer_executions x join public.campaign_timers t on t.id = x.timer_id where t.campaign_id = c.id and x.status = 'COMPLETED') as executions,
       (select string_agg(j.name, ' ' order by j.name) from pgboss.job j where j.data ->> 'campaign_id' = c.id::text and j.name like 'campaign.%') as events,
       (select count(*) from public.timer_executions x join public.campaign_timers t on t.id = x.timer_id where t.campaign_id = c.id and x.status = 'STARTED') as open
     from public.campaigns c where c.id = any ($1)`,
    [ids],
  )
  return rows.flatMap(row => {
    const completed = [...(row.timers ?? '').matchAll(/(\w+):COMPLETED/g)].map(([, type]) => type).join(' ')
    const reminders = completed.split(' ').filter(type => type === 'REWARD_REMINDER').length
    const wanted: [string, unknown, unknown][] = [
      ['the status', row.status, 'EXPIRED'],
      ['the state log', row.path, 'CREATED RUNNING CLOSED REWARD_CLAIM EXPIRED'],
      ['the completed executions', row.executions, completed],
      ['timers that wait', /PENDING|RUNNING|FAILED/.test(row.timers ?? ''), false],
      ['open executions', row.open, 0],
      [
        'the events',
        row.events,
        [
          'campaign.closed',
          'campaign.expired',
          'campaign.reward_claim',
          ...Array.from({ length: reminders }, () => 'campaign.reward_reminder'),
          'campaign.started',
        ].join(' '),
      ],
    ]
    return wanted.flatMap(([what, is, should]) => (is === should ? [] : [`campaign: ${what}: ${String(is)}, not ${String(should)}; timers: ${row.timers}`]))
  })
}
