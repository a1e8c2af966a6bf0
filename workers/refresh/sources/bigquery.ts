import type { Extraction, Source } from '../source.ts'
import { openClient } from './bigquery/client.ts'
import { expired, isMissing } from './bigquery/errors.ts'
import { type Asking, type Job, runJob } from './bigquery/job.ts'
import { cutLanes, pageReader, type Result } from './bigquery/pages.ts'
import { type BigquerySettings, destinationOf, inquire } from './bigquery/query.ts'
import { nextAttempt, type Saved } from './bigquery/saved.ts'
import { columnsOf, type Field } from './bigquery/types.ts'

export { bigquerySettings } from './bigquery/query.ts'

/**
 * A query of BigQuery as a source: one job for the whole extraction, whoever asks and however often, its cost known and capped
 * before it runs, its result read by row offset and written as COPY text without ever becoming a JavaScript number or date.
 */
export const openBigquery: Source<BigquerySettings> = async (settings, context): Promise<Extraction> => {
  const inquiry = inquire(settings, context)
  const client = await openClient(context.config, context.clock, settings.project)
  const asking = { client, settings, inquiry, context }
  const { job, saved } = await runJob(asking)
  const result = await describeResult(asking, job, saved)
  const columns = columnsOf(result.fields)
  const facts = factsOf(job, saved)
  context.log.info({ ...facts, rows: result.total }, 'BigQuery job ready to be read')
  return {
    columns,
    total: result.total,
    cursors: cutLanes(result.id, result.total, context.lanes),
    read: pageReader(client, result, { pageRows: settings.page_rows, chunkBytes: context.chunkBytes }),
    facts: () => facts,
    // Another worker may still read the result: it goes by itself, a day after the job, or when its dataset says.
    close: () => Promise.resolve(),
  }
}

async function describeResult({ client, settings, context }: Asking, job: Job, saved: Saved): Promise<Result> {
  const jobId = saved.bigquery_job_id
  const location = job.jobReference.location ?? saved.bigquery_location
  const qs = { maxResults: 0, ...(location === undefined ? {} : { location }) }
  const request = { what: `asking for the columns of job ${jobId}`, uri: `/queries/${jobId}`, qs }
  try {
    const answer = await client.ask<{ schema?: { fields?: Field[] }; totalRows?: string }>(request, context.signal)
    return {
      id: `${jobId}@${job.statistics?.creationTime ?? ''}`,
      jobId,
      location,
      destination: destinationOf(settings.staging_dataset, client.project, jobId),
      fields: answer.schema?.fields ?? [],
      total: Number(answer.totalRows ?? 0),
    }
  } catch (error) {
    if (!isMissing(error)) throw error
    // Whoever opens next makes a new job; the cursors of this one are refused there.
    await context.remember(nextAttempt(context, saved))
    throw expired(`the result of job ${jobId}`)
  }
}

function factsOf({ statistics }: Job, saved: Saved): Record<string, unknown> {
  const number = (text: string | undefined) => (text === undefined ? undefined : Number(text))
  return {
    bigquery_job_id: saved.bigquery_job_id,
    bytes_estimated: saved.bytes_estimated,
    bytes_processed: number(statistics?.totalBytesProcessed),
    bytes_billed: number(statistics?.query?.totalBytesBilled),
    cache_hit: statistics?.query?.cacheHit,
  }
}
