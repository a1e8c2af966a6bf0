import { PawlError } from '../../../../src/errors.ts'
import type { SourceContext } from '../../source.ts'
import { type Client, interrupted } from './client.ts'
import { expired, type Fault, faultError, isMissing } from './errors.ts'
import { type BigquerySettings, destinationOf, type Inquiry } from './query.ts'
import { nextAttempt, readSaved, type Saved } from './saved.ts'

/** What is used of a job as the REST API writes it. */
export type Job = {
  jobReference: { jobId: string; location?: string }
  configuration?: { labels?: Record<string, string> }
  status: { state: string; errorResult?: Fault }
  statistics?: {
    creationTime?: string
    totalBytesProcessed?: string
    query?: { totalBytesBilled?: string; cacheHit?: boolean; statementType?: string }
  }
}

/** Everything that the steps of a job need. */
export type Asking = { client: Client; settings: BigquerySettings; inquiry: Inquiry; context: SourceContext }

/** Clocks differ: a job made so long before we asked for it is not ours, whatever its id. */
const CLOCKS_APART_MS = 10 * 60_000
const POLL_MS = { first: 50, growth: 1.5, most: 3_000 }

/**
 * The one finished job of an extraction: asked for, or found again by the id that was stored before it was asked for. So a
 * worker that dies in between, or an answer that gets lost, costs no second job.
 */
export async function runJob(asking: Asking): Promise<{ job: Job; saved: Saved }> {
  const { context } = asking
  let saved = readSaved(context.saved)
  let job = saved === undefined ? undefined : await getJob(asking, saved)
  if (saved === undefined) {
    saved = await firstAttempt(asking)
    await context.remember(saved)
  }
  job ??= await insertJob(asking, saved)
  while (isOld(job, saved)) {
    // Another installation of Pawl in this project, or this one before its database was made anew, had the same id.
    saved = nextAttempt(context, saved)
    await context.remember(saved)
    job = await insertJob(asking, saved)
  }
  checkOurs(job, asking)
  const done = await waitFor(job, asking, saved)
  if (done.status.errorResult === undefined) return { job: done, saved }
  // A job that failed stays failed: whoever tries again needs another id.
  await context.remember(nextAttempt(context, saved))
  throw faultError(done.status.errorResult, `job ${saved.bigquery_job_id}`)
}

/** What the query would read, and that it may: asked before anything that costs. */
async function firstAttempt(asking: Asking): Promise<Saved> {
  const { client, settings, inquiry, context } = asking
  const json = {
    configuration: { dryRun: true, labels: inquiry.labels, query: inquiry.query },
    jobReference: { projectId: client.project, location: settings.location },
  }
  const dry = await client.ask<Job>({ what: `checking the query of ${context.table}`, method: 'POST', uri: '/jobs', json }, context.signal)
  if (dry.status.errorResult !== undefined) throw faultError(dry.status.errorResult, `checking the query of ${context.table}`)
  const { totalBytesProcessed, query } = dry.statistics ?? {}
  if (query?.statementType !== undefined && query.statementType !== 'SELECT') {
    throw new PawlError('refresh.query_not_select', `the query of ${context.table} is a ${query.statementType}, not one SELECT`, {
      hint: 'a refresh only reads: of a script, BigQuery can neither estimate nor cap the cost',
    })
  }
  const estimate = Number(totalBytesProcessed ?? 0)
  const cap = settings.maximum_bytes_billed
  if (cap !== undefined && estimate > cap) {
    throw new PawlError('refresh.cost_cap', `the query of ${context.table} would read ${estimate} bytes, and maximum_bytes_billed is ${cap}`, {
      hint: 'let it read less (a partition, fewer columns), or raise maximum_bytes_billed',
    })
  }
  // Without its location, a job outside of the US is not found again.
  return nextAttempt(context, { bigquery_location: settings.location ?? dry.jobReference.location, bytes_estimated: estimate })
}

async function insertJob(asking: Asking, saved: Saved): Promise<Job> {
  const { client, settings, inquiry, context } = asking
  const jobId = saved.bigquery_job_id
  const destinationTable = destinationOf(settings.staging_dataset, client.project, jobId)
  const written = { destinationTable, createDisposition: 'CREATE_IF_NEEDED', writeDisposition: 'WRITE_TRUNCATE' }
  const configuration = {
    labels: inquiry.labels,
    query: { ...inquiry.query, ...(destinationTable === undefined ? {} : written) },
    jobTimeoutMs: inquiry.jobTimeoutMs,
  }
  const json = { configuration, jobReference: { projectId: client.project, jobId, location: saved.bigquery_location } }
  try {
    const job = await client.ask<Job>({ what: `starting job ${jobId}`, method: 'POST', uri: '/jobs', json }, context.signal)
    context.log.info({ bigquery_job_id: jobId, bytes_estimated: saved.bytes_estimated }, 'BigQuery job started')
    return job
  } catch (error) {
    // The client takes a 409 as success only for ids of its own making. For ours it may be the echo of a lost answer.
    if (!(error instanceof PawlError) || error.code !== 'refresh.job_exists') throw error
    const job = await getJob(asking, saved)
    if (job !== undefined) return job
    throw new PawlError('refresh.job_hidden', `job ${jobId} exists, but not in location ${saved.bigquery_location ?? 'US'}`, {
      hint: "set location in the table's settings to where its data is",
    })
  }
}

async function getJob({ client, context }: Asking, saved: Saved): Promise<Job | undefined> {
  const jobId = saved.bigquery_job_id
  const qs = saved.bigquery_location === undefined ? {} : { location: saved.bigquery_location }
  try {
    return await client.ask<Job>({ what: `looking for job ${jobId}`, uri: `/jobs/${jobId}`, qs }, context.signal)
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}

function isOld(job: Job, saved: Saved): boolean {
  return Number(job.statistics?.creationTime ?? Infinity) < saved.bigquery_requested_at - CLOCKS_APART_MS
}

function checkOurs(job: Job, { inquiry }: Asking): void {
  const labels = job.configuration?.labels ?? {}
  const other = ['pawl_run', 'pawl_table', 'pawl_query'].filter(name => labels[name] !== inquiry.labels[name])
  if (other.length === 0) return
  throw new PawlError('refresh.job_foreign', `job ${job.jobReference.jobId} is another one than asked for: its ${other.join(', ')} differ`, {
    hint: 'the query was changed while it was being read, or another installation uses the project; refresh the table anew',
  })
}

async function waitFor(job: Job, asking: Asking, saved: Saved): Promise<Job> {
  const { clock, signal } = asking.context
  let pauseMs = POLL_MS.first
  let seen: Job | undefined = job
  while (seen.status.state !== 'DONE') {
    await clock.sleep(pauseMs, signal)
    // The job goes on without us, and whoever comes next finds it.
    if (signal.aborted) throw interrupted(signal, `waiting for job ${saved.bigquery_job_id}`)
    seen = await getJob(asking, saved)
    if (seen === undefined) throw expired(`job ${saved.bigquery_job_id}`)
    pauseMs = Math.min(pauseMs * POLL_MS.growth, POLL_MS.most)
  }
  return seen
}
