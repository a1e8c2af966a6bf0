import { afterEach, beforeEach, expect, test } from 'vitest'
import { PawlError } from '../../src/errors.ts'
import { type FakeBigquery, type Route, startBigquery } from '../support/bigquery.ts'
import { contextOf, open, readAll, refusalOf } from '../support/bigquery-source.ts'
import { until } from '../support/until.ts'

const COUNT = 1_000
const MEGABYTE = 1024 * 1024
const weekly = {
  fields: [
    { name: 'id', type: 'INTEGER', mode: 'REQUIRED' },
    { name: 'seen', type: 'TIMESTAMP' },
  ],
  count: COUNT,
  bytes: 12 * MEGABYTE,
  row: (index: number) => [String(index), String(1_700_000_000_000_000n + BigInt(index))],
}
let fake: FakeBigquery

beforeEach(async () => {
  fake = await startBigquery({ weekly })
})
afterEach(() => fake.close())

const asked = (route: Route) => fake.requests.filter(request => request.route === route).length

test('one job is asked for, after its id was stored and its cost was known', async () => {
  const order: string[] = []
  const context = contextOf(fake, {
    remember: facts => {
      order.push(`remembered ${String(facts.bigquery_job_id)} after ${fake.counts.dryRuns} dry run and ${fake.counts.jobs} jobs`)
      return Promise.resolve()
    },
  })
  const extraction = await open(context, { maximum_bytes_billed: 20 * MEGABYTE, priority: 'batch', job_timeout_seconds: 90, labels: { Team: 'Ads & Co' } })
  expect(order).toEqual(['remembered refresh_7_3_1_a1 after 1 dry run and 0 jobs'])
  expect(fake.counts).toEqual({ jobs: 1, dryRuns: 1, bytesBilled: 12 * MEGABYTE })
  expect(fake.jobs.get('refresh_7_3_1_a1')?.configuration).toMatchObject({
    labels: { pawl_run: '7', pawl_table: 'sqp_weekly', pawl_query: expect.stringMatching(/^[0-9a-f]{40}$/), team: 'ads___co' },
    jobTimeoutMs: '90000',
    query: { maximumBytesBilled: String(20 * MEGABYTE), priority: 'BATCH', useLegacySql: false },
  })
  expect(extraction.total).toBe(COUNT)
  expect(extraction.facts()).toEqual({
    bigquery_job_id: 'refresh_7_3_1_a1',
    bytes_estimated: 12 * MEGABYTE,
    bytes_processed: 12 * MEGABYTE,
    bytes_billed: 12 * MEGABYTE,
    cache_hit: false,
  })
})

test('a query that would cost more than its cap makes no job', async () => {
  const error = await refusalOf(open(contextOf(fake), { maximum_bytes_billed: 12 * MEGABYTE - 1 }))
  expect(error).toMatchObject({ code: 'refresh.cost_cap', retryable: false, hint: expect.stringContaining('maximum_bytes_billed') })
  expect(fake.counts).toEqual({ jobs: 0, dryRuns: 1, bytesBilled: 0 })
})

test('what is not one SELECT makes no job', async () => {
  expect(await refusalOf(open(contextOf(fake), { query: 'delete from weekly where true' }))).toMatchObject({ code: 'refresh.query_not_select' })
  expect(await refusalOf(open(contextOf(fake), { query: 'declare x int64; select * from weekly' }))).toMatchObject({ code: 'refresh.query_not_select' })
  expect(fake.counts.jobs).toBe(0)
})

for (const [what, how] of [
  ['a 503', { status: 503, reason: 'backendError' }],
  ['a cut connection', 'cut'],
] as const) {
  test(`${what} after the job was made makes no second job`, async () => {
    fake.troubles.push({ route: 'insert', how, afterEffect: true })
    const extraction = await open(contextOf(fake))
    expect(fake.counts).toMatchObject({ jobs: 1, bytesBilled: 12 * MEGABYTE })
    // The client asked again, and was told that the id is taken.
    expect(asked('insert')).toBe(2)
    expect(await readAll(extraction)).toHaveLength(COUNT)
  })

  test(`${what} in every answer is left to the caller's next try, and two of them to the client's`, async () => {
    for (const route of ['dry_run', 'insert', 'results'] as const) fake.troubles.push({ route, how, times: 2 })
    expect(await readAll(await open(contextOf(fake)))).toHaveLength(COUNT)
    fake.troubles.push({ route: 'dry_run', how, times: 99 })
    expect(await refusalOf(open(contextOf(fake)))).toMatchObject({ code: 'refresh.source_unavailable', retryable: true })
    expect(fake.counts.jobs).toBe(1)
  })
}

test('a worker that dies while the job runs leaves it to the next one', async () => {
  const release = fake.hold()
  const saved = {}
  const first = new AbortController()
  const opening = refusalOf(open(contextOf(fake, { saved, signal: first.signal })))
  await until('the job is asked for', () => asked('job') > 0)
  first.abort()
  expect(await opening).toMatchObject({ code: 'refresh.interrupted', retryable: true })
  const second = open(contextOf(fake, { saved }))
  release()
  expect(await readAll(await second)).toHaveLength(COUNT)
  expect(fake.counts).toEqual({ jobs: 1, dryRuns: 1, bytesBilled: 12 * MEGABYTE })
})

test('a worker that dies between storing the id and asking for the job is followed by one that asks for it', async () => {
  const saved = {}
  const remembered = contextOf(fake, { saved })
  const dying = {
    ...remembered,
    async remember(facts: Record<string, unknown>) {
      await remembered.remember(facts)
      throw new Error('killed here')
    },
  }
  await refusalOf(open(dying))
  expect(fake.counts.jobs).toBe(0)
  expect((await open(contextOf(fake, { saved }))).total).toBe(COUNT)
  expect(fake.counts).toMatchObject({ jobs: 1, dryRuns: 1 })
})

test('two workers that open at the same moment get the same job', async () => {
  const both = await Promise.all([open(contextOf(fake)), open(contextOf(fake))])
  expect(fake.counts.jobs).toBe(1)
  expect(both[0].cursors).toEqual(both[1].cursors)
})

test('a job of our id with another query is refused, and one from before our time is left alone', async () => {
  const saved = {}
  await open(contextOf(fake, { saved }))
  const changed = await refusalOf(open(contextOf(fake, { saved: { ...saved } }), { query: 'select id from `weekly`' }))
  expect(changed).toMatchObject({ code: 'refresh.job_foreign', retryable: false, message: expect.stringContaining('pawl_query') })

  const job = fake.jobs.get('refresh_7_3_1_a1')
  if (job !== undefined) job.createdAt -= 3_600_000
  const fresh = await open(contextOf(fake))
  expect(fresh.facts().bigquery_job_id).toBe('refresh_7_3_1_a2')
  expect(fake.counts.jobs).toBe(2)
})

test('outside of the US, the job is found again by the location that the dry run named', async () => {
  fake.location = 'EU'
  const saved = {}
  await open(contextOf(fake, { saved }))
  fake.troubles.push({ route: 'insert', how: 'cut', afterEffect: true })
  expect(await readAll(await open(contextOf(fake, { saved })))).toHaveLength(COUNT)
  expect(fake.counts.jobs).toBe(1)
  expect(await refusalOf(open(contextOf(fake), { location: 'asia' }))).toMatchObject({ code: 'refresh.job_hidden' })
})

const verdicts: readonly (readonly [reason: string, code: string, retryable: boolean])[] = [
  ['backendError', 'refresh.source_unavailable', true],
  ['internalError', 'refresh.source_unavailable', true],
  ['rateLimitExceeded', 'refresh.source_unavailable', true],
  ['invalidQuery', 'refresh.query_invalid', false],
  ['notFound', 'refresh.source_not_found', false],
  ['accessDenied', 'refresh.access_denied', false],
  ['bytesBilledLimitExceeded', 'refresh.cost_cap', false],
  ['quotaExceeded', 'refresh.quota_exceeded', false],
  ['stopped', 'refresh.job_stopped', false],
]
for (const [reason, code, retryable] of verdicts) {
  test(`a job that failed with ${reason} is ${code}, and the next try is another job`, async () => {
    fake.failures.push({ reason, message: `made to fail: ${reason}` })
    const saved = {}
    const error = await refusalOf(open(contextOf(fake, { saved })))
    expect(error).toMatchObject({ code, retryable, message: expect.stringContaining(`made to fail: ${reason}`) })
    if (!retryable) expect(error).toMatchObject({ hint: expect.stringMatching(/\w{3}/) })
    expect((await open(contextOf(fake, { saved }))).facts().bigquery_job_id).toBe('refresh_7_3_1_a2')
    expect(fake.counts.jobs).toBe(2)
  })
}

test('requests are judged as jobs are', async () => {
  const judged = async (status: number, reason: string) => {
    fake.troubles.push({ route: 'dry_run', how: { status, reason } })
    return refusalOf(open(contextOf(fake)))
  }
  expect(await judged(403, 'accessDenied')).toMatchObject({ code: 'refresh.access_denied', retryable: false })
  expect(await judged(401, 'authError')).toMatchObject({ code: 'refresh.no_credentials', retryable: false })
  expect(await judged(400, 'invalidQuery')).toMatchObject({ code: 'refresh.query_invalid', retryable: false })
  // What nobody has heard of is neither a refusal nor a hiccup: the engine counts it as a failure, and tries again.
  expect(await judged(418, 'teapot')).not.toBeInstanceOf(PawlError)
  expect(await refusalOf(open(contextOf(fake), { query: 'select * from nowhere' }))).toMatchObject({ code: 'refresh.source_not_found' })
  expect(await refusalOf(open(contextOf(fake), { query: 'select' }))).toMatchObject({ code: 'refresh.query_invalid' })
  const nobody = contextOf({ host: '127.0.0.1:9' })
  expect(await refusalOf(open(nobody))).toMatchObject({ code: 'refresh.source_unavailable', retryable: true })
})

test('the window comes as parameters, and is missed where there is none', async () => {
  const window = { from: "2026-01-01' or true --", to: '2026-01-31' }
  await open(contextOf(fake, { window }), { query: "select * from weekly where day between '{window_from}' and {window_to}" })
  const query = fake.jobs.get('refresh_7_3_1_a1')?.configuration.query
  expect(query?.query).toBe('select * from weekly where day between @window_from and @window_to')
  expect(query?.queryParameters?.map(({ name, parameterValue }) => [name, parameterValue.value])).toEqual([
    ['window_from', window.from],
    ['window_to', window.to],
  ])
  const error = await refusalOf(open(contextOf(fake), { query: 'select * from weekly where day >= {window_from}' }))
  expect(error).toMatchObject({ code: 'refresh.no_window', retryable: false })
})
