import { z } from 'zod'
import { PawlError } from '../../src/errors.ts'

// Names go into statements only as quoted identifiers of columns that exist; what no identifier can hold is refused here.
const name = z.string().regex(/^[^\p{Cc}]{1,63}$/u, 'must be a name of 1 to 63 characters')
// A byte order mark may stand first in a CSV file, and what follows it would be a formula in spite of the apostrophe it lacks.
const label = z
  .string()
  .min(1)
  .max(200)
  .regex(/^(?!\uFEFF)/u, 'must not begin with a byte order mark')
const scalar = z.union([z.string(), z.number(), z.boolean()])

const column = z.union([
  name.transform(given => ({ name: given, hidden: false })),
  z.strictObject({
    name,
    /** What it is called in the result; the name of the column when left out. Two aggregates of one column need two names. */
    as: name.and(label).optional(),
    label: label.optional(),
    aggregate: z.enum(['sum', 'avg', 'min', 'max', 'count', 'count_distinct']).optional(),
    /** Cuts a date or timestamp down to its day, week … */
    bucket: z.enum(['hour', 'day', 'week', 'month', 'quarter', 'year']).optional(),
    /** Declared for filters and order, not shown. */
    hidden: z.boolean().default(false),
  }),
])

const operators = ['=', '!=', '<', '<=', '>', '>=', 'in', 'not_in', 'contains', 'starts_with', 'is_null', 'is_not_null'] as const
const filter = z
  .strictObject({ column: name, operator: z.enum(operators).default('='), parameter: name.optional(), value: z.union([scalar, z.array(scalar)]).optional() })
  .refine(given => given.operator.startsWith('is_') === (given.parameter === undefined && given.value === undefined), {
    error: 'give a parameter or a value (and neither to is_null and is_not_null)',
  })
  .refine(given => given.parameter === undefined || given.value === undefined, { error: 'give a parameter or a value, not both' })
  .refine(given => given.value === undefined || Array.isArray(given.value) === (given.operator === 'in' || given.operator === 'not_in'), {
    error: 'in and not_in take a list, the others one value',
  })
  .refine(given => given.value === undefined || /^(not_)?in$/.test(given.operator) === Array.isArray(given.value), {
    error: 'the value of in and not_in is a list, that of the others is none',
  })

const order = z.union([
  name.transform(given => ({ column: given, direction: 'asc' as const })),
  z.strictObject({ column: name, direction: z.enum(['asc', 'desc']).default('asc') }),
])

const dataset = {
  /** `schema.table`, or a table of `public`: a table or view that pawl_report may read. */
  source: z.string().min(1).max(130),
  columns: z.array(column).min(1).max(200).optional(),
  filters: z.array(filter).max(50).default([]),
  order_by: z.array(order).max(20).default([]),
  limit: z.int().positive().optional(),
  /** Columns that identify a row and are never null, for views: large results are then read page by page. A table's primary key is known. */
  key: z.array(name).min(1).max(10).optional(),
}
const chart = z.strictObject({
  kind: z.enum(['bar', 'line', 'area', 'pie']).default('bar'),
  x: name,
  y: z.union([name.transform(given => [given]), z.array(name).min(1).max(12)]),
  stacked: z.boolean().default(false),
})
const title = { title: label.optional() }
const metricBlock = z.strictObject({ type: z.literal('metric'), ...title, ...dataset })
const tableBlock = z.strictObject({ type: z.literal('table'), ...title, ...dataset })
const chartBlock = z.strictObject({ type: z.literal('chart'), ...title, ...dataset, chart })
/** `{{name}}` stands for a parameter's value. */
const textBlock = z.strictObject({ type: z.literal('text'), ...title, text: z.string().max(20_000) })

/** A part as a structure gives it. */
type GivenPart = {
  type: 'metric' | 'table' | 'chart'
  title?: string | undefined
  source: string
  columns?: PartColumn[] | undefined
  filters: Filter[]
  order_by: { column: string; direction: 'asc' | 'desc' }[]
  limit?: number | undefined
  key?: string[] | undefined
  chart?: z.infer<typeof chart> | undefined
}

const structures: Readonly<Record<string, z.ZodType<(TextPart | GivenPart)[]>>> = {
  tabular: z.strictObject(dataset).transform(given => [{ type: 'table' as const, ...given }]),
  chart: z.strictObject({ ...dataset, chart }).transform(given => [{ type: 'chart' as const, ...given }]),
  dashboard: z
    .strictObject({
      blocks: z
        .array(z.discriminatedUnion('type', [metricBlock, tableBlock, chartBlock]))
        .min(1)
        .max(50),
    })
    .transform(given => given.blocks),
  custom: z
    .strictObject({
      blocks: z
        .array(z.discriminatedUnion('type', [textBlock, metricBlock, tableBlock, chartBlock]))
        .min(1)
        .max(100),
    })
    .transform(given => given.blocks),
}

export type TextPart = z.infer<typeof textBlock>
/** A part of a template, checked; its columns are those of the structure or, without any there, the template's fields. */
export type DataPart = GivenPart & { columns: PartColumn[] }
export type PartColumn = {
  name: string
  hidden: boolean
  as?: string | undefined
  label?: string | undefined
  aggregate?: 'sum' | 'avg' | 'min' | 'max' | 'count' | 'count_distinct' | undefined
  bucket?: string | undefined
}
export type Filter = z.infer<typeof filter>

/** What a report may cost. `seconds` is of one statement. */
export type Limits = { rows: number; bytes: number; seconds: number }

const limitsOfAll: Limits = { rows: 5_000_000, bytes: 4_000_000_000, seconds: 600 }
// Without defaults: what a report leaves out is its template's.
const limits = z.strictObject({ rows: z.int().positive().optional(), bytes: z.int().positive().optional(), seconds: z.int().positive().max(86_400).optional() })
const configuration = z.looseObject({
  limits: limits.default({}),
  /** Dates and times are written in it; UTC when left out. */
  timezone: z.string().min(1).max(50).optional(),
})

/** A template's row, as `pawl.start_report` gives it. */
export type TemplateRow = {
  type: string
  structure: unknown
  configuration: unknown
  fields: { name: string; type: string; configuration: unknown }[]
}

export type Template = { parts: (TextPart | DataPart)[]; limits: Limits; timezone: string }

/**
 * Checks a template (document 001: tabular, chart, dashboard, custom) and the report's configuration over it.
 * Throws `report.template`, naming each part that is wrong.
 */
export function readTemplate(row: TemplateRow, reportConfiguration: unknown): Template {
  const structure = structures[row.type]
  if (structure === undefined) throw wrong([`template_type: there is no "${row.type}"`])
  const parts = checked('structure', structure, row.structure)
  const fields = row.fields.map(field => checked(`field "${field.name}"`, column, { ...(field.configuration as object), name: field.name }))
  const own = checked('configuration of the template', configuration, row.configuration)
  const over = checked('configuration of the report', configuration, reportConfiguration)
  return {
    parts: parts.map(part => (part.type === 'text' ? part : declared(part, fields))),
    limits: { ...limitsOfAll, ...own.limits, ...over.limits } as Limits,
    timezone: over.timezone ?? own.timezone ?? 'UTC',
  }
}

/** Every name in a part must be one that its template declares: the fields' where it has any, the part's own columns' otherwise. */
function declared(part: GivenPart, fields: PartColumn[]): DataPart {
  const columns = part.columns?.map(given => ({ ...fields.find(field => field.name === given.name), ...given })) ?? fields
  if (columns.every(given => given.hidden)) throw wrong([`the part that reads ${part.source} shows no columns; list them in "columns" or in template_fields`])
  const shown = columns.filter(given => !given.hidden).map(resultName)
  const known = new Set((fields.length > 0 ? fields : columns).map(given => given.name))
  const strangers = [
    ...columns.map(given => given.name).filter(given => !known.has(given)),
    ...part.filters.map(given => given.column).filter(given => !known.has(given)),
    ...part.order_by.map(given => given.column).filter(given => !known.has(given) && !shown.includes(given)),
    ...(part.chart === undefined ? [] : [part.chart.x, ...part.chart.y].filter(given => !shown.includes(given))),
  ]
  if (strangers.length > 0) {
    throw wrong([`the part that reads ${part.source} names ${strangers.map(each => JSON.stringify(each)).join(', ')}, which the template does not declare`])
  }
  const twice = shown.find((each, place) => shown.indexOf(each) !== place)
  if (twice !== undefined) throw wrong([`two columns of ${part.source} are called "${twice}"; give one of them "as"`])
  if (part.type === 'metric' && !columns.every(given => given.hidden || given.aggregate !== undefined)) {
    throw wrong([`the metric that reads ${part.source} has a column without an aggregate`])
  }
  return { ...part, columns }
}

/** What a column is called in the result. */
export function resultName(column: PartColumn): string {
  return column.as ?? column.name
}

function checked<Output>(what: string, schema: z.ZodType<Output>, given: unknown): Output {
  const parsed = schema.safeParse(given)
  if (parsed.success) return parsed.data
  throw wrong(parsed.error.issues.map(issue => `${[what, ...issue.path].join('.')}: ${issue.message}`))
}

function wrong(problems: string[]): PawlError {
  return new PawlError('report.template', `the report's template is not usable: ${problems.join('; ')}`, {
    hint: 'correct reporting.templates; docs/reports.md lists what a structure may hold',
  })
}
