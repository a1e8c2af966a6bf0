import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { backup } from '../../workers/maintenance/backup.ts'
import { lookAround, workerChecks } from '../../workers/maintenance/checks.ts'
import { systemClock } from '../../src/clock.ts'
import { handlerOptions, takeLease, workAll, type Lease } from '../support/engine.ts'
import { createDatabase, silent, type TestDatabase } from '../support/postgres.ts'
import { until } from '../support/until.ts'

let db: TestDatabase
let lease: Lease

beforeAll(async () => {
  db = await createDatabase()
  lease = await takeLease(db, 'night-owl', ['maintenance.backup'])
})

afterAll(async () => {
  await lease.stop()
  await db.drop()
})

const check = async (name: string) => (await db.query<{ ok: boolean; detail: string }>('select ok, detail from pawl.health where "check" = $1', [name]))[0]
const tell = (...checks: Record<string, unknown>[]) => db.query('select pawl.record_worker_checks($1, $2)', ['night-owl', JSON.stringify(checks)])

/** A backup of the given age, as a worker writes it down. */
async function addBackup(name: string, { hours = 1, verified = true, scope = 'full' } = {}): Promise<void> {
  const takenAt = new Date(Date.now() - hours * 3_600_000).toISOString()
  const manifest = {
    name,
    kind: 'daily',
    scope,
    takenAt,
    lsn: '0/1000',
    server: { version: '18.4' },
    sealed: { recipients: ['age1'] },
    files: { dump: { bytes: 70 }, roles: { bytes: 30 } },
    tables: [{ rows: 4 }, { rows: 6 }],
  }
  const verification = verified ? { verifiedAt: new Date().toISOString(), seconds: 2.5 } : null
  await db.query('select pawl.record_backup($1)', [JSON.stringify({ manifest, place: '/backups', verification })])
}

test('what a worker finds on its machine stands in pawl.health as long as the worker lives, and a finding that is gone leaves', async () => {
  await tell({ check: 'disk /backups', ok: false, detail: '0.1 GB free (1 %)' }, { check: 'latency', ok: true, detail: 'the database answers in 1 ms' })
  expect(await check('worker disk /backups')).toEqual({ ok: false, detail: 'night-owl: 0.1 GB free (1 %)' })
  expect(await check('worker latency')).toEqual({ ok: true, detail: 'the database answers in 1 ms' })
  await tell({ check: 'latency', ok: true, detail: 'the database answers in 2 ms' })
  expect(await check('worker disk /backups')).toBeUndefined()
  await db.query(`update pawl.leases set state = 'stopped', stopped_at = now() where id = $1`, [lease.id])
  expect(await check('worker latency')).toBeUndefined()
  await db.query(`update pawl.leases set state = 'running', stopped_at = null where id = $1`, [lease.id])
})

test('a finding that stays as it was keeps its age', async () => {
  const since = async () => (await db.query<{ since: string }>(`select since::text from pawl.worker_checks where "check" = 'latency'`))[0]?.since
  await tell({ check: 'latency', ok: true, detail: '2 ms' })
  const first = await since()
  await tell({ check: 'latency', ok: true, detail: '3 ms' })
  expect(await since()).toBe(first)
  await tell({ check: 'latency', ok: false, detail: '300 ms' })
  expect(await since()).not.toBe(first)
})

describe('the check of backups', () => {
  test('is off, and fine, where no worker has a place for them; then the schedules request none', async () => {
    await tell({ check: 'backup', ok: true, detail: 'off', data: { place: null } })
    expect(await check('verified backup')).toEqual({ ok: true, detail: 'off: no worker has a place for backups' })
    expect(await db.query(`select pawl.schedule_backup('daily') as run`)).toEqual([{ run: null }])
  })

  test('waits a day for the first one, and only a verified full one counts', async () => {
    await tell({ check: 'backup', ok: true, detail: 'pg_dump 18.4', data: { place: '/backups' } })
    expect(await check('verified backup')).toMatchObject({ ok: true, detail: expect.stringMatching(/^none yet/) })
    await addBackup('unproven', { verified: false })
    await addBackup('partial', { scope: 'schema' })
    await db.query(`update pawl.worker_checks set since = now() - interval '27 hours' where "check" = 'backup'`)
    expect(await check('verified backup')).toMatchObject({ ok: false, detail: expect.stringMatching(/^none yet/) })
    // Another pod, which has known the place for a minute: those before it have failed to make one for days.
    await db.query(`update pawl.worker_checks set since = now() where "check" = 'backup'`)
    expect(await check('verified backup')).toMatchObject({ ok: true })
    await db.query(
      `insert into public.system_maintenance_log (operation, affected_rows, timestamp, details) values ('backup_daily', 0, now() - interval '3 days', '{"state": "failed"}')`,
    )
    expect(await check('verified backup')).toMatchObject({ ok: false, detail: expect.stringMatching(/^none yet/) })
    await db.query(`delete from public.system_maintenance_log where operation = 'backup_daily'`)
    await addBackup('old', { hours: 27 })
    expect(await check('verified backup')).toMatchObject({ ok: false, detail: expect.stringMatching(/^old of /) })
    await addBackup('fresh', { hours: 2 })
    expect(await check('verified backup')).toMatchObject({ ok: true, detail: expect.stringMatching(/^fresh of .*, 100 bytes, restored in 2.5 s$/) })
    await db.query(`update pawl.backup_records set deleted_at = now() where backup_id = 'fresh'`)
    expect(await check('verified backup')).toMatchObject({ ok: false })
  })

  test('shows each in pawl.backups with its state, newest first', async () => {
    expect(await db.query('select backup_id, state, scope, bytes, tables, rows, encrypted from pawl.backups')).toEqual(
      [
        { backup_id: 'partial', state: 'verified', scope: 'schema', bytes: 100, tables: 2, rows: 10, encrypted: true },
        { backup_id: 'unproven', state: 'unverified', scope: 'full', bytes: 100, tables: 2, rows: 10, encrypted: true },
        { backup_id: 'fresh', state: 'deleted', scope: 'full', bytes: 100, tables: 2, rows: 10, encrypted: true },
        { backup_id: 'old', state: 'verified', scope: 'full', bytes: 100, tables: 2, rows: 10, encrypted: true },
      ].sort((one, other) => order.indexOf(one.backup_id) - order.indexOf(other.backup_id)),
    )
  })
  const order = ['partial', 'unproven', 'fresh', 'old']
})

describe('pawl.request_backup', () => {
  test('gives the run that waits already to whoever asks for the same again', async () => {
    const ask = async (...words: unknown[]) => (await db.query<{ run: string }>('select pawl.request_backup($1, $2, $3) as run', words))[0]?.run
    const first = await ask('manual', 'full', null)
    expect(await ask('manual', 'full', null)).toBe(first)
    expect(await ask('daily', 'full', null)).not.toBe(first)
    const tables = await ask('manual', 'tables', ['public.campaigns'])
    expect(await ask('manual', 'tables', ['public.campaigns'])).toBe(tables)
    expect(await ask('manual', 'tables', ['public.users'])).not.toBe(tables)
    expect(await db.query(`select subject from pawl.runs where run_id = $1`, [tables])).toEqual([
      { subject: expect.stringMatching(/^manual backup of pawl_test_\w+, tables public\.campaigns$/) },
    ])
  })

  test.each([
    ['hourly', 'full', null, /no kind of backup "hourly"/],
    ['manual', 'half', null, /no scope of a backup "half"/],
    ['manual', 'tables', null, /belong together/],
    ['manual', 'full', ['public.users'], /belong together/],
    ['manual', 'tables', ['public.users', 'public.user'], /there is no table "public\.user"$/],
    ['manual', 'tables', ['users'], /there is no table "users"$/],
    ['manual', 'tables', ['pawl.runs'], /there is no table "pawl\.runs"$/],
    ['manual', 'tables', ['public.users', null], /there is no table "null"$/],
    ['manual', 'tables', [''], /there is no table ""$/],
    ['manual', 'tables', ['a.b.c.d'], /there is no table "a\.b\.c\.d"$/],
    ['manual', 'tables', ['a.b.c'], /there is no table "a\.b\.c"$/],
    ['manual', 'tables', ['public."users'], /there is no table "public\."users"$/],
  ])('refuses %s, %s, %j, and leaves nothing', async (kind, scope, tables, message) => {
    const before = await db.query('select count(*) from pawl.checkpoints')
    await expect(db.query('select pawl.request_backup($1, $2, $3)', [kind, scope, tables])).rejects.toMatchObject({
      code: '22023',
      message: expect.stringMatching(message),
      hint: expect.any(String),
    })
    expect(await db.query('select count(*) from pawl.checkpoints')).toEqual(before)
  })

  test('a worker without a place refuses the run, says what to set, and notes it in the maintenance log', async () => {
    const outcomes = await workAll(backup, handlerOptions(db, lease))
    expect(new Set(outcomes)).toEqual(new Set(['failed']))
    expect(await db.query(`select distinct error from pawl.failures where kind = 'backup'`)).toEqual([{ error: 'no place for backups is named' }])
    expect(await db.query(`select details ->> 'state' as state from public.system_maintenance_log where operation = 'backup_daily'`)).toEqual([
      { state: 'failed' },
    ])
  })
})

test('a worker looks at its disks, its pool, how it is answered, and whether it could take a backup', async () => {
  const look = (env: Record<string, string>) => lookAround({ db, clock: systemClock, config: readConfig({ DATABASE_URL: db.url, ...env }) })
  expect(await look({})).toEqual([
    { check: 'latency', ok: true, detail: expect.stringMatching(/answers in [\d.]+ ms/), data: { ms: expect.any(Number) } },
    { check: 'pool', ok: true, detail: expect.stringMatching(/of 20 connections/), data: expect.objectContaining({ max: 20 }) },
    { check: 'backup', ok: true, detail: 'off: neither BACKUP_DIR nor BACKUP_S3_BUCKET is set', data: { place: null } },
  ])
  const checks = await look({ BACKUP_DIR: '/tmp', PAWL_PG_BIN: '/nowhere' })
  expect(checks.find(({ check }) => check === 'backup')).toMatchObject({ ok: false, detail: expect.stringContaining('/nowhere'), data: { place: '/tmp' } })
  expect(checks.find(({ check }) => check === 'disk /tmp')).toMatchObject({ detail: expect.stringMatching(/GB free/) })
})

test('a worker looks around once when it starts, once more when it is told to, and begins nothing when it stops', async () => {
  const asked: string[] = []
  const query: typeof db.query = (text, values) => {
    asked.push(text)
    // A look takes its time, and nobody needs a second one beside it.
    return systemClock.sleep(20).then(() => db.query(text, values))
  }
  const looks = () => asked.filter(text => text.includes('record_worker_checks')).length
  const context = { db: { ...db, query }, config: readConfig({ DATABASE_URL: db.url }), clock: systemClock, log: silent, lease: () => lease.id }
  const turning = workerChecks.start(context)
  await until('the first look is written down', () => looks() === 1)
  expect(asked.filter(text => text === 'select 1').length).toBe(5)
  turning.notified('')
  await until('the second look is written down', () => looks() === 2)
  await turning.stop()
  expect([looks(), asked.filter(text => text === 'select 1').length]).toEqual([2, 10])
})
