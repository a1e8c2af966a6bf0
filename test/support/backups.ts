import { createHash } from 'node:crypto'
import { systemClock } from '../../src/clock.ts'
import type { Config } from '../../src/config.ts'
import type { Store } from '../../src/store.ts'
import type { BackupContext } from '../../workers/maintenance/backups/context.ts'
import type { Manifest, Verification } from '../../workers/maintenance/backups/manifest.ts'
import { backupName, keysOf } from '../../workers/maintenance/backups/names.ts'
import { silent } from './postgres.ts'

/** What a backup by hand says of itself; the rest is made up. */
export type ByHand = Partial<Pick<Manifest, 'kind' | 'scope' | 'database' | 'cluster' | 'takenAt'>>

/** A manifest that nothing stands behind: its dump is `dumpOf(name)`. */
export function manifestOf({
  kind = 'daily',
  scope = 'full',
  database = 'shop',
  cluster = '7300000000000000001',
  takenAt = '2026-11-20T02:00:00.000Z',
}: ByHand = {}): Manifest {
  const name = backupName({ database, cluster, takenAt: new Date(takenAt), kind })
  const sealed = { compression: 'zstd' as const, recipients: [] }
  const dump = dumpOf(name)
  return {
    format: 1,
    name,
    kind,
    scope,
    database,
    cluster,
    server: { version: '18.4', major: 18 },
    pawl: '0.1.0',
    takenAt,
    lsn: '0/1A2B3C8',
    files: { dump: { key: keysOf(name, sealed).dump, bytes: dump.length, sha256: sha256(dump) } },
    sealed,
    tables: [{ schema: 'public', name: 'campaigns', rows: 3, hash: '12345' }],
    sequences: [],
    roles: [],
  }
}

export const dumpOf = (name: string) => Buffer.from(`the dump of ${name}`)
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

/** Writes one file. */
export async function putFile(store: Store, key: string, content: Uint8Array | string): Promise<void> {
  const draft = await store.create(key, { contentType: 'application/octet-stream' })
  await draft.write(Buffer.from(content))
  await draft.publish()
}

/** Dump, manifest, and a verification of it unless `verified` says no. The name. */
export async function putBackup(store: Store, { verified = true, ...given }: ByHand & { verified?: boolean } = {}): Promise<string> {
  const manifest = manifestOf(given)
  await putFile(store, manifest.files.dump.key, dumpOf(manifest.name))
  await putManifest(store, manifest, verified)
  return manifest.name
}

/** The manifest and its verification alone. */
export async function putManifest(store: Store, manifest: Manifest, verified = false): Promise<void> {
  const text = `${JSON.stringify(manifest, undefined, 2)}\n`
  await putFile(store, `${manifest.name}.manifest.json`, text)
  if (verified) await putVerification(store, manifest.name, sha256(Buffer.from(text)))
}

export async function putVerification(store: Store, name: string, manifestSha256: string): Promise<void> {
  const verification: Verification = { format: 1, name, manifestSha256, verifiedAt: '2026-11-20T02:01:00.000Z', seconds: 1.5, server: '18.4' }
  await putFile(store, `${name}.verified.json`, JSON.stringify(verification))
}

/** Keys of the store with what there is of drafts, `+` before those. */
export async function keysIn(store: Store): Promise<string[]> {
  const keys: string[] = []
  for await (const { key, isDraft } of store.list()) keys.push(isDraft ? `+${key}` : key)
  return keys.sort()
}

/** A backup's context that says nothing to nobody. */
export function contextFor(config: Config, changes: Partial<BackupContext> = {}): BackupContext {
  return { config, log: silent, clock: systemClock, signal: new AbortController().signal, told: () => {}, ...changes }
}
