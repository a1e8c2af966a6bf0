import { z } from 'zod'

/** Why a backup was taken. */
export const kinds = ['daily', 'weekly', 'manual', 'pre_migration'] as const
export type Kind = (typeof kinds)[number]

/** What is in it (document 001): everything, the structure alone, or the tables named. Only a full one can stand for the database. */
export const scopes = ['full', 'schema', 'tables'] as const
export type Scope = (typeof scopes)[number]

const file = z.object({ key: z.string(), bytes: z.number().int().nonnegative(), sha256: z.string().regex(/^[0-9a-f]{64}$/) })

/**
 * What a backup is, beside its files in the store under `NAME.manifest.json`: written last, so that what has no manifest is no backup.
 * Counts and hashes of its tables were read in the very snapshot that was dumped. Nothing in it is secret but the names of tables.
 */
export const manifestSchema = z.object({
  format: z.literal(1),
  /** `DATABASE-CLUSTER-20261121T020000Z-daily-TOKEN`: what its files' keys begin with. */
  name: z.string(),
  kind: z.enum(kinds),
  scope: z.enum(scopes),
  database: z.string(),
  /** The cluster's system identifier: a database of the same name elsewhere is another one. */
  cluster: z.string(),
  server: z.object({ version: z.string(), major: z.number().int() }),
  pawl: z.string(),
  /** When its snapshot was taken, by the server's clock. */
  takenAt: z.iso.datetime(),
  /** The place in the WAL from which a recovery to a later moment would start. */
  lsn: z.string(),
  /** `roles` holds pg_dumpall --globals-only without passwords; left out where the role may not read them. */
  files: z.object({ dump: file, roles: file.optional() }),
  sealed: z.object({ compression: z.enum(['zstd', 'gzip', 'none']), recipients: z.array(z.string()) }),
  /** Every table that has rows of its own, partitions by themselves. `hash` does not depend on their order; null: the structure alone was taken. */
  tables: z.array(z.object({ schema: z.string(), name: z.string(), rows: z.number().int().nonnegative(), hash: z.string().nullable() })),
  /** Sequences are outside of snapshots: a restored one stands here or further. */
  sequences: z.array(z.object({ schema: z.string(), name: z.string(), value: z.string().nullable() })),
  /** Owners, and those who were granted something: what a restore with owners needs on its server. */
  roles: z.array(z.string()),
  /** How the database compares text; `icu`: its locale where ICU provides it. Left out: the server's own. */
  locale: z.object({ encoding: z.string(), collate: z.string(), ctype: z.string(), icu: z.string().nullable() }).optional(),
  /** How many there are in each schema, of a full backup: a restore that leaves an index out has all rows all the same. */
  objects: z
    .array(z.object({ schema: z.string(), constraints: z.number(), indexes: z.number(), routines: z.number(), triggers: z.number(), views: z.number() }))
    .optional(),
})
export type Manifest = z.infer<typeof manifestSchema>

/** Left beside the manifest by a real restore whose counts and hashes were equal. `manifestSha256` binds it to that manifest. */
export const verificationSchema = z.object({
  format: z.literal(1),
  name: z.string(),
  manifestSha256: z.string(),
  verifiedAt: z.iso.datetime(),
  seconds: z.number(),
  server: z.string(),
})
export type Verification = z.infer<typeof verificationSchema>

/** A backup as the store has it. */
export type Stored = { manifest: Manifest; manifestSha256: string; verification: Verification | undefined }
