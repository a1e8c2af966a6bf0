import type { Column, ColumnKind, Row } from '../document.ts'
import { beginsFormula } from './csv.ts'
import { dateSerial, timestampSerial } from './excel-dates.ts'
import { columnLetters } from './excel-names.ts'

/** Places of the cell formats in styles.xml; `quoted` says what a typed apostrophe says: text, whatever it looks like. */
export const style = { plain: 0, heading: 1, date: 2, timestamp: 3, quoted: 4, quotedHeading: 5 } as const

const CELL_LENGTH_MAX = 32_767

/**
 * A double keeps 15 significant digits for certain. PostgreSQL's division and averages fill up to 20 digits whatever was divided, so a
 * fraction of such a length is a number still, or sum() in the sheet would skip it; longer ones, and whole numbers, were meant to the digit.
 */
const WHOLE_DIGITS_MAX = 15
const FRACTION_DIGITS_MAX = 20
const DECIMAL = /^-?(\d+)(?:\.(\d+))?(?:e[+-]\d+)?$/
/** Beyond these Excel finds no number, or takes it for 0. */
const NUMBER_MAX = 9.99999999999999e307
const NUMBER_MIN = 2.2250738585072014e-308

/** Writes a row, at its number from 1, as an element of a sheet. */
export function rowWriter(columns: readonly Column[]): (row: Row, number: number) => string {
  const openings = columns.map((_, index) => `<c r="${columnLetters(index)}`)
  const writers = columns.map(({ kind }) => contentWriters[kind])
  return (row, number) => {
    let text = `<row r="${number}">`
    for (let index = 0; index < writers.length; index++) {
      const value = row[index]
      const write = writers[index]
      if (value !== null && value !== undefined && write !== undefined) text += `${openings[index]}${number}"${write(value)}</c>`
    }
    return `${text}</row>`
  }
}

/** The row of labels, in bold. */
export function headingRow(columns: readonly Column[]): string {
  const cells = columns.map(({ label }, index) => {
    const look = beginsFormula(label) ? style.quotedHeading : style.heading
    return `<c r="${columnLetters(index)}1" s="${look}"${inline(label)}</c>`
  })
  return `<row r="1">${cells.join('')}</row>`
}

/** Text for an element or an attribute of XML; characters that XML can't hold are dropped. */
export function xmlText(value: string): string {
  return value.replace(FORBIDDEN, '').replace(/[&<>"]/g, character => ENTITIES[character] ?? character)
}

/** What of a cell's element comes after its place. Never a formula: there is no `<f>` in any of them. */
const contentWriters: Readonly<Record<ColumnKind, (value: string) => string>> = {
  text: textContent,
  json: textContent,
  number: value => (isNumber(value) ? `><v>${value}</v>` : ` s="${style.quoted}"${inline(value)}`),
  boolean: value => (value === 't' || value === 'true' ? ' t="b"><v>1</v>' : ' t="b"><v>0</v>'),
  date: value => serialContent(value, dateSerial(value), style.date),
  timestamp: value => serialContent(value, timestampSerial(value), style.timestamp),
}

function textContent(value: string): string {
  return beginsFormula(value) ? ` s="${style.quoted}"${inline(value)}` : inline(value)
}

function serialContent(value: string, serial: number | undefined, look: number): string {
  return serial === undefined ? textContent(value) : ` s="${look}"><v>${serial}</v>`
}

function isNumber(value: string): boolean {
  const match = DECIMAL.exec(value)
  if (match === null) return false
  // So short that none of what follows can matter, as nearly all numbers are.
  if (value.length <= WHOLE_DIGITS_MAX && !value.includes('e')) return true
  const size = Math.abs(Number(value))
  if (size > NUMBER_MAX || (size < NUMBER_MIN && size !== 0)) return false
  const [, whole = '', fraction = ''] = match
  const meant = fraction.replace(/0+$/, '')
  const digits = (whole + meant).replace(/^0+/, '')
  return meant === '' ? digits.replace(/0+$/, '').length <= WHOLE_DIGITS_MAX : digits.length <= FRACTION_DIGITS_MAX
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
// oxlint-disable-next-line no-control-regex -- they are what is looked for.
const FORBIDDEN = /[\u0000-\u0008\u000B\u000C\u000E-\u001F\uFFFE\uFFFF]/g
/** A carriage return may stand in XML, but comes out of a parser as a newline. */
// oxlint-disable-next-line no-control-regex -- as above.
const SPECIAL = /[&<>\u0000-\u0008\u000B-\u001F\uFFFE\uFFFF]|_(?=x[0-9A-Fa-f]{4}_)/
const EACH_SPECIAL = new RegExp(SPECIAL, 'g')

function inline(value: string): string {
  const kept = value.length > CELL_LENGTH_MAX ? cut(value) : value
  // Asked first: to replace in vain costs twice as much, and most texts need nothing.
  const text = SPECIAL.test(kept) ? kept.replace(EACH_SPECIAL, escaped) : kept
  return endsInSpace(kept) ? ` t="inlineStr"><is><t xml:space="preserve">${text}</t></is>` : ` t="inlineStr"><is><t>${text}</t></is>`
}

/** Or begins so: what a reader of XML may take off. By codes, because a regular expression looks at every space of a long text. */
function endsInSpace(value: string): boolean {
  return value.charCodeAt(0) <= 32 || value.charCodeAt(value.length - 1) <= 32
}

/** `_xHHHH_` is what Excel writes for a character that XML can't hold, and for an underscore that would begin such an escape. */
function escaped(character: string): string {
  return ENTITIES[character] ?? `_x${character.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}_`
}

function cut(value: string): string {
  const unit = value.charCodeAt(CELL_LENGTH_MAX - 2)
  const inPair = unit >= 0xd800 && unit <= 0xdbff
  return `${value.slice(0, CELL_LENGTH_MAX - (inPair ? 2 : 1))}…`
}
