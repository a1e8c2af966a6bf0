import { z } from 'zod'
import { PawlError } from '../../../../src/errors.ts'
import type { Chunk, Cursor } from '../../source.ts'
import type { Client, Request } from './client.ts'
import { expired, isMissing } from './errors.ts'
import type { Destination } from './query.ts'
import type { Field, WireRow } from './types.ts'
import { rowWriter } from './values.ts'

/** One result, ready to be read: which one, how long, and where. */
export type Result = {
  /** The job and when it was made: a job of the same id that had to run again has other rows, or the same in another order. */
  id: string
  jobId: string
  location: string | undefined
  destination: Destination | undefined
  fields: readonly Field[]
  total: number
}

const position = z.object({ result: z.string(), next: z.int().min(0), end: z.int().min(0) })

/** Cuts the rows into `lanes` ranges of about one length; fewer where there are fewer rows, and one of none for no rows. */
export function cutLanes(result: string, total: number, lanes: number): Cursor[] {
  const count = Math.max(1, Math.min(lanes, total))
  const edge = (lane: number) => Math.floor((total * lane) / count)
  return Array.from({ length: count }, (_, lane) => ({ result, next: edge(lane), end: edge(lane + 1) }))
}

type Page = { rows?: WireRow[]; totalRows?: string; jobComplete?: boolean }

/** Reads a result by row offset, which needs no token of an earlier page: any worker reads on from any cursor. */
export function pageReader(client: Client, result: Result, limits: { pageRows: number; chunkBytes: number }) {
  const write = rowWriter(result.fields)
  /** What the pages so far show: a page of more than a chunk would be fetched for nothing, and fetched again. */
  let rowBytes = 0

  return async function read(cursor: Cursor, signal: AbortSignal): Promise<Chunk> {
    const { result: id, next, end } = position.parse(cursor)
    if (id !== result.id) throw expired(`the rows of ${id}, only those of ${result.id}`)
    if (next >= end) return { data: [], rows: 0, next: cursor, finished: true }
    const fitting = rowBytes === 0 ? Infinity : Math.max(1, Math.ceil(limits.chunkBytes / rowBytes))
    const page = await fetchPage(client, result, next, Math.min(limits.pageRows, fitting, end - next), signal)
    let text = ''
    let count = 0
    for (const row of page) {
      // A server may send more rows than it was asked for; the next lane has those.
      if (count >= end - next || (count > 0 && text.length >= limits.chunkBytes)) break
      text += write(row)
      count += 1
    }
    const data = Buffer.from(text)
    rowBytes = data.length / count
    // A page may be shorter than asked for, when its rows are wide: only the offset tells the end.
    return { data: [data], rows: count, next: { result: id, next: next + count, end }, finished: next + count >= end }
  }
}

async function fetchPage(client: Client, result: Result, startIndex: number, maxResults: number, signal: AbortSignal): Promise<WireRow[]> {
  const page = await client.download<Page>(pageRequest(result, startIndex, maxResults), signal).catch((error: unknown) => {
    throw isMissing(error) ? expired(`the result of job ${result.jobId}`) : error
  })
  if (page.jobComplete === false) throw incomplete(`job ${result.jobId} is not done, though it was`)
  if (page.totalRows !== undefined && Number(page.totalRows) !== result.total) {
    throw expired(`the ${result.total} rows of job ${result.jobId}, it has ${page.totalRows} now`)
  }
  if (page.rows === undefined || page.rows.length === 0)
    throw incomplete(`job ${result.jobId} has ${result.total} rows, but none came from row ${startIndex} on`)
  return page.rows
}

function pageRequest(result: Result, startIndex: number, maxResults: number): Request {
  const what = `reading job ${result.jobId} from row ${startIndex}`
  const qs = { startIndex, maxResults, 'formatOptions.useInt64Timestamp': true }
  if (result.destination === undefined) {
    return { what, uri: `/queries/${result.jobId}`, qs: { ...qs, ...(result.location === undefined ? {} : { location: result.location }) } }
  }
  const { projectId, datasetId, tableId } = result.destination
  return { what, projectId, uri: `/datasets/${datasetId}/tables/${tableId}/data`, qs }
}

function incomplete(message: string): PawlError {
  return new PawlError('refresh.source_unavailable', `BigQuery: ${message}`, { retryable: true })
}
