import { z } from 'zod'
import type { SourceContext } from '../../source.ts'

const saved = z.object({
  bigquery_job_id: z.string(),
  bigquery_attempt: z.int(),
  bigquery_location: z.string().optional(),
  /** Milliseconds since the epoch, by the clock of the worker that made up the id. */
  bigquery_requested_at: z.number(),
  bytes_estimated: z.number(),
})

/** What is stored of an extraction before its job is asked for. */
export type Saved = z.infer<typeof saved>

/** What an earlier worker stored; undefined where none came so far. */
export function readSaved(stored: Record<string, unknown>): Saved | undefined {
  return stored.bigquery_job_id === undefined ? undefined : saved.parse(stored)
}

/** The next id: every worker of the extraction arrives at the same one. */
export function nextAttempt(
  { name, clock }: Pick<SourceContext, 'name' | 'clock'>,
  before: Pick<Saved, 'bigquery_location' | 'bytes_estimated'> & { bigquery_attempt?: number },
): Saved {
  const attempt = (before.bigquery_attempt ?? 0) + 1
  return {
    bigquery_job_id: `${name}_a${attempt}`,
    bigquery_attempt: attempt,
    ...(before.bigquery_location === undefined ? {} : { bigquery_location: before.bigquery_location }),
    bigquery_requested_at: clock.now(),
    bytes_estimated: before.bytes_estimated,
  }
}
