import type { ChildProcess } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { systemClock } from './clock.ts'
import { binariesFor, databaseIdentity, giveTo, type Identity, reaches } from './embedded/binaries.ts'
import { initialise, type Place, placeIn, readSecret, urlOf, writeSecret } from './embedded/cluster.ts'
import { holding } from './embedded/guard.ts'
import { freePort, isFree } from './embedded/ports.ts'
import { dropForeignPid, isClosing, isUsed, launch, postmaster, register } from './embedded/postmaster.ts'
import { PawlError } from './errors.ts'
import type { Log } from './log.ts'
import { isOnlyOurs } from './private.ts'

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

const defaults = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  shared_buffers: '64MB',
  max_connections: '80',
  timezone: 'UTC',
  dynamic_shared_memory_type: 'mmap',
}
const careless = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' }

/** Starts the server of `dataDir`, or joins the one that runs there. Safe to call from several processes at once. */
export async function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedServer> {
  const identity = databaseIdentity()
  const bin = binariesFor(identity)
  const place = prepare(options, identity)
  const ephemeral = options.ephemeral === true
  const settings = { ...defaults, ...(ephemeral ? careless : {}), ...options.settings }
  let registration = ''
  let watchdog: ChildProcess | undefined

  const start = async () => {
    // Registered before the look: from then on a watchdog that has not decided yet keeps the server for us.
    registration = register(place)
    await until(() => !isClosing(place) || postmaster(place) === undefined, STOP_PATIENCE_MS, 'stop', place)
    if (postmaster(place) !== undefined) return false
    dropForeignPid(place)
    initialise(bin, place)
    const secret = readSecret(place)
    const port = secret.port !== undefined && (await isFree(secret.port)) ? secret.port : await freePort()
    writeSecret(place, { ...secret, port })
    watchdog = launch(bin, place, port, { settings, ephemeral })
    return true
  }

  const started = await holding(`${place.root}.lock`, async () => {
    const mine = await start()
    await ready(place)
    return mine
  })
  options.log.info({ data_dir: place.data, adopted: !started }, 'embedded PostgreSQL ready')

  return {
    get url() {
      return urlOf(place)
    },
    dataDir: place.data,
    adopted: !started,
    async stop() {
      rmSync(registration, { force: true })
      if (watchdog === undefined) return
      watchdog.stdin?.end()
      // Others still use it, or begin to: the watchdog outlives us and sees to the end.
      await until(() => postmaster(place) === undefined || isUsed(place), STOP_PATIENCE_MS, 'stop', place)
      if (ephemeral) await until(() => !existsSync(place.root), STOP_PATIENCE_MS, 'stop', place)
    },
    async kill(mode) {
      const running = postmaster(place)
      if (running === undefined) return
      process.kill(running.pid, mode === 'immediate' ? 'SIGQUIT' : 'SIGINT')
      // Its pid file, as pg_ctl does: until the watchdog looks, the process itself stands in the table as a zombie.
      await until(() => postmaster(place) === undefined, STOP_PATIENCE_MS, 'stop', place)
    },
    async restart() {
      watchdog?.stdin?.end()
      const { port } = readSecret(place)
      watchdog = launch(bin, place, port ?? (await freePort()), { settings, ephemeral })
      await ready(place)
    },
  }
}

/** The URL of the embedded server that runs for this project now, if one does: how `pawl status` finds what `npm start` started. */
export async function runningEmbedded(dataDir?: string): Promise<string | undefined> {
  const identity = databaseIdentity()
  for (const root of candidates(dataDir, identity)) {
    if (isForeign(root, identity)) continue
    const place = placeIn(root, identity)
    if (existsSync(place.secret) && postmaster(place)?.ready === true) return urlOf(place)
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

/** Whether it lies where anyone may write, and another user made it: to give it to the database's user, or to trust what it says, is what he waits for. */
function isForeign(root: string, identity: Identity): boolean {
  if (dirname(root) !== tmpdir() || !existsSync(root)) return false
  return !isOnlyOurs(root) && !(identity !== undefined && isOnlyOurs(root, identity.uid))
}

function prepare(options: EmbeddedOptions, identity: Identity): Place {
  const wanted = options.ephemeral === true ? [mkdtempSync(join(tmpdir(), 'pawl-ephemeral-'))] : candidates(options.dataDir, identity)
  for (const root of wanted) {
    if (isForeign(root, identity)) continue
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
    giveTo(identity, place.users)
    return place
  }
  throw new PawlError('embedded.directory', `the database's user cannot write to ${wanted.join(' or ')}`, {
    hint: 'set PAWL_DATA_DIR to a directory it can reach, or DATABASE_URL',
  })
}

async function ready(place: Place): Promise<void> {
  await until(() => postmaster(place)?.ready === true, START_PATIENCE_MS, 'start', place)
}

async function until(condition: () => boolean, patienceMs: number, verb: string, place: Place): Promise<void> {
  const deadline = systemClock.elapsed() + patienceMs
  while (!condition()) {
    if (systemClock.elapsed() > deadline) {
      throw new PawlError('embedded.timeout', `the embedded PostgreSQL did not ${verb} within ${patienceMs / 1000} s`, {
        hint: `read ${join(place.root, 'server.log')}`,
      })
    }
    await systemClock.sleep(15)
  }
}
