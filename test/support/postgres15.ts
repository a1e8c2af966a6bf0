import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Identity, databaseIdentity, giveTo, idOf } from '../../src/embedded/binaries.ts'
import { environment, type Place, placeIn, readSecret, urlOf, writeSecret } from '../../src/embedded/cluster.ts'
import { freePort } from '../../src/embedded/ports.ts'
import { launch, postmaster, register } from '../../src/embedded/postmaster.ts'
import { until } from './until.ts'

/** Where Debian and Ubuntu put PostgreSQL 15: a server together with all its client tools, which the embedded one lacks. */
export const postgres15Bin = '/usr/lib/postgresql/15/bin'

/** Whether tests with it must be left out; says so, loudly. In CI nothing is left out: they fail there. */
export function postgres15Missing(): boolean {
  if (['postgres', 'initdb', 'pg_dump', 'pg_restore'].every(name => existsSync(join(postgres15Bin, name)))) return false
  if (process.env.CI !== undefined) return false
  console.warn('SKIPPED: all tests with a PostgreSQL 15 and its tools. Install it to run them: apt-get install postgresql-15')
  return true
}

/** A cluster of its own. */
export type Postgres15 = {
  url: string
  port: number
  dataDir: string
  /** Everything of it, the log (`server.log`) among it. The server's user may write here. */
  root: string
  /** Stops it and removes its files. */
  stop(): Promise<void>
  /** SIGQUIT ('immediate', as after a power cut) or SIGINT ('fast'); resolves when the postmaster is gone. */
  kill(mode: 'immediate' | 'fast'): Promise<void>
  /** Starts it again on the same port and data, with these settings on top. */
  restart(settings?: Record<string, string>): Promise<void>
}

const DEFAULTS = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  shared_buffers: '64MB',
  max_connections: '100',
  timezone: 'UTC',
  fsync: 'off',
  synchronous_commit: 'off',
  full_page_writes: 'off',
}

/** Starts a cluster; it ends with this process at the latest. `prepare` fills the data directory instead of initdb: a base backup, for one. */
export async function startPostgres15({
  settings = {},
  prepare = initialise,
  password,
}: {
  settings?: Record<string, string>
  prepare?: (place: Place) => Promise<void> | void
  /** Of the user `pawl`, where `prepare` brings a copy of another cluster. */
  password?: string
} = {}): Promise<Postgres15> {
  const identity = databaseIdentity()
  const root = mkdtempSync(join(tmpdir(), 'pawl-postgres15-'))
  // mkdtemp keeps others out, and the database's user is another when we are root.
  chmodSync(root, 0o755)
  giveTo(identity, root)
  const place = placeIn(root, identity)
  mkdirSync(place.users)
  giveTo(identity, place.users)
  try {
    writeSecret(place, { password: password ?? 'pawl' })
    await prepare(place)
    const port = await freePort()
    writeSecret(place, { ...readSecret(place), port })
    const registration = register(place)
    const start = (more: Record<string, string>) => launch(postgres15Bin, place, port, { settings: { ...DEFAULTS, ...settings, ...more }, ephemeral: true })
    let watchdog = start({})
    await ready(place)
    return {
      url: urlOf(place),
      port,
      dataDir: place.data,
      root,
      async stop() {
        rmSync(registration, { force: true })
        watchdog.stdin?.end()
        await until('the cluster has stopped', () => postmaster(place) === undefined)
        // Its watchdog removes the files, too, also when this process is killed. More than once: it may be at that just now.
        rmSync(root, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
      },
      async kill(mode) {
        const running = postmaster(place)
        if (running === undefined) return
        process.kill(running.pid, mode === 'immediate' ? 'SIGQUIT' : 'SIGINT')
        await until('the cluster has ended', () => postmaster(place) === undefined)
      },
      async restart(more = {}) {
        watchdog.stdin?.end()
        watchdog = start(more)
        await ready(place)
      },
    }
  } catch (error) {
    rmSync(root, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
    throw error
  }
}

/** Runs a program of PostgreSQL 15 as the database's user; throws with what it said. */
export function runPostgres15(name: string, args: string[], { env = {} }: { env?: Record<string, string> } = {}): string {
  const identity: Identity = databaseIdentity()
  const made = spawnSync(join(postgres15Bin, name), args, { ...idOf(identity), cwd: '/', env: { ...environment(), ...env }, encoding: 'utf8' })
  if (made.status !== 0) throw new Error(`${name} ended with ${made.status ?? made.signal ?? made.error}:\n${made.stderr}`)
  return made.stdout
}

function initialise(place: Place): void {
  const passwordFile = join(place.root, 'password')
  writeFileSync(passwordFile, readSecret(place).password, { mode: 0o600 })
  giveTo(place.identity, passwordFile)
  const access = ['-U', 'pawl', '-A', 'scram-sha-256', `--pwfile=${passwordFile}`]
  runPostgres15('initdb', ['-D', place.data, ...access, '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync', '--no-instructions'])
  rmSync(passwordFile)
}

async function ready(place: Place): Promise<void> {
  await until('PostgreSQL 15 is ready', () => postmaster(place)?.ready === true).catch((error: unknown) => {
    throw new Error(`PostgreSQL 15 did not start:\n${readFileSync(join(place.root, 'server.log'), 'utf8').split('\n').slice(-20).join('\n')}`, { cause: error })
  })
}
