import { randomBytes } from 'node:crypto'
import { type Ending, patiently, type RunContext, transactionBatch } from '../../src/batches.ts'
import type { Reader } from '../../src/database.ts'
import { classify, codeOf, PawlError } from '../../src/errors.ts'
import { openFreshReader, primaryMayAnswer } from '../../src/replica.ts'
import { type Draft, openStore, type Store } from '../../src/store.ts'
import { compose, type Place, type Progress } from './compose.ts'
import type { Format } from './document.ts'
import { formats } from './formats.ts'
import { type Cursor, type Made, makeHead, type Start } from './layout.ts'
import { boundedSink } from './sink.ts'
import { watchForStop } from '../../src/stop.ts'

/** One attempt at an execution, from its opening to its file. */
export async function execute(context: RunContext): Promise<Ending | 'ended'> {
  const { config, run } = context
  if (config.reportStore === undefined) {
    throw new PawlError('report.store_unset', 'no place for reports is named', {
      hint: `set PAWL_REPORT_STORE to an absolute path or s3://bucket/prefix on every worker, then: select pawl.retry('${run.runId}')`,
    })
  }
  const store = openStore(config.reportStore, { config, baseUrl: config.reportUrl })
  const token = randomBytes(24).toString('base64url')
  const start = await patiently(context, async () => {
    const [row] = await context.db.query<{ start: Start }>('select pawl.start_report($1, $2, $3) as start', [run.runId, run.epoch, token])
    if (row === undefined) throw new Error('pawl.start_report returned no row')
    return row.start
  })
  if (start.outcome === 'gone') return 'gone'
  const load = formats[start.format]
  if (load === undefined) throw new PawlError('report.format', `there is no format "${start.format}"`, { hint: 'use csv, json, html, excel or pdf' })
  try {
    const ending = await attempt(context, store, start, await load())
    // Nobody goes on with it. Should this fail, the wheel removes it within a minute.
    if (ending === 'cancel' || ending === 'gone' || (ending !== 'ended' && !(await isOurs(context)))) await store.remove(start.key).catch(() => {})
    return ending
  } catch (error) {
    // Taken over: what this attempt wrote is nobody's.
    if (classify(error) === 'lost') await store.remove(start.key).catch(() => {})
    throw error
  }
}

/** A worker that was stopped and wakes is told to let go of the job before it meets the fence: then its draft is nobody's either. */
async function isOurs({ db, run }: RunContext): Promise<boolean> {
  const held = await db.query('select from pawl.checkpoints where run_id = $1 and epoch = $2', [run.runId, run.epoch]).catch(() => undefined)
  return held === undefined || held.length > 0
}

async function attempt(context: RunContext, store: Store, start: Start, format: Format): Promise<Ending | 'ended'> {
  const { cursor, key } = start
  const { reader, from } = await openFreshReader(context, `pawl report ${context.run.runId}`, { primaryOnly: cursor.primary === true })
  let draft: Draft | undefined
  try {
    const made = await makeHead(reader, start)
    await note(context, made)
    const begun = await begin(context, store, start, format)
    draft = begun.draft
    const ending = await write(context, { reader, draft, format, made, key, place: begun.place, total: begun.place === undefined ? 0 : (cursor.total ?? 0) })
    if (ending !== 'finished') return ending
    const { bytes, sha256 } = await draft.publish()
    await patiently(context, () =>
      context.db.query('select pawl.finish_report($1, $2, $3, $4)', [
        context.run.runId,
        context.run.epoch,
        key,
        JSON.stringify({ url: store.url(key), bytes, sha256, content_type: format.contentType, read_from: from }),
      ]),
    )
    return 'ended'
  } catch (error) {
    if (from !== 'replica' || !primaryMayAnswer(error)) throw error
    await readFromPrimary(context)
    throw new PawlError('report.replica', 'the replica broke the report off', { retryable: true, cause: error })
  } finally {
    await draft?.close()
    await reader.close()
  }
}

/** The new file: with what an earlier attempt wrote where the format and the store allow it, else from its first byte. */
async function begin(context: RunContext, store: Store, start: Start, format: Format): Promise<{ draft: Draft; place: Place | undefined }> {
  const { key, earlier } = start
  const { file, bytes, place } = start.cursor
  const { contentType } = format
  let begun: { draft: Draft; place: Place | undefined } | undefined
  if (format.resumable && file !== undefined && bytes !== undefined && place !== undefined) {
    const draft = await store.create(key, { contentType, continues: { key: file, bytes } }).catch((error: unknown) => {
      if (codeOf(error) !== 'store.draft_missing') throw error
      context.log.info({ file }, 'the earlier draft is out of reach, starting over')
    })
    if (draft !== undefined) begun = { draft: await adopted(context, draft, key), place }
  }
  if (begun === undefined) {
    await patiently(context, () => context.db.query('select pawl.restart_report($1, $2)', [context.run.runId, context.run.epoch]))
    begun = { draft: await store.create(key, { contentType }), place: undefined }
  }
  await clear(context, store, earlier)
  return begun
}

/** From here on the copy is what the cursor speaks of: whoever comes after this attempt finds it, whenever that ends. */
async function adopted(context: RunContext, draft: Draft, key: string): Promise<Draft> {
  await draft.sync()
  await patiently(context, () => context.db.query('select pawl.adopt_report_draft($1, $2, $3)', [context.run.runId, context.run.epoch, key]))
  return draft
}

/** Removes what earlier attempts left. Their writers are fenced off; one that still lives finds its file gone. */
async function clear({ db }: RunContext, store: Store, keys: readonly string[]): Promise<void> {
  for (const key of keys) await store.remove(key)
  if (keys.length > 0) await db.query('delete from pawl.report_files where key = any ($1)', [keys])
}

type Writing = { reader: Reader; draft: Draft; format: Format; made: Made; key: string; place: Place | undefined; total: number }

async function write(context: RunContext, { reader, draft, format, made, key, place, total }: Writing): Promise<Ending> {
  const { head, statements, limits } = made
  const sink = boundedSink(draft, limits.bytes)
  const writer = await format.open(head, sink, place === undefined ? undefined : { block: place.block, rows: place.rows })
  const composing = compose({ reader, format, writer, head, statements, rowsMax: limits.rows, secondsMax: limits.seconds }, place)
  const watch = watchForStop(context)
  let written = total
  try {
    for (let part = 1; ; part += 1) {
      const begun = context.clock.elapsed()
      const writing = composing.next()
      // After a stop nobody waits for it: its reader is closed under it.
      writing.catch(() => {})
      const next = await Promise.race([writing, watch.stopped])
      if (typeof next === 'string') return next
      if (next.done === true) return 'finished'
      if (format.resumable && next.value.place !== null) await draft.sync()
      written += next.value.rows
      const step = await record(context, { file: key, bytes: draft.bytes(), total: written }, part, next.value, format.resumable)
      context.committed(step, context.clock.elapsed() - begun)
    }
  } finally {
    watch.end()
  }
}

/** Moves the cursor, fenced. Called again after a lost answer it finds its part recorded, and counts nothing twice. */
function record(context: RunContext, file: { file: string; bytes: number; total: number }, part: number, { rows, place }: Progress, resumable: boolean) {
  return patiently(context, () =>
    transactionBatch<Cursor>(context, async (_query, cursor) => {
      if (cursor.file === file.file && (cursor.part ?? 0) >= part) return { cursor, rows: 0, finished: false }
      return {
        cursor: { ...cursor, file: file.file, part, ...(resumable && place !== null ? { bytes: file.bytes, total: file.total, place } : {}) },
        rows,
        finished: false,
      }
    })(0),
  )
}

/** The standby cancelled the statement, or went away: the next attempt reads where that can't happen. */
async function readFromPrimary({ db, run, log }: RunContext): Promise<void> {
  log.warn('the replica broke a report off, the next attempt reads from the primary')
  await db
    .transact(async query => {
      await query('select pawl.hold($1, 0, $2)', [run.runId, run.epoch])
      await query(`update pawl.lanes set cursor = cursor || '{"primary": true}' where run_id = $1 and lane = 0`, [run.runId])
    })
    .catch(() => {})
}

async function note({ db, run }: RunContext, { statements }: Made): Promise<void> {
  const texts = [...statements.values()].map(
    ({ select, from, where }) => `select ${select} from ${from}${where.length === 0 ? '' : ` where ${where.join(' and ')}`}`,
  )
  await db.query(`select pawl.log_execution($1, 'debug', 'reading', $2)`, [run.runId, JSON.stringify({ statements: texts })])
}
