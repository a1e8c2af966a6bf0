import { spawn, spawnSync } from 'node:child_process'
import { chownSync, existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect, type DirectConnection } from '../../src/database.ts'
import { migrateUp } from '../../src/migrate.ts'
import { until } from '../support/until.ts'
import { openStage, type Stage } from './stage.ts'

const TABLE = { tag: '0000_table', up: 'create table made ()' }

test('a second connection that is the same session is found out before anything is locked or set', async () => {
  const stage = await openStage()
  await stage.write(TABLE)
  const shared = await stage.connect()
  const connect = async (): Promise<DirectConnection> => ({ ...shared, close: async () => {} })
  await expect(migrateUp({ ...stage.context, connect })).rejects.toMatchObject({ code: 'database.pooler', hint: expect.stringContaining('DATABASE_DIRECT_URL') })
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

const PGBOUNCER = ['/usr/sbin/pgbouncer', '/usr/bin/pgbouncer', '/usr/local/bin/pgbouncer'].find(existsSync)

/** Starts PgBouncer in front of the stage's database; returns a URL through it. */
async function startPgbouncer(stage: Stage, mode: 'transaction' | 'session', settings = ''): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'pawl-pgbouncer-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const port = await freePort()
  const target = new URL(stage.url)
  await writeFile(join(folder, 'users'), `"${decodeURIComponent(target.username)}" "${decodeURIComponent(target.password)}"\n`)
  await writeFile(join(folder, 'ini'), `[databases]
* = host=${target.hostname} port=${target.port || 5432}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${join(folder, 'users')}
pool_mode = ${mode}
${settings}
`)
  // PgBouncer will not run as root.
  const account = process.getuid?.() === 0 ? accountOf('nobody') : undefined
  if (account) for (const path of [folder, join(folder, 'ini'), join(folder, 'users')]) chownSync(path, account.uid, account.gid)
  const child = spawn(PGBOUNCER ?? '', [join(folder, 'ini')], { stdio: 'ignore', ...account })
  onTestFinished(() => void child.kill('SIGKILL'))
  target.port = String(port)
  const config = readConfig({ DATABASE_URL: target.href })
  await until('PgBouncer answers', () => connectDirect(config, 'knock').then(connection => connection.close().then(() => true), () => false))
  return target.href
}

function accountOf(name: string): { uid: number; gid: number } {
  const [uid = '', gid = ''] = spawnSync('sh', ['-c', `id -u ${name}; id -g ${name}`]).stdout.toString().split('\n')
  return { uid: Number(uid), gid: Number(gid) }
}

function freePort(): Promise<number> {
  return new Promise(resolve => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}

if (PGBOUNCER === undefined) console.warn('SKIPPED: the tests with a real PgBouncer, because pgbouncer is not installed')

test.skipIf(PGBOUNCER === undefined).each([['', 1], ['', 6], ['server_round_robin = 1', 6]])(
  'PgBouncer in transaction mode (%s) is refused, also when %i ask at once, and keeps no lock of ours',
  async (settings, count) => {
    const stage = await openStage()
    await stage.write(TABLE)
    const config = readConfig({ DATABASE_URL: await startPgbouncer(stage, 'transaction', settings) })
    const errors = await Promise.all(Array.from({ length: count }, () => migrateUp({ ...stage.context, config }).then(() => 'migrated', error => error.code)))
    expect(new Set(errors)).toEqual(new Set(['database.pooler']))
    expect(await stage.lockHolders()).toEqual([])
    expect(await stage.applied()).toEqual([])
  },
  30_000,
)

test.skipIf(PGBOUNCER === undefined)('PgBouncer in session mode is as good as a direct connection', async () => {
  const stage = await openStage()
  await stage.write(TABLE)
  const config = readConfig({ DATABASE_URL: await startPgbouncer(stage, 'session') })
  expect((await migrateUp({ ...stage.context, config })).map(move => move.tag)).toEqual(['0000_table'])
})
