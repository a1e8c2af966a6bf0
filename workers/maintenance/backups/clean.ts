import { openStore } from '../../../src/store.ts'
import type { TaskContext } from '../../../src/task.ts'
import { removeAbandoned } from './abandoned.ts'
import { listBackups } from './catalog.ts'
import type { BackupContext } from './context.ts'
import { pruneBackups } from './prune.ts'
import { recordRemoved } from './records.ts'
import { dropAbandonedScratch } from './scratch.ts'

/** The nightly cleanup, on a worker: what it did, as it stands in system_maintenance_log. */
export async function clean({ config, db, log, clock, signal }: TaskContext): Promise<Record<string, unknown>> {
  const context: BackupContext = { config, log, clock, signal, told: () => {} }
  const scratch = await dropAbandonedScratch(context)
  const { place } = config.backup
  // A scratch database is left where a backup was verified, and that may have been by hand.
  if (place === undefined && scratch.length === 0) return { skipped: 'no place for backups is named' }
  const store = place === undefined ? undefined : openStore(place, { config })
  const abandoned = store && (await removeAbandoned(context, store))
  const pruned =
    store &&
    (await pruneBackups(context, store, {
      told: name => recordRemoved(db.query, name),
    }))
  const broken = store === undefined ? [] : (await listBackups(store)).broken
  for (const { name, reason } of broken) log.warn({ backup: name, reason }, 'a backup in the store is broken')
  const namesOf = (loose: readonly { name: string }[] = []) => loose.map(({ name }) => name)
  const details = {
    removed: pruned?.removed ?? [],
    abandoned: namesOf(abandoned?.removed),
    scratch_databases: scratch,
    busy: [...(pruned?.busy ?? []), ...namesOf(abandoned?.busy)],
    foreign: namesOf(abandoned?.foreign),
    broken: namesOf(broken),
    kept: (pruned?.decisions.length ?? 0) - (pruned?.removed.length ?? 0),
  }
  const affected = details.removed.length + details.abandoned.length + scratch.length
  await db.query(`insert into public.system_maintenance_log (operation, affected_rows, timestamp, details) values ('backup_cleanup', $1, now(), $2)`, [
    affected,
    JSON.stringify(details),
  ])
  return { affected, ...details }
}
