import { type Ending, patiently, type RunContext } from '../../src/batches.ts'
import type { Worker } from '../../src/worker.ts'
import { settleDrift } from './drift.ts'
import { StagedRowsLost } from './judge.ts'
import { publishGroup, publishOne } from './publish.ts'
import { beginWindow, isWhole, restart, save, stage } from './stage.ts'
import { describeQuery } from './staging.ts'
import { type Prepared, prepared, type StepRow } from './step.ts'
import { readTarget } from './target.ts'
import { putWindow } from './sources/window.ts'
import { windowOf } from './window.ts'

type Start = StepRow & { outcome: 'started' | 'waits' | 'gone'; group: string | null }

/**
 * Refreshes one table (document 003): its source is read into a staging table chunk by chunk, each with its fenced checkpoint in
 * one transaction; what that would change is computed and judged; then one transaction changes the table, ends the run and
 * lets its dependents go on. Readers never wait for it and never see half.
 */
export const loadTable: Worker = {
  queue: 'refresh.load',
  async work(context, { lanes }) {
    const start = await patiently(context, async () => {
      const [row] = await context.db.query<{ start: Start }>('select pawl.start_refresh($1, $2) as start', [context.run.runId, context.run.epoch])
      if (row === undefined) throw new Error('pawl.start_refresh returned no row')
      return row.start
    })
    if (start.outcome === 'waits') return 'parked'
    if (start.outcome === 'gone') return 'gone'
    return refresh(context, prepared(start), start.group !== null, lanes)
  },
}

/** How often rows are read again that a crash of the server took between the last look at them and their publishing. */
const LOSSES_MAX = 3

async function refresh(context: RunContext, step: Prepared, grouped: boolean, lanes: number): Promise<Ending | 'parked' | 'ended'> {
  for (let losses = 0; ; losses += 1) {
    const ending = await ready(context, step, grouped, lanes, step.loaded || losses > 0)
    if (ending !== 'finished') return ending
    const stop = await stopReason(context)
    if (stop !== null) return stop
    try {
      return await (grouped ? publishGroup(context, step) : publishOne(context, step))
    } catch (error) {
      if (!(error instanceof StagedRowsLost) || error.step.run_id !== step.run_id || losses === LOSSES_MAX) throw error
      context.log.warn({ table: step.name }, 'staged rows were lost before they were published, reading again')
    }
  }
}

async function ready(context: RunContext, step: Prepared, grouped: boolean, lanes: number, wasLoaded: boolean): Promise<Ending> {
  const { settings } = step
  if (!grouped || settings.source !== 'sql') return loaded(context, step, lanes, wasLoaded)
  // A query of a group may read what the group is about to publish: it is run where that stands, in the publishing transaction.
  await settleLate(context, step, settings.query)
  return 'finished'
}

/** Its rows are staged: by an attempt before this one, where they still are there, or now. */
async function loaded(context: RunContext, step: Prepared, lanes: number, wasLoaded: boolean): Promise<Ending> {
  if (wasLoaded) {
    if (await isWhole(context, step)) return 'finished'
    await restart(context, step)
  }
  return stage(context, step, lanes).catch(error => {
    // A reading that was broken off because this worker is to leave: nothing failed.
    if (context.drain.aborted && (error as Error).name === 'AbortError') return 'drain'
    throw error
  })
}

async function settleLate(context: RunContext, step: Prepared, text: string): Promise<void> {
  await beginWindow(context, step)
  const query = putWindow(text, windowOf(step, context.clock))
  await patiently(context, async () => {
    const columns = await describeQuery(context.db, step.name, query)
    const target = await readTarget(context.db.query, step.schema, step.table, step.settings.key)
    const { warnings } = await settleDrift(context, step.settings, target, columns)
    if (warnings.length > 0) await save(context, step, { warnings })
  })
}

/** Publishing is one act: the last place to stop is before it. */
async function stopReason({ db, run, drain }: RunContext): Promise<'cancel' | 'pause' | 'drain' | null> {
  if (drain.aborted) return 'drain'
  const [row] = await db.query<{ stop: 'cancel' | 'pause' | null }>('select pawl.stop_reason($1) as stop', [run.runId])
  return row?.stop ?? null
}
