import { arrayLiteral, copyValue } from '../copy-text.ts'
import { jsonText, toJson } from './json.ts'
import { intervalText, rangeText, timestampText } from './times.ts'
import { type Field, isArray, scalarOf, typeName, type Wire, type WireRow } from './types.ts'

/** A row of the wire as a line of COPY's text; nothing passes through a JavaScript number or date that could bend it. */
export type RowWriter = (row: WireRow) => string

/** Compiles the schema into one writer, so that a million rows don't ask a million times what their columns are. */
export function rowWriter(fields: readonly Field[]): RowWriter {
  const writers = fields.map(field => valueWriter(field))
  return row => {
    let line = ''
    for (let index = 0; index < writers.length; index += 1) {
      if (index > 0) line += '\t'
      line += writers[index]?.(row.f[index]?.v ?? null)
    }
    return `${line}\n`
  }
}

function valueWriter(field: Field): (value: Wire) => string {
  const text = valueText(field)
  return value => (value === null ? '\\N' : copyValue(text(value), field.name))
}

/** One value as PostgreSQL reads it. */
function valueText(field: Field): (value: Wire) => string {
  if (typeName(field.type) === 'STRUCT') return value => toJson(field, value, field.name)
  const text = scalarText(field)
  if (!isArray(field)) return value => text(scalarOf(value, field.name))
  return value => arrayLiteral((value as readonly { v: Wire }[]).map(({ v }) => (v === null ? null : text(scalarOf(v, field.name)))))
}

function scalarText(field: Field): (wire: string) => string {
  switch (typeName(field.type)) {
    case 'JSON':
      return wire => jsonText(wire, field.name)
    case 'BYTES':
      return wire => `\\x${Buffer.from(wire, 'base64').toString('hex')}`
    case 'TIMESTAMP':
      return timestampText
    case 'RANGE': {
      const element = typeName(field.rangeElementType?.type ?? '')
      return wire => rangeText(wire, element)
    }
    case 'INTERVAL':
      return intervalText
    default:
      // PostgreSQL reads what BigQuery writes of INT64, NUMERIC, BIGNUMERIC, FLOAT64, BOOL, DATETIME, DATE, TIME, STRING and GEOGRAPHY.
      return wire => wire
  }
}
