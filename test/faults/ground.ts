import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { upgrade } from '../../bin/commands/migrate.ts'
import { readConfig } from '../../src/config.ts'
import { type Database, openDatabase, type Query } from '../../src/database.ts'
import { codeOf } from '../../src/errors.ts'
import { type EmbeddedServer, startEmbedded } from '../../src/embedded.ts'
import { openPgbouncer, type Pgbouncer, pgbouncerMissing } from '../support/pgbouncer.ts'
import { silent } from '../support/postgres.ts'
import { startWorker, type WorkerProcess } from '../support/process.ts'
import { openProxy, type Proxy } from '../support/proxy.ts'
import { startStandby } from '../support/standby.ts'
import { until } from '../support/until.ts'
import { isOutage } from './load.ts'

/** The login of every worker: a member of pawl_worker and nothing more. */
export const WORKER = 'faults_worker'
export const LEASE_SECONDS = 3
const STORE_MEGABYTES = 384
/** For what the harness itself asks, on a machine that is busy with faults. */
const PATIENCE = { DB_QUERY_TIMEOUT: '120000' }
const shifted = new URL('../support/shifted-clock.mjs', import.meta.url).href

/** The house that is shaken: a server, a network, a pooler, a standby, a store, workers. */
export type Ground = {
  folder: string
  server: EmbeddedServer
  /** To the server itself, as its superuser: no fault but the server's own end touches it. */
  exempt: Database
  urls: { own: string; shop: string }
  /** What the workers log in as. */
  login: string
  shop: Query
  proxy: Proxy
  pooler: Pgbouncer | undefined
  replica: Replica
  store: Store
  crew: Crew
  /** Takes everything down; the data directory stays when `keep`. */
  end(keep: boolean): Promise<void>
}

export type Replica = {
  /** The standby that reports are read from now. */
  url(): string
  /** Lets the standby be a server of its own, which says so in what it holds; then another one takes its place. */
  promote(): Promise<void>
}

/** Where reports go. `small`: a file system of its own, which can be filled. */
export type Store = { folder: string; small: boolean }

export type Crew = {
  /** Those that were started and have not ended, in the order of their names. */
  living(): WorkerProcess[]
  all: WorkerProcess[]
  start(options?: { clockMs?: number; migrations?: string }): Promise<WorkerProcess>
}

/** Opens everything but the workers. */
export async function openGround(): Promise<Ground> {
  const folder = mkdtempSync(join(tmpdir(), 'pawl-faults-'))
  chmodSync(folder, 0o755)
  // What was acknowledged must be there after the crash of the server; that of the machine is not tried, so no fsync.
  const settings = { fsync: 'off', max_connections: '150', shared_buffers: '128MB', wal_keep_size: '512MB' }
  const server = await startEmbedded({ log: silent, dataDir: join(folder, 'server'), settings })
  const config = readConfig({ DATABASE_URL: server.url, ...PATIENCE })
  await upgrade(config, silent)
  const exempt = openDatabase(config, silent, { max: 6, name: 'faults' })
  await exempt.query(`create role ${WORKER} login password 'faults' in role pawl_worker`)
  await exempt.query('create database shop')
  const urls = { own: server.url, shop: Object.assign(new URL(server.url), { pathname: '/shop' }).href }
  const shop = openDatabase(readConfig({ DATABASE_URL: urls.shop }), silent, { max: 1 })
  const login = Object.assign(new URL(server.url), { username: WORKER, password: 'faults' }).href
  const proxy = await openProxy(login)
  // By default it waits 15 s before it knocks again at a server that was gone.
  const patience = 'server_login_retry = 1\nserver_connect_timeout = 5\nquery_wait_timeout = 30\ndefault_pool_size = 15\nmax_client_conn = 200'
  const pooler = pgbouncerMissing() ? undefined : await openPgbouncer(proxy.url, 'transaction', `${patience}\nignore_startup_parameters = extra_float_digits`)
  const standbys: EmbeddedServer[] = []
  const replica = await openReplica(server, standbys)
  const store = openSmallStore(folder)
  const crew = openCrew(folder, (name, url = pooler?.url ?? proxy.url) => ({
    DATABASE_URL: signed(url, name),
    DATABASE_DIRECT_URL: signed(proxy.url, name),
    DATABASE_READ_REPLICA_URL: signed(replica.proxy.url, name),
    PAWL_SOURCE_SHOP: Object.assign(new URL(proxy.url), { pathname: '/shop' }).href,
    PAWL_REPORT_STORE: store.folder,
    PAWL_LEASE_SECONDS: String(LEASE_SECONDS),
    PAWL_REPLICA_WAIT_MS: '1000',
    DB_CONNECTION_LIMIT: '10',
    DB_QUERY_TIMEOUT: '10000',
  }))
  return {
    folder,
    server,
    exempt,
    urls,
    login: WORKER,
    shop: shop.query,
    proxy,
    pooler,
    replica,
    store,
    crew,
    async end(keep) {
      for (const worker of crew.all) worker.signal('SIGKILL')
      await Promise.all(crew.all.map(worker => worker.exited))
      await Promise.all([exempt.close(), shop.close(), pooler?.close(), replica.proxy.close(), proxy.close()])
      await Promise.all(standbys.map(standby => standby.stop()))
      await server.stop()
      if (store.small) {
        if (keep) cpSync(store.folder, join(folder, 'reports'), { recursive: true })
        spawnSync('umount', [store.folder])
      }
      // rmSync was seen to leave most of it behind without a word, where a server's last child still wrote.
      if (!keep) await rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
    },
  }
}

async function openReplica(server: EmbeddedServer, standbys: EmbeddedServer[]): Promise<Replica & { proxy: Proxy }> {
  let current = await startStandby(server, { max_connections: '150', max_standby_streaming_delay: '2s' })
  standbys.push(current)
  const as = (url: string) => Object.assign(new URL(url), { username: WORKER, password: 'faults' }).href
  const proxy = await openProxy(as(current.url))
  return {
    proxy,
    url: () => current.url,
    async promote() {
      const former = current
      await beOwn(former.url)
      current = await startStandby(server, { max_connections: '150', max_standby_streaming_delay: '2s' })
      standbys.push(current)
      proxy.lead(as(current.url))
      proxy.cut()
      standbys.splice(standbys.indexOf(former), 1)
      await former.stop()
    },
  }
}

/** Promotes a standby, and writes to it what no report may show. */
async function beOwn(url: string): Promise<void> {
  const db = openDatabase(readConfig({ DATABASE_URL: url, ...PATIENCE }), silent, { max: 1 })
  try {
    // Whatever is asked of a standby may be cancelled, because its replay has to go on; also this.
    const again = (error: unknown) => {
      if (!isOutage(error) && codeOf(error) !== '40001') throw error
      return undefined
    }
    await until('the standby is told', () => db.query('select pg_promote(false)').catch(again), 60_000)
    await until('the standby is a server of its own', async () => (await db.query('select where not pg_is_in_recovery()').catch(again))?.length === 1, 120_000)
    await db.query('update public.faults_edition set edition = -1')
  } finally {
    await db.close()
  }
}

/** A file system that can be full, where we may make one; else a directory that can be shut. */
function openSmallStore(folder: string): Store {
  const place = join(folder, 'store')
  mkdirSync(place)
  const made = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${STORE_MEGABYTES}m`, 'tmpfs', place])
  const small = made.status === 0
  if (!small) console.warn('NOT TRIED: a full disk, for only root may make a small file system. The directory of reports is shut instead.')
  return { folder: place, small }
}

function openCrew(folder: string, environment: (name: string) => Record<string, string>): Crew {
  const all: WorkerProcess[] = []
  const gone = new Set<WorkerProcess>()
  let started = 0
  mkdirSync(join(folder, 'logs'))
  return {
    all,
    living: () => all.filter(worker => !gone.has(worker)),
    async start({ clockMs, migrations } = {}) {
      started += 1
      const name = `worker-${String(started).padStart(3, '0')}`
      const clock = clockMs === undefined ? {} : { NODE_OPTIONS: `--import=${shifted}`, PAWL_TEST_CLOCK_SHIFT_MS: String(clockMs) }
      const older = migrations === undefined ? {} : { PAWL_MIGRATIONS_DIR: migrations }
      const worker = await startWorker('', { name, env: { ...environment(name), ...clock, ...older } })
      all.push(worker)
      void worker.exited.then(() => {
        gone.add(worker)
        writeFileSync(join(folder, 'logs', `${name}.log`), worker.log.map(line => `${JSON.stringify(line)}\n`).join(''))
      })
      return worker
    },
  }
}

/** The URL's own application_name outranks the one the program gives: every statement tells which worker sent it. */
function signed(url: string, name: string): string {
  const changed = new URL(url)
  changed.searchParams.set('application_name', name)
  return changed.href
}
