import { type Field, isArray, typeName, type Wire, type WireRow } from '../../workers/refresh/sources/bigquery/types.ts'

/**
 * A table of the stand-in: its rows as the wire has them, one value a column (TIMESTAMP in whole microseconds), or made
 * by their index, so that a million of them cost no memory.
 */
export type FakeTable = { fields: readonly Field[]; bytes?: number } & (
  | { rows: readonly (readonly Wire[])[] }
  | { count: number; row: (index: number) => readonly Wire[] }
)

export type Reading = { start: number; max: number; pageBytes: number; int64: boolean; reversed: boolean; selected?: readonly string[] | undefined }

export function rowsIn(table: FakeTable): number {
  return 'rows' in table ? table.rows.length : table.count
}

/** The rows from `start` on: `max` at most, and no more than fit into a page, but one always. */
export function pageOf(table: FakeTable, { start, max, pageBytes, int64, reversed, selected }: Reading): WireRow[] {
  const total = rowsIn(table)
  const page: WireRow[] = []
  let bytes = 0
  for (let index = start; index < total && page.length < max; index += 1) {
    const at = reversed ? total - 1 - index : index
    const values = ('rows' in table ? table.rows[at] : table.row(at)) ?? []
    const cells = table.fields.flatMap((field, column) =>
      selected === undefined || selected.includes(field.name) ? [{ v: int64 ? (values[column] ?? null) : inSeconds(field, values[column] ?? null) }] : [],
    )
    const row = { f: cells }
    bytes += JSON.stringify(row).length
    if (bytes > pageBytes && page.length > 0) break
    page.push(row)
  }
  return page
}

/** Without `formatOptions.useInt64Timestamp`, a TIMESTAMP is written in seconds, wherever in the value it stands. */
function inSeconds(field: Field, value: Wire): Wire {
  if (value === null) return null
  if (isArray(field)) return (value as { v: Wire }[]).map(({ v }) => ({ v: inSeconds({ ...field, mode: 'NULLABLE' }, v) }))
  const type = typeName(field.type)
  if (type === 'STRUCT') {
    return { f: (value as WireRow).f.map(({ v }, index) => ({ v: inSeconds(field.fields?.[index] ?? { name: '', type: 'STRING' }, v) })) }
  }
  return type === 'TIMESTAMP' && typeof value === 'string' ? seconds(value) : value
}

function seconds(micros: string): string {
  const [, sign = '', digits = '0'] = /^(-?)0*(\d+)$/.exec(micros) ?? []
  return `${sign}${digits[0]}.${digits.slice(1) || '0'}E${digits.length - 1 - 6}`
}
