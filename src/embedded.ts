import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { systemClock } from './clock.ts'
import { binariesFor, databaseIdentity, giveTo, type Identity, idOf, reaches } from './embedded/binaries.ts'
import { holding, isAlive } from './embedded/guard.ts'
import { PawlError } from './errors.ts'
import type { Log } from './log.ts'

/** A PostgreSQL 18 of our own, for development and tests: it needs nothing but npm, and dies with the last process that uses it. */
export type EmbeddedServer = {
  url: string
  dataDir: string
  /** It was running already, started by another process on the same directory. */
  adopted: boolean
  /** Gives it up; the last one out stops it. */
  stop(): Promise<void>
  /** For crash tests: SIGQUIT ('immediate', as after a power cut) or SIGINT ('fast'); resolves when the postmaster is gone. */
  kill(mode: 'immediate' | 'fast'): Promise<void>
  /** Starts it again on the same port and data. */
  restart(): Promise<void>
}

export type EmbeddedOptions = {
  log: Log
  /** Default: `.pawl` in the project, or a directory of its own under the system's temporary one. */
  dataDir?: string | undefined
  /** Settings on top of ours, such as `{ max_connections: '200' }`. */
  settings?: Record<string, string>
  /** Data in a temporary directory that goes with the server, and no fsync. */
  ephemeral?: boolean
}

const START_PATIENCE_MS = 30_000
const STOP_PATIENCE_MS = 20_000

const defaults = { listen_addresses: '127.0.0.1', unix_socket_directories: '', shared_buffers: '64MB', max_connections: '80', timezone: 'UTC', dynamic_shared_memory_type: 'mmap' }
const careless = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' }

/**
 * Sits between us and the postmaster. Its standard input is a pipe from us: when we die, by whatever signal, `read` returns,
 * and once no other process is registered as a user the server is told to stop. /proc first: as another user, kill -0 is refused.
 */
const WATCHDOG = `"$@" & server=$!
read _
users=$PAWL_USERS
while :; do
  used=no
  for user in "$users"/*; do
    pid=\${user##*/}
    if [ -e "$user" ] && { [ -d "/proc/$pid" ] || kill -0 "$pid" 2>/dev/null; }; then used=yes; fi
  done
  [ $used = no ] && break
  kill -0 $server 2>/dev/null || exit 0
  sleep 0.2
done
kill -INT $server 2>/dev/null
wait $server`

type Place = { root: string; data: string; users: string; secret: string; identity: Identity }

/** Starts the server of `dataDir`, or joins the one that runs there. Safe to call from several processes at once. */
export async function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedServer> {
  const identity = databaseIdentity()
  const bin = binariesFor(identity)
  const place = prepare(options, identity)
  const settings = { ...defaults, ...(options.ephemeral === true ? careless : {}), ...options.settings }
  const registration = join(place.users, String(process.pid))
  let watchdog: ChildProcess | undefined

  const start = async () => {
    const running = postmaster(place)
    if (running !== undefined) return false
    if (!existsSync(join(place.data, 'PG_VERSION'))) initialise(bin, place)
    const secret = readSecret(place)
    const port = secret.port !== undefined && (await isFree(secret.port)) ? secret.port : await freePort()
    writeSecret(place, { ...secret, port })
    watchdog = launch(bin, place, port, settings)
    return true
  }

  const started = await holding(`${place.root}.lock`, async () => {
    const mine = await start()
    writeFileSync(registration, '')
    await ready(place)
    return mine
  })
  options.log.info({ data_dir: place.data, adopted: !started }, 'embedded PostgreSQL ready')

  return {
    get url() {
      return urlOf(readSecret(place))
    },
    dataDir: place.data,
    adopted: !started,
    async stop() {
      rmSync(registration, { force: true })
      if (watchdog === undefined) return
      watchdog.stdin?.end()
      // Others still use it: the watchdog outlives us and sees to the end.
      if (readdirSync(place.users).some(user => isAlive(Number(user)))) return watchdog.unref()
      await until(() => postmaster(place) === undefined, STOP_PATIENCE_MS, 'stop', place)
      if (options.ephemeral === true) rmSync(place.root, { recursive: true, force: true })
    },
    async kill(mode) {
      const running = postmaster(place)
      if (running === undefined) return
      process.kill(running.pid, mode === 'immediate' ? 'SIGQUIT' : 'SIGINT')
      await until(() => !isAlive(running.pid), STOP_PATIENCE_MS, 'stop', place)
    },
    async restart() {
      watchdog?.stdin?.end()
      const { port } = readSecret(place)
      watchdog = launch(bin, place, port ?? (await freePort()), settings)
      await ready(place)
    },
  }
}

/** The URL of the embedded server that runs for this project now, if one does: how `pawl status` finds what `npm start` started. */
export async function runningEmbedded(dataDir?: string): Promise<string | undefined> {
  const identity = databaseIdentity()
  for (const root of candidates(dataDir, identity)) {
    const place = placeIn(root, identity)
    if (existsSync(place.secret) && postmaster(place)?.ready === true) return urlOf(readSecret(place))
  }
  return undefined
}

function candidates(dataDir: string | undefined, identity: Identity): string[] {
  const owner = `${process.getuid?.() ?? 'me'}${identity === undefined ? '' : `-${identity.name}`}`
  if (dataDir !== undefined) return [resolve(dataDir)]
  const project = fileURLToPath(new URL('..', import.meta.url))
  const key = createHash('sha256').update(project).digest('hex').slice(0, 12)
  // One per user: root and an ordinary user may run the same checkout in turn.
  return [join(project, '.pawl', `postgres-${owner}`), join(tmpdir(), `pawl-${key}-${owner}`)]
}

function placeIn(root: string, identity: Identity): Place {
  return { root, data: join(root, 'data'), users: join(root, 'users'), secret: join(root, 'server.json'), identity }
}

function prepare(options: EmbeddedOptions, identity: Identity): Place {
  const wanted = options.ephemeral === true ? [mkdtempSync(join(tmpdir(), 'pawl-ephemeral-'))] : candidates(options.dataDir, identity)
  for (const root of wanted) {
    try {
      mkdirSync(root, { recursive: true, mode: 0o755 })
    } catch (error) {
      if (root === wanted.at(-1)) throw error
      continue
    }
    giveTo(identity, root)
    if (!reaches(identity, root)) continue
    const place = placeIn(root, identity)
    mkdirSync(place.users, { recursive: true })
    return place
  }
  throw new PawlError('embedded.directory', `the database's user cannot write to ${wanted.join(' or ')}`, { hint: 'set PAWL_DATA_DIR to a directory it can reach, or DATABASE_URL' })
}

function initialise(bin: string, place: Place): void {
  const password = randomBytes(18).toString('base64url')
  writeSecret(place, { password })
  const passwordFile = join(place.root, `password.${process.pid}`)
  writeFileSync(passwordFile, password, { mode: 0o600 })
  giveTo(place.identity, passwordFile)
  const arguments_ = ['-D', place.data, '-U', 'pawl', '-A', 'scram-sha-256', `--pwfile=${passwordFile}`, '-E', 'UTF8']
  const locale = ['--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--locale=C', '--no-sync', '--no-instructions']
  const made = spawnSync(join(bin, 'initdb'), [...arguments_, ...locale], { ...idOf(place.identity), cwd: '/', env: environment(), encoding: 'utf8' })
  rmSync(passwordFile, { force: true })
  if (made.status === 0) return
  rmSync(place.data, { recursive: true, force: true })
  throw new PawlError('embedded.initdb', `initdb failed in ${place.data}: ${(made.stderr ?? String(made.error)).trim().split('\n').at(-1)}`, { hint: 'set PAWL_DATA_DIR to another directory, or DATABASE_URL' })
}

function launch(bin: string, place: Place, port: number, settings: Record<string, string>): ChildProcess {
  const flags = Object.entries({ ...settings, port: String(port) }).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const journal = openSync(join(place.root, 'server.log'), 'a')
  // A session of its own: Ctrl-C in the terminal is ours to handle, and must not reach PostgreSQL before the drain.
  const child = spawn('/bin/sh', ['-c', WATCHDOG, 'sh', join(bin, 'postgres'), '-D', place.data, ...flags], {
    ...idOf(place.identity),
    cwd: '/',
    detached: true,
    env: { ...environment(), PAWL_USERS: place.users },
    stdio: ['pipe', journal, journal],
  })
  child.unref()
  return child
}

async function ready(place: Place): Promise<void> {
  await until(() => postmaster(place)?.ready === true, START_PATIENCE_MS, 'start', place)
}

/** What postmaster.pid says, if that process lives: line 1 is the pid, line 8 the state. */
function postmaster(place: Place): { pid: number; ready: boolean } | undefined {
  try {
    const lines = readFileSync(join(place.data, 'postmaster.pid'), 'utf8').split('\n')
    const pid = Number(lines[0])
    return isAlive(pid) ? { pid, ready: lines[7]?.trim() === 'ready' } : undefined
  } catch {
    return undefined
  }
}

async function until(condition: () => boolean, patienceMs: number, verb: string, place: Place): Promise<void> {
  const deadline = systemClock.elapsed() + patienceMs
  while (!condition()) {
    if (systemClock.elapsed() > deadline) {
      throw new PawlError('embedded.timeout', `the embedded PostgreSQL did not ${verb} within ${patienceMs / 1000} s`, { hint: `read ${join(place.root, 'server.log')}` })
    }
    await systemClock.sleep(15)
  }
}

type Secret = { password: string; port?: number }

function readSecret(place: Place): Secret {
  return JSON.parse(readFileSync(place.secret, 'utf8')) as Secret
}

function writeSecret(place: Place, secret: Secret): void {
  writeFileSync(place.secret, JSON.stringify(secret), { mode: 0o600 })
}

function urlOf({ password, port }: Secret): string {
  return `postgres://pawl:${password}@127.0.0.1:${port}/postgres`
}

/** No locale or library path of the caller's may leak in. */
function environment(): Record<string, string> {
  return { LC_ALL: 'C', TZ: 'UTC', PATH: '/usr/bin:/bin' }
}

function freePort(): Promise<number> {
  return new Promise((done, failed) => {
    const server = createServer()
    server.once('error', failed)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => done(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}

function isFree(port: number): Promise<boolean> {
  return new Promise(done => {
    const server = createServer()
    server.once('error', () => done(false))
    server.listen(port, '127.0.0.1', () => server.close(() => done(true)))
  })
}
