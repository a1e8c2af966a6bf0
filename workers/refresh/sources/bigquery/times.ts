const THOUSAND = 1000n

/**
 * A TIMESTAMP as ISO 8601 with microseconds, in UTC. We ask for whole microseconds; an emulator that doesn't know the
 * option sends seconds such as `1.672574400123456E9`, and both are read in BigInt: a double has no microseconds in year 9999.
 */
export function timestampText(wire: string): string {
  if (/^-?\d+$/.test(wire)) {
    // Up to the year 2255 a safe integer, which takes half the time.
    const micros = Number(wire)
    if (!Number.isSafeInteger(micros)) return microsText(BigInt(wire))
    const millis = Math.floor(micros / 1000)
    return isoText(millis, micros - millis * 1000)
  }
  const seconds = /^(-?)(\d+)\.?(\d*)(?:[eE]([+-]?\d+))?$/.exec(wire)
  return seconds === null ? wire : microsText(microsOf(seconds))
}

function microsOf([, sign, whole = '', fraction = '', exponent = '0']: RegExpExecArray): bigint {
  // The point moves right by the exponent and by six: seconds into microseconds.
  const places = whole.length + Number(exponent) + 6
  const digits = `${whole}${fraction}`.padEnd(places, '0').slice(0, Math.max(places, 0)) || '0'
  return sign === '-' ? -BigInt(digits) : BigInt(digits)
}

function microsText(micros: bigint): string {
  let millis = micros / THOUSAND
  let rest = micros % THOUSAND
  if (rest < 0n) {
    millis -= 1n
    rest += THOUSAND
  }
  return isoText(Number(millis), Number(rest))
}

/** Milliseconds of the years 1 to 9999 are safe integers, and toISOString writes those years with four digits. */
function isoText(millis: number, rest: number): string {
  return `${new Date(millis).toISOString().slice(0, 23)}${String(rest).padStart(3, '0')}+00:00`
}

/** `[2023-01-01, UNBOUNDED)` as PostgreSQL writes a range. */
export function rangeText(wire: string, element: string): string {
  const [lower = '', upper = ''] = wire
    .slice(1, -1)
    .split(',')
    .map(bound => bound.trim())
  const text = (bound: string) => {
    if (/^(UNBOUNDED|NULL)?$/i.test(bound)) return ''
    return `"${element === 'TIMESTAMP' ? timestampText(bound) : bound}"`
  }
  return `[${text(lower)},${text(upper)})`
}

/**
 * `Y-M D H:M:S.F`, each part with its own sign, as an interval with a sign on every field: without one, PostgreSQL's
 * IntervalStyle would decide whether the sign of the first part also means the others.
 */
export function intervalText(wire: string): string {
  const parts = /^(-?)(\d+)-(\d+) (-?)(\d+) (-?)(\d+:\d+:\d+(?:\.\d+)?)$/.exec(wire)
  if (parts === null) return wire
  const [, early, years, months, dayMinus, days, timeMinus, time] = parts
  const sign = (minus: string | undefined) => (minus === '-' ? '-' : '+')
  return `${sign(early)}${years} years ${sign(early)}${months} months ${sign(dayMinus)}${days} days ${sign(timeMinus)}${time}`
}
