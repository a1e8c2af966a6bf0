import type { Query } from '../../src/database.ts'
import type { TimerType } from '../../workers/campaigns/states.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'

export type NewCampaign = { hours?: number; startsIn?: string; autoClose?: boolean; rewards?: boolean; metadata?: object }

export type ExecutionRow = { status: string; result: Record<string, unknown> | null; error_message: string | null; completed_at: Date | null }

/** A database to play campaigns in, and the short words for it. Times are intervals from now, such as '-2 minutes'. */
export type CampaignStage = {
  db: TestDatabase
  query: Query
  /** Through pawl.create_campaign; its id. */
  create(options?: NewCampaign): Promise<string>
  /** A bare row, without timers. */
  insertCampaign(options?: { status?: string; hours?: number; autoClose?: boolean; rewards?: boolean; metadata?: object }): Promise<string>
  /** A timer by plain SQL, whenever it is due; its id. */
  insertTimer(campaign: string, type: TimerType, due?: string): Promise<string>
  timerOf(campaign: string, type: TimerType): Promise<string>
  /** Moves a pending timer to another time, as if it had been set up long ago. */
  shift(timer: string, due: string): Promise<void>
  /** One turn of a wheel without handlers; how many fired. */
  fire(limit?: number): Promise<number>
  /** Turns until nothing is due any more; how many fired. */
  fireAll(limit?: number): Promise<number>
  state(campaign: string): Promise<unknown>
  timer(id: string): Promise<Record<string, unknown>>
  executions(timer: string): Promise<ExecutionRow[]>
  /** Timers of the campaign that wait, each with the hours until it is due, rounded to thousandths. */
  pending(campaign: string): Promise<Record<string, number>>
  /** States it went through, the creation included. */
  path(campaign: string): Promise<string[]>
  jobs(queue: string): Promise<{ data: Record<string, unknown>; in_seconds: number }[]>
  close(): Promise<void>
}

export async function openCampaignStage(): Promise<CampaignStage> {
  const db = await createDatabase()
  const { query } = db
  const first = async <Value>(text: string, values: unknown[] = []): Promise<Value> => {
    const [row] = await query<Record<string, unknown>>(text, values)
    if (row === undefined) throw new Error(`no row: ${text}`)
    return Object.values(row)[0] as Value
  }
  const fire = (limit = 500) => first<number>(`select fired from pawl.fire_timers($1, '{}')`, [limit])
  return {
    db,
    query,
    create: ({ hours = 2, startsIn = '1 hour', autoClose = true, rewards = true, metadata = {} } = {}) =>
      first('select pawl.create_campaign($1, now() + $2::interval, $3, $4, $5)', [hours, startsIn, autoClose, rewards, metadata]),
    insertCampaign: ({ status = 'CREATED', hours = 2, autoClose = true, rewards = true, metadata = {} } = {}) =>
      first('insert into campaigns (status, duration_hours, auto_close, rewards_enabled, metadata) values ($1, $2, $3, $4, $5) returning id', [
        status,
        hours,
        autoClose,
        rewards,
        metadata,
      ]),
    insertTimer: (campaign, type, due = '-1 second') =>
      db.transact(async inside => {
        await inside(`set local pawl.allow_past_timers = 'on'`)
        const [row] = await inside<{ id: string }>(
          'insert into campaign_timers (campaign_id, timer_type, scheduled_at) values ($1, $2, now() + $3::interval) returning id',
          [campaign, type, due],
        )
        return row?.id ?? ''
      }),
    timerOf: (campaign, type) =>
      first('select id from campaign_timers where campaign_id = $1 and timer_type = $2 order by created_at desc limit 1', [campaign, type]),
    shift: async (timer, due) =>
      void (await query(`update campaign_timers set scheduled_at = now() + $2::interval where id = $1 and status = 'PENDING'`, [timer, due])),
    fire,
    async fireAll(limit = 500) {
      let fired = 0
      for (let turn = 0; turn < 1_000; turn += 1) {
        const done = await fire(limit)
        fired += done
        const due = await first<number>(`select count(*) from campaign_timers where status = 'PENDING' and scheduled_at <= now()`)
        if (done === 0 || due === 0) return fired
      }
      throw new Error('timers fall due without end')
    },
    state: campaign => first('select status from campaigns where id = $1', [campaign]),
    timer: async id => (await query('select * from campaign_timers where id = $1', [id]))[0] ?? {},
    executions: timer =>
      query('select status, result, error_message, completed_at from timer_executions where timer_id = $1 order by started_at, completed_at', [timer]),
    async pending(campaign) {
      const rows = await query<{ timer_type: string; hours: number }>(
        `select timer_type, round(extract(epoch from scheduled_at - now()) / 3600, 3)::float8 as hours
         from campaign_timers where campaign_id = $1 and status = 'PENDING' order by 1`,
        [campaign],
      )
      return Object.fromEntries(rows.map(row => [row.timer_type, row.hours]))
    },
    async path(campaign) {
      const rows = await query<{ from_state: string | null; to_state: string }>('select from_state, to_state from campaign_state_log where campaign_id = $1', [
        campaign,
      ])
      const next = new Map(rows.map(row => [row.from_state, row.to_state]))
      if (next.size !== rows.length) throw new Error(`a state was left twice: ${JSON.stringify(rows)}`)
      const path: string[] = []
      for (let at = next.get(null); at !== undefined; at = next.get(at)) path.push(at)
      if (path.length !== rows.length) throw new Error(`the log is broken: ${JSON.stringify(rows)}`)
      return path
    },
    jobs: queue =>
      query(
        `select data, extract(epoch from start_after - now())::float8 as in_seconds from pgboss.job where name = $1 and state < 'active' order by created_on, id`,
        [queue],
      ),
    close: () => db.drop(),
  }
}
