import { nulCharacter, refuseNul } from '../copy-text.ts'
import { timestampText } from './times.ts'
import { type Field, isArray, scalarOf, typeName, type Wire, type WireRow } from './types.ts'

const JSON_NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/

/**
 * A STRUCT, or an array of them, as the text of a jsonb, written by hand: jsonb keeps every digit of a number, and
 * JSON.stringify would have to be given a number that has lost some. Dates are ISO 8601, BYTES base64, as BigQuery's own TO_JSON.
 */
export function toJson(field: Field, value: Wire, path: string): string {
  if (value === null) return 'null'
  if (isArray(field)) {
    const single = { ...field, mode: 'NULLABLE' }
    return `[${(value as readonly { v: Wire }[]).map(({ v }) => toJson(single, v, path)).join(',')}]`
  }
  if (typeName(field.type) === 'STRUCT') return objectText(field, value as WireRow, path)
  const wire = scalarOf(value, path)
  switch (typeName(field.type)) {
    case 'INT64':
    case 'NUMERIC':
    case 'BIGNUMERIC':
    case 'FLOAT64':
      // NaN and the infinities are no JSON numbers.
      return JSON_NUMBER.test(wire) ? wire : quoted(wire, path)
    case 'BOOL':
      return wire.toLowerCase()
    case 'JSON':
      return jsonText(wire, path)
    case 'TIMESTAMP':
      return quoted(timestampText(wire), path)
    default:
      return quoted(wire, path)
  }
}

function objectText({ fields = [] }: Field, row: WireRow, path: string): string {
  const member = (field: Field, index: number) => `${JSON.stringify(field.name)}:${toJson(field, row.f[index]?.v ?? null, `${path}.${field.name}`)}`
  return `{${fields.map(member).join(',')}}`
}

function quoted(text: string, path: string): string {
  refuseNul(text, path)
  return JSON.stringify(text)
}

/** JSON passes as the text it is: parsed, its long numbers would lose digits. jsonb refuses the escape of U+0000, so name its column here. */
export function jsonText(text: string, column: string): string {
  if (text.includes('\\u0000') && /(?<!\\)(?:\\\\)*\\u0000/.test(text)) throw nulCharacter(column)
  return text
}
