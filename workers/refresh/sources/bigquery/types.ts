import { PawlError } from '../../../../src/errors.ts'
import type { Column } from '../../source.ts'

/** A field of a BigQuery schema, as the REST API writes it. */
export type Field = {
  name: string
  type: string
  mode?: string
  fields?: readonly Field[]
  rangeElementType?: { type: string }
}

/** A value as the REST API writes it: every scalar a text, an array `[{v}]`, a STRUCT `{f: [{v}]}`. */
export type Wire = string | null | readonly { v: Wire }[] | WireRow
/** A row, and a STRUCT. */
export type WireRow = { f: readonly { v: Wire }[] }

/** The schema names of BigQuery's types: the REST API answers with the old name of some, the emulators with the new one. */
const CANONICAL: Readonly<Record<string, string>> = {
  INTEGER: 'INT64',
  FLOAT: 'FLOAT64',
  BOOLEAN: 'BOOL',
  RECORD: 'STRUCT',
}

const POSTGRES: Readonly<Record<string, string>> = {
  INT64: 'bigint',
  FLOAT64: 'double precision',
  BOOL: 'boolean',
  NUMERIC: 'numeric(38,9)',
  // 39 digits before the point and 38 after it: numeric(76,38) overflows, so no bounds at all.
  BIGNUMERIC: 'numeric',
  STRING: 'text',
  BYTES: 'bytea',
  TIMESTAMP: 'timestamp with time zone',
  DATETIME: 'timestamp without time zone',
  DATE: 'date',
  TIME: 'time without time zone',
  INTERVAL: 'interval',
  // jsonb, because json has no equality, and the difference with the target asks for one.
  JSON: 'jsonb',
  STRUCT: 'jsonb',
  GEOGRAPHY: 'text',
}

const RANGES: Readonly<Record<string, string>> = { DATE: 'daterange', DATETIME: 'tsrange', TIMESTAMP: 'tstzrange' }

/** The one name of a field's type, whichever of its two names the server used. */
export function typeName(type: string): string {
  const name = type.toUpperCase()
  return CANONICAL[name] ?? name
}

/** True for ARRAY<…>. */
export function isArray(field: Field): boolean {
  return field.mode?.toUpperCase() === 'REPEATED'
}

/** The text of a value that is neither an array nor a STRUCT. */
export function scalarOf(value: Wire, column: string): string {
  if (typeof value === 'string') return value
  // Of a server that disagrees with its own schema, `[object Object]` would be loaded otherwise.
  if (typeof value === 'object') throw unsupported(column, 'the server sent an array or a STRUCT where its schema says otherwise')
  // Some emulators write numbers and booleans bare.
  return String(value)
}

/** The columns of a result, each with the PostgreSQL type that holds every value of it. Throws `refresh.type_unsupported`. */
export function columnsOf(fields: readonly Field[]): Column[] {
  return fields.map(field => ({ name: field.name, type: postgresType(field, field.name) }))
}

function postgresType(field: Field, column: string): string {
  const name = typeName(field.type)
  const single = name === 'RANGE' ? RANGES[typeName(field.rangeElementType?.type ?? '')] : POSTGRES[name]
  if (single === undefined) throw unsupported(column, `type ${name} has no counterpart in PostgreSQL that Pawl knows of`)
  if (name === 'STRUCT') checkFields(field.fields ?? [], column)
  if (!isArray(field)) return single
  return name === 'STRUCT' ? 'jsonb' : `${single}[]`
}

/** An object of jsonb keeps one value a key: the other of two fields of one name would be lost. */
function checkFields(fields: readonly Field[], column: string): void {
  const names = new Set(fields.map(field => field.name))
  if (names.size < fields.length) throw unsupported(column, 'its STRUCT has two fields of one name')
  for (const field of fields) postgresType(field, `${column}.${field.name}`)
}

function unsupported(column: string, why: string): PawlError {
  return new PawlError('refresh.type_unsupported', `column ${column} can't be loaded: ${why}`, {
    hint: "cast or rename it in the source's query, for instance to STRING or with to_json(…)",
  })
}
