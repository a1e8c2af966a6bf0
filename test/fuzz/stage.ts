import { randomBytes } from 'node:crypto'
import { readConfig } from '../../src/config.ts'
import { connectDirect, type DirectConnection } from '../../src/database.ts'
import { codeOf, messageOf } from '../../src/errors.ts'
import { applyOverride } from '../../workers/overrides/apply.ts'
import { handlerOptions, takeLease, workAll } from '../support/engine.ts'
import { requestOverride, seedCategory } from '../support/overrides.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { addPeople, addReport } from '../support/reports.ts'
import { omitted } from './values.ts'

/** Rows to call upon: an id of each kind that a function takes. */
export type Known = {
  category: number
  user: number
  completed: string
  pending: string
  campaign: string
  timer: string
  report: string
  admin: string
  viewer: string
}

export type Refusal = { code: string; message: string; hint: string | undefined; where: string }
/** What a call answered and which tables it wrote to, or how it was refused. */
export type Outcome = { answer: string | null; wrote: string[]; faults: string[] } | { refused: Refusal }

export type Stage = {
  db: TestDatabase
  known: Known
  /** Calls `pawl.name` as a member of the role, in a transaction that is rolled back; `look` reads, as a worker, what became of it. */
  call(role: string, name: string, given: Given, look?: Look): Promise<Outcome>
  end(): Promise<void>
}

export type Given = Record<string, { type: string; value: unknown }>
export type Look = (query: DirectConnection['query'], answer: string | null) => Promise<string[]>

const views = ['runs', 'timers', 'schedules', 'queues', 'failures', 'stuck', 'workers', 'health', 'refresh_plan', 'backups', 'backlog', 'archives']
const YEARS = JSON.stringify({ source: 'sql', query: `select date '2026-01-01' as year_start` })
const roles = ['pawl_producer', 'pawl_operator', 'pawl_observer', 'pawl_worker']

/** A database with rows of every kind, a canary that nothing may touch, and a login that can be each of the roles. */
export async function openStage(): Promise<Stage> {
  const db = await createDatabase()
  const name = `pawl_fuzz_${randomBytes(6).toString('hex')}`
  await db.query(`
    create table public.fuzz_canary (touched boolean); insert into public.fuzz_canary values (false);
    create function public.fuzz_bite() returns text language sql as 'update public.fuzz_canary set touched = true returning ''bitten''';
    create role ${name} login noinherit password 'fuzz' in role ${roles.join(', ')}`)
  const known = await seed(db)
  const connection = await connectDirect(readConfig({ DATABASE_URL: db.urlAs(name, 'fuzz') }), 'fuzz')
  return {
    db,
    known,
    call: (role, called, given, look) => call(connection, role, called, given, look),
    async end() {
      await connection.close()
      await db.query(`drop role ${name}`)
      await db.drop()
    },
  }
}

async function seed(db: TestDatabase): Promise<Known> {
  const seeded = await seedCategory(db.query, 3)
  const completed = await requestOverride(db.query, seeded)
  const lease = await takeLease(db)
  await workAll(applyOverride, handlerOptions(db, lease))
  await lease.stop()
  const pending = await requestOverride(db.query, seeded)
  const [row] = await db.query<{ campaign: string }>(`select pawl.create_campaign(1, now() + interval '1 day') as campaign`)
  const campaign = row?.campaign ?? ''
  const [timer] = await db.query<{ id: string }>(`select id from public.campaign_timers where campaign_id = $1 and timer_type = 'START_CAMPAIGN'`, [campaign])
  const people = await addPeople(db.query)
  const declared = {
    region: { type: 'text' },
    least: { type: 'integer' },
    share: { type: 'number' },
    day: { type: 'date' },
    at: { type: 'timestamp' },
    who: { type: 'uuid' },
    flag: { type: 'boolean' },
    names: { type: 'text[]' },
    days: { type: 'date[]', choices: ['2026-01-01'] },
  }
  const report = await addReport(db.query, people, { structure: { source: 'public.users', columns: ['id'] }, declared })
  await db.query(`update sqp.refresh_config set custom_sync_params = $1 where table_name = 'yearly_summary'`, [YEARS])
  return {
    category: seeded.categoryId,
    user: seeded.userId,
    completed,
    pending,
    campaign,
    timer: timer?.id ?? '',
    report,
    admin: people.admin,
    viewer: people.viewer,
  }
}

async function call({ query }: DirectConnection, role: string, name: string, given: Given, look?: Look): Promise<Outcome> {
  const present = Object.entries(given).filter(([, { value }]) => value !== omitted)
  const written = present.map(([parameter, { type }], i) => `"${parameter}" => $${i + 1}::${type}`).join(', ')
  // What the statistics hold of the transactions before: they are handed over once a second at most.
  await query('begin; set local role pawl_worker')
  const before = await writes(query)
  await query(`set local role ${role}`)
  try {
    const rows = await query<{ answer: string | null }>(
      `select f::text as answer from pawl.${name}(${written}) f`,
      present.map(([, { value }]) => value),
    )
    const answer = rows[0]?.answer ?? null
    const wrote = await writesSince(query, before)
    return { answer, wrote, faults: [...(wrote.length > 0 ? await readable(query, answer) : []), ...((await look?.(query, answer)) ?? [])] }
  } catch (error) {
    const { hint, where } = error as { hint?: string; where?: string }
    return { refused: { code: codeOf(error) ?? 'none', message: messageOf(error), hint, where: where ?? '' } }
  } finally {
    await query('rollback')
  }
}

async function writes(query: DirectConnection['query']): Promise<Map<string, number>> {
  await query('set local role pawl_worker')
  const rows = await query<{ name: string; tuples: number }>(
    `select regexp_replace(s.schemaname || '.' || s.relname, '_y\\d{4}m\\d{2}$', '') as name, sum(s.n_tup_ins + s.n_tup_upd + s.n_tup_del)::bigint as tuples
     from pg_stat_xact_user_tables s where s.n_tup_ins + s.n_tup_upd + s.n_tup_del > 0 group by 1 order by 1`,
  )
  return new Map(rows.map(row => [row.name, row.tuples]))
}

async function writesSince(query: DirectConnection['query'], before: Map<string, number>): Promise<string[]> {
  return [...(await writes(query))].filter(([name, tuples]) => tuples > (before.get(name) ?? 0)).map(([name]) => name)
}

/** What anyone asked for must leave every view readable: an operator's whole screen is behind them. */
async function readable(query: DirectConnection['query'], answer: string | null): Promise<string[]> {
  await query('set local role pawl_observer')
  const faults: string[] = []
  for (const [what, text, values] of [
    ...views.map(view => [`pawl.${view}`, `select count(to_jsonb(v)) from pawl.${view} v`, []] as const),
    ['pawl.why', 'select pawl.why($1)', [answer]] as const,
  ]) {
    await query('savepoint looking')
    await query(text, [...values]).catch(async (error: unknown) => {
      faults.push(`${what} can't be read any more: ${codeOf(error)} ${messageOf(error)}`)
      await query('rollback to savepoint looking')
    })
  }
  await query('set local role pawl_worker')
  return faults
}
