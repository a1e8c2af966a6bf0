import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { upgrade } from '../bin/commands/migrate.ts'
import { systemClock } from '../src/clock.ts'
import { readConfig } from '../src/config.ts'
import { type Database, openDatabase } from '../src/database.ts'
import { startEmbedded } from '../src/embedded.ts'
import { openLog } from '../src/log.ts'
import { campaignWheel } from '../workers/campaigns/wheel.ts'
import { type Contender, graphile, pgBoss } from './rivals.ts'
import { rounded, say, watchMachine } from './report.ts'

const SPREAD_SECONDS = 10
const BACKLOG = 20_000
const HEAD_START = '2 seconds'

/**
 * How late campaign timers fire at 500 and 2,000 a second, and how fast a backlog of 20,000 is worked off; beside pg-boss and
 * graphile-worker with a job per timer, whose jobs call the same SQL for one timer each. Lateness is the database's: when
 * the timer's row was written, against when it was due.
 */
export async function timers({ quick }: { quick: boolean }): Promise<Record<string, unknown>> {
  const log = openLog({ level: 'warn', destination: 2 })
  const settings = {
    fsync: 'on',
    synchronous_commit: 'on',
    full_page_writes: 'on',
    shared_buffers: '1GB',
    max_wal_size: '8GB',
    min_wal_size: '2GB',
    checkpoint_timeout: '30min',
  }
  const server = await startEmbedded({ log, ephemeral: true, settings })
  const config = readConfig({ DATABASE_URL: server.url })
  await upgrade(config, log)
  const db = openDatabase({ ...config, queryTimeoutMs: 0 }, log, { max: 12 })
  await fillLog(db)
  const machine = watchMachine(Number(readFileSync(join(server.dataDir, 'postmaster.pid'), 'utf8').split('\n')[0]))
  try {
    const scale = quick ? 0.1 : 1
    const pawl: Contender = { name: 'pawl', start: async () => startWheel(db) }
    const late500 = await lateness(db, pawl, 500, scale)
    const late2000 = await lateness(db, pawl, 2_000, scale)
    const drain = await backlog(db, pawl, BACKLOG * scale)
    const rivals: Record<string, number> = {}
    for (const rival of [pgBoss(config, db), graphile(server.url, db)]) {
      rivals[`${rival.name}_late_p99_ms_500`] = (await lateness(db, rival, 500, scale)).p99
      rivals[`${rival.name}_late_p99_ms_2000`] = (await lateness(db, rival, 2_000, scale)).p99
      rivals[`${rival.name}_drain_per_s`] = await backlog(db, rival, BACKLOG * scale)
    }
    return {
      late_p50_ms_500: late500.p50,
      late_p99_ms_500: late500.p99,
      late_p50_ms_2000: late2000.p50,
      late_p99_ms_2000: late2000.p99,
      early: late500.early + late2000.early,
      drain_per_s: drain,
      ...rivals,
      others_share: machine().othersShare,
      verified: true,
    }
  } finally {
    await db.close()
    await server.stop()
  }
}

/** A server that has run for a while writes over old log segments; a fresh one stops for 80 ms every 16 MB to make a new one. */
async function fillLog(db: Database): Promise<void> {
  await db.query(`create table public.filler as select repeat('pawl ', 200) as filler from generate_series(1, 700000)`)
  await db.query('drop table public.filler')
  await db.query('checkpoint')
  await db.query('select pg_switch_wal()')
  await db.query('checkpoint')
}

/** The product's own loop, without the rest of the worker around it. */
function startWheel(db: Database) {
  const log = openLog({ level: 'warn', destination: 2 })
  return campaignWheel().start({ config: readConfig({}), db, log, clock: systemClock, lease: () => undefined })
}

type Seeded = { count: number; ids: string[] }

/** Campaigns with a START timer each, due one after another at `rate` a second from a head start on; or all of them overdue. */
async function seed(db: Database, count: number, rate: number | null): Promise<Seeded> {
  await db.query('truncate public.campaigns cascade')
  await db.query('delete from pgboss.job')
  await db.transact(async query => {
    await query(`select set_config('pawl.allow_past_timers', 'on', true)`)
    await query(`insert into public.campaigns (duration_hours, auto_close, rewards_enabled) select 1, false, false from generate_series(1, $1::integer)`, [
      count,
    ])
    await query(
      `insert into public.campaign_timers (campaign_id, timer_type, scheduled_at)
       select c.id, 'START_CAMPAIGN', case when $1::float8 is null then now() - interval '5 seconds' + place * interval '1 microsecond'
         else now() + $2::interval + place / $1::float8 * interval '1 second' end
       from (select id, row_number() over () as place from public.campaigns) c`,
      [rate, rate === null ? null : HEAD_START],
    )
  })
  await db.query('vacuum analyze public.campaigns, public.campaign_timers')
  const rows = await db.query<{ id: string }>('select id from public.campaign_timers order by scheduled_at')
  return { count, ids: rows.map(row => row.id) }
}

async function lateness(db: Database, contender: Contender, rate: number, scale: number) {
  // A short run first: what is measured is a worker that has been running, with its plans made and its code compiled.
  await seed(db, rate, rate)
  await through(db, contender, rate)
  const { count } = await seed(db, Math.round(rate * SPREAD_SECONDS * Math.max(scale, 0.2)), rate)
  await through(db, contender, count)
  const [row] = await db.query<{ p50: number; p99: number; early: number }>(
    `select percentile_disc(0.5) within group (order by late) as p50, percentile_disc(0.99) within group (order by late) as p99, count(*) filter (where late < 0) as early
     from (select (extract(epoch from executed_at - scheduled_at) * 1000)::float8 as late from public.campaign_timers) t`,
  )
  const measured = { p50: rounded(row?.p50 ?? Number.NaN), p99: rounded(row?.p99 ?? Number.NaN), early: row?.early ?? 0 }
  say(`${contender.name} at ${rate}/s: ${JSON.stringify(measured)}`)
  return measured
}

async function backlog(db: Database, contender: Contender, count: number): Promise<number> {
  await seed(db, count, null)
  const begun = await through(db, contender, count)
  const [row] = await db.query<{ ms: number }>(
    `select extract(epoch from max(executed_at) - $1::timestamptz)::float8 * 1000 as ms from public.campaign_timers`,
    [begun],
  )
  const rate = Math.round(count / ((row?.ms ?? Number.NaN) / 1000))
  say(`${contender.name}: a backlog of ${count} at ${rate}/s`)
  return rate
}

/** Lets the contender work until every timer has fired, and checks what that left; the database's time at its start. */
async function through(db: Database, contender: Contender, count: number): Promise<Date> {
  const rows = await db.query<{ id: string; scheduled_at: Date }>('select id, scheduled_at from public.campaign_timers order by scheduled_at')
  await contender.enqueue?.(rows)
  const [start] = await db.query<{ now: Date }>('select clock_timestamp() as now')
  const working = await contender.start()
  // Not a look before the last one is due: counting twenty thousand rows would be part of what is measured.
  const [last] = await db.query<{ ms: number }>(
    'select greatest(0, extract(epoch from max(scheduled_at) - clock_timestamp()) * 1000)::float8 as ms from public.campaign_timers',
  )
  await systemClock.sleep(last?.ms ?? 0)
  const deadline = systemClock.elapsed() + 180_000
  for (;;) {
    const [left] = await db.query<{ left: number }>(`select count(*) as left from public.campaign_timers where status <> 'COMPLETED'`)
    if (left?.left === 0) break
    if (systemClock.elapsed() > deadline) throw new Error(`${contender.name} left ${left?.left} of ${count} timers unfired`)
    await systemClock.sleep(200)
  }
  await working.stop()
  const [facts] = await db.query<Record<string, number>>(
    `select (select count(*) from public.timer_executions where status = 'COMPLETED') as executions,
       (select count(*) from public.campaigns where status = 'RUNNING') as running,
       (select count(*) from public.campaign_state_log where to_state = 'RUNNING') as logged,
       (select count(*) from public.campaign_metrics where metric_type = 'TIMER_EXECUTION_TIME') as metrics,
       (select count(*) from pgboss.job where name = 'campaign.started') as events`,
  )
  for (const [what, found] of Object.entries(facts ?? {})) if (found !== count) throw new Error(`${contender.name}: ${what} is ${found}, not ${count}`)
  return start?.now ?? new Date(Number.NaN)
}
