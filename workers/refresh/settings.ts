import { z } from 'zod'
import { PawlError } from '../../src/errors.ts'
import { bigquerySettings } from './sources/bigquery.ts'
import { duckdbSettings } from './sources/duckdb.ts'
import { postgresSettings } from './sources/postgres.ts'

const breach = { on_breach: z.enum(['block', 'warn']).default('block') }
const range = { min: z.number().optional(), max: z.number().optional() }
const column = z.string().min(1)

/** What is measured of the staged rows before they are published. `on_breach: block` leaves the table as it is. */
export const qualityCheck = z.discriminatedUnion('check', [
  z.strictObject({ check: z.literal('row_count'), ...range, ...breach }),
  // Against the median of the last seven published refreshes, in percent of it.
  z.strictObject({ check: z.literal('row_change'), max_percent: z.number().positive(), ...breach }),
  z.strictObject({ check: z.literal('deleted_ratio'), max: z.number().min(0).max(1), ...breach }),
  z.strictObject({ check: z.literal('null_ratio'), column, max: z.number().min(0).max(1), ...breach }),
  z.strictObject({ check: z.literal('unique'), columns: z.array(column).min(1), ...breach }),
  z.strictObject({ check: z.literal('freshness'), column, max_age_hours: z.number().positive(), ...breach }),
  z.strictObject({ check: z.literal('range'), column, ...range, ...breach }),
  // A SELECT of one number; {staging} stands for the staged rows.
  z.strictObject({
    check: z.literal('sql'),
    name: z.string().regex(/^\w{1,60}$/),
    query: z.string().min(1),
    expected: z.number().optional(),
    ...range,
    ...breach,
  }),
])
export type QualityCheck = z.infer<typeof qualityCheck>

const sqlSettings = z.object({ source: z.literal('sql'), query: z.string().min(1) })

const common = {
  /** Columns that identify a row; the table's primary key when left out. */
  key: z.array(column).min(1).optional(),
  strategy: z.enum(['merge', 'window', 'append']).default('merge'),
  /** What `window` replaces: rows whose column lies in [from, to], or in the last so many days up to today (UTC). */
  window: z
    .strictObject({ column, from: z.string().optional(), to: z.string().optional(), days: z.int().positive().optional() })
    .refine(({ from, to, days }) => (days === undefined ? from !== undefined && to !== undefined : from === undefined && to === undefined), {
      error: 'give days, or from and to',
    })
    .optional(),
  quality: z.array(qualityCheck).default([]),
  /** New columns of the source: `add` them (nullable), `ignore` them with a warning, or `fail`. */
  drift: z.enum(['add', 'ignore', 'fail']).default('add'),
  /** Whether a column may be widened where that rewrites the table. */
  allow_rewrite: z.boolean().default(false),
  /** Tables of one plan with the same group are published in one transaction. Read by the planner. */
  publish_group: z.string().min(1).max(100).optional(),
  chunk_bytes: z.int().min(1_000).max(64_000_000).default(2_500_000),
}

const settings = z
  .discriminatedUnion('source', [
    bigquerySettings.extend(common).strict(),
    duckdbSettings.extend(common).strict(),
    postgresSettings.extend({ ...common, key: common.key }).strict(),
    sqlSettings.extend(common).strict(),
  ])
  .refine(given => (given.strategy === 'window') === (given.window !== undefined), {
    error: 'strategy "window" and the setting "window" belong together',
    path: ['window'],
  })

/** How one table is refreshed: its `custom_sync_params`, checked. */
export type Settings = z.infer<typeof settings>

/** Checks `custom_sync_params`. Throws `refresh.settings`, naming each setting that is wrong. */
export function readSettings(table: string, params: unknown): Settings {
  const parsed = settings.safeParse(params)
  if (parsed.success) return parsed.data
  const problems = parsed.error.issues.map(issue => `${issue.path.join('.') || 'custom_sync_params'}: ${issue.message}`)
  throw new PawlError('refresh.settings', `the settings of ${table} are not usable: ${problems.join('; ')}`, {
    hint: `correct custom_sync_params of ${table} in sqp.refresh_config; docs/refresh.md lists them all`,
  })
}
