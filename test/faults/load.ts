import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { openDatabase, type Query } from '../../src/database.ts'
import { insertTimers } from '../crash/timer-stage.ts'
import { seedCategory } from '../support/overrides.ts'
import { silent } from '../support/postgres.ts'
import { addPeople, addReport, addSales } from '../support/reports.ts'
import { fromQuery, registerTable } from '../support/refresh.ts'
import { shadowRefreshed } from './shadow.ts'

/** How many recipients each category has. The last is long at work, and so still is when a worker wakes up whose run was taken over. */
const CATEGORIES = [1_500, 1_500, 6_000] as const
export const COUNTERS = 3_000
const SOURCE_ROWS = 3_000

/** How many rows a report of each format has. */
export const REPORT_ROWS = { csv: 60_000, json: 20_000, html: 4_000, excel: 4_000, pdf: 300 } as const
type Format = keyof typeof REPORT_ROWS

/** What the producers ask for, and of whom. */
export type Cast = { categories: { categoryId: number; userId: number }[]; admin: string; reports: Record<Format, string> }

/** Everything that the load works on: host tables, reports, refreshed tables, their sources. `shop` is another database of the same server. */
export async function prepareLoad(query: Query, shop: Query, worker: string): Promise<Cast> {
  const categories: Cast['categories'] = []
  for (const [i, recipients] of CATEGORIES.entries()) {
    // One of them without settings rows: its first override inserts them.
    categories.push(await seedCategory(query, recipients, { name: `category ${i}`, withSettings: i > 0 }))
  }
  await query(`
    create table public.faults_counters (id integer primary key, n integer not null default 0) with (fillfactor = 50);
    insert into public.faults_counters select generate_series(1, ${COUNTERS});
    create table public.faults_source (id integer primary key, version integer not null, amount integer not null) with (fillfactor = 50);
    insert into public.faults_source select i, 1, i from generate_series(1, ${SOURCE_ROWS}) i;
    create table public.faults_edition (edition integer not null);
    insert into public.faults_edition values (0);
    grant select on public.faults_source to ${worker}`)
  const people = await addPeople(query)
  await addSales(query, Math.max(...Object.values(REPORT_ROWS)))
  await query(`
    create view public.faults_lines as select s.id, s.region, e.edition from public.sales s cross join public.faults_edition e;
    grant select on public.faults_lines to pawl_report;
    analyze public.sales`)
  const reports = {} as Cast['reports']
  for (const [format, rows] of Object.entries(REPORT_ROWS)) {
    const structure = {
      source: 'public.faults_lines',
      columns: ['id', 'region', 'edition'],
      key: ['id'],
      filters: [{ column: 'id', operator: '<=', value: rows }],
    }
    reports[format as Format] = await addReport(query, people, { name: format, structure })
  }
  await shop(`
    create table public.items (id integer primary key, version integer not null, amount integer not null) with (fillfactor = 50);
    insert into public.items select i, 1, i from generate_series(1, ${SOURCE_ROWS}) i;
    grant select on public.items to ${worker}`)
  const columns = 'id integer primary key, version integer not null, amount bigint not null'
  await registerTable(query, 'raw', columns, fromQuery('select id, version, amount::bigint as amount from public.faults_source'))
  await registerTable(query, 'daily', columns, fromQuery('select id, version, amount * 2 as amount from sqp.raw'), { dependencies: ['sqp.raw'] })
  await registerTable(
    query,
    'summary',
    columns,
    fromQuery('select id % 100 as id, max(version) as version, sum(amount)::bigint as amount from sqp.daily group by 1'),
    { dependencies: ['sqp.daily'] },
  )
  // About twenty chunks of some 15 bytes a row.
  await registerTable(query, 'shop', columns, { source: 'postgres', connection: 'shop', table: 'public.items', chunk_bytes: 2_000 })
  await shadowRefreshed(query)
  return { categories, admin: people.admin, reports }
}

export type Load = {
  /** Throws what a producer was refused: nothing that is asked for here may be. */
  check(): void
  /** Asks for nothing more, and waits until every producer knows what became of its last request. */
  stop(): Promise<void>
}

/** Producers of every domain, each by plain SQL, until they are stopped. `exempt` is a way to the database that no fault touches. */
export function startLoad(urls: { own: string; shop: string }, exempt: Query, cast: Cast): Load {
  const stopping = new AbortController()
  const open = (url: string) => openDatabase(readConfig({ DATABASE_URL: url }), silent, { max: CATEGORIES.length + 6, name: 'producer' })
  const [own, shop] = [open(urls.own), open(urls.shop)]
  const asked = { overrides: new Map<number, number>(), backfills: 0 }
  const { query } = own

  /** A producer whose connection died asks again, until it has an answer or the load is stopped. */
  const insist = async <Result>(ask: () => Promise<Result>): Promise<Result | undefined> => {
    while (!stopping.signal.aborted) {
      try {
        return await ask()
      } catch (error) {
        if (!isOutage(error)) throw error
        await systemClock.sleep(200, stopping.signal)
      }
    }
    return undefined
  }
  const acknowledge = (kind: string, id: string, detail: object = {}) =>
    insist(() =>
      exempt(
        'insert into faults.acknowledged (kind, id, detail) values ($1, $2, $3) on conflict (kind, id) do update set detail = acknowledged.detail || excluded.detail',
        [kind, id, JSON.stringify(detail)],
      ),
    )
  const wait = async (count: string, most: number, values: unknown[] = []) => {
    for (;;) {
      const rows = await insist(() => query<{ n: number }>(count, values))
      if (rows === undefined || (rows[0]?.n ?? 0) <= most) return
      await systemClock.sleep(150, stopping.signal)
    }
  }

  const overrides = async ({ categoryId, userId }: Cast['categories'][number]) => {
    const number = (asked.overrides.get(categoryId) ?? 0) + 1
    asked.overrides.set(categoryId, number)
    const settings = JSON.stringify({ number })
    const request = () =>
      query<{ id: string }>('select pawl.request_override($1, $2, $3, 5, idempotency_key => $4) as id', [
        categoryId,
        userId,
        settings,
        `${categoryId}-${number}`,
      ])
    const [row] = (await insist(request)) ?? []
    if (row === undefined) return
    await acknowledge('override', row.id)
    if (number % 5 === 0) {
      await systemClock.sleep(300, stopping.signal)
      await acknowledge('override', row.id, { cancel: true })
      await insist(() => query(`select pawl.cancel($1, 'the load wants it')`, [row.id]))
    }
    await wait(`select count(*) as n from public.category_override_operations where category_id = $1 and status in ('PENDING', 'PROCESSING')`, 1, [categoryId])
  }
  const campaigns = async () => {
    const timers = await insist(() => insertTimers(query, 6, 500, 3_000))
    if (timers !== undefined) await acknowledge('timers', `${systemClock.now()}`, { timers })
    await systemClock.sleep(1_000, stopping.signal)
  }
  const refreshes = async () => {
    // Nothing is under way: what a step finds in its source is what it will leave in its table.
    await insist(() => query('update public.faults_source set version = version + 1, amount = amount + 1'))
    await insist(() => shop.query('update public.items set version = version + 1, amount = amount + 1'))
    await insist(() => query(`select pawl.refresh_table('sqp.raw', 'none', true), pawl.refresh_table('sqp.shop', 'none')`))
    await wait('select count(*) as n from pawl.refresh_steps where outcome is null', 0)
    await systemClock.sleep(400, stopping.signal)
  }
  const reports = async (number: number) => {
    const formats = Object.keys(cast.reports) as Format[]
    const format = formats[number % formats.length] ?? 'csv'
    const request = () =>
      own.transact(async ask => {
        const [edition] = await ask<{ edition: number }>('update public.faults_edition set edition = edition + 1 returning edition')
        const [row] = await ask<{ id: string }>('select pawl.run_report($1, $2, $3) as id', [cast.reports[format], cast.admin, format])
        return { id: row?.id ?? '', edition: edition?.edition }
      })
    const report = await insist(request)
    if (report !== undefined) await acknowledge('report', report.id, { edition: report.edition })
    await wait(`select count(*) as n from pawl.checkpoints where kind = 'report' and state in ('pending', 'running')`, 1)
    await systemClock.sleep(1_000, stopping.signal)
  }
  const backfills = async () => {
    asked.backfills += 1
    const request = () =>
      query<{ id: string }>(`select pawl.request_backfill('public.faults_counters', 'n = n + 1', batch_size => 100, batch_time => '1 ms', name => $1) as id`, [
        `faults_${asked.backfills}`,
      ])
    const [row] = (await insist(request)) ?? []
    if (row !== undefined) await acknowledge('backfill', row.id)
    await wait(`select count(*) as n from pawl.checkpoints where kind = 'backfill' and state in ('pending', 'running')`, 0)
  }
  const health = async () => {
    const [row] = (await insist(() => query<{ id: string }>(`select pawl.enqueue('maintenance.health', '{}') as id`))) ?? []
    if (row !== undefined) await acknowledge('health', row.id)
    await systemClock.sleep(4_000, stopping.signal)
  }
  const forever = async (turn: (number: number) => Promise<void>) => {
    for (let number = 0; !stopping.signal.aborted; number += 1) await turn(number)
  }
  const producers = [...cast.categories.map(category => () => overrides(category)), campaigns, refreshes, reports, backfills, health].map(forever)
  const all = Promise.all(producers)
  let refusal: unknown
  all.catch((error: unknown) => {
    refusal = error
    stopping.abort()
  })
  return {
    check() {
      if (refusal !== undefined) throw refusal
    },
    async stop() {
      stopping.abort()
      await all.finally(() => Promise.all([own.close(), shop.close()]))
    },
  }
}

/** Whether a producer would ask again: the server went away, or comes back just now. Anything else is the answer to what it asked. */
export function isOutage(error: unknown): boolean {
  const { code = '', message = '' } = error as { code?: string; message?: string }
  return /^(08|57P|53|ECONN|EPIPE|ETIMEDOUT)/.test(code) || /terminat|timeout|ended|not queryable/i.test(message)
}
