import { afterAll, beforeAll, expect, test } from 'vitest'
import { requestOverride, seedCategory, type Seeded } from '../support/overrides.ts'
import { BACKUP_VERIFICATION, CONSISTENCY, DASHBOARD, PERFORMANCE, STUCK } from './document-000.ts'
import { openOverrideStage, type OverrideStage } from './override-stage.ts'

let stage: OverrideStage
let busy: Seeded
let once: Seeded
let ids: { first: string; second: string; single: string; cancelled: string; waiting: string }

/** Audit rows from before Pawl's time. `age` is an interval, or an instant. */
const audited = (id: string, age: string, status: string, count = 0, durationMs: number | null = null, seeded = busy) =>
  stage.query(
    `insert into public.category_override_audit (
       operation_id, category_id, category_name, user_id, user_name, affected_recipients_count, operation_timestamp, operation_status, operation_duration_ms
     )
     values ($1, $2, 'then', $3, 'then', $4, case when $5 like '____-%' then $5::timestamptz else now() - $5::interval end, $6, $7)`,
    [id, seeded.categoryId, seeded.userId, count, age, status, durationMs],
  )

beforeAll(async () => {
  stage = await openOverrideStage()
  const { query } = stage
  busy = await seedCategory(query, 30, { name: 'Busy' })
  once = await seedCategory(query, 10, { name: 'Once' })
  await seedCategory(query, 5, { name: 'Never' })
  await query(
    `select pawl.ensure_month_partition('public.category_override_audit', (date_trunc('month', now() at time zone 'UTC') - make_interval(months => n))::date)
     from generate_series(1, 4) n`,
  )
  const ask = (seeded: Seeded) => requestOverride(query, seeded)
  ids = { first: await ask(busy), second: await ask(busy), single: await ask(once), cancelled: await ask(once), waiting: '' }
  await query(`select pawl.cancel($1, 'not needed')`, [ids.cancelled])
  await stage.work()
  ids.waiting = await ask(once)
})

afterAll(() => stage.close())

test('dashboard statistics: completed operations of the last 90 days by category, the busiest first', async () => {
  await audited('age-89', '89 days', 'COMPLETED', 7)
  await audited('age-91', '91 days', 'COMPLETED', 1000)
  const [times] = await stage.query(
    `select max(operation_timestamp) filter (where category_id = $1) as busy, max(operation_timestamp) filter (where operation_id = $2) as once
     from category_override_audit`,
    [busy.categoryId, ids.single],
  )
  expect(await stage.query(DASHBOARD)).toEqual([
    { name: 'Busy', operations_count: 3, recipients_affected: 67, last_operation: times?.busy },
    { name: 'Once', operations_count: 1, recipients_affected: 10, last_operation: times?.once },
    { name: 'Never', operations_count: 0, recipients_affected: 0, last_operation: null },
  ])
})

test('hourly performance: counts, averages and failures of each hour of the last day', async () => {
  for (const [id, status, count, ms] of [
    ['h-1', 'COMPLETED', 10, 100],
    ['h-2', 'COMPLETED', 30, 300],
    ['h-3', 'FAILED', 2, 50],
  ] as const)
    await audited(id, '3 hours', status, count, ms)
  await audited('h-old', '25 hours', 'FAILED', 9, 9)
  const hours = await stage.query<Record<string, string | number>>(PERFORMANCE)
  const [then] = await stage.query(`select distinct date_trunc('hour', operation_timestamp) as hour from category_override_audit where operation_id = 'h-1'`)
  const known = hours.at(-1) ?? {}
  expect({ ...known, avg_recipients: Number(known.avg_recipients), avg_duration_ms: Number(known.avg_duration_ms) }).toEqual({
    hour: then?.hour,
    operations_count: 3,
    avg_recipients: 14,
    avg_duration_ms: 150,
    failed_count: 1,
  })
  const ours = hours.slice(0, -1)
  const sum = (name: string) => ours.reduce((total, hour) => total + Number(hour[name]), 0)
  expect([sum('operations_count'), sum('failed_count')]).toEqual([5, 1])
})

test('stuck operations: unfinished ones that started more than an hour ago, and no others', async () => {
  expect(await stage.query(STUCK)).toEqual([])
  await stage.query(
    `update category_override_operations
     set started_at = now() - case operation_id when $1 then interval '61 minutes' else interval '2 hours' end
     where operation_id <> $2`,
    [ids.waiting, ids.second],
  )
  const stuck = await stage.query(STUCK)
  expect(stuck).toMatchObject([
    {
      operation_id: ids.waiting,
      category_id: once.categoryId,
      user_id: once.userId,
      status: 'PENDING',
      started_at: expect.any(Date),
      duration: { hours: 1, minutes: 1 },
    },
  ])
  await stage.query(`update category_override_operations set started_at = now() - interval '59 minutes'`)
  expect(await stage.query(STUCK)).toEqual([])
})

test('backup verification names every table of overrides, partitions included, the largest first', async () => {
  const rows = await stage.query<{ schemaname: string; tablename: string; size: string }>(BACKUP_VERIFICATION)
  const months = await stage.query<{ name: string }>(
    `select inhrelid::regclass::text as name from pg_inherits where inhparent = 'category_override_audit'::regclass`,
  )
  expect(months.length).toBeGreaterThanOrEqual(8)
  const names = ['category_override_audit', 'category_override_audit_keys', 'category_override_operations', ...months.map(month => month.name)]
  expect(rows.map(row => row.tablename).toSorted()).toEqual(names.toSorted())
  const sizes = await stage.query<{ size: number }>(
    `select pg_total_relation_size(name::regclass) as size from unnest($1::text[]) with ordinality n (name, place) order by place`,
    [rows.map(row => row.tablename)],
  )
  expect(sizes.map(row => row.size)).toEqual(sizes.map(row => row.size).toSorted((a, b) => b - a))
  expect(rows.every(row => row.schemaname === 'public' && /^\d+ (bytes|kB|MB)$/.test(row.size))).toBe(true)
})

test('the consistency check after recovery counts each operation once, over all months', async () => {
  await audited('oldest', '95 days', 'FAILED')
  const [facts] = await stage.query(
    `
    select (select count(*) from category_override_audit_keys) as keys,
      (select operation_timestamp from category_override_audit where operation_id = 'oldest') as earliest,
      (select operation_timestamp from category_override_audit where operation_id = $1) as latest`,
    [ids.waiting],
  )
  const [row] = await stage.query(CONSISTENCY)
  expect(row).toEqual({ audit_records: facts?.keys, unique_operations: facts?.keys, earliest_operation: facts?.earliest, latest_operation: facts?.latest })
  expect(
    await stage.query(
      `select from category_recipient_settings s
       where updated_by_operation is not null and not exists (select from category_override_audit a where a.operation_id = s.updated_by_operation)`,
    ),
  ).toEqual([])
})

test('get_override_operation_progress answers in the shape of the document, from waiting to done', async () => {
  const progress = async (id: string) =>
    (await stage.query<{ p: Record<string, unknown> | null }>('select get_override_operation_progress($1) as p', [id]))[0]?.p
  const waiting = await progress(ids.waiting)
  expect(Object.keys(waiting ?? {})).toEqual([
    'operationId',
    'status',
    'totalRecipients',
    'processedRecipients',
    'progressPercent',
    'startedAt',
    'lastUpdatedAt',
    'completedAt',
    'errorMessage',
    'retryCount',
  ])
  const stamp = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/)
  expect(waiting).toEqual({
    operationId: ids.waiting,
    status: 'PENDING',
    totalRecipients: null,
    processedRecipients: 0,
    progressPercent: 0,
    startedAt: stamp,
    lastUpdatedAt: stamp,
    completedAt: null,
    errorMessage: null,
    retryCount: 0,
  })
  await stage.query(`update category_override_operations set total_recipients = 30, processed_recipients = 10 where operation_id = $1`, [ids.waiting])
  expect(await progress(ids.waiting)).toMatchObject({ totalRecipients: 30, processedRecipients: 10, progressPercent: 33.33 })
  await stage.query(`update category_override_operations set total_recipients = null, processed_recipients = 0 where operation_id = $1`, [ids.waiting])
  expect(await progress(ids.first)).toMatchObject({
    status: 'COMPLETED',
    totalRecipients: 30,
    processedRecipients: 30,
    progressPercent: 100,
    completedAt: stamp,
  })
  expect(await progress(ids.cancelled)).toMatchObject({
    status: 'CANCELLED',
    progressPercent: 0,
    completedAt: stamp,
    errorMessage: expect.stringContaining('not needed'),
  })
  expect(await progress('nobody')).toBeNull()
  const empty = await requestOverride(stage.query, await seedCategory(stage.query, 0, { name: 'Empty' }))
  await stage.work()
  expect(await progress(empty)).toMatchObject({ status: 'COMPLETED', totalRecipients: 0, processedRecipients: 0, progressPercent: 100 })
})

test('cleanup_old_override_operations deletes what ended more than 30 days ago, in whatever way, and logs how many', async () => {
  const insert = (status: string, age: string) =>
    stage.query(
      `insert into category_override_operations (operation_id, category_id, user_id, status, started_at, completed_at)
       values ($1, $2, $3, $4, now() - $5::interval, now() - $5::interval)`,
      [`${status} ${age}`, busy.categoryId, busy.userId, status, age],
    )
  for (const status of ['COMPLETED', 'FAILED', 'CANCELLED']) for (const age of ['31 days', '29 days']) await insert(status, age)
  await insert('PENDING', '31 days')
  expect(await stage.query('select cleanup_old_override_operations() as deleted')).toEqual([{ deleted: 3 }])
  expect(await stage.query('select cleanup_old_override_operations() as deleted')).toEqual([{ deleted: 0 }])
  expect(
    (await stage.query(`select operation_id from category_override_operations where operation_id like '% days' order by 1`)).map(row => row.operation_id),
  ).toEqual(['CANCELLED 29 days', 'COMPLETED 29 days', 'FAILED 29 days', 'PENDING 31 days'])
  expect(await stage.query(`select operation, affected_rows, timestamp > now() - interval '1 minute' as now from system_maintenance_log order by id`)).toEqual(
    [3, 0].map(affected_rows => ({ operation: 'cleanup_override_operations', affected_rows, now: true })),
  )
  await stage.query(`delete from category_override_operations where operation_id like '% days'`)
})

test('the reporting views: a category with its history and reach, and every audited operation, newest first', async () => {
  const row = (name: string) => stage.query('select * from v_category_override_summary where category_name = $1', [name])
  await stage.query(`update recipients set is_ad_synced = false where id = (select max(id) from recipients where category_id = $1)`, [busy.categoryId])
  const [user] = await stage.query('select username from users where id = $1', [busy.userId])
  // Two operations ran and two COMPLETED rows of 89 and 91 days were brought in, and two of three hours: six in all, four of the last 30 days.
  const [newest] = await stage.query('select operation_timestamp as at from category_override_audit where operation_id = $1', [ids.second])
  expect(await row('Busy')).toEqual([
    {
      category_id: busy.categoryId,
      category_name: 'Busy',
      override_count: 6,
      last_override_at: newest?.at,
      last_override_recipients_count: 30,
      last_override_by_username: user?.username,
      total_ad_recipients: 29,
      overrides_last_30_days: 4,
    },
  ])
  expect(await row('Never')).toMatchObject([
    { override_count: 0, last_override_at: null, last_override_by_username: null, total_ad_recipients: 5, overrides_last_30_days: 0 },
  ])
  const history = await stage.query<Record<string, unknown>>('select * from v_override_operation_history')
  expect(Object.keys(history[0] ?? {})).toEqual([
    'operation_id',
    'category_id',
    'category_name',
    'user_id',
    'user_name',
    'affected_recipients_count',
    'operation_timestamp',
    'operation_status',
    'operation_duration_ms',
    'error_message',
    'client_ip',
    'operation_duration_seconds',
  ])
  expect(history.map(entry => entry.operation_id)).toEqual(
    (await stage.query('select operation_id from category_override_audit order by operation_timestamp desc')).map(entry => entry.operation_id),
  )
  expect(history.find(entry => entry.operation_id === 'h-2')).toMatchObject({ operation_duration_ms: 300, operation_duration_seconds: '0.30' })
})
