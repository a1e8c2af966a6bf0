import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { onTestFinished } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import type { Query } from '../../src/database.ts'
import { requestOverride, seedCategory } from '../support/overrides.ts'
import { fromQuery, registerTable } from '../support/refresh.ts'
import { addPeople, addReport, addSales, type Execution } from '../support/reports.ts'
import { until } from '../support/until.ts'
import { insertTimers } from './timer-stage.ts'

const REPORT_ROWS = 400
const LONG = { recipients: 2_000, batchSize: 25 }
const SHORT = { recipients: 200, batchSize: 20 }

/** Asks for something, unless enough of it waits already, and says how long to pause before it is asked again. */
type Producer = { produce: () => Promise<void>; pauseMs: number }

/** Runs of all five domains, asked for by plain SQL for as long as nobody says stop. */
export type Load = {
  /** What workers need to know of it. */
  environment: Record<string, string>
  /** Asks for nothing more, and resolves when everything that was asked for has ended. */
  stop(): Promise<void>
}

/** Furnishes the database and begins: of each kind there is always something to do, and never more than a few of it wait. */
export async function startLoad(query: Query): Promise<Load> {
  const folder = await mkdtemp(join(tmpdir(), 'pawl-rolling-reports-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const producers = [...(await overrides(query)), campaigns(query), await refreshes(query), await reports(query), maintenance(query)]
  const stopping = new AbortController()
  onTestFinished(() => stopping.abort())
  const producing = producers.map(async ({ produce, pauseMs }) => {
    while (!stopping.signal.aborted) {
      await produce()
      await systemClock.sleep(pauseMs, stopping.signal)
    }
  })
  // Whoever stops the load hears of it; until then it must not end the process.
  for (const producer of producing) producer.catch(() => {})
  return {
    environment: { PAWL_REPORT_STORE: folder },
    async stop() {
      stopping.abort()
      await Promise.all(producing)
      await until('everything has ended', async () => (await query(UNFINISHED)).length === 0, 300_000)
    },
  }
}

/** Timers that lie a day ahead (Pawl's own, after those that fired) and what the clock brings are not part of it. */
const UNFINISHED = `
  select 'run' from pawl.checkpoints where state in ('pending', 'running')
  union all
  select 'job' from pgboss.job where state < 'completed' and start_after <= now() and name !~ '^(campaign\\.|__)'
  union all
  select 'timer' from public.campaign_timers where payload ? 'ours' and status in ('PENDING', 'RUNNING')
  union all
  select 'step' from pawl.refresh_steps where outcome is null
  limit 1`

/** Up to two operations for each category, one behind the other. Batches of the long ones take thirty milliseconds, so that every deploy meets some. */
async function overrides(query: Query): Promise<Producer[]> {
  const categories = []
  for (const size of [LONG, LONG, SHORT, SHORT, SHORT]) categories.push({ ...(await seedCategory(query, size.recipients)), batchSize: size.batchSize })
  // The sum of the ids beside their number: a row that was written twice does not stand in for one that was left out.
  await query(`
    create table public.written (operation text, rows bigint, ids numeric);
    create function public.note_written() returns trigger language plpgsql security definer as $$
    begin
      insert into public.written select updated_by_operation, count(*), sum(recipient_id) from new_rows group by 1;
      perform pg_sleep(0.03) from (select category_id from new_rows limit 1) batch
      where batch.category_id in (${categories.filter(category => category.recipients === LONG.recipients).map(category => category.categoryId)});
      return null;
    end $$;
    create trigger note_written after update on public.category_recipient_settings
    referencing new table as new_rows for each statement execute function public.note_written()`)
  return categories.map(category => ({
    pauseMs: category.recipients === LONG.recipients ? 200 : 1_000,
    async produce() {
      if ((await countOf(query, `public.category_override_operations where completed_at is null and category_id = ${category.categoryId}`)) < 2)
        await requestOverride(query, category, { batchSize: category.batchSize })
    },
  }))
}

/** Ten at a time: half of them with rewards, one with all its timers due at one instant. */
function campaigns(query: Query): Producer {
  return { pauseMs: 1_500, produce: async () => void (await insertTimers(query, 10, 500, 3_000)) }
}

/** A table whose refresh brings a second one along; between two refreshes a tenth of the source's rows change. */
async function refreshes(query: Query): Promise<Producer> {
  await query(`
    create table public.feed (id integer primary key, name text, amount integer);
    insert into public.feed select i, 'feed ' || i, 0 from generate_series(1, 500) i;
    grant select on public.feed to pawl_worker`)
  const columns = 'id integer primary key, name text, amount integer'
  await registerTable(query, 'fed', columns, fromQuery('select id, name, amount from public.feed'))
  await registerTable(query, 'doubled', columns, fromQuery('select id, name, amount * 2 as amount from sqp.fed'), { dependencies: ['sqp.fed'] })
  return {
    pauseMs: 700,
    async produce() {
      if ((await countOf(query, 'pawl.refresh_steps where outcome is null')) > 0) return
      await query('update public.feed set amount = amount + 1 where id % 10 = floor(random() * 10)')
      await query(`select pawl.refresh_table('fed', downstream => true)`)
    },
  }
}

async function reports(query: Query): Promise<Producer> {
  const people = await addPeople(query)
  await addSales(query, REPORT_ROWS)
  const report = await addReport(query, people, { structure: { source: 'public.sales', columns: ['id', 'region', 'amount'], key: ['id'] } })
  return {
    pauseMs: 700,
    async produce() {
      if ((await countOf(query, `reporting.report_executions where completed_at is null`)) < 2)
        await query('select pawl.run_report($1, $2, $3)', [report, people.admin, 'csv'])
    },
  }
}

function maintenance(query: Query): Producer {
  return {
    pauseMs: 1_500,
    async produce() {
      if ((await countOf(query, `pgboss.job where name = 'maintenance.health' and state < 'completed'`)) === 0)
        await query(`select pawl.enqueue('maintenance.health', '{}')`)
    },
  }
}

async function countOf(query: Query, from: string): Promise<number> {
  const [row] = await query<{ n: number }>(`select count(*) as n from ${from}`)
  return row?.n ?? 0
}

/** How many runs of each kind have ended well, and how many timers, health checks and jobs beside them. */
export async function finishedOf(query: Query): Promise<Record<string, number>> {
  const rows = await query<{ kind: string; n: number }>(`
    select kind, count(*) as n from pawl.checkpoints where state = 'completed' group by kind
    union all
    select 'timer', count(*) from public.campaign_timers where payload ? 'ours' and status = 'COMPLETED'
    union all
    select 'health check', count(*) from pgboss.job where name = 'maintenance.health' and state = 'completed'`)
  return Object.fromEntries(rows.map(({ kind, n }) => [kind, n]))
}

/** Whatever failed, was begun anew, lost or done twice, with how often; empty when no run has noticed the deploys. `timerFaults` looks at the timers. */
export async function loadFaults(query: Query): Promise<string[]> {
  const rows = await query<{ fault: string; times: number }>(
    `
    select fault, count(*) as times from (
      select format('a run of %s is %s', kind, state) as fault from pawl.checkpoints where state <> 'completed'
      union all
      select format('a run of %s spent %s failures and %s crashes', kind, failures, crashes) from pawl.checkpoints where failures + crashes > 0
      union all
      select format('a job of %s is %s after %s retries', name, state, retry_count)
      from pgboss.job where name !~ '^(campaign\\.|__)' and start_after <= now() and (state <> 'completed' or retry_count > 0)
      union all
      select format('an operation is %s with %s of %s recipients after %s retries', o.status, o.processed_recipients, c.recipients, o.retry_count)
      from public.category_override_operations o join category c using (category_id)
      where (o.status, o.processed_recipients, o.total_recipients, o.retry_count) is distinct from ('COMPLETED', c.recipients, c.recipients, 0)
      union all
      select format('an operation has written %s rows of %s', w.rows, c.recipients)
      from public.category_override_operations o join category c using (category_id)
      left join (select operation, sum(rows) as rows, sum(ids) as ids from public.written group by operation) w on w.operation = o.operation_id
      where (w.rows, w.ids) is distinct from (c.recipients, c.ids)
      union all
      select 'a recipient does not carry the newest operation'
      from public.category_recipient_settings s
      where s.updated_by_operation is distinct from
        (select o.operation_id from public.category_override_operations o where o.category_id = s.category_id order by o.id desc limit 1)
      union all
      select 'an operation began before the one ahead of it had ended' from (
        select started_at, lag(completed_at) over (partition by category_id order by id) as before from public.category_override_operations
      ) o where o.started_at < o.before
      union all
      select format('a refresh of %s is %s', table_name, outcome) from pawl.refresh_steps where outcome is distinct from 'completed'
      union all
      select 'a refreshed row differs' from (
        select id, name, amount, amount * 2 as doubled from public.feed except
        select f.id, f.name, f.amount, d.amount from sqp.fed f join sqp.doubled d using (id, name)
      ) row
      union all
      select format('an execution is %s: %s', status, error_message) from reporting.report_executions where status <> 'completed'
      union all
      select format('%s health checks were written down, %s done', written, done)
      from (select count(*) as written from public.system_maintenance_log where operation = 'health_check') l,
        (select count(*) as done from pgboss.job where name = 'maintenance.health' and state = 'completed') j
      where written <> done
    ) fault group by fault order by fault`.replaceAll('join category c', `join (${CATEGORIES}) c`),
  )
  const found = rows.map(({ fault, times }) => `${fault} (${times} times)`)
  return [...found, ...(await fileFaults(query))]
}

const CATEGORIES = 'select category_id, count(*) as recipients, sum(id) as ids from public.recipients group by category_id'

/** Each execution has its own file, whole. */
async function fileFaults(query: Query): Promise<string[]> {
  const executions = await query<Execution>(`select * from reporting.report_executions where status = 'completed'`)
  const places = new Set(executions.map(execution => execution.output_url))
  const faults = places.size === executions.length ? [] : [`${executions.length} executions have ${places.size} files`]
  for (const execution of executions) {
    const lines = (await readFile(fileURLToPath(execution.output_url ?? ''), 'utf8')).split('\n').filter(line => line !== '').length - 1
    if (lines !== REPORT_ROWS) faults.push(`the file of ${execution.id} has ${lines} rows`)
  }
  return faults
}
