import { PawlError } from '../../src/errors.ts'
import { quoted } from '../../src/names.ts'
import { type DataPart, type Filter, type PartColumn, resultName } from './template.ts'

/** A table or view that a report reads: the types of its columns as PostgreSQL writes them, and what identifies a row, if anything is known to. */
export type Relation = { schema: string; name: string; types: ReadonlyMap<string, string>; primaryKey: readonly string[] }

/**
 * One read-only statement, in pieces. No value ever stands in its text: each is a setting of the session, bound as a parameter when
 * it is set, and read where it is needed by current_setting and a cast. COPY takes no parameters of its own.
 */
export type Statement = {
  /** What it reads, for messages. */
  source: string
  /** The result's columns, in order: name, and label for people. */
  columns: readonly { name: string; label: string }[]
  select: string
  from: string
  where: readonly string[]
  groupBy: string
  orderBy: string
  limit: number | undefined
  /** Settings the text refers to. */
  settings: Readonly<Record<string, string>>
  /** What pages are cut by; undefined when the result can only be read in one go. */
  key: readonly { column: string; type: string }[] | undefined
}

/** Builds the statement of a part. `parameters` are text of their declared types. Throws `report.statement` for columns that are not there. */
export function statementOf(
  part: DataPart,
  relation: Relation,
  parameters: Readonly<Record<string, string>>,
  declared: Readonly<Record<string, unknown>>,
): Statement {
  const shown = part.columns.filter(column => !column.hidden)
  for (const { name } of part.columns) typeOf(relation, name)
  const settings: Record<string, string> = {}
  const bind = (value: string) => {
    const name = `pawl.parameter_${Object.keys(settings).length + 1}`
    settings[name] = value
    return `current_setting('${name}')`
  }
  const where = part.filters.flatMap(filter => condition(filter, relation, parameters, declared, bind))
  const grouped = shown.some(column => column.aggregate !== undefined)
  const keys = part.key ?? relation.primaryKey
  const keyed = !grouped && part.order_by.length === 0 && part.type === 'table' && keys.length > 0
  return {
    source: `${relation.schema}.${relation.name}`,
    columns: shown.map(column => ({ name: resultName(column), label: column.label ?? resultName(column) })),
    select: shown.map(column => `${expression(column, relation)} as ${quoted(resultName(column))}`).join(', '),
    from: `${quoted(relation.schema)}.${quoted(relation.name)} r`,
    where,
    groupBy: grouped ? grouping(shown) : '',
    orderBy: keyed ? ` order by ${keys.map(ofRow).join(', ')}` : ordering(part, shown, grouped),
    limit: part.limit,
    settings,
    // Read by key, a result can be taken up again behind any of its rows.
    key: keyed && part.limit === undefined ? keys.map(column => ({ column, type: typeOf(relation, column) })) : undefined,
  }
}

/** The whole result, `most` rows of it at most. */
export function wholeText(statement: Statement, most: number): string {
  return `select ${statement.select} from ${statement.from}${whereText(statement.where)}${statement.groupBy}${statement.orderBy} limit ${Math.min(most, statement.limit ?? most)}`
}

/** The settings that hold the key after which a page begins, and at which it ends. */
export function keySettings(edge: 'after' | 'upto', key: readonly string[]): Record<string, string> {
  return Object.fromEntries(key.map((value, place) => [`pawl.${edge}_${place + 1}`, value]))
}

/** The key of the page's last row, as text; no row when fewer than `rows` are left. */
export function pageEndText(statement: Statement, rows: number, isFirst: boolean): string {
  const key = statement.key ?? []
  const names = key.map(({ column }) => ofRow(column)).join(', ')
  const values = key.map(({ column }) => `${ofRow(column)}::text`).join(', ')
  const where = whereText([...statement.where, ...(isFirst ? [] : [beyond(key, '>', 'after')])])
  return `select array[${values}] as key from ${statement.from}${where} order by ${names} offset ${rows - 1} limit 1`
}

/** A page of the result, in the key's order. */
export function pageText(statement: Statement, isFirst: boolean, isLast: boolean, most: number): string {
  const key = statement.key ?? []
  const where = [...statement.where, ...(isFirst ? [] : [beyond(key, '>', 'after')]), ...(isLast ? [] : [beyond(key, '<=', 'upto')])]
  return `select ${statement.select} from ${statement.from}${whereText(where)} order by ${key.map(({ column }) => ofRow(column)).join(', ')} limit ${most}`
}

function beyond(key: readonly { column: string; type: string }[], operator: string, edge: string): string {
  const values = key.map(({ type }, place) => `current_setting('pawl.${edge}_${place + 1}')::${type}`)
  return `(${key.map(({ column }) => ofRow(column)).join(', ')}) ${operator} (${values.join(', ')})`
}

/** A column of the relation. Unqualified, ORDER BY takes the result's column of that name, which may be another one, cut or counted. */
function ofRow(column: string): string {
  return `r.${quoted(column)}`
}

function whereText(conditions: readonly string[]): string {
  return conditions.length === 0 ? '' : ` where ${conditions.join(' and ')}`
}

function typeOf(relation: Relation, column: string): string {
  const type = relation.types.get(column)
  if (type !== undefined) return type
  throw new PawlError('report.statement', `${relation.schema}.${relation.name} has no column "${column}"`, {
    hint: `its columns are ${[...relation.types.keys()].join(', ')}`,
  })
}

function expression(column: PartColumn, relation: Relation): string {
  const own = quoted(column.name)
  const type = typeOf(relation, column.name)
  const cut = column.bucket === undefined ? own : `date_trunc('${column.bucket}', ${own})${type === 'date' && column.bucket !== 'hour' ? '::date' : ''}`
  switch (column.aggregate) {
    case undefined:
      return cut
    case 'count_distinct':
      return `count(distinct ${cut})`
    default:
      return `${column.aggregate}(${cut})`
  }
}

function grouping(shown: readonly PartColumn[]): string {
  const places = shown.flatMap((column, place) => (column.aggregate === undefined ? [place + 1] : []))
  return places.length === 0 ? '' : ` group by ${places.join(', ')}`
}

/** As the template says; a chart by what its x axis shows, groups by what they are grouped by. */
function ordering(part: DataPart, shown: readonly PartColumn[], grouped: boolean): string {
  const placeOf = (name: string) => shown.findIndex(column => resultName(column) === name) + 1
  const terms = part.order_by.map(({ column, direction }) => {
    const place = placeOf(column)
    if (place === 0 && grouped) {
      throw new PawlError('report.statement', `a grouped result can't be ordered by "${column}", which it does not show`, {
        hint: 'order by one of its columns',
      })
    }
    return `${place === 0 ? ofRow(column) : place} ${direction}`
  })
  if (terms.length === 0 && part.chart !== undefined) terms.push(String(placeOf(part.chart.x)))
  if (terms.length === 0 && grouped) terms.push(...shown.flatMap((column, place) => (column.aggregate === undefined ? [String(place + 1)] : [])))
  return terms.length === 0 ? '' : ` order by ${terms.join(', ')}`
}

function condition(
  filter: Filter,
  relation: Relation,
  parameters: Readonly<Record<string, string>>,
  declared: Readonly<Record<string, unknown>>,
  bind: (value: string) => string,
): string[] {
  const column = quoted(filter.column)
  const type = typeOf(relation, filter.column)
  if (filter.operator === 'is_null') return [`${column} is null`]
  if (filter.operator === 'is_not_null') return [`${column} is not null`]
  if (filter.parameter !== undefined && !Object.hasOwn(declared, filter.parameter)) {
    throw new PawlError('report.template', `the filter on "${filter.column}" names parameter "${filter.parameter}", which the template does not declare`, {
      hint: 'declare it in the template\'s parameters: {"name": {"type": "text"}}',
    })
  }
  if (filter.parameter !== undefined) checkList(filter, filter.parameter, type, declared[filter.parameter])
  // Own ones only: a parameter may be called "constructor".
  const value = filter.parameter === undefined ? asText(filter.value) : Object.hasOwn(parameters, filter.parameter) ? parameters[filter.parameter] : undefined
  // A parameter that nobody gave does not filter.
  if (value === undefined) return []
  switch (filter.operator) {
    case 'in':
      return [`${column} = any (${bind(value)}::${type}[])`]
    case 'not_in':
      return [`${column} <> all (${bind(value)}::${type}[])`]
    case 'contains':
      return [`strpos(lower(${column}::text), lower(${bind(value)})) > 0`]
    case 'starts_with':
      return [`starts_with(${column}::text, ${bind(value)})`]
    default:
      return [`${column} ${filter.operator === '!=' ? '<>' : filter.operator} ${bind(value)}::${type}`]
  }
}

/** Read as a list, the text of one value could name others, which its choices don't hold. */
function checkList(filter: Filter, name: string, columnType: string, declared: unknown): void {
  const given = (declared as { type?: unknown } | null)?.type
  const type = typeof given === 'string' ? given : 'text'
  const wantsList = filter.operator === 'in' || filter.operator === 'not_in'
  if (columnType.endsWith('[]') || type.endsWith('[]') === wantsList) return
  throw new PawlError(
    'report.template',
    `the filter "${filter.operator}" on "${filter.column}" ${wantsList ? 'needs a list' : 'takes no list'}, and parameter "${name}" is ${type}`,
    {
      hint: wantsList ? `declare it as ${type}[]` : 'use the operator in or not_in',
    },
  )
}

/** A template's own value, or list of values, as PostgreSQL reads it. */
function asText(value: Filter['value']): string | undefined {
  if (!Array.isArray(value)) return value === undefined ? undefined : String(value)
  return `{${value.map(each => `"${String(each).replaceAll(/["\\]/g, '\\$&')}"`).join(',')}}`
}
