import { afterAll, beforeAll, expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { type Database, openDatabase } from '../../src/database.ts'
import type { Log } from '../../src/log.ts'
import { openFreshReader } from '../../src/replica.ts'
import { ask } from '../support/embedded.ts'
import { silent } from '../support/postgres.ts'
import { type Postgres15, runPostgres15, startPostgres15 } from '../support/postgres15.ts'

const WRITES = 1_000
const LANES = 10

// What test/integration/replica.test.ts shows on the embedded server, on PostgreSQL 15 and a standby that pg_basebackup made.
const settings = { autovacuum: 'off', max_connections: '80', wal_level: 'replica', full_page_writes: 'on' }
const standbys: Postgres15[] = []
let primary: Postgres15
let db: Database

async function follow(source: Postgres15, more: Record<string, string> = {}): Promise<Postgres15> {
  const { hostname, port, username, password } = new URL(source.url)
  const slot = `standby_${standbys.length}`
  const standby = await startPostgres15({
    settings: { ...settings, hot_standby: 'on', ...more },
    prepare: place => {
      const target = ['-D', place.data, '-h', hostname, '-p', port, '-U', username]
      runPostgres15('pg_basebackup', [...target, '-R', '-X', 'stream', '-c', 'fast', '--no-sync', '-C', '-S', slot], { env: { PGPASSWORD: password } })
    },
  })
  standbys.push(standby)
  return standby
}

beforeAll(async () => {
  primary = await startPostgres15({ settings })
  db = openDatabase(readConfig({ DATABASE_URL: primary.url }), silent, { max: LANES })
  await db.query('create table told (lane int primary key, count int not null)')
  await db.query(`insert into told select lane, 0 from generate_series(0, ${LANES}) lane`)
})

afterAll(async () => {
  await db?.close()
  // The standbys first: a primary that ends waits until they have all of it.
  await Promise.all(standbys.map(standby => standby.stop()))
  await primary?.stop()
})

const write = (lane: number) => db.query(`update told set count = count + 1 where lane = ${lane}`)

/** Opens a reader as an execution of a report does; where it reads, what it was warned of, and its lane's count. */
async function read(
  replica: Postgres15,
  lane: number,
  env: Record<string, string> = {},
): Promise<{ from: string; count: number | undefined; reasons: unknown[] }> {
  const config = readConfig({ DATABASE_URL: primary.url, DATABASE_READ_REPLICA_URL: replica.url, PAWL_REPLICA_WAIT_MS: '10000', ...env })
  const reasons: unknown[] = []
  const log = { warn: (fields: { reason: unknown }) => reasons.push(fields.reason) } as unknown as Log
  const { reader, from } = await openFreshReader({ config, db, log, clock: systemClock }, 'report', { primaryOnly: false })
  try {
    const [row] = await reader.query<{ count: number }>(`select count from told where lane = ${lane}`)
    return { from, count: row?.count, reasons }
  } finally {
    await reader.close()
  }
}

test(`after each of ${WRITES} asynchronous commits on PostgreSQL 15, a reader of a standby that replays late sees it`, async () => {
  // With a delay no standby is fresh by luck: opening a connection takes longer than a replay on the same machine.
  const standby = await follow(primary, { recovery_min_apply_delay: '40ms' })
  const seen = { replica: 0, stale: 0 }
  const lane = async (number: number) => {
    for (let written = 1; written <= WRITES / LANES; written += 1) {
      await write(number)
      const { from, count } = await read(standby, number)
      if (from === 'replica') seen.replica += 1
      if (count !== written) seen.stale += 1
    }
  }
  await Promise.all(Array.from({ length: LANES }, (_, number) => lane(number)))
  expect(seen).toEqual({ replica: WRITES, stale: 0 })
})

test('a paused replay and a standby that is down cost a warning, and the primary answers', async () => {
  const standby = await follow(primary)
  const expectPrimary = async (reasons: string[], env: Record<string, string> = {}) => {
    await write(LANES)
    const [row] = await db.query<{ count: number }>(`select count from told where lane = ${LANES}`)
    expect(await read(standby, LANES, env)).toEqual({ from: 'primary', count: row?.count, reasons })
  }
  await ask(standby.url, 'select pg_wal_replay_pause()')
  await expectPrimary(['replay_paused'], { PAWL_REPLICA_WAIT_MS: '200' })
  await ask(standby.url, 'select pg_wal_replay_resume()')
  expect(await read(standby, LANES)).toMatchObject({ from: 'replica', reasons: [] })
  await standby.kill('immediate')
  await expectPrimary(['unreachable'])
  await standby.restart()
  expect(await read(standby, LANES)).toMatchObject({ from: 'replica', reasons: [] })
})

test('a standby that was promoted is no replica any more', async () => {
  const standby = await follow(primary)
  await ask(standby.url, 'select pg_promote(true)')
  expect(await ask(standby.url, 'select pg_is_in_recovery() as is')).toEqual([{ is: false }])
  expect(await read(standby, LANES)).toMatchObject({ from: 'primary', reasons: ['not_in_recovery'] })
})
