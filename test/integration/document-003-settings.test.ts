import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadTable } from '../../workers/refresh/load.ts'
import { openEngine } from '../../workers/refresh/sources/duckdb/engine.ts'
import { workOne } from '../support/engine.ts'
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
})
afterAll(async () => {
  await stage.end()
  rmSync(dir, { recursive: true })
})

const columns = 'id integer primary key, name text'
const rows = (n: number) => `select i as id, 'name ' || i as name from generate_series(1, ${n}) i`
const register = (table: string, params: Record<string, unknown>) => registerTable(stage.query, table, columns, params)
const counted = async (table: string) => (await stage.query<{ n: number }>(`select count(*) as n from sqp.${table}`))[0]?.n
const qualities = (table: string) =>
  stage.query(
    `select metric_name as name, metric_value::float8 as value, expected_value::float8 as expected, threshold_min::float8 as min, threshold_max::float8 as max, is_within_threshold as within
     from sqp.refresh_data_quality q join sqp.refresh_audit_log a on a.id = q.audit_log_id where a.table_name = $1 order by q.id`,
    [table],
  )
const status = async (table: string) =>
  (await stage.query<{ status: string }>('select status from sqp.refresh_audit_log where table_name = $1 order by id', [table])).map(row => row.status)
const checkpoints = (table: string) =>
  stage.query<Record<string, unknown>>(
    `select function_name, status, last_processed_row, total_rows, checkpoint_data, round(extract(epoch from expires_at - clock_timestamp()) / 60)::integer as minutes_left
     from sqp.refresh_checkpoints where table_name = $1 order by id`,
    [table],
  )

test('each quality that is asked for is a row with its thresholds; a breach that warns lets the rows through', async () => {
  await register(
    'measured',
    fromQuery(rows(20), {
      quality: [
        { check: 'row_count', min: 10, max: 100 },
        { check: 'null_ratio', column: 'name', max: 0.1 },
        { check: 'range', column: 'id', min: 0, max: 15, on_breach: 'warn' },
        { check: 'sql', name: 'odd_ones', query: 'select count(*) from {staging} where id % 2 = 1', expected: 10 },
      ],
    }),
  )
  expect((await stage.refresh('measured')).measured).toMatchObject({
    state: 'warning',
    inserted: 20,
    warnings: ['range:id is 20, allowed is at least 0 and at most 15'],
  })
  expect(await qualities('measured')).toEqual([
    { name: 'row_count', value: 20, expected: null, min: 10, max: 100, within: true },
    { name: 'null_ratio:name', value: 0, expected: null, min: null, max: 0.1, within: true },
    { name: 'range:id', value: 20, expected: null, min: 0, max: 15, within: false },
    { name: 'odd_ones', value: 10, expected: 10, min: 10, max: 10, within: true },
  ])
  expect(await status('measured')).toEqual(['warning'])
})

test('a breach that blocks fails the attempt and leaves the table as it was, with the measurements kept', async () => {
  await register('guarded', fromQuery(rows(20)))
  await stage.refresh('guarded')
  await register(
    'guarded',
    fromQuery(rows(3), {
      quality: [
        { check: 'row_change', max_percent: 50 },
        { check: 'row_count', min: 1 },
      ],
    }),
  )
  const { guarded } = await stage.refresh('guarded')
  expect(guarded).toMatchObject({ state: 'failed', error: expect.stringContaining('row_change_percent is 85, allowed is at most 50') })
  expect(await counted('guarded')).toBe(20)
  expect(await qualities('guarded')).toEqual([
    { name: 'row_change_percent', value: 85, expected: 20, min: null, max: 50, within: false },
    { name: 'row_count', value: 3, expected: null, min: 1, max: null, within: true },
  ])
  // Not tried again and again: the same rows would fail the same way.
  expect(await status('guarded')).toEqual(['success', 'failed'])
})

/** Works until the first chunk is committed, and lets go as a worker does that is told to stop. */
async function workOneChunk(): Promise<void> {
  const drain = new AbortController()
  await workOne(loadTable, { ...stage.options, lanes: 1, drain: drain.signal, metrics: { ...stage.options.metrics, batches: () => drain.abort() } })
}
const fromFiles = { source: 'duckdb', files, chunk_rows: 1000 }

test('a worker that is told to stop while the source is opened or read spends no attempt', async () => {
  await register('interrupted', fromFiles)
  await stage.query(`select pawl.refresh_table('interrupted')`)
  const failures = async () => (await stage.query(`select state, failures, error from pawl.checkpoints where subject = 'sqp.interrupted'`))[0]
  await workOne(loadTable, { ...stage.options, drain: AbortSignal.abort() })
  expect(await failures()).toEqual({ state: 'pending', failures: 0, error: null })
  // Two lanes: the other one is in the middle of its reading.
  const drain = new AbortController()
  await workOne(loadTable, { ...stage.options, drain: drain.signal, metrics: { ...stage.options.metrics, batches: () => drain.abort() } })
  expect(await failures()).toEqual({ state: 'pending', failures: 0, error: null })
  await stage.work()
  expect(await failures()).toMatchObject({ state: 'completed', failures: 0 })
  expect(await status('interrupted')).toEqual(['success'])
})

test('a checkpoint is active while its table is read, found by function and table, and completed with it', async () => {
  await register('checkpointed', fromFiles)
  const [asked] = await stage.query<{ run: number }>(`select pawl.refresh_table('checkpointed') as run`)
  await workOneChunk()
  const [run] = await stage.query<{ run_id: string; done: number }>(`select run_id, done from pawl.runs where subject = 'sqp.checkpointed'`)
  expect(await checkpoints('checkpointed')).toEqual([
    {
      function_name: 'refresh.load',
      status: 'active',
      last_processed_row: 1000,
      total_rows: ROWS,
      checkpoint_data: { run_id: run?.run_id, extraction: 1, lane_0: { next: 1000, end: ROWS } },
      minutes_left: 60,
    },
  ])
  expect([run?.done, await counted('checkpointed')]).toEqual([1000, 0])
  // Each chunk renews it: an hour is for the abandoned.
  await stage.query(`update sqp.refresh_checkpoints set expires_at = now() + interval '1 minute' where table_name = 'checkpointed'`)
  await workOneChunk()
  expect(await checkpoints('checkpointed')).toMatchObject([{ status: 'active', last_processed_row: 2000, minutes_left: 60 }])
  expect(await stage.query('select sqp.expire_checkpoints() as n')).toEqual([{ n: 0 }])
  await stage.work()
  expect(await checkpoints('checkpointed')).toMatchObject([{ status: 'completed', last_processed_row: ROWS }])
  expect((await stage.steps(asked?.run ?? 0)).checkpointed).toMatchObject({ state: 'completed', inserted: ROWS })
  expect(await stage.query(`select extraction from pawl.refresh_steps where table_name = 'sqp.checkpointed'`)).toEqual([{ extraction: 1 }])
})

test('an abandoned checkpoint expires by the sweep; the run that comes back takes it up again where it was', async () => {
  await register('abandoned', fromFiles)
  await stage.query(`select pawl.refresh_table('abandoned')`)
  await workOneChunk()
  await stage.query(`update sqp.refresh_checkpoints set expires_at = now() - interval '1 second' where table_name = 'abandoned'`)
  expect(await stage.query('select sqp.expire_checkpoints() as n')).toEqual([{ n: 1 }])
  expect(await checkpoints('abandoned')).toMatchObject([{ status: 'expired', last_processed_row: 1000 }])
  await stage.work()
  expect(await checkpoints('abandoned')).toMatchObject([{ status: 'completed', last_processed_row: ROWS }])
  expect(await stage.query(`select extraction from pawl.refresh_steps where table_name = 'sqp.abandoned'`)).toEqual([{ extraction: 1 }])
})

test('an abandoned checkpoint expires by the trigger when another of its function and table is made', async () => {
  const make = `insert into sqp.refresh_checkpoints (function_name, table_schema, table_name, checkpoint_data, expires_at) values ('edge', 'sqp', 'edged', '{}', now() + $1::interval)`
  await stage.query(make, ['-1 second'])
  await stage.query(make, ['1 hour'])
  expect(await checkpoints('edged')).toMatchObject([{ status: 'expired' }, { status: 'active' }])
  await expect(stage.query(make, ['1 hour'])).rejects.toMatchObject({ code: '23505' })
})

test('a failed run’s checkpoint is expired with it', async () => {
  await register('hopeless', fromQuery('select 1 / (i - 1) as id, null as name from generate_series(1, 2) i'))
  expect((await stage.refresh('hopeless')).hopeless?.state).toBe('failed')
  expect(await checkpoints('hopeless')).toMatchObject([{ status: 'expired' }])
})

test('custom_sync_params are honoured: source, query, strategy, key, columns and size of chunk', async () => {
  await register('merged', fromQuery(rows(3)))
  await register('appended', fromQuery(rows(3), { strategy: 'append' }))
  for (const table of ['merged', 'appended']) await stage.refresh(table)
  const later = `select i as id, 'new' as name from generate_series(2, 4) i`
  await register('merged', fromQuery(later))
  await register('appended', fromQuery(later, { strategy: 'append' }))
  expect((await stage.refresh('merged')).merged).toMatchObject({ inserted: 1, updated: 2, deleted: 1 })
  expect((await stage.refresh('appended')).appended).toMatchObject({ inserted: 1, updated: 0, deleted: 0 })
  await stage.query('create table sqp.keyed (id integer, name text not null unique)')
  await registerTable(stage.query, 'keyed', columns, fromQuery(rows(5), { key: ['name'] }))
  expect((await stage.refresh('keyed')).keyed).toMatchObject({ state: 'completed', inserted: 5 })
  await register('narrow', { ...fromFiles, columns: ['id'] })
  await stage.refresh('narrow')
  expect(
    await stage.query(
      `select count(*) as n, count(name) as names, (select batch from pawl.checkpoints where subject = 'sqp.narrow') as chunks from sqp.narrow`,
    ),
  ).toEqual([{ n: ROWS, names: 0, chunks: 10 }])
})

test.each([
  ['a source that there is not', { source: 'oracle', query: 'x' }, 'source'],
  ['no query', { source: 'sql' }, 'query'],
  ['a strategy that there is not', fromQuery('select 1', { strategy: 'replace' }), 'strategy'],
  ['a misspelt setting', fromQuery('select 1', { strateggy: 'merge' }), 'strateggy'],
  ['a window without its strategy', fromQuery('select 1', { window: { column: 'id', days: 3 } }), 'window'],
  ['a chunk that is too small', { source: 'duckdb', files, chunk_bytes: 10 }, 'chunk_bytes'],
  ['a share above one', fromQuery('select 1', { quality: [{ check: 'null_ratio', column: 'id', max: 2 }] }), 'quality.0.max'],
  ['an unknown quality', fromQuery('select 1', { quality: [{ check: 'beauty' }] }), 'quality.0.check'],
])('custom_sync_params with %s are refused, naming the setting, at once and for good', async (_, params, setting) => {
  const table = 'refused'
  await register(table, params)
  const { refused } = await stage.refresh(table)
  expect(refused).toMatchObject({ state: 'failed', error: expect.stringContaining('the settings of sqp.refused are not usable') })
  expect(refused?.error).toContain(setting)
  expect(await stage.query('select failures from pawl.checkpoints where run_id = $1', [refused?.run_id])).toEqual([{ failures: 1 }])
})
