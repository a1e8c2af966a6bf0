import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { loadTable } from '../../workers/refresh/load.ts'
import { openEngine } from '../../workers/refresh/sources/duckdb/engine.ts'
import { startBigquery } from '../support/bigquery.ts'
import { workAll } from '../support/engine.ts'
import { fromQuery, openRefreshStage, type RefreshStage, registerTable } from '../support/refresh.ts'

let stage: RefreshStage
const dir = mkdtempSync(join(tmpdir(), 'pawl-document-003-'))
const files = join(dir, 'rows.parquet')
const ROWS = 10_000

beforeAll(async () => {
  stage = await openRefreshStage()
  const engine = await openEngine()
  await engine.rows(`copy (select i::integer as id, 'row ' || i as name from range(${ROWS}) r(i)) to '${files}' (format parquet)`)
  await engine.close()
  await stage.query('create table public.origin (id integer primary key, name text)')
})
afterAll(async () => {
  await stage.end()
  rmSync(dir, { recursive: true })
})

const columns = 'id integer primary key, name text'
const origin = fromQuery('select id, name from public.origin')
const broken = fromQuery(`select (id / (id - id))::integer as id, name from public.origin`)
const put = (...ids: number[]) =>
  stage.query(`truncate public.origin; insert into public.origin select id, 'name ' || id from unnest('{${ids.join(',')}}'::integer[]) id`)
const register = (table: string, params: Record<string, unknown>, more: Record<string, unknown> = {}) =>
  registerTable(stage.query, table, columns, params, more)
const counted = async (table: string) => (await stage.query<{ n: number }>(`select count(*) as n from sqp.${table}`))[0]?.n
const audits = (table: string) => stage.query<Record<string, unknown>>('select * from sqp.refresh_audit_log where table_name = $1 order by id', [table])
const change = (table: string, set: string) => stage.query(`update sqp.refresh_config set ${set} where table_name = $1`, [table])
const dueAt = async (table: string) => (await stage.query('select next_refresh_at as at from sqp.refresh_config where table_name = $1', [table]))[0]?.at

/** As if the minute of every plan before had passed. Returns the id of the plan, null for none. */
async function plan(): Promise<number | null> {
  await stage.query(`update pawl.refresh_runs set slot = slot - interval '1 hour' where slot is not null`)
  return (await stage.query<{ run: number | null }>('select pawl.plan_refresh() as run'))[0]?.run ?? null
}

const PAST = '2026-01-01T00:00:00Z'

test('due is what is enabled, has a source, and is not under way; by priority, each once a slot', async () => {
  await put(1)
  await register('due_low', origin, { priority: 50, next: PAST })
  await register('due_high', origin, { priority: 90, next: PAST })
  await register('due_middle', origin, { priority: 70, next: PAST })
  await register('due_later', origin, { priority: 90, next: '2126-01-01' })
  await register('due_never', origin, { priority: 90 })
  await register('due_disabled', origin, { priority: 90, next: PAST, enabled: false })
  await register('due_sourceless', {}, { priority: 90, next: PAST })
  await register('due_running', origin, { priority: 90, next: PAST })
  await stage.query(`select pawl.refresh_table('due_running')`)
  const run = await plan()
  const rows = await stage.query<{ table: string }>('select "table" from pawl.refresh_plan where run = $1', [run])
  expect(rows.map(row => row.table)).toEqual(['sqp.due_high', 'sqp.due_middle', 'sqp.due_low'])
  expect(await stage.query('select pawl.plan_refresh() as run')).toEqual([{ run: null }])
  await stage.work()
  const order = await stage.query<{ name: string }>(
    `select table_name as name from sqp.refresh_audit_log where table_name like 'due%' and table_name <> 'due_running' order by id`,
  )
  expect(order.map(row => row.name)).toEqual(['due_high', 'due_middle', 'due_low'])
  // The next slot after now, on the same hour as ever: months of downtime are one refresh behind.
  const [next] = await stage.query(
    `select next_refresh_at > now() and next_refresh_at <= now() + interval '24 hours' as soon, extract(epoch from next_refresh_at - $1::timestamptz)::bigint % 86400 as beside, last_refresh_at between now() - interval '1 minute' and now() as last
     from sqp.refresh_config where table_name = 'due_low'`,
    [PAST],
  )
  expect(next).toEqual({ soon: true, beside: 0, last: true })
  expect(await plan()).toBeNull()
})

test.each([
  ['a row of refresh_dependencies', 'row'],
  ['a name in the array of the configuration', 'array'],
])('a hard parent that fails, by %s: what follows it is skipped, names the root, keeps its turn, and runs with the next success', async (_, way) => {
  await put(1)
  const [top, middle, end] = [`hard_${way}_top`, `hard_${way}_middle`, `hard_${way}_end`]
  const ids = [await register(top, broken, { next: PAST }), await register(middle, origin, { next: PAST }), await register(end, origin, { next: PAST })]
  if (way === 'row') await stage.query(`insert into sqp.refresh_dependencies (parent_config_id, dependent_config_id) values ($1, $2), ($2, $3)`, ids)
  else
    for (const [child, parent] of [
      [middle, `sqp.${top}`],
      [end, middle],
    ] as const)
      await change(child, `dependencies = '{${parent}}'`)
  const run = await plan()
  await stage.work()
  const root = `refresh:${run}:sqp.${top}`
  const steps = await stage.steps(run ?? 0)
  expect([top, middle, end].map(table => steps[table]?.state)).toEqual(['failed', 'skipped', 'skipped'])
  for (const table of [middle, end]) {
    const [audit] = await audits(table)
    expect(audit).toMatchObject({
      status: 'failed',
      error_message: expect.stringContaining(`${root} failed: division by zero`),
      error_details: { state: 'skipped' },
    })
    expect(await dueAt(table)).toEqual(new Date(PAST))
    expect(await counted(table)).toBe(0)
  }
  expect(await dueAt(top)).not.toEqual(new Date(PAST))
  // Not planned alone, before the parent's turn.
  expect(await plan()).toBeNull()
  await change(top, `custom_sync_params = '${JSON.stringify(origin)}', next_refresh_at = now()`)
  const next = await stage.steps((await plan()) ?? 0)
  expect(Object.keys(next).toSorted()).toEqual([end, middle, top])
  await stage.work()
  expect(await Promise.all([top, middle, end].map(counted))).toEqual([1, 1, 1])
  expect((await audits(end)).map(row => row.status)).toEqual(['failed', 'success'])
})

test('a soft parent that fails: what follows it runs, marked as a warning that names it', async () => {
  await put(1, 2)
  const [parent, child] = [await register('soft_parent', broken, { next: PAST }), await register('soft_child', origin, { next: PAST })]
  await stage.query(`insert into sqp.refresh_dependencies (parent_config_id, dependent_config_id, dependency_type) values ($1, $2, 'soft')`, [parent, child])
  const run = await plan()
  await stage.work()
  expect(await stage.steps(run ?? 0)).toMatchObject({ soft_parent: { state: 'failed' }, soft_child: { state: 'warning', inserted: 2 } })
  expect((await audits('soft_child')).map(row => [row.status, row.error_message])).toEqual([
    ['warning', expect.stringContaining('sqp.soft_parent was not refreshed')],
  ])
})

test('an attempt that fails is followed by three more inside the slot, an audit row each, and then given up', async () => {
  await stage.query(`create function public.give_up() returns integer language plpgsql as $$ begin raise exception 'not now'; end $$`)
  await register('retried', fromQuery(`select public.give_up() as id, name from public.origin`), { next: PAST })
  const run = await plan()
  await stage.work()
  expect(await stage.steps(run ?? 0)).toMatchObject({ retried: { state: 'failed', error: 'not now' } })
  expect((await audits('retried')).map(row => [row.status, row.error_message, (row.sync_metadata as { attempt: number }).attempt])).toEqual(
    [1, 2, 3, 4].map(n => ['failed', 'not now', n]),
  )
})

test('an audit row has every column that applies: counts, time, memory, and what its source said', async () => {
  await put(1, 2, 3, 4)
  const id = await register('audited', origin)
  await stage.refresh('audited')
  await put(2, 3, 4, 5, 6)
  await stage.query(`update public.origin set name = 'other' where id = 2`)
  const { audited: step } = await stage.refresh('audited')
  const rows = await audits('audited')
  expect(rows).toHaveLength(2)
  expect(rows[1]).toEqual({
    id: expect.any(Number),
    refresh_config_id: id,
    table_schema: 'sqp',
    table_name: 'audited',
    refresh_started_at: expect.any(Date),
    refresh_completed_at: expect.any(Date),
    status: 'success',
    rows_processed: 5,
    rows_inserted: 2,
    rows_updated: 1,
    rows_deleted: 1,
    execution_time_ms: expect.any(Number),
    memory_used_mb: expect.stringMatching(/^\d+\.\d\d$/),
    error_message: null,
    error_details: null,
    bigquery_job_id: null,
    sync_metadata: { run_id: step?.run_id, attempt: 1, source: 'sql' },
    created_at: expect.any(Date),
  })
  const took = Number(rows[1]?.refresh_completed_at) - Number(rows[1]?.refresh_started_at)
  expect(Math.abs(took - Number(rows[1]?.execution_time_ms))).toBeLessThanOrEqual(2)
  expect(Number(rows[1]?.memory_used_mb)).toBeGreaterThan(20)
})

test('a failed attempt says why, since when and for how long, and its counts stay empty', async () => {
  await put(1)
  await register('failing', fromQuery('select 1 as id, wrong_column as name from public.origin'))
  const { failing } = await stage.refresh('failing')
  expect(failing?.state).toBe('failed')
  expect((await audits('failing')).at(-1)).toMatchObject({
    status: 'failed',
    refresh_completed_at: expect.any(Date),
    execution_time_ms: expect.any(Number),
    rows_processed: null,
    rows_inserted: null,
    error_message: expect.stringContaining('wrong_column'),
    error_details: { run_id: failing?.run_id, state: 'failed' },
  })
})

test('bigquery_job_id is that of the job that was read, and files say how many bytes they had', async () => {
  const fake = await startBigquery({
    weekly: {
      fields: [
        { name: 'id', type: 'INTEGER', mode: 'REQUIRED' },
        { name: 'name', type: 'STRING' },
      ],
      count: 10,
      row: index => [String(index), `name ${index}`],
    },
  })
  try {
    await register('from_bigquery', { source: 'bigquery', query: 'select * from `weekly`' })
    await register('from_files', { source: 'duckdb', files })
    await stage.query(`select pawl.refresh_table('from_bigquery'), pawl.refresh_table('from_files')`)
    const config = readConfig({ DATABASE_URL: stage.db.url, BIGQUERY_EMULATOR_HOST: fake.host, GOOGLE_CLOUD_PROJECT: 'shop' })
    await workAll(loadTable, { ...stage.options, config })
    const [job] = fake.jobs.keys()
    expect(await audits('from_bigquery')).toMatchObject([
      { status: 'success', rows_inserted: 10, bigquery_job_id: job, sync_metadata: { source: 'bigquery', bigquery_job_id: job } },
    ])
    expect(await audits('from_files')).toMatchObject([
      { status: 'success', rows_inserted: ROWS, bigquery_job_id: null, sync_metadata: { files: 1, bytes: expect.any(Number) } },
    ])
  } finally {
    await fake.close()
  }
})

test('a disabled table never runs: not planned, refused when asked for, left out beside others, and not even when it was planned before', async () => {
  await put(1)
  await register('off_parent', origin, { next: PAST, dependencies: [] })
  await register('off', origin, { next: PAST, enabled: false, dependencies: ['off_parent'] })
  await expect(stage.query(`select pawl.refresh_table('off')`)).rejects.toMatchObject({
    message: 'refresh of sqp.off is disabled',
    hint: expect.stringContaining('is_enabled = true'),
  })
  expect(Object.keys(await stage.steps((await plan()) ?? 0))).toEqual(['off_parent'])
  await stage.work()
  expect(Object.keys(await stage.refresh('off_parent', 'stale', true))).toEqual(['off_parent'])
  await change('off', 'is_enabled = true')
  const run = await plan()
  await change('off', 'is_enabled = false')
  await stage.work()
  expect(await stage.steps(run ?? 0)).toMatchObject({ off: { state: 'failed', error: 'refresh of sqp.off is disabled' } })
  expect(await counted('off')).toBe(0)
})
