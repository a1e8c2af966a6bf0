import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { systemClock } from '../src/clock.ts'
import type { Config } from '../src/config.ts'
import { connectDirect, type Database } from '../src/database.ts'
import { codeOf, messageOf, PawlError } from '../src/errors.ts'
import { readIdentities } from '../src/seal.ts'
import { openStore, type Store } from '../src/store.ts'
import type { BackupContext } from '../workers/maintenance/backups/context.ts'
import type { Stored } from '../workers/maintenance/backups/manifest.ts'
import { type Origin, readOrigin } from '../workers/maintenance/backups/origin.ts'
import type { Recording } from '../workers/maintenance/backups/prove.ts'
import { recordBackup, recordOf, recordRemoved } from '../workers/maintenance/backups/records.ts'
import { ownDir } from './own-dir.ts'
import type { Terminal, Values } from './terminal.ts'

/** Where a command finds backups, or puts them. */
export type Place = { place: string; store: Store }

/** The place named by `--from`, or by the environment; that of the development database is in the checkout. */
export async function openPlace({ config }: Terminal, from?: Values[string]): Promise<Place> {
  const place = typeof from === 'string' ? await placeNamed(from) : (config.backup.place ?? (await ownPlace(config)))
  return { place, store: openStore(place, { config }) }
}

/** A directory that is not there holds no backups, but whoever names it meant another. */
async function placeNamed(word: string): Promise<string> {
  if (word.startsWith('s3://')) return word
  const place = resolve(word)
  await stat(place).catch((error: unknown) => {
    if (codeOf(error) !== 'ENOENT') return
    throw new PawlError('store.place', `there is no directory ${place}`, {
      hint: 'name the directory, or s3://bucket/prefix, that holds the backups',
      cause: error,
    })
  })
  return place
}

async function ownPlace(config: Config): Promise<string> {
  if (config.databaseUrl === undefined && config.embeddedAllowed) return ownDir('backups')
  throw new PawlError('backup.place_unset', 'no place for backups is named', { hint: 'set BACKUP_DIR or BACKUP_S3_BUCKET as the workers have it' })
}

/** What a backup, a verification or a restore works with in this process; `config` names its database. */
export function contextOf(terminal: Terminal, config: Config, place: string, signal: AbortSignal): BackupContext {
  const told = terminal.json ? () => {} : teller(terminal)
  return { config: { ...config, backup: { ...config.backup, place } }, log: terminal.log, clock: systemClock, signal, told }
}

const words = { dump: 'dumped', restore: 'restored', compare: 'compared' } as const

/** Progress: in place on a terminal, elsewhere a line when a step is done. */
function teller({ say }: Terminal): BackupContext['told'] {
  const isLive = process.stderr.isTTY === true
  const over = new Set<string>()
  return ({ step, done, total }) => {
    if (over.has(step)) return
    const line = `${words[step].padEnd(8)}  ${done} of ${total} tables`
    if (isLive) process.stderr.write(`\r\x1b[K${line}`)
    if (done < total) return
    over.add(step)
    if (isLive) process.stderr.write('\n')
    else say(line)
  }
}

/** The private keys that open a backup; none where it is not encrypted. */
export async function identitiesFor(terminal: Terminal, { manifest }: Stored, identity: Values[string]): Promise<string[]> {
  if (manifest.sealed.recipients.length === 0) return []
  const path = typeof identity === 'string' ? identity : terminal.config.backup.identityFile
  if (path === undefined) {
    throw new PawlError('seal.key', `${manifest.name} is encrypted, and no private key was given`, {
      hint: 'name the file that holds it: --identity FILE, or PAWL_BACKUP_IDENTITY',
    })
  }
  const identities = await readIdentities(path)
  const { mode } = await stat(path)
  if ((mode & 0o044) !== 0) terminal.say(`warning: others can read the private key in ${path}; chmod 600 ${path}`)
  return identities
}

/** Which database this is, as far as that can be found out: it may be the very one that was lost. */
export async function originOf(config: Config): Promise<{ database: string; cluster?: string }> {
  const database = decodeURIComponent(URL.parse(config.directUrl ?? '')?.pathname.slice(1) ?? '')
  const connection = await connectDirect(config, 'pawl cli').catch(() => undefined)
  const origin: Origin | undefined = connection && (await readOrigin(connection.query).catch(() => undefined))
  await connection?.close()
  return origin ?? { database }
}

/** Writes a backup down in `pawl.backups`, in a database that has it. The store is the truth: that this fails is told, and no more. */
export function recorder(terminal: Terminal, db: Database, place: string): Recording {
  return (stored, found) =>
    writeDown(terminal, db, "to_regprocedure('pawl.record_backup(jsonb)')", () => recordBackup(db.query, recordOf(stored, place, found)))
}

/** Writes down in `pawl.backups` that a backup is gone; where that can be done, as `recorder`. */
export function recordRemoval(terminal: Terminal, db: Database, name: string): Promise<void> {
  return writeDown(terminal, db, "to_regclass('pawl.backup_records')", () => recordRemoved(db.query, name))
}

async function writeDown(terminal: Terminal, db: Database, needs: string, write: () => Promise<void>): Promise<void> {
  try {
    const [schema] = await db.query<{ is_there: boolean }>(`select ${needs} is not null as is_there`)
    if (schema?.is_there === true) await write()
  } catch (error) {
    terminal.say(`not written down in pawl.backups: ${messageOf(error)}`)
  }
}
