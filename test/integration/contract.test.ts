import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect, type DirectConnection } from '../../src/database.ts'
import { codeOf } from '../../src/errors.ts'
import { applyOverride } from '../../workers/overrides/apply.ts'
import { handlerOptions, takeLease, workAll } from '../support/engine.ts'
import { requestOverride, type Seeded, seedCategory } from '../support/overrides.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { addPeople, addReport } from '../support/reports.ts'
import { until } from '../support/until.ts'

const DENIED = '42501'
const uuid = expect.stringMatching(/^[0-9a-f-]{36}$/)

const producing = ['request_override', 'revert_override', 'enqueue', 'create_campaign', 'schedule_timer', 'refresh_table', 'run_report']
const operating = [
  'cancel',
  'retry',
  'pause',
  'resume',
  'why',
  'reschedule_timer',
  'refresh_table',
  'run_report',
  'request_backup',
  'index_report',
  'plan_archives',
  'extend_partitions',
]
const functionNames = [...new Set([...producing, ...operating])]
const viewNames = [
  'runs',
  'timers',
  'schedules',
  'queues',
  'failures',
  'stuck',
  'workers',
  'health',
  'refresh_plan',
  'refresh_edges',
  'backups',
  'partitions',
  'retention',
  'archives',
  'backlog',
  'tables',
  'deploy',
  'months_ahead',
]

/** Group role → the functions and views it may use. `nobody` is a login that belongs to no group. */
const may: Record<string, { call: string[]; read: string[] }> = {
  pawl_worker: { call: functionNames, read: viewNames },
  pawl_producer: { call: producing, read: [] },
  pawl_operator: { call: operating, read: viewNames },
  pawl_observer: { call: ['index_report', 'why'], read: viewNames },
  nobody: { call: [], read: [] },
}
const roles = Object.keys(may)

/** Three years out of nothing, for sqp.yearly_summary. */
const YEARS = JSON.stringify({
  source: 'sql',
  query: `select make_date(2020 + n, 1, 1) as year_start, 'here' as marketplace, 1::bigint as asins, 2::bigint as impressions, 1::bigint as clicks,
    0::bigint as cart_adds, 0::bigint as purchases from generate_series(1, 3) n`,
})
const groups = roles.filter(role => role !== 'nobody')

let db: TestDatabase
let seeded: Seeded
let calls: Record<string, { sql: string; values: unknown[]; answer: unknown }>
const suffix = randomBytes(6).toString('hex')
const logins = new Map<string, DirectConnection>()

beforeAll(async () => {
  db = await createDatabase()
  seeded = await seedCategory(db.query, 20)
  const completed = await requestOverride(db.query, seeded)
  const lease = await takeLease(db)
  await workAll(applyOverride, handlerOptions(db, lease))
  await lease.stop()
  const pending = await requestOverride(db.query, seeded)
  const [campaign] = await db.query<{ id: string }>(`select pawl.create_campaign(1, now() + interval '1 day') as id`)
  const [timer] = await db.query<{ id: string }>(`select id from campaign_timers where campaign_id = $1 and timer_type = 'START_CAMPAIGN'`, [campaign?.id])
  const people = await addPeople(db.query)
  const report = await addReport(db.query, people, { name: 'Everyone', structure: { source: 'public.users', columns: ['id', 'username'] } })
  await db.query(`update sqp.refresh_config set custom_sync_params = $1 where table_name = 'yearly_summary'`, [YEARS])
  calls = {
    request_override: { sql: 'pawl.request_override($1, $2)', values: [seeded.categoryId, seeded.userId], answer: expect.stringMatching(/^ovr_\d+$/) },
    revert_override: { sql: 'pawl.revert_override($1, $2)', values: [completed, seeded.userId], answer: expect.stringMatching(/^ovr_\d+$/) },
    enqueue: { sql: `pawl.enqueue('overrides.apply.dead', '{}')`, values: [], answer: uuid },
    create_campaign: { sql: 'pawl.create_campaign(1)', values: [], answer: uuid },
    schedule_timer: { sql: `pawl.schedule_timer($1, 'EXPIRE_CAMPAIGN', now() + interval '1 day')`, values: [campaign?.id], answer: uuid },
    refresh_table: { sql: `pawl.refresh_table('yearly_summary')`, values: [], answer: expect.any(Number) },
    run_report: { sql: `pawl.run_report($1, $2, 'json')`, values: [report, people.admin], answer: uuid },
    reschedule_timer: { sql: `pawl.reschedule_timer($1, now() + interval '2 days')`, values: [timer?.id], answer: true },
    plan_archives: { sql: '(select count(*) from pawl.plan_archives())', values: [], answer: 0 },
    extend_partitions: { sql: '(select sum(created) from pawl.extend_partitions(3))', values: [], answer: 0 },
    request_backup: { sql: 'pawl.request_backup()', values: [], answer: expect.stringMatching(/^backup_\d+$/) },
    index_report: { sql: '(select count(*) > 0 from pawl.index_report())', values: [], answer: true },
    cancel: { sql: 'pawl.cancel($1)', values: [pending], answer: true },
    retry: { sql: 'pawl.retry($1)', values: [pending], answer: true },
    pause: { sql: `pawl.pause('overrides.apply')`, values: [], answer: true },
    resume: { sql: `pawl.resume('overrides.apply')`, values: [], answer: true },
    why: { sql: 'pawl.why($1)', values: [pending], answer: expect.stringContaining('Waiting') },
  }
  for (const role of roles) {
    const name = `pawl_test_${role}_${suffix}`
    await db.query(`create role ${name} login password 'secret ${suffix}' ${role === 'nobody' ? '' : `in role ${role}`}`)
    logins.set(role, await connectDirect(readConfig({ DATABASE_URL: db.urlAs(name, `secret ${suffix}`) }), `contract ${role}`))
  }
})

afterAll(async () => {
  await Promise.all([...logins.values()].map(login => login.close()))
  for (const role of roles) await db.query(`drop role if exists pawl_test_${role}_${suffix}`)
  await db.drop()
})

/** What a statement answers to a member of the role, or the SQLSTATE it is refused with. */
async function as(role: string, sql: string, values: unknown[] = []): Promise<unknown> {
  const login = logins.get(role)
  if (login === undefined) throw new Error(`no login for ${role}`)
  try {
    const [row] = await login.query<{ answer: unknown }>(sql, values)
    return row?.answer ?? 'nothing'
  } catch (error) {
    return codeOf(error)
  }
}

/** Everything a call could change, in one row. */
async function everything(): Promise<Record<string, unknown>> {
  const [row] = await db.query(`
    select (select count(*) from public.category_override_operations) as operations, (select count(*) from public.category_override_audit) as audit,
      (select count(*) from pgboss.job) as jobs, (select count(*) from pawl.paused_queues) as paused,
      (select count(*) from public.campaigns) as campaigns, (select md5(string_agg(t::text, '|' order by id)) from public.campaign_timers t) as timers,
      (select md5(string_agg(c::text, '|' order by run_id)) from pawl.checkpoints c) as runs,
      (select last_value from public.category_override_operations_id_seq) as last_number, (select last_value from pawl.refresh_runs_id_seq) as last_plan,
      (select md5(string_agg(c::text, '|' order by id)) from sqp.refresh_config c) as configurations`)
  return row ?? {}
}

describe('who may call', () => {
  for (const role of roles) {
    for (const name of functionNames) {
      const allowed = may[role]?.call.includes(name) === true
      test(`${role} ${allowed ? 'may call' : 'is refused'} ${name}`, async () => {
        const { sql, values, answer } = calls[name] ?? { sql: '', values: [], answer: '' }
        if (allowed) {
          // In a transaction that is rolled back, so that each role meets the same rows.
          await as(role, 'begin')
          if (name === 'resume') await as(role, `select pawl.pause('overrides.apply')`)
          if (name === 'retry') await db.query(`update pawl.checkpoints set failures = 1 where run_id = $1`, values)
          expect(await as(role, `select ${sql} as answer`, values)).toEqual(answer)
          await as(role, 'rollback')
          await db.query('update pawl.checkpoints set failures = 0')
        } else {
          const before = await everything()
          expect(await as(role, `select ${sql} as answer`, values)).toBe(DENIED)
          expect(await everything()).toEqual(before)
        }
      })
    }
  }

  test('beyond the contract, producers may execute nothing of pawl, operators and observers only what their views call', async () => {
    const rows = await db.query<{ role: string; names: string[] }>(
      `select role, array_agg(distinct p.proname::text order by p.proname::text) as names
       from unnest($1::text[]) role join pg_proc p on p.pronamespace = 'pawl'::regnamespace and has_function_privilege(role, p.oid, 'execute')
       where p.proname <> all ($2) group by role`,
      [[...groups.filter(role => role !== 'pawl_worker'), `pawl_test_nobody_${suffix}`], functionNames],
    )
    const helpers = ['activity', 'job_due', 'lease_alive', 'migrating', 'queue_counts', 'refresh_source', 'schedule_rows']
    expect(Object.fromEntries(rows.map(row => [row.role, row.names]))).toEqual({ pawl_operator: helpers, pawl_observer: helpers })
  })
})

describe('who may read', () => {
  for (const role of roles) {
    for (const view of viewNames) {
      const allowed = may[role]?.read.includes(view) === true
      test(`${role} ${allowed ? 'may read' : 'is refused'} pawl.${view}`, async () => {
        expect(await as(role, `select count(row(v)) is not null as answer from pawl.${view} v`)).toBe(allowed ? true : DENIED)
      })
    }
  }

  test('producers and strangers read nothing; operators and observers views, the tables of sqp and reporting, and operators the limits they set', async () => {
    const relations = await db.query<{ name: string }>(
      `select format('%I.%I', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
       where n.nspname in ('pawl', 'sqp', 'reporting', 'public', 'pgboss') and c.relkind in ('r', 'p', 'v', 'm') order by 1`,
    )
    expect(relations.length).toBeGreaterThan(20)
    const domainViews = ['v_category_override_summary', 'v_override_operation_history', 'mv_active_campaigns', 'mv_pending_timers'].map(
      view => `public.${view}`,
    )
    // Of users some columns; sessions and the months of a table are nobody's.
    const reporting = [
      'organizations',
      'users',
      'templates',
      'template_fields',
      'reports',
      'report_shares',
      'report_executions',
      'execution_logs',
      'audit_logs',
    ]
    const readable = new Set([...viewNames.map(view => `pawl.${view}`), ...domainViews, ...reporting.map(table => `reporting.${table}`)])
    for (const role of roles.filter(role => role !== 'pawl_worker')) {
      for (const { name } of relations) {
        const allowed =
          (role === 'pawl_operator' && name === 'pawl.refresh_limits') ||
          ((role === 'pawl_operator' || role === 'pawl_observer') && (readable.has(name) || name.startsWith('sqp.')))
        expect([role, name, await as(role, `select 'read' as answer from ${name} limit 0`)]).toEqual([role, name, allowed ? 'nothing' : DENIED])
      }
    }
  })

  test('nobody but the owner reads the password or the verification token of a user', async () => {
    for (const role of roles)
      for (const column of ['password_hash', '"emailVerificationToken"'])
        expect([role, column, await as(role, `select ${column} as answer from reporting.users limit 0`)]).toEqual([role, column, DENIED])
  })

  test('only the worker role may write rows, and not even that one the kinds of runs, the effects of timers and the ledger of migrations; operators the limits of sources', async () => {
    const rows = await db.query(
      `select role, c.oid::regclass::text as name
       from unnest($1::text[]) role
       join pg_class c on c.relkind in ('r', 'p', 'v') and has_table_privilege(role, c.oid, 'insert, update, delete, truncate')
       join pg_namespace n on n.oid = c.relnamespace and n.nspname in ('pawl', 'sqp', 'reporting', 'public', 'pgboss')
       where role <> 'pawl_worker' or c.oid = any (array['pawl.kinds', 'pawl.timer_effects', 'pawl.schema_migrations', 'pawl.retention', 'pawl.archives', 'pawl.archive_files']::regclass[])`,
      [[...groups, `pawl_test_nobody_${suffix}`]],
    )
    expect(rows).toEqual([{ role: 'pawl_operator', name: 'refresh_limits' }])
  })

  test('operators and observers see the same figures in pawl.health as the owner does', async () => {
    const blocker = await connectDirect(readConfig({ DATABASE_URL: db.url }), 'contract blocker')
    await blocker.query('begin')
    const old = `select detail <> '0 s' as answer from pawl.health where "check" = 'oldest transaction'`
    await until('the transaction is a second old', async () => (await db.query<{ answer: boolean }>(old))[0]?.answer)
    for (const role of ['pawl_operator', 'pawl_observer']) expect([role, await as(role, old)]).toEqual([role, true])
    await blocker.close()
  })
})
