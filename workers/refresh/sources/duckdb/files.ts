import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { PawlError } from '../../../../src/errors.ts'
import { literal } from '../../../../src/names.ts'
import type { Engine } from './engine.ts'

export type Format = 'parquet' | 'csv' | 'json'

/** A file as it stood when the extraction began. */
export type File = { path: string; bytes: number; modified: number }

const EXTENSIONS: readonly [RegExp, Format][] = [
  [/\.(parquet|parq|pq)$/i, 'parquet'],
  [/\.(csv|tsv|txt)(\.gz|\.zst)?$/i, 'csv'],
  [/\.(json|jsonl|ndjson)(\.gz|\.zst)?$/i, 'json'],
]

/** The files a pattern or a list of them names, each once, in an order that does not depend on the folder's. */
export async function findFiles(engine: Engine, patterns: readonly string[]): Promise<File[]> {
  const paths: string[] = []
  for (const pattern of patterns) {
    if (/^[a-z][a-z0-9+.-]+:\/\//i.test(pattern)) throw refused(`${pattern} is not a file of this machine`, 'mount it or copy it to a path, and name that')
    // A name with brackets in it is a name, where such a file is there.
    if (!/[*?[]/.test(pattern) || (await look(resolve(pattern))) !== undefined) paths.push(resolve(pattern))
    else {
      const found = await engine.rows<[string]>(`select file from glob(${literal(resolve(pattern))}) order by file`)
      if (found.length === 0) throw missing(`no file matches ${resolve(pattern)}`)
      paths.push(...found.map(([path]) => path))
    }
  }
  return Promise.all([...new Set(paths)].map(async path => (await look(path)) ?? Promise.reject(missing(`${path} is not there`))))
}

/** Throws `refresh.source_changed` where a file is not what it was: its offsets mean other rows now. */
export async function checkUnchanged(files: readonly File[]): Promise<void> {
  for (const file of files) {
    const now = await look(file.path)
    if (now?.bytes === file.bytes && now.modified === file.modified) continue
    throw changed(`${file.path} ${now === undefined ? 'went away' : 'changed'} while it was read`)
  }
}

/** Throws `refresh.source_changed` where other files stand there than when the extraction began. */
export function checkSame(saved: unknown, files: readonly File[]): void {
  if (saved === undefined) return
  const before = new Map((saved as File[]).map(file => [file.path, file]))
  const other = files.find(({ path, bytes, modified }) => before.get(path)?.bytes !== bytes || before.get(path)?.modified !== modified)
  if (other !== undefined) throw changed(`${other.path} ${before.has(other.path) ? 'changed' : 'came'} since the reading began`)
  const gone = [...before.keys()].find(path => !files.some(file => file.path === path))
  if (gone !== undefined) throw changed(`${gone} went away since the reading began`)
}

/** The offsets of a cursor no longer name the rows they named. */
export const changed = (message: string): PawlError =>
  new PawlError('refresh.source_changed', message, {
    retryable: true,
    hint: 'the reading starts again; write files under another name and rename them into place',
  })

async function look(path: string): Promise<File | undefined> {
  const found = await stat(path).catch(() => undefined)
  return found?.isFile() === true ? { path, bytes: found.size, modified: found.mtimeMs } : undefined
}

const missing = (message: string) =>
  new PawlError('refresh.file_missing', message, {
    hint: 'correct "files" in custom_sync_params of sqp.refresh_config, or put the file there; the worker must be able to read it',
  })

/** Asked for the wrong thing. */
export const refused = (message: string, hint: string, cause?: unknown): PawlError => new PawlError('refresh.source_refused', message, { hint, cause })

/** The format all the files are in: what the settings say, else what their names say. */
export function formatOf(files: readonly File[], said: Format | undefined): Format {
  if (said !== undefined) return said
  const formats = new Set(files.map(({ path }) => EXTENSIONS.find(([pattern]) => pattern.test(path))?.[1]))
  const [format] = formats
  if (formats.size === 1 && format !== undefined) return format
  const names = files.slice(0, 3).map(({ path }) => path)
  throw refused(`the names of the files don't say one format: ${names.join(', ')}`, 'set "format" to parquet, csv or json')
}

/** The table function of DuckDB that reads all the files as one, columns by name. */
export function scan(format: Format, files: readonly File[], options: Readonly<Record<string, unknown>>): string {
  const paths = `[${files.map(({ path }) => literal(path)).join(', ')}]`
  const given = Object.entries(options).map(([name, value]) => `, ${name} = ${argument(value)}`)
  return `read_${format}(${paths}, union_by_name = true${given.join('')})`
}

function argument(value: unknown): string {
  if (typeof value === 'string') return literal(value)
  if (typeof value !== 'object' || value === null) return String(value)
  return `{${Object.entries(value)
    .map(([name, item]) => `${literal(name)}: ${literal(String(item))}`)
    .join(', ')}}`
}
