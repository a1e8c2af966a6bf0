import { expect, onTestFinished, test } from 'vitest'
import { upgrade } from '../../bin/commands/migrate.ts'
import { readConfig } from '../../src/config.ts'
import { openDatabase } from '../../src/database.ts'
import { startEmbedded } from '../../src/embedded.ts'
import { backfill } from '../../workers/maintenance/backfill.ts'
import { ask } from '../support/embedded.ts'
import { handlerOptions, takeLease, workAll } from '../support/engine.ts'
import { silent, type TestDatabase } from '../support/postgres.ts'
import { startStandby } from '../support/standby.ts'
import { until } from '../support/until.ts'

const ROWS = 60_000
const settings = { max_connections: '40', synchronous_commit: 'off' }

test('while a standby does not replay, a backfill holds back and says so; when it goes on, so does the backfill', { timeout: 120_000 }, async () => {
  const primary = await startEmbedded({ log: silent, ephemeral: true, settings })
  onTestFinished(() => primary.stop())
  const config = readConfig({ DATABASE_URL: primary.url })
  await upgrade(config, silent)
  const standby = await startStandby(primary, settings)
  onTestFinished(() => standby.stop())
  const pool = openDatabase(config, silent, { max: 4 })
  onTestFinished(() => pool.close())
  const db = { ...pool, url: primary.url } as TestDatabase
  await db.query(`create table public.orders (id int primary key, n int not null default 0); insert into public.orders select generate_series(1, ${ROWS})`)
  await until('the standby streams', async () => (await db.query(`select from pg_stat_replication where state = 'streaming'`)).length === 1)
  const lease = await takeLease(db, 'tester', ['maintenance.backfill'])
  onTestFinished(() => lease.stop())
  const run = async () => {
    const [row] = await db.query<{ done: number; state: string; throttle: string | null; why: string }>(
      `select r.done, r.state, b.throttle, pawl.why(r.run_id) as why from pawl.runs r join pawl.backfills b using (run_id)`,
    )
    return row ?? { done: -1, state: '', throttle: null, why: '' }
  }

  await ask(standby.url, 'select pg_wal_replay_pause()')
  await db.query(`select pawl.request_backfill('public.orders', 'n = n + 1', batch_size => 20, batch_time => '2 ms', lag_limit => '300 ms')`)
  const working = workAll(backfill, handlerOptions(db, lease))
  const held = await until('it holds back', async () => {
    const now = await run()
    return now.throttle === null ? undefined : now
  })
  expect(held.done).toBeLessThan(ROWS)
  expect(held.why).toMatch(/it holds back: standby standby has not replayed since .*, longer than 00:00:00\.3 \(since .*\)\. It goes on by itself/)
  const [{ checked } = { checked: undefined }] = await db.query<{ checked: Date }>('select updated_at as checked from pawl.lanes')
  await until('it has looked again', async () => (await db.query('select from pawl.lanes where updated_at > $1', [checked])).length === 1)
  expect(await run()).toMatchObject({ done: held.done, state: 'running' })
  expect(await db.query('select run_id from pawl.stuck')).toEqual([])

  await ask(standby.url, 'select pg_wal_replay_resume()')
  expect(await working).toEqual(['completed'])
  expect(await run()).toMatchObject({ done: ROWS, state: 'completed', throttle: null })
  expect(await db.query('select n, count(*) as rows from public.orders group by n')).toEqual([{ n: 1, rows: ROWS }])

  // Locks are not replicated, and yet health on the standby knows who is alive.
  await db.query('update pawl.leases set seen_at = clock_timestamp()')
  const alive = `select detail from pawl.health where "check" = 'workers' and ok`
  expect(await until('the standby tells of the worker', async () => (await ask(standby.url, alive))[0])).toEqual({ detail: '1 alive' })
})
