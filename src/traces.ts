import { type Attributes, type Context, context, type Link, ROOT_CONTEXT, type SpanContext, SpanStatusCode, trace } from '@opentelemetry/api'
import type { Clock } from './clock.ts'
import { codeOf, messageOf, type Verdict } from './errors.ts'
import { version } from './version.ts'

/** What the span of one attempt at a run is told. All of it costs nothing where no OpenTelemetry SDK is loaded. */
export type RunTrace = {
  /** Batches were committed, as `committed` of the run's context says. */
  committed(step: { batches: number; rows: number }, milliseconds: number): void
  failed(error: unknown, verdict: Verdict): void
  ended(outcome: string): void
}

export type TracedRun = { runId: string; kind: string; queue: string; epoch: number; traceparent: string | undefined }

/** A long run commits hundreds of slices a second: one span stands for all of a second. */
const SPAN_EVERY_MS = 1_000

const TRACEPARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/

/** Does `work` in a span of its own, `pawl run QUEUE`: a child of whoever asked for the run, whichever worker and attempt this is. */
export async function traceRun<Result>(run: TracedRun, clock: Clock, work: (told: RunTrace) => Promise<Result>): Promise<Result> {
  const tracer = trace.getTracer('pawl', version)
  const { parent, links } = parentOf(run.traceparent)
  const attributes = { 'pawl.run_id': run.runId, 'pawl.kind': run.kind, 'pawl.queue': run.queue, 'pawl.epoch': run.epoch }
  const span = tracer.startSpan(`pawl run ${run.queue}`, { attributes, links }, parent)
  const within = trace.setSpan(parent, span)
  const since = { batches: 0, rows: 0, spannedMs: Number.NEGATIVE_INFINITY }
  const whole = { batches: 0, rows: 0 }

  const told: RunTrace = {
    committed({ batches, rows }, milliseconds) {
      if (!span.isRecording()) return
      for (const count of [since, whole]) {
        count.batches += batches
        count.rows += rows
      }
      if (clock.elapsed() - since.spannedMs < SPAN_EVERY_MS) return
      const now = clock.now()
      const child = { startTime: now - milliseconds, attributes: counts(since) }
      tracer.startSpan(`pawl commit ${run.kind}`, child, within).end(now)
      Object.assign(since, { batches: 0, rows: 0, spannedMs: clock.elapsed() })
    },
    failed(error, verdict) {
      const code = codeOf(error)
      span.setAttributes({ 'pawl.verdict': verdict, ...(code === undefined ? {} : { 'error.type': code }) })
      span.recordException(error instanceof Error ? error : messageOf(error))
      // A connection that was lost, or a fence that did its work, is no failure of the run.
      if (verdict === 'bug' || verdict === 'refused') span.setStatus({ code: SpanStatusCode.ERROR, message: messageOf(error) })
    },
    ended: outcome => void span.setAttributes({ 'pawl.outcome': outcome, ...counts(whole) }),
  }
  try {
    return await context.with(within, work, undefined, told)
  } finally {
    span.end()
  }
}

/** What a log line says of the span it was written in; nothing without one. */
export function traceFields(): Record<string, string> {
  const active = trace.getSpanContext(context.active())
  return active === undefined || !trace.isSpanContextValid(active) ? {} : { trace_id: active.traceId, span_id: active.spanId }
}

function counts({ batches, rows }: { batches: number; rows: number }): Attributes {
  return { 'pawl.batches': batches, 'pawl.rows': rows }
}

/**
 * pg-boss has opened a span for the job around us. The first job of a run carries the producer's context, so that span is its child and
 * ours may be the next; a later one, after a rescue or a hand-over, comes from nowhere: then the run's own memory decides, and a link remains.
 */
function parentOf(traceparent: string | undefined): { parent: Context; links: Link[] } {
  const around = trace.getSpanContext(context.active())
  const producer = spanContextOf(traceparent)
  if (producer === undefined || around?.traceId === producer.traceId) return { parent: context.active(), links: [] }
  const links = around !== undefined && trace.isSpanContextValid(around) ? [{ context: around }] : []
  return { parent: trace.setSpanContext(ROOT_CONTEXT, producer), links }
}

/** Read here and not by the SDK's propagator, which may be set to another format: what stands in the database is W3C's. */
function spanContextOf(traceparent: string | undefined): SpanContext | undefined {
  const [, traceId, spanId, flags] = TRACEPARENT.exec(traceparent ?? '') ?? []
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined
  const found = { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & 1, isRemote: true }
  return trace.isSpanContextValid(found) ? found : undefined
}
