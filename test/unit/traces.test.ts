import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { context, ROOT_CONTEXT, SpanStatusCode, trace } from '@opentelemetry/api'
import { afterEach, expect, onTestFinished, test } from 'vitest'
import type { Clock } from '../../src/clock.ts'
import { CheckpointLost } from '../../src/errors.ts'
import { openLog } from '../../src/log.ts'
import { traceFields, type TracedRun, traceRun } from '../../src/traces.ts'
import { type Recorded, recordSpans } from '../support/tracing.ts'

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const PRODUCER = '00f067aa0ba902b7'
const run: TracedRun = { runId: 'ovr_1', kind: 'override', queue: 'overrides.apply', epoch: 3, traceparent: `00-${TRACE}-${PRODUCER}-01` }

let recorder: ReturnType<typeof recordSpans> | undefined

function record(options?: { isRecording: boolean }): Recorded[] {
  recorder = recordSpans(options)
  return recorder.spans
}

afterEach(() => {
  recorder?.close()
  recorder = undefined
})

/** A clock that stands where it is put. */
function clockAt(): Clock & { ms: number } {
  const clock = { ms: 0, now: () => 1_700_000_000_000 + clock.ms, elapsed: () => clock.ms, sleep: async () => {} }
  return clock
}

/** The context in which a span of another trace is active, as pg-boss's is around a job. */
const inSpan = (traceId: string, spanId: string) => trace.setSpanContext(ROOT_CONTEXT, { traceId, spanId, traceFlags: 1 })

test('without an SDK nothing is recorded, the work is done all the same, and log lines name no trace', async () => {
  const answer = await traceRun(run, clockAt(), async told => {
    told.committed({ batches: 1, rows: 100 }, 5)
    told.failed(new Error('bad'), 'bug')
    told.ended('completed')
    return traceFields()
  })
  expect(answer).toEqual({})
})

test('an attempt is one span, the child of whoever asked for the run, and says run, kind, queue, epoch and outcome', async () => {
  const spans = record()
  await traceRun(run, clockAt(), async told => told.ended('completed'))
  expect(spans).toMatchObject([
    {
      name: 'pawl run overrides.apply',
      context: { traceId: TRACE },
      parent: { traceId: TRACE, spanId: PRODUCER, isRemote: true },
      links: [],
      attributes: { 'pawl.run_id': 'ovr_1', 'pawl.kind': 'override', 'pawl.queue': 'overrides.apply', 'pawl.epoch': 3, 'pawl.outcome': 'completed' },
      status: undefined,
      ended: true,
    },
  ])
})

test("where pg-boss's span continues the producer's trace, ours is its child", async () => {
  const spans = record()
  await context.with(inSpan(TRACE, 'aaaaaaaaaaaaaaaa'), () => traceRun(run, clockAt(), async told => told.ended('completed')))
  expect(spans).toMatchObject([{ parent: { spanId: 'aaaaaaaaaaaaaaaa' }, links: [] }])
})

test("where pg-boss's span comes from nowhere, as after a rescue, ours stays in the producer's trace and links to it", async () => {
  const spans = record()
  const other = 'b'.repeat(32)
  await context.with(inSpan(other, 'cccccccccccccccc'), () => traceRun(run, clockAt(), async told => told.ended('completed')))
  expect(spans).toMatchObject([
    { context: { traceId: TRACE }, parent: { spanId: PRODUCER }, links: [{ context: { traceId: other, spanId: 'cccccccccccccccc' } }] },
  ])
})

test.each([
  ['nothing', undefined],
  ['no traceparent', 'hello'],
  ['zeros', `00-${'0'.repeat(32)}-${PRODUCER}-01`],
])('a run that remembers %s continues the span around it, or begins a trace', async (_, traceparent) => {
  const spans = record()
  await traceRun({ ...run, traceparent }, clockAt(), async () => {})
  await context.with(inSpan('b'.repeat(32), 'cccccccccccccccc'), () => traceRun({ ...run, traceparent }, clockAt(), async () => {}))
  expect(spans).toMatchObject([{ parent: undefined }, { parent: { spanId: 'cccccccccccccccc' }, links: [] }])
})

test('slices are spans of the attempt, one a second at most, and none of their rows is lost', async () => {
  const spans = record()
  const clock = clockAt()
  await traceRun(run, clock, async told => {
    for (let slice = 0; slice < 25; slice += 1) {
      clock.ms += 100
      told.committed({ batches: 2, rows: 10 }, 40)
    }
    told.ended('completed')
  })
  const [whole, ...slices] = spans
  expect(whole?.attributes).toMatchObject({ 'pawl.batches': 50, 'pawl.rows': 250 })
  // After 0.1, 1.1 and 2.1 seconds; what came after is in the attempt's own span.
  expect(slices.map(span => span.attributes)).toEqual([
    { 'pawl.batches': 2, 'pawl.rows': 10 },
    { 'pawl.batches': 20, 'pawl.rows': 100 },
    { 'pawl.batches': 20, 'pawl.rows': 100 },
  ])
  for (const slice of slices) {
    expect(slice).toMatchObject({ name: 'pawl commit override', parent: { spanId: whole?.context.spanId }, ended: true })
    expect(Number(slice.endTime) - Number(slice.startTime)).toBe(40)
  }
  expect(slices[1]?.endTime).toBe(1_700_000_001_100)
})

test('a trace that is not sampled makes no spans of slices', async () => {
  const spans = record({ isRecording: false })
  await traceRun(run, clockAt(), async told => told.committed({ batches: 1, rows: 1 }, 1))
  expect(spans.map(span => span.name)).toEqual(['pawl run overrides.apply'])
})

test('what went wrong is recorded; only what is a failure of the work makes the span one', async () => {
  const spans = record()
  const fail = (error: unknown, verdict: 'bug' | 'lost' | 'transient' | 'refused') =>
    traceRun(run, clockAt(), async told => {
      told.failed(error, verdict)
      told.ended(verdict)
    })
  const refused = Object.assign(new Error('value too long'), { code: '22001' })
  await fail(new Error('no such column'), 'bug')
  await fail(refused, 'refused')
  await fail(new CheckpointLost('ovr_1'), 'lost')
  await fail(new Error('connection terminated'), 'transient')
  expect(spans.map(span => span.status)).toEqual([
    { code: SpanStatusCode.ERROR, message: 'no such column' },
    { code: SpanStatusCode.ERROR, message: 'value too long' },
    undefined,
    undefined,
  ])
  expect(spans.map(span => (span.exceptions[0] as Error).message)).toEqual([
    'no such column',
    'value too long',
    'run ovr_1 was taken over by another worker',
    'connection terminated',
  ])
  expect(spans[1]?.attributes).toMatchObject({ 'pawl.verdict': 'refused', 'error.type': '22001' })
})

test('a span ends although its work throws', async () => {
  const spans = record()
  const broken = traceRun(run, clockAt(), async () => {
    throw new Error('unforeseen')
  })
  await expect(broken).rejects.toThrow('unforeseen')
  expect(spans).toMatchObject([{ ended: true }])
})

test('log lines written within a span name it', async () => {
  const spans = record()
  const directory = mkdtempSync(join(tmpdir(), 'pawl-traces-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  const path = join(directory, 'log')
  const file = openSync(path, 'w')
  onTestFinished(() => closeSync(file))
  const log = openLog({ level: 'info', destination: file })
  log.info('before')
  await traceRun(run, clockAt(), async () => {
    await new Promise(resolve => setImmediate(resolve))
    log.child({ run_id: 'ovr_1' }).info('within')
  })
  const [before, within] = readFileSync(path, 'utf8')
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as Record<string, unknown>)
  expect(before).not.toHaveProperty('trace_id')
  expect(within).toMatchObject({ msg: 'within', trace_id: TRACE, span_id: spans[0]?.context.spanId })
})
