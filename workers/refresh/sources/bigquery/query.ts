import { createHash } from 'node:crypto'
import { z } from 'zod'
import { PawlError } from '../../../../src/errors.ts'
import type { SourceContext } from '../../source.ts'

/** What a table's settings may say where its rows come from BigQuery. */
export const bigquerySettings = z.strictObject({
  source: z.literal('bigquery'),
  /** Where the job runs and is billed; by default GOOGLE_CLOUD_PROJECT, or the project of the worker's identity. */
  project: z.string().min(1).optional(),
  /** Such as `EU`; by default BigQuery finds it from the tables of the query. */
  location: z.string().min(1).optional(),
  /** One SELECT; `{window_from}` and `{window_to}` are given to it as text parameters. */
  query: z.string().min(1),
  priority: z.enum(['interactive', 'batch']).default('interactive'),
  /** A query that would read more is refused before it runs. */
  maximum_bytes_billed: z.int().positive().optional(),
  job_timeout_seconds: z.int().positive().optional(),
  page_rows: z.int().min(1).max(100_000).default(5_000),
  /** `dataset` or `project.dataset`: the result is written into a table there, and read from it. Give it a default expiration. */
  staging_dataset: z
    .string()
    .regex(/^(?:[a-z][a-z0-9:.-]*\.)?\w+$/, 'must be dataset or project.dataset')
    .optional(),
  labels: z.record(z.string(), z.string()).default({}),
  use_query_cache: z.boolean().optional(),
})

/** What `bigquerySettings` gives. */
export type BigquerySettings = z.infer<typeof bigquerySettings>

/** The table that a job writes its result to. */
export type Destination = { projectId: string; datasetId: string; tableId: string }

/** What is asked of BigQuery: the `configuration` of a job, apart from its destination. */
export type Inquiry = {
  query: Record<string, unknown>
  labels: Record<string, string>
  jobTimeoutMs: string | undefined
  /** Of the query and its parameters: two workers with the same one ask for the same rows. */
  hash: string
}

/** Puts the settings into BigQuery's words. Throws `refresh.no_window` where the query asks for a window that is not given. */
export function inquire(settings: BigquerySettings, context: Pick<SourceContext, 'refreshRun' | 'table' | 'window'>): Inquiry {
  const { text, parameters } = withWindow(settings.query, context)
  // A label has 63 characters, a SHA-256 in hexadecimal 64.
  const hash = createHash('sha256')
    .update(JSON.stringify([text, parameters]))
    .digest('hex')
    .slice(0, 40)
  const { maximum_bytes_billed: cap, use_query_cache: cache, job_timeout_seconds: seconds } = settings
  return {
    query: {
      query: text,
      useLegacySql: false,
      priority: settings.priority.toUpperCase(),
      ...(cap === undefined ? {} : { maximumBytesBilled: String(cap) }),
      ...(cache === undefined ? {} : { useQueryCache: cache }),
      ...(parameters.length === 0 ? {} : { parameterMode: 'NAMED', queryParameters: parameters }),
    },
    labels: {
      ...Object.fromEntries(Object.entries(settings.labels).map(([name, value]) => [labelName(name), label(value)])),
      pawl_run: label(String(context.refreshRun)),
      pawl_table: label(context.table),
      pawl_query: hash,
    },
    jobTimeoutMs: seconds === undefined ? undefined : String(seconds * 1000),
    hash,
  }
}

/** The staging table of one job, named like the job. */
export function destinationOf(staging: string | undefined, project: string, jobId: string): Destination | undefined {
  if (staging === undefined) return undefined
  const point = staging.lastIndexOf('.')
  return { projectId: point === -1 ? project : staging.slice(0, point), datasetId: staging.slice(point + 1), tableId: jobId }
}

/** BigQuery's labels know lower-case letters, digits, `_` and `-`, 63 of them. */
export function label(value: string): string {
  return value
    .toLowerCase()
    .replace(/[^a-z0-9_-]/g, '_')
    .slice(0, 63)
}

function labelName(name: string): string {
  return label(/^[a-z]/i.test(name) ? name : `l_${name}`)
}

function withWindow(query: string, { table, window }: Pick<SourceContext, 'table' | 'window'>) {
  const used = new Set<string>()
  // Written as a literal, quotes and all, it is a parameter too: BigQuery turns a text parameter into a date as it would a literal.
  const text = query.replace(/(['"]?)\{window_(from|to)\}\1/g, (_, _quote, end: string) => {
    used.add(end)
    return `@window_${end}`
  })
  if (used.size > 0 && window === undefined) {
    throw new PawlError('refresh.no_window', `the query of ${table} asks for a window, and none is given`, {
      hint: 'let the table replace a window, or take {window_from} and {window_to} out of its query',
    })
  }
  const parameter = (end: 'from' | 'to') => ({
    name: `window_${end}`,
    parameterType: { type: 'STRING' },
    parameterValue: { value: window?.[end] ?? '' },
  })
  return { text, parameters: (['from', 'to'] as const).filter(end => used.has(end)).map(parameter) }
}
