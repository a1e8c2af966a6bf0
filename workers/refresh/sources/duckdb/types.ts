import { quoted } from '../../../../src/names.ts'

/** How one column leaves DuckDB: the PostgreSQL type that holds all of it, and the SQL that writes a value as COPY text. */
export type Written = { type: string; sql: string; nested: boolean }

const INTEGERS: Readonly<Record<string, string>> = {
  TINYINT: 'smallint',
  SMALLINT: 'smallint',
  INTEGER: 'integer',
  BIGINT: 'bigint',
  UTINYINT: 'smallint',
  USMALLINT: 'integer',
  UINTEGER: 'bigint',
  UBIGINT: 'numeric(20,0)',
  HUGEINT: 'numeric(39,0)',
  UHUGEINT: 'numeric(39,0)',
  BIGNUM: 'numeric',
}

/** What `cast(x as varchar)` writes as PostgreSQL reads it. */
const PLAIN: Readonly<Record<string, string>> = {
  ...INTEGERS,
  FLOAT: 'real',
  DOUBLE: 'double precision',
  TIME: 'time',
  'TIME WITH TIME ZONE': 'timetz',
  INTERVAL: 'interval',
  UUID: 'uuid',
  BIT: 'bit varying',
}

const DATED: Readonly<Record<string, string>> = {
  DATE: 'date',
  TIMESTAMP: 'timestamp',
  TIMESTAMP_S: 'timestamp',
  TIMESTAMP_MS: 'timestamp',
  'TIMESTAMP WITH TIME ZONE': 'timestamptz',
}

const isNested = (type: string) => /^(STRUCT|MAP|UNION)\(/.test(type) || type === 'JSON'
const elementOf = (type: string) => /^(.*)\[\d*\]$/s.exec(type)?.[1]
/** Lossless by construction: a type that PostgreSQL can't hold exactly (nanoseconds, geometries, ENUM, VARIANT) goes as text. */
export function write(name: string, type: string): Written {
  const column = quoted(name)
  const element = elementOf(type)
  const nested = element !== undefined || isNested(type)
  // Lists of lists may be ragged, which arrays of PostgreSQL are not.
  if (element !== undefined && elementOf(element) === undefined && !isNested(element)) {
    const list = type.endsWith('[]') ? column : `${column}::${element}[]`
    const items = `list_transform(${list}, lambda e: coalesce(${arrayItem('e', element)}, 'NULL'))`
    const literal = `case when ${column} is not null then '{' || array_to_string(${items}, ',') || '}' end`
    return { type: `${typeOf(element)}[]`, sql: orNull(replaced(literal)), nested }
  }
  if (nested) return { type: 'jsonb', sql: orNull(replaced(json(column, type))), nested }
  if (type === 'BOOLEAN') return { type: 'boolean', sql: `case when ${column} then 't' when ${column} is null then '\\N' else 'f' end`, nested }
  const sql = text(column, type)
  const bare = PLAIN[type] !== undefined || DATED[type] !== undefined || type.startsWith('DECIMAL(')
  return { type: typeOf(type), sql: orNull(bare ? sql : type === 'VARCHAR' ? escaped(sql) : replaced(sql)), nested }
}

function typeOf(type: string): string {
  if (type === 'BOOLEAN') return 'boolean'
  if (type === 'BLOB') return 'bytea'
  return PLAIN[type] ?? DATED[type] ?? (type.startsWith('DECIMAL(') ? type.replace('DECIMAL', 'numeric') : 'text')
}

function text(value: string, type: string): string {
  if (type === 'BLOB') return `'\\x' || hex(${value})`
  // Years before 1 carry "(BC)", which PostgreSQL writes without the brackets.
  if (DATED[type] !== undefined) return `case when ${value} >= '0001-01-01'::${type} then ${value}::varchar else replace(${value}::varchar, ' (BC)', ' BC') end`
  return type === 'VARCHAR' ? value : `${value}::varchar`
}

function arrayItem(item: string, type: string): string {
  if (INTEGERS[type] !== undefined || type === 'BOOLEAN' || type.startsWith('DECIMAL(')) return `${item}::varchar`
  return `'"' || replace(replace(${text(item, type)}, '\\', '\\\\'), '"', '\\"') || '"'`
}

function json(column: string, type: string): string {
  const value = type === 'JSON' ? `${column}::varchar` : `to_json(${column})::varchar`
  if (!/\b(DOUBLE|FLOAT)\b/.test(type)) return value
  // DuckDB writes NaN and Infinity bare, JSON knows no such numbers: they become strings. Matches must follow one another from end to end,
  // or one would begin within a string that says NaN; the empty last one leaves quotes behind the closing bracket.
  const bare = `((?:"(?:[^"\\\\]|\\\\.)*"|[^"NI-]|-[0-9])*)(-?(?:NaN|Infinity)|$)`
  const quotedNumbers = `rtrim(regexp_replace(${value}, '${bare}', '\\1"\\2"', 'g'), '"')`
  return `case when contains(${value}, 'NaN') or contains(${value}, 'Infinity') then ${quotedNumbers} else ${value} end`
}

const replaced = (value: string) => `replace(replace(replace(replace(${value}, '\\', '\\\\'), chr(9), '\\t'), chr(10), '\\n'), chr(13), '\\r')`

/** Most text needs no escape: four searches cost less than four replacements that each write the text anew. */
function escaped(value: string): string {
  const suspect = ["'\\'", 'chr(9)', 'chr(10)', 'chr(13)'].map(sign => `instr(${value}, ${sign}) > 0`).join(' or ')
  return `case when ${suspect} then ${replaced(value)} else ${value} end`
}

const orNull = (value: string) => `coalesce(${value}, '\\N')`

/** One row as a line of COPY text, without its newline. */
export const line = (columns: readonly Written[]): string =>
  columns.length === 1 ? (columns[0]?.sql ?? "''") : `concat_ws(chr(9), ${columns.map(({ sql }) => sql).join(', ')})`

/** True where a value of the column has U+0000, which no text of PostgreSQL can hold; `nested` ones carry it as an escape. */
export function holdsZero(name: string, { nested }: Written): string {
  const value = `${quoted(name)}::varchar`
  if (!nested) return `contains(${value}, chr(0))`
  return `regexp_matches(to_json(${quoted(name)})::varchar, '(^|[^\\\\])(\\\\\\\\)*\\\\u0000')`
}
