import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { type Database, openDatabase } from '../../src/database.ts'
import { freePort } from '../../src/embedded/ports.ts'
import { type EmbeddedServer, startEmbedded } from '../../src/embedded.ts'
import type { Log } from '../../src/log.ts'
import { type FreshReader, openFreshReader, primaryMayAnswer } from '../../src/replica.ts'
import { ask, start } from '../support/embedded.ts'
import { silent } from '../support/postgres.ts'
import { openProxy } from '../support/proxy.ts'
import { startStandby } from '../support/standby.ts'
import { until } from '../support/until.ts'

const WRITES = 1_000
const LANES = 10
const WARNING = 'reading from the primary instead of the replica'

// Without a commit waiting for its flush, which is when asking for the wrong position shows. Autovacuum would cancel readers at moments of its own.
const settings = { synchronous_commit: 'off', autovacuum: 'off', max_connections: '80' }

let primary: EmbeddedServer
let standby: EmbeddedServer
let db: Database
const servers: EmbeddedServer[] = []

/** With a delay no standby is fresh by luck: opening a connection takes longer than a replay on the same machine. */
async function follow(server: EmbeddedServer, delay: Record<string, string> = {}): Promise<EmbeddedServer> {
  const started = await startStandby(server, { ...settings, ...delay })
  servers.push(started)
  return started
}

beforeAll(async () => {
  primary = await startEmbedded({ log: silent, ephemeral: true, settings })
  servers.push(primary)
  db = openDatabase(readConfig({ DATABASE_URL: primary.url }), silent, { max: 4 })
  await db.query('create table told (lane int primary key, count int not null)')
  await db.query(`insert into told select lane, 0 from generate_series(0, ${LANES}) lane`)
  await db.query(`create role plain login password 'plain'`)
  await db.query('grant select, update on told to plain')
  standby = await follow(primary, { recovery_min_apply_delay: '40ms' })
})

afterAll(async () => {
  await db?.close()
  // The standbys first: a primary that ends waits until they have all of it.
  await Promise.all(servers.filter(server => server !== primary).map(server => server.stop()))
  await primary?.stop()
})

/** The login of an ordinary worker, who is no superuser. */
const plain = (url: string, changes: Partial<Pick<URL, 'pathname' | 'password' | 'port'>> = {}) =>
  Object.assign(new URL(url), { username: 'plain', password: 'plain', ...changes }).href

type Opened = FreshReader & { warnings: Record<string, unknown>[]; tookMs: number }

/** Opens a reader as an execution of a report does, until the test is over. */
async function open(primaryUrl: string, replicaUrl: string | undefined, options: { waitMs?: number; primaryOnly?: boolean } = {}): Promise<Opened> {
  const config = readConfig({
    DATABASE_URL: primaryUrl,
    DATABASE_READ_REPLICA_URL: replicaUrl,
    PAWL_REPLICA_WAIT_MS: String(options.waitMs ?? 10_000),
  })
  const pool = openDatabase(config, silent, { max: 1 })
  const warnings: Record<string, unknown>[] = []
  const log = { warn: (fields: object, message: string) => warnings.push({ ...fields, message }) } as unknown as Log
  const begun = systemClock.elapsed()
  try {
    const { reader, from } = await openFreshReader({ config, db: pool, log, clock: systemClock }, 'report', { primaryOnly: options.primaryOnly ?? false })
    onTestFinished(() => reader.close())
    return { reader, from, warnings, tookMs: systemClock.elapsed() - begun }
  } finally {
    await pool.close()
  }
}

const recovering = async ({ reader }: FreshReader) => (await reader.query<{ is: boolean }>('select pg_is_in_recovery() as is'))[0]?.is
const count = async ({ reader }: FreshReader, lane: number) => (await reader.query<{ count: number }>(`select count from told where lane = ${lane}`))[0]?.count
const write = (lane: number, by = db) => by.query(`update told set count = count + 1 where lane = ${lane}`)

/** What every fall-back has in common: a reader of the primary that works, and one warning that says why. */
async function expectPrimary(opened: Opened, reason: string): Promise<void> {
  expect(opened.warnings).toMatchObject([{ reason, message: WARNING }])
  expect(opened.from).toBe('primary')
  expect(await recovering(opened)).toBe(false)
  await expect(opened.reader.query('create table forbidden ()')).rejects.toMatchObject({ code: '25006' })
}

test('the replica is read from, in one read-only REPEATABLE READ transaction, by an ordinary login', async () => {
  const opened = await open(plain(primary.url), plain(standby.url))
  expect(opened).toMatchObject({ from: 'replica', warnings: [] })
  expect(await recovering(opened)).toBe(true)
  expect(await opened.reader.query(`select current_setting('transaction_isolation') as level, current_setting('transaction_read_only') as only`)).toEqual([
    { level: 'repeatable read', only: 'on' },
  ])
})

test('without a replica, or when told so, the primary is read from and nobody is warned', async () => {
  for (const opened of [await open(plain(primary.url), undefined), await open(plain(primary.url), plain(standby.url), { primaryOnly: true })]) {
    expect(opened).toMatchObject({ from: 'primary', warnings: [] })
    expect(await recovering(opened)).toBe(false)
  }
})

test(`after each of ${WRITES} asynchronous commits, a reader of the replica sees it`, async () => {
  const config = readConfig({ DATABASE_URL: plain(primary.url), DATABASE_READ_REPLICA_URL: plain(standby.url) })
  const pool = openDatabase(config, silent, { max: LANES })
  onTestFinished(() => pool.close())
  const seen = { replica: 0, stale: 0 }
  const lane = async (number: number) => {
    for (let written = 1; written <= WRITES / LANES; written += 1) {
      await write(number, pool)
      const opened = await openFreshReader({ config, db: pool, log: silent, clock: systemClock }, 'report')
      if (opened.from === 'replica') seen.replica += 1
      if ((await count(opened, number)) !== written) seen.stale += 1
      await opened.reader.close()
    }
  }
  await Promise.all(Array.from({ length: LANES }, (_, number) => lane(number)))
  expect(seen).toEqual({ replica: WRITES, stale: 0 })
})

test('a position behind a WAL switch, where an idle primary writes nothing, holds nobody up', async () => {
  // Twice: a record that the background writer happens to write would free the first.
  for (const _ of [1, 2]) {
    await db.query('select pg_switch_wal()')
    expect(await open(plain(primary.url), plain(standby.url), { waitMs: 2_000 })).toMatchObject({ from: 'replica' })
  }
})

test('a login that may not ask which cluster it is on reads from the replica all the same', async () => {
  await db.query('revoke execute on function pg_control_system() from public')
  onTestFinished(() => db.query('grant execute on function pg_control_system() to public').then(() => {}))
  expect(await open(plain(primary.url), plain(standby.url))).toMatchObject({ from: 'replica', warnings: [] })
})

test('the snapshot holds still while the replica goes on', async () => {
  const before = await open(plain(primary.url), plain(standby.url))
  await write(LANES)
  const after = await open(plain(primary.url), plain(standby.url))
  expect([before.from, after.from]).toEqual(['replica', 'replica'])
  expect(await count(after, LANES)).toBe(((await count(before, LANES)) ?? 0) + 1)
})

test('a replica whose replay is paused is waited for, then the primary is read from', async () => {
  await ask(standby.url, 'select pg_wal_replay_pause()')
  onTestFinished(() => ask(standby.url, 'select pg_wal_replay_resume()').then(() => {}))
  await write(LANES)
  const opened = await open(plain(primary.url), plain(standby.url), { waitMs: 300 })
  await expectPrimary(opened, 'replay_paused')
  expect(opened.tookMs).toBeGreaterThanOrEqual(300)
  expect(opened.tookMs).toBeLessThan(2_000)
})

test('a replica that is too far behind is given up after the wait, one that catches up in it is read from', async () => {
  const late = await follow(primary, { recovery_min_apply_delay: '700ms' })
  await write(LANES)
  await expectPrimary(await open(plain(primary.url), plain(late.url), { waitMs: 0 }), 'behind')
  expect(await open(plain(primary.url), plain(late.url))).toMatchObject({ from: 'replica', warnings: [] })
})

test('a query that the replay cancels is one for the primary, one that took too long is not', async () => {
  const alter = (value: string) => ask(standby.url, `alter system ${value}`).then(() => ask(standby.url, 'select pg_reload_conf()'))
  await alter(`set max_standby_streaming_delay = '50ms'`)
  onTestFinished(() => alter('reset max_standby_streaming_delay').then(() => {}))
  await until('the setting is read', async () => (await ask(standby.url, 'show max_standby_streaming_delay'))[0]?.max_standby_streaming_delay === '50ms')
  const opened = await open(plain(primary.url), plain(standby.url))
  const query = opened.reader.query('select count(*), pg_sleep(20) from told').then(
    () => undefined,
    (error: unknown) => error,
  )
  await write(LANES)
  await db.query('vacuum told')
  const error = await query
  expect(error).toMatchObject({ code: '40001', message: expect.stringContaining('conflict with recovery') })
  expect(primaryMayAnswer(error)).toBe(true)
  expect(primaryMayAnswer(Object.assign(new Error('canceling statement due to statement timeout'), { code: '57014' }))).toBe(false)
  expect(primaryMayAnswer(Object.assign(new Error('no such column'), { code: '42703' }))).toBe(false)
})

test('what no standby can read, the primary may', async () => {
  await db.query('create unlogged table fleeting (n int); grant select on fleeting to plain')
  const opened = await open(plain(primary.url), plain(standby.url))
  expect(opened.from).toBe('replica')
  const error = await opened.reader.query('select * from fleeting').catch((error: unknown) => error)
  expect(primaryMayAnswer(error)).toBe(true)
  const again = await open(plain(primary.url), plain(standby.url), { primaryOnly: true })
  expect(await again.reader.query('select * from fleeting')).toEqual([])
})

test('a replica that cannot be used costs a warning, not the report', async () => {
  await expectPrimary(await open(plain(primary.url), plain(standby.url, { port: String(await freePort()) })), 'unreachable')
  await expectPrimary(await open(plain(primary.url), plain(standby.url, { pathname: '/nowhere' })), 'no_database')
  await expectPrimary(await open(plain(primary.url), plain(standby.url, { password: 'wrong' })), 'refused')
  await expectPrimary(await open(plain(primary.url), plain(primary.url)), 'not_in_recovery')
})

test('a replica that falls silent, before the first word or in the middle, is given up in seconds', async () => {
  const [mute, stalling] = [await openProxy(standby.url), await openProxy(standby.url)]
  onTestFinished(() => mute.close())
  onTestFinished(() => stalling.close())
  await ask(standby.url, 'select pg_wal_replay_pause()')
  onTestFinished(() => ask(standby.url, 'select pg_wal_replay_resume()').then(() => {}))
  await write(LANES)
  mute.stall()
  const opening = [open(plain(primary.url), plain(mute.url)), open(plain(primary.url), plain(stalling.url))]
  const polling = `select 1 from pg_stat_activity where application_name = 'report' and query ~ 'replay_lsn'`
  await until('the reader asks how far the replica is', async () => (await ask(standby.url, polling)).length > 0)
  stalling.stall()
  for (const opened of await Promise.all(opening)) {
    await expectPrimary(opened, 'unreachable')
    expect(opened.tookMs).toBeLessThan(5_000)
  }
})

test('a standby of another cluster is not read from, be it ever so far ahead', async () => {
  const stranger = await start({ ephemeral: true })
  await ask(stranger.url, `create role plain login password 'plain'`)
  await expectPrimary(await open(plain(stranger.url), plain(standby.url)), 'other_cluster')
})

test('what is wrong with the primary is thrown', async () => {
  await expect(open(plain(primary.url, { port: String(await freePort()) }), standby.url)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
  await expect(open(standby.url, standby.url)).rejects.toMatchObject({ code: 'database.in_recovery', retryable: true })
})

test('a replica that was stopped is done without, and read from when it is back', async () => {
  await standby.kill('immediate')
  await expectPrimary(await open(plain(primary.url), plain(standby.url)), 'unreachable')
  await standby.restart()
  expect(await open(plain(primary.url), plain(standby.url))).toMatchObject({ from: 'replica', warnings: [] })
})

test('after a fail-over, neither the promoted replica nor a standby of the old primary is taken for a replica', async () => {
  const left = await follow(primary)
  await ask(standby.url, 'select pg_promote(true)')
  await expectPrimary(await open(plain(primary.url), plain(standby.url)), 'not_in_recovery')

  // The old primary lives on, cut off, and its standby replays further than the new one has written.
  for (let written = 0; written < 50; written += 1) await write(LANES)
  await db.query('select pg_switch_wal()')
  await db.query('checkpoint')
  expect(await open(plain(primary.url), plain(left.url))).toMatchObject({ from: 'replica' })
  for (const login of [plain, (url: string) => url]) await expectPrimary(await open(login(standby.url), login(left.url)), 'other_timeline')

  const heir = await follow(standby)
  for (const login of [plain, (url: string) => url]) expect(await open(login(standby.url), login(heir.url))).toMatchObject({ from: 'replica', warnings: [] })
})
