import { readConfig } from '../../src/config.ts'
import { connectDirect, type DirectConnection, type Query } from '../../src/database.ts'
import { createDatabase, type TestDatabase } from './postgres.ts'

// What a worker does, without its loading: claims, opens, starts and ends steps in the order of the picks, up to four open at a time.
const DRIVER = `
create function public.drive(p_fates jsonb, p_picks integer[]) returns jsonb language plpgsql as $$
declare
  running text[] := '{}';
  ready uuid[];
  diary jsonb := '[]';
  turn integer := 0;
  pick integer;
  job record;
  run pawl.checkpoints;
  opened record;
  fate text;
  again boolean;
begin
  loop
    ready := array(
      select j.id from pgboss.job j where j.name = 'refresh.load' and j.state < 'active' and j.start_after <= now() order by j.priority desc, j.created_on, j.id
    );
    exit when ready = '{}' and running = '{}';
    turn := turn + 1;
    if turn > 5000 then raise exception 'never runs empty'; end if;
    pick := p_picks[1 + turn % cardinality(p_picks)] % (cardinality(running) + case when cardinality(running) < 4 then cardinality(ready) else 0 end);
    if pick >= cardinality(running) then
      update pgboss.job j set state = 'active'
      where j.name = 'refresh.load' and j.id = ready[1 + pick - cardinality(running)] returning j.id, j.data ->> 'run_id' as run_id into job;
      select * into opened from pawl.open_run(job.run_id, 1, job.id, 0, '10 seconds');
      if opened.outcome = 'opened' and pawl.start_refresh(job.run_id, opened.epoch) ->> 'outcome' = 'started' then
        running := running || job.run_id;
        diary := diary || jsonb_build_object('act', 'start', 'run', job.run_id);
        if exists (
          select from pawl.refresh_limits l join pawl.refresh_steps s using (source) join pawl.checkpoints c using (run_id)
          where c.state = 'running' group by l.source, l.concurrency having count(*) > l.concurrency
        ) then raise exception 'too many read from one source'; end if;
      else
        update pgboss.job j set state = 'completed' where j.name = 'refresh.load' and j.id = job.id;
      end if;
      continue;
    end if;
    select * into run from pawl.checkpoints c where c.run_id = running[1 + pick];
    running := array_remove(running, run.run_id);
    fate := p_fates ->> run.subject;
    again := false;
    if fate in ('fails', 'refused') or (fate = 'stumbles' and run.failures = 0) then
      again := pawl.fail(run.run_id, run.epoch, 'boom', fate <> 'refused');
      if not again then diary := diary || jsonb_build_object('act', 'fail', 'run', run.run_id); end if;
    elsif fate = 'dies' and run.crashes = 0 then
      perform pawl.note_crash(run.run_id);
      perform pawl.deliver(run.run_id);
    else
      perform pawl.finish_refresh(run.run_id, run.epoch, '{"inserted": 1}', '{}');
      diary := diary || jsonb_build_object('act', 'end', 'run', run.run_id);
    end if;
    update pgboss.job j set state = (case when again then 'retry' else 'completed' end)::pgboss.job_state where j.name = 'refresh.load' and j.id = run.job_id;
  end loop;
  return diary;
end $$`

/** What a driver did, in order: a step's turn began, it ended well, it failed for good. */
export type Diary = { act: 'start' | 'end' | 'fail'; run: string }[]

/** Works until nothing is ready; `fates` by table (`sqp.a`), what is missing works. Raises when more read from a source than may. */
export async function drive(query: Query, fates: Record<string, string> = {}, picks: readonly number[] = [0]): Promise<Diary> {
  const [row] = await query<{ diary: Diary }>('select public.drive($1, $2) as diary', [JSON.stringify(fates), picks])
  return row?.diary ?? []
}

/** A database where nothing is registered, with the driver in it. */
export async function createPlannerDatabase(): Promise<TestDatabase> {
  const db = await createDatabase()
  await db.query(DRIVER)
  await forgetRefreshes(db.query)
  return db
}

/** Takes out every registration, plan, job and audit row. */
export async function forgetRefreshes(query: Query): Promise<void> {
  await query(`
    delete from pawl.refresh_runs; delete from pawl.checkpoints; delete from pgboss.job; delete from pawl.refresh_limits; delete from pawl.paused_queues;
    delete from sqp.refresh_config; delete from sqp.refresh_audit_log`)
}

/** A table to register: due an hour ago by default; `after` and `softly` go into refresh_dependencies, `named` into the array. */
export type Planted = {
  enabled?: boolean
  next?: string | null
  last?: string | null
  hours?: number
  priority?: number
  source?: string | null
  group?: string
  after?: string[]
  softly?: string[]
  named?: string[]
}

/** Registers tables of `sqp` that need not exist: the planner never looks at them. */
export async function plant(query: Query, tables: Record<string, Planted>): Promise<void> {
  const rows = Object.entries(tables).map(([name, table]) => ({
    name,
    enabled: true,
    next: '-1 hour',
    last: null,
    hours: 24,
    priority: 50,
    source: 'sql',
    group: null,
    named: [],
    ...table,
  }))
  await query(
    `insert into sqp.refresh_config (table_schema, table_name, is_enabled, refresh_frequency_hours, priority, next_refresh_at, last_refresh_at, custom_sync_params, dependencies)
     select 'sqp', t.name, t.enabled, t.hours, t.priority, now() + t.next::interval, now() + t.last::interval,
       jsonb_strip_nulls(jsonb_build_object('source', t.source, 'publish_group', t."group")), t.named
     from jsonb_to_recordset($1) t (name text, enabled boolean, next text, last text, hours integer, priority integer, source text, "group" text, named text[])`,
    [JSON.stringify(rows)],
  )
  const edges = Object.entries(tables).flatMap(([child, { after = [], softly = [] }]) => [
    ...after.map(parent => ({ parent, child, type: 'hard' })),
    ...softly.map(parent => ({ parent, child, type: 'soft' })),
  ])
  await query(
    `insert into sqp.refresh_dependencies (parent_config_id, dependent_config_id, dependency_type)
     select p.id, c.id, e.type from jsonb_to_recordset($1) e (parent text, child text, type text)
     join sqp.refresh_config p on p.table_name = e.parent join sqp.refresh_config c on c.table_name = e.child`,
    [JSON.stringify(edges)],
  )
}

/** Plans what is due, whatever was planned this minute already. Null when nothing is. */
export async function planNow(query: Query): Promise<number | null> {
  await query(`update pawl.refresh_runs set slot = slot - interval '1 day'`)
  return (await query<{ run: number | null }>('select pawl.plan_refresh() as run'))[0]?.run ?? null
}

/** The latest step of each table, by table. */
export async function stepsNow(
  query: Query,
): Promise<Record<string, Record<string, unknown> & { state: string; run_id: string; error: string | null; warnings: string[] }>> {
  const rows = await query<{ table: string; state: string; run_id: string; error: string | null; warnings: string[] }>(
    `select distinct on (p."table") p.* from pawl.refresh_plan p join pawl.refresh_steps s using (run_id) order by p."table", s.place desc`,
  )
  return Object.fromEntries(rows.map(row => [row.table.replace('sqp.', ''), row]))
}

/** Only what state each table's latest step is in. */
export async function statesNow(query: Query): Promise<Record<string, string>> {
  return Object.fromEntries(Object.entries(await stepsNow(query)).map(([table, step]) => [table, step.state]))
}

/** Opens and starts the unfinished step of a table, as a worker with this lease does that got its job. */
export async function startStep(query: Query, table: string, lease = 1): Promise<{ outcome: string; runId: string; epoch: number }> {
  const [step] = await query<{ run_id: string; job_id: string | null }>(
    'select run_id, job_id from pawl.refresh_steps join pawl.checkpoints using (run_id) where table_name = $1 and outcome is null',
    [`sqp.${table}`],
  )
  if (step === undefined) throw new Error(`${table} is not under way`)
  await query(`update pgboss.job set state = 'active', started_on = now() where name = 'refresh.load' and id = $1`, [step.job_id])
  const [opened] = await query<{ outcome: string; epoch: number }>(`select * from pawl.open_run($1, $2, $3, 0, '10 seconds')`, [
    step.run_id,
    lease,
    step.job_id,
  ])
  if (opened?.outcome !== 'opened') return { outcome: opened?.outcome ?? 'nothing', runId: step.run_id, epoch: 0 }
  const [started] = await query<{ start: { outcome: string } }>('select pawl.start_refresh($1, $2) as start', [step.run_id, opened.epoch])
  if (started?.start.outcome !== 'started') await query(`update pgboss.job set state = 'completed' where name = 'refresh.load' and id = $1`, [step.job_id])
  return { outcome: started?.start.outcome ?? 'nothing', runId: step.run_id, epoch: opened.epoch }
}

/** Ends a started step well. */
export async function finishStep(query: Query, { runId, epoch }: { runId: string; epoch: number }): Promise<void> {
  await query(`select pawl.finish_refresh($1, $2, '{"inserted": 1}', '{}')`, [runId, epoch])
}

/** The tables whose jobs wait to be claimed, in the order of claiming. */
export async function readyTables(query: Query): Promise<string[]> {
  const rows = await query<{ table: string }>(
    `select replace(c.subject, 'sqp.', '') as table from pgboss.job j join pawl.checkpoints c on c.run_id = j.data ->> 'run_id'
     where j.name = 'refresh.load' and j.state < 'active' and j.start_after <= now() order by j.priority desc, j.created_on, j.id`,
  )
  return rows.map(row => row.table)
}

/** Connections of their own to this database: several planners at once. */
export function connectTo(db: TestDatabase, count: number): Promise<DirectConnection[]> {
  return Promise.all(Array.from({ length: count }, (_, place) => connectDirect(readConfig({ DATABASE_URL: db.url }), `planner ${place}`)))
}

/** What a statement failed with; nothing of it where it did not fail. */
export function failure(work: Promise<unknown>): Promise<{ code?: string; message?: string; hint?: string }> {
  return work.then(
    () => ({}),
    (error: unknown) => error as { code?: string; message?: string; hint?: string },
  )
}
