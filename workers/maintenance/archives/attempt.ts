import { createHash } from 'node:crypto'
import { type Ending, patiently, type RunContext } from '../../../src/batches.ts'
import { codeOf, PawlError } from '../../../src/errors.ts'
import { watchForStop } from '../../../src/stop.ts'
import { openStore, type Store } from '../../../src/store.ts'
import { type Archiving, type Begun, endEarlier, type Started, untilFree } from './archiving.ts'
import { detach } from './detach.ts'
import { removeFiles } from './files.ts'
import { writeAndVerify } from './write.ts'

/** A batch of what goes before or with a month. */
const BATCH = 500
/** Someone who writes to a month again and again while it leaves has to be asked why. */
const ROUNDS_MAX = 5

/** One attempt at the archive of a month: on from the state in which it stands to its end. */
export async function attempt(context: RunContext): Promise<Ending | 'ended'> {
  const { config, run } = context
  if (config.archiveStore === undefined) {
    throw new PawlError('archive.store_unset', 'no place for archives is named', {
      hint: `set PAWL_ARCHIVE_STORE to an absolute path or s3://bucket/prefix on every worker, then: select pawl.retry('${run.runId}')`,
    })
  }
  const store = openStore(config.archiveStore, { config })
  const stopping = new AbortController()
  const watch = watchForStop(context)
  let ending: Ending | undefined
  void watch.stopped.then(reason => {
    ending = reason
    stopping.abort()
  })
  try {
    return await steps({ ...context, place: config.archiveStore, signal: stopping.signal }, store)
  } catch (error) {
    // Broken off because someone asked for it: the step that was under way has taken itself back.
    if (ending !== undefined) return ending
    throw error
  } finally {
    watch.end()
  }
}

async function steps(archiving: Archiving, store: Store): Promise<Ending | 'ended'> {
  const { db, run } = archiving
  await endEarlier(archiving)
  await removeStrays(archiving, store)
  let provenKey: string | undefined
  for (let round = 1; round <= ROUNDS_MAX; ) {
    archiving.signal.throwIfAborted()
    const begun = await patiently(archiving, async () => {
      const [row] = await db.query<{ begun: Begun }>('select pawl.start_archive($1, $2) as begun', [run.runId, run.epoch])
      if (row === undefined) throw new Error('pawl.start_archive returned no row')
      return row.begun
    })
    if (begun.outcome !== 'started') return 'ended'
    if (begun.stop !== null) return begun.stop
    const at = archiving.clock.elapsed()
    if (begun.state === 'planned') await detach(archiving, begun)
    else if (begun.state !== 'verified' || !(provenKey === begun.key || (await isThere(archiving, store, begun)))) {
      provenKey = await writeAndVerify(archiving, store, begun)
    } else if ((await drop(archiving)) === 'dropped') return 'ended'
    else round += 1
    archiving.committed({ batches: 1, rows: begun.state === 'verified' ? (begun.rows ?? 0) : 0, finished: false, stop: null }, archiving.clock.elapsed() - at)
  }
  throw new PawlError('archive.written_to', `the month was written to ${ROUNDS_MAX} times while it was archived`, {
    hint: `find out who writes to it (select late_writes, * from pawl.archives where run_id = '${run.runId}'), then: select pawl.retry('${run.runId}')`,
  })
}

/** Verified by an earlier attempt, and days may have passed: what is about to be dropped must still be in the store, whole. */
async function isThere({ log, signal }: Archiving, store: Store, { partition, key, sha256 }: Started): Promise<boolean> {
  const hash = createHash('sha256')
  try {
    for await (const piece of store.read(key ?? '')) {
      signal.throwIfAborted()
      hash.update(piece)
    }
  } catch (error) {
    if (codeOf(error) !== 'store.file_missing') throw error
  }
  if (hash.digest('hex') === sha256) return true
  log.warn({ partition, key }, 'the verified file of an archive is gone from the store, writing it anew')
  return false
}

async function drop(archiving: Archiving): Promise<'dropped' | 'changed'> {
  const { db, run, log } = archiving
  const clear = () =>
    db.transact(
      async query => {
        const [row] = await query<{ done: number }>('select pawl.clear_dependents($1, $2, $3) as done', [run.runId, run.epoch, BATCH])
        return row?.done ?? 0
      },
      { timeoutMs: 600_000 },
    )
  while ((await untilFree(archiving, 'what refers to the month is in use', clear)) > 0) archiving.signal.throwIfAborted()
  const outcome = await untilFree(archiving, 'a table that the month refers to is in use', () =>
    db.transact(
      async query => {
        const [row] = await query<{ outcome: 'dropped' | 'changed' }>('select pawl.drop_archive($1, $2) as outcome', [run.runId, run.epoch])
        return row?.outcome ?? 'changed'
      },
      { timeoutMs: 600_000 },
    ),
  )
  if (outcome === 'changed') log.warn('the month was written to after it was archived, archiving it anew')
  return outcome
}

/** Of runs that were cancelled or failed for good: nobody else comes for them. */
async function removeStrays(archiving: Archiving, store: Store): Promise<void> {
  const strays = await patiently(archiving, () => archiving.db.query<{ key: string }>('select key from pawl.stray_archive_files(100) key'))
  await removeFiles(
    archiving,
    store,
    strays.map(({ key }) => key),
  )
}
