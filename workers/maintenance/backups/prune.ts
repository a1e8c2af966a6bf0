import { connectDirect, type DirectConnection } from '../../../src/database.ts'
import { refuseSharedSession } from '../../../src/pooler.ts'
import type { Store } from '../../../src/store.ts'
import { listBackups, removeBackup } from './catalog.ts'
import type { BackupContext } from './context.ts'
import { aloneWith } from './lock.ts'
import type { Stored } from './manifest.ts'
import { readOrigin } from './origin.ts'
import { type Decision, decide } from './retention.ts'

/** Every backup of the store with its verdict; `removed` and `busy` are names, and `busy` ones go the next time. */
export type Pruned = { decisions: Decision<Stored>[]; removed: string[]; busy: string[] }

/** Removes what retention has no reason to keep. `told` is given the name of each that is gone. */
export async function pruneBackups(
  context: BackupContext,
  store: Store,
  { isDryRun = false, told }: { isDryRun?: boolean; told?: (name: string) => Promise<void> } = {},
): Promise<Pruned> {
  const { backup } = context.config
  const connection = await connectDirect(context.config, 'pawl cleanup')
  try {
    const policy = { ...(await readOrigin(connection.query)), keepDays: backup.keepDays, keep: backup.keep }
    const decisions = decide((await listBackups(store)).backups, policy, new Date(context.clock.now()))
    const names = decisions.filter(({ verdict }) => verdict === 'delete').map(decision => decision.backup.manifest.name)
    const pruned: Pruned = { decisions, removed: [], busy: [] }
    if (isDryRun || names.length === 0) return pruned
    await refuseSharedSession(connection, () => connectDirect(context.config, 'pawl cleanup'))
    for (const name of names) {
      context.signal.throwIfAborted()
      const isGone = await remove(context, store, connection, name)
      pruned[isGone ? 'removed' : 'busy'].push(name)
      if (isGone) await told?.(name)
    }
    return pruned
  } finally {
    await connection.close()
  }
}

/** False where someone restores or verifies it just now. */
async function remove({ log }: BackupContext, store: Store, { query }: DirectConnection, name: string): Promise<boolean> {
  const isGone = await aloneWith(query, name, () => removeBackup(store, name))
  if (isGone) log.info({ backup: name }, 'backup removed by retention')
  return isGone
}
