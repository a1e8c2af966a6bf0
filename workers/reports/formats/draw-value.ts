import type { ColumnKind } from '../document.ts'

/** A value as people read it: nothing for NULL, digits in groups of three but every one of them, what it was otherwise. */
export function shownValue(value: string | null, kind: ColumnKind): string {
  if (value === null) return ''
  if (kind === 'number') return grouped(value)
  if (kind === 'boolean') return value === 't' ? 'true' : value === 'f' ? 'false' : value
  return value
}

/** Groups the digits before the point. Four digits stay together: they are years as often as amounts. */
export function grouped(number: string): string {
  const found = /^(-?)(\d{5,})(\.\d+)?$/.exec(number)
  if (found === null) return number
  const [, sign = '', digits = '', fraction = ''] = found
  let groups = digits.slice(-3)
  for (let end = digits.length - 3; end > 0; end -= 3) groups = `${digits.slice(Math.max(0, end - 3), end)},${groups}`
  return sign + groups + fraction
}

/** `3 rows`, `1 row`. */
export function countedRows(count: number): string {
  return `${grouped(String(count))} ${count === 1 ? 'row' : 'rows'}`
}

/** An ISO instant to the minute, and in which zone. */
export function shownInstant(iso: string): string {
  return /^\d{4}-\d\d-\d\dT\d\d:\d\d.*Z$/.test(iso) ? `${iso.slice(0, 10)} ${iso.slice(11, 16)} UTC` : iso
}
