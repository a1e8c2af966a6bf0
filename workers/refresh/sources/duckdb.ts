import { z } from 'zod'
import { messageOf, PawlError } from '../../../src/errors.ts'
import type { Chunk, Cursor, Extraction, Source, SourceContext } from '../source.ts'
import { type Block, type Engine, openEngine } from './duckdb/engine.ts'
import { checkSame, checkUnchanged, findFiles, formatOf, refused } from './duckdb/files.ts'
import { checkFingerprint, type Layout, layOut } from './duckdb/layout.ts'
import { holdsZero, line, type Written, write } from './duckdb/types.ts'
import { putWindow } from './window.ts'

const csvOptions = z.strictObject({
  header: z.boolean().optional(),
  delim: z.string().min(1).max(4).optional(),
  quote: z.string().max(1).optional(),
  escape: z.string().max(1).optional(),
  nullstr: z.string().optional(),
  skip: z.int().min(0).optional(),
  dateformat: z.string().optional(),
  timestampformat: z.string().optional(),
  decimal_separator: z.enum(['.', ',']).optional(),
  encoding: z.string().optional(),
  /** Every column as text. */
  all_varchar: z.boolean().optional(),
  /** DuckDB types by column, where guessing would lose something: `{"zip": "VARCHAR"}`. */
  types: z.record(z.string(), z.string()).optional(),
  sample_size: z.int().min(-1).optional(),
})

/** `custom_sync_params` of a table that is loaded from Parquet, CSV or JSON files. */
export const duckdbSettings = z.strictObject({
  source: z.literal('duckdb'),
  /** Paths or patterns (`/data/*.parquet`, `**`) on the worker's machine. */
  files: z.union([
    z
      .string()
      .min(1)
      .transform(path => [path]),
    z.array(z.string().min(1)).min(1),
  ]),
  /** Read from the names of the files by default. */
  format: z.enum(['parquet', 'csv', 'json']).optional(),
  /** For CSV. */
  options: csvOptions.optional(),
  /** The columns to read, in this order; all by default. */
  columns: z.array(z.string().min(1)).min(1).optional(),
  /** A SELECT over `files`, for renames, casts and filters; its result is copied to a local disk first. */
  query: z.string().min(1).optional(),
  /** Columns of the query's result to number its rows by: for a query that computes floating-point sums, the key. */
  order_by: z
    .union([
      z
        .string()
        .min(1)
        .transform(name => [name]),
      z.array(z.string().min(1)),
    ])
    .optional(),
  chunk_rows: z.int().min(1).max(10_000_000).optional(),
  /** DuckDB's own memory, beside Node's, and the threads that copy what can't be read in place. */
  memory_limit: z
    .string()
    .regex(/^\d+ ?(MB|GB|MiB|GiB)$/, 'must be like 256MB')
    .optional(),
  threads: z.int().min(1).max(64).optional(),
})

export type DuckdbSettings = z.output<typeof duckdbSettings>

const SAMPLES = 4
const SAMPLE_ROWS = 500
const ROWS_MAX = 10_000_000
const NEWLINE = new Uint8Array([10])
/** As COPY text has the escape of U+0000 in JSON. */
const JSON_ZERO = '\\\\u0000'

/** Opens a reading of Parquet, CSV or JSON files through DuckDB, which writes the rows as COPY text itself: JavaScript touches each chunk once. */
export const openDuckdb: Source<DuckdbSettings> = async (settings, context) => {
  const engine = await openEngine({ memoryLimit: settings.memory_limit, threads: settings.threads })
  try {
    return await open(engine, settings, context)
  } catch (error) {
    await engine.close()
    throw told(error, context)
  }
}

async function open(engine: Engine, settings: DuckdbSettings, context: SourceContext): Promise<Extraction> {
  const { saved, signal } = context
  const files = await findFiles(engine, settings.files)
  const format = formatOf(files, settings.format)
  if (settings.options !== undefined && format !== 'csv') throw refused(`"options" are for CSV, and the files are ${format}`, 'take "options" out')
  checkSame(saved.files, files)
  if (settings.order_by !== undefined && settings.query === undefined) throw refused('"order_by" is for a query, and there is none', 'take "order_by" out')
  const query = settings.query === undefined ? undefined : putWindow(settings.query, context.window)
  const layout = await layOut(
    engine,
    { format, files, options: settings.options ?? {}, columns: settings.columns, query, orderBy: settings.order_by ?? [] },
    signal,
  )
  // Each lane's statement has a thread already; a second one for a range as short as a chunk costs a third more CPU and saves no time.
  await engine.rows('set threads = 1')
  // A file that was written while it was copied.
  await checkUnchanged(files)
  checkFingerprint(layout, saved.fingerprint)
  const written = layout.columns.map(({ name, type }) => write(name, type))
  const chunkRows = settings.chunk_rows ?? (typeof saved.chunk_rows === 'number' ? saved.chunk_rows : await guessRows(engine, layout, written, context))
  if (saved.files === undefined) await context.remember({ files, chunk_rows: chunkRows, fingerprint: layout.fingerprint ?? null })
  return {
    columns: layout.columns.map(({ name }, place) => ({ name, type: written[place]?.type ?? 'text' })),
    total: layout.total,
    cursors: cut(layout.total, Math.min(context.lanes, Math.ceil(layout.total / chunkRows))),
    async read(cursor, readSignal) {
      try {
        await checkUnchanged(layout.live)
        return await readChunk(engine, layout, written, cursor, { rows: chunkRows, bytes: context.chunkBytes, signal: readSignal })
      } catch (error) {
        throw readSignal.aborted ? error : told(error, context)
      }
    },
    facts: () => ({ files: files.length, bytes: files.reduce((sum, file) => sum + file.bytes, 0) }),
    close: () => engine.close(),
  }
}

/** Rows a chunk, from the mean size of some at four places: fixed for the whole extraction, so that a cursor always means the same rows. */
async function guessRows(engine: Engine, layout: Layout, written: readonly Written[], context: SourceContext): Promise<number> {
  if (layout.total === 0) return 1
  const places = Array.from({ length: SAMPLES }, (_, place) => Math.floor((layout.total * place) / SAMPLES))
  const samples = places.map(from => `select ${line(written)} as line ${layout.rows(from, layout.reach(from, Math.min(from + SAMPLE_ROWS, layout.total)))}`)
  const [row] = await engine.rows<[number]>(`select avg(strlen(line) + 1)::double from (${samples.join(' union all ')})`, context.signal)
  return Math.min(ROWS_MAX, Math.max(1, Math.floor(context.chunkBytes / (row?.[0] ?? 1))))
}

function cut(total: number, lanes: number): Cursor[] {
  const edge = (lane: number) => Math.floor((total * lane) / Math.max(1, lanes))
  return Array.from({ length: Math.max(1, lanes) }, (_, lane) => ({ next: edge(lane), end: edge(lane + 1) }))
}

async function readChunk(
  engine: Engine,
  layout: Layout,
  written: readonly Written[],
  cursor: Cursor,
  limit: { rows: number; bytes: number; signal: AbortSignal },
): Promise<Chunk> {
  const { next, end, rows: most = limit.rows } = rangeCursor.parse(cursor)
  if (next >= end) return { data: [], rows: 0, next: cursor, finished: true }
  for (let rows = Math.min(most, end - next); ; rows = Math.ceil(rows / 2)) {
    const upto = layout.reach(next, next + rows)
    const where = layout.rows(next, upto)
    const block = await tryBlock(engine, `select count(*), encode(string_agg(${line(written)}, chr(10))) ${where}`, rows > 1, limit.signal)
    // Rows are far wider here than where the samples were taken. What fitted stands in the next cursor: that the same cursor gives the same
    // rows again, and that a stretch of wide rows is not tried with too many at each chunk.
    if (block === undefined || (rows > 1 && (block.bytes?.length ?? 0) > 2 * limit.bytes)) continue
    if (block.rows !== upto - next) throw new PawlError('refresh.source_broken', `rows ${next} to ${upto} were asked for, and ${block.rows} came`)
    const bytes = Buffer.from(block.bytes?.buffer ?? new ArrayBuffer(0), block.bytes?.byteOffset, block.bytes?.byteLength)
    if (bytes.includes(0) || (written.some(({ nested }) => nested) && bytes.includes(JSON_ZERO))) await refuseZero(engine, layout, written, where, limit.signal)
    return { data: [bytes, NEWLINE], rows: block.rows, next: { next: upto, end, ...(rows * 2 < limit.rows ? { rows: rows * 2 } : {}) }, finished: upto >= end }
  }
}

/** Undefined where DuckDB's memory does not hold so many rows at once, and fewer may do. */
async function tryBlock(engine: Engine, sql: string, canShrink: boolean, signal: AbortSignal): Promise<Block | undefined> {
  try {
    return await engine.block(sql, signal)
  } catch (error) {
    if (canShrink && isOutOfMemory(error)) return undefined
    throw error
  }
}

async function refuseZero(engine: Engine, layout: Layout, written: readonly Written[], where: string, signal: AbortSignal): Promise<void> {
  const tests = layout.columns.map(({ name }, place) => `bool_or(${holdsZero(name, written[place] ?? { type: 'text', sql: '', nested: false })})`)
  const [row] = await engine.rows<boolean[]>(`select ${tests.join(', ')} ${where}`, signal)
  const names = layout.columns.filter((_, place) => row?.[place] === true).map(({ name }) => name)
  if (names.length === 0) return
  throw new PawlError('refresh.nul_character', `column ${names.join(', ')} holds the character U+0000, which PostgreSQL can't store`, {
    hint: 'take it out by a "query" with replace(column, chr(0), \'\')',
  })
}

const rangeCursor = z.object({ next: z.int().min(0), end: z.int().min(0), rows: z.int().min(1).optional() })
const isOutOfMemory = (error: unknown) => /^Out of Memory/i.test(messageOf(error))

/** What DuckDB threw, as an error that says of which table; its own messages go on for lines. */
function told(error: unknown, { table, signal }: SourceContext): unknown {
  // DuckDB throws plain Errors; anything else is a mistake of ours.
  if (signal.aborted || !(error instanceof Error) || error.name !== 'Error') return error
  const [first = ''] = messageOf(error).split('\n\n')
  const message = `${table} can't be read: ${first.replaceAll('\n', ' ')}`
  if (isOutOfMemory(error)) return refused(message, 'set "memory_limit" in custom_sync_params, such as 512MB', error)
  return refused(message, 'correct custom_sync_params of this table in sqp.refresh_config, or the files', error)
}
