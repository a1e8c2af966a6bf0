import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { auditOf, bytesOf, metricsOf, register } from '../support/refresh-publish.ts'
import { fromQuery, openRefreshStage, type RefreshStage, registerTable } from '../support/refresh.ts'

let stage: RefreshStage
let config = 0
const columns = 'id integer primary key, name text, amount numeric, seen timestamptz'

beforeAll(async () => {
  stage = await openRefreshStage()
  await stage.query(`create table public.origin (${columns})`)
})
afterAll(() => stage.end())
beforeEach(async () => {
  await stage.query(
    'truncate public.origin; drop table if exists sqp.measured; delete from sqp.refresh_audit_log; delete from sqp.refresh_config where table_name = $$measured$$',
  )
  await stage.query(`insert into public.origin select i, 'n' || i, i, now() - interval '30 minutes' from generate_series(1, 100) i`)
  config = await registerTable(stage.query, 'measured', columns, fromQuery('select * from public.origin'))
  await stage.refresh('measured')
})

/** The source now has a row that all of these find fault with, and 60 rows less. */
async function spoil(): Promise<void> {
  await stage.query(
    `delete from public.origin where id > 40; update public.origin set name = 'n1', amount = -5, seen = now() - interval '2 days' where id <= 20; update public.origin set name = null, seen = null where id > 20`,
  )
}

type Measured = { name: string; value: unknown; expected?: number | null; min?: number | null; max?: number | null }
const near = (value: number) => expect.closeTo(value, 3)
const checks: { check: Record<string, unknown>; well: Measured; breached: Measured; says: string }[] = [
  {
    check: { check: 'row_count', min: 50, max: 200 },
    well: { name: 'row_count', value: 100, min: 50, max: 200 },
    breached: { name: 'row_count', value: 40, min: 50, max: 200 },
    says: 'row_count is 40, allowed is at least 50 and at most 200',
  },
  {
    check: { check: 'row_change', max_percent: 20 },
    well: { name: 'row_change_percent', value: 0, expected: 100, max: 20 },
    breached: { name: 'row_change_percent', value: 60, expected: 100, max: 20 },
    says: 'row_change_percent is 60, allowed is at most 20',
  },
  {
    check: { check: 'deleted_ratio', max: 0.5 },
    well: { name: 'deleted_ratio', value: 0, max: 0.5 },
    breached: { name: 'deleted_ratio', value: 0.6, max: 0.5 },
    says: 'deleted_ratio is 0.6, allowed is at most 0.5',
  },
  {
    check: { check: 'null_ratio', column: 'name', max: 0.1 },
    well: { name: 'null_ratio:name', value: 0, max: 0.1 },
    breached: { name: 'null_ratio:name', value: 0.5, max: 0.1 },
    says: 'null_ratio:name is 0.5',
  },
  {
    check: { check: 'unique', columns: ['name'] },
    well: { name: 'repeated:name', value: 0, expected: 0, max: 0 },
    breached: { name: 'repeated:name', value: 38, expected: 0, max: 0 },
    says: 'repeated:name is 38, allowed is at most 0',
  },
  {
    check: { check: 'freshness', column: 'seen', max_age_hours: 24 },
    well: { name: 'age_hours:seen', value: near(0.5), max: 24 },
    breached: { name: 'age_hours:seen', value: near(48), max: 24 },
    says: 'age_hours:seen is 48.0',
  },
  {
    check: { check: 'range', column: 'amount', min: 0, max: 1000 },
    well: { name: 'range:amount', value: 1, min: 0, max: 1000 },
    breached: { name: 'range:amount', value: -5, min: 0, max: 1000 },
    says: 'range:amount is -5, allowed is at least 0 and at most 1000',
  },
  {
    check: { check: 'sql', name: 'odd', query: 'select count(*) from {staging} where id % 2 = 1 -- odd ones', expected: 50 },
    well: { name: 'odd', value: 50, expected: 50, min: 50, max: 50 },
    breached: { name: 'odd', value: 20, expected: 50, min: 50, max: 50 },
    says: 'odd is 20, allowed is at least 50 and at most 50',
  },
  {
    check: { check: 'sql', name: 'total', query: 'select sum(amount) from {staging}', expected: 5050, min: 5000 },
    well: { name: 'total', value: 5050, expected: 5050, min: 5000 },
    breached: { name: 'total', value: 510, expected: 5050, min: 5000 },
    says: 'total is 510, allowed is at least 5000',
  },
]
const row = (measured: Measured, within: boolean) => ({ expected: null, min: null, max: null, ...measured, within })

test.each(checks)('$says: measured and stored, refused or warned of', async ({ check, well, breached, says }) => {
  const { query } = stage
  const set = (on_breach: string) => register(query, 'sqp', 'measured', fromQuery('select * from public.origin', { quality: [{ ...check, on_breach }] }))
  await set('block')
  expect((await stage.refresh('measured')).measured).toMatchObject({ state: 'completed', warnings: [] })
  expect(await metricsOf(query, (await auditOf(query, 'measured'))[0]?.id)).toEqual([row(well, true)])
  await spoil()
  const before = await bytesOf(query, 'sqp.measured')
  const refused = (await stage.refresh('measured')).measured
  expect(refused).toMatchObject({ state: 'failed', inserted: null, error: expect.stringContaining(`sqp.measured was not published: ${says}`) })
  expect(await bytesOf(query, 'sqp.measured')).toEqual(before)
  const [audit] = await auditOf(query, 'measured')
  expect(audit).toMatchObject({ status: 'failed', error_message: refused?.error, rows_inserted: null })
  expect(await metricsOf(query, audit?.id)).toEqual([row(breached, false)])
  await set('warn')
  expect((await stage.refresh('measured')).measured).toMatchObject({ state: 'warning', deleted: 60, updated: 40, warnings: [expect.stringContaining(says)] })
  const [warned] = await auditOf(query, 'measured')
  expect(warned).toMatchObject({ status: 'warning', error_message: expect.stringContaining(says) })
  expect(await metricsOf(query, warned?.id)).toEqual([row(breached, false)])
})

test('all checks are measured before the verdict, which names every one that was breached', async () => {
  await register(stage.query, 'sqp', 'measured', fromQuery('select * from public.origin', { quality: checks.map(({ check }) => check) }))
  await spoil()
  const error = (await stage.refresh('measured')).measured?.error ?? ''
  for (const { says } of checks) expect(error).toContain(says)
  expect(await metricsOf(stage.query, (await auditOf(stage.query, 'measured'))[0]?.id)).toEqual(checks.map(({ breached }) => row(breached, false)))
})

test('after a breach was mended at the source, the same run is retried and reads it again', async () => {
  await register(stage.query, 'sqp', 'measured', fromQuery('select * from public.origin', { quality: [{ check: 'row_count', min: 50 }] }))
  await spoil()
  const refused = (await stage.refresh('measured')).measured
  await stage.query(`insert into public.origin select i, 'back', 0, now() from generate_series(41, 80) i`)
  expect(await stage.query('select pawl.retry($1) as retried', [refused?.run_id])).toEqual([{ retried: true }])
  await stage.work()
  expect((await stage.steps(refused?.run ?? 0)).measured).toMatchObject({ state: 'completed', deleted: 20, updated: 80, unchanged: 0, error: null })
  expect((await auditOf(stage.query, 'measured')).slice(0, 2).map(({ status }) => status)).toEqual(['success', 'failed'])
})

test('usual is the median of the last seven that were published: no failed one, no older one, and one outlier does not move it', async () => {
  await stage.query('delete from sqp.refresh_audit_log')
  // Oldest first: two of long ago, seven of late with an outlier among them, and failed ones between.
  const history = [9, 9, 100, 102, 5000, 'failed', 98, 101, 99, 'failed', 103]
  for (const [place, rows] of history.entries()) {
    await stage.query(
      `insert into sqp.refresh_audit_log (refresh_config_id, table_schema, table_name, refresh_started_at, status, rows_processed)
       values ($1, 'sqp', 'measured', now() - interval '100 days' + $2 * interval '1 day', $3, $4)`,
      [config, place, rows === 'failed' ? 'failed' : place % 2 === 0 ? 'success' : 'warning', rows === 'failed' ? 1 : rows],
    )
  }
  await register(stage.query, 'sqp', 'measured', fromQuery('select * from public.origin', { quality: [{ check: 'row_change', max_percent: 1 }] }))
  expect((await stage.refresh('measured')).measured?.state).toBe('completed')
  expect(await metricsOf(stage.query, (await auditOf(stage.query, 'measured'))[0]?.id)).toEqual([
    { name: 'row_change_percent', value: 0.99, expected: 101, min: null, max: 1, within: true },
  ])
})

test('a first refresh has no history: its change is none', async () => {
  await stage.query('delete from sqp.refresh_audit_log; truncate sqp.measured')
  await register(
    stage.query,
    'sqp',
    'measured',
    fromQuery('select * from public.origin', {
      quality: [
        { check: 'row_change', max_percent: 1 },
        { check: 'deleted_ratio', max: 0 },
      ],
    }),
  )
  expect((await stage.refresh('measured')).measured).toMatchObject({ state: 'completed', inserted: 100 })
  expect(await metricsOf(stage.query, (await auditOf(stage.query, 'measured'))[0]?.id)).toEqual([
    { name: 'row_change_percent', value: 0, expected: null, min: null, max: 1, within: true },
    { name: 'deleted_ratio', value: 0, expected: null, min: null, max: 0, within: true },
  ])
})

test('where there is nothing to measure: no value is out of range, but none is fresh', async () => {
  await stage.query('truncate public.origin')
  const quality = [
    { check: 'range', column: 'amount', min: 5 },
    { check: 'null_ratio', column: 'name', max: 0 },
    { check: 'freshness', column: 'seen', max_age_hours: 1, on_breach: 'warn' },
  ]
  await register(stage.query, 'sqp', 'measured', fromQuery('select * from public.origin', { quality }))
  expect((await stage.refresh('measured')).measured).toMatchObject({
    state: 'warning',
    deleted: 100,
    warnings: ['age_hours:seen is not known, allowed is at most 1'],
  })
})

test('NaN is within no bounds', async () => {
  await register(
    stage.query,
    'sqp',
    'measured',
    fromQuery('select * from public.origin', { quality: [{ check: 'sql', name: 'mean', query: `select 'NaN'::float8`, min: 0 }] }),
  )
  expect((await stage.refresh('measured')).measured).toMatchObject({
    state: 'failed',
    error: 'sqp.measured was not published: mean is NaN, allowed is at least 0',
  })
})

test.each([
  [{ check: 'null_ratio', column: 'nothing', max: 0 }, 'check null_ratio of sqp.measured can not be measured: column "nothing" does not exist'],
  [{ check: 'sql', name: 'many', query: 'select id from {staging}' }, 'check many of sqp.measured can not be measured: more than one row'],
  [{ check: 'sql', name: 'two', query: 'select 1); drop table public.origin; select (1' }, 'cannot insert multiple commands'],
  [{ check: 'range', column: 'name', min: 0 }, 'check range of sqp.measured can not be measured'],
])('a check that can not be measured fails the refresh at once, named: %j', async (check, says) => {
  await register(stage.query, 'sqp', 'measured', fromQuery('select * from public.origin', { quality: [check] }))
  const before = await bytesOf(stage.query, 'sqp.measured')
  expect((await stage.refresh('measured')).measured).toMatchObject({ state: 'failed', error: expect.stringContaining(says) })
  expect(await auditOf(stage.query, 'measured')).toHaveLength(2)
  expect(await bytesOf(stage.query, 'sqp.measured')).toEqual(before)
})
