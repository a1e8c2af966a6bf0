import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { DuckDBBlobVector, DuckDBConnection } from '@duckdb/node-api'
import { messageOf, PawlError } from '../../../../src/errors.ts'
import { literal } from '../../../../src/names.ts'
import { isOnlyOurs } from '../../../../src/private.ts'

/** Some rows as one value, and how many they are. */
export type Block = { rows: number; bytes: Uint8Array | undefined }

/** DuckDB in this process, with a folder of its own for what it spills, and no way to the network. */
export type Engine = {
  folder: string
  rows<Row extends unknown[]>(sql: string, signal?: AbortSignal): Promise<Row[]>
  /** Runs a SELECT of one row: a count, and a BLOB. */
  block(sql: string, signal?: AbortSignal): Promise<Block>
  /** From here on only these files and the folder can be opened, whatever a query says. */
  fence(files: readonly string[]): Promise<void>
  close(): Promise<void>
}

/** Starts DuckDB. Its memory is its own, beside Node's: `memoryLimit` bounds it, and what does not fit goes to the folder. */
export async function openEngine(options: { memoryLimit?: string | undefined; threads?: number | undefined } = {}): Promise<Engine> {
  const { DuckDBInstance } = await load()
  const folder = createFolder()
  const instance = await DuckDBInstance.create(':memory:', {
    memory_limit: options.memoryLimit ?? '128MB',
    threads: String(options.threads ?? 2),
    temp_directory: join(folder, 'spill'),
    autoinstall_known_extensions: 'false',
    autoload_known_extensions: 'false',
  })
  const idle: DuckDBConnection[] = []
  const active = new Set<DuckDBConnection>()
  const runs = new Set<Promise<unknown>>()
  let isClosed = false

  // One connection per statement under way: lanes read side by side.
  async function run<Result>(signal: AbortSignal | undefined, work: (connection: DuckDBConnection) => Promise<Result>): Promise<Result> {
    const connection = idle.pop() ?? (await instance.connect())
    const interrupt = () => connection.interrupt()
    signal?.addEventListener('abort', interrupt, { once: true })
    active.add(connection)
    try {
      signal?.throwIfAborted()
      return await work(connection)
    } catch (error) {
      signal?.throwIfAborted()
      throw error
    } finally {
      signal?.removeEventListener('abort', interrupt)
      active.delete(connection)
      idle.push(connection)
    }
  }

  function use<Result>(signal: AbortSignal | undefined, work: (connection: DuckDBConnection) => Promise<Result>): Promise<Result> {
    // One lane failed and the reading was closed: the next statement of another lane would crash the process.
    if (isClosed) return Promise.reject(new PawlError('refresh.source_closed', 'the reading is closed'))
    const running = run(signal, work)
    const ended: Promise<unknown> = running.then(
      () => runs.delete(ended),
      () => runs.delete(ended),
    )
    runs.add(ended)
    return running
  }

  const rows: Engine['rows'] = (sql, signal) => use(signal, async connection => (await connection.runAndReadAll(sql)).getRowsJson()) as Promise<never[]>
  await rows(`set global TimeZone = 'UTC'`)
  // Or each chunk reads the file's footer again.
  await rows('set global parquet_metadata_cache = true')
  // The kernel keeps the file's pages; a copy of them of DuckDB's own filled its memory up to the limit.
  await rows('set global enable_external_file_cache = false')
  return {
    folder,
    rows,
    block: (sql, signal) =>
      use(signal, async connection => {
        const chunk = await (await connection.stream(sql)).fetchChunk()
        const count = Number(chunk?.getColumnVector(0).getItem(0) ?? 0)
        const bytes = (chunk?.getColumnVector(1) as DuckDBBlobVector | undefined)?.getItemBytes(0)
        collectNowAndThen()
        return { rows: count, bytes: bytes ?? undefined }
      }),
    async fence(files) {
      await rows(`set allowed_paths = [${files.map(literal).join(', ')}]`)
      await rows(`set allowed_directories = [${literal(`${folder}/`)}]`)
      await rows('set enable_external_access = false')
    },
    async close() {
      if (isClosed) return
      isClosed = true
      // A connection closed under a running statement takes the process with it.
      for (const connection of active) connection.interrupt()
      await Promise.all(runs)
      for (const connection of idle.splice(0)) connection.closeSync()
      instance.closeSync()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

async function load() {
  try {
    return await import('@duckdb/node-api')
  } catch (error) {
    throw new PawlError('duckdb.missing', `DuckDB can't be loaded: ${messageOf(error)}`, {
      hint: 'npm install @duckdb/node-api@1.5.5-r.5',
      cause: error,
    })
  }
}

let collect: (() => void) | undefined
let blocks = 0
const BLOCKS_A_COLLECTION = 6

/**
 * DuckDB frees a result when JavaScript's handle of it is collected, and V8 sees the handle's few bytes, not the megabytes behind it: left to
 * itself it lets a hundred of them stand. So every sixth block asks for a collection, which takes some 20 ms of the 200 they took to read.
 */
function collectNowAndThen(): void {
  if (++blocks % BLOCKS_A_COLLECTION !== 0) return
  if (collect === undefined) {
    setFlagsFromString('--expose-gc')
    collect = runInNewContext('gc') as () => void
  }
  collect()
}

let folders = 0

/** Made for this process; what killed processes left behind goes first. */
function createFolder(): string {
  const known = join(tmpdir(), `pawl-duckdb-${process.getuid?.() ?? 'me'}`)
  mkdirSync(known, { recursive: true, mode: 0o700 })
  // Whoever made it before us would read what is refreshed.
  const root = isOnlyOurs(known) ? known : mkdtempSync(join(tmpdir(), 'pawl-duckdb-'))
  for (const name of readdirSync(root)) {
    if (!isAlive(Number.parseInt(name, 10))) rmSync(join(root, name), { recursive: true, force: true })
  }
  const folder = join(root, `${process.pid}.${++folders}`)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder)
  return folder
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as { code?: unknown }).code === 'EPERM'
  }
}
