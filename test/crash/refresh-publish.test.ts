import { expect, onTestFinished, test } from 'vitest'
import { upgrade } from '../../bin/commands/migrate.ts'
import { readConfig } from '../../src/config.ts'
import { openDatabase, type Query } from '../../src/database.ts'
import { startEmbedded } from '../../src/embedded.ts'
import { silent } from '../support/postgres.ts'
import { fromQuery, registerTable } from '../support/refresh.ts'
import { until } from '../support/until.ts'
import { attemptsOf, chunkFaults, chunksDone, once, recordChunks, requestLoad, tableFaults, writeRows } from './refresh-stage.ts'
import { endOf, openStage, startCrew } from './stage.ts'

test('PostgreSQL stopped at once in mid-load: the staged rows are gone, the run notices, reads again, and ends exactly right', async () => {
  const source = await writeRows(200_000)
  // Durable commits: what a client was told is committed must be there after the crash.
  const server = await startEmbedded({ log: silent, ephemeral: true, settings: { synchronous_commit: 'on', full_page_writes: 'on' } })
  const crew = startCrew()
  const config = readConfig({ DATABASE_URL: server.url })
  const db = openDatabase(config, silent, { max: 2 })
  onTestFinished(async () => {
    await crew.end()
    await db.close()
    await server.stop()
    source.remove()
  })
  await upgrade(config, silent)
  const { query } = db
  await recordChunks(query, 10)
  const worker = await crew.start(server.url)
  let ended = false
  void worker.exited.then(() => {
    ended = true
  })
  const runId = await requestLoad(query, source, 150)
  let seen = 0
  for (let crash = 1; crash <= 2; crash += 1) {
    await chunksDone(query, runId, seen + 30)
    await server.kill('immediate')
    await server.restart()
    const [staged] = await until(`the server answers after crash ${crash}`, () =>
      query<{ name: string; chunks: number }>(
        `select c.oid::regclass::text as name, (select count(*) from public.recorded_batches) as chunks
         from pg_class c where relnamespace = 'pawl_stage'::regnamespace and relpersistence = 'u' order by c.oid desc limit 1`,
      ).catch(() => undefined),
    )
    expect(staged).toBeDefined()
    seen = staged?.chunks ?? 0
  }
  expect(await endOf(query, runId)).toBe('completed')
  expect(await tableFaults(query, 200_000)).toEqual([])
  const attempts = await attemptsOf(query, runId)
  // Read again once for each crash, or once for both.
  expect([2, 3]).toContain(attempts.extraction)
  expect(attempts).toEqual(once(200_000, attempts.extraction))
  expect(await chunkFaults(query, runId, 200_000)).toEqual([])
  expect(worker.log.some(line => line.msg.endsWith('reading again'))).toBe(true)
  expect(ended).toBe(false)
})

/** Two versions of 20,000 rows in sqp.slow, whose writing takes a second after its last row. Every write that commits is noted. */
async function slowTable(query: Query): Promise<void> {
  const version = (name: string) => fromQuery(`select i as id, '${name}' as version from generate_series(1, 20000) i`)
  await registerTable(query, 'slow', 'id integer primary key, version text not null', version('new'))
  await query(`
    insert into sqp.slow select i, 'old' from generate_series(1, 20000) i;
    create table public.writes (worker text default current_setting('application_name'), at timestamptz default clock_timestamp());
    create function public.note_write() returns trigger language plpgsql as $$ begin insert into public.writes default values; perform pg_sleep(1); return null; end $$;
    create trigger note_write after update on sqp.slow for each statement execute function public.note_write()`)
}

test('kill -9 in the middle of publishing, twice: the table is all old or all new at every look, and new in the end, written once', async () => {
  const stage = await openStage()
  await slowTable(stage.query)
  await Promise.all([stage.start(), stage.start()])
  await stage.query(`select pawl.refresh_table('slow')`)
  const [run] = await stage.query<{ run_id: string }>('select run_id from pawl.refresh_steps')
  const runId = run?.run_id ?? ''
  const looks: string[] = []
  const starting: Promise<unknown>[] = []
  const killed: number[] = []
  let looking = true
  onTestFinished(() => {
    looking = false
  })
  const reader = (async () => {
    while (looking) {
      const rows = await stage.query<{ seen: string }>(
        `select string_agg(version || ' ' || n, ', ' order by version) as seen from (select version, count(*) as n from sqp.slow group by 1) v`,
      )
      looks.push(rows[0]?.seen ?? 'nothing')
    }
  })()
  for (let kill = 1; kill <= 2; kill += 1) {
    const publisher = await until(`a publisher to kill, the ${kill}.`, async () => {
      const [row] = await stage.query<{ pid: number }>(
        `select l.pid from pg_stat_activity a join pawl.leases l on l.name = a.application_name
         join pawl.checkpoints c on c.owner = l.id and c.run_id = $1 where a.wait_event = 'PgSleep' and a.query like '%update%slow%' and l.pid <> all ($2)`,
        [runId, killed],
      )
      return row
    })
    process.kill(publisher.pid, 'SIGKILL')
    killed.push(publisher.pid)
    starting.push(stage.start())
  }
  expect(await endOf(stage.query, runId)).toBe('completed')
  await until('a look after the end', () => looks.at(-1) === 'new 20000')
  looking = false
  await Promise.all([reader, ...starting])
  expect(looks.length).toBeGreaterThan(100)
  expect(new Set(looks)).toEqual(new Set(['old 20000', 'new 20000']))
  expect(looks.indexOf('new 20000')).toBeGreaterThan(looks.lastIndexOf('old 20000'))
  expect(await stage.query('select count(*) as n from public.writes')).toEqual([{ n: 1 }])
  expect(await stage.query('select status, rows_processed, rows_inserted, rows_updated, rows_deleted from sqp.refresh_audit_log')).toEqual([
    { status: 'success', rows_processed: 20_000, rows_inserted: 0, rows_updated: 20_000, rows_deleted: 0 },
  ])
  expect(await stage.query('select failures, crashes from pawl.checkpoints where run_id = $1', [runId])).toEqual([{ failures: 0, crashes: 2 }])
})

test('five replicas on due tables, four of them killed: one plan for the slot, each table written once, and the one that is left finishes', async () => {
  const TABLES = 12
  const ROWS = 500
  const stage = await openStage()
  await stage.query(`
    create table public.writes (name text);
    create function public.note_write() returns trigger language plpgsql as $$ begin insert into public.writes values (tg_table_name); return null; end $$`)
  const names = Array.from({ length: TABLES }, (_, n) => `due_${n}`)
  for (const [n, name] of names.entries()) {
    const query = `select i as id, (select pg_sleep(0.3))::text || ${n} as name from generate_series(1, ${ROWS}) i`
    // A chain of three, four times: parents first.
    const dependencies = n % 3 === 0 ? [] : [`due_${n - 1}`]
    await registerTable(stage.query, name, 'id integer primary key, name text', fromQuery(query), { next: '2026-01-01', dependencies })
    await stage.query(`create trigger note_write after insert on sqp.${name} for each statement execute function public.note_write()`)
  }
  const replicas = await Promise.all(names.slice(0, 5).map((_, n) => stage.start({ name: `replica-${n}` })))
  // As the clock does each minute, by as many as there are replicas.
  await Promise.all(replicas.map(() => stage.query(`select pawl.enqueue('maintenance.sweep', '{"schedule": "plan-refresh"}')`)))
  await until('replicas at work', async () => {
    const [row] = await stage.query<{ n: number }>(`select count(distinct owner) as n from pawl.checkpoints where kind = 'refresh' and state = 'running'`)
    return (row?.n ?? 0) >= 2
  })
  for (const replica of replicas.slice(0, 4)) replica.signal('SIGKILL')
  await until('every table is done', async () => {
    const [row] = await stage.query<{ n: number }>(`select count(*) as n from pawl.refresh_steps where outcome is not null`)
    return row?.n === TABLES
  })
  expect(
    await stage.query(
      `select (select count(*) from pawl.refresh_runs) as plans, count(*) as steps, count(*) filter (where outcome = 'completed') as completed from pawl.refresh_steps`,
    ),
  ).toEqual([{ plans: 1, steps: TABLES, completed: TABLES }])
  const audits = await stage.query(`select table_name, status, rows_inserted from sqp.refresh_audit_log order by id`)
  expect(audits.toSorted((a, b) => names.indexOf(String(a.table_name)) - names.indexOf(String(b.table_name)))).toEqual(
    names.map(name => ({ table_name: name, status: 'success', rows_inserted: ROWS })),
  )
  expect((await stage.query<{ name: string }>('select name from public.writes')).map(row => row.name).toSorted()).toEqual(names.toSorted())
  for (const name of names) expect([name, await stage.query(`select count(*) as n from sqp.${name}`)]).toEqual([name, [{ n: ROWS }]])
  // No child began before its parent had ended.
  const early = await stage.query(
    `select c.table_name from sqp.refresh_audit_log c join sqp.refresh_audit_log p on p.table_name = any ((select dependencies from sqp.refresh_config f where f.id = c.refresh_config_id)::text[])
     where c.refresh_started_at < p.refresh_completed_at`,
  )
  expect(early).toEqual([])
  expect(await stage.query('select sum(failures)::integer as failures, sum(crashes) > 0 as crashed from pawl.checkpoints')).toEqual([
    { failures: 0, crashed: true },
  ])
})
