import { AsyncLocalStorage } from 'node:async_hooks'
import {
  type Attributes,
  type Context,
  context,
  type ContextManager,
  type Exception,
  type Link,
  propagation,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  type SpanOptions,
  type SpanStatus,
  type TextMapPropagator,
  type TimeInput,
  trace,
  TraceFlags,
  type TracerProvider,
} from '@opentelemetry/api'
import { randomBytes } from 'node:crypto'

/** A span as the recorder keeps it. */
export type Recorded = {
  name: string
  context: SpanContext
  parent: SpanContext | undefined
  links: Link[]
  attributes: Attributes
  status: SpanStatus | undefined
  exceptions: Exception[]
  startTime: TimeInput | undefined
  endTime: TimeInput | undefined
  ended: boolean
}

/**
 * The OpenTelemetry SDK takes no api 1.10 yet, so this stands in for it: a provider that keeps every span, Node's own context, and W3C's headers.
 * Registered for the whole process until `close`.
 */
export function recordSpans(options: { isRecording?: boolean } = {}): { spans: Recorded[]; close(): void } {
  const spans: Recorded[] = []
  const provider: TracerProvider = {
    getTracer: () => ({
      startSpan: (name, spanOptions, within) => record(spans, name, spanOptions ?? {}, within ?? context.active(), options.isRecording ?? true),
      startActiveSpan() {
        throw new Error('not needed')
      },
    }),
  }
  trace.setGlobalTracerProvider(provider)
  context.setGlobalContextManager(openContexts())
  propagation.setGlobalPropagator(w3c)
  return {
    spans,
    close() {
      trace.disable()
      context.disable()
      propagation.disable()
    },
  }
}

function record(spans: Recorded[], name: string, options: SpanOptions, within: Context, isRecording: boolean): Span {
  const parent = trace.getSpanContext(within)
  const own = { traceId: parent?.traceId ?? randomBytes(16).toString('hex'), spanId: randomBytes(8).toString('hex'), traceFlags: TraceFlags.SAMPLED }
  const kept: Recorded = {
    name,
    context: own,
    parent,
    links: [...(options.links ?? [])],
    attributes: { ...options.attributes },
    status: undefined,
    exceptions: [],
    startTime: options.startTime,
    endTime: undefined,
    ended: false,
  }
  spans.push(kept)
  const span: Span = {
    spanContext: () => own,
    setAttribute: (key, value) => span.setAttributes({ [key]: value }),
    setAttributes(attributes) {
      Object.assign(kept.attributes, attributes)
      return span
    },
    addEvent: () => span,
    addLink(link) {
      kept.links.push(link)
      return span
    },
    addLinks(links) {
      kept.links.push(...links)
      return span
    },
    setStatus(status) {
      kept.status = status
      return span
    },
    updateName: () => span,
    end(endTime) {
      if (kept.ended) throw new Error(`span ${name} was ended twice`)
      Object.assign(kept, { ended: true, endTime })
    },
    isRecording: () => isRecording && !kept.ended,
    recordException: exception => void kept.exceptions.push(exception),
  }
  return span
}

function openContexts(): ContextManager {
  const storage = new AsyncLocalStorage<Context>()
  const manager: ContextManager = {
    active: () => storage.getStore() ?? ROOT_CONTEXT,
    with: (active, work, self, ...values) => storage.run(active, () => work.apply(self as never, values)),
    bind: (_, target) => target,
    enable: () => manager,
    disable: () => manager,
  }
  return manager
}

const w3c: TextMapPropagator = {
  inject(active, carrier, setter) {
    const span = trace.getSpanContext(active)
    if (span !== undefined) setter.set(carrier, 'traceparent', `00-${span.traceId}-${span.spanId}-0${span.traceFlags}`)
  },
  extract(active, carrier, getter) {
    const [, traceId, spanId] = String(getter.get(carrier, 'traceparent')).split('-')
    return traceId === undefined || spanId === undefined ? active : trace.setSpanContext(active, { traceId, spanId, traceFlags: 1, isRemote: true })
  },
  fields: () => ['traceparent'],
}
