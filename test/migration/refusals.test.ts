import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { migrateUp, migrationStatus, requireSchema, verifyMigrations } from '../../src/migrate.ts'
import { MigrationsRefused } from '../../src/migrate/files.ts'
import { type Draft, openStage, type Stage } from './stage.ts'

const FIRST: Draft = { tag: '0000_first', up: 'create table first ()', down: 'drop table first' }
const SECOND: Draft = { tag: '0001_second', up: 'create table second ()', down: 'drop table second' }
const THIRD: Draft = { tag: '0002_third', up: 'create table third ()', down: 'drop table third' }

/** Applies the first two, lets `spoil` do its worst, and expects `up` to refuse with these problems and to change nothing. */
async function refused(spoil: (stage: Stage) => Promise<void>, expected: { tag: string; kind: string }[]): Promise<Stage> {
  const stage = await openStage()
  await stage.write(FIRST, SECOND)
  await migrateUp(stage.context)
  await spoil(stage)
  const before = await everything(stage)
  const error = await migrateUp(stage.context, { before: () => Promise.reject(new Error('the hook ran')) }).catch(error => error)
  expect(error).toBeInstanceOf(MigrationsRefused)
  expect(error).toMatchObject({ code: 'migrate.refused', retryable: false, problems: expected })
  for (const { tag } of expected) expect(error.message).toContain(`  ${tag}: `)
  expect(await everything(stage)).toEqual(before)
  const report = await verifyMigrations(stage.context)
  expect(report.ok).toBe(false)
  expect(report.problems.filter(problem => problem.kind !== 'pending')).toMatchObject(expected)
  const states = await migrationStatus(stage.context)
  for (const { tag } of expected) expect(states.find(state => state.tag === tag)?.state).toBe(expected.find(problem => problem.tag === tag)?.kind)
  return stage
}

async function everything({ query }: Stage) {
  return query(`
    select (select array_agg(relname order by relname) from pg_class where relnamespace = 'public'::regnamespace) as tables,
      (select jsonb_agg(m order by version) from pawl.schema_migrations m) as ledger,
      (select jsonb_agg(d order by id) from drizzle.__drizzle_migrations d) as drizzle`)
}

test('an applied file that was edited is refused, by one byte', () =>
  refused(stage => stage.write(FIRST, { ...SECOND, up: `${SECOND.up} ` }, THIRD), [{ tag: '0001_second', kind: 'edited' }]).then(() => {}))

test('a down file that was edited after its migration was applied is refused', () =>
  refused(stage => stage.write({ ...FIRST, down: 'drop table if exists first' }, SECOND, THIRD), [{ tag: '0000_first', kind: 'down_edited' }]).then(() => {}))

test('an applied migration whose file is gone is refused', () =>
  refused(stage => rm(join(stage.dir, '0000_first.sql')), [{ tag: '0000_first', kind: 'missing' }]).then(() => {}))

test('an applied migration that is in neither journal nor directory is refused', () =>
  refused(stage => stage.write(FIRST, THIRD), [{ tag: '0001_second', kind: 'missing' }]).then(() => {}))

test('a pending migration older than an applied one is refused, where drizzle would skip it in silence', () =>
  refused(stage => stage.write(FIRST, { ...THIRD, when: 1_700_000_000_500 }, SECOND), [{ tag: '0002_third', kind: 'out_of_order' }]).then(() => {}))

test('a journal whose entries are not in order is refused', () =>
  refused(
    stage => stage.write(FIRST, SECOND, { ...THIRD, when: 1_700_000_000_500 }),
    [
      { tag: '0002_third', kind: 'out_of_order' },
      { tag: '0002_third', kind: 'out_of_order' },
    ],
  ).then(() => {}))

test('a journal that names a migration twice is refused', () =>
  refused(stage => stage.write(FIRST, SECOND, THIRD, { ...THIRD, when: 1_800_000_000_000 }), [{ tag: '0002_third', kind: 'duplicate' }]).then(() => {}))

test('a row that stands twice in the table of drizzle is refused: a migrator without a lock ran it twice', () =>
  refused(
    async stage =>
      void (await stage.query('insert into drizzle.__drizzle_migrations (hash, created_at) select hash, created_at from drizzle.__drizzle_migrations limit 1')),
    [{ tag: '0000_first', kind: 'duplicate' }],
  ).then(() => {}))

test('a migration that drizzle-kit migrate applied past the ledger is refused', () =>
  refused(
    async stage => {
      await stage.write(FIRST, SECOND, THIRD)
      await stage.query(`insert into drizzle.__drizzle_migrations (hash, created_at) values ('whatever', 1700000002000)`)
    },
    [{ tag: '0002_third', kind: 'unpaired' }],
  ).then(() => {}))

test('a ledger row whose row in the table of drizzle was deleted is refused', () =>
  refused(
    async stage => void (await stage.query('delete from drizzle.__drizzle_migrations where created_at = 1700000000000')),
    [{ tag: '0000_first', kind: 'unpaired' }],
  ).then(() => {}))

test('a pending migration without a down file is refused', () =>
  refused(
    async stage => {
      await stage.write(FIRST, SECOND, THIRD)
      await rm(join(stage.dir, 'down', '0002_third.sql'))
    },
    [{ tag: '0002_third', kind: 'no_down' }],
  ).then(() => {}))

test('a journal entry without a file is refused', () =>
  refused(
    async stage => {
      await stage.write(FIRST, SECOND, THIRD)
      await rm(join(stage.dir, '0002_third.sql'))
    },
    [{ tag: '0002_third', kind: 'missing' }],
  ).then(() => {}))

test('files that the journal does not name are refused, up and down', () =>
  refused(
    async stage => {
      await writeFile(join(stage.dir, '0007_stray.sql'), 'create table stray ()')
      await writeFile(join(stage.dir, 'down', '0008_stray.sql'), 'drop table stray')
    },
    [
      { tag: '0007_stray', kind: 'unlisted' },
      { tag: '0008_stray', kind: 'unlisted' },
    ],
  ).then(() => {}))

test('everything that is wrong is told at once, each with its own way out', async () => {
  const stage = await refused(
    stage => stage.write({ ...FIRST, up: 'select 1', down: 'select 2' }, { ...SECOND, up: 'select 3' }, { ...THIRD, up: 'commit' }),
    [
      { tag: '0002_third', kind: 'malformed' },
      { tag: '0000_first', kind: 'edited' },
      { tag: '0000_first', kind: 'down_edited' },
      { tag: '0001_second', kind: 'edited' },
    ],
  )
  await stage.write(FIRST, SECOND, THIRD)
  expect((await migrateUp(stage.context)).map(move => move.tag)).toEqual(['0002_third'])
  expect(await verifyMigrations(stage.context)).toEqual({ ok: true, problems: [] })
})

test('rows that the host application has in the table of drizzle are its own affair', async () => {
  const stage = await openStage()
  await stage.write(FIRST)
  await migrateUp(stage.context)
  await stage.query(`insert into drizzle.__drizzle_migrations (hash, created_at) values ('of the host', 1900000000000)`)
  await stage.write(FIRST, SECOND)
  expect((await migrateUp(stage.context)).map(move => move.tag)).toEqual(['0001_second'])
})

test('on an empty database nothing is made when the files are refused', async () => {
  const stage = await openStage()
  await stage.write({ ...FIRST, up: 'commit' })
  await expect(migrateUp(stage.context)).rejects.toMatchObject({ code: 'migrate.refused' })
  expect(await stage.query(`select from pg_namespace where nspname in ('pawl', 'drizzle')`)).toEqual([])
})

test('a directory without a journal is named', async () => {
  const stage = await openStage()
  await expect(migrateUp({ ...stage.context, dir: '/nowhere' })).rejects.toMatchObject({
    code: 'migrate.journal',
    message: expect.stringContaining('/nowhere/meta/_journal.json'),
  })
})

test('a worker refuses a schema older than its code, and accepts a newer one', async () => {
  const stage = await openStage()
  await stage.write(FIRST, SECOND)
  const tooOld = (first: string) => ({ code: 'schema.too_old', message: expect.stringContaining(first), hint: 'run pawl migrate up' })
  await expect(requireSchema(stage.query, stage.dir)).rejects.toMatchObject(tooOld('2 of 2 migrations, the first is 0000_first'))
  await migrateUp(stage.context, { to: '0000_first' })
  await expect(requireSchema(stage.query, stage.dir)).rejects.toMatchObject(tooOld('1 of 2 migrations, the first is 0001_second'))
  await migrateUp(stage.context)
  await requireSchema(stage.query, stage.dir)
  await stage.write(FIRST)
  await requireSchema(stage.query, stage.dir)
})
