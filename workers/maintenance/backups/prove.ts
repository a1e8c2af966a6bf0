import { messageOf } from '../../../src/errors.ts'
import type { Store } from '../../../src/store.ts'
import { removeAbandoned } from './abandoned.ts'
import type { BackupContext } from './context.ts'
import type { Stored, Verification } from './manifest.ts'
import type { Found } from './records.ts'
import { dropAbandonedScratch } from './scratch.ts'
import { takeBackup, type Wanted } from './take.ts'
import { verifyBackup } from './verify.ts'

/** How a backup is written down: when it is taken, and again with what became of its proof. */
export type Recording = (stored: Stored, found: Found) => Promise<void>

/**
 * A backup from its snapshot to its proof, for workers and for commands; what died before is cleared away first. Throws what went wrong; a proof that
 * fails is written down before that.
 */
export async function takeAndProve(
  context: BackupContext,
  store: Store,
  wanted: Wanted,
  record: Recording,
): Promise<{ stored: Stored; verification: Verification }> {
  const { stored, identities } = await takeOnly(context, store, wanted, record)
  const verification = await verifyBackup(context, store, stored, identities).catch(async (error: unknown) => {
    // Broken off says nothing of the backup. Nor may a record that fails hide why the proof did.
    if (!context.signal.aborted) await record(stored, { verify_error: messageOf(error) }).catch(() => {})
    throw error
  })
  await record(stored, { verification })
  return { stored, verification }
}

/** A backup without its proof; `identities` open it as long as they are remembered. */
export async function takeOnly(context: BackupContext, store: Store, wanted: Wanted, record: Recording): Promise<{ stored: Stored; identities: string[] }> {
  await removeAbandoned(context, store)
  await dropAbandonedScratch(context)
  const taken = await takeBackup(context, wanted)
  // It is there from now on, whatever the verification says.
  await record(taken.stored, {})
  return taken
}
