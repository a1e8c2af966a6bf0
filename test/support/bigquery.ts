import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { cancelJob, type Configuration, type FakeJob, findJob, insertJob, jobResource, Refusal, type State } from './bigquery-jobs.ts'
import { type FakeTable, pageOf, rowsIn } from './bigquery-rows.ts'

export type Route = 'insert' | 'dry_run' | 'job' | 'cancel' | 'results' | 'query' | 'table' | 'data'

/** An answer that goes wrong: before the request took effect, or after. `cut` hangs up without a word. */
export type Trouble = { route: Route; times?: number; how: 'cut' | { status: number; reason: string }; afterEffect?: boolean }

/** A BigQuery of the test's own, on 127.0.0.1. Its state may be read and bent at any time. */
export type FakeBigquery = State & {
  /** For BIGQUERY_EMULATOR_HOST. */
  host: string
  /** What came, in order: `insert`, `job` …, with the query string and who asked. */
  requests: { route: Route; parameters: URLSearchParams; authorization: string | undefined }[]
  troubles: Trouble[]
  /** Lets jobs run on and on, until the function it returns is called. */
  hold(): () => void
  close(): Promise<void>
}

type Body = { configuration: Configuration; query?: string; jobReference?: { jobId?: string; location?: string } }
type Call = { projectId: string; first: string; second: string; parameters: URLSearchParams; body: Body }

const PATTERNS: readonly (readonly [Route, string, RegExp])[] = [
  ['insert', 'POST', /^\/bigquery\/v2\/projects\/([^/]+)\/jobs$/],
  ['job', 'GET', /^\/bigquery\/v2\/projects\/([^/]+)\/jobs\/([^/]+)$/],
  ['cancel', 'POST', /^\/bigquery\/v2\/projects\/([^/]+)\/jobs\/([^/]+)\/cancel$/],
  ['query', 'POST', /^\/bigquery\/v2\/projects\/([^/]+)\/queries$/],
  ['results', 'GET', /^\/bigquery\/v2\/projects\/([^/]+)\/queries\/([^/]+)$/],
  ['table', 'GET', /^\/bigquery\/v2\/projects\/([^/]+)\/datasets\/([^/]+)\/tables\/([^/]+)$/],
  ['data', 'GET', /^\/bigquery\/v2\/projects\/([^/]+)\/datasets\/([^/]+)\/tables\/([^/]+)\/data$/],
]

/** Starts a stand-in that serves `tables`: a query reads all of the table that its first FROM names. */
export async function startBigquery(tables: Record<string, FakeTable>): Promise<FakeBigquery> {
  const state: State = {
    tables,
    jobs: new Map(),
    written: new Map(),
    counts: { jobs: 0, dryRuns: 0, bytesBilled: 0 },
    held: undefined,
    failures: [],
    expired: { jobs: false, results: false },
    reversed: false,
    cached: false,
    location: 'US',
    pageBytes: 10_000_000,
    ignoresMaxResults: false,
  }
  const server = createServer((request, response) => void serve(fake, request, response))
  const fake: FakeBigquery = Object.assign(state, {
    host: '',
    requests: [],
    troubles: [],
    hold() {
      const { promise, resolve } = Promise.withResolvers<void>()
      state.held = promise
      return () => {
        state.held = undefined
        resolve()
      }
    },
    close() {
      server.closeAllConnections()
      return new Promise<void>(resolve => server.close(() => resolve()))
    },
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  fake.host = `127.0.0.1:${(server.address() as AddressInfo).port}`
  return fake
}

async function serve(fake: FakeBigquery, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://local')
  const pieces: Buffer[] = []
  for await (const piece of request as AsyncIterable<Buffer>) pieces.push(piece)
  const text = Buffer.concat(pieces).toString()
  const body = (text === '' ? {} : JSON.parse(text)) as Body
  const found = PATTERNS.flatMap(([name, method, pattern]) => {
    const path = method === request.method ? pattern.exec(url.pathname) : null
    return path === null ? [] : [{ name, path }]
  })[0]
  if (found === undefined) return send(response, 404, refusalBody(new Refusal(404, 'notFound', `no such route: ${request.method} ${url.pathname}`)))
  const route = found.name === 'insert' && body.configuration.dryRun === true ? 'dry_run' : found.name
  fake.requests.push({ route, parameters: url.searchParams, authorization: request.headers.authorization })
  const trouble = nextTrouble(fake, route)
  const [, projectId = '', first = '', second = ''] = found.path
  try {
    const answer =
      trouble === undefined || trouble.afterEffect === true ? await answerTo(fake, route, { projectId, first, second, parameters: url.searchParams, body }) : {}
    if (trouble?.how === 'cut') response.destroy()
    else if (trouble !== undefined) throw new Refusal(trouble.how.status, trouble.how.reason, `made to fail with ${trouble.how.status}`)
    else send(response, 200, answer)
  } catch (error) {
    const refusal = error instanceof Refusal ? error : new Refusal(500, 'internalError', String(error))
    send(response, refusal.status, refusalBody(refusal))
  }
}

async function answerTo(fake: FakeBigquery, route: Route, { projectId, first, second, parameters, body }: Call): Promise<object> {
  const location = parameters.get('location')
  switch (route) {
    case 'insert':
    case 'dry_run':
      return insertJob(fake, body, projectId)
    case 'job':
      return jobResource(findJob(fake, first, location))
    case 'cancel':
      return cancelJob(findJob(fake, first, location))
    case 'query': {
      const made = insertJob(fake, { configuration: { query: { query: body.query ?? '' } } }, projectId)
      return results(fake, findJob(fake, String((made.jobReference as { jobId?: string }).jobId), fake.location), parameters)
    }
    case 'results':
      return results(fake, findJob(fake, first, location), parameters)
    case 'table': {
      const table = writtenTable(fake, projectId, first, second)
      return { kind: 'bigquery#table', schema: { fields: table.fields }, numRows: String(rowsIn(table)) }
    }
    case 'data': {
      const table = writtenTable(fake, projectId, first, second)
      return { kind: 'bigquery#tableDataList', ...page(fake, table, parameters) }
    }
  }
}

/** jobs.getQueryResults: waits for the job as long as it is asked to, ten seconds by default. */
async function results(fake: FakeBigquery, job: FakeJob, parameters: URLSearchParams): Promise<object> {
  const waitMs = Number(parameters.get('timeoutMs') ?? 10_000)
  if (job.state === 'RUNNING') await Promise.race([fake.held, new Promise(resolve => setTimeout(resolve, waitMs).unref())])
  if (job.state === 'RUNNING') return { kind: 'bigquery#getQueryResultsResponse', jobReference: job.reference, jobComplete: false }
  if (job.fault !== undefined) throw new Refusal(400, job.fault.reason, job.fault.message)
  if (fake.expired.results) throw new Refusal(404, 'notFound', `Not found: Table of job ${job.reference.jobId}`)
  const schema = { fields: job.table.fields }
  return {
    kind: 'bigquery#getQueryResultsResponse',
    jobReference: job.reference,
    jobComplete: true,
    schema,
    cacheHit: job.cacheHit,
    ...page(fake, job.table, parameters),
  }
}

function page(fake: FakeBigquery, table: FakeTable, parameters: URLSearchParams) {
  const token = parameters.get('pageToken')
  if (token !== null && parameters.has('startIndex')) {
    throw new Refusal(400, 'invalid', 'When using a page token, you cannot specify an arbitrary startIndex')
  }
  const start = Number(token?.replace('row-', '') ?? parameters.get('startIndex') ?? 0)
  const rows = pageOf(table, {
    start,
    max: fake.ignoresMaxResults ? Infinity : Number(parameters.get('maxResults') ?? Infinity),
    pageBytes: fake.pageBytes,
    int64: parameters.get('formatOptions.useInt64Timestamp') === 'true',
    reversed: fake.reversed,
    selected: parameters.get('selectedFields')?.split(','),
  })
  const end = start + rows.length
  return { totalRows: String(rowsIn(table)), ...(rows.length === 0 ? {} : { rows }), ...(end < rowsIn(table) ? { pageToken: `row-${end}` } : {}) }
}

function writtenTable(fake: FakeBigquery, projectId: string, dataset: string, name: string): FakeTable {
  const table = fake.expired.results ? undefined : fake.written.get(`${projectId}.${dataset}.${name}`)
  if (table === undefined) throw new Refusal(404, 'notFound', `Not found: Table ${projectId}:${dataset}.${name}`)
  return table
}

function nextTrouble(fake: FakeBigquery, route: Route): Trouble | undefined {
  const index = fake.troubles.findIndex(trouble => trouble.route === route)
  const trouble = fake.troubles[index]
  if (trouble === undefined) return undefined
  const left = (trouble.times ?? 1) - 1
  if (left === 0) fake.troubles.splice(index, 1)
  else trouble.times = left
  return trouble
}

function refusalBody({ status, reason, message }: Refusal) {
  return { error: { code: status, message, errors: [{ message, domain: 'global', reason }], status: reason } }
}

function send(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json; charset=UTF-8' }).end(JSON.stringify(body))
}
