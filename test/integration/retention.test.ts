import { randomBytes } from 'node:crypto'
import { expect, onTestFinished, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect, type Query } from '../../src/database.ts'
import { schedules } from '../../src/schedules.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'

async function open(): Promise<TestDatabase> {
  const db = await createDatabase()
  onTestFinished(() => db.drop())
  return db
}

const count = async (query: Query, from: string) => (await query<{ n: number }>(`select count(*) as n from ${from}`))[0]?.n

/** `rows` runs of each state, one a day back from now. */
async function addRuns(query: Query, days: number): Promise<void> {
  await query(
    `insert into pawl.leases (name, host, pid, version, queues, state, stopped_at)
     select 'w' || n, 'h', 1, 'v', '{}', case when n % 2 = 0 then 'stopped' else 'lost' end, now() - n * interval '1 day' from generate_series(1, $1::integer) n`,
    [days],
  )
  await query(
    `insert into pawl.checkpoints (run_id, kind, subject, state, finished_at)
     select state || n, 'override', 's', state, now() - n * interval '1 day' - interval '1 minute'
     from generate_series(1, $1::integer) n, unnest(array['completed', 'failed', 'cancelled']) state`,
    [days],
  )
  await query(`insert into pawl.checkpoints (run_id, kind, subject, requested_at) values ('waits for years', 'override', 's', now() - interval '3 years')`)
  await query(`insert into pawl.lanes (run_id, lane, epoch) select run_id, 0, 1 from pawl.checkpoints`)
}

test('each table that grows has a rule, each rule a table and conditions that the server understands', async () => {
  const db = await open()
  const rules = await db.query<{ relation: string; how: string; keep: unknown; there: boolean; note: string }>(
    'select relation, how, keep::text, to_regclass(relation) is not null as there, note from pawl.retention order by relation',
  )
  expect(rules.filter(rule => !rule.there)).toEqual([])
  expect(rules.filter(rule => rule.note.length < 15)).toEqual([])
  const partitioned = await db.query<{ parent: string }>('select distinct parent from pawl.partitions')
  for (const { parent } of partitioned) expect(rules.find(rule => rule.relation === parent)?.how, parent).toBe('archive')
  // What the documents state, and what they don't.
  expect(Object.fromEntries(rules.map(rule => [rule.relation, rule.keep]))).toMatchObject({
    'public.category_override_operations': '30 days',
    'public.timer_executions': '6 mons',
    'public.category_override_audit': null,
    'reporting.report_executions': null,
    'pawl.checkpoints': '90 days',
  })
  await db.query(`update pawl.retention set keep = '1 day' where how = 'delete'`)
  expect(await count(db.query, '(select pawl.prune()) pruned')).toBe(1)
})

test('what has ended long ago goes, oldest first and with all that hangs on it; what waits, and what is younger, stays', async () => {
  const db = await open()
  await addRuns(db.query, 100)
  expect(await count(db.query, 'pawl.checkpoints')).toBe(301)
  const [pruned] = await db.query<{ rows: number }>('select pawl.prune() as rows')
  expect(
    await db.query(`select max(now() - finished_at) < interval '90 days' as young, count(*) as rows from pawl.checkpoints where state <> 'pending'`),
  ).toEqual([{ young: true, rows: 89 * 3 }])
  expect(await count(db.query, `pawl.checkpoints where run_id = 'waits for years'`)).toBe(1)
  expect(await count(db.query, 'pawl.lanes')).toBe(89 * 3 + 1)
  expect(await count(db.query, 'pawl.leases')).toBe(30 - 1)
  expect(pruned?.rows).toBe(11 * 3 + 71)
  expect(await db.query(`select affected_rows as rows, details from system_maintenance_log where operation = 'prune_history'`)).toEqual([
    { rows: 104, details: { 'pawl.checkpoints': 33, 'pawl.leases': 71 } },
  ])
})

test('it takes a bounded number of rows at a time, the oldest, and asks to be called again for the rest', async () => {
  const db = await open()
  await addRuns(db.query, 120)
  await db.query(`delete from pawl.leases`)
  await db.query('select pawl.prune(20, 8)')
  expect(
    await db.query(
      `select count(*) as left, max(now() - finished_at) < interval '115 days' as oldest_gone from pawl.checkpoints where finished_at < now() - interval '90 days'`,
    ),
  ).toEqual([{ left: 93 - 20, oldest_gone: true }])
  const asked = `pgboss.job where name = 'maintenance.sweep' and data ->> 'schedule' = 'prune-history'`
  expect(await count(db.query, asked)).toBe(1)
  await db.query('select pawl.prune()')
  expect(await count(db.query, `pawl.checkpoints where finished_at < now() - interval '90 days'`)).toBe(0)
  expect(await count(db.query, asked)).toBe(1)
})

test('rows that someone has locked are left for the next day, and nobody waits', async () => {
  const db = await open()
  await addRuns(db.query, 95)
  const other = await connectDirect(readConfig({ DATABASE_URL: db.url }), 'other')
  await other.query(`begin; select from pawl.checkpoints where run_id = 'failed95' for update`)
  await db.query(`select pawl.prune()`)
  expect(await db.query(`select run_id from pawl.checkpoints where finished_at < now() - interval '90 days'`)).toEqual([{ run_id: 'failed95' }])
  await other.query('commit')
  await other.close()
  await db.query(`select pawl.prune()`)
  expect(await count(db.query, `pawl.checkpoints where finished_at < now() - interval '90 days'`)).toBe(0)
})

test('nothing is deleted that the documents keep without an end', async () => {
  const db = await open()
  await db.query(`insert into public.campaigns (duration_hours) values (1)`)
  await db.query(
    `insert into public.campaign_metrics (campaign_id, metric_type, value, recorded_at) select id, 'ENGAGEMENT_COUNT', 1, now() - interval '9 years' from public.campaigns`,
  )
  await db.query(
    `insert into sqp.refresh_audit_log (table_schema, table_name, refresh_started_at, status) values ('sqp', 't', now() - interval '9 years', 'success')`,
  )
  await db.query('select pawl.prune()')
  expect(await count(db.query, `public.campaign_metrics where recorded_at < now() - interval '8 years'`)).toBe(1)
  expect(await count(db.query, 'sqp.refresh_audit_log')).toBe(1)
  await db.query(`update pawl.retention set keep = '5 years' where relation in ('public.campaign_metrics', 'sqp.refresh_audit_log')`)
  await db.query('select pawl.prune()')
  expect(await count(db.query, `public.campaign_metrics where recorded_at < now() - interval '8 years'`)).toBe(0)
  expect(await count(db.query, 'sqp.refresh_audit_log')).toBe(0)
})

test('of a table in partitions the old rows go, and none that has the same place in another partition', async () => {
  const db = await open()
  await db.query(`create table public.page_views (viewed_at timestamptz not null) partition by range (viewed_at);
    create table public.page_views_old partition of public.page_views for values from ('2001-01-01') to ('2002-01-01');
    create table public.page_views_new partition of public.page_views for values from ('2002-01-01') to ('9999-01-01');
    insert into public.page_views select '2001-06-01' from generate_series(1, 10);
    insert into public.page_views select now() from generate_series(1, 10);
    insert into pawl.retention (relation, how, keep, moment, condition, note) values ('public.page_views', 'delete', '30 days', 'viewed_at', 'true', 'of the host')`)
  await db.query('select pawl.prune(7, 3)')
  expect([await count(db.query, 'public.page_views_old'), await count(db.query, 'public.page_views_new')]).toEqual([3, 10])
  await db.query('select pawl.prune()')
  expect([await count(db.query, 'public.page_views_old'), await count(db.query, 'public.page_views_new')]).toEqual([0, 10])
})

test('a worker has the owner neither read what the worker made nor archive what it names', async () => {
  const db = await open()
  const name = `pawl_test_climber_${randomBytes(4).toString('hex')}`
  await db.query(`create role ${name} login password 'x' in role pawl_worker`)
  const worker = await connectDirect(readConfig({ DATABASE_URL: db.urlAs(name, 'x') }), 'climber')
  try {
    await worker.query(`set role pawl_worker;
      create function pawl_stage.whoami() returns text language plpgsql as $$ begin raise exception 'ran as %', current_user; end $$;
      create view pawl_stage.trap as select pawl_stage.whoami() as status`)
    for (const call of [
      `pawl.archive_hindrance('reporting.report_executions', 'pawl_stage.trap')`,
      `pawl.add_archive('reporting.users', 'reporting.audit_logs', now() - interval '1 year', now(), 'detached')`,
    ])
      await expect(worker.query(`select ${call}`), call).rejects.toMatchObject({ code: '42501' })
  } finally {
    await worker.close()
    await db.query(`drop view pawl_stage.trap; drop function pawl_stage.whoami(); drop role ${name}`)
  }
})

test('an operator changes how long, and nothing else: not the conditions, which run as the owner', async () => {
  const db = await open()
  const name = `pawl_test_keeper_${randomBytes(4).toString('hex')}`
  await db.query(`create role ${name} login password 'x' in role pawl_operator`)
  const operator = await connectDirect(readConfig({ DATABASE_URL: db.urlAs(name, 'x') }), 'keeper')
  try {
    await operator.query(`update pawl.retention set keep = '2 years' where relation = 'reporting.audit_logs'`)
    expect(await operator.query(`select keep::text from pawl.retention where relation = 'reporting.audit_logs'`)).toEqual([{ keep: '2 years' }])
    for (const change of [`condition = 'true'`, `moment = 'now()'`, `how = 'delete'`, `relation = 'public.users'`])
      await expect(operator.query(`update pawl.retention set ${change} where relation = 'pawl.leases'`), change).rejects.toMatchObject({ code: '42501' })
    await expect(operator.query(`insert into pawl.retention values ('public.users', 'archive', null, null, null, 'n')`)).rejects.toMatchObject({
      code: '42501',
    })
    await expect(operator.query(`select pawl.prune()`)).rejects.toMatchObject({ code: '42501' })
    await expect(operator.query(`update pawl.retention set keep = '1 hour' where relation = 'pawl.leases'`)).rejects.toMatchObject({ code: '23514' })
    await expect(operator.query(`update pawl.retention set keep = '1 year' where relation = 'public.timer_executions'`)).rejects.toMatchObject({
      code: '22023',
    })
  } finally {
    await operator.close()
    await db.query(`drop role ${name}`)
  }
})

test('a rule that can not be followed keeps no other from it, and pawl.health names it until it can', async () => {
  const db = await open()
  const health = async () => (await db.query<{ ok: boolean; detail: string }>(`select ok, detail from pawl.health where "check" = 'retention'`))[0]
  await db.query(`update pawl.retention set moment = 'no_such_column' where relation = 'pawl.leases'`)
  await db.query(
    `insert into pawl.checkpoints (run_id, kind, subject, state, finished_at) values ('long ago', 'override', '', 'completed', now() - interval '5 years')`,
  )
  await db.query('select pawl.prune()')
  expect(await db.query(`select from pawl.checkpoints where run_id = 'long ago'`)).toEqual([])
  expect(await health()).toEqual({ ok: false, detail: expect.stringMatching(/pawl\.leases.*no_such_column/) })
  await db.query(`update pawl.retention set moment = 'stopped_at' where relation = 'pawl.leases'`)
  await db.query('select pawl.prune()')
  expect(await health()).toEqual({ ok: true, detail: 'its rules are followed' })
})

test('what an archive may still need is not pruned with its run', async () => {
  const db = await open()
  await db.query(`update pawl.retention set keep = '1 year' where relation = 'reporting.audit_logs'`)
  const [planned] = await db.query<{ run: string }>('select run from pawl.plan_archives() run')
  await db.query(`update pawl.checkpoints set state = 'failed', finished_at = now() - interval '1 year' where run_id = $1`, [planned?.run])
  await db.query('select pawl.prune()')
  expect(await count(db.query, `pawl.checkpoints where run_id = '${planned?.run}'`)).toBe(1)
})

test('a month that was archived once, whose run retention has taken since, is archived again', async () => {
  const db = await open()
  await db.query(`update pawl.retention set keep = '1 year' where relation = 'reporting.audit_logs'`)
  await db.query(`create table reporting.audit_logs_y2019m01 partition of reporting.audit_logs for values from ('2019-01-01 00:00+00') to ('2019-02-01 00:00+00');
    insert into pawl.archives (partition, parent, from_at, to_at, state, run_id, key, rows, sha256)
    values ('reporting.audit_logs_y2019m01', 'reporting.audit_logs', '2019-01-01', '2019-02-01', 'dropped', 'archive:reporting.audit_logs_y2019m01', 'k', 1, 's')`)
  const again = 'archive:reporting.audit_logs_y2019m01:2'
  expect(await db.query('select run from pawl.plan_archives() run where run like $1', ['%2019%'])).toEqual([{ run: again }])
  expect(await db.query('select run from pawl.plan_archives() run where run like $1', ['%2019%'])).toEqual([])
  await db.query('select pawl.cancel($1)', [again])
  expect(
    await db.query(`select affected_rows as rows, details ->> 'state' as state from system_maintenance_log where operation = 'archive_partition'`),
  ).toEqual([{ rows: 0, state: 'cancelled' }])
})

test('both go by the clock', () => {
  expect(schedules.filter(({ statement }) => /pawl\.(prune|plan_archives)\(\)/.test(statement)).map(({ key }) => key)).toEqual([
    'prune-history',
    'plan-archives',
  ])
})
