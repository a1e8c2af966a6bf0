/** Days from Excel's day 0, 1899-12-30, to 1970-01-01. */
const EPOCH_SERIAL = 25_569
/** 1900-03-01. Before it Excel counts a 29 February 1900 that never was, and other programs don't. */
const SERIAL_MIN = 61
const DAY_MS = 86_400_000

const DATE = /^\d{4}-\d\d-\d\d$/
const TIMESTAMP = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?(?:\+00)?$/

/** The serial of a date as PostgreSQL writes it; undefined for what Excel has none for: before 1900-03-01, after 9999, infinity, BC. */
export function dateSerial(value: string): number | undefined {
  return DATE.test(value) ? dayOf(value) : undefined
}

/** The serial of a timestamp in UTC or without a zone; undefined where Excel has none, or where an offset would be lost. */
export function timestampSerial(value: string): number | undefined {
  if (!TIMESTAMP.test(value)) return undefined
  const day = dayOf(value)
  if (day === undefined) return undefined
  const seconds = twoDigits(value, 11) * 3600 + twoDigits(value, 14) * 60 + twoDigits(value, 17)
  const fraction = value.charCodeAt(19) === 46 ? Number.parseFloat(value.slice(19)) : 0
  return day + (seconds + fraction) / 86_400
}

function dayOf(value: string): number | undefined {
  const year = twoDigits(value, 0) * 100 + twoDigits(value, 2)
  if (year < 1900) return undefined
  const serial = Date.UTC(year, twoDigits(value, 5) - 1, twoDigits(value, 8)) / DAY_MS + EPOCH_SERIAL
  return serial < SERIAL_MIN ? undefined : serial
}

function twoDigits(value: string, at: number): number {
  return (value.charCodeAt(at) - 48) * 10 + value.charCodeAt(at + 1) - 48
}
