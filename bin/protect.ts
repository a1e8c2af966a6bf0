import type { Config } from '../src/config.ts'
import { openDatabase } from '../src/database.ts'
import { messageOf, PawlError } from '../src/errors.ts'
import type { MigrateContext } from '../src/migrate.ts'
import type { Scope } from '../workers/maintenance/backups/manifest.ts'
import { takeAndProve } from '../workers/maintenance/backups/prove.ts'
import { contextOf, openPlace, recorder } from './backups.ts'
import { type Terminal, usageError, type Values } from './terminal.ts'
import { interruptible } from './signals.ts'

/** What of the database is backed up before files that delete data (document 001). */
type Wanted = { scope: Scope; tables?: string[] }

/** Names of the backups that were taken, for the answer. */
export type Protection = { hook: MigrateContext['beforeDestructive']; taken: string[] }

/**
 * Takes and verifies a backup before files that delete data, where there is a place for backups. `atRisk`: whether to go on without one is
 * allowed; it is then said aloud.
 */
export function protection(terminal: Terminal, config: Config, values: Values, atRisk: boolean): Protection {
  const wanted = wantedOf(values.backup)
  const taken: string[] = []
  if (config.backup.place === undefined || values['no-backup'] === true) {
    if (values.backup !== undefined) throw usageError('--backup needs a place, and no --no-backup', 'set BACKUP_DIR or BACKUP_S3_BUCKET')
    const why = values['no-backup'] === true ? '--no-backup' : 'no place for backups is named (BACKUP_DIR, BACKUP_S3_BUCKET)'
    return {
      taken,
      hook: atRisk ? async tags => terminal.say(`WARNING: ${tags.join(', ')} will delete data, and NO BACKUP is taken first: ${why}`) : undefined,
    }
  }
  return { taken, hook: async tags => void taken.push(await backUp(terminal, config, wanted, tags)) }
}

function wantedOf(word: Values[string]): Wanted {
  if (word === undefined || word === 'full') return { scope: 'full' }
  if (word === 'schema') return { scope: 'schema' }
  const [, list] = /^tables=(.+)$/.exec(String(word)) ?? []
  const tables = list?.split(',').filter(name => name.trim() !== '') ?? []
  if (tables.length === 0) throw usageError(`--backup ${String(word)} is none`, '--backup full, schema, or tables=public.campaigns,public.users')
  return { scope: 'tables', tables }
}

async function backUp(terminal: Terminal, config: Config, wanted: Wanted, tags: string[]): Promise<string> {
  const { place, store } = await openPlace(terminal)
  const db = openDatabase(config, terminal.log, { name: 'pawl migrate backup', max: 1 })
  try {
    return await interruptible(async signal => {
      const context = contextOf(terminal, config, place, signal)
      const wantedNow = { kind: 'pre_migration', ...wanted } as const
      const { stored, verification } = await takeAndProve(context, store, wantedNow, recorder(terminal, db, place))
      const { name } = stored.manifest
      if (!terminal.json) terminal.say(`backup    ${name} in ${place}, verified by a restore in ${verification.seconds} s`)
      return name
    })
  } catch (error) {
    throw new PawlError(
      'migrate.backup',
      `${tags.join(', ')} would delete data, and no backup could be taken first: ${messageOf(error)}; nothing was changed`,
      {
        hint: `${(error as { hint?: string }).hint ?? 'mend that and run it again'}; or go without one: --no-backup`,
        retryable: error instanceof PawlError && error.retryable,
        cause: error,
      },
    )
  } finally {
    await db.close()
  }
}
