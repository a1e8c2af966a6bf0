import { createHash } from 'node:crypto'
import type { z } from 'zod'
import { codeOf, messageOf, PawlError } from '../../../src/errors.ts'
import type { Entry, Store } from '../../../src/store.ts'
import { manifestSchema, type Stored, verificationSchema } from './manifest.ts'
import { nameOf } from './names.ts'

/** Nothing of ours is larger: a manifest of ten thousand tables has 2 MB. */
const DOCUMENT_BYTES_MAX = 64 * 1024 * 1024

/** Files that belong to no backup: one under way, or what one left that died. `newestAt`: when the youngest of them was last written to. */
export type Loose = { name: string; keys: string[]; newestAt: Date }

/** What a place holds: backups, newest first; what calls itself one and can't be; and what has no manifest. */
export type Catalog = { backups: Stored[]; broken: { name: string; reason: string }[]; loose: Loose[] }

/** Reads every manifest of the store. A broken one is told, and stands in nobody's way. */
export async function listBackups(store: Store): Promise<Catalog> {
  const catalog: Catalog = { backups: [], broken: [], loose: [] }
  for (const [name, entries] of await entriesByName(store)) {
    const files = new Map(entries.filter(entry => !entry.isDraft).map(entry => [entry.key, entry]))
    const manifest = files.get(manifestKey(name))
    const left = manifest === undefined ? entries : entries.filter(({ key, isDraft }) => isDraft && !files.has(key))
    if (left.length > 0) catalog.loose.push(looseOf(name, left))
    if (manifest === undefined) continue
    try {
      catalog.backups.push(await readStored(store, name, files))
    } catch (error) {
      // Removed since it was listed, and a manifest goes first.
      if (codeOf(error) === 'store.file_missing') continue
      if (!(error instanceof PawlError) || error.code !== 'backup.broken') throw error
      catalog.broken.push({ name, reason: error.message })
    }
  }
  catalog.backups.sort(
    (one, other) => Date.parse(other.manifest.takenAt) - Date.parse(one.manifest.takenAt) || (one.manifest.name < other.manifest.name ? -1 : 1),
  )
  return catalog
}

/**
 * The backup that `word` means: `latest`, the newest verified full one; `newest`, the newest full one, verified or not; a name, or a part
 * of one that no other has. `of` chooses among the databases of a store that holds several. Throws `backup.unknown` or `backup.broken`.
 */
export async function findBackup(store: Store, word: string, of?: { database: string; cluster?: string }): Promise<Stored> {
  const { backups, broken } = await listBackups(store)
  if (word === 'latest' || word === 'newest') return newestOf(backups, word, of)
  const exact = backups.find(({ manifest }) => manifest.name === word)
  const alike = exact === undefined ? backups.filter(({ manifest }) => manifest.name.includes(word)) : [exact]
  const damaged = broken.find(({ name }) => name === word || (alike.length === 0 && name.includes(word)))
  if (damaged !== undefined) throw brokenBackup(damaged.name, damaged.reason)
  const [found, second] = alike
  if (found === undefined) throw unknown(`there is no backup ${word}`)
  if (second !== undefined) throw unknown(`"${word}" is in the names of ${alike.length} backups`)
  return found
}

function newestOf(backups: readonly Stored[], word: string, of: { database: string; cluster?: string } | undefined): Stored {
  const whole = backups.filter(({ manifest, verification }) => manifest.scope === 'full' && (word === 'newest' || verification !== undefined))
  const own = of === undefined ? [] : whole.filter(({ manifest }) => manifest.database === of.database && (of.cluster ?? manifest.cluster) === manifest.cluster)
  const chosen = own.length > 0 ? own : whole
  const [newest] = chosen
  if (newest === undefined) throw unknown(word === 'latest' ? 'no full backup is verified' : 'there is no full backup')
  const sources = new Set(chosen.map(({ manifest }) => `${manifest.database} of cluster ${manifest.cluster}`))
  if (sources.size === 1) return newest
  throw unknown(`"${word}" could be a backup of ${[...sources].sort().join(', or ')}`)
}

/** Removes all files of a backup, its manifest first: whatever comes between, what is left is no backup, and the next cleanup takes it. */
export async function removeBackup(store: Store, name: string): Promise<void> {
  const keys = new Set<string>()
  for await (const { key } of store.list()) if (nameOf(key) === name) keys.add(key)
  if (keys.delete(manifestKey(name))) await store.remove(manifestKey(name))
  for (const key of keys) await store.remove(key)
}

/** Only a `backup.broken` of this is the backup's own fault; a store that can't be reached is not. */
async function readStored(store: Store, name: string, files: ReadonlyMap<string, Entry>): Promise<Stored> {
  const bytes = await readDocument(store, files, manifestKey(name))
  const manifest = parsed(manifestSchema, bytes, name)
  if (manifest.name !== name) throw brokenBackup(name, `its manifest is that of ${manifest.name}`)
  for (const file of [manifest.files.dump, manifest.files.roles]) {
    if (file === undefined) continue
    // Another backup's file under this name would be verified, and then restored, in its place.
    if (nameOf(file.key) !== name) throw brokenBackup(name, `its manifest names a file of another backup, ${file.key}`)
    const found = files.get(file.key)
    if (found === undefined) throw brokenBackup(name, `${file.key} is missing`)
    if (found.bytes !== file.bytes) throw brokenBackup(name, `${file.key} has ${found.bytes} bytes, and its manifest says ${file.bytes}`)
  }
  const manifestSha256 = createHash('sha256').update(bytes).digest('hex')
  return { manifest, manifestSha256, verification: await readVerification(store, name, manifestSha256, files) }
}

/** What is not of this manifest, or can't be read, says nothing: the backup is as if it had never been verified. */
async function readVerification(store: Store, name: string, manifestSha256: string, files: ReadonlyMap<string, Entry>): Promise<Stored['verification']> {
  const key = `${name}.verified.json`
  if (!files.has(key)) return undefined
  try {
    const verification = parsed(verificationSchema, await readDocument(store, files, key), name)
    return verification.name === name && verification.manifestSha256 === manifestSha256 ? verification : undefined
  } catch (error) {
    if (codeOf(error) === 'backup.broken' || codeOf(error) === 'store.file_missing') return undefined
    throw error
  }
}

async function readDocument(store: Store, files: ReadonlyMap<string, Entry>, key: string): Promise<Buffer> {
  if ((files.get(key)?.bytes ?? 0) > DOCUMENT_BYTES_MAX) throw brokenBackup(key, `${key} is too large to be what its name says`)
  const pieces: Uint8Array[] = []
  for await (const piece of store.read(key)) pieces.push(piece)
  return Buffer.concat(pieces)
}

function parsed<Document>(schema: z.ZodType<Document>, bytes: Buffer, name: string): Document {
  try {
    const result = schema.safeParse(JSON.parse(bytes.toString()))
    if (result.success) return result.data
    const [issue] = result.error.issues
    throw brokenBackup(name, `its manifest is not one: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`)
  } catch (error) {
    throw error instanceof PawlError ? error : brokenBackup(name, `its manifest is not one: ${messageOf(error)}`)
  }
}

async function entriesByName(store: Store): Promise<Map<string, Entry[]>> {
  const found = new Map<string, Entry[]>()
  for await (const entry of store.list()) {
    const name = nameOf(entry.key)
    if (name === undefined) continue
    const others = found.get(name)
    if (others === undefined) found.set(name, [entry])
    else others.push(entry)
  }
  return found
}

function looseOf(name: string, entries: readonly Entry[]): Loose {
  const newestMs = Math.max(...entries.map(({ modifiedAt }) => modifiedAt.getTime()))
  return { name, keys: [...new Set(entries.map(({ key }) => key))].sort(), newestAt: new Date(newestMs) }
}

const manifestKey = (name: string) => `${name}.manifest.json`

function brokenBackup(name: string, reason: string): PawlError {
  return new PawlError('backup.broken', reason, { hint: `${name} can't be restored: choose another, see pawl backups` })
}

function unknown(message: string): PawlError {
  return new PawlError('backup.unknown', message, { hint: 'pawl backups lists them; name one, or a part of its name that no other has' })
}
