import { systemClock } from '../../src/clock.ts'
import { openDatabase } from '../../src/database.ts'
import { PawlError } from '../../src/errors.ts'
import { removeAbandoned } from '../../workers/maintenance/backups/abandoned.ts'
import { findBackup, listBackups } from '../../workers/maintenance/backups/catalog.ts'
import { reading } from '../../workers/maintenance/backups/lock.ts'
import type { Stored } from '../../workers/maintenance/backups/manifest.ts'
import { pruneBackups } from '../../workers/maintenance/backups/prune.ts'
import { verifyBackup } from '../../workers/maintenance/backups/verify.ts'
import { contextOf, identitiesFor, openPlace, originOf, recorder, recordRemoval } from '../backups.ts'
import { answer, exitCodes, type Terminal, usageError, type Values } from '../terminal.ts'
import { interruptible } from '../signals.ts'
import type { Run } from '../spec.ts'
import { table } from '../table.ts'
import { type Frame, show } from '../watch.ts'
import { connected, withDatabaseUrl } from './connect.ts'

/** `pawl backups`: what the store holds, what retention would delete and why, and the proof of one that is there. The list needs no database. */
export const backups: Run = async (terminal, values) => {
  const { apply: isApplied, prune: isPruned, verify: name, watch } = values
  if (isApplied === true && isPruned !== true) throw usageError('--apply goes with --prune', 'pawl backups --prune --apply')
  if (isPruned === true && name !== undefined) throw usageError('--prune and --verify exclude each other', 'one after the other')
  if (watch !== undefined && (isPruned === true || name !== undefined)) throw usageError('--watch goes with the list alone', 'pawl backups --watch')
  if (isPruned === true) return prune(terminal, values)
  if (name !== undefined) return verify(terminal, values, String(name))
  await show(terminal, values, () => list(terminal, values))
  return exitCodes.ok
}

async function list(terminal: Terminal, values: Values): Promise<Frame> {
  const { place, store } = await openPlace(terminal, values.from)
  const { backups: stored, broken, loose } = await listBackups(store)
  const whole = stored.map(entryOf)
  if (terminal.json) {
    const unfinished = loose.map(({ name, keys, newestAt }) => ({ name, files: keys, last_written_at: newestAt }))
    return { machine: { place, backups: whole, broken, unfinished }, people: '' }
  }
  const nothing = { kind: '', taken: '', bytes: null, rows: null, age: '' }
  const people = table([
    ...whole.map(({ state, name, kind, scope, taken_at: taken, bytes, rows }) => {
      const age = ageOf(systemClock.now() - Date.parse(taken))
      return { state, name, kind: scope === 'full' ? kind : `${kind}, ${scope}`, taken, bytes, rows, age }
    }),
    ...broken.map(({ name }) => ({ state: 'broken', name, ...nothing })),
    ...loose.map(({ name, newestAt }) => ({ state: 'unfinished', name, ...nothing, age: ageOf(systemClock.now() - newestAt.getTime()) })),
  ])
  for (const { name, reason } of broken) terminal.say(`${name}: ${reason}`)
  return { machine: undefined, people }
}

function entryOf({ manifest, verification }: Stored) {
  const { name, kind, scope, database, cluster, takenAt, files, tables, sealed, server } = manifest
  return {
    state: verification === undefined ? 'unverified' : 'verified',
    name,
    kind,
    scope,
    database,
    cluster,
    taken_at: takenAt,
    verified_at: verification?.verifiedAt ?? null,
    bytes: files.dump.bytes + (files.roles?.bytes ?? 0),
    tables: tables.length,
    rows: tables.reduce((sum, { rows }) => sum + rows, 0),
    encrypted: sealed.recipients.length > 0,
    server: server.version,
  }
}

function ageOf(ms: number): string {
  const minutes = Math.floor(ms / 60_000)
  if (minutes < 120) return `${minutes} min`
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1440)} days`
}

async function prune(terminal: Terminal, values: Values): Promise<number> {
  const { place, store } = await openPlace(terminal, values.from)
  const config = await withDatabaseUrl(terminal.config)
  const isDryRun = values.apply !== true
  return connected(terminal, db =>
    interruptible(async signal => {
      const context = contextOf(terminal, config, place, signal)
      const abandoned = await removeAbandoned(context, store, { isDryRun })
      const { decisions, removed, busy } = await pruneBackups(context, store, { isDryRun, told: name => recordRemoval(terminal, db, name) })
      const lines = [
        ...decisions.map(({ backup: { manifest }, verdict, why }) => ({ verdict, name: manifest.name, why })),
        ...abandoned.removed.map(({ name }) => ({ verdict: 'delete', name, why: 'abandoned: no manifest, and nobody is at work on it' })),
        ...abandoned.busy.map(({ name }) => ({ verdict: 'keep', name, why: 'someone is at work on it' })),
        ...abandoned.foreign.map(({ name }) => ({ verdict: 'keep', name, why: 'no manifest, and of another database or cluster' })),
      ]
      const gone = [...removed, ...abandoned.removed.map(({ name }) => name)]
      answer(terminal, { applied: !isDryRun, decisions: lines, removed: isDryRun ? [] : gone, busy }, table(lines))
      const some = lines.filter(({ verdict }) => verdict === 'delete').length
      if (!terminal.json) terminal.say(isDryRun ? `nothing was deleted; --apply would delete ${some}` : `deleted ${gone.length}`)
      return exitCodes.ok
    }),
  )
}

/** `latest` is the newest one here, verified or not: the proof of the newest verified one would say nothing new. */
async function verify(terminal: Terminal, values: Values, word: string): Promise<number> {
  const { place, store } = await openPlace(terminal, values.from)
  const config = await withDatabaseUrl(terminal.config)
  const stored = await findBackup(store, word === 'latest' ? 'newest' : word, await originOf(config))
  const { name } = stored.manifest
  const identities = await identitiesFor(terminal, stored, values.identity).catch(unverified(name))
  const db = openDatabase(config, terminal.log, { name: 'pawl cli', max: 1 })
  try {
    const verification = await interruptible(signal =>
      reading(config, stored.manifest, () => verifyBackup(contextOf(terminal, config, place, signal), store, stored, identities)).catch(unverified(name)),
    )
    await recorder(terminal, db, place)(stored, { verification })
    answer(terminal, verification, `${name}\n  verified by a restore in ${verification.seconds} s`)
    return exitCodes.ok
  } finally {
    await db.close()
  }
}

/** A key that doesn't fit, or none, says nothing of the backup: it may be good. */
function unverified(name: string): (error: unknown) => never {
  return error => {
    if (!(error instanceof PawlError) || !['seal.key', 'seal.identity'].includes(error.code)) throw error
    throw new PawlError('backup.unverifiable', `${name} could not be verified: ${error.message}`, {
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      cause: error,
    })
  }
}
