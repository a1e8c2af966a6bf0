import { Writable } from 'node:stream'
import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect, type Query } from '../../src/database.ts'
import { startEmbedded } from '../../src/embedded.ts'
import { migrateDown, migrateUp } from '../../src/migrate.ts'
import { markRestorePoint } from '../../src/migrate/restore-point.ts'
import { silent } from '../support/postgres.ts'
import { until } from '../support/until.ts'
import { openStage } from './stage.ts'

const KEEPS = { tag: '0000_keeps', up: 'create table notes as select 1 as n', down: 'drop table if exists notes' }
const DELETES = {
  tag: '0001_deletes',
  up: '-- pawl:destructive\ncreate table place as select pg_current_wal_insert_lsn() as lsn; delete from notes',
  down: '-- pawl:destructive\ndrop table place; insert into notes values (2)',
}

type Line = { level: number; msg: string; [field: string]: unknown }

function recorder() {
  const lines: Line[] = []
  const write = (chunk: unknown, _: string, done: () => void) => {
    lines.push(JSON.parse(String(chunk)) as Line)
    done()
  }
  const log = pino({ level: 'info' }, new Writable({ write }))
  return { log, lines, about: (text: string) => lines.filter(line => line.msg.includes(text)) }
}

/** What PostgreSQL wrote into the WAL since `from`. */
async function pointsSince(query: Query, from: string): Promise<string[]> {
  const rows = await query<{ description: string }>(
    `select description from pg_get_wal_records_info($1::pg_lsn, pg_current_wal_flush_lsn()) where record_type = 'RESTORE_POINT' and description like '%deletes%'`,
    [from],
  )
  return rows.map(row => row.description)
}

const lsnOf = async (query: Query) => (await query<{ lsn: string }>('select pg_current_wal_insert_lsn()::text as lsn'))[0]?.lsn ?? ''

test('a file that deletes data is marked in the WAL before its first statement, on the way up and on the way back, and no other file is', async () => {
  const stage = await openStage()
  const { log, about } = recorder()
  const context = { ...stage.context, log }
  await stage.query('create extension pg_walinspect')
  await stage.write(KEEPS, DELETES)
  const from = await lsnOf(stage.query)
  const [keeps, deletes] = await migrateUp(context)
  expect(keeps).toMatchObject({ tag: '0000_keeps', restorePoint: undefined })
  expect(deletes?.restorePoint).toEqual({ name: expect.stringMatching(/^pawl_before_0001_deletes_\d{8}T\d{9}Z$/), lsn: expect.stringMatching(/^\w+\/\w+$/) })
  // The file itself notes the place of its first statement: the point lies before it.
  expect(await stage.query('select $1::pg_lsn <= lsn as before from place', [deletes?.restorePoint?.lsn])).toEqual([{ before: true }])
  const [back] = await migrateDown(context, { allowDataLoss: true })
  expect(back?.restorePoint?.name).not.toBe(deletes?.restorePoint?.name)
  // The servers of tests flush the WAL a little after the commit.
  await until('both points are flushed', async () => (await pointsSince(stage.query, from)).length === 2)
  expect(await pointsSince(stage.query, from)).toEqual([deletes?.restorePoint?.name, back?.restorePoint?.name])
  expect(about('restore point created')).toMatchObject(
    [deletes, back].map(move => ({ migration: '0001_deletes', restore_point: move?.restorePoint?.name, lsn: move?.restorePoint?.lsn, archive_mode: 'off' })),
  )
})

test('a tag that is longer than a restore point may be is cut, and the stamp stays whole', async () => {
  const stage = await openStage()
  const point = await markRestorePoint(silent, stage.query, `0042_${'long_'.repeat(40)}`)
  expect(point?.name).toMatch(/^pawl_before_0042_[a-z_]+_\d{8}T\d{9}Z$/)
  expect(point?.name).toHaveLength(63)
})

test('a role that may not mark the WAL is told once what to grant, and its migration goes on; with the grant it marks', async () => {
  const stage = await openStage()
  const role = `restorer_${Math.random().toString(36).slice(2, 8)}`
  await stage.query(`create role ${role} login password 'secret'; grant all on schema public to ${role}`)
  await stage.query(`do $$ begin execute format('grant create on database %I to ${role}', current_database()); end $$`)
  onTestFinished(async () => void (await stage.query(`drop owned by ${role} cascade; drop role ${role}`)))
  const url = new URL(stage.url)
  Object.assign(url, { username: role, password: 'secret' })
  const { log, about } = recorder()
  const context = { ...stage.context, config: readConfig({ DATABASE_URL: url.href }), log }
  await stage.write(KEEPS, DELETES)
  expect((await migrateUp(context)).map(move => move.restorePoint)).toEqual([undefined, undefined])
  expect(await stage.applied()).toEqual(['0000_keeps', '0001_deletes'])
  expect(about('restore point')).toMatchObject([
    { level: 40, migration: '0001_deletes', reason: `the role may not: grant execute on function pg_catalog.pg_create_restore_point(text) to ${role}` },
  ])
  await stage.query(`grant execute on function pg_catalog.pg_create_restore_point(text) to ${role}`)
  const [back] = await migrateDown(context, { allowDataLoss: true })
  expect(back?.restorePoint?.name).toContain('0001_deletes')
})

test('where the WAL holds too little for recovery the reason is said, and nothing fails', async () => {
  const server = await startEmbedded({ log: silent, ephemeral: true, settings: { wal_level: 'minimal', max_wal_senders: '0' } })
  onTestFinished(() => server.stop())
  const connection = await connectDirect(readConfig({ DATABASE_URL: server.url }), 'test')
  onTestFinished(() => connection.close())
  const { log, lines } = recorder()
  expect(await markRestorePoint(log, connection.query, '0001_deletes')).toBeUndefined()
  expect(lines).toMatchObject([{ level: 40, reason: expect.stringContaining('wal_level is minimal') }])
  // An error nobody foresaw is a reason like the others.
  expect(await markRestorePoint(log, () => Promise.reject(new Error('out of order')), '0001_deletes')).toBeUndefined()
  expect(lines.slice(1)).toMatchObject([{ level: 40, reason: 'out of order' }])
}, 60_000)
