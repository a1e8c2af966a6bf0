import { didYouMean } from './nearest.ts'
import type { ValueSpec } from './spec.ts'
import { usageError } from './terminal.ts'

/** What was typed, checked; as the command gets it. `label` is how a refusal names it: `--limit`, `the run`. Throws a usage error. */
export function checked(text: string, label: string, spec: ValueSpec, usage: string): string {
  const not = JSON.stringify(text)
  if (spec.choices !== undefined) {
    if (spec.choices.includes(text)) return text
    throw usageError(`${label} must be ${listed(spec.choices)}, not ${not}`, `${didYouMean(text, spec.choices)}${usage}`)
  }
  switch (spec.kind) {
    case 'whole': {
      const number = Number(text)
      const { least, most } = spec
      const isWhole = /^[+-]?\d+$/.test(text) && Number.isSafeInteger(number)
      if (isWhole && number >= (least ?? number) && number <= (most ?? number)) return String(number)
      throw usageError(`${label} must be a whole number${rangeOf(spec)}, not ${not}`, usage)
    }
    case 'json':
      try {
        return JSON.stringify(JSON.parse(text))
      } catch {
        throw usageError(
          `${label} is not JSON: ${text}`,
          `quote it for the shell: ${label.startsWith('--') ? `${label} ` : ''}'{"channel": "email"}'; ${usage}`,
        )
      }
    case 'duration':
      return durationOf(text, label, usage)
    case 'uuid':
      if (/^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i.test(text)) return text
      throw usageError(`${label} must be an id such as 6f1c2d3e-0000-4000-8000-000000000000, not ${not}`, usage)
    default:
      return text
  }
}

function rangeOf({ least, most }: ValueSpec): string {
  if (least !== undefined && most !== undefined) return ` from ${least} to ${most}`
  return least === undefined ? '' : ` of ${least} or more`
}

const listed = (choices: readonly string[]) => `${choices.slice(0, -1).join(', ')} or ${choices.at(-1)}`

const units: Readonly<Record<string, number>> = {
  s: 1,
  second: 1,
  m: 60,
  min: 60,
  minute: 60,
  h: 3600,
  hour: 3600,
  d: 86_400,
  day: 86_400,
  w: 604_800,
  week: 604_800,
}

/** `90s`, `15 min`, `1 hour`, `7d` as an interval of PostgreSQL. */
function durationOf(text: string, label: string, usage: string): string {
  const [, amount, word = ''] = /^(\d{1,9}(?:\.\d{1,3})?)\s*([a-z]+)$/i.exec(text.trim()) ?? []
  const unit = units[word.toLowerCase()] ?? units[word.toLowerCase().replace(/s$/, '')]
  if (amount === undefined || unit === undefined) {
    throw usageError(`${label} must be a duration, not ${JSON.stringify(text)}`, `such as 90s, 15m, '1 hour' or 7d; ${usage}`)
  }
  return `${Math.round(Number(amount) * unit * 1000) / 1000} seconds`
}
