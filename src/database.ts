import type { Socket } from 'node:net'
import { pipeline } from 'node:stream/promises'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { from as copyFrom, to as copyTo } from 'pg-copy-streams'
import { systemClock } from './clock.ts'
import type { Config } from './config.ts'
import { PawlError } from './errors.ts'
import { clientUrl } from './libpq.ts'
import type { Log } from './log.ts'

/** Runs one statement and returns its rows. `bigint` columns arrive as numbers while they are safe integers, else as text. */
export type Query = <Row extends Record<string, unknown>>(text: string, values?: unknown[]) => Promise<Row[]>

/** Sends whole rows to a `copy … from stdin` and returns how many the server took. */
export type Copy = (statement: string, data: readonly Uint8Array[]) => Promise<number>

/** The columns a SELECT gives: the object id of the type, and its modifier. Only one statement is accepted; no row is fetched. */
export type Describe = (select: string) => Promise<{ name: string; type: number; modifier: number }[]>

export type Database = {
  query: Query
  describe: Describe
  /** The same pool as Drizzle sees it, for rows in and out. Loaded when it is asked for: it costs half a second and 200 MB, and few commands use it. */
  orm(): Promise<NodePgDatabase>
  /** One transaction, READ COMMITTED. Throws what `work` throws, after ROLLBACK. `timeoutMs` stands for DB_QUERY_TIMEOUT where statements may take long. */
  transact<Result>(work: (query: Query, copy: Copy) => Promise<Result>, options?: { timeoutMs?: number }): Promise<Result>
  counts(): PoolCounts
  close(): Promise<void>
}

/** The pool now (connections open and idle, callers that wait for one), and since it was opened: connections made and lost, single statements and their time. */
export type PoolCounts = { total: number; idle: number; waiting: number; opened: number; lost: number; queries: number; failed: number; querySeconds: number }

/** A connection of our own, for LISTEN, session locks and migrations. */
export type DirectConnection = {
  query: Query
  /** Sends what may end anywhere to a `copy … from stdin`, and returns how many rows the server took. No time is set for it. */
  copyIn(statement: string, data: AsyncIterable<Uint8Array>): Promise<number>
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
  return {
    connectionString: clientUrl(url, config.sslRejectUnauthorized),
    application_name: name,
    types,
    keepAlive: true,
    connectionTimeoutMillis: 10_000,
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
  const since = { opened: 0, lost: 0, queries: 0, failed: 0, querySeconds: 0 }
  pool.on('connect', () => {
    since.opened += 1
  })
  pool.on('error', error => {
    since.lost += 1
    // pg's pool says it has ended before its sockets have: what the server tells them then is no news.
    if (!closing) log.warn({ err: error }, 'idle database connection lost')
  })
  return {
    async query(text, values) {
      const begun = systemClock.elapsed()
      try {
        return rowsOf(await pool.query(text, values)) as never[]
      } catch (error) {
        since.failed += 1
        throw error
      } finally {
        since.queries += 1
        since.querySeconds += (systemClock.elapsed() - begun) / 1000
      }
    },
    describe: select => pool.query(described(select)).then(columnsOf),
    orm: async () => (await import('drizzle-orm/node-postgres')).drizzle({ client: pool }),
    async transact(work, { timeoutMs = config.queryTimeoutMs } = {}) {
      const client = await pool.connect()
      let broken: Error | undefined
      // A socket that dies between two statements, or under a COPY, is told to nobody else; unheard, it would end the process.
      const hear = (error: Error) => {
        broken = error
      }
      client.on('error', hear)
      try {
        await client.query(`begin; set local idle_in_transaction_session_timeout = ${IDLE_IN_TRANSACTION_MS}`)
        // pg heeds a timeout of the single statement, which its types don't know. Values, be they none, mean one statement: the server
        // refuses a text that holds two.
        const query: Query = (text, values) =>
          client
            .query({ text, values, query_timeout: timeoutMs, ...(values === undefined ? {} : { queryMode: 'extended' }) } as pg.QueryConfig)
            .then(rowsOf) as Promise<never[]>
        const result = await work(query, (statement, data) => copyIn(client, statement, data))
        await client.query('commit')
        return result
      } catch (error) {
        await client.query('rollback').catch((rollbackError: Error) => {
          broken = rollbackError
        })
        throw error
      } finally {
        client.off('error', hear)
        client.release(broken)
      }
    },
    counts: () => ({ total: pool.totalCount, idle: pool.idleCount, waiting: pool.waitingCount, ...since }),
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
    copyIn: (statement, data) => copyIn(client, statement, data),
    lost,
    onNotify: handler => client.on('notification', message => handler(message.channel, message.payload ?? '')),
    close: () => client.end().catch(() => {}),
    abort: () => socketOf(client)?.destroy(),
  }
}

/** A database that is only read from: a source of rows, in one transaction with one view of it, REPEATABLE READ and READ ONLY. */
export type Reader = {
  query: Query
  describe: Describe
  /** The text of `copy … to stdout`, in pieces that end anywhere. */
  copyOut(statement: string): AsyncIterable<Uint8Array>
  close(): Promise<void>
}

/**
 * Connects to `url` for reading. With `snapshot` (of `pg_export_snapshot`), it sees exactly what the exporting reader sees. `beforeSnapshot`
 * is asked to the end before the transaction begins; the connection and each of its queries must answer within `answerMs`.
 */
export async function openReader(
  config: Config,
  url: string | undefined,
  name: string,
  snapshot?: string,
  options?: { answerMs: number; beforeSnapshot: (query: Query) => Promise<void> },
): Promise<Reader> {
  if (url === undefined) throw noDatabase()
  const { answerMs, beforeSnapshot } = options ?? {}
  const client = new pg.Client({ ...connectionOptions(url, config, name), ...(answerMs === undefined ? {} : { connectionTimeoutMillis: answerMs }) })
  // A reader that dies between two statements is noticed by the next one.
  client.on('error', () => {})
  try {
    await client.connect()
    await beforeSnapshot?.((text, values) => client.query({ text, values, query_timeout: answerMs } as pg.QueryConfig).then(rowsOf) as Promise<never[]>)
    await client.query('begin transaction isolation level repeatable read, read only')
    if (snapshot !== undefined) await client.query(`set transaction snapshot '${snapshot.replaceAll("'", '')}'`)
  } catch (error) {
    // The exporting transaction may be over by now; the connection must not outlive its purpose.
    await client.end().catch(() => {})
    throw error
  }
  return {
    describe: select => client.query(described(select)).then(columnsOf),
    query: (text, values) => client.query(text, values).then(rowsOf) as Promise<never[]>,
    copyOut: statement => client.query(copyTo(statement)),
    close: () => client.end().catch(() => {}),
  }
}

/** The extended protocol takes one statement only: a text that holds two is refused, not run. */
function described(select: string): pg.QueryConfig {
  return { text: `select * from (${select}\n) described limit 0`, queryMode: 'extended' } as pg.QueryConfig
}

function columnsOf({ fields }: pg.QueryResult) {
  return fields.map(field => ({ name: field.name, type: field.dataTypeID, modifier: field.dataTypeModifier }))
}

async function copyIn(client: pg.ClientBase, statement: string, data: readonly Uint8Array[] | AsyncIterable<Uint8Array>): Promise<number> {
  const stream = client.query(copyFrom(statement))
  await pipeline(data, stream)
  return stream.rowCount
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
