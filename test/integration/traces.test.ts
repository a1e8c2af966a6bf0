import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import { type Daemon, startDaemon } from '../../src/daemon.ts'
import { applyOverride } from '../../workers/overrides/apply.ts'
import { handlerOptions, takeLease, workAll } from '../support/engine.ts'
import { type Seeded, seedCategory } from '../support/overrides.ts'
import { createDatabase, silent, type TestDatabase } from '../support/postgres.ts'
import { type Recorded, recordSpans } from '../support/tracing.ts'
import { until } from '../support/until.ts'

let db: TestDatabase
let seeded: Seeded
let recorder: ReturnType<typeof recordSpans>

beforeAll(async () => {
  db = await createDatabase()
  seeded = await seedCategory(db.query, 250)
  recorder = recordSpans()
})

afterAll(async () => {
  recorder.close()
  await db.drop()
})

const newTrace = () => ({ traceId: randomBytes(16).toString('hex'), spanId: randomBytes(8).toString('hex') })
const spansOf = (traceId: string) => recorder.spans.filter(span => span.context.traceId === traceId)
const spanOf = (spans: Recorded[], name: string) => spans.filter(span => span.name === name)

/** Asks for a run as any service does: in its own transaction, with nothing but SQL. */
async function request(traceparent: string): Promise<string> {
  return db.transact(async query => {
    await query(`select set_config('pawl.traceparent', $1, true)`, [traceparent])
    const [row] = await query<{ run: string }>('select pawl.request_override($1, $2) as run', [seeded.categoryId, seeded.userId])
    return row?.run ?? ''
  })
}

async function startWorker(): Promise<Daemon> {
  const config = readConfig({ DATABASE_URL: db.url, PAWL_HTTP_PORT: '0', PAWL_HTTP_HOST: '127.0.0.1', PAWL_SLICE_MS: '0' })
  return startDaemon({ config, log: silent, workers: [applyOverride] })
}

const ended = (runId: string) =>
  until('the run ends', async () => (await db.query(`select from pawl.checkpoints where run_id = $1 and state = 'completed'`, [runId])).length > 0)

test("a producer's span is the parent of pg-boss's, that of the run's, that of its batches'", async () => {
  const producer = newTrace()
  const worker = await startWorker()
  try {
    const runId = await request(`00-${producer.traceId}-${producer.spanId}-01`)
    await ended(runId)
    const [attempt] = await until('the span of the run ends', async () => {
      const found = spanOf(spansOf(producer.traceId), 'pawl run overrides.apply')
      return found[0]?.ended === true ? found : undefined
    })
    const [delivery] = spanOf(spansOf(producer.traceId), 'process overrides.apply')
    expect(delivery?.parent).toMatchObject({ spanId: producer.spanId, isRemote: true })
    expect(attempt).toMatchObject({
      parent: { spanId: delivery?.context.spanId },
      attributes: { 'pawl.run_id': runId, 'pawl.kind': 'override', 'pawl.epoch': 1, 'pawl.outcome': 'completed', 'pawl.rows': 250 },
      status: undefined,
    })
    const batches = spanOf(spansOf(producer.traceId), 'pawl commit override')
    expect(batches.length).toBeGreaterThan(0)
    expect(batches.every(batch => batch.parent?.spanId === attempt?.context.spanId && batch.ended)).toBe(true)
  } finally {
    await worker.drain('the test is over')
  }
})

test('a run whose first worker died, and a run asked for on a connection that is used again, each stay in their own trace', async () => {
  const producer = newTrace()
  const runId = await request(`00-${producer.traceId}-${producer.spanId}-01`)
  // As after a rescue: the old job is gone, and whoever enqueues the new one has no producer's context.
  await db.query(`delete from pgboss.job where name = 'overrides.apply'`)
  await db.query('select pawl.deliver($1)', [runId])
  const [other] = await db.query<{ run: string }>('select pawl.request_override($1, $2) as run', [seeded.categoryId, seeded.userId])
  expect(await db.query('select run_id, traceparent from pawl.checkpoints where run_id = any ($1) order by requested_at', [[runId, other?.run]])).toEqual([
    { run_id: runId, traceparent: `00-${producer.traceId}-${producer.spanId}-01` },
    { run_id: other?.run, traceparent: null },
  ])
  const worker = await startWorker()
  try {
    await ended(runId)
    await ended(other?.run ?? '')
    const attempt = await until('the spans end', async () => spanOf(spansOf(producer.traceId), 'pawl run overrides.apply').find(span => span.ended))
    expect(attempt.parent).toMatchObject({ spanId: producer.spanId })
    const linked = recorder.spans.find(span => span.context.spanId === attempt.links[0]?.context.spanId)
    expect(linked).toMatchObject({ name: 'process overrides.apply', parent: undefined })
    expect(spansOf(producer.traceId).some(span => span.attributes['pawl.run_id'] === other?.run)).toBe(false)
  } finally {
    await worker.drain('the test is over')
  }
})

test.each([
  ['a word', 'hello'],
  ['nothing', ''],
  ['capitals', `00-${'A'.repeat(32)}-${'b'.repeat(16)}-01`],
  ['more behind it', `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01'; drop table pawl.checkpoints`],
  ['100 kB', 'x'.repeat(100_000)],
])('a traceparent that is none (%s) is ignored, and the run goes its way', async (_, traceparent) => {
  const runId = await request(traceparent)
  expect(await db.query('select traceparent from pawl.checkpoints where run_id = $1', [runId])).toEqual([{ traceparent: null }])
  expect(await db.query(`select trace_context from pgboss.job where data ->> 'run_id' = $1`, [runId])).toEqual([{ trace_context: null }])
  await db.query(`select pawl.cancel($1, 'enough')`, [runId])
})

test('an attempt that fails makes its span an error, with what was thrown', async () => {
  const producer = newTrace()
  const lease = await takeLease(db)
  try {
    const runId = await request(`00-${producer.traceId}-${producer.spanId}-00`)
    const broken = {
      queue: 'overrides.apply',
      work: async () => {
        throw Object.assign(new Error('value out of range'), { code: '22003' })
      },
    }
    // Deliveries of the runs that other tests cancelled are still there.
    expect((await workAll(broken, handlerOptions(db, lease))).filter(outcome => outcome !== 'finished')).toEqual(['failed'])
    expect(spansOf(producer.traceId)).toMatchObject([
      {
        name: 'pawl run overrides.apply',
        attributes: { 'pawl.run_id': runId, 'pawl.outcome': 'failed', 'pawl.verdict': 'refused', 'error.type': '22003' },
        status: { message: 'value out of range' },
        exceptions: [{ message: 'value out of range' }],
      },
    ])
  } finally {
    await lease.stop()
  }
})

test('whoever may only produce may name its span', async () => {
  const name = `pawl_test_tracer_${randomBytes(6).toString('hex')}`
  await db.query(`create role ${name} login password 'secret' in role pawl_producer`)
  const login = await connectDirect(readConfig({ DATABASE_URL: db.urlAs(name, 'secret') }), 'producer')
  try {
    await login.query('begin')
    await login.query(`set local pawl.traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'`)
    const [row] = await login.query<{ run: string }>('select pawl.request_override($1, $2) as run', [seeded.categoryId, seeded.userId])
    const [job] = await login.query<{ id: string }>(`select pawl.enqueue('overrides.apply.dead', '{}') as id`)
    await login.query('commit')
    expect(await db.query('select traceparent is not null as kept from pawl.checkpoints where run_id = $1', [row?.run])).toEqual([{ kept: true }])
    expect(await db.query('select trace_context from pgboss.job where id = $1', [job?.id])).toEqual([
      { trace_context: { traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' } },
    ])
  } finally {
    await login.close()
    await db.query(`drop role ${name}`)
  }
})
