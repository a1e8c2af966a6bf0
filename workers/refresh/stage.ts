import { type Ending, inBatches, patiently, type RunContext, type Step } from '../../src/batches.ts'
import { cutLanes } from '../../src/checkpoint.ts'
import { PawlError } from '../../src/errors.ts'
import { settleDrift } from './drift.ts'
import type { Cursor, Extraction } from './source.ts'
import { isStale, openSource } from './sources.ts'
import type { Prepared } from './step.ts'
import { countRows, createStaging, describeQuery, dropStaging, fillSql, type Staging, stagingAsMade, stagingNames, stagingOf } from './staging.ts'
import { quoted } from '../../src/names.ts'
import { readTarget } from './target.ts'
import { putWindow } from './sources/window.ts'
import { windowOf } from './window.ts'

/** Times that one opening of a run may begin its reading anew, because what was read had changed or was lost. */
const RESTARTS_MAX = 3
/** A statement that reads a large table may take this long. */
export const LONG_MS = 6 * 3_600_000

/**
 * Reads the step's source into its staging table, until every row is there: chunk and checkpoint commit together, lanes side by side.
 * A staging table that does not hold what the checkpoints say (unlogged, so a crash of the server empties it) is read again.
 */
export async function stage(context: RunContext, step: Prepared, lanes: number): Promise<Ending> {
  for (let restarts = 0; ; restarts += 1) {
    await beginWindow(context, step)
    try {
      const ending = step.settings.source === 'sql' ? await stageQuery(context, step, step.settings.query) : await stageSource(context, step, lanes)
      if (ending !== 'finished' || (await isWhole(context, step))) return ending
      context.log.warn({ extraction: step.extraction }, 'staged rows were lost, reading again')
    } catch (error) {
      if (!isStale(error)) throw error
      context.log.warn({ extraction: step.extraction, reason: error.message }, 'source can not be gone on with, reading again')
    }
    if (restarts === RESTARTS_MAX) throw new Error(`${step.name} could not be read in one piece, ${RESTARTS_MAX + 1} times`)
    await restart(context, step)
  }
}

/** Gives up this reading and begins another. */
export async function restart(context: RunContext, step: Prepared): Promise<void> {
  await patiently(context, async () => {
    const [row] = await context.db.query<{ extraction: number }>('select pawl.restart_refresh($1, $2) as extraction', [context.run.runId, context.run.epoch])
    await dropStaging(context.db.query, stagingNames(step))
    step.extraction = row?.extraction ?? step.extraction + 1
    step.saved = {}
  })
}

/** The rows of a SELECT inside this database: one chunk, which never leaves the server. */
async function stageQuery(context: RunContext, step: Prepared, text: string): Promise<Ending> {
  const { db, run } = context
  const query = putWindow(text, windowOf(step, context.clock))
  const columns = await patiently(context, () => describeQuery(db, step.name, query))
  const staging = await prepare(context, step, { total: null, cursors: [{}], columns })
  return inBatches(context, lane =>
    db.transact(
      async on => {
        const [held] = await on<{ finished: boolean }>('select * from pawl.hold($1, $2, $3)', [run.runId, lane, run.epoch])
        if (held?.finished !== false) return { batches: 0, rows: 0, finished: true, stop: null }
        const [counted] = await on<{ rows: number }>(`with staged as (${fillSql(staging, query)} returning 1) select count(*) as rows from staged`, [])
        const rows = counted?.rows ?? 0
        const [answer] = await on<{ stop: Step['stop'] }>(`select pawl.advance_refresh($1, $2, $3, '{}', $4, true) as stop`, [run.runId, lane, run.epoch, rows])
        return { batches: 1, rows, finished: true, stop: answer?.stop ?? null }
      },
      { timeoutMs: LONG_MS },
    ),
  )
}

async function stageSource(context: RunContext, step: Prepared, lanes: number): Promise<Ending> {
  const extraction = await openSource(context, step, lanes)
  try {
    const staging = await prepare(context, step, extraction)
    const ending = await inBatches(context, chunkOf(context, extraction, staging))
    if (ending === 'finished') await save(context, step, { facts: extraction.facts() })
    return ending
  } finally {
    await extraction.close()
  }
}

/** Cuts the run into lanes and makes its staging table; a run that has lanes keeps both, when they agree. */
async function prepare(context: RunContext, step: Prepared, reading: Pick<Extraction, 'columns' | 'total' | 'cursors'>): Promise<Staging> {
  const { db, run } = context
  return patiently(context, async () => {
    const counts = await countRows(db.query, step)
    if (counts.lanes > 0) {
      if (counts.staged === counts.read) return stagingAsMade(db.query, step)
      throw new PawlError('refresh.source_changed', 'the staging table does not hold what was read')
    }
    const target = await readTarget(db.query, step.schema, step.table, step.settings.key)
    const drifted = await settleDrift(context, step.settings, target, reading.columns)
    const staging = stagingOf(step, reading.columns, drifted.altered ? await readTarget(db.query, step.schema, step.table, step.settings.key) : target)
    await db.transact(async query => {
      await query('select pawl.hold_run($1, $2)', [run.runId, run.epoch])
      await createStaging(query, staging)
      await query('select pawl.open_refresh_checkpoint($1, $2)', [run.runId, reading.total])
      await cutLanes(query, run, reading.cursors)
    })
    if (drifted.warnings.length > 0) await save(context, step, { warnings: drifted.warnings })
    return staging
  })
}

/** Keeps the window that this reading is of, so that whoever goes on with it and whoever publishes it mean the same days. */
export async function beginWindow(context: RunContext, step: Prepared): Promise<void> {
  const window = windowOf(step, context.clock)
  if (window !== undefined && step.saved.window === undefined) await patiently(context, () => save(context, step, { window }))
}

/** Keeps facts of this reading for whoever goes on with it. */
export async function save({ db, run }: RunContext, step: Prepared, facts: Record<string, unknown>): Promise<void> {
  await db.query(
    `with held as materialized (select pawl.hold_run($1, $2))
     update pawl.refresh_steps set saved = saved || $3 from held where run_id = $1`,
    [run.runId, run.epoch, JSON.stringify(facts)],
  )
  Object.assign(step.saved, facts)
}

/** Reads a chunk, then commits it with its checkpoint. The reading stands outside the transaction: a slow source holds no lock. */
function chunkOf(context: RunContext, extraction: Extraction, staging: Staging): (lane: number) => Promise<Step> {
  const { db, run, drain } = context
  const known = new Map<number, Cursor>()
  const into = `copy ${staging.relation} (${staging.columns.map(({ name }) => quoted(name)).join(', ')}) from stdin`
  return async lane => {
    const cursor = known.get(lane) ?? (await cursorOf(context, lane))
    const chunk = await extraction.read(cursor, drain)
    return db.transact(
      async (query, copy) => {
        const [held] = await query<{ cursor: Cursor; finished: boolean; same: boolean }>(
          'select h.cursor, h.finished, h.cursor = $4::jsonb as same from pawl.hold($1, $2, $3) h',
          [run.runId, lane, run.epoch, JSON.stringify(cursor)],
        )
        // The commit whose answer was lost with its connection did happen: read on from where the lane stands.
        if (held?.same !== true) {
          known.set(lane, held?.cursor ?? {})
          return { batches: 0, rows: 0, finished: held?.finished ?? true, stop: null }
        }
        const rows = chunk.rows === 0 ? 0 : await copy(into, chunk.data)
        free(chunk.data)
        if (rows !== chunk.rows) throw new Error(`the source said ${chunk.rows} rows and sent ${rows}`)
        const [answer] = await query<{ stop: Step['stop'] }>('select pawl.advance_refresh($1, $2, $3, $4, $5, $6) as stop', [
          run.runId,
          lane,
          run.epoch,
          JSON.stringify(chunk.next),
          rows,
          chunk.finished,
        ])
        known.set(lane, chunk.next)
        return { batches: 1, rows, finished: chunk.finished, stop: answer?.stop ?? null }
      },
      { timeoutMs: 300_000 },
    )
  }
}

/**
 * Gives the memory of sent rows back at once. V8 lets some 64 MB of such buffers pile up before it looks for them (measured: 70 MB less in
 * the process, and a quarter of the CPU of reading, since the next chunk finds pages that are mapped already).
 */
function free(data: readonly Uint8Array[]): void {
  for (const { buffer, byteLength } of data) {
    // Small ones may share their memory with others.
    if (byteLength > 65_536 && byteLength === buffer.byteLength && buffer instanceof ArrayBuffer) buffer.transfer(0)
  }
}

async function cursorOf({ db, run }: RunContext, lane: number): Promise<Cursor> {
  const [row] = await db.query<{ cursor: Cursor }>('select cursor from pawl.lanes where run_id = $1 and lane = $2', [run.runId, lane])
  return row?.cursor ?? {}
}

/** Every row that was checkpointed is there; then the step is marked as loaded. */
export async function isWhole(context: RunContext, step: Prepared): Promise<boolean> {
  const { db, run } = context
  return patiently(context, async () => {
    const counts = await countRows(db.query, step)
    if (counts.staged !== counts.read) return false
    await db.query(
      `with held as materialized (select pawl.hold_run($1, $2))
       update pawl.refresh_steps set loaded = true from held where run_id = $1`,
      [run.runId, run.epoch],
    )
    return true
  })
}
