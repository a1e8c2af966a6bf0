import type { Config } from '../../../src/config.ts'
import { connectDirect, type Query } from '../../../src/database.ts'
import { PawlError } from '../../../src/errors.ts'
import type { Manifest } from './manifest.ts'
import { LOCK_CLASS } from './names.ts'
import { readOrigin } from './origin.ts'

/**
 * Those of `names` on which someone is at work, in any database of the server: two databases whose names differ in what a key can't hold
 * may have names of backups in common, and a lock that is taken in one is none in the other.
 */
export async function heldLocks(query: Query, names: string[]): Promise<Set<string>> {
  const rows = await query<{ name: string }>(
    `select name
     from unnest($1::text[]) name
     where exists (
       select from pg_locks l
       where l.locktype = 'advisory' and l.objsubid = 2 and l.classid = ${LOCK_CLASS}
         and l.objid::bigint = hashtext(name)::bigint & 4294967295
     )`,
    [names],
  )
  return new Set(rows.map(({ name }) => name))
}

/** Holds the lock of a backup's name while `work` goes on. False, and nothing done, where someone else is at work on it. */
export async function aloneWith(query: Query, name: string, work: () => Promise<void>): Promise<boolean> {
  const [row] = await query<{ taken: boolean }>(`select pg_try_advisory_lock(${LOCK_CLASS}, hashtext($1)) as taken`, [name])
  if (row?.taken !== true) return false
  try {
    await work()
    return true
  } finally {
    // Where this fails the connection is gone, and the lock with it.
    await query(`select pg_advisory_unlock(${LOCK_CLASS}, hashtext($1))`, [name]).catch(() => {})
  }
}

/**
 * Keeps retention from the files of a backup while `work` reads them, for whoever does so by hand. Where its database is gone, or is not the
 * one that is connected to, there is nobody to keep from them. Throws `backup.busy`.
 */
export async function reading<Result>(config: Config, manifest: Manifest, work: () => Promise<Result>): Promise<Result> {
  const connection = await connectDirect(config, 'pawl backup reader').catch(() => undefined)
  try {
    const origin = connection && (await readOrigin(connection.query).catch(() => undefined))
    if (connection !== undefined && origin?.database === manifest.database && origin.cluster === manifest.cluster) {
      await share(connection.query, manifest.name)
    }
    return await work()
  } finally {
    await connection?.close()
  }
}

async function share(query: Query, name: string): Promise<void> {
  const [row] = await query<{ taken: boolean }>(`select pg_try_advisory_lock_shared(${LOCK_CLASS}, hashtext($1)) as taken`, [name])
  if (row?.taken === true) return
  throw new PawlError('backup.busy', `${name} is being written or removed just now`, { retryable: true, hint: 'look at pawl backups in a moment' })
}
