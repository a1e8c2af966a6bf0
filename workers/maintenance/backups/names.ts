import { randomBytes } from 'node:crypto'
import { type Sealing, sealExtension } from '../../../src/seal.ts'
import type { Kind } from './manifest.ts'

/** The class of the session lock that whoever works on a backup holds: `pg_advisory_lock(LOCK_CLASS, hashtext(NAME))`. "pawm" in ASCII, of Pawl's maintenance. */
export const LOCK_CLASS = 1885435757

const NAME = String.raw`[A-Za-z0-9_]+-[A-Za-z0-9]+-\d{8}T\d{6}Z-[a-z_]+-[0-9a-f]{8}`
const KEY = new RegExp(`^(${NAME})\\.(?:(?:dump|roles)(?:\\.zst|\\.gz)?(?:\\.age)?|manifest\\.json|verified\\.json)$`)

/** A name that no other backup has, and that sorts by database, cluster and time. */
export function backupName({ database, cluster, takenAt, kind }: { database: string; cluster: string; takenAt: Date; kind: Kind }): string {
  const stamp = `${takenAt.toISOString().replace(/[-:]/g, '').slice(0, 15)}Z`
  return `${prefixOf({ database, cluster })}${stamp}-${kind}-${randomBytes(4).toString('hex')}`
}

/** What a key may hold; the manifest has the name of the database as it is. */
function prefixOf({ database, cluster }: { database: string; cluster: string }): string {
  return `${database.replace(/[^A-Za-z0-9_]/g, '_').slice(0, 63)}-${cluster}-`
}

/** Whether a backup of this name may be one of this database: what there is to go by where there is no manifest. */
export function mayBeOf(name: string, origin: { database: string; cluster: string }): boolean {
  return name.startsWith(prefixOf(origin))
}

/** The keys of a backup's files in the store. */
export function keysOf(name: string, sealing: Sealing): { dump: string; roles: string; manifest: string; verification: string } {
  const extension = sealExtension(sealing)
  return {
    dump: `${name}.dump${extension}`,
    roles: `${name}.roles${extension}`,
    manifest: `${name}.manifest.json`,
    verification: `${name}.verified.json`,
  }
}

/** The backup that a file belongs to; undefined for what is no file of a backup. */
export function nameOf(key: string): string | undefined {
  return KEY.exec(key)?.[1]
}
