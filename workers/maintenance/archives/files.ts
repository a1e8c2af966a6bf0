import { z } from 'zod'
import { patiently, type RunContext } from '../../../src/batches.ts'
import type { Store } from '../../../src/store.ts'

/** What an archive's file is, beside it in the store under the same name and `.manifest.json`: enough to read it without the database. */
export const manifestSchema = z.object({
  format: z.literal(1),
  /** The CSV, compressed and encrypted as its key says; its first line names the columns. */
  key: z.string(),
  parent: z.string(),
  partition: z.string(),
  from: z.string(),
  to: z.string(),
  columns: z.array(z.object({ name: z.string(), type: z.string() })),
  rows: z.number().int().nonnegative(),
  bytes: z.number().int().nonnegative(),
  /** Of the file as it is stored. */
  sha256: z.string(),
  /** Of the CSV in it. */
  csvSha256: z.string(),
  /** Public keys whose owners can open it. */
  recipients: z.array(z.string()),
  writtenAt: z.string(),
  server: z.string(),
  pawl: z.string(),
})
export type ArchiveManifest = z.infer<typeof manifestSchema>

/** Where the manifest of the file with this key is. */
export function manifestKeyOf(key: string): string {
  return `${key.slice(0, key.indexOf('.'))}.manifest.json`
}

/** Puts the manifest beside its file. */
export async function writeManifest(store: Store, manifest: ArchiveManifest): Promise<void> {
  const draft = await store.create(manifestKeyOf(manifest.key), { contentType: 'application/json' })
  try {
    await draft.write(Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`))
    await draft.publish()
  } finally {
    await draft.close()
  }
}

/** Removes files, drafts and manifests of these keys, and what the database knows of them. */
export async function removeFiles(context: RunContext, store: Store, keys: readonly string[]): Promise<void> {
  if (keys.length === 0) return
  for (const key of keys) {
    await store.remove(manifestKeyOf(key))
    await store.remove(key)
  }
  await patiently(context, () => context.db.query('select pawl.forget_archive_files($1)', [keys]))
}
