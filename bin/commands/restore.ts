import { findBackup } from '../../workers/maintenance/backups/catalog.ts'
import { reading } from '../../workers/maintenance/backups/lock.ts'
import type { Manifest } from '../../workers/maintenance/backups/manifest.ts'
import { restoreBackup } from '../../workers/maintenance/backups/restore.ts'
import { contextOf, identitiesFor, openPlace, originOf } from '../backups.ts'
import { answer, exitCodes } from '../terminal.ts'
import { interruptible } from '../signals.ts'
import type { Run } from '../spec.ts'
import { withDatabaseUrl } from './connect.ts'

/**
 * `pawl restore`: a backup as a new database, on the server of DATABASE_URL. The database it comes from need not be there any more: the place
 * and a server suffice. `latest` is the newest verified one.
 */
export const restore: Run = async (terminal, values, [word = 'latest']) => {
  const into = String(values.into)
  const { place, store } = await openPlace(terminal, values.from)
  const config = await withDatabaseUrl(terminal.config)
  const stored = await findBackup(store, word, await originOf(config))
  const identities = await identitiesFor(terminal, stored, values.identity)
  const { manifest, verification } = stored
  if (!terminal.json) terminal.say(`restoring ${manifest.name}, ${verification === undefined ? 'NOT VERIFIED' : `verified ${verification.verifiedAt}`}`)
  const options = { into, identities, owners: values['no-owners'] !== true, verify: values.verify === true }
  await interruptible(signal => reading(config, manifest, () => restoreBackup(contextOf(terminal, config, place, signal), store, stored, options)))
  const rows = manifest.tables.reduce((sum, table) => sum + table.rows, 0)
  const machine = { database: into, backup: manifest.name, taken_at: manifest.takenAt, tables: manifest.tables.length, rows, verified: options.verify }
  answer(
    terminal,
    machine,
    [`${into}: ${manifest.tables.length} tables, ${rows} rows${options.verify ? ', all of them equal' : ''}`, ...nextSteps(manifest)].join('\n'),
  )
  return exitCodes.ok
}

/** Whoever restores in a hurry must not find the runs of last night at work a second time. */
function nextSteps({ tables, lsn, takenAt }: Manifest): string[] {
  const isOurs = tables.some(({ schema, name }) => schema === 'pawl' && name === 'paused_queues')
  return [
    `  as of ${takenAt} (${lsn})`,
    ...(isOurs ? ['  every queue in it is paused, so that nothing runs twice; with its DATABASE_URL: pawl status, then pawl resume QUEUE'] : []),
  ]
}
