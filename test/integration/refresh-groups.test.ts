import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, beforeAll, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect, type Database } from '../../src/database.ts'
import { loadTable } from '../../workers/refresh/load.ts'
import { handlerOptions, takeLease, workAll, workOne } from '../support/engine.ts'
import { actBefore, auditOf, bytesOf, register } from '../support/refresh-publish.ts'
import { fromQuery, openRefreshStage, type RefreshStage, registerTable } from '../support/refresh.ts'

const group = { publish_group: 'flip' }
const columns = 'id integer primary key, g integer'
const totals = `select 1 as id, max(g) as g, count(*)::integer as n, (select max(g) from sqp.west) as west from sqp.east`
const allCompleted = { east: 'completed', west: 'completed', totals: 'completed' }
const tables = ['sqp.east', 'sqp.west', 'sqp.totals']
let stage: RefreshStage
let directory = ''

beforeAll(async () => {
  stage = await openRefreshStage()
  directory = await mkdtemp(join(tmpdir(), 'pawl-groups-'))
})
afterAll(async () => {
  await stage.end()
  await rm(directory, { recursive: true })
})

const types = { id: 'INTEGER', g: 'INTEGER' }
const csv = (table: string, more = {}) => ({
  source: 'duckdb',
  files: join(directory, `${table}.csv`),
  options: { header: true, types },
  ...group,
  ...more,
})

/** The files of both sources now hold this generation: rows come, go and change. */
async function write(generation: number, rows = 300): Promise<void> {
  const lines = Array.from({ length: rows }, (_, i) => `${i + generation},${generation}`)
  for (const table of ['east', 'west']) await writeFile(join(directory, `${table}.csv`), `id,g\n${lines.join('\n')}\n`)
}

/** Two tables from files and their summary, all of one group and one generation. */
beforeEach(async () => {
  await stage.query(
    `drop table if exists ${tables.join(', ')}; delete from sqp.refresh_config where table_name in ('east', 'west', 'totals'); delete from sqp.refresh_audit_log`,
  )
  await write(1)
  await registerTable(stage.query, 'east', columns, csv('east'))
  await registerTable(stage.query, 'west', columns, csv('west'))
  await registerTable(stage.query, 'totals', `${columns}, n integer, west integer`, fromQuery(totals, group), { dependencies: ['east', 'west'] })
  await stage.refresh('totals', 'all')
})

const states = async (steps: Awaited<ReturnType<RefreshStage['steps']>>) =>
  Object.fromEntries(Object.entries(steps).map(([table, { state }]) => [table, state]))
const bytes = () => Promise.all(tables.map(table => bytesOf(stage.query, table)))
const everyG = 'select g from sqp.east union select g from sqp.west union select g from sqp.totals union select west from sqp.totals'
const generations = async () => (await stage.query<{ g: number }>(everyG)).map(({ g }) => g)
const ask = async () => (await stage.query<{ run: number }>(`select pawl.refresh_table('totals', 'all') as run`))[0]?.run ?? 0

test('1,000 reads over three tables during 20 publishes see one generation each, in READ COMMITTED and REPEATABLE READ', async () => {
  let publishing = true
  let [mixed, reads] = [0, 0]
  const seen = new Set<number>()
  const look = 'select (select array_agg(distinct g) from sqp.east) as east, (select count(*) from sqp.east) as n'
  const rest = '(select array_agg(distinct g) from sqp.west) as west, (select row(g, n, west)::text from sqp.totals) as totals'
  const reader = async (repeatable: boolean) => {
    const connection = await connectDirect(readConfig({ DATABASE_URL: stage.db.url }), 'reader')
    for (let turn = 0; publishing || turn < 250; turn += 1) {
      if (repeatable) await connection.query('begin isolation level repeatable read')
      const [first] = await connection.query<{ east: number[]; n: number; west?: number[]; totals?: string }>(repeatable ? look : `${look}, ${rest}`)
      const [second] = repeatable ? await connection.query<{ west: number[]; totals: string }>(`select ${rest}`) : [first]
      if (repeatable) await connection.query('commit')
      const g = first?.east[0]
      if (g === undefined || `${first?.east}/${second?.west}/${first?.n}` !== `${g}/${g}/300` || second?.totals !== `(${g},300,${g})`) mixed += 1
      seen.add(g ?? -1)
      reads += 1
    }
    await connection.close()
  }
  const readers = [false, false, true, true].map(reader)
  for (let generation = 2; generation <= 21; generation += 1) {
    await write(generation)
    expect(await states(await stage.refresh('totals', 'all'))).toEqual(allCompleted)
  }
  publishing = false
  await Promise.all(readers)
  expect(mixed).toBe(0)
  expect(reads).toBeGreaterThanOrEqual(1000)
  expect(seen.size).toBeGreaterThan(15)
}, 240_000)

test.each(['east', 'totals'])('a breached gate of %s leaves all tables as they were and ends all runs; a retry reads again and publishes all', async table => {
  const quality = [{ check: 'row_count', max: table === 'east' ? 299 : 0 }]
  await register(stage.query, 'sqp', table, table === 'east' ? csv('east', { quality }) : fromQuery(totals, { ...group, quality }))
  await write(2)
  const standing = await bytes()
  const steps = await stage.refresh('totals', 'all')
  expect(await bytes()).toEqual(standing)
  expect(await states(steps)).toEqual({ east: 'skipped', west: 'skipped', totals: 'failed' })
  expect(steps.totals?.error).toContain(`sqp.${table} was not published: row_count is`)
  expect(steps.west?.error).toBe(`${steps.totals?.run_id} failed: ${steps.totals?.error}`)
  expect(await stage.query(`select count(*) as running from sqp.refresh_audit_log where status = 'running'`)).toEqual([{ running: 0 }])
  await write(3, 200)
  await register(stage.query, 'sqp', table, table === 'east' ? csv('east', { quality }) : fromQuery(totals, group))
  await stage.query('select pawl.retry($1)', [steps.totals?.run_id])
  await stage.work()
  expect(await states(await stage.steps(steps.totals?.run ?? 0))).toEqual(allCompleted)
  expect(await generations()).toEqual([3])
})

test.each(['east', 'west'])('when %s can not be read, the others are skipped for it, whichever came first, and follow its retry', async table => {
  await write(2)
  await rm(join(directory, `${table}.csv`))
  const steps = await stage.refresh('totals', 'all')
  expect(await states(steps)).toEqual({ east: 'skipped', west: 'skipped', totals: 'skipped', [table]: 'failed' })
  for (const other of tables.map(name => name.slice(4)).filter(name => name !== table))
    expect(steps[other]?.error).toContain(`${steps[table]?.run_id} failed: `)
  await write(4)
  await stage.query('select pawl.retry($1)', [steps[table]?.run_id])
  await stage.work()
  expect(await states(await stage.steps(steps.totals?.run ?? 0))).toEqual(allCompleted)
  expect(await generations()).toEqual([4])
})

test('two workers whose tables get ready at the same moment: one lies down, the other publishes both, ten times over', async () => {
  const lease = await takeLease(stage.db, 'second', ['refresh.load'])
  await registerTable(stage.query, 'totals', columns, fromQuery(totals), { dependencies: ['east', 'west'] })
  for (let generation = 2; generation <= 11; generation += 1) {
    await write(generation)
    const run = await ask()
    let arrived = 0
    let open = () => {}
    const both = new Promise<void>(resolve => {
      open = resolve
    })
    const query: Database['query'] = async (text, values) => {
      if (text.includes('pawl.stage_refresh')) {
        if ((arrived += 1) === 2) open()
        await both
      }
      return stage.db.query(text, values)
    }
    const db = { ...stage.db, query }
    const settled = await Promise.all([workOne(loadTable, { ...stage.options, db }), workOne(loadTable, { ...handlerOptions(stage.db, lease), db })])
    expect(settled.map(one => one?.output.outcome).sort()).toEqual(['completed', 'parked'])
    await stage.work()
    expect(await states(await stage.steps(run))).toEqual(allCompleted)
    expect(await generations()).toEqual([generation])
  }
  await lease.stop()
})

test.each(['truncate', 'drop table'])('staged rows of a parked member that are lost (%s) are read again, and then all is published', async loss => {
  await write(2)
  const run = await ask()
  expect((await workOne(loadTable, stage.options))?.output.outcome).toBe('parked')
  const [staged] = await stage.query<{ name: string; member: string }>(
    `select c.oid::regclass::text as name, s.table_name as member from pg_class c join pawl.refresh_steps s on c.relname like 'refresh\\_' || s.refresh_run || '\\_' || s.config_id || '\\_%' and s.staged_at is not null
     where relnamespace = 'pawl_stage'::regnamespace`,
  )
  await stage.query(`${loss} ${staged?.name}`)
  expect(await stage.work()).not.toContain('failed')
  expect(await states(await stage.steps(run))).toEqual(allCompleted)
  expect(await generations()).toEqual([2])
  expect(await auditOf(stage.query, staged?.member.slice(4) ?? '')).toMatchObject([{ status: 'success' }, { status: 'success' }])
})

test('a publisher that dies before its commit is followed by another worker, which publishes all', async () => {
  await write(2)
  const run = await ask()
  const standing = await bytes()
  const doomed = await takeLease(stage.db, 'doomed', ['refresh.load'])
  await new Promise<void>(resolve => {
    let dead = false
    const dying = actBefore(
      stage.db,
      text => text.startsWith('select pawl.finish_refresh'),
      async () => {
        dead = true
        throw new Error('the server rolls back what a dead worker has left open')
      },
    )
    // What is dead says nothing more.
    const query: Database['query'] = (text, values) => {
      if (!dead) return stage.db.query(text, values)
      resolve()
      return new Promise(() => {})
    }
    void workAll(loadTable, { ...handlerOptions(stage.db, doomed), db: { ...dying, query } })
  })
  await doomed.die()
  await stage.query(`update pawl.leases set seen_at = now() - interval '3 seconds' where id = $1`, [doomed.id])
  expect(await bytes()).toEqual(standing)
  expect(await stage.query('select * from pawl.beat($1, $2, $3, true)', [stage.lease.id, [], '10 seconds'])).toMatchObject([{ reason: 'dead' }])
  await stage.work()
  expect(await states(await stage.steps(run))).toEqual(allCompleted)
  expect(await generations()).toEqual([2])
})

test('someone else who writes a member between look and act makes it look again, at all of them', async () => {
  await write(2)
  await ask()
  let looks = 0
  const deletes = (text: string) => text.startsWith('with done as (delete from "sqp"."west"')
  const counted = actBefore(stage.db, deletes, () => stage.query('delete from sqp.west where id = 1'))
  const db: Database = {
    ...counted,
    transact: (work, given) =>
      counted.transact(
        (query, copy) =>
          work((text, values) => {
            if (deletes(text)) looks += 1
            return query(text, values)
          }, copy),
        given,
      ),
  }
  expect(await workAll(loadTable, { ...stage.options, db })).toEqual(['parked', 'parked', 'completed'])
  // The row that went on its own leaves nothing to delete.
  expect(looks).toBe(1)
  expect(
    await stage.query(
      `select table_name, rows_deleted from pawl.refresh_steps where place > (select max(place) - 3 from pawl.refresh_steps) order by table_name`,
    ),
  ).toMatchObject([
    { table_name: 'sqp.east', rows_deleted: 1 },
    { table_name: 'sqp.totals', rows_deleted: 0 },
    { table_name: 'sqp.west', rows_deleted: 0 },
  ])
  expect(await generations()).toEqual([2])
})

test('a parked member that is cancelled while the last one publishes keeps all of them from it', async () => {
  await write(2)
  const standing = await bytes()
  const run = await ask()
  const db = actBefore(
    stage.db,
    text => text.startsWith('with done as ('),
    () => stage.query(`select pawl.cancel(run_id, 'not today') from pawl.refresh_steps where table_name = 'sqp.east' and outcome is null`),
  )
  await workAll(loadTable, { ...stage.options, db })
  const steps = await stage.steps(run)
  expect(await states(steps)).toEqual({ east: 'cancelled', west: 'skipped', totals: 'skipped' })
  expect(steps.totals?.error).toContain(`${steps.east?.run_id} was cancelled by`)
  expect(await bytes()).toEqual(standing)
})
