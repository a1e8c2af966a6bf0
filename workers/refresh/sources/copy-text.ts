import { PawlError } from '../../../src/errors.ts'

const NUL = '\u0000'

/** What would end a field or a line of COPY's text, and the backslash that escapes it. */
const SPECIAL = /[\\\t\n\r]/g
/** The same, and what PostgreSQL can't store: to ask once costs half of what replacing in vain does, and most values need nothing. */
const SUSPECT = new RegExp(`[\\\\\t\n\r${NUL}]`)
const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r' }

/** One value as a field of COPY's text format; null is `\N`. Throws `refresh.nul_character`, naming the column. */
export function copyValue(value: string | null, column: string): string {
  if (value === null) return '\\N'
  if (!SUSPECT.test(value)) return value
  refuseNul(value, column)
  return value.replace(SPECIAL, character => ESCAPES[character] ?? character)
}

/** One row as a line of COPY's text format, its newline included. */
export function copyRow(values: readonly (string | null)[], columns: readonly { name: string }[]): string {
  return `${values.map((value, index) => copyValue(value, columns[index]?.name ?? `number ${index + 1}`)).join('\t')}\n`
}

/** The elements as a PostgreSQL array literal, `{"a","b",NULL}`: the value itself, not yet escaped for COPY. */
export function arrayLiteral(elements: readonly (string | null)[]): string {
  // Always quoted: the empty text, the word NULL, blanks and braces need no rules of their own then.
  return `{${elements.map(element => (element === null ? 'NULL' : `"${element.replace(/["\\]/g, '\\$&')}"`)).join(',')}}`
}

/** Throws `refresh.nul_character` when the text holds a U+0000. */
export function refuseNul(value: string, column: string): void {
  if (value.includes(NUL)) throw nulCharacter(column)
}

/** PostgreSQL has no text with U+0000 in it: to drop the character silently would be to change the data. */
export function nulCharacter(column: string): PawlError {
  return new PawlError('refresh.nul_character', `column ${column} holds the character U+0000, which PostgreSQL can't store`, {
    hint: "take it out in the source's query, for instance replace(column, chr(0), '')",
  })
}
