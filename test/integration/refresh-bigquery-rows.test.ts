import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Wire } from '../../workers/refresh/sources/bigquery/types.ts'
import { type FakeBigquery, startBigquery } from '../support/bigquery.ts'
import { contextOf, open, readAll, readLane } from '../support/bigquery-source.ts'

const COUNT = 2_500
const idsOf = (text: string) =>
  text
    .split('\n')
    .slice(0, -1)
    .map(line => Number(line.split('\t')[0]))
const upTo = (end: number, start = 0) => Array.from({ length: end - start }, (_, index) => start + index)
const never = new AbortController().signal
let fake: FakeBigquery

beforeEach(async () => {
  fake = await startBigquery({
    weekly: {
      fields: [
        { name: 'id', type: 'INTEGER' },
        { name: 'words', type: 'STRING' },
      ],
      count: COUNT,
      row: (index): Wire[] => [String(index), 'x'.repeat(index % 50)],
    },
    nothing: { fields: [{ name: 'id', type: 'INTEGER' }], rows: [] },
    million: { fields: [{ name: 'id', type: 'INTEGER' }], count: 1_000_000, row: index => [String(index)] },
  })
})
afterEach(() => fake.close())

for (const [where, staging_dataset] of [
  ['the anonymous result', undefined],
  ['a staging table of another project', 'lake.pawl_stage'],
] as const) {
  test(`another worker reads on in the middle of ${where}, and misses and repeats nothing`, async () => {
    const saved = {}
    const settings = { page_rows: 400, ...(staging_dataset === undefined ? {} : { staging_dataset }) }
    const first = await open(contextOf(fake, { saved }), settings)
    const chunks = await readLane(first, first.cursors[0] ?? {})
    expect(chunks.map(({ rows }) => rows)).toEqual([400, 400, 400, 400, 400, 400, 100])
    const middle = JSON.parse(JSON.stringify(chunks[3]?.cursor ?? {}))
    const second = await open(contextOf(fake, { saved }), settings)
    const rest = await readLane(second, middle)
    expect(rest.flatMap(({ text }) => idsOf(text))).toEqual(upTo(COUNT, 1_200))
    expect(rest.map(({ text }) => text)).toEqual(chunks.slice(3).map(({ text }) => text))
    expect(fake.counts.jobs).toBe(1)
    expect([...fake.written.keys()]).toEqual(staging_dataset === undefined ? [] : ['lake.pawl_stage.refresh_7_3_1_a1'])
    expect(fake.requests.some(({ route }) => route === 'data')).toBe(staging_dataset !== undefined)
  })

  test(`rows of ${where} that are gone mean: begin again`, async () => {
    const settings = { page_rows: 400, ...(staging_dataset === undefined ? {} : { staging_dataset }) }
    const saved = {}
    const first = await open(contextOf(fake, { saved }), settings)
    const { next } = await first.read(first.cursors[0] ?? {}, never)
    fake.expired.results = true
    await expect(first.read(next, never)).rejects.toMatchObject({ code: 'refresh.source_expired', retryable: true })
    // An answer with `hint`, not the job anew under the old cursors: it would have other rows at their offsets.
    await expect(open(contextOf(fake, { saved }), settings)).rejects.toMatchObject({ code: 'refresh.source_expired', retryable: true })
    fake.expired.results = false
    const anew = await open(contextOf(fake, { saved }), settings)
    expect(anew.facts().bigquery_job_id).toBe('refresh_7_3_1_a2')
    await expect(anew.read(next, never)).rejects.toMatchObject({ code: 'refresh.source_expired' })
    expect(await readAll(anew)).toHaveLength(COUNT)
  })
}

test('a job that is forgotten is asked for again by its id, and the cursors of the old one are refused', async () => {
  const saved = {}
  const first = await open(contextOf(fake, { saved }))
  fake.jobs.clear()
  fake.reversed = true
  const second = await open(contextOf(fake, { saved }))
  expect(second.facts().bigquery_job_id).toBe('refresh_7_3_1_a1')
  await expect(second.read(first.cursors[0] ?? {}, never)).rejects.toMatchObject({ code: 'refresh.source_expired' })
  expect(idsOf(`${(await readAll(second)).join('\n')}\n`)).toEqual(upTo(COUNT).reverse())
})

for (const lanes of [1, 2, 3, 16]) {
  test(`${lanes} lanes have every row once`, async () => {
    const extraction = await open(contextOf(fake, { lanes }), { page_rows: 333 })
    expect(extraction.cursors).toHaveLength(lanes)
    const perLane = await Promise.all(extraction.cursors.map(cursor => readLane(extraction, cursor)))
    const ids = perLane.map(chunks => chunks.flatMap(({ text }) => idsOf(text)))
    expect(ids.flat()).toEqual(upTo(COUNT))
    for (const own of ids) expect(Math.abs(own.length - COUNT / lanes)).toBeLessThanOrEqual(1)
  })
}

test('a page that the server cuts short is not the end', async () => {
  fake.pageBytes = 5_000
  const extraction = await open(contextOf(fake), { page_rows: 1_000 })
  const chunks = await readLane(extraction, extraction.cursors[0] ?? {})
  expect(chunks.length).toBeGreaterThan(20)
  expect(chunks.flatMap(({ text }) => idsOf(text))).toEqual(upTo(COUNT))
})

test('a server that sends more than it was asked for makes no row come twice', async () => {
  fake.ignoresMaxResults = true
  const extraction = await open(contextOf(fake, { lanes: 2 }), { page_rows: 100 })
  expect((await readAll(extraction)).map(line => Number(line.split('\t')[0]))).toEqual(upTo(COUNT))
})

for (const how of ['cut', { status: 503, reason: 'backendError' }, { status: 429, reason: 'rateLimitExceeded' }] as const) {
  test(`a page that fails with ${JSON.stringify(how)} is asked for again, but not for ever`, async () => {
    const extraction = await open(contextOf(fake))
    fake.troubles.push({ route: 'results', how, times: 3 })
    expect(await readAll(extraction)).toHaveLength(COUNT)
    fake.troubles.push({ route: 'results', how, times: 99 })
    await expect(readAll(extraction)).rejects.toMatchObject({ code: 'refresh.source_unavailable', retryable: true })
    expect(fake.troubles[0]?.times).toBe(95)
  })
}

test('a page that is refused is not asked for again', async () => {
  const extraction = await open(contextOf(fake))
  fake.troubles.push({ route: 'results', how: { status: 403, reason: 'accessDenied' }, times: 2 })
  await expect(readAll(extraction)).rejects.toMatchObject({ code: 'refresh.access_denied', retryable: false })
  expect(fake.troubles[0]?.times).toBe(1)
})

test('a row as wide as a page and a chunk comes alone', async () => {
  fake.pageBytes = 10
  const extraction = await open(contextOf(fake, { chunkBytes: 10 }), { query: 'select * from weekly limit 3' })
  const chunk = await extraction.read(extraction.cursors[0] ?? {}, never)
  expect(chunk).toMatchObject({ rows: 1, finished: false })
})

test('chunks hold about as many bytes as they may, and pages are asked for accordingly', async () => {
  const extraction = await open(contextOf(fake, { chunkBytes: 3_000 }), { page_rows: 1_000 })
  const chunks = await readLane(extraction, extraction.cursors[0] ?? {})
  expect(chunks.flatMap(({ text }) => idsOf(text))).toEqual(upTo(COUNT))
  for (const { text } of chunks) expect(text.length).toBeLessThan(3_100)
  const wanted = fake.requests.filter(({ route }) => route === 'results').map(({ parameters }) => Number(parameters.get('maxResults')))
  // The first asks for the columns, the second doesn't know yet how wide the rows are.
  expect(wanted.slice(0, 2)).toEqual([0, 1_000])
  for (const rows of wanted.slice(2)) expect(rows).toBeLessThan(200)
})

test('no rows are one lane that is over at once, and fewer rows than lanes are as many lanes as rows', async () => {
  const nothing = await open(contextOf(fake, { lanes: 4 }), { query: 'select * from nothing' })
  expect(nothing.total).toBe(0)
  expect(nothing.cursors).toHaveLength(1)
  expect(await nothing.read(nothing.cursors[0] ?? {}, never)).toMatchObject({ data: [], rows: 0, finished: true })
  fake.tables.two = { fields: [{ name: 'id', type: 'INT64' }], rows: [['1'], ['2']] }
  const two = await open(contextOf(fake, { lanes: 4, name: 'other' }), { query: 'select * from two' })
  expect(two.cursors).toHaveLength(2)
  expect(await readAll(two)).toEqual(['1', '2'])
})

test('a result that changes its length, or ends before its end, is noticed', async () => {
  const extraction = await open(contextOf(fake))
  const job = fake.jobs.get('refresh_7_3_1_a1')
  if (job !== undefined) job.table = { fields: job.table.fields, rows: [['1', 'x']] }
  await expect(extraction.read(extraction.cursors[0] ?? {}, never)).rejects.toMatchObject({ code: 'refresh.source_expired' })
  if (job !== undefined) job.table = { fields: job.table.fields, rows: Array.from({ length: COUNT }, () => ['1', 'x']) }
  const beyond = { ...extraction.cursors[0], next: COUNT, end: COUNT + 1 }
  await expect(extraction.read(beyond, never)).rejects.toMatchObject({ code: 'refresh.source_unavailable', retryable: true })
})

test('a read that is aborted leaves at once, and the same cursor gives the same rows afterwards', async () => {
  const extraction = await open(contextOf(fake), { page_rows: 10 })
  const cursor = extraction.cursors[0] ?? {}
  const leaving = new AbortController()
  const left = extraction.read(cursor, leaving.signal)
  leaving.abort()
  await expect(left).rejects.toMatchObject({ code: 'refresh.interrupted', retryable: true })
  const [once, twice] = [await extraction.read(cursor, never), await extraction.read(cursor, never)]
  expect(once).toEqual(twice)
  await extraction.close()
})

test('a million rows are read in offset order by two lanes', async () => {
  const extraction = await open(contextOf(fake, { lanes: 2 }), { query: 'select * from million', page_rows: 50_000 })
  const sums = await Promise.all(
    extraction.cursors.map(async cursor => {
      let [sum, rows] = [0, 0]
      for (const chunk of await readLane(extraction, cursor)) {
        rows += chunk.rows
        for (const id of idsOf(chunk.text)) sum += id
      }
      return { sum, rows }
    }),
  )
  expect(sums.map(({ rows }) => rows)).toEqual([500_000, 500_000])
  expect(sums.reduce((whole, { sum }) => whole + sum, 0)).toBe((999_999 * 1_000_000) / 2)
})
