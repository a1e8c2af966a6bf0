import { type Logger, pino } from 'pino'
import { traceFields } from './traces.ts'

export type Log = Logger

// By field name, and by what a line looks like when it is written: an error's message may quote a URL, a field may be called otherwise.
const SECRET_FIELDS = ['password', '*.password', 'url', '*.url', 'connectionString', '*.connectionString']
const URL_PASSWORD = /(postgres(?:ql)?:\/\/[^\s:/@"\\]*):(?:[^\s"\\/]|\\.)*@/g
const URL_PARAMETER = /([?&]password=)[^&\s"\\]+/g

/** What a person needs of an error. pg hangs its whole client on some of its own, sockets and all: 3 kB a line. */
function errorFields(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  const { code, detail, hint, where, table, constraint, retryable, input } = error as Error & Record<string, unknown>
  const cause = error.cause === undefined ? undefined : errorFields(error.cause)
  return { type: error.name, message: error.message, code, detail, hint, where, table, constraint, retryable, input, stack: error.stack, cause }
}

/**
 * The root logger: one JSON line an event on standard output, constant messages, data in snake_case fields.
 * Connection strings and passwords are redacted here and nowhere else.
 */
export function openLog(options: { level: string; fields?: Record<string, unknown>; destination?: number }): Log {
  return pino(
    {
      level: options.level,
      base: options.fields ?? {},
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
      serializers: { err: errorFields },
      mixin: traceFields,
      redact: { paths: SECRET_FIELDS, censor: '[redacted]' },
      hooks: { streamWrite: line => line.replace(URL_PASSWORD, '$1:[redacted]@').replace(URL_PARAMETER, '$1[redacted]') },
    },
    // Synchronous: a worker that is about to be killed must not lose the line that says why.
    pino.destination({ dest: options.destination ?? 1, sync: true }),
  )
}
