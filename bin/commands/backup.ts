import type { Config } from '../../src/config.ts'
import { type Database, openDatabase } from '../../src/database.ts'
import type { RunRow } from '../../src/status.ts'
import type { BackupContext } from '../../workers/maintenance/backups/context.ts'
import type { Kind, Scope, Stored, Verification } from '../../workers/maintenance/backups/manifest.ts'
import { takeAndProve, takeOnly } from '../../workers/maintenance/backups/prove.ts'
import { contextOf, openPlace, type Place, recorder } from '../backups.ts'
import { follow } from '../follow.ts'
import { answer, exitCodes, type Terminal, usageError, type Values } from '../terminal.ts'
import { interruptible } from '../signals.ts'
import type { Run } from '../spec.ts'
import { connected, withDatabaseUrl } from './connect.ts'
import { runLine } from './status.ts'

/** `pawl backup`: takes a backup and proves it by a real restore, here or on a worker. Needs nothing of Pawl in the database. */
export const backup: Run = async (terminal, values) => {
  const request = requestOf(values)
  if (values.queue === true) return queued(terminal, request, values)
  const config = await withDatabaseUrl(terminal.config)
  const place = await openPlace(terminal)
  const db = openDatabase(config, terminal.log, { name: 'pawl cli', max: 1 })
  try {
    return await interruptible(signal => takeHere(terminal, db, place, contextOf(terminal, config, place.place, signal), request, values['no-verify'] !== true))
  } finally {
    await db.close()
  }
}

type Request = { kind: Kind; scope: Scope; tables?: string[] }

function requestOf({ kind = 'manual', tables, ...values }: Values): Request {
  const isSchema = values['schema-only'] === true
  const common = { kind: kind as Kind }
  if (tables === undefined) return { ...common, scope: isSchema ? 'schema' : 'full' }
  if (isSchema) throw usageError('--schema-only and --tables exclude each other', 'leave one of them out')
  return { ...common, scope: 'tables', tables: tables as string[] }
}

async function takeHere(terminal: Terminal, db: Database, { place, store }: Place, context: BackupContext, request: Request, isVerified: boolean) {
  const write = recorder(terminal, db, place)
  const record: typeof write = async (stored, found) => {
    await write(stored, found)
    if (!terminal.json && found.verification === undefined && found.verify_error === undefined) terminal.say(`taken     ${stored.manifest.name} in ${place}`)
  }
  if (!isVerified) return tell(terminal, place, (await takeOnly(context, store, request, record)).stored)
  const { stored, verification } = await takeAndProve(context, store, request, record)
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
