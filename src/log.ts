import { type Logger, pino } from 'pino'

export type Log = Logger

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
      redact: { paths: ['password', '*.password', 'url', '*.url', 'connectionString', '*.connectionString'], censor: '[redacted]' },
    },
    // Synchronous: a worker that is about to be killed must not lose the line that says why.
    pino.destination({ dest: options.destination ?? 1, sync: true }),
  )
}
