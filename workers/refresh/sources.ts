import { patiently, type RunContext } from '../../src/batches.ts'
import { classify, messageOf, PawlError } from '../../src/errors.ts'
import { backoffMs } from '../../src/retry.ts'
import type { Extraction, SourceContext } from './source.ts'
import { openBigquery } from './sources/bigquery.ts'
import { openDuckdb } from './sources/duckdb.ts'
import { openPostgres } from './sources/postgres.ts'
import type { Prepared } from './step.ts'
import { windowOf } from './window.ts'

/** Tries of a source that is out of reach, over about two minutes, before it counts as a failure of the refresh. */
const TRIES_MAX = 10

/** The reading can't be gone on with, because what it reads has changed or is gone; another one can begin. */
export function isStale(error: unknown): error is PawlError {
  return error instanceof PawlError && (error.code === 'refresh.source_expired' || error.code === 'refresh.source_changed')
}

/** Opens the step's source. Passing errors are waited out for a while; then they fail the attempt, which pg-boss brings again later. */
export async function openSource(context: RunContext, step: Prepared, lanes: number): Promise<Extraction> {
  const { settings } = step
  const given = contextOf(context, step, lanes)
  const extraction = await persistently(context, step, () => {
    switch (settings.source) {
      case 'bigquery':
        return openBigquery(settings, given)
      case 'duckdb':
        return openDuckdb(settings, given)
      case 'postgres':
        return openPostgres(settings, given)
      case 'sql':
        throw new Error('a query inside the database has no source to open')
    }
  })
  return { ...extraction, read: (cursor, signal) => persistently(context, step, () => extraction.read(cursor, signal)) }
}

function contextOf(context: RunContext, step: Prepared, lanes: number): SourceContext {
  const { db, run, config, log, clock, drain } = context
  return {
    name: `pawl_${step.refresh_run}_${step.config_id}_${step.extraction}`,
    table: step.name,
    refreshRun: step.refresh_run,
    saved: step.saved,
    async remember(facts) {
      await patiently(context, () => db.query('select pawl.remember_refresh($1, $2, $3)', [run.runId, run.epoch, JSON.stringify(facts)]))
      Object.assign(step.saved, facts)
    },
    window: windowOf(step, clock),
    lanes,
    chunkBytes: step.settings.chunk_bytes,
    config,
    log,
    clock,
    signal: drain,
  }
}

async function persistently<Result>({ log, clock, drain }: RunContext, step: Prepared, work: () => Promise<Result>): Promise<Result> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work()
    } catch (error) {
      if (isStale(error) || drain.aborted || classify(error) !== 'transient') throw error
      // Without its code, which would have the engine wait for ever as it does for the database.
      if (attempt === TRIES_MAX) throw new Error(`the source of ${step.name} failed ${attempt} times in a row, the last: ${messageOf(error)}`)
      const waitMs = backoffMs(attempt, 200, 30_000)
      log.warn({ attempt, wait_ms: waitMs, reason: messageOf(error) }, 'source met a passing error, trying again')
      await clock.sleep(waitMs, drain)
    }
  }
}
