import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import { newIdentity } from '../../src/seal.ts'
import { openStore } from '../../src/store.ts'
import { manifestSchema } from '../../workers/maintenance/backups/manifest.ts'
import { takeBackup } from '../../workers/maintenance/backups/take.ts'
import { collect, sha256 } from '../support/store.ts'
import { until } from '../support/until.ts'
import { contentOf, emptyDatabase, openTakeStage, shell } from './take-stage.ts'

/** Writes until told to stop: transfers, new and removed rows without a pause, and now and then `truncate` and a table that comes and goes. */
function startWriters(url: string) {
  let isOver = false
  const rounds = [0, 0, 0, 0]
  const statements = [
    // One statement: a moment at which the sum is another does not exist.
    `with moved as (update accounts set amount = amount - 7 where id = (select 1 + floor(random() * 100)::integer) returning 7 as sum)
     update accounts set amount = amount + (select sum(sum) from moved) where id = (select 101 + floor(random() * 100)::integer)`,
    `insert into "Shop ""A"""."held" (held, ratio) values ('new', random());
     delete from "Shop ""A"""."held" where id = (select min(id) from "Shop ""A"""."held")`,
    `begin; truncate churn; insert into churn select i from generate_series(1, 50) i; commit; select pg_sleep(0.7)`,
    `create table if not exists passing (n integer); insert into passing values (1); select pg_sleep(0.1); drop table passing; select pg_sleep(0.7)`,
  ]
  const writers = statements.map(async (statement, which) => {
    const connection = await connectDirect(readConfig({ DATABASE_URL: url }), 'writer')
    try {
      while (!isOver) {
        await connection.query(statement)
        rounds[which] = (rounds[which] ?? 0) + 1
      }
    } finally {
      await connection.close()
    }
  })
  const all = Promise.all(writers)
  all.catch(() => {})
  return {
    rounds,
    stop: () => {
      isOver = true
      return all
    },
  }
}

test('a backup holds one moment of a database that is written to, and stock tools open it', async () => {
  const key = await newIdentity()
  const stage = await openTakeStage({ PAWL_BACKUP_RECIPIENTS: key.recipient })
  await stage.db.query('create table churn (n integer); insert into churn select i from generate_series(1, 50) i')
  const writers = startWriters(stage.db.url)
  onTestFinished(() => void writers.stop().catch(() => {}))
  await until('all write', () => writers.rounds.every(rounds => rounds > 1))
  const before = [...writers.rounds]
  const { stored, identities } = await takeBackup(stage.context(), { kind: 'daily', scope: 'full' })
  const during = writers.rounds.map((rounds, which) => rounds - (before[which] ?? 0))
  await writers.stop()
  // Those who truncate and drop wait for the backup; the others don't.
  for (const rounds of during.slice(0, 2)) expect(rounds).toBeGreaterThan(3)

  const { manifest } = stored
  const name = new RegExp(`^${new URL(stage.db.url).pathname.slice(1)}-${manifest.cluster}-\\d{8}T\\d{6}Z-daily-[0-9a-f]{8}$`)
  expect(manifest.name).toMatch(name)
  expect(await stage.files()).toEqual([`${manifest.name}.dump.zst.age`, `${manifest.name}.manifest.json`, `${manifest.name}.roles.zst.age`])
  expect(manifest.sealed).toEqual({ compression: 'zstd', recipients: [key.recipient] })
  expect(identities).toEqual([expect.stringMatching(/^AGE-SECRET-KEY-1/)])
  // Everything was told, once; nothing else was written beside.
  expect(stage.progress.at(-1)).toEqual({ step: 'dump', done: manifest.tables.length, total: manifest.tables.length })
  const names = manifest.tables.map(table => `${table.schema}.${table.name}`)
  expect(names).toEqual(
    expect.arrayContaining(['Shop "A".held', 'public.measured_2026_01', 'public.staging', 'pgboss.job_common', 'drizzle.__drizzle_migrations']),
  )
  for (const absent of ['public.measured', 'public.summed']) expect(names).not.toContain(absent)
  expect(manifest.tables.find(table => table.name === 'churn')?.rows).toBe(50)

  const copy = await emptyDatabase()
  const identity = join(stage.directory, 'key')
  for (const own of [key.identity, identities[0] ?? '']) {
    await writeFile(identity, own)
    const listed = await shell(
      `age -d -i ${identity} ${stage.directory}/${manifest.files.dump.key} | zstd -d > ${identity}.dump; pg_restore --list ${identity}.dump`,
    )
    expect(listed).toContain('TABLE DATA public accounts')
  }
  await shell(`age -d -i ${identity} ${stage.directory}/${manifest.files.dump.key} | zstd -d | pg_restore --exit-on-error -d '${copy.url}'`)
  const found = await contentOf(copy)
  expect(found.tables).toEqual(manifest.tables)
  for (const { schema, name: sequence, value } of manifest.sequences) {
    const restored = found.sequences.find(other => other.schema === schema && other.name === sequence)
    expect(restored, sequence).toBeDefined()
    if (value !== null) expect(Number(restored?.value), sequence).toBeGreaterThanOrEqual(Number(value))
  }
  expect(await copy.query('select sum(amount)::integer as sum from accounts')).toEqual([{ sum: 200_000 }])
  expect(await copy.query('select encode(lo_get(4711), $1) as blob, (select total from summed)::integer as total', ['hex'])).toEqual([
    { blob: '0102', total: 200_000 },
  ])
  const roles = await shell(`age -d -i ${identity} ${stage.directory}/${manifest.files.roles?.key} | zstd -d`)
  expect(roles).toContain('CREATE ROLE pawl_worker')
  expect(roles).not.toMatch(/PASSWORD/)
})

test('every hash notices one changed character, a row more and a row twice; none notices the order', async () => {
  const stage = await openTakeStage()
  const hashOf = async (table: string) => (await contentOf(stage.db)).tables.find(({ name }) => name === table)
  const before = await hashOf('accounts')
  for (const change of ['update accounts set amount = 1001 where id = 9', 'insert into accounts values (9999, 0)']) {
    await stage.db.query(change)
    expect((await hashOf('accounts'))?.hash).not.toBe(before?.hash)
  }
  await stage.db.query('delete from accounts where id = 9999; update accounts set amount = 1000 where id = 9')
  await stage.db.query('create table again as select * from accounts order by id desc; drop table accounts cascade; alter table again rename to accounts')
  expect(await hashOf('accounts')).toEqual(before)
  const staging = await hashOf('staging')
  await stage.db.query('insert into staging select n from staging limit 1')
  expect(await hashOf('staging')).not.toEqual(staging)
  await stage.db.query('create table empty (n integer); create table "none" ()')
  expect(await hashOf('empty')).toMatchObject({ rows: 0, hash: '0' })
})

test('texts of rows do not depend on the settings of the database or the login', async () => {
  const stage = await openTakeStage()
  const before = (await contentOf(stage.db)).tables
  const database = new URL(stage.db.url).pathname.slice(1)
  for (const setting of [
    `datestyle = 'German'`,
    `timezone = 'Asia/Kathmandu'`,
    'extra_float_digits = -15',
    `bytea_output = 'escape'`,
    `intervalstyle = 'iso_8601'`,
  ]) {
    await stage.db.query(`alter database ${database} set ${setting}`)
  }
  expect((await contentOf(stage.db)).tables).toEqual(before)
})

for (const [word, extension, opening] of [
  ['gzip', '.gz', 'gzip -dc'],
  ['none', '', 'cat'],
] as const) {
  test(`a backup with compression ${word} and no recipients is opened by ${opening}`, async () => {
    const stage = await openTakeStage({ BACKUP_COMPRESSION: word })
    const { stored, identities } = await takeBackup(stage.context(), { kind: 'manual', scope: 'full' })
    expect(identities).toEqual([])
    expect(stored.manifest.files.dump.key).toBe(`${stored.manifest.name}.dump${extension}`)
    const copy = await emptyDatabase()
    await shell(`${opening} ${stage.directory}/${stored.manifest.files.dump.key} | pg_restore --exit-on-error -d '${copy.url}'`)
    expect((await contentOf(copy)).tables).toEqual(stored.manifest.tables)
  })
}

test('the manifest is what the store has, of the very files beside it', async () => {
  const stage = await openTakeStage()
  const { stored } = await takeBackup(stage.context(), { kind: 'weekly', scope: 'full' })
  const store = openStore(stage.directory, { config: readConfig({}) })
  const text = await collect(store.read(`${stored.manifest.name}.manifest.json`))
  expect(sha256(text)).toBe(stored.manifestSha256)
  expect(manifestSchema.parse(JSON.parse(text.toString()))).toEqual(stored.manifest)
  for (const file of Object.values(stored.manifest.files).filter(found => found !== undefined)) {
    const bytes = await collect(store.read(file.key))
    expect({ bytes: bytes.length, sha256: sha256(bytes) }).toEqual({ bytes: file.bytes, sha256: file.sha256 })
  }
})

test('the structure alone has no rows, and tables alone come with their partitions and what they are partitions of', async () => {
  const stage = await openTakeStage({ BACKUP_COMPRESSION: 'none' })
  const structure = await takeBackup(stage.context(), { kind: 'pre_migration', scope: 'schema' })
  expect(structure.stored.manifest.tables.length).toBeGreaterThan(50)
  for (const table of structure.stored.manifest.tables) expect(table).toMatchObject({ rows: 0, hash: null })
  const copy = await emptyDatabase()
  await shell(`pg_restore --exit-on-error -d '${copy.url}' ${stage.directory}/${structure.stored.manifest.files.dump.key}`)
  expect((await contentOf(copy)).tables.filter(table => table.rows > 0)).toEqual([])

  const some = await takeBackup(stage.context(), { kind: 'manual', scope: 'tables', tables: ['public.measured', 'accounts', 'public.child'] })
  expect(some.stored.manifest.tables.map(table => `${table.name} ${table.rows}`)).toEqual([
    'accounts 200',
    'child 1',
    'measured_2026_01 1580',
    'measured_2026_02 1420',
    'parent 3',
  ])
  expect(some.stored.manifest.files.roles).toBeUndefined()
  const other = await emptyDatabase()
  await shell(`pg_restore --exit-on-error --section=pre-data --section=data -d '${other.url}' ${stage.directory}/${some.stored.manifest.files.dump.key}`)
  expect((await contentOf(other)).tables).toEqual(some.stored.manifest.tables)
  const month = await takeBackup(stage.context(), { kind: 'manual', scope: 'tables', tables: ['measured_2026_02'] })
  const third = await emptyDatabase()
  await shell(`pg_restore --exit-on-error --section=pre-data --section=data -d '${third.url}' ${stage.directory}/${month.stored.manifest.files.dump.key}`)
  expect((await contentOf(third)).tables).toEqual(month.stored.manifest.tables)
})

test('a backup waits for who changes a table, and holds up neither him nor anybody else', async () => {
  const stage = await openTakeStage()
  const migration = await connectDirect(readConfig({ DATABASE_URL: stage.db.url }), 'migration')
  onTestFinished(() => migration.close())
  await migration.query('begin; lock table measured_2026_02 in access exclusive mode')
  const taking = takeBackup(stage.context(), { kind: 'manual', scope: 'full' })
  taking.catch(() => {})
  const waits = async () =>
    (
      await stage.db.query(
        `select 1 from pg_stat_activity where datname = current_database() and application_name = 'pawl backup' and wait_event_type = 'Lock'`,
      )
    ).length > 0
  await until('the backup waits', waits)
  // What it had locked already it lets go of: a migration that wants that too must not be the one who gives up.
  await migration.query('set deadlock_timeout = 900; lock table "Shop ""A"""."held", accounts in access exclusive mode')
  await migration.query('commit')
  expect((await taking).stored.manifest.tables.length).toBeGreaterThan(50)
})
