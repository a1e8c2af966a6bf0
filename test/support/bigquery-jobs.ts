import { type FakeTable, rowsIn } from './bigquery-rows.ts'

type Fault = { reason: string; message: string }
type Reference = { projectId: string; jobId: string; location: string }
export type Destination = { projectId: string; datasetId: string; tableId: string }
export type Configuration = {
  dryRun?: boolean
  labels?: Record<string, string>
  jobTimeoutMs?: string
  query: {
    query: string
    maximumBytesBilled?: string
    destinationTable?: Destination
    priority?: string
    useQueryCache?: boolean
    queryParameters?: { name: string; parameterValue: { value: string } }[]
  }
}

/** A job of the stand-in, as a test may look at it, or bend it. */
export type FakeJob = {
  reference: Reference
  configuration: Configuration
  createdAt: number
  state: 'RUNNING' | 'DONE'
  fault: Fault | undefined
  table: FakeTable
  billed: number
  cacheHit: boolean
}

/** An answer that is an error, in the shape BigQuery gives it. */
export class Refusal extends Error {
  readonly status: number
  readonly reason: string

  constructor(status: number, reason: string, message: string) {
    super(message)
    this.status = status
    this.reason = reason
  }
}

/** What a test may set, and read, while the stand-in runs. */
export type State = {
  tables: Record<string, FakeTable>
  /** By job id. */
  jobs: Map<string, FakeJob>
  /** Tables that jobs have written to, by `project.dataset.table`. */
  written: Map<string, FakeTable>
  counts: { jobs: number; dryRuns: number; bytesBilled: number }
  /** Jobs stay RUNNING until this resolves. */
  held: Promise<void> | undefined
  /** How the next jobs fail, one each. */
  failures: Fault[]
  expired: { jobs: boolean; results: boolean }
  reversed: boolean
  cached: boolean
  /** Where jobs run that name no location. */
  location: string
  pageBytes: number
  /** Answers with all rows there are, as some emulators do. */
  ignoresMaxResults: boolean
}

const MEGABYTE = 1024 * 1024
const EMPTY: FakeTable = { fields: [], rows: [] }

/** jobs.insert: an id of one's own can be given once. A dry run leaves nothing behind. */
export function insertJob(state: State, body: { configuration: Configuration; jobReference?: Partial<Reference> }, projectId: string) {
  const { configuration } = body
  const reference = { projectId, jobId: body.jobReference?.jobId ?? `job_${state.counts.jobs}`, location: body.jobReference?.location ?? state.location }
  const found = lookUp(state, configuration.query.query)
  if (configuration.dryRun === true) {
    state.counts.dryRuns += 1
    if ('reason' in found) throw new Refusal(found.reason === 'notFound' ? 404 : 400, found.reason, found.message)
    const { jobId: _, ...noId } = reference
    const statistics = { totalBytesProcessed: String(bytesOf(found)), query: { statementType: statementOf(configuration) } }
    return { configuration, jobReference: noId, status: { state: 'DONE' }, statistics }
  }
  if (state.jobs.has(reference.jobId)) throw new Refusal(409, 'duplicate', `Already Exists: Job ${projectId}:${reference.location}.${reference.jobId}`)
  const job: FakeJob = {
    reference,
    configuration,
    // Never twice the same, as BigQuery's own are not for jobs of one id.
    createdAt: Date.now() + state.counts.jobs,
    state: 'RUNNING',
    fault: undefined,
    table: 'reason' in found ? EMPTY : found,
    billed: 0,
    cacheHit: state.cached,
  }
  state.counts.jobs += 1
  state.jobs.set(reference.jobId, job)
  const finish = () => finishJob(state, job, 'reason' in found ? found : undefined)
  if (state.held === undefined) finish()
  else void state.held.then(finish)
  return jobResource(job)
}

function finishJob(state: State, job: FakeJob, broken: Fault | undefined): void {
  if (job.state === 'DONE') return
  const billed = job.cacheHit ? 0 : Math.max(10, Math.ceil(bytesOf(job.table) / MEGABYTE)) * MEGABYTE
  const cap = Number(job.configuration.query.maximumBytesBilled ?? Infinity)
  job.state = 'DONE'
  job.fault = broken ?? state.failures.shift()
  if (bytesOf(job.table) > cap)
    job.fault ??= { reason: 'bytesBilledLimitExceeded', message: `Query exceeded limit for bytes billed: ${cap}. ${billed} or higher required.` }
  if (job.fault !== undefined) return
  job.billed = billed
  state.counts.bytesBilled += billed
  const to = job.configuration.query.destinationTable
  if (to !== undefined) state.written.set(`${to.projectId}.${to.datasetId}.${to.tableId}`, job.table)
}

/** jobs.get, and what everything else begins with: outside of the US, only with its location. */
export function findJob(state: State, jobId: string, location: string | null): FakeJob {
  const job = state.jobs.get(jobId)
  if (job === undefined || state.expired.jobs || job.reference.location !== (location ?? 'US')) throw new Refusal(404, 'notFound', `Not found: Job ${jobId}`)
  return job
}

export function cancelJob(job: FakeJob) {
  if (job.state === 'RUNNING') {
    job.state = 'DONE'
    job.fault = { reason: 'stopped', message: 'Job execution was cancelled: User requested cancellation' }
  }
  return { kind: 'bigquery#jobCancelResponse', job: jobResource(job) }
}

export function jobResource(job: FakeJob) {
  const { reference, configuration, createdAt, state, fault, table, billed, cacheHit } = job
  const total = String(bytesOf(table))
  const query = { totalBytesProcessed: total, totalBytesBilled: String(billed), cacheHit, statementType: statementOf(configuration) }
  return {
    kind: 'bigquery#job',
    id: `${reference.projectId}:${reference.location}.${reference.jobId}`,
    jobReference: reference,
    configuration,
    status: { state, ...(fault === undefined ? {} : { errorResult: fault, errors: [fault] }) },
    statistics: { creationTime: String(createdAt), totalBytesProcessed: total, ...(state === 'DONE' ? { query } : {}) },
  }
}

function lookUp(state: State, query: string): FakeTable | Fault {
  const name = /\bfrom\s+`?([\w.-]+)`?/i.exec(query)?.[1]
  if (name === undefined) return { reason: 'invalidQuery', message: 'Syntax error: Unexpected end of script at [1:1]' }
  return state.tables[name] ?? { reason: 'notFound', message: `Not found: Table ${name}` }
}

function statementOf({ query }: Configuration): string {
  return query.query.includes(';') ? 'SCRIPT' : (/^\s*(\w+)/.exec(query.query)?.[1] ?? '').toUpperCase()
}

function bytesOf(table: FakeTable): number {
  return table.bytes ?? rowsIn(table) * 100
}
