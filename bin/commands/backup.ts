import type { Config } from '../../src/config.ts'
import { type Database, openDatabase } from '../../src/database.ts'
import { messageOf } from '../../src/errors.ts'
import type { RunRow } from '../../src/status.ts'
import { removeAbandoned } from '../../workers/maintenance/backups/abandoned.ts'
import type { BackupContext } from '../../workers/maintenance/backups/context.ts'
import { kinds, type Kind, type Scope, type Stored, type Verification } from '../../workers/maintenance/backups/manifest.ts'
import { dropAbandonedScratch } from '../../workers/maintenance/backups/scratch.ts'
import { takeBackup } from '../../workers/maintenance/backups/take.ts'
import { verifyBackup } from '../../workers/maintenance/backups/verify.ts'
import { contextOf, interruptible, openPlace, type Place, record } from '../backups.ts'
import { follow } from '../follow.ts'
import { answer, type Command, exitCodes, type Terminal, usageError, type Values } from '../run.ts'
import { connected, withDatabaseUrl } from './connect.ts'
import { runLine } from './status.ts'

const USAGE = 'backup [--kind daily|weekly|manual|pre_migration] [--schema-only | --tables a,b] [--no-verify] [--queue]'

/** `pawl backup`: takes a backup and proves it by a real restore, here or on a worker. Needs nothing of Pawl in the database. */
export const backup: Command = {
  usage: USAGE,
  summary: 'take a backup and prove it by a restore into a scratch database; --queue has a worker do it',
  example: 'pawl backup && pawl restore --into scratch --verify',
  quiet: true,
  options: {
    kind: { type: 'string' },
    'schema-only': { type: 'boolean' },
    tables: { type: 'string' },
    'no-verify': { type: 'boolean' },
    queue: { type: 'boolean' },
  },
  async run(terminal, values) {
    const request = requestOf(values)
    if (values.queue === true) return queued(terminal, request, values)
    const config = await withDatabaseUrl(terminal.config)
    const place = await openPlace(terminal)
    const db = openDatabase(config, terminal.log, { name: 'pawl cli', max: 1 })
    try {
      return await interruptible(signal =>
        takeHere(terminal, db, place, contextOf(terminal, config, place.place, signal), request, values['no-verify'] !== true),
      )
    } finally {
      await db.close()
    }
  },
}

type Request = { kind: Kind; scope: Scope; tables?: string[] }

function requestOf({ kind: word = 'manual', tables: list, ...values }: Values): Request {
  const kind = kinds.find(one => one === word)
  if (kind === undefined) throw usageError(`there is no kind of backup "${String(word)}"`, kinds.join(', '))
  const isSchema = values['schema-only'] === true
  if (list === undefined) return { kind, scope: isSchema ? 'schema' : 'full' }
  if (isSchema) throw usageError('--schema-only and --tables exclude each other', `usage: pawl ${USAGE}`)
  const tables = String(list)
    .split(',')
    .map(name => name.trim())
    .filter(name => name !== '')
  if (tables.length === 0) throw usageError('--tables names no table', 'pawl backup --tables public.campaigns,public.campaign_timers')
  return { kind, scope: 'tables', tables }
}

async function takeHere(
  terminal: Terminal,
  db: Database,
  { place, store }: Place,
  context: BackupContext,
  request: Request,
  isVerified: boolean,
): Promise<number> {
  await removeAbandoned(context, store)
  await dropAbandonedScratch(context)
  const { stored, identities } = await takeBackup(context, request)
  // It is there from now on, whatever the verification says.
  await record(terminal, db, place, stored)
  if (!terminal.json) terminal.say(`taken     ${stored.manifest.name} in ${place}`)
  if (!isVerified) return tell(terminal, place, stored)
  const verification = await verifyBackup(context, store, stored, identities).catch(async (error: unknown) => {
    if (!context.signal.aborted) await record(terminal, db, place, stored, { verify_error: messageOf(error) })
    throw error
  })
  await record(terminal, db, place, stored, { verification })
  return tell(terminal, place, stored, verification)
}

function tell(terminal: Terminal, place: string, { manifest }: Stored, verification?: Verification): number {
  const { name, files, tables } = manifest
  const rows = tables.reduce((sum, table) => sum + table.rows, 0)
  const bytes = files.dump.bytes + (files.roles?.bytes ?? 0)
  const machine = { backup: name, place, bytes, tables: tables.length, rows, verified_at: verification?.verifiedAt ?? null, seconds: verification?.seconds }
  const proof = verification === undefined ? 'not verified' : `verified by a restore in ${verification.seconds} s`
  answer(terminal, machine, `${name}\n  ${tables.length} tables, ${rows} rows, ${bytes} bytes; ${proof}\n  restore it: pawl restore ${name} --into DATABASE`)
  return exitCodes.ok
}

/** A worker's own run, in its own hands: Ctrl-C ends the watching only. */
async function queued(terminal: Terminal, { kind, scope, tables }: Request, values: Values): Promise<number> {
  if (values['no-verify'] === true) throw usageError('a worker verifies every backup it takes', 'leave out --no-verify, or --queue')
  return connected(terminal, async db => {
    const [row] = await db.query<{ run: string }>('select pawl.request_backup($1, $2, $3) as run', [kind, scope, tables ?? null])
    const run = row?.run ?? ''
    if (!terminal.json) terminal.say(`run ${run}; it goes on without this command`)
    const well = await interruptible(signal => follow(terminal, () => lookAt(terminal, db, run), signal, patienceMs(terminal.config)))
    const [taken] = await db.query<{ backup: string; error: string | null }>('select backup_id as backup, error from pawl.backups where run_id = $1 limit 1', [
      run,
    ])
    answer(terminal, { run_id: run, well, backup: taken?.backup ?? null, error: taken?.error ?? null }, taken?.backup ?? `pawl why ${run}`)
    return well ? exitCodes.ok : exitCodes.failed
  })
}

async function lookAt(terminal: Terminal, db: Database, run: string) {
  const [row] = await db.query<RunRow>('select * from pawl.runs where run_id = $1', [run])
  if (row === undefined) throw usageError(`there is no run ${run}`, 'pawl status')
  return { lines: terminal.json ? [] : [runLine(row, terminal.color)], over: row.finished_at !== null, well: row.state === 'completed' }
}

/** A dump and a restore, each as long as a dump may take at most. */
const patienceMs = ({ backup: { dumpMs } }: Config) => 2 * dumpMs
