import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { newIdentity } from '../../src/seal.ts'
import { openStore, type Store } from '../../src/store.ts'
import { listBackups } from '../../workers/maintenance/backups/catalog.ts'
import { openStage, type Stage } from '../crash/stage.ts'
import { keysIn } from '../support/backups.ts'
import { seedCategory } from '../support/overrides.ts'
import { until } from '../support/until.ts'

const KILLS = 10
const RECIPIENTS = 150_000

let stage: Stage
let store: Store
let env: Record<string, string>

beforeEach(async () => {
  stage = await openStage()
  const place = mkdtempSync(join(tmpdir(), 'pawl-backup-run-'))
  onTestFinished(() => rmSync(place, { recursive: true, force: true }))
  chmodSync(place, 0o700)
  store = openStore(place, { config: readConfig({}) })
  const { recipient } = await newIdentity()
  env = { BACKUP_DIR: place, PAWL_BACKUP_RECIPIENTS: recipient }
})

const start = () => stage.start({ env })
const request = async () => (await stage.query<{ run: string }>(`select pawl.request_backup() as run`))[0]?.run ?? ''
const stateOf = async (run: string) => (await stage.query<{ state: string }>('select state from pawl.checkpoints where run_id = $1', [run]))[0]?.state
const scratchDatabases = async () => (await stage.query<{ datname: string }>(`select datname from pg_database where datname like 'pawl\\_scratch\\_%'`)).length
const ended = (run: string) => until(`${run} has ended`, async () => ['completed', 'failed', 'cancelled'].includes((await stateOf(run)) ?? ''), 60_000)

/** How far the run is: which of its traces can be seen from outside. */
const steps = {
  'while it dumps': async () => (await keysIn(store)).some(key => key.startsWith('+') && key.includes('.dump')),
  'when the dump is whole': async () => (await keysIn(store)).some(key => !key.startsWith('+') && key.includes('.dump')),
  'while it restores': async () => (await scratchDatabases()) > 0,
} as const

test('a worker takes a backup, proves it and writes it down; health and metrics know of it', async () => {
  const seeded = await seedCategory(stage.query, 2_000)
  const worker = await start()
  const run = await request()
  await ended(run)
  expect(await stage.query('select state, error, done = total as whole from pawl.runs where run_id = $1', [run])).toEqual([
    { state: 'completed', error: null, whole: true },
  ])
  const [backup] = await stage.query<{ backup_id: string }>('select * from pawl.backups')
  expect(backup).toMatchObject({ state: 'verified', kind: 'manual', scope: 'full', encrypted: true, error: null, run_id: run, place: env.BACKUP_DIR })
  const { backups, broken, loose } = await listBackups(store)
  expect([broken, loose]).toEqual([[], []])
  expect(backups.map(({ manifest, verification }) => [manifest.name, verification?.name])).toEqual([[backup?.backup_id, backup?.backup_id]])
  expect(backups[0]?.manifest.tables.find(({ name }) => name === 'recipients')?.rows).toBe(seeded.recipients)
  expect(await stage.query(`select ok, detail from pawl.health where "check" = 'verified backup'`)).toEqual([
    { ok: true, detail: expect.stringContaining(backup?.backup_id ?? '') },
  ])
  expect(await stage.query(`select affected_rows, details from public.system_maintenance_log where operation = 'backup_manual'`)).toEqual([
    { affected_rows: 1, details: { run_id: run, state: 'completed' } },
  ])
  expect(await scratchDatabases()).toBe(0)
  const metrics = await (await fetch(`http://127.0.0.1:${worker.httpPort}/metrics`)).text()
  expect(metrics).toMatch(/^pawl_backup_verified_timestamp_seconds 1\.?\d+e\+9|^pawl_backup_verified_timestamp_seconds \d{10}/m)
  expect(metrics).toMatch(/^pawl_health_ok\{check="verified backup"\} 1$/m)
})

test(`killed ${KILLS} times, at each of its steps and at random: every run ends verified, and what the dead left is gone`, async () => {
  await seedCategory(stage.query, RECIPIENTS)
  await Promise.all([start(), start()])
  const named = Object.values(steps)
  for (let kill = 0; kill < KILLS; kill += 2) {
    const run = await request()
    // Twice a run: a third time at the same place would make it poison.
    for (const place of [kill, kill + 1]) {
      const owner = async () =>
        (await stage.query<{ name: string }>(`select l.name from pawl.checkpoints c join pawl.leases l on l.id = c.owner where c.run_id = $1`, [run]))[0]?.name
      const name = await until('someone works on it', owner)
      const step = named[place]
      if (step === undefined) await systemClock.sleep(Math.random() * 1_500)
      else await until('it is there', step)
      stage.workers.find(worker => worker.name === name && worker.pid > 0)?.signal('SIGKILL')
      await until('another one has it', async () => ((await owner()) ?? name) !== name || (await stateOf(run)) === 'completed', 60_000)
      await start()
    }
    await ended(run)
    expect(await stateOf(run)).toBe('completed')
  }
  const { backups, broken, loose } = await listBackups(store)
  expect([broken, loose]).toEqual([[], []])
  // A worker may have died between the manifest and its proof: that backup is whole, and is not called verified.
  const records = await stage.query<{ state: string; runs: number }>('select state, count(*)::integer as runs from pawl.backups group by 1')
  expect(records.find(({ state }) => state === 'verified')?.runs).toBe(KILLS / 2)
  expect(backups.filter(({ verification }) => verification !== undefined).length).toBeGreaterThanOrEqual(KILLS / 2)
  expect(await scratchDatabases()).toBe(0)
  console.info(JSON.stringify({ kills: KILLS, backups: backups.length, records }))
}, 300_000)

test('SIGTERM in the middle: exit 0 at once, no attempt spent, and the next worker takes it from its beginning', async () => {
  await seedCategory(stage.query, RECIPIENTS)
  const first = await start()
  const run = await request()
  await until('it dumps', steps['while it dumps'])
  const begun = systemClock.elapsed()
  first.signal('SIGTERM')
  expect(await first.exited).toEqual({ code: 0, signal: null })
  const drainMs = Math.round(systemClock.elapsed() - begun)
  expect(await stateOf(run)).toBe('pending')
  expect(await keysIn(store)).toEqual([])
  await start()
  await ended(run)
  expect(await stage.query('select state, failures, crashes from pawl.checkpoints where run_id = $1', [run])).toEqual([
    { state: 'completed', failures: 0, crashes: 0 },
  ])
  console.info(JSON.stringify({ drain_ms: drainMs }))
  expect(drainMs).toBeLessThan(10_000)
})

test.each(Object.keys(steps) as (keyof typeof steps)[])(
  'cancelled %s: ended within seconds, and no file, no draft, no scratch database stays that is not a backup',
  async step => {
    await seedCategory(stage.query, RECIPIENTS)
    await start()
    const run = await request()
    await until(step, steps[step])
    await stage.query(`select pawl.cancel($1, 'not now')`, [run])
    await ended(run)
    expect(await stage.query('select state, error from pawl.runs where run_id = $1', [run])).toEqual([
      { state: 'cancelled', error: expect.stringContaining('not now') },
    ])
    const { backups, loose, broken } = await listBackups(store)
    expect([loose, broken]).toEqual([[], []])
    expect(backups.every(({ verification }) => verification === undefined)).toBe(true)
    expect(await scratchDatabases()).toBe(0)
  },
)

test('a store that can not be written to fails the run with its name and the next step, after its retries', async () => {
  await stage.start({ env: { ...env, BACKUP_DIR: '/dev/null/pawl' } })
  const run = await request()
  const why = async () => (await stage.query<{ why: string }>('select pawl.why($1) as why', [run]))[0]?.why ?? ''
  expect(await until('it says why', async () => /\/dev\/null\/pawl/.test(await why()) && (await why()))).toMatch(/retry|Failed/)
  expect(await stage.query('select backup_id from pawl.backups')).toEqual([])
})

test('where backups have a place and pg_dump is missing, the worker says so when it starts, and so does pawl.health', async () => {
  const worker = await stage.start({ env: { ...env, PAWL_PG_BIN: '/nowhere' } })
  const line = await until('the log says so', () => worker.log.find(({ check }) => check === 'backup'))
  expect(line).toMatchObject({ level: 'warn', detail: expect.stringContaining('/nowhere') })
  expect(await stage.query(`select ok, detail from pawl.health where "check" = 'worker backup'`)).toEqual([
    { ok: false, detail: expect.stringContaining('pg_dump of PostgreSQL 15 is not in /nowhere') },
  ])
})
