import { randomBytes } from 'node:crypto'
import type { Config } from '../../../src/config.ts'
import { connectDirect, type DirectConnection, type Query } from '../../../src/database.ts'
import { classify, codeOf, messageOf, PawlError } from '../../../src/errors.ts'
import { databaseUrl } from '../../../src/libpq.ts'
import { literal, quoted } from '../../../src/names.ts'
import { refuseSharedSession } from '../../../src/pooler.ts'
import { backoffMs } from '../../../src/retry.ts'
import type { BackupContext } from './context.ts'
import { heldLocks } from './lock.ts'
import type { Manifest } from './manifest.ts'
import { LOCK_CLASS } from './names.ts'

const PREFIX = 'pawl_scratch_'
/** Nothing else may be dropped by its name alone. */
const SCRATCH_NAME = `^${PREFIX}[0-9a-f]{16}$`
const CONNECTION_NAME = 'pawl scratch'

/** Whether a database of this name is taken for one that was left behind, and dropped. */
export function isScratchName(name: string): boolean {
  return new RegExp(SCRATCH_NAME).test(name)
}

/** A database of our own that nobody else can find, made for one restore. */
export type Scratch = {
  name: string
  url: string
  server: { version: string; major: number }
  /** On its server, from another database: what renames and grants. */
  query: Query
  /** Aborted with the caller's, and when the connection that guards the database is lost. */
  signal: AbortSignal
}

/**
 * Makes an empty database on the server of `url`, lets `use` have it, and drops it, whatever happens; one that `use` renamed stays.
 * For as long it holds the session lock of its name: a `pawl_scratch_…` whose lock is free was left by somebody who died.
 */
export async function withScratch<Result>(
  context: BackupContext,
  url: string | undefined,
  locale: Manifest['locale'],
  use: (scratch: Scratch) => Promise<Result>,
): Promise<Result> {
  const connection = await connectMaintenance(context.config, url)
  const name = `${PREFIX}${randomBytes(8).toString('hex')}`
  const lost = new AbortController()
  void connection.lost.then(cause => lost.abort(guardLost(name, cause)))
  try {
    context.signal.throwIfAborted()
    const server = await readServer(connection.query)
    // Before the database: whoever sees it, and no lock, may drop it.
    await connection.query(`select pg_advisory_lock(${LOCK_CLASS}, hashtext($1))`, [name])
    try {
      await create(context, connection.query, name, locale)
      const signal = AbortSignal.any([context.signal, lost.signal])
      return await use({ name, url: databaseUrl(url ?? '', name), server, query: connection.query, signal })
    } finally {
      await drop(context, url, connection, name)
    }
  } finally {
    await connection.close()
  }
}

/** Drops what processes that died have left on the servers this configuration knows; the names of what it dropped. Throws only when aborted. */
export async function dropAbandonedScratch(context: BackupContext): Promise<string[]> {
  const { directUrl, scratchUrl } = context.config
  const dropped: string[] = []
  for (const url of new Set([directUrl, scratchUrl])) {
    if (url === undefined) continue
    context.signal.throwIfAborted()
    // A server that is down for the moment must not keep a backup from being taken.
    const found = await dropAbandonedOn(context, url).catch((error: unknown) => {
      context.log.warn({ reason: messageOf(error) }, 'abandoned scratch databases could not be looked for')
      return []
    })
    dropped.push(...found)
  }
  return dropped
}

async function dropAbandonedOn(context: BackupContext, url: string): Promise<string[]> {
  const dropped: string[] = []
  const connection = await connectMaintenance(context.config, url)
  try {
    for (const name of await abandoned(connection.query)) {
      try {
        await connection.query(dropping(name))
        dropped.push(name)
        context.log.info({ database: name }, 'abandoned scratch database dropped')
      } catch (error) {
        context.log.warn({ database: name, reason: messageOf(error) }, 'an abandoned scratch database could not be dropped')
      }
    }
    return dropped
  } finally {
    await connection.close()
  }
}

/** The databases first, the locks after them: a lock is taken before its database is made. */
async function abandoned(query: Query): Promise<string[]> {
  const found = await query<{ name: string }>(`select datname as name from pg_database where datname ~ '${SCRATCH_NAME}' order by datname`)
  const names = found.map(row => row.name)
  const held = await heldLocks(query, names)
  return names.filter(name => !held.has(name))
}

/** A database can't be dropped or renamed from within: so from `postgres`, or from the one named, on servers without. */
export async function connectMaintenance(config: Config, url: string | undefined): Promise<DirectConnection> {
  const at = (place: string | undefined) => connectDirect({ ...config, directUrl: place }, CONNECTION_NAME)
  const open = () => (url === undefined ? at(url) : at(databaseUrl(url, 'postgres')).catch(() => at(url)))
  const connection = await open()
  try {
    await refuseSharedSession(connection, open)
    await connection.query('set statement_timeout = 0; set lock_timeout = 0; set search_path = pg_catalog')
    // A restore may take hours, in which this connection has nothing to say. Not known before PostgreSQL 14.
    await connection.query('set idle_session_timeout = 0').catch(() => {})
    return connection
  } catch (error) {
    await connection.close()
    throw error
  }
}

/** What is asked of a server before it gets anything to do. */
export async function readServer(query: Query): Promise<Scratch['server']> {
  const [row] = await query<{ version: string; number: number }>(
    `select current_setting('server_version') as version, current_setting('server_version_num')::integer as number`,
  )
  return { version: row?.version ?? 'unknown', major: Math.floor((row?.number ?? 0) / 10_000) }
}

async function create(context: BackupContext, query: Query, name: string, locale: Manifest['locale']): Promise<void> {
  try {
    await query(`create database ${name} template template0${localeOf(locale)}`)
  } catch (error) {
    // wrong_object_type and feature_not_supported: another system or another build doesn't know the locale.
    const isUnknown = locale !== undefined && ['42809', '0A000', '22023'].includes(codeOf(error) ?? '')
    if (!isUnknown) throw refusal(error)
    context.log.warn({ reason: messageOf(error), collate: locale.collate }, 'the server does not know the locale of the backup and its own is taken')
    // Not its own encoding as well: hashes are of bytes.
    await query(`create database ${name} template template0 encoding ${literal(locale.encoding)}`).catch((again: unknown) => {
      throw refusal(again)
    })
  }
  // Functions that run with their owner's rights stand in it for a while without the grants that fence them.
  await query(`revoke connect, temporary on database ${name} from public`)
}

function localeOf(locale: Manifest['locale']): string {
  if (locale === undefined) return ''
  const { encoding, collate, ctype, icu } = locale
  const provider = icu === null ? '' : ` locale_provider icu icu_locale ${literal(icu)}`
  return ` encoding ${literal(encoding)} lc_collate ${literal(collate)} lc_ctype ${literal(ctype)}${provider}`
}

function refusal(error: unknown): unknown {
  if (codeOf(error) !== '42501') return error
  return new PawlError('scratch.denied', `no database could be made to restore into: ${messageOf(error)}`, {
    hint: 'let an administrator run: alter role … createdb; or name a server where it is allowed in PAWL_SCRATCH_URL',
    cause: error,
  })
}

function dropping(name: string): string {
  return `drop database if exists ${quoted(name)} with (force)`
}

/**
 * Never throws: the reason why it came to this matters more, and who comes next drops what is left. A server whose disk the copy has filled
 * may be restarting at this moment; it is waited for, a shorter time by who was told to stop.
 */
async function drop(context: BackupContext, url: string | undefined, connection: DirectConnection, name: string): Promise<void> {
  const triesMax = context.signal.aborted ? 2 : 10
  for (let tries = 1; ; tries += 1) {
    try {
      await (tries === 1 ? connection.query(dropping(name)) : dropAnew(context, url, name))
      return
    } catch (error) {
      if (tries < triesMax && (tries === 1 || classify(error) === 'transient')) {
        if (tries > 1) await context.clock.sleep(backoffMs(tries, 500, 4_000))
        continue
      }
      context.log.warn({ database: name, reason: messageOf(error) }, 'a scratch database could not be dropped yet')
      return
    }
  }
}

async function dropAnew(context: BackupContext, url: string | undefined, name: string): Promise<void> {
  const connection = await connectMaintenance(context.config, url)
  try {
    await connection.query(dropping(name))
  } finally {
    await connection.close()
  }
}

function guardLost(name: string, cause: Error): PawlError {
  return new PawlError('scratch.lost', `the connection that guards ${name} is gone: ${cause.message}`, { retryable: true, cause })
}
