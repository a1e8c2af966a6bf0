import { request } from 'node:http'
import { systemClock } from '../../src/clock.ts'
import { type Config, readConfig } from '../../src/config.ts'
import type { Database, Query } from '../../src/database.ts'
import { type Pages, servePages } from '../../src/pages/server.ts'
import { requestOverride, seedCategory } from '../support/overrides.ts'
import { silent, type TestDatabase } from '../support/postgres.ts'
import { fromQuery, registerTable } from '../support/refresh.ts'

/** The pages in this process, on a free port of the loopback address. */
export function openPages(db: TestDatabase, env: Record<string, string> = {}, changes: Partial<Config> = {}): Promise<Pages> {
  return servePages({ config: { ...readConfig({ DATABASE_URL: db.url, ...env }), ...changes }, port: 0, db, log: silent, clock: systemClock })
}

/** Text that would be markup, if anything let it. */
export const PAYLOAD = `</title><script>document.title='broken into'</script><img src=x onerror="document.title='broken into'">'"&amp;`

type Sown = { table: string; parents: string[]; seconds?: number; rows?: number; fails?: true }

const tables: Sown[] = [
  { table: 'raw_orders', parents: [], rows: 800 },
  { table: 'raw_clicks', parents: [], rows: 1200 },
  { table: 'raw_products', parents: [], rows: 300 },
  { table: 'raw_returns', parents: [], fails: true },
  { table: 'orders_daily', parents: ['raw_orders', 'raw_products'], rows: 90 },
  { table: 'clicks_daily', parents: ['raw_clicks', 'raw_products'], rows: 90 },
  { table: 'returns_daily', parents: ['raw_returns', 'raw_products'] },
  { table: 'conversion', parents: ['orders_daily', 'clicks_daily'], seconds: 3600 },
  { table: 'conversion_weekly', parents: ['conversion'] },
  { table: 'margin_monthly', parents: ['orders_daily', 'returns_daily', 'raw_products'] },
  { table: 'board_summary', parents: ['conversion_weekly', 'margin_monthly', 'orders_daily'] },
]

/** Tables that depend on each other, to be refreshed by whoever works; one fails, one takes an hour. `refresh` asks for them all. */
export async function sowTables(query: Query): Promise<{ refresh(): Promise<void> }> {
  await query(`update sqp.refresh_config set is_enabled = false`)
  for (const { table, parents, seconds, rows = 10, fails } of tables) {
    const column = fails === true ? '(1 / (n - n))::bigint' : seconds === undefined ? 'n::bigint' : `n::bigint + length(pg_sleep(${seconds})::text)`
    await registerTable(query, table, 'id bigint primary key', fromQuery(`select ${column} as id from generate_series(1, ${rows}) n`), {
      dependencies: parents.map(parent => `sqp.${parent}`),
    })
  }
  return {
    async refresh() {
      for (const table of ['board_summary', 'margin_monthly']) await query(`select pawl.refresh_table($1, 'all')`, [table])
    },
  }
}

/** A day of timers behind and a day ahead, with some trouble; backups; a run that failed; a paused queue. As if Pawl had been at work for long. */
export async function sowHistory(query: Query): Promise<void> {
  await query(`
    begin;
    -- As if these rows had come in their time: the triggers refuse instants that have passed.
    set local session_replication_role = replica;
    insert into campaigns (id, status, duration_hours) select gen_random_uuid(), 'CREATED', 24 from generate_series(1, 230);
    with c as (select id, row_number() over (order by id) as n from campaigns)
    insert into campaign_timers (campaign_id, timer_type, status, scheduled_at, executed_at, retry_count)
    select id, case n % 3 when 0 then 'START_CAMPAIGN' when 1 then 'CLOSE_CAMPAIGN' else 'REWARD_REMINDER' end,
      case when n <= 120 and n in (17, 71) then 'FAILED' when n <= 120 and n in (30, 31) then 'CANCELLED' when n <= 120 then 'COMPLETED' else 'PENDING' end,
      at, case when n <= 120 then at + case when n in (50, 51, 52, 90) then interval '2.4 seconds' else interval '7 milliseconds' end end,
      case when n in (17, 71) then 5 else 0 end
    from c cross join lateral (
      select date_trunc('minute', now()) + case when n <= 120 then -1 else 1 end
        * (abs(sin(n)) * 23.6 + 0.1 + case when n % 5 = 0 then 0 else n % 7 / 60.0 end) * interval '1 hour' as at
    ) t;
    insert into timer_executions (timer_id, status, error_message, started_at, completed_at)
    select id, 'FAILED', 'webhook of the campaign answered 502', scheduled_at, scheduled_at from campaign_timers where status = 'FAILED';
    insert into pawl.backup_records (backup_id, kind, scope, place, taken_at, lsn, server_version, encrypted, bytes, tables, rows, verified_at, verify_seconds)
    select 'shop-' || to_char(at, 'YYYYMMDD"T"HH24MISS') || 'Z', kind, 'full', 's3://backups/shop', at, '0/0', '18.4', true, 48200000 - n * 310000, 61, 1204331 - n * 5021,
      case when n <> 2 then at + interval '4 minutes' end, case when n <> 2 then 41.2 - n end
    from (select n, case when n = 3 then 'weekly' else 'daily' end as kind, now() - interval '5 hours' - n * interval '1 day' as at from generate_series(0, 3) n) b;
    update pawl.backup_records set verify_error = 'the scratch server was not reachable' where verified_at is null;
    commit;
  `)
}

/** An override that was requested and whose category is gone under it, or that fails with these words. All at once: a worker that is there must not begin it. */
export function sowFailure({ transact }: Pick<Database, 'transact'>, subject: string, error: string): Promise<string> {
  return transact(async query => {
    const id = await requestOverride(query, await seedCategory(query, 1, { name: subject }))
    await query(
      `update pawl.checkpoints set state = 'failed', finished_at = now() - interval '40 minutes', started_at = now() - interval '1 hour', failures = 5, error = $2, subject = $3 where run_id = $1`,
      [id, error, subject],
    )
    await query(`delete from pgboss.job where data ->> 'run_id' = $1`, [id])
    return id
  })
}

type Given = { method?: string; headers?: Record<string, string>; body?: string }

/** One request, with headers that fetch would not let through. */
export function ask(
  port: number,
  path: string,
  { method = 'GET', headers = {}, body }: Given = {},
): Promise<{ status: number; headers: Record<string, unknown>; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path, method, headers, agent: false }, answer => {
      let text = ''
      answer.setEncoding('utf8').on('data', piece => {
        text += piece
      })
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, headers: answer.headers, text }))
    })
    sent.on('error', reject)
    sent.end(body)
  })
}
