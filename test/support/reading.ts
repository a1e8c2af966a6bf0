import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import type { Chunk, Cursor, Extraction, Source, SourceContext } from '../../workers/refresh/source.ts'
import { silent } from './postgres.ts'

/** What the loader hands a source, with a memory that outlives the extraction when it is passed on. */
export function contextOf(given: Partial<SourceContext> = {}): SourceContext {
  const saved = given.saved ?? {}
  return {
    name: 'refresh_1_1_1',
    table: 'sqp.trial',
    refreshRun: 1,
    remember: async facts => {
      Object.assign(saved, JSON.parse(JSON.stringify(facts)))
    },
    window: undefined,
    lanes: 2,
    chunkBytes: 100_000,
    config: readConfig({}),
    log: silent,
    clock: systemClock,
    signal: new AbortController().signal,
    ...given,
    saved,
  }
}

/** All chunks of one lane, from a cursor on. */
export async function readLane(extraction: Extraction, cursor: Cursor): Promise<Chunk[]> {
  const chunks: Chunk[] = []
  for (let at = cursor; ; ) {
    const chunk = await extraction.read(at, new AbortController().signal)
    chunks.push(chunk)
    if (chunk.finished) return chunks
    at = JSON.parse(JSON.stringify(chunk.next)) as Cursor
  }
}

/** All chunks of all lanes, read side by side. */
export async function readAll(extraction: Extraction): Promise<Chunk[]> {
  return (await Promise.all(extraction.cursors.map(cursor => readLane(extraction, cursor)))).flat()
}

/** The chunk's text. */
export const textOf = (chunks: readonly Chunk[]): string => Buffer.concat(chunks.flatMap(({ data }) => data)).toString()

/** The chunks' rows, as COPY text. */
export const linesOf = (chunks: readonly Chunk[]): string[] => textOf(chunks).split('\n').slice(0, -1)

/** How a test opens one kind of source: `using` closes it behind the work, `refusal` gives what was thrown. */
export function readingWith<Settings>(source: Source<Settings>, settingsOf: (given: object) => Settings, context: () => Partial<SourceContext> = () => ({})) {
  async function using<Result>(settings: object, work: (extraction: Extraction) => Promise<Result>, given: Partial<SourceContext> = {}): Promise<Result> {
    const extraction = await source(settingsOf(settings), contextOf({ ...context(), ...given }))
    try {
      return await work(extraction)
    } finally {
      await extraction.close()
    }
  }
  const refusal = (settings: object, given?: Partial<SourceContext>) =>
    using(settings, readAll, given).then(
      () => 'nothing',
      error => error,
    )
  return { using, refusal }
}
