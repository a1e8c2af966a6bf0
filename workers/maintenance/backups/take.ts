import { codeOf, messageOf, PawlError } from '../../../src/errors.ts'
import { newIdentity, type Sealing, seal } from '../../../src/seal.ts'
import { openStore } from '../../../src/store.ts'
import { findTools, startTool, type Tools } from '../../../src/tools.ts'
import { version as pawlVersion } from '../../../src/version.ts'
import type { BackupContext } from './context.ts'
import { begin } from './begin.ts'
import { aloneWith } from './lock.ts'
import { type Kind, type Manifest, manifestSchema, type Scope, type Stored } from './manifest.ts'
import { backupName, keysOf } from './names.ts'
import { type Putting, put, takeBack } from './put.ts'
import { readTables } from './snapshot.ts'
import { type Held, openSource, type Source } from './source.ts'
import { connectionLost, takeTrouble, tooLong } from './trouble.ts'

export type Wanted = { kind: Kind; scope: Scope; tables?: readonly string[] }
/** `identities`: private keys that open it, besides those of the recipients. To be used for its verification, and forgotten. */
export type Taken = { stored: Stored; identities: string[] }

type File = Manifest['files']['dump']
type Work = BackupContext & Putting & { source: Source; tools: Tools; name: string; wanted: Wanted }

const BINARY = 'application/octet-stream'

/**
 * Takes a backup of the database of `config.directUrl` into the store. One that fails leaves nothing there; what could not be taken back is
 * said in the log, and goes with the next look for abandoned files.
 */
export async function takeBackup(context: BackupContext, wanted: Wanted): Promise<Taken> {
  const { config, signal } = context
  if (config.backup.place === undefined) {
    throw new PawlError('backup.place_unset', 'no place for backups is named', { hint: 'set BACKUP_DIR or BACKUP_S3_BUCKET' })
  }
  const store = openStore(config.backup.place, { config })
  signal.throwIfAborted()
  const source = await openSource(config).catch((error: unknown) => {
    throw takeTrouble(error)
  })
  try {
    const tools = await findTools(config.pgBin, source.server.major)
    const name = backupName({ ...source.origin, takenAt: source.now, kind: wanted.kind })
    let taken: Taken | undefined
    await aloneWith(source.connection.query, name, async () => {
      taken = await watched({ ...context, store, begun: [], source, tools, name, wanted })
    })
    // Its name has eight random digits.
    if (taken === undefined) throw new PawlError('backup.busy', `someone else is at work on ${name}`, { retryable: true })
    return taken
  } catch (error) {
    signal.throwIfAborted()
    throw takeTrouble(error)
  } finally {
    await source.connection.close()
  }
}

/** Breaks off at the first failure of any part, when the source's connection is lost, when it takes too long, and when it is told to. */
async function watched(work: Work): Promise<Taken> {
  const { config, clock, log, source, name } = work
  const begunMs = clock.elapsed()
  const stop = new AbortController()
  const signal = AbortSignal.any([work.signal, stop.signal])
  // Lock and snapshot are gone with it, whatever pg_dump may still be reading.
  void source.connection.lost.then(error => stop.abort(connectionLost(error)))
  void clock.sleep(config.backup.dumpMs, signal).then(() => stop.abort(tooLong(config.backup.dumpMs)))
  // A query that reads a large table hears of nothing else.
  const cut = () => source.connection.abort()
  signal.addEventListener('abort', cut, { once: true })
  try {
    const taken = await takeAll({ ...work, signal }, stop)
    const { tables, files } = taken.stored.manifest
    log.info({ backup: name, tables: tables.length, bytes: files.dump.bytes, duration_ms: Math.round(clock.elapsed() - begunMs) }, 'backup taken')
    return taken
  } catch (error) {
    // What broke the others off, where it was one of them.
    stop.abort(error)
    await takeBack(work)
    throw signal.reason
  } finally {
    signal.removeEventListener('abort', cut)
    stop.abort()
  }
}

async function takeAll(work: Work, stop: AbortController): Promise<Taken> {
  const { config, source, wanted, name } = work
  const { compression, recipients } = config.backup
  const { held, described, dump: dumping } = await begin(work)
  const fresh = recipients.length === 0 ? undefined : await newIdentity(recipients)
  const sealing: Sealing = { compression, recipients: fresh === undefined ? [] : [...recipients, fresh.recipient] }
  const keys = keysOf(name, sealing)
  const [dump, tables] = await together(stop, dumpTo(work, keys.dump, sealing, dumping), readContent(work, held))
  // The snapshot keeps vacuum from its work everywhere; the lock on the name stays.
  await source.connection.query('commit')
  const roles = wanted.scope === 'tables' ? undefined : await rolesTo(work, keys.roles, sealing)
  const manifest = manifestSchema.parse({
    format: 1,
    name,
    kind: wanted.kind,
    scope: wanted.scope,
    ...source.origin,
    server: source.server,
    pawl: pawlVersion,
    takenAt: held.takenAt.toISOString(),
    lsn: source.lsn,
    files: { dump, ...(roles === undefined ? {} : { roles }) },
    // Without the fresh key: nobody has its private half for long.
    sealed: { compression, recipients: [...recipients] },
    tables,
    ...described,
  } satisfies Manifest)
  const text = Buffer.from(`${JSON.stringify(manifest, undefined, 2)}\n`)
  const { sha256 } = await put(work, keys.manifest, whole(text), { contentType: 'application/json' })
  return { stored: { manifest, manifestSha256: sha256, verification: undefined }, identities: fresh === undefined ? [] : [fresh.identity] }
}

async function* whole(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes
}

/** Both, or the first failure, after both have come to their end: nothing writes on when the files are taken back. */
async function together<One, Other>(stop: AbortController, one: Promise<One>, other: Promise<Other>): Promise<[One, Other]> {
  for (const part of [one, other]) part.catch((error: unknown) => stop.abort(error))
  await Promise.allSettled([one, other])
  return [await one, await other]
}

async function dumpTo(work: Work, key: string, sealing: Sealing, dumping: AsyncIterable<Uint8Array>): Promise<File> {
  const { storageClass } = work.config.backup
  const options = { contentType: BINARY, metadata: { 'pawl-backup': work.name }, storageClass }
  return put(work, key, await seal(dumping, sealing), options)
}

/** What the snapshot holds, while pg_dump reads it: the same pages at about the same time, which one of the two finds in memory. */
async function readContent({ source, wanted }: Work, { selection: { tables } }: Held): Promise<Manifest['tables']> {
  if (wanted.scope === 'schema') return tables.map(table => ({ ...table, rows: 0, hash: null }))
  return readTables(source.connection.query, { tables })
}

/** pg_dump writes no roles. They are no part of the snapshot, and not of this database: a restore goes without where they may not be read. */
async function rolesTo(work: Work, key: string, sealing: Sealing): Promise<File | undefined> {
  const { config, tools, signal, source, log, name } = work
  // It would begin in the database `postgres`, which not every server has.
  const asked = ['--globals-only', '--no-role-passwords', `--database=${source.origin.database}`]
  const dumping = startTool(tools, 'pg_dumpall', asked, { url: config.directUrl ?? '', signal })
  try {
    return await put(work, key, await seal(dumping.output, sealing), { contentType: BINARY, metadata: { 'pawl-backup': name } })
  } catch (error) {
    if (codeOf(error) !== 'tools.failed' || !/permission denied|must be superuser/.test(messageOf(error))) throw error
    log.warn({ backup: name, reason: messageOf(error) }, 'roles are not in the backup, as this login may not read them')
    await work.store.remove(key)
    return undefined
  }
}
