import { expect, test } from 'vitest'
import { migrateDown, migrateUp, verifyMigrations } from '../../src/migrate.ts'
import { until } from '../support/until.ts'
import { migrateTogether, startReplica } from './replicas.ts'
import { openStage, type Stage } from './stage.ts'

const ROWS = { tag: '0000_rows', up: 'create table rows as select n from generate_series(1, 1000) n', down: 'drop table rows' }
const INDEX = {
  tag: '0001_index',
  up: '-- pawl:no-transaction\ncreate index concurrently if not exists rows_n on rows (n);',
  down: '-- pawl:no-transaction\ndrop index concurrently if exists rows_n;',
}

async function indexes(stage: Stage) {
  return stage.query<{ name: string; valid: boolean }>(`
    select relname as name, indisvalid as valid from pg_index join pg_class c on c.oid = indexrelid where indrelid = 'rows'::regclass order by 1`)
}

/** Opens a transaction that wrote to the table: `create index concurrently` waits for its end. */
async function openWriter(stage: Stage) {
  const writer = await stage.connect('writer')
  await writer.query('begin; update rows set n = n where n = 1')
  return writer
}

const building = async (stage: Stage) => (await stage.sessions(`query like '%create index concurrently%' and wait_event_type = 'Lock'`)) > 0

test('an index is built without a transaction, and taken back', async () => {
  const stage = await openStage()
  await stage.write(ROWS, INDEX)
  await migrateUp(stage.context)
  expect(await indexes(stage)).toEqual([{ name: 'rows_n', valid: true }])
  await migrateDown(stage.context)
  expect(await indexes(stage)).toEqual([])
  expect(await stage.applied()).toEqual(['0000_rows'])
})

test('the same statement in a transaction is what PostgreSQL refuses', async () => {
  const stage = await openStage()
  await stage.write(ROWS, { ...INDEX, up: 'create index concurrently if not exists rows_n on rows (n);' })
  await expect(migrateUp(stage.context)).rejects.toMatchObject({
    code: 'migrate.failed',
    message: expect.stringContaining('cannot run inside a transaction block'),
  })
})

test('a build that was killed is not recorded; its invalid index is dropped and built anew', async () => {
  const stage = await openStage()
  await stage.write(ROWS)
  await migrateUp(stage.context)
  const writer = await openWriter(stage)
  await stage.write(ROWS, INDEX)
  const replica = await startReplica(stage)
  replica.go()
  await until('the index is being built', () => building(stage))
  replica.child.kill('SIGKILL')
  await until('the server notices', async () => !(await building(stage)))
  expect(await indexes(stage)).toEqual([{ name: 'rows_n', valid: false }])
  expect(await stage.applied()).toEqual(['0000_rows'])
  expect(await verifyMigrations(stage.context)).toMatchObject({ ok: false, problems: [{ kind: 'pending' }, { kind: 'invalid_index', tag: 'public.rows_n' }] })

  await writer.query('commit')
  await migrateUp(stage.context)
  expect(await indexes(stage)).toEqual([{ name: 'rows_n', valid: true }])
  expect(await verifyMigrations(stage.context)).toEqual({ ok: true, problems: [] })
})

test('an index that is being built right now is no finding', async () => {
  const stage = await openStage()
  await stage.write(ROWS)
  await migrateUp(stage.context)
  const writer = await openWriter(stage)
  const builder = await stage.connect('builder')
  const built = builder.query('create index concurrently rows_n on rows (n)')
  await until('the index is being built', () => building(stage))
  expect(await indexes(stage)).toEqual([{ name: 'rows_n', valid: false }])
  expect(await verifyMigrations(stage.context)).toEqual({ ok: true, problems: [] })
  await writer.query('commit')
  await built
})

test('a unique index that cannot be leaves no invalid index behind to refuse rows', async () => {
  const stage = await openStage()
  await stage.write(ROWS, {
    tag: '0001_unique',
    up: '-- pawl:no-transaction\ninsert into rows values (1000);\n--> statement-breakpoint\ncreate unique index concurrently if not exists "Rows N" on "rows" (n);',
  })
  await expect(migrateUp(stage.context)).rejects.toMatchObject({
    code: 'migrate.failed',
    message: expect.stringContaining('line 4'),
    hint: expect.stringContaining('will run again'),
  })
  expect(await indexes(stage)).toEqual([])
  expect(await stage.applied()).toEqual(['0000_rows'])
})

test('a file whose index is invalid at the end is not recorded', async () => {
  const stage = await openStage()
  await stage.write(ROWS, {
    ...INDEX,
    up: `${INDEX.up}\n--> statement-breakpoint\nupdate pg_index set indisvalid = false where indexrelid = 'rows_n'::regclass`,
  })
  await expect(migrateUp(stage.context)).rejects.toMatchObject({ code: 'migrate.failed', message: expect.stringContaining('public.rows_n') })
  expect(await stage.applied()).toEqual(['0000_rows'])
})

test('an invalid index under a schema of ours fails verification, whoever left it', async () => {
  const stage = await openStage()
  await stage.write(ROWS)
  await migrateUp(stage.context)
  await stage.query(`create schema sqp; create table sqp.loads (n int); create index "odd name" on sqp.loads (n)`)
  await stage.query(`update pg_index set indisvalid = false where indexrelid = 'sqp."odd name"'::regclass`)
  expect(await verifyMigrations(stage.context)).toMatchObject({
    ok: false,
    problems: [{ kind: 'invalid_index', tag: 'sqp."odd name"', remedy: expect.stringContaining('drop index concurrently sqp."odd name"') }],
  })
})

test('replicas that wait for the builder do not deadlock with it', async () => {
  const stage = await openStage()
  await stage.write(ROWS)
  await migrateUp(stage.context)
  const writer = await openWriter(stage)
  await stage.write(ROWS, INDEX)
  const outcomes = migrateTogether(stage, 4)
  await until('the index is being built', () => building(stage))
  // The other three are connected and ask for the lock while the builder waits for every old snapshot.
  await until('four migrators', async () => (await stage.sessions(`application_name = 'pawl migrate'`)) === 4)
  await writer.query('commit')
  expect((await outcomes).map(outcome => outcome?.applied?.length ?? outcome).toSorted()).toEqual([0, 0, 0, 1])
  expect(await indexes(stage)).toEqual([{ name: 'rows_n', valid: true }])
}, 30_000)
