import { expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect, type DirectConnection } from '../../src/database.ts'
import { migrateUp } from '../../src/migrate.ts'
import { pgbouncerMissing, startPgbouncer } from '../support/pgbouncer.ts'
import { openStage } from './stage.ts'

const TABLE = { tag: '0000_table', up: 'create table made ()' }

test('a second connection that is the same session is found out before anything is locked or set', async () => {
  const stage = await openStage()
  await stage.write(TABLE)
  const shared = await stage.connect()
  const connect = async (): Promise<DirectConnection> => ({ ...shared, close: async () => {} })
  await expect(migrateUp({ ...stage.context, connect })).rejects.toMatchObject({
    code: 'database.pooler',
    hint: expect.stringContaining('DATABASE_DIRECT_URL'),
  })
  expect(await stage.lockHolders()).toEqual([])
  expect(await stage.applied()).toEqual([])
})

test('a second connection that gets the lock as well is refused, and the lock is let go', async () => {
  const stage = await openStage()
  await stage.write(TABLE)
  const shared = await stage.connect()
  // A pooler that shows its true face only once the lock is taken: the first self-test sees two sessions.
  let connections = 0
  const connect = async (config: typeof stage.config, name: string): Promise<DirectConnection> =>
    ++connections === 2 ? connectDirect(config, name) : { ...shared, close: async () => {} }
  await expect(migrateUp({ ...stage.context, connect })).rejects.toMatchObject({ code: 'database.pooler' })
  expect(connections).toBe(3)
  expect(await stage.lockHolders()).toEqual([])
  expect(await stage.applied()).toEqual([])
})

test('a session that lost its lock commits no file', async () => {
  const stage = await openStage()
  await stage.write(TABLE)
  const before = async (query: typeof stage.query) => void (await query('select pg_advisory_unlock_all()'))
  await expect(migrateUp(stage.context, { before })).rejects.toMatchObject({ code: 'migrate.lock_lost' })
  expect(await stage.applied()).toEqual([])
})

test.skipIf(pgbouncerMissing()).each([
  ['', 1],
  ['', 6],
  ['server_round_robin = 1', 6],
])(
  'PgBouncer in transaction mode (%s) is refused, also when %i ask at once, and keeps no lock of ours',
  async (settings, count) => {
    const stage = await openStage()
    await stage.write(TABLE)
    const config = readConfig({ DATABASE_URL: await startPgbouncer(stage.url, 'transaction', settings) })
    const errors = await Promise.all(
      Array.from({ length: count }, () =>
        migrateUp({ ...stage.context, config }).then(
          () => 'migrated',
          error => error.code,
        ),
      ),
    )
    expect(new Set(errors)).toEqual(new Set(['database.pooler']))
    expect(await stage.lockHolders()).toEqual([])
    expect(await stage.applied()).toEqual([])
  },
  30_000,
)

test.skipIf(pgbouncerMissing())('PgBouncer in session mode is as good as a direct connection', async () => {
  const stage = await openStage()
  await stage.write(TABLE)
  const config = readConfig({ DATABASE_URL: await startPgbouncer(stage.url, 'session') })
  expect((await migrateUp({ ...stage.context, config })).map(move => move.tag)).toEqual(['0000_table'])
})
