import { appendFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, inject, onTestFinished, test } from 'vitest'
import { newIdentity } from '../../src/seal.ts'
import { readSequences, readTables, settle } from '../../workers/maintenance/backups/snapshot.ts'
import { connectDirect } from '../../src/database.ts'
import { readConfig } from '../../src/config.ts'
import type { Log } from '../../src/log.ts'
import { queues } from '../../src/queues.ts'
import type { Manifest, Stored } from '../../workers/maintenance/backups/manifest.ts'
import { type RestoreOptions, restoreBackup } from '../../workers/maintenance/backups/restore.ts'
import { ask } from '../support/embedded.ts'
import { withDatabase } from '../support/global.ts'
import { until } from '../support/until.ts'
import { addGoods, askIn, flip, found, nameForTest, openRestoreStage, type RestoreStage, scratches } from './restore-stage.ts'

const admin = <Row extends Record<string, unknown>>(text: string) => ask<Row>(inject('adminUrl'), text)
const there = async (name: string) => (await admin(`select from pg_database where datname = '${name}'`)).length === 1

function restore(stage: RestoreStage, stored: Stored, into: string, options: Partial<RestoreOptions> = {}): Promise<void> {
  return restoreBackup(stage.context(), stage.store, stored, { into, identities: [], owners: true, ...options })
}

/** Everything that a manifest says of a database, read anew. */
async function contents(name: string): Promise<Pick<Manifest, 'tables' | 'sequences'>> {
  const connection = await connectDirect(readConfig({ DATABASE_URL: withDatabase(inject('adminUrl'), name) }), 'test')
  try {
    await settle(connection.query)
    return { tables: await readTables(connection.query), sequences: await readSequences(connection.query) }
  } finally {
    await connection.close()
  }
}

/** Nothing is left of a restore that was refused or failed. */
async function expectNothing(into: string): Promise<void> {
  expect(await there(into)).toBe(false)
  expect(await scratches()).toEqual([])
}

test('a backup of the project is restored under a new name, with every row, owners and grants, and all its queues paused', async () => {
  const { identity, recipient } = await newIdentity()
  const stage = await openRestoreStage({ env: { PAWL_BACKUP_RECIPIENTS: recipient } })
  await addGoods(stage.query)
  await stage.query(`select pawl.pause('refresh.load', 'mine')`)
  await stage.query('alter table shop.twice owner to pawl_operator; grant select on shop.goods to pawl_observer')
  await stage.take()
  const stored = await found(stage)
  const into = nameForTest()
  await restore(stage, stored, into, { identities: [identity], verify: true })
  const { tables, sequences } = await contents(into)
  const expected = stored.manifest.tables.filter(table => table.name !== 'paused_queues')
  expect(tables.filter(table => table.name !== 'paused_queues')).toEqual(expected)
  for (const sequence of stored.manifest.sequences) {
    const value = sequences.find(({ schema, name }) => schema === sequence.schema && name === sequence.name)?.value ?? null
    expect(Number(value)).toBeGreaterThanOrEqual(Number(sequence.value))
  }
  expect(await askIn(into, `select tableowner from pg_tables where tablename = 'twice'`)).toEqual([{ tableowner: 'pawl_operator' }])
  const rights = `select has_table_privilege('pawl_observer', 'shop.goods', 'select') as granted,
    has_function_privilege('pawl_observer', 'shop.secret()', 'execute') as secret, has_database_privilege('pawl_observer', '${into}', 'connect') as connect`
  expect(await askIn(into, rights)).toEqual([{ granted: true, secret: false, connect: true }])
  expect(await askIn(into, 'select pg_encoding_to_char(encoding) as encoding, datcollate from pg_database where datname = current_database()')).toEqual([
    { encoding: stored.manifest.locale?.encoding, datcollate: stored.manifest.locale?.collate },
  ])
  const paused = await askIn<{ queue: string; reason: string }>(into, 'select queue, reason from pawl.paused_queues order by queue')
  const reason = `restored from ${stored.manifest.name}`
  expect(paused).toEqual(
    queues.map(({ name }) => ({ queue: name, reason: name === 'refresh.load' ? 'mine' : reason })).sort((one, other) => (one.queue < other.queue ? -1 : 1)),
  )
  expect(await scratches()).toEqual([])
})

test('whoever connects by its name, be it at the first moment, finds it whole and paused', async () => {
  const stage = await openRestoreStage()
  const { stored } = await stage.take()
  const into = nameForTest()
  const watching = until('somebody could connect', async () => {
    try {
      return await askIn<{ paused: number; tables: number }>(
        into,
        `select (select count(*) from pawl.paused_queues) as paused, (select count(*) from pg_tables where schemaname = 'reporting') as tables`,
      )
    } catch (error) {
      if ((error as { code?: string }).code === '3D000') return undefined
      throw error
    }
  })
  await restore(stage, stored, into)
  const [first] = await watching
  expect(first?.paused).toBe(queues.length)
  expect(first?.tables).toBeGreaterThan(8)
})

test('a database that Pawl was never on is restored as it is', async () => {
  const stage = await openRestoreStage({ empty: true })
  await addGoods(stage.query)
  const { stored } = await stage.take()
  const into = nameForTest()
  await restore(stage, stored, into)
  expect((await contents(into)).tables).toEqual(stored.manifest.tables)
})

test('an empty database of that name is taken, and keeps its owner; one with anything in it is refused by name, untouched', async () => {
  const stage = await openRestoreStage({ empty: true })
  await addGoods(stage.query)
  const { stored } = await stage.take()
  const empty = nameForTest()
  await admin(`create database ${empty} owner pawl_operator`)
  await restore(stage, stored, empty)
  expect(await askIn(empty, 'select count(*) from shop.goods')).toEqual([{ count: 3000 }])
  expect(await admin(`select pg_get_userbyid(datdba) as owner from pg_database where datname = '${empty}'`)).toEqual([{ owner: 'pawl_operator' }])
  for (const content of [
    'create table kept (id integer)',
    'create schema kept',
    'create function kept() returns integer language sql as $$ select 1 $$',
    'create type kept as enum ()',
    'select lo_create(0)',
  ]) {
    const full = nameForTest()
    await admin(`create database ${full}`)
    await askIn(full, content)
    await expect(restore(stage, stored, full)).rejects.toMatchObject({
      code: 'restore.exists',
      message: expect.stringContaining(full),
      hint: expect.stringContaining('--into'),
    })
    expect(await there(full)).toBe(true)
    expect(await askIn(full, `select to_regclass('shop.goods') as shop`)).toEqual([{ shop: null }])
  }
  await expect(restore(stage, stored, 'template1')).rejects.toMatchObject({ code: 'restore.exists' })
  // The next cleanup would take the second one for what somebody left who died.
  for (const name of ['x'.repeat(64), 'pawl_scratch_0123456789abcdef'])
    await expect(restore(stage, stored, name)).rejects.toMatchObject({ code: 'restore.name' })
  expect(await scratches()).toEqual([])
})

test('an empty database with somebody in it is not dropped under him', async () => {
  const stage = await openRestoreStage({ empty: true })
  await addGoods(stage.query)
  const { stored } = await stage.take()
  const used = nameForTest()
  await admin(`create database ${used}`)
  const guest = await connectDirect(readConfig({ DATABASE_URL: withDatabase(inject('adminUrl'), used) }), 'guest')
  onTestFinished(() => guest.close())
  await expect(restore(stage, stored, used)).rejects.toMatchObject({ code: 'restore.exists', message: expect.stringContaining('in use') })
  expect(await guest.query('select 1 as here')).toEqual([{ here: 1 }])
  expect(await scratches()).toEqual([])
})

test('missing roles are named before anything is made; without owners nobody but who restores may use any of it', async () => {
  const stage = await openRestoreStage({ empty: true })
  await addGoods(stage.query)
  const [owner, reader] = ['owner', 'reader'].map(word => `gone_${word}_${Math.random().toString(36).slice(2, 10)}`)
  await stage.query(`create role ${owner}; create role ${reader}; alter table shop.twice owner to ${owner}; grant select on shop.goods to ${reader}`)
  const { stored } = await stage.take()
  await stage.query(`reassign owned by ${owner} to current_user; drop owned by ${owner}, ${reader}; drop role ${owner}, ${reader}`)
  const into = nameForTest()
  await expect(restore(stage, stored, into)).rejects.toMatchObject({
    code: 'restore.roles',
    message: expect.stringMatching(new RegExp(`${owner}, ${reader}`)),
    hint: expect.stringContaining('--no-owners'),
  })
  await expectNothing(into)
  await restore(stage, stored, into, { owners: false, verify: true })
  const rights = `select has_schema_privilege('pawl_observer', 'shop', 'usage') as usage, has_table_privilege('pawl_observer', 'shop.goods', 'select') as granted,
    has_function_privilege('pawl_observer', 'shop.secret()', 'execute') as secret`
  expect(await askIn(into, rights)).toEqual([{ usage: false, granted: false, secret: false }])
  // Later functions are again as everywhere.
  await askIn(into, 'create function public.later() returns integer language sql as $$ select 1 $$')
  expect(await askIn(into, `select has_function_privilege('pawl_observer', 'public.later()', 'execute') as later`)).toEqual([{ later: true }])
})

test('a login that is no superuser restores the project for itself, and is told of the event trigger that it may not make', async () => {
  const stage = await openRestoreStage()
  const { stored } = await stage.take()
  const into = nameForTest()
  const login = `maker_${Math.random().toString(36).slice(2, 10)}`
  await stage.query(`create role ${login} login createdb password 'plain'`)
  onTestFinished(async () => {
    await admin(`drop database if exists ${into} with (force)`)
    await admin(`drop role ${login}`)
  })
  const warnings: unknown[] = []
  const log = { ...stage.context().log, warn: (fields: object) => warnings.push(fields), info: () => {} } as unknown as Log
  const context = stage.context({ log }, { DATABASE_URL: stage.db.urlAs(login, 'plain') })
  await restoreBackup(context, stage.store, stored, { into, identities: [], owners: false, verify: true })
  expect(warnings).toEqual([{ event_triggers: ['auto_register_refresh_tables'] }])
  expect(await askIn(into, `select distinct tableowner from pg_tables where schemaname in ('pawl', 'public', 'sqp', 'reporting', 'pgboss')`)).toEqual([
    { tableowner: login },
  ])
  expect(await askIn(into, 'select count(*) from pawl.paused_queues')).toEqual([{ count: queues.length }])
})

test('what fails leaves nothing behind, also where pg_restore is content: damage, another key, a difference, an older server', async () => {
  const { identity, recipient } = await newIdentity()
  const stage = await openRestoreStage({ empty: true, env: { PAWL_BACKUP_RECIPIENTS: recipient } })
  await addGoods(stage.query)
  const { stored } = await stage.take()
  const into = nameForTest()
  const identities = [identity]
  await expect(restore(stage, stored, into, { identities: [(await newIdentity()).identity] })).rejects.toMatchObject({ code: 'seal.key' })
  await expectNothing(into)
  const newer = { ...stored, manifest: { ...stored.manifest, server: { version: '18.1', major: 18 } } }
  await expect(restore(stage, newer, into, { identities })).rejects.toMatchObject({ code: 'restore.server', message: expect.stringContaining('18.1') })
  await expectNothing(into)
  const other = { ...stored, manifest: { ...stored.manifest, tables: stored.manifest.tables.map(table => ({ ...table, rows: table.rows + 1 })) } }
  await expect(restore(stage, other, into, { identities, verify: true })).rejects.toMatchObject({ code: 'backup.different' })
  await expectNothing(into)
  const dump = join(stage.place, stored.manifest.files.dump.key)
  await flip(dump, length => Math.floor(length / 2))
  await expect(restore(stage, stored, into, { identities })).rejects.toMatchObject({ code: 'backup.damaged' })
  await expectNothing(into)
})

test('bytes behind the end of an open dump, which pg_restore never reads, are damage', async () => {
  const stage = await openRestoreStage({ empty: true, env: { BACKUP_COMPRESSION: 'none' } })
  await addGoods(stage.query)
  const { stored } = await stage.take()
  const into = nameForTest()
  await appendFile(join(stage.place, stored.manifest.files.dump.key), 'PGDMP')
  await expect(restore(stage, stored, into)).rejects.toMatchObject({ code: 'backup.damaged', message: expect.stringContaining('bytes') })
  await expectNothing(into)
})

test('broken off in the middle, a restore leaves nothing', async () => {
  const stage = await openRestoreStage({ empty: true })
  await addGoods(stage.query)
  const { stored } = await stage.take()
  const into = nameForTest()
  const stopping = new AbortController()
  const reason = new Error('enough')
  const context = stage.context({ signal: stopping.signal, told: () => stopping.abort(reason) })
  await expect(restoreBackup(context, stage.store, stored, { into, identities: [], owners: true })).rejects.toBe(reason)
  await expectNothing(into)
})

test('the database of the configuration may be gone: its server is enough', async () => {
  const stage = await openRestoreStage({ empty: true })
  await addGoods(stage.query)
  const { stored } = await stage.take()
  const into = nameForTest()
  const context = stage.context({}, { DATABASE_URL: withDatabase(inject('adminUrl'), into) })
  await restoreBackup(context, stage.store, stored, { into, identities: [], owners: true })
  expect(await askIn(into, 'select count(*) from shop.orders')).toEqual([{ count: 5000 }])
})
