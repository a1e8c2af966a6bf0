import { createHash } from 'node:crypto'
import { messageOf, PawlError } from '../../../src/errors.ts'
import { quoted } from '../../../src/names.ts'
import { unseal } from '../../../src/seal.ts'
import type { Store } from '../../../src/store.ts'
import { connectDirect } from '../../../src/database.ts'
import { findTools, startTool, type Tools } from '../../../src/tools.ts'
import type { BackupContext } from './context.ts'
import type { Manifest, Stored } from './manifest.ts'
import { keysOf } from './names.ts'
import { withinRights } from './rights.ts'
import type { Scratch } from './scratch.ts'

const LEFT_OUT = 'event triggers are not restored, as this login may not make any'

export type PourOptions = {
  identities: readonly string[]
  /** With owners and grants; otherwise everything belongs to who restores, and nobody else may use any of it. */
  owners: boolean
  /** To verify, the key is known to be right: where it doesn't fit, the file is read to its end, to see whether it was damaged. */
  purpose: 'verify' | 'restore'
}

type Pouring = { context: BackupContext; store: Store; stored: Stored; scratch: Scratch; options: PourOptions; tools: Tools }

/**
 * Restores the dump into a scratch database, straight from the store into pg_restore. Throws `backup.damaged` where bytes or hash are not
 * those of the manifest, be pg_restore content or not; `backup.unrestorable` where the bytes are right and it is not; `restore.hindered`
 * where that is the server's doing.
 */
export async function pour(context: BackupContext, store: Store, stored: Stored, scratch: Scratch, options: PourOptions): Promise<void> {
  const { manifest } = stored
  const { key } = manifest.files.dump
  if (scratch.server.major < manifest.server.major) throw serverTooOld(manifest, scratch)
  const tools = await findTools(context.config.pgBin, scratch.server.major)
  await prepare(context, scratch, manifest, options)
  const archive = () => unseal(store.read(key), key, options.identities)
  await withinRights(context, tools, archive, scratch, async (args, leftOut) => {
    if (leftOut.length > 0) context.log[options.purpose === 'verify' ? 'info' : 'warn']({ event_triggers: leftOut }, LEFT_OUT)
    await run({ context, store, stored, scratch, options, tools }, args)
  })
  await finish(context, scratch, options)
}

async function run({ context, store, stored, scratch, options, tools }: Pouring, more: string[]): Promise<void> {
  const { manifest } = stored
  const { key } = manifest.files.dump
  const reading = measure(store.read(key))
  try {
    const restoring = startTool(tools, 'pg_restore', [`--dbname=${scratch.name}`, ...restoreArguments(manifest, options), ...more], {
      url: scratch.url,
      signal: scratch.signal,
      input: unseal(reading.bytes, key, options.identities),
      told: counted(context, manifest),
    })
    const [ended] = await Promise.allSettled([restoring.done, exhaust(restoring.output)])
    scratch.signal.throwIfAborted()
    if (ended.status === 'rejected') throw await judged(ended.reason, reading, stored, options)
    // Whatever pg_restore left unread belongs to the file as well.
    refuseDamage(stored, await reading.finish())
  } finally {
    await reading.close()
  }
}

/** Throws `backup.broken` unless the manifest in the store is still the one that was read, and speaks of the files beside it. */
export async function checkManifest(store: Store, { manifest, manifestSha256 }: Stored): Promise<void> {
  const keys = keysOf(manifest.name, manifest.sealed)
  const { sha256 } = await measure(store.read(keys.manifest)).finish()
  if (sha256 !== manifestSha256) {
    throw new PawlError('backup.broken', `${keys.manifest} is not the manifest that was written with ${manifest.name}`, {
      hint: 'it was replaced or edited where it is kept; use another backup',
    })
  }
  const strange = [
    [manifest.files.dump.key, keys.dump],
    [manifest.files.roles?.key ?? keys.roles, keys.roles],
  ].find(([said, expected]) => said !== expected)
  if (strange === undefined) return
  throw new PawlError('backup.broken', `${keys.manifest} speaks of the file ${strange[0]}, and ${strange[1]} is the one beside it`, {
    hint: 'it was edited, or belongs to another backup; use another backup',
  })
}

type Measured = { bytes: number; sha256: string }
type Reading = { bytes: AsyncIterable<Uint8Array>; finish(): Promise<Measured>; close(): Promise<void> }

/** Hashes what passes. A reader that goes away early leaves the rest to `finish`. */
export function measure(source: AsyncIterable<Uint8Array>): Reading {
  const hash = createHash('sha256')
  let bytes = 0
  const iterator = source[Symbol.asyncIterator]()
  const next = async (): Promise<IteratorResult<Uint8Array, undefined>> => {
    const step = await iterator.next()
    if (step.done === true) return { done: true, value: undefined }
    bytes += step.value.length
    hash.update(step.value)
    return step
  }
  return {
    bytes: { [Symbol.asyncIterator]: () => ({ next, return: async () => ({ done: true, value: undefined }) }) },
    async finish() {
      while ((await next()).done !== true);
      return { bytes, sha256: hash.copy().digest('hex') }
    },
    close: async () => void (await iterator.return?.().catch(() => {})),
  }
}

/** What really went wrong: a damaged file makes every tool behind it complain in its own words. */
async function judged(error: unknown, reading: Reading, stored: Stored, options: PourOptions): Promise<unknown> {
  const code = error instanceof PawlError ? error.code : ''
  if (code === 'tools.missing') return error
  // Hours may lie between a wrong key and the end of a large file.
  if (code === 'seal.key' && options.purpose === 'restore') return error
  if (code.startsWith('store.')) return error
  refuseDamage(stored, await reading.finish(), error)
  return code.startsWith('seal.') ? error : unrestorable(stored.manifest, error)
}

function refuseDamage({ manifest }: Stored, found: Measured, cause?: unknown): void {
  const { key, bytes, sha256 } = manifest.files.dump
  if (found.bytes === bytes && found.sha256 === sha256) return
  const difference = found.bytes === bytes ? `its SHA-256 is ${found.sha256}, and not ${sha256}` : `it has ${found.bytes} bytes, and not ${bytes}`
  throw new PawlError('backup.damaged', `${key} is not the file that was written: ${difference}`, {
    hint: 'it was changed or cut short where it is kept; use another backup',
    cause,
  })
}

/** What says nothing of the backup: the server that should hold it could not, or the login may not. */
const SURROUNDINGS =
  /no space left|could not (extend|write|connect|receive|send|fork|resize)|disk full|out of (shared )?memory|server closed|connection (to|not|refused|reset)|terminating connection|too many (clients|connections)|permission denied|must be (superuser|owner|member)|is not available|could not (open|access|load) (extension|file)|(role|tablespace|language|access method) ".*" does not exist|database system is/i

/** A run's error is read by many who may not read the row that PostgreSQL quotes in it. */
export function withoutRows(message: string): string {
  return message
    .replace(/(COPY .+?, line \d+)\b.*$/gm, '$1')
    .replace(/^DETAIL: +Failing row contains [^]*?(?=^[A-Z]+: |(?![^]))/gm, '')
    .replace(/^(DETAIL: +Key \(.*?\))=\([^]*?\) (?=(?:is|already|conflicts)\b)/gm, '$1 ')
    .trimEnd()
}

function unrestorable({ name }: Manifest, cause: unknown): PawlError {
  // The statement that failed may hold any words.
  const message = withoutRows(messageOf(cause).split('\nCommand was:')[0] ?? '')
  const { code, retryable } = cause instanceof PawlError ? cause : { code: '', retryable: true }
  if (code !== 'tools.failed' || retryable || SURROUNDINGS.test(message)) {
    return new PawlError('restore.hindered', `${name} could not be restored on this server: ${message}`, {
      retryable,
      hint: 'the file is intact; give the server what it lacks, or name another in PAWL_SCRATCH_URL (verify) or DATABASE_URL (restore)',
      cause,
    })
  }
  return new PawlError('backup.unrestorable', `${name} is intact, and yet pg_restore refuses it: ${message}`, {
    hint: 'the structure of the source can not be dumped and restored as it is (often a CHECK or a function that depends on other tables): mend it there and take another backup',
    cause,
  })
}

function serverTooOld({ name, server }: Manifest, scratch: Scratch): PawlError {
  return new PawlError('restore.server', `${name} comes from PostgreSQL ${server.version} and can not be restored on ${scratch.server.version}`, {
    hint: `name a server of version ${server.major} or later`,
  })
}

/**
 * Not in a single transaction: it would hold the locks of every object until its end, and run out of them in a database of many partitions.
 * A restore that breaks off is recognised by its name, and dropped.
 */
function restoreArguments(manifest: Manifest, { owners }: PourOptions): string[] {
  return [
    '--exit-on-error',
    '--verbose',
    // Some tables alone: without the others their foreign keys and triggers have nothing to hold on to.
    ...(manifest.scope === 'tables' ? ['--section=pre-data', '--section=data'] : []),
    ...(owners ? [] : ['--no-owner', '--no-privileges', '--no-comments', '--no-security-labels', '--no-publications', '--no-subscriptions']),
  ]
}

async function prepare(context: BackupContext, scratch: Scratch, manifest: Manifest, { owners }: PourOptions): Promise<void> {
  const schemas = manifest.scope === 'tables' ? [...new Set(manifest.tables.map(table => table.schema))] : []
  const statements = [
    ...schemas.map(schema => `create schema if not exists ${quoted(schema)}`),
    // Without their grants, functions that run with their owner's rights would be everybody's.
    ...(owners ? [] : ['alter default privileges revoke execute on functions from public']),
  ]
  await within(context, scratch, statements)
}

async function finish(context: BackupContext, scratch: Scratch, { owners }: PourOptions): Promise<void> {
  await within(context, scratch, owners ? [] : ['alter default privileges grant execute on functions to public'])
}

async function within(context: BackupContext, scratch: Scratch, statements: string[]): Promise<void> {
  if (statements.length === 0) return
  const connection = await connectDirect({ ...context.config, directUrl: scratch.url }, 'pawl scratch')
  try {
    for (const statement of statements) await connection.query(statement)
  } finally {
    await connection.close()
  }
}

/** pg_restore says with each table that its rows come now. */
function counted(context: BackupContext, { tables }: Manifest): (line: string) => void {
  let done = 0
  return line => {
    if (!line.includes('processing data for table')) return
    done += 1
    context.told({ step: 'restore', done: Math.min(done, tables.length), total: tables.length })
  }
}

async function exhaust(output: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const _ of output);
}
