import type { RunContext } from '../../src/batches.ts'
import type { Query } from '../../src/database.ts'
import { PawlError } from '../../src/errors.ts'
import { type Comparison, differenceSql } from './difference.ts'
import { checkQuality } from './quality.ts'
import { countRows, type Staging, stagingAsMade } from './staging.ts'
import type { Prepared } from './step.ts'
import { quoted } from '../../src/names.ts'
import { readTarget, type Target } from './target.ts'
import { type Window, windowOf, withinSql } from './window.ts'

/** What a refresh does to its table, known before anything is written. */
export type Counts = { processed: number; inserted: number; updated: number; deleted: number; unchanged: number }

/** A difference that was computed and judged, ready to be applied. `first`: the table is empty, and takes the staged rows as they are. */
export type Judged = { step: Prepared; staging: Staging; comparison: Comparison; counts: Counts; warnings: string[]; first: boolean }

/** The staging table does not hold the rows that were read into it. */
export class StagedRowsLost extends Error {
  readonly step: Prepared

  constructor(step: Prepared) {
    super(`the staged rows of ${step.name} were lost`)
    this.step = step
  }
}

/**
 * Types whose `=` tells values apart as people would: 1.0 is 1.00. Others are compared as text, because they have no `=` (json, xml) or one
 * that takes different values for the same: citext its cases, box its areas, interval a day and 24 hours.
 */
const COMPARABLE = new RegExp(
  `^(boolean|smallint|integer|bigint|real|double precision|numeric|text|character varying|character|bytea|uuid|date|time|timestamp|jsonb|inet|cidr
  |(date|ts|tstz|num|int4|int8)range)(\\([\\d,-]+\\))?( with(out)? time zone)?(\\[\\])?$`.replaceAll(/\n\s+/g, ''),
)

/** Compares what was staged with the table, measures, judges. Writes the difference and the measurements, and nothing else. */
export async function judge(query: Query, context: RunContext, step: Prepared): Promise<Judged> {
  const { settings } = step
  const target = await readTarget(query, step.schema, step.table, settings.key)
  const staging = await stagingAsMade(query, step)
  if (settings.strategy !== 'append' && target.key.length === 0) {
    throw new PawlError('refresh.key', `${step.name} has no primary key to compare rows by`, {
      hint: 'add one, name a unique "key" in custom_sync_params, or use "strategy": "append"',
    })
  }
  const { staged: rows, read, lanes } = await countRows(query, step)
  // A query of a group, which was just run, has no checkpoints.
  if (rows === null || (lanes > 0 && rows !== read)) throw new StagedRowsLost(step)
  await query(`set local work_mem = '128MB'`)
  // The planner expects every row to differ, and then shuns handing them over from parallel workers: a third more time for the join.
  await query('set local parallel_tuple_cost = 0')
  refuseMissingKeys(step, staging, target)
  const compares = settings.strategy === 'merge' && !target.empty
  if (!compares) await refuseBadKeys(query, step, staging, target)
  const window = windowOf(step, context.clock)
  if (window !== undefined) await refuseOutside(query, step, staging, window)
  const comparison = comparisonOf(step, staging, target, window)
  const counts = target.empty ? { processed: rows, inserted: rows, updated: 0, deleted: 0, unchanged: 0 } : await compare(query, comparison, rows)
  if (compares && !(await isOneToOne(query, comparison, counts))) await refuseBadKeys(query, step, staging, target)
  const breaches =
    settings.quality.length === 0
      ? []
      : await checkQuality(query, context.db.query, settings.quality, {
          table: step.name,
          configId: step.config_id,
          auditId: step.audit_id,
          relation: staging.relation,
          rows,
          deleted: counts.deleted,
          targetRows: counts.deleted + counts.updated + counts.unchanged,
        })
  const drifted = (step.saved.warnings as string[] | undefined) ?? []
  return { step, staging, comparison, counts, first: target.empty, warnings: [...drifted, ...breaches] }
}

async function compare(query: Query, comparison: Comparison, rows: number): Promise<Counts> {
  await query(`drop table if exists ${comparison.difference}`)
  await query(differenceSql(comparison))
  // Without it the update would be planned for a two-hundredth of its rows.
  await query(`analyze ${comparison.difference} (pawl_action)`)
  const [found] = await query<{ inserted: number; updated: number; deleted: number }>(
    `select count(*) filter (where pawl_action = 'i') as inserted, count(*) filter (where pawl_action = 'u') as updated,
       count(*) filter (where pawl_action = 'd') as deleted
     from ${comparison.difference}`,
  )
  const { inserted = 0, updated = 0, deleted = 0 } = found ?? {}
  return { processed: rows, inserted, updated, deleted, unchanged: rows - inserted - updated }
}

/**
 * Whether each staged row met one row of the table at most, and no other staged row: seen from counts, for a tenth of what grouping all staged
 * rows by their key costs. False as well where someone has just written the table.
 */
async function isOneToOne(query: Query, { relation, difference, key }: Comparison, counts: Counts): Promise<boolean> {
  const columns = key.map(quoted)
  const [row] = await query<{ rows: number; bad: number }>(
    `select (select count(*) from ${relation}) as rows,
       (select count(*) from ${difference} where ${columns.map(column => `${column} is null`).join(' or ')})
       + (select count(*) from (select from ${difference} where pawl_action = 'i' group by ${columns.join(', ')} having count(*) > 1) twice) as bad`,
  )
  return row?.bad === 0 && row.rows === counts.unchanged + counts.updated + counts.deleted
}

function comparisonOf(step: Prepared, staging: Staging, target: Target, window: Window | undefined): Comparison {
  const shared = staging.columns.filter(column => target.columns.some(({ name, computed }) => name === column.name && !computed))
  return {
    staging: staging.relation,
    difference: staging.difference,
    relation: target.relation,
    key: target.key,
    columns: shared.map(({ name, type }) => ({ name, comparable: COMPARABLE.test(type) })),
    strategy: step.settings.strategy,
    within: window === undefined ? undefined : withinSql(window),
  }
}

function refuseMissingKeys(step: Prepared, staging: Staging, target: Target): void {
  const missing = target.key.filter(name => !staging.columns.some(column => column.name === name))
  if (missing.length === 0) return
  throw new PawlError('refresh.key', `the source of ${step.name} delivers no ${missing.join(', ')}, which its key needs`, {
    hint: 'deliver it, or name another unique "key" in custom_sync_params',
  })
}

async function refuseBadKeys(query: Query, step: Prepared, staging: Staging, target: Target): Promise<void> {
  if (target.key.length === 0) return
  const columns = target.key.map(quoted)
  const [bad] = await query<{ key: string; times: number }>(
    `select concat_ws(', ', ${columns.map(column => `coalesce(${column}::text, 'null')`).join(', ')}) as key, count(*) as times
     from ${staging.relation} group by ${columns.join(', ')}
     having count(*) > 1 or ${columns.map(column => `${column} is null`).join(' or ')} limit 1`,
  )
  if (bad === undefined) return
  throw new PawlError('refresh.key', `the source of ${step.name} delivers the key (${target.key.join(', ')}) = (${bad.key}) ${bad.times} times`, {
    hint: 'a key must be there once and not be null; mend the source or its query, then retry the run; the table is as it was',
  })
}

async function refuseOutside(query: Query, step: Prepared, staging: Staging, window: Window): Promise<void> {
  const [outside] = await query<{ rows: number }>(`select count(*) as rows from ${staging.relation} where (${withinSql(window)}) is not true`)
  if (outside === undefined || outside.rows === 0) return
  throw new PawlError('refresh.window', `${outside.rows} rows of ${step.name} lie outside the window ${window.column} ${window.from} to ${window.to}`, {
    hint: 'limit the query with {window_from} and {window_to}; the table is as it was',
  })
}
