import type { Socket } from 'node:net'
import { drizzle, type NodePgDatabase } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import type { Config } from './config.ts'
import { PawlError } from './errors.ts'
import type { Log } from './log.ts'

/** Runs one statement and returns its rows. `bigint` columns arrive as numbers while they are safe integers, else as text. */
export type Query = <Row extends Record<string, unknown>>(text: string, values?: unknown[]) => Promise<Row[]>

export type Database = {
  query: Query
  /** The same pool as Drizzle sees it, for rows in and out. */
  orm: NodePgDatabase
  /** One transaction, READ COMMITTED. Throws what `work` throws, after ROLLBACK. */
  transact<Result>(work: (query: Query) => Promise<Result>): Promise<Result>
  /** Connections of the pool now: open, idle, and callers that wait for one. */
  counts(): { total: number; idle: number; waiting: number }
  close(): Promise<void>
}

/** A connection of our own, for LISTEN, session locks and migrations. */
export type DirectConnection = {
  query: Query
  /** Fires once, with the reason, when the connection is gone. */
  lost: Promise<Error>
  onNotify(handler: (channel: string, payload: string) => void): void
  close(): Promise<void>
  /** Cuts the socket without a word: for a server that no longer answers. */
  abort(): void
}

const INT8 = 20

// Only on connections of ours: pg-boss shares the `pg` module and reads int8 as text.
const types = {
  getTypeParser(oid: number, format?: 'text' | 'binary') {
    if (oid === INT8 && format !== 'binary') {
      return (text: string) => {
        const number = Number(text)
        return Number.isSafeInteger(number) ? number : text
      }
    }
    return pg.types.getTypeParser(oid, format)
  },
}

/**
 * How long the server lets a transaction of ours sit idle. A worker that is stopped (SIGSTOP, a frozen VM) between two
 * statements would otherwise hold its row locks until it wakes, and the worker that takes over would wait for it.
 */
const IDLE_IN_TRANSACTION_MS = 5_000

function connectionOptions(url: string, config: Config, name: string) {
  const remoteTls = /[?&]sslmode=(require|prefer|verify-ca|verify-full)/.test(url)
  return {
    connectionString: url,
    application_name: name,
    types,
    keepAlive: true,
    connectionTimeoutMillis: 10_000,
    ...(remoteTls ? { ssl: { rejectUnauthorized: config.sslRejectUnauthorized } } : {}),
  }
}

/** Opens the pool on `url`. No connection is made until the first query. */
export function openDatabase(config: Config, log: Log, options: { url?: string | undefined; name?: string; max?: number } = {}): Database {
  const url = options.url ?? config.databaseUrl
  if (url === undefined) throw noDatabase()
  const pool = new pg.Pool({
    ...connectionOptions(url, config, options.name ?? 'pawl'),
    max: options.max ?? config.poolMax,
    idleTimeoutMillis: config.poolIdleMs,
    maxLifetimeSeconds: Math.ceil(config.poolLifeMs / 1000),
    query_timeout: config.queryTimeoutMs,
  })
  // An idle connection that dies (restart, fail-over) is not an error of ours: the pool replaces it.
  let closing = false
  pool.on('error', error => {
    // pg's pool says it has ended before its sockets have: what the server tells them then is no news.
    if (!closing) log.warn({ err: error }, 'idle database connection lost')
  })
  return {
    query: (text, values) => pool.query(text, values).then(rowsOf) as Promise<never[]>,
    orm: drizzle({ client: pool }),
    async transact(work) {
      const client = await pool.connect()
      let broken: Error | undefined
      try {
        await client.query(`begin; set local idle_in_transaction_session_timeout = ${IDLE_IN_TRANSACTION_MS}`)
        const result = await work((text, values) => client.query(text, values).then(rowsOf) as Promise<never[]>)
        await client.query('commit')
        return result
      } catch (error) {
        await client.query('rollback').catch((rollbackError: Error) => {
          broken = rollbackError
        })
        throw error
      } finally {
        client.release(broken)
      }
    },
    counts: () => ({ total: pool.totalCount, idle: pool.idleCount, waiting: pool.waitingCount }),
    close() {
      closing = true
      return pool.end()
    },
  }
}

/** Connects to `config.directUrl`, which must not be a transaction pooler (`src/pooler.ts` finds that out). */
export async function connectDirect(config: Config, name: string): Promise<DirectConnection> {
  const url = config.directUrl
  if (url === undefined) throw noDatabase()
  const client = new pg.Client(connectionOptions(url, config, name))
  const lost = new Promise<Error>(resolve => {
    client.on('error', resolve)
    client.on('end', () => resolve(new Error('the connection ended')))
  })
  await client.connect()
  return {
    query: (text, values) => client.query(text, values).then(rowsOf) as Promise<never[]>,
    lost,
    onNotify: handler => client.on('notification', message => handler(message.channel, message.payload ?? '')),
    close: () => client.end().catch(() => {}),
    abort: () => socketOf(client)?.destroy(),
  }
}

function socketOf(client: pg.Client): Socket | undefined {
  return (client as unknown as { connection?: { stream?: Socket } }).connection?.stream
}

function noDatabase(): PawlError {
  return new PawlError('database.missing', 'no database is named', { hint: 'set DATABASE_URL=postgres://user:password@host:5432/name' })
}

function rowsOf<Row>(result: pg.QueryResult | pg.QueryResult[]): Row[] {
  // Several statements in one text answer with several results; the last one is the caller's.
  const last = Array.isArray(result) ? result.at(-1) : result
  return (last?.rows ?? []) as Row[]
}
