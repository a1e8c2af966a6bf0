import { drizzle } from 'drizzle-orm/node-postgres'
import { migrate } from 'drizzle-orm/node-postgres/migrator'
import { hostname } from 'node:os'
import pg from 'pg'
import { expect, test } from 'vitest'
import { migrateUp, migrationStatus, verifyMigrations } from '../../src/migrate.ts'
import { readMigrations } from '../../src/migrate/files.ts'
import { until } from '../support/until.ts'
import { openStage } from './stage.ts'

const NOTES = {
  tag: '0000_notes',
  up: 'create table notes (n integer);\n--> statement-breakpoint\ninsert into notes values (1);',
  down: 'drop table notes;',
}
const MORE = { tag: '0001_more', up: 'update notes set n = n + 100', down: 'update notes set n = n - 100' }

test('files are applied once, in order, and both ledgers say so', async () => {
  const stage = await openStage()
  await stage.write(NOTES, MORE)
  expect((await migrationStatus(stage.context)).map(state => state.state)).toEqual(['pending', 'pending'])
  expect(await migrateUp({ ...stage.context, version: '1.2.3' })).toMatchObject([
    { tag: '0000_notes', tries: 1 },
    { tag: '0001_more', tries: 1 },
  ])
  expect(await migrateUp(stage.context)).toEqual([])
  expect(await stage.query('select n from notes')).toEqual([{ n: 101 }])

  const { entries } = await readMigrations(stage.dir)
  const ledger = await stage.query(`select *, applied_at > now() - interval '1 minute' as recent from pawl.schema_migrations order by version`)
  expect(ledger).toMatchObject(
    entries.map(entry => ({
      version: entry.tag,
      recent: true,
      checksum: entry.up?.checksum,
      rollback_sql: entry.down?.text,
      rollback_checksum: entry.down?.checksum,
      applied_by: decodeURIComponent(new URL(stage.url).username),
      duration_ms: expect.any(Number),
      host: hostname(),
      app_version: '1.2.3',
      journal_when: entry.when,
    })),
  )
  expect(await migrationStatus(stage.context)).toMatchObject(
    entries.map(entry => ({
      tag: entry.tag,
      state: 'applied',
      appliedAt: expect.any(Date),
      checksum: entry.up?.checksum,
      appliedChecksum: entry.up?.checksum,
    })),
  )
  expect(await verifyMigrations(stage.context)).toEqual({ ok: true, problems: [] })
})

test('drizzle itself finds nothing left to do afterwards', async () => {
  const stage = await openStage()
  await stage.write(NOTES, MORE)
  await migrateUp(stage.context)
  const pool = new pg.Pool({ connectionString: stage.url, max: 1 })
  try {
    await migrate(drizzle({ client: pool }), { migrationsFolder: stage.dir })
  } finally {
    await pool.end()
  }
  expect(await stage.query('select n from notes')).toEqual([{ n: 101 }])
  const { entries } = await readMigrations(stage.dir)
  expect(await stage.query('select hash, created_at from drizzle.__drizzle_migrations order by id')).toEqual(
    entries.map(entry => ({ hash: entry.up?.checksum, created_at: entry.when })),
  )
})

test('the columns of the document are there, with its types and defaults', async () => {
  const stage = await openStage()
  await stage.write()
  await migrateUp(stage.context)
  await stage.query(`insert into pawl.schema_migrations (version, rollback_sql) values ('004_add_template_versioning', 'alter table …')`)
  expect(await stage.query('select applied_by = current_user as by_me, applied_at is not null as stamped from pawl.schema_migrations')).toEqual([
    { by_me: true, stamped: true },
  ])
  expect(
    await stage
      .query(`
    select column_name || ' ' || data_type || coalesce(character_maximum_length::text, '') as c
    from information_schema.columns where table_schema = 'pawl' and table_name = 'schema_migrations' and ordinal_position <= 5 order by ordinal_position`)
      .then(rows => rows.map(row => row.c)),
  ).toEqual([
    'version character varying255',
    'applied_at timestamp with time zone',
    'rollback_sql text',
    'checksum character varying64',
    'applied_by character varying255',
  ])
})

test('up stops behind the migration it was told', async () => {
  const stage = await openStage()
  await stage.write(NOTES, MORE)
  expect((await migrateUp(stage.context, { to: '0000_notes' })).map(move => move.tag)).toEqual(['0000_notes'])
  expect(await verifyMigrations(stage.context)).toMatchObject({ ok: false, problems: [{ kind: 'pending', tag: '0001_more' }] })
  await expect(migrateUp(stage.context, { to: '0009_nothing' })).rejects.toMatchObject({ code: 'migrate.refused', problems: [{ tag: '0009_nothing' }] })
})

test('a file that fails leaves nothing of itself, and the message says where', async () => {
  const stage = await openStage()
  await stage.write(NOTES, { tag: '0001_bad', up: 'insert into notes values (2);\n--> statement-breakpoint\n-- next\nselect 1,\n  nonsense;' })
  const error = await migrateUp(stage.context).catch(error => error)
  expect(error).toMatchObject({
    code: 'migrate.failed',
    message: 'migration 0001_bad failed at line 5: column "nonsense" does not exist',
    retryable: false,
    hint: 'nothing of the file was applied',
  })
  expect(await stage.applied()).toEqual(['0000_notes'])
  expect(await stage.query('select n from notes')).toEqual([{ n: 1 }])
  await stage.write(NOTES, MORE)
  await migrateUp(stage.context)
  expect(await stage.query('select n from notes')).toEqual([{ n: 101 }])
})

test('a file that ends its transaction behind our back is found out and not recorded', async () => {
  const stage = await openStage()
  await stage.write({ tag: '0000_sly', up: 'create table kept ();\n--> statement-breakpoint\n/* nothing to see */ end;' })
  await expect(migrateUp(stage.context)).rejects.toMatchObject({ code: 'migrate.failed', message: expect.stringContaining('ended its own transaction') })
  expect(await stage.applied()).toEqual([])
})

test('what a file sets does not reach the next one, nor does the name of the role decide where tables land', async () => {
  const stage = await openStage()
  const role = decodeURIComponent(new URL(stage.url).username)
  await stage.query(`create schema "${role}"; create schema elsewhere`)
  await stage.write(
    { tag: '0000_sets', up: `set search_path = elsewhere; set statement_timeout = '1s'; create table strayed ()` },
    { tag: '0001_lands', up: `create table landed as select current_setting('statement_timeout') as timeout, current_setting('timezone') as zone` },
  )
  await migrateUp(stage.context)
  expect(await stage.query('select * from public.landed')).toEqual([{ timeout: '0', zone: 'UTC' }])
})

test('the steps before and after run under the lock, around the files, also when none is pending', async () => {
  const stage = await openStage()
  await stage.write({ tag: '0000_uses', up: 'insert into prepared values (1)' })
  const seen: unknown[] = []
  const steps = {
    before: async (query: typeof stage.query) => void (await query('create table if not exists prepared (n integer)')),
    after: async (query: typeof stage.query) => {
      const [lock] = await stage.query(`select pg_try_advisory_lock(1885435756, 0) as got`)
      seen.push([lock, ...(await query('select n from prepared'))])
    },
  }
  await migrateUp(stage.context, steps)
  await migrateUp(stage.context, steps)
  expect(seen).toEqual([
    [{ got: false }, { n: 1 }],
    [{ got: false }, { n: 1 }],
  ])
})

test('a reader that holds the table for 5 s delays nobody else by more than the lock timeout, and the migration lands', async () => {
  const stage = await openStage()
  await stage.write(NOTES)
  await migrateUp(stage.context)
  const reader = await stage.connect('reader')
  await reader.query('begin; select * from notes')
  const released = reader.query('select pg_sleep(5)').then(() => reader.query('commit'))

  await stage.write(NOTES, { tag: '0001_column', up: 'alter table notes add column text text' })
  const moved = migrateUp(stage.context)
  const waits: number[] = []
  const other = await stage.connect('other')
  while ((await stage.applied()).length < 2) {
    const startedAt = performance.now()
    await other.query('select n from notes')
    waits.push(performance.now() - startedAt)
  }
  await released
  const [move] = await moved
  expect(move).toMatchObject({ tag: '0001_column' })
  expect(move?.tries).toBeGreaterThan(1)
  // At least one query did queue behind the waiting `alter table`, or this test proves nothing.
  expect(Math.max(...waits)).toBeGreaterThan(500)
  expect(Math.max(...waits)).toBeLessThan(3_500)
}, 30_000)

test('a deadlock with other work is tried again', async () => {
  const stage = await openStage()
  await stage.write({ tag: '0000_two', up: 'create table a (n int);\n--> statement-breakpoint\ncreate table b (n int)' })
  await migrateUp(stage.context)
  // The other side is patient, so that PostgreSQL ends the migration and not the worker.
  const worker = await stage.connect('worker')
  await worker.query(`set deadlock_timeout = '10s'; begin; lock table b in access exclusive mode`)
  await stage.write(
    { tag: '0000_two', up: 'create table a (n int);\n--> statement-breakpoint\ncreate table b (n int)' },
    {
      tag: '0001_both',
      up: `set local deadlock_timeout = '50ms';\n--> statement-breakpoint\nlock table a;\n--> statement-breakpoint\nlock table b`,
    },
  )
  const moved = migrateUp(stage.context)
  await until('the migration waits for the table', async () => (await stage.sessions(`application_name = 'pawl migrate' and wait_event_type = 'Lock'`)) > 0)
  await worker.query('lock table a')
  await worker.query('commit')
  expect(await moved).toMatchObject([{ tag: '0001_both', tries: 2 }])
}, 30_000)

test('a table that never comes free is given up after ten tries, with the reason', async () => {
  const stage = await openStage()
  await stage.write(NOTES)
  await migrateUp(stage.context)
  const holder = await stage.connect('holder')
  await holder.query('begin; lock table notes')
  // A clock that does not wait, and a file that asks for its lock without patience: ten tries in no time.
  const clock = { ...stage.context.clock, sleep: async () => {} }
  await stage.write(NOTES, { tag: '0001_column', up: `set local lock_timeout = '10ms';\n--> statement-breakpoint\nalter table notes add column text text` })
  await expect(migrateUp({ ...stage.context, clock })).rejects.toMatchObject({
    code: 'migrate.blocked',
    retryable: true,
    message: expect.stringContaining('in 10 tries'),
  })
  expect(await stage.applied()).toEqual(['0000_notes'])
})
