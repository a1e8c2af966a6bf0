import type { Query } from '../../src/database.ts'
import { codeOf, messageOf, PawlError } from '../../src/errors.ts'
import type { QualityCheck } from './settings.ts'
import { quoted } from '../../src/names.ts'

/** What the staged rows are and would do: what the checks measure. */
export type Staged = { table: string; configId: number; auditId: number; relation: string; rows: number; deleted: number; targetRows: number }

/** One measurement, as sqp.refresh_data_quality keeps it. `value` is null where there was nothing to measure, which `nothing` allows or not. */
export type Metric = {
  name: string
  value: number | string | null
  expected: number | null
  min: number | null
  max: number | null
  blocks: boolean
  nothing: boolean
}

/**
 * Measures what the settings ask for, stores each with what was allowed, and returns a warning for each breach that may pass.
 * `keep` stands outside the transaction that reads: measurements of a refresh that is not published stay.
 * Throws `refresh.quality` when one that blocks was breached; the measurements stay, the table is as it was.
 */
export async function checkQuality(query: Query, keep: Query, checks: readonly QualityCheck[], staged: Staged): Promise<string[]> {
  const metrics: Metric[] = []
  for (const check of checks) metrics.push(await measurable(staged, check, () => measure(query, check, staged)))
  const judged = await keep<{ within: boolean }>(
    // An attempt that compares twice keeps what it measured last.
    `with forgotten as (delete from sqp.refresh_data_quality where audit_log_id = $1)
     insert into sqp.refresh_data_quality (audit_log_id, metric_name, metric_value, expected_value, threshold_min, threshold_max, is_within_threshold)
     select $1, m.name, m.value, m.expected, m.min, m.max,
       -- NaN is the greatest of all numbers here: it would be at least anything.
       coalesce(m.value <> 'NaN' and m.value >= coalesce(m.min, m.value) and m.value <= coalesce(m.max, m.value), m.nothing)
     from jsonb_to_recordset($2::jsonb) m (place integer, name text, value numeric, expected numeric, min numeric, max numeric, nothing boolean)
     order by m.place
     returning is_within_threshold as within`,
    [staged.auditId, JSON.stringify(metrics.map((metric, place) => ({ ...metric, place })))],
  )
  const breaches = judged.flatMap((row, place) => {
    const metric = metrics[place]
    return row.within || metric === undefined ? [] : [{ metric, text: breachOf(metric) }]
  })
  const blocking = breaches.filter(({ metric }) => metric.blocks).map(({ text }) => text)
  if (blocking.length > 0) {
    throw new PawlError('refresh.quality', `${staged.table} was not published: ${blocking.join('; ')}`, {
      hint: 'mend the source and retry the run, or change "quality" in custom_sync_params; the table is as it was',
    })
  }
  return breaches.map(({ text }) => text)
}

/** A check that names what isn't there, or can't be computed, is a mistake in the settings: trying again would not mend it. */
async function measurable(staged: Staged, check: QualityCheck, work: () => Promise<Metric>): Promise<Metric> {
  try {
    return await work()
  } catch (error) {
    if (!/^(2[12]|42|0A)/.test(codeOf(error) ?? '')) throw error
    throw new PawlError(
      'refresh.quality',
      `check ${check.check === 'sql' ? check.name : check.check} of ${staged.table} can not be measured: ${messageOf(error)}`,
      {
        hint: 'correct "quality" in custom_sync_params, then retry the run; the table is as it was',
        cause: error,
      },
    )
  }
}

function breachOf({ name, value, min, max }: Metric): string {
  const bounds = [min === null ? '' : `at least ${min}`, max === null ? '' : `at most ${max}`].filter(text => text !== '').join(' and ')
  return `${name} is ${value ?? 'not known'}, allowed is ${bounds === '' ? 'any value' : bounds}`
}

async function measure(query: Query, check: QualityCheck, staged: Staged): Promise<Metric> {
  const blocks = check.on_breach === 'block'
  const metric = (name: string, value: number | string | null, bounds: Partial<Pick<Metric, 'expected' | 'min' | 'max'>>): Metric => ({
    name,
    value,
    expected: null,
    min: null,
    max: null,
    blocks,
    nothing: false,
    ...bounds,
  })
  const one = async (expression: string, from = staged.relation) => {
    const [row] = await query<{ value: number | string | null }>(`select (${expression})::numeric as value from ${from}`)
    return row?.value ?? null
  }
  switch (check.check) {
    case 'row_count':
      return metric('row_count', staged.rows, bounds(check))
    case 'row_change': {
      const usual = await usualRows(query, staged.configId)
      const percent = usual === null || usual === 0 ? 0 : Math.round((Math.abs(staged.rows - usual) / usual) * 10_000) / 100
      return metric('row_change_percent', percent, { expected: usual, max: check.max_percent })
    }
    case 'deleted_ratio':
      return metric('deleted_ratio', staged.targetRows === 0 ? 0 : staged.deleted / staged.targetRows, { max: check.max })
    case 'null_ratio':
      return metric(`null_ratio:${check.column}`, await one(`coalesce(avg((${quoted(check.column)} is null)::integer), 0)`), { max: check.max })
    case 'unique': {
      const columns = check.columns.map(quoted).join(', ')
      const repeated = `(select count(*) - 1 as more from ${staged.relation} group by ${columns} having count(*) > 1) repeated`
      return metric(`repeated:${check.columns.join(',')}`, await one('coalesce(sum(more), 0)', repeated), { expected: 0, max: 0 })
    }
    case 'freshness':
      return metric(`age_hours:${check.column}`, await one(`extract(epoch from now() - max(${quoted(check.column)})::timestamptz) / 3600`), {
        max: check.max_age_hours,
      })
    case 'range': {
      const column = quoted(check.column)
      // A value that lies outside, or the smallest when all lie inside; where there is no value, none lies outside.
      const outside = [...(check.max === undefined ? [] : [`case when max(${column}) > ${check.max} then max(${column}) end`]), `min(${column})`]
      return { ...metric(`range:${check.column}`, await one(`coalesce(${outside.join(', ')})`), bounds(check)), nothing: true }
    }
    case 'sql': {
      const [row] = await query<{ value: number | string | null }>(
        `select (${check.query.replaceAll('{staging}', staged.relation)}\n)::numeric as value where $1`,
        // A parameter makes the server take one statement only.
        [true],
      )
      return metric(check.name, row?.value ?? null, { ...bounds(check), expected: check.expected ?? null, ...exactly(check) })
    }
  }
}

function bounds({ min, max }: { min?: number | undefined; max?: number | undefined }): { min: number | null; max: number | null } {
  return { min: min ?? null, max: max ?? null }
}

/** A query with an expected value and no bounds must give that value. */
function exactly({ expected, min, max }: { expected?: number | undefined; min?: number | undefined; max?: number | undefined }) {
  return expected === undefined || min !== undefined || max !== undefined ? {} : { min: expected, max: expected }
}

/** The median of the last seven published refreshes; null when there are none. An outlier among them moves it little. */
async function usualRows(query: Query, configId: number): Promise<number | null> {
  const [row] = await query<{ usual: number | null }>(
    `select percentile_cont(0.5) within group (order by recent.rows_processed)::float8 as usual
     from (
       select a.rows_processed from sqp.refresh_audit_log a
       where a.refresh_config_id = $1 and a.status in ('success', 'warning') and a.rows_processed is not null
       order by a.refresh_started_at desc limit 7
     ) recent`,
    [configId],
  )
  return row?.usual ?? null
}
