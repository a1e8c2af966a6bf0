import { connectDirect } from '../../../src/database.ts'
import type { Store } from '../../../src/store.ts'
import { listBackups, type Loose } from './catalog.ts'
import type { BackupContext } from './context.ts'
import { heldLocks } from './lock.ts'
import { mayBeOf } from './names.ts'
import { readOrigin } from './origin.ts'

/** What is loose in a store: removed, or to be removed in a dry run; being worked on; of databases that we know nothing of. */
export type Abandoned = { removed: Loose[]; busy: Loose[]; foreign: Loose[] }

/**
 * Removes what backups of this database have left that died. Everything else is only told: a broken backup is for people to look at, and
 * of another cluster's files nobody here can know whether someone is writing them.
 */
export async function removeAbandoned(context: BackupContext, store: Store, { isDryRun = false } = {}): Promise<Abandoned> {
  const { loose } = await listBackups(store)
  if (loose.length === 0) return { removed: [], busy: [], foreign: [] }
  const connection = await connectDirect(context.config, 'pawl cleanup')
  try {
    const origin = await readOrigin(connection.query)
    const names = loose.map(({ name }) => name).filter(name => mayBeOf(name, origin))
    const held = await heldLocks(connection.query, names)
    const free = new Set(names.filter(name => !held.has(name)))
    // A writer lets go of its lock when its manifest is there. Who is not at work has finished or died, and a list made now knows which.
    const removed = free.size === 0 ? [] : (await listBackups(store)).loose.filter(({ name }) => free.has(name))
    for (const { name, keys } of isDryRun ? [] : removed) {
      context.signal.throwIfAborted()
      for (const key of keys) await store.remove(key)
      context.log.info({ backup: name, files: keys }, 'abandoned backup removed')
    }
    return { removed, busy: loose.filter(({ name }) => held.has(name)), foreign: loose.filter(({ name }) => !mayBeOf(name, origin)) }
  } finally {
    await connection.close()
  }
}
