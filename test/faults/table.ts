import { BOUND_MS } from './recovery.ts'
import { KINDS, type Kind } from './plan.ts'

/** One fault as it went. */
export type Outcome = {
  number: number
  kind: Kind
  what: string
  held: string[]
  atMs: number
  lastedMs: number
  recoveredMs: number
  /** What moved last. */
  last: string
  loadAverage: number
  violations: string[]
}

const COLUMNS = ['fault', 'times', 'p50', 'p99', 'max', 'violations'] as const

/** One line a kind of fault: how often, how long until everything moved again, what was seen that should not be. */
export function tableOf(outcomes: readonly Outcome[], atTheEnd: number): string {
  const lines = KINDS.flatMap(kind => {
    const own = outcomes.filter(outcome => outcome.kind === kind)
    const took = own.map(outcome => outcome.recoveredMs)
    const violations = own.reduce((sum, outcome) => sum + outcome.violations.length, 0)
    return own.length === 0 ? [] : [[kind, String(own.length), ...[0.5, 0.99, 1].map(share => seconds(quantile(took, share))), String(violations)]]
  })
  const all = outcomes.map(outcome => outcome.recoveredMs)
  const seen = outcomes.reduce((sum, outcome) => sum + outcome.violations.length, 0)
  lines.push(['at the end', '', '', '', '', String(atTheEnd)])
  lines.push(['all', String(all.length), ...[0.5, 0.99, 1].map(share => seconds(quantile(all, share))), String(seen + atTheEnd)])
  const widths = COLUMNS.map((title, column) => Math.max(title.length, ...lines.map(line => line[column]?.length ?? 0)))
  const text = [[...COLUMNS], ...lines].map(line =>
    line.map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0))).join('  '),
  )
  return [text[0], widths.map(width => '-'.repeat(width)).join('  '), ...text.slice(1)].join('\n')
}

/** What the numbers are worth: how busy the machine was. */
export function footerOf(outcomes: readonly Outcome[], samples: number, cores: number): string {
  const loads = outcomes.map(outcome => outcome.loadAverage)
  const mean = loads.reduce((sum, load) => sum + load, 0) / Math.max(1, loads.length)
  return [
    `recovery: from the blow (of one worker) or the end of the fault until every run that was under way has moved and a timer has fired; at most ${BOUND_MS / 1000} s`,
    `${samples} snapshots; load average ${mean.toFixed(1)}, at most ${Math.max(0, ...loads).toFixed(1)}, on ${cores} cores`,
  ].join('\n')
}

/** The smallest value that so great a share does not exceed. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] ?? Number.NaN
}

const seconds = (ms: number) => `${(ms / 1000).toFixed(2)} s`
