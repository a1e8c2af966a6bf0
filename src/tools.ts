import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { PassThrough, type Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { codeOf, messageOf, PawlError } from './errors.ts'
import { connectionVariables } from './libpq.ts'

/** The client programs of one major version of PostgreSQL. */
export type Tools = { directory: string; version: string; major: number }

const names = ['pg_dump', 'pg_dumpall', 'pg_restore'] as const
export type Tool = (typeof names)[number]

const ANSWER_MS = 10_000
/** A tool that was told to end also tells the server; one that doesn't listen is killed. */
const END_PATIENCE_MS = 2_000
/** Of what a tool said, what an error repeats. */
const LINES_KEPT = 12

/** Where the packages of the systems put them; what `PATH` leads to is often another version's. */
const placesOf = (major: number) => [
  `/usr/lib/postgresql/${major}/bin`,
  `/usr/pgsql-${major}/bin`,
  `/usr/libexec/postgresql${major}`,
  `/opt/homebrew/opt/postgresql@${major}/bin`,
  `/usr/local/opt/postgresql@${major}/bin`,
  `/Applications/Postgres.app/Contents/Versions/${major}/bin`,
  '/usr/local/pgsql/bin',
  '/usr/local/bin',
  '/usr/bin',
]

/**
 * The tools of exactly this major version, in `pgBin` or where systems keep them. An older pg_dump refuses the server, and what a newer one
 * writes sets parameters that the server doesn't know: a restore that stops at the first error would never succeed.
 * Throws `tools.missing` and `tools.version`.
 */
export async function findTools(pgBin: string | undefined, major: number): Promise<Tools> {
  const places = pgBin === undefined ? placesOf(major) : [pgBin]
  const others: string[] = []
  for (const directory of places) {
    const missing = names.filter(name => !existsSync(join(directory, name)))
    if (missing.length === names.length) continue
    const version = missing.length === 0 ? await versionOf(directory) : `without ${missing.join(' and ')}`
    if (Number.parseInt(version, 10) === major) return { directory, version, major }
    others.push(`${directory} (${version})`)
  }
  const hint = `install them (Debian: apt-get install postgresql-client-${major}; in the image: COPY from postgres:${major}), or name their directory in PAWL_PG_BIN`
  if (others.length > 0) {
    throw new PawlError('tools.version', `the server is PostgreSQL ${major}, and its pg_dump is not in ${others.join(', ')}`, { hint })
  }
  throw new PawlError('tools.missing', `pg_dump of PostgreSQL ${major} is not in ${places.join(', ')}`, { hint })
}

/** `15.18` of `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`; why not, where it doesn't run. */
async function versionOf(directory: string): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(join(directory, 'pg_dump'), ['--version'], { env: surroundings(), timeout: ANSWER_MS })
    return /\(PostgreSQL\) (\d\S*)/.exec(stdout)?.[1] ?? stdout.trim()
  } catch (error) {
    return `which does not run: ${messageOf(error).split('\n')[0]}`
  }
}

/** Nothing of the caller's may leak in: PGOPTIONS or a locale would change what is dumped. */
function surroundings(): Record<string, string> {
  return { LC_ALL: 'C', TZ: 'UTC', PATH: '/usr/local/bin:/usr/bin:/bin', PGCONNECT_TIMEOUT: '10' }
}

export type Run = {
  url: string
  /** Aborted: the tool is ended, and what was waited for throws the reason. */
  signal: AbortSignal
  input?: AsyncIterable<Uint8Array>
  /** Told each line of its standard error. */
  told?(line: string): void
}

/**
 * Starts a tool on the database of `url`. `done` resolves when it has ended well; it throws `tools.failed` with its last words,
 * `tools.killed` when someone killed it, or what `input` threw. `output` throws the same at its end: who reads it can't take the output of a
 * tool that failed for the whole. More than a little of it must be read, or the tool waits.
 */
export function startTool(tools: Tools, name: Tool, args: readonly string[], run: Run): { output: AsyncIterable<Uint8Array>; done: Promise<void> } {
  const child = spawn(join(tools.directory, name), args, {
    env: { ...surroundings(), ...connectionVariables(run.url) },
    stdio: [run.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
  })
  // When a child has ended, Node throws away what nobody has begun to read.
  const held = new PassThrough()
  pipeline(child.stdout as Readable, held).catch(() => {})
  const done = finish(child, name, run)
  // Whoever reads only the output hears of it there.
  done.catch(() => {})
  return { output: read(child, held, done), done }
}

async function* read(child: ChildProcess, held: Readable, done: Promise<void>): AsyncIterable<Uint8Array> {
  let isRead = false
  try {
    yield* held
    isRead = true
  } catch (error) {
    // Its own failure says more than the pipe that broke.
    await done
    throw error
  } finally {
    if (!isRead) end(child)
  }
  await done
}

async function finish(child: ChildProcess, name: Tool, { signal, input, told }: Run): Promise<void> {
  const said = listen(child.stderr as Readable, told)
  const stop = () => end(child)
  signal.addEventListener('abort', stop, { once: true })
  if (signal.aborted) stop()
  try {
    const fed = feed(child, input)
    // Told below, when the tool has ended; unheard until then, it would end this process.
    fed.catch(() => {})
    const ended = await new Promise<{ code: number | null; by: NodeJS.Signals | null }>((resolve, reject) => {
      child.on('error', reject)
      child.on('close', (code, by) => resolve({ code, by }))
    })
    signal.throwIfAborted()
    await fed
    if (ended.code !== 0) throw failed(name, ended, said)
  } catch (error) {
    signal.throwIfAborted()
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'EACCES') {
      throw new PawlError('tools.missing', `${name} can't be started: ${messageOf(error)}`, { hint: 'see PAWL_PG_BIN', cause: error })
    }
    throw error
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

/** Throws what `input` threw, and nothing else: a tool that closes its input says at its end why. */
async function feed(child: ChildProcess, input: AsyncIterable<Uint8Array> | undefined): Promise<void> {
  if (input === undefined || child.stdin === null) return
  let failure: { error: unknown } | undefined
  const heard = (async function* () {
    try {
      yield* input
    } catch (error) {
      failure = { error }
      throw error
    }
  })()
  await pipeline(heard, child.stdin).catch(() => {})
  if (failure === undefined) return
  end(child)
  throw failure.error
}

function listen(stderr: Readable, told: ((line: string) => void) | undefined): string[] {
  const said: string[] = []
  createInterface({ input: stderr }).on('line', line => {
    told?.(line)
    said.push(line)
    // What went wrong stands first, and a statement of a hundred lines behind it.
    if (said.length > LINES_KEPT) said.splice(WRONG.test(said[0] ?? '') ? LINES_KEPT : 0, 1)
  })
  return said
}

const WRONG = / (error|fatal): /i

/** What of it passes by itself: the server went away or had no room for another connection, a lock was held too long. */
const PASSING =
  /server closed the connection|terminating connection|could not connect|connection to server|connection refused|SSL SYSCALL|is starting up|is shutting down|in recovery mode|too many (clients|connections)|remaining connection slots|lock timeout|canceling statement due to|deadlock detected|no connection to the server/i

/** What no waiting mends, whatever is said around it. */
const LASTING = /authentication failed|no pg_hba\.conf entry|database ".*" does not exist|role ".*" does not exist|permission denied|certificate/i

function failed(name: Tool, { code, by }: { code: number | null; by: NodeJS.Signals | null }, said: readonly string[]): PawlError {
  if (by !== null) {
    return new PawlError('tools.killed', `${name} was killed (${by})`, {
      retryable: true,
      hint: 'if nobody did, the machine ran out of memory: see its log',
    })
  }
  // With --verbose, its last words may stand behind a line of what it was just doing.
  const first = said.findIndex(line => WRONG.test(line))
  const words = (first === -1 ? said.slice(-3) : said.slice(first)).join('\n')
  return new PawlError('tools.failed', `${name} ended with code ${code}: ${words || 'it said nothing'}`, {
    retryable: PASSING.test(words) && !LASTING.test(words),
  })
}

function end(child: ChildProcess): void {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), END_PATIENCE_MS)
  child.once('close', () => clearTimeout(timer))
  // Nobody reads on: a full pipe would keep it from ending.
  child.stdout?.destroy()
}
