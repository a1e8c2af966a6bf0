import type { Query } from '../../../src/database.ts'
import { loadTable } from '../../../workers/refresh/load.ts'
import { hire } from '../crew.ts'
import { readDiary } from '../diary.ts'
import type { Cast } from '../scenario.ts'
import type { World } from '../world.ts'

const TABLES = ['a', 'b', 'c'] as const
export type Table = (typeof TABLES)[number]

/** Five rows of one version: each version has lost a row of the one before it, changed four and got a new one. */
const whole = (version: number) => [0, 1, 2, 3, 4].map(row => `${row + version}:${version}`).join(' ')

/** A source and three tables that are filled from it, one by way of the other. */
export function prepareTables(query: Query): Promise<unknown> {
  return query(
    `create table if not exists sqp.explorer_source (id integer primary key, version integer not null);
     ${TABLES.map(
       table => `
     create table if not exists sqp.explorer_${table} (id integer primary key, version integer not null);
     create or replace trigger explorer_publish after insert or update or delete on sqp.explorer_${table} for each statement execute function explorer.note_publish();`,
     ).join('\n')}`,
  )
}

export async function clearTables(query: Query): Promise<void> {
  await query(`
    delete from pawl.checkpoints; delete from pawl.refresh_runs; delete from sqp.refresh_audit_log; delete from sqp.refresh_checkpoints;
    delete from sqp.refresh_config; select pawl.drop_refresh_staging()`)
}

/** How a table is filled: from the source, or from tables before it. */
export const fromSource = 'select id, version from sqp.explorer_source'
export const fromBoth = 'select id, version from sqp.explorer_a join sqp.explorer_b using (id, version)'

type Registered = { query: string; after: readonly Table[]; group?: boolean }

/** Writes version 1 into the source and version 0 into the tables, and registers these; those of the `group` are published together. */
export async function registerTables(query: Query, tables: Partial<Record<Table, Registered>>): Promise<void> {
  const fill = (table: string, version: number) =>
    `delete from sqp.explorer_${table}; insert into sqp.explorer_${table} select i + ${version}, ${version} from generate_series(0, 4) i;`
  await query([fill('source', 1), ...TABLES.map(table => fill(table, 0))].join('\n'))
  for (const table of TABLES) {
    const registered = tables[table]
    if (registered === undefined) continue
    const params = { source: 'sql', query: registered.query, ...(registered.group === true ? { publish_group: 'explorer' } : {}) }
    await query(
      `insert into sqp.refresh_config (table_schema, table_name, is_enabled, custom_sync_params, dependencies, refresh_frequency_hours)
       values ('sqp', $1, true, $2, $3, 24)`,
      [`explorer_${table}`, JSON.stringify(params), registered.after.map(parent => `sqp.explorer_${parent}`)],
    )
  }
}

/** The next version, in one transaction. */
export async function changeSource(query: Query): Promise<void> {
  await query('delete from sqp.explorer_source where id = 1')
  await query('update sqp.explorer_source set version = 2')
  await query('insert into sqp.explorer_source values (6, 2)')
}

/** The version that each table holds, -1 for one that holds none of them wholly; all seen at one moment. */
export async function versionsOf(query: Query): Promise<Record<Table, number>> {
  const [row] = await query<Record<Table, string | null>>(
    `select ${TABLES.map(table => `(select string_agg(id || ':' || version, ' ' order by id) from sqp.explorer_${table}) as ${table}`).join(', ')}`,
  )
  const versionOf = (table: Table) => [0, 1, 2].find(version => whole(version) === row?.[table]) ?? -1
  return { a: versionOf('a'), b: versionOf('b'), c: versionOf('c') }
}

type Step = {
  run_id: string
  table: Table
  outcome: string | null
  state: string
  error: string | null
  audits: number
  successes: number
  ended: string | null
}

export function stepsNow(query: Query): Promise<Step[]> {
  return query<Step>(
    `select s.run_id, right(s.table_name, 1) as table, s.outcome, c.state, c.error, c.finished_at::text as ended,
       (select count(*)::integer from sqp.refresh_audit_log a where a.refresh_config_id = s.config_id and a.status = 'running') as audits,
       (select count(*)::integer from sqp.refresh_audit_log a where a.refresh_config_id = s.config_id and a.status in ('success', 'warning')) as successes
     from pawl.refresh_steps s join pawl.checkpoints c using (run_id) order by s.place`,
  )
}

/** What every refresh that has ended must agree on with itself. */
export async function refreshFaults(query: Query): Promise<string[]> {
  const steps = await stepsNow(query)
  const publications = (await readDiary(query)).filter(({ what, actor }) => what === 'publish' && /^w\d$/.test(actor))
  const versions = await versionsOf(query)
  return steps.flatMap(({ run_id: run, table, outcome, state, audits, successes, error }) => {
    const times = new Set(publications.filter(({ subject }) => subject === `explorer_${table}`).map(({ detail }) => detail)).size
    const faults: string[] = []
    const isDone = state === 'completed'
    if (isDone !== (outcome === 'completed')) faults.push(`${run}: the run is ${state}, the step ${String(outcome)}`)
    if (state === 'failed') faults.push(`${run} failed: ${error}`)
    if (audits > 0) faults.push(`${run}: ${audits} audit rows still say it is running`)
    if (successes !== (isDone ? 1 : 0)) faults.push(`${run}: ${successes} audit rows say it succeeded, and it is ${state}`)
    if (times !== (isDone ? 1 : 0)) faults.push(`${run}: ${table} was written in ${times} transactions, and it is ${state}`)
    if (isDone === (versions[table] === 0)) faults.push(`${run} is ${state}, and ${table} holds version ${versions[table]}`)
    return faults
  })
}

/** In any snapshot: each table holds one version wholly. */
export async function halfFaults(query: Query): Promise<string[]> {
  const versions = await versionsOf(query)
  return TABLES.filter(table => versions[table] === -1).map(table => `${table} is half of something`)
}

/** An operator who cancels one of these runs and has it retried, if he still sees it end. */
export function operatorSteers(world: World, runs: readonly string[]): void {
  const { chance } = world
  const run = chance.pick(runs)
  const isRetried = chance.happens(0.7)
  world.spawn('operator', async ({ db, clock }) => {
    for (const word of isRetried ? ['cancel', 'retry', 'retry'] : ['cancel']) {
      for (;;) {
        try {
          await db.query(`select pawl.${word}($1)`, [run])
          break
        } catch (error) {
          // A retry is refused, with reason, where a parent must go first or the table has been planned anew.
          if ((error as { code?: string }).code === '22023') break
          await clock.sleep(10)
        }
      }
    }
  })
}

/** Two workers on the queue of refreshes, and a third one where both are gone. */
export async function refreshCrew(world: World): Promise<Pick<Cast, 'isEnded' | 'stuck' | 'timePasses'>> {
  await hire(world, 'w1', [loadTable], { lanes: 1 })
  await hire(world, 'w2', [loadTable], { lanes: 1 })
  return {
    async isEnded() {
      if ([...world.actors.values()].some(actor => actor.worker === undefined && actor.state !== 'done' && actor.state !== 'dead')) return false
      const [left] = await world.query<{ left: number }>(`select count(*)::integer as left from pawl.checkpoints where state in ('pending', 'running')`)
      return left?.left === 0
    },
    stuck: async () => JSON.stringify(await world.query(`select run_id, state, pawl.why(run_id) from pawl.checkpoints where state in ('pending', 'running')`)),
    async timePasses() {
      const workers = [...world.actors.values()].filter(actor => actor.worker !== undefined)
      if (workers.every(({ state }) => state === 'dead' || state === 'done')) await hire(world, `w${workers.length + 1}`, [loadTable], { lanes: 1 })
    },
  }
}
