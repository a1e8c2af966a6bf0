import { codeOf, classify, messageOf, PawlError } from '../../../src/errors.ts'
import type { Store } from '../../../src/store.ts'
import { requireSame } from './compare.ts'
import type { BackupContext } from './context.ts'
import type { Stored, Verification } from './manifest.ts'
import { keysOf } from './names.ts'
import { checkManifest, pour } from './pour.ts'
import { withScratch } from './scratch.ts'

/** What says something about the backup. Anything else says that nothing is known about it. */
const VERDICTS = new Set(['backup.damaged', 'backup.broken', 'backup.different', 'backup.unrestorable', 'seal.damaged', 'seal.key', 'store.file_missing'])

/**
 * Restores what really lies in the store into a scratch database, compares every table with the manifest, drops the copy, whatever happens,
 * and leaves `NAME.verified.json` beside a backup that was equal. Throws `backup.different`, `backup.damaged`, `backup.broken`,
 * `backup.unrestorable`, `seal.damaged`, `seal.key` or `store.file_missing` for one that is no good; `backup.unverifiable` where that
 * could not be found out.
 */
export async function verifyBackup(context: BackupContext, store: Store, stored: Stored, identities: readonly string[]): Promise<Verification> {
  const { config, clock, log } = context
  const { manifest } = stored
  const begun = clock.elapsed()
  try {
    await checkManifest(store, stored)
    const server = await withScratch(context, config.scratchUrl ?? config.directUrl, manifest.locale, async scratch => {
      await pour(context, store, stored, scratch, { identities, owners: false, purpose: 'verify' })
      await requireSame(context, manifest, scratch)
      return scratch.server.version
    })
    context.signal.throwIfAborted()
    // Hours may have passed, and what is bound to this manifest must lie beside it.
    await checkManifest(store, stored)
    const verification: Verification = {
      format: 1,
      name: manifest.name,
      manifestSha256: stored.manifestSha256,
      verifiedAt: new Date(clock.now()).toISOString(),
      seconds: Math.round(clock.elapsed() - begun) / 1000,
      server,
    }
    await leave(store, stored, verification)
    log.info({ backup: manifest.name, tables: manifest.tables.length, duration_ms: Math.round(clock.elapsed() - begun) }, 'backup verified')
    return verification
  } catch (error) {
    context.signal.throwIfAborted()
    throw VERDICTS.has(codeOf(error) ?? '') ? error : unverifiable(manifest.name, error)
  }
}

async function leave(store: Store, { manifest }: Stored, verification: Verification): Promise<void> {
  const draft = await store.create(keysOf(manifest.name, manifest.sealed).verification, { contentType: 'application/json' })
  try {
    await draft.write(Buffer.from(`${JSON.stringify(verification, undefined, 2)}\n`))
    await draft.publish()
  } finally {
    await draft.close()
  }
}

function unverifiable(name: string, cause: unknown): PawlError {
  const hint = cause instanceof PawlError ? cause.hint : undefined
  return new PawlError('backup.unverifiable', `${name} could not be verified: ${messageOf(cause)}`, {
    retryable: classify(cause) === 'transient',
    hint: `nothing is known about the backup; ${hint ?? 'mend what is named, and verify it again'}`,
    cause,
  })
}
