import { join } from 'node:path'
import { literal } from '../../../../src/names.ts'
import type { Engine } from './engine.ts'
import { changed, type File, type Format, refused, scan } from './files.ts'
import { quoted } from '../../../../src/names.ts'

/** Where the rows stand: each has a number, the same in every process that lays out the same files. */
export type Layout = {
  columns: readonly { name: string; type: string }[]
  total: number
  /** The files that rows are still read from. */
  live: readonly File[]
  /** What a later layout of the same files must equal; undefined where the files say it already. */
  fingerprint: string | undefined
  /** The FROM and WHERE of rows `from` (included) to `to` (not). */
  rows(from: number, to: number): string
  /** The last end a range from there can have: a statement over very many small files would read them all at once. */
  reach(from: number, to: number): number
}

export type Wish = {
  format: Format
  files: readonly File[]
  options: Readonly<Record<string, unknown>>
  columns: readonly string[] | undefined
  query: string | undefined
  orderBy: readonly string[]
}

const FILES_AT_ONCE = 50

/**
 * Parquet is read where it lies: a range of row numbers costs that range only, since row groups outside it are passed over (measured: rows
 * 950,000 on as fast as the first). CSV, JSON and the result of a query have no such numbers and are copied once per process
 * into a table on disk, whose row ids are read in ranges just as cheaply.
 */
export function layOut(engine: Engine, wish: Wish, signal: AbortSignal): Promise<Layout> {
  return wish.format === 'parquet' && wish.query === undefined ? layOutParquet(engine, wish, signal) : layOutCopy(engine, wish, signal)
}

async function layOutParquet(engine: Engine, wish: Wish, signal: AbortSignal): Promise<Layout> {
  const { files } = wish
  await engine.fence(files.map(({ path }) => path))
  const columns = pick(await describe(engine, `select * from ${scan('parquet', files, wish.options)}`, signal), wish.columns)
  const paths = files.map(({ path }) => literal(path)).join(', ')
  const counts = new Map(await engine.rows<[string, string]>(`select file_name, num_rows from parquet_file_metadata([${paths}])`, signal))
  const starts = [0]
  for (const { path } of files) starts.push((starts.at(-1) ?? 0) + Number(counts.get(path)))
  const total = starts.at(-1) ?? 0

  // By name, under the types of all files together: one file may lack a column, or have it narrower.
  const typed = `select ${columns.map(({ name, type }) => `null::${type} as ${quoted(name)}`).join(', ')} where false`
  const piece = (file: File, from: number, to: number) =>
    `${scan('parquet', [file], wish.options)} where file_row_number >= ${from} and file_row_number < ${to}`
  return {
    columns,
    total,
    live: files,
    fingerprint: undefined,
    rows(from, to) {
      const pieces = files.flatMap((file, place) => {
        const [start, end] = [starts[place] ?? 0, starts[place + 1] ?? 0]
        return start < to && end > from ? [piece(file, Math.max(from, start) - start, Math.min(to, end) - start)] : []
      })
      return files.length === 1 ? `from ${pieces[0]}` : `from (${[typed, ...pieces.map(sql => `select * from ${sql}`)].join(' union all by name ')})`
    },
    reach(from, to) {
      const first = starts.findLastIndex(start => start <= from)
      return Math.min(to, starts[first + FILES_AT_ONCE] ?? total)
    },
  }
}

async function layOutCopy(engine: Engine, wish: Wish, signal: AbortSignal): Promise<Layout> {
  // On disk, not in DuckDB's memory: there it is compressed, and a large file takes no more memory than a small one.
  await engine.rows(`attach ${literal(join(engine.folder, 'rows.duckdb'))} as held`)
  await engine.fence(wish.files.map(({ path }) => path))
  const source = scan(wish.format, wish.files, wish.options)
  await engine.rows(`create view files as select * from ${source}`, signal)
  const query = wish.query ?? 'select * from files'
  const columns = pick(await describe(engine, query, signal), wish.columns)
  const names = columns.map(({ name }) => quoted(name)).join(', ')
  // A query's rows come in any order, and each process must number them alike: the hash of the row settles what order_by leaves open.
  const sorted = wish.query === undefined ? '' : `order by ${[...wish.orderBy.map(quoted), 'hash(pawl_row)'].join(', ')}`
  await engine.rows(`create table held.rows as select ${names} from (${query}) pawl_row ${sorted}`, signal)
  const sum = wish.query === undefined ? 'null' : 'sum(hash(pawl_row)::hugeint)'
  const [row] = await engine.rows<[string, string | null]>(`select count(*), ${sum}::varchar from held.rows pawl_row`, signal)
  const total = Number(row?.[0])
  return {
    columns,
    total,
    live: [],
    fingerprint: wish.query === undefined ? undefined : `${total}:${row?.[1]}`,
    rows: (from, to) => `from held.rows where rowid >= ${from} and rowid < ${to}`,
    reach: (_from, to) => to,
  }
}

async function describe(engine: Engine, query: string, signal: AbortSignal) {
  const rows = await engine.rows<[string, string]>(`describe ${query}`, signal)
  return rows.map(([name, type]) => ({ name, type }))
}

function pick(all: readonly { name: string; type: string }[], wanted: readonly string[] | undefined) {
  if (wanted === undefined) return all
  return wanted.map(name => {
    const found = all.find(column => column.name === name)
    if (found !== undefined) return found
    throw refused(`the files have no column ${name}`, `"columns" can name ${all.map(column => column.name).join(', ')}`)
  })
}

/** Throws `refresh.source_changed` where a query over unchanged files answered otherwise than before. */
export function checkFingerprint(layout: Layout, saved: unknown): void {
  if (layout.fingerprint === undefined || saved === undefined || saved === null || saved === layout.fingerprint) return
  throw changed('the query gave other rows than when the reading began')
}
