import { type Ending, patiently, type RunContext } from '../../../src/batches.ts'
import { PawlError } from '../../../src/errors.ts'
import { watchForStop } from '../../../src/stop.ts'
import { openStore } from '../../../src/store.ts'
import type { BackupContext } from './context.ts'
import type { Kind, Scope } from './manifest.ts'
import { takeAndProve } from './prove.ts'
import { recordBackup, recordOf } from './records.ts'

/** Progress is a row written: not for each of ten thousand tables. */
const TELL_EVERY_MS = 2_000

type Request = { kind: Kind; scope: Scope; tables: string[] | null }

/** One attempt at a backup, from its snapshot to its proof. */
export async function attempt(context: RunContext): Promise<Ending | 'ended'> {
  const { db, run, config } = context
  if (config.backup.place === undefined) {
    throw new PawlError('backup.place_unset', 'no place for backups is named', {
      hint: `set BACKUP_DIR or BACKUP_S3_BUCKET on every worker, then: select pawl.retry('${run.runId}')`,
    })
  }
  const [begun] = await patiently(context, () => db.query<{ request: Request }>('select pawl.begin_backup($1, $2) as request', [run.runId, run.epoch]))
  if (begun === undefined) throw new Error('pawl.begin_backup returned no row')
  const stopping = new AbortController()
  const watch = watchForStop(context)
  let ending: Ending | undefined
  void watch.stopped.then(reason => {
    ending = reason
    stopping.abort()
  })
  try {
    await takeAndVerify(context, begun.request, config.backup.place, stopping.signal)
    return 'ended'
  } catch (error) {
    // Broken off because someone asked for it: what was under way has taken itself back.
    if (ending !== undefined) return ending
    throw error
  } finally {
    watch.end()
  }
}

async function takeAndVerify(context: RunContext, { kind, scope, tables }: Request, place: string, signal: AbortSignal): Promise<void> {
  const { db, run, config, log, clock } = context
  const backingUp: BackupContext = { config, log, clock, signal, told: teller(context) }
  const wanted = { kind, scope, ...(tables === null ? {} : { tables }) }
  await takeAndProve(backingUp, openStore(place, { config }), wanted, async (stored, found) => {
    const record = recordOf(stored, place, found, run.runId)
    // What ends the run waits until the database answers; that its proof failed is told by the run's own error as well.
    if (found.verify_error !== undefined) await recordBackup(db.query, record)
    else if (found.verification === undefined) await patiently(context, () => recordBackup(db.query, record))
    else await patiently(context, () => db.query('select pawl.finish_backup($1, $2, $3)', [run.runId, run.epoch, record]))
  })
}

/** The run's progress: tables dumped, restored and compared. What can't be written now is written with the next word. */
function teller({ db, run, clock }: RunContext): BackupContext['told'] {
  const places = { dump: 0, restore: 1, compare: 2 }
  let toldMs = Number.NEGATIVE_INFINITY
  return ({ step, done, total }) => {
    if (clock.elapsed() - toldMs < TELL_EVERY_MS) return
    toldMs = clock.elapsed()
    const query = db.query('select pawl.advance_backup($1, $2, $3, $4)', [run.runId, run.epoch, places[step] * total + done, 3 * total])
    query.catch(() => {})
  }
}
