import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import type { Cursor, Extraction, SourceContext } from '../../workers/refresh/source.ts'
import { type BigquerySettings, bigquerySettings } from '../../workers/refresh/sources/bigquery/query.ts'
import { openBigquery } from '../../workers/refresh/sources/bigquery.ts'
import type { FakeBigquery } from './bigquery.ts'
import { silent } from './postgres.ts'

/** What a worker of the extraction `name` opens the source with; `saved` collects what it stores, for the next worker. */
export function contextOf(fake: Pick<FakeBigquery, 'host'>, given: Partial<SourceContext> = {}): SourceContext {
  const saved = given.saved ?? {}
  return {
    name: 'refresh_7_3_1',
    table: 'sqp.weekly',
    refreshRun: 7,
    remember: facts => {
      Object.assign(saved, facts)
      return Promise.resolve()
    },
    window: undefined,
    lanes: 1,
    chunkBytes: 6_000_000,
    config: readConfig({ BIGQUERY_EMULATOR_HOST: fake.host, GOOGLE_CLOUD_PROJECT: 'shop' }),
    log: silent,
    clock: systemClock,
    signal: new AbortController().signal,
    ...given,
    saved,
  }
}

export function settingsOf(given: Partial<BigquerySettings> = {}): BigquerySettings {
  return bigquerySettings.parse({ source: 'bigquery', query: 'select * from `weekly`', ...given })
}

/** Opens with plain settings; a test that is about neither names neither. */
export function open(context: SourceContext, given: Partial<BigquerySettings> = {}): Promise<Extraction> {
  return openBigquery(settingsOf(given), context)
}

/** Reads a lane to its end: the text of each chunk, and where each began. */
export async function readLane(
  extraction: Extraction,
  from: Cursor,
  signal = new AbortController().signal,
): Promise<{ text: string; rows: number; cursor: Cursor }[]> {
  const chunks: { text: string; rows: number; cursor: Cursor }[] = []
  for (let cursor = from; ; ) {
    const chunk = await extraction.read(cursor, signal)
    chunks.push({ text: Buffer.concat(chunk.data).toString(), rows: chunk.rows, cursor })
    if (chunk.finished) return chunks
    cursor = chunk.next
  }
}

/** All lines of all lanes, one lane after the other. */
export async function readAll(extraction: Extraction): Promise<string[]> {
  const lines: string[] = []
  for (const cursor of extraction.cursors) {
    for (const { text } of await readLane(extraction, cursor)) lines.push(...text.split('\n').slice(0, -1))
  }
  return lines
}

/** What `work` was refused with. */
export function refusalOf(work: Promise<unknown>): Promise<Error> {
  return work.then(
    () => {
      throw new Error('it was not refused')
    },
    (error: unknown) => {
      if (error instanceof Error) return error
      throw new Error(String(error))
    },
  )
}
