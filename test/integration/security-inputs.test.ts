import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { serveHealth } from '../../src/health.ts'
import { performing } from '../../src/task.ts'
import { handle } from '../../src/worker.ts'
import { fireTimer } from '../../workers/campaigns/fire.ts'
import { sweep } from '../../workers/maintenance/sweep.ts'
import { applyOverride } from '../../workers/overrides/apply.ts'
import { handlerOptions, takeLease } from '../support/engine.ts'
import { createDatabase, silent, type TestDatabase } from '../support/postgres.ts'

// Each of these was found by fuzzing or by the review in docs/security.md, and stays found.
let db: TestDatabase

beforeAll(async () => {
  db = await createDatabase()
})

afterAll(() => db.drop())

async function refusal(sql: string, values: unknown[]): Promise<{ code: string; hint: string; message: string }> {
  return db.query(sql, values).then(
    () => expect.unreachable('it was accepted'),
    (error: { code: string; hint: string; message: string }) => error,
  )
}

describe('a job for a time long past', () => {
  test('is a job for now: it blinds no view, and a worker counts no wait of two thousand years', async () => {
    await db.query(`select pawl.enqueue('overrides.apply', '{}', start_after => '4713-01-01 BC')`)
    const [job] = await db.query<{ now: boolean }>(`select start_after > now() - interval '1 minute' as now from pgboss.job where name = 'overrides.apply'`)
    expect(job?.now).toBe(true)
    expect((await db.query(`select oldest_ready_seconds < 100 as recent from pawl.queues where queue = 'overrides.apply'`))[0]).toEqual({ recent: true })
  })

  test('does no harm either where it was written into pg-boss itself', async () => {
    await db.query(`update pgboss.job set start_after = '4713-01-01 BC' where name = 'overrides.apply'`)
    expect((await db.query(`select oldest_ready_seconds > 1e9 as old from pawl.queues where queue = 'overrides.apply'`))[0]).toEqual({ old: true })
    expect((await db.query(`select ok from pawl.health where "check" = 'queue age'`))[0]).toEqual({ ok: false })
    await db.query(`delete from pgboss.job where name = 'overrides.apply'`)
  })
})

test('times that no clock of ours knows are refused with a hint', async () => {
  for (const at of ['infinity', '-infinity', '294276-12-31 23:59:59+00', '10000-01-01 00:00:00+00']) {
    for (const call of [
      `pawl.enqueue('overrides.apply', '{}', start_after => $1)`,
      'pawl.create_campaign(87600, $1)',
      "pawl.schedule_timer(null, 'START_CAMPAIGN', $1)",
      'pawl.reschedule_timer(null, $1)',
    ])
      expect([call, at, await refusal(`select ${call}`, [at])]).toMatchObject([call, at, { code: '22023', hint: expect.stringMatching(/time|now\(\)/) }])
  }
})

test('a singleton key that fits no index is refused with a hint, as long as it is in bytes', async () => {
  const key = Array.from({ length: 300 }, (_, i) => String.fromCodePoint(0x1f300 + ((i * 7919) % 1500))).join('')
  expect(await refusal(`select pawl.enqueue('overrides.apply', '{}', singleton_key => $1)`, [key])).toMatchObject({ code: '22023', hint: 'use a hash of it' })
})

test("queues of pg-boss itself are nobody's to fill, pause or resume", async () => {
  const names = await db.query<{ name: string }>(`select name from pgboss.queue where name like '\\_\\_pgboss%'`)
  for (const name of [...names.map(row => row.name), '__pgboss__send-it']) {
    for (const call of [`pawl.enqueue($1, '{"name": "overrides.apply"}')`, 'pawl.pause($1)', 'pawl.resume($1)'])
      expect(await refusal(`select ${call}`, [name])).toMatchObject({ code: '22023', message: `queue "${name}" does not exist` })
  }
})

test('a table of Pawl or of pg-boss is not changed for a refresh, whoever registered it', async () => {
  for (const [schema, table, column] of [
    ['pawl', 'kinds', 'queue'],
    ['pgboss', 'queue', 'policy'],
  ]) {
    await db.query('insert into sqp.refresh_config (table_schema, table_name, is_enabled) values ($1, $2, true)', [schema, table])
    expect(await refusal('select pawl.widen_refreshed_table($1, $2, $3, $4)', [schema, table, column, 'character varying(5)'])).toMatchObject({ code: '42501' })
    expect(await refusal('select pawl.widen_refreshed_table($1, $2, $3, $4)', [schema, table, 'added', 'text'])).toMatchObject({ code: '42501' })
  }
  await db.query(`delete from sqp.refresh_config where table_schema in ('pawl', 'pgboss')`)
})

test('a megabyte that is refused is not repeated', async () => {
  const long = 'x'.repeat(1_000_000)
  for (const call of [
    `pawl.enqueue($1, '{}')`,
    'pawl.cancel($1)',
    'pawl.retry($1)',
    'pawl.pause($1)',
    'pawl.revert_override($1, 1)',
    'pawl.refresh_table($1)',
    'pawl.request_backup($1)',
  ])
    expect([call, (await refusal(`select ${call}`, [long])).message.length < 300]).toEqual([call, true])
  expect(String((await db.query<{ why: string }>('select pawl.why($1) as why', [long]))[0]?.why).length).toBeLessThan(500)
})

describe('a job that anybody enqueued', () => {
  test('does not bring back a timer that an operator cancelled', async () => {
    const [made] = await db.query<{ id: string }>(`select pawl.create_campaign(1, now() + interval '1 day') as id`)
    const [found] = await db.query<{ timer: string }>(
      `select id as timer from public.campaign_timers where campaign_id = $1 and timer_type = 'START_CAMPAIGN'`,
      [made?.id],
    )
    const timer = found?.timer
    await db.query('select pawl.cancel($1, $2)', [timer, 'a mistake'])
    const lease = await takeLease(db)
    const settled = await performing(fireTimer, handlerOptions(db, lease))({ timer_id: timer, error: 'redriven' }, 'job', new AbortController().signal)
    await lease.stop()
    expect(settled).toMatchObject({ status: 'completed', output: { timer: 'not failed' } })
    expect((await db.query('select status from public.campaign_timers where id = $1', [timer]))[0]).toEqual({ status: 'CANCELLED' })
  })

  test('dies at once and quietly where it names its run or its schedule by something else than a name', async () => {
    const said: unknown[] = []
    const lease = await takeLease(db)
    const told = {
      child: (fields: unknown) => {
        said.push(fields)
        return told
      },
      error: (...words: unknown[]) => said.push(words),
      warn() {},
      info() {},
      debug() {},
    } as unknown as typeof silent
    const options = handlerOptions(db, lease, { log: told })
    const signal = new AbortController().signal
    for (const odd of [{ password: 'hidden' }, `hidden${'x'.repeat(1_000)}`, ['hidden'], { toString: 'hidden' }]) {
      const run = await handle(applyOverride, options)({ runId: odd, jobId: 'job', jobAttempt: 0 }, signal)
      expect(run).toMatchObject({ status: 'deadletter', output: { outcome: 'refused' } })
      const swept = await performing(sweep, options)({ schedule: odd }, 'job', signal)
      expect(swept).toEqual({ status: 'deadletter', output: { outcome: 'refused', error: 'the job names no schedule' } })
    }
    await lease.stop()
    expect(said.length).toBeGreaterThan(4)
    expect(JSON.stringify(said)).not.toContain('hidden')
  })
})

test('who sends a request byte by byte is let go, and the probes answer others meanwhile', async () => {
  const health = await serveHealth({
    host: '127.0.0.1',
    port: 0,
    log: silent,
    probes: { live: () => [], ready: () => [], metrics: async () => ({ type: 'text/plain', text: '' }) },
  })
  const sockets = Array.from({ length: 50 }, () => connect(health.port, '127.0.0.1'))
  const closed = sockets.map(socket => {
    socket.on('error', () => {})
    socket.write('GET /livez HTTP/1.1\r\nhost: ')
    socket.resume()
    return new Promise(resolve => socket.on('close', resolve))
  })
  expect((await fetch(`http://127.0.0.1:${health.port}/livez`)).status).toBe(200)
  expect((await fetch(`http://127.0.0.1:${health.port}/livez?${'x'.repeat(14_000)}`)).status).toBe(200)
  expect((await fetch(`http://127.0.0.1:${health.port}/${'x'.repeat(20_000)}`)).status).toBe(431)
  expect((await fetch(`http://127.0.0.1:${health.port}/livez`, { method: 'POST', body: 'x' })).status).toBe(405)
  expect(
    (await fetch(`http://127.0.0.1:${health.port}/livez`, { headers: { origin: 'https://elsewhere.example' } })).headers.get('access-control-allow-origin'),
  ).toBeNull()
  // The server's own patience, 5 s, and what it takes to look.
  await Promise.all(closed)
  await health.close()
}, 30_000)
