import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** What a benchmark returned, and on which day. Kept in `results.json`, from which the tables of docs/performance.md are written. */
export type Result = { measured: string } & Record<string, unknown>
export type Results = Record<string, Result>

/** One line of a table: what it is, how it reads, and what was to be reached (DESIGN §7). */
type Line = { what: string; value: (result: Result) => string; goal?: string }

const RESULTS = fileURLToPath(new URL('results.json', import.meta.url))
export const DOCUMENT = fileURLToPath(new URL('../docs/performance.md', import.meta.url))

const number = (value: unknown) => (typeof value === 'number' ? value.toLocaleString('en', { maximumFractionDigits: 3 }) : '–')
const plain =
  (key: string, unit = '') =>
  (result: Result) =>
    `${number(result[key])}${unit}`
const both = (first: string, second: string, unit: string) => (result: Result) => `${number(result[first])} / ${number(result[second])}${unit}`

/** A median with the range of its pairs. */
const pairs = (key: string, unit: string) => (result: Result) => {
  const all = result[`${key}_pairs`]
  const spread = Array.isArray(all) && all.length > 1 ? ` (${number(result.pairs)} pairs, ${number(Math.min(...all))}–${number(Math.max(...all))})` : ''
  return `${number(result[key])} × ${unit}${spread}`
}

const list = (key: string, unit: string) => (result: Result) => {
  const all = result[key]
  if (Array.isArray(all)) return `${all.map(number).join(', ')}${unit}`
  if (typeof all !== 'object' || all === null) return '–'
  return Object.entries(all)
    .map(([name, value]) => `${name} ${number(value)}${unit}`)
    .join(', ')
}

const lines: Record<string, readonly Line[]> = {
  overrides: [
    { what: 'batches of 1000', value: pairs('ratio_1000', 'the UPDATE'), goal: '1.4' },
    { what: 'batches of 100', value: pairs('ratio_100', 'the UPDATE'), goal: '0.95' },
    {
      what: 'batch time among 10 thousand, 1 and 5 million',
      value: result => `${number(result.batch_growth)} × (${list('batch_ms', ' ms')(result)})`,
      goal: '1.1',
    },
    { what: 'batches of 1000, 2 ms more a commit (a network disk; 200,000 rows, one pair)', value: plain('slow_disk_ratio_1000', ' × the UPDATE') },
    { what: 'batches of 100, the same', value: plain('slow_disk_ratio_100', ' × the UPDATE') },
  ],
  timers: [
    { what: '500 a second: p50 / p99 late', value: both('late_p50_ms_500', 'late_p99_ms_500', ' ms'), goal: '25 ms' },
    { what: '… pg-boss, a job per timer: p99', value: plain('pg_boss_late_p99_ms_500', ' ms') },
    { what: '… graphile-worker, a job per timer: p99', value: plain('graphile_late_p99_ms_500', ' ms') },
    { what: '2,000 a second: p50 / p99 late', value: both('late_p50_ms_2000', 'late_p99_ms_2000', ' ms'), goal: '40 ms' },
    { what: 'backlog of 20,000 overdue', value: plain('drain_per_s', '/s'), goal: '9,000/s' },
    { what: '… pg-boss, graphile-worker', value: both('pg_boss_drain_per_s', 'graphile_drain_per_s', '/s') },
    { what: 'fired early', value: plain('early'), goal: '0' },
  ],
  refresh: [
    { what: 'load into staging', value: pairs('ratio_load', 'COPY'), goal: '1.3' },
    { what: 'load, compare, judge, publish', value: pairs('ratio_end_to_end', 'COPY and MERGE'), goal: '1.2' },
    { what: 'most memory of the bundled worker, 10 million rows', value: plain('rss_mb', ' MB'), goal: '256' },
  ],
  dag: [
    { what: "a parent's commit to its child's start: p50 / p99", value: both('edge_p50_ms', 'edge_p99_ms', ' ms'), goal: 'p99 50 ms' },
    { what: '… pg-boss `flow()` at its shortest interval: p50', value: plain('pgboss_flow_edge_p50_ms', ' ms') },
    { what: "the documents' eight tables, against what no scheduler could beat", value: plain('makespan_ratio', ' ×'), goal: '1.05' },
    { what: '1,000 random tables on 16 slots, the same', value: plain('makespan_ratio_random', ' ×'), goal: '1.15' },
    { what: 'the last of the most important of them, against its own bound', value: plain('priority_ratio', ' ×'), goal: '1.10' },
  ],
  reports: [
    { what: 'csv', value: pairs('ratio_csv', 'COPY TO'), goal: '0.5' },
    { what: 'most memory of the bundled worker, 2,000,000 rows', value: list('rss_mb_by_format', ' MB'), goal: '200 MB' },
    { what: 'rows/s of those', value: list('rows_per_second_by_format', '') },
  ],
  image: [
    { what: 'from start to ready', value: plain('ready_ms', ' ms'), goal: '1,000 ms' },
    { what: 'resident when idle', value: plain('idle_rss_mb', ' MB'), goal: '90 MB' },
  ],
  idle: [{ what: 'statements an idle worker with all queues asks', value: plain('idle_statements_per_second', '/s') }],
}

/** The table of one benchmark, as it stands in the document between its two marks. */
export function tableOf(name: string, result: Result): string {
  const rows = (lines[name] ?? []).map(({ what, value, goal = '' }) => `| ${what} | ${value(result)} | ${goal} |`)
  return ['| what | measured | to reach |', '| --- | --- | --- |', ...rows].join('\n')
}

export function readResults(): Results {
  return JSON.parse(readFileSync(RESULTS, 'utf8')) as Results
}

/** Puts the table of every result between `<!-- bench NAME -->` and `<!-- /bench -->`; throws for a result that has no place there. */
export function withTables(text: string, results: Results): string {
  return Object.entries(results).reduce((document, [name, result]) => {
    const place = new RegExp(`(<!-- bench ${name} -->\\n)[^]*?(<!-- /bench -->)`)
    if (!place.test(document)) throw new Error(`docs/performance.md has no place for ${name}: <!-- bench ${name} --> … <!-- /bench -->`)
    return document.replace(place, (_all, before: string, after: string) => `${before}${tableOf(name, result)}\n${after}`)
  }, text)
}

/** Remembers a result, and writes the document's tables anew. */
export function update(name: string, result: Record<string, unknown>, day: string): void {
  const results = { ...readResults(), [name]: { measured: day, ...result } }
  writeFileSync(RESULTS, `${JSON.stringify(results, undefined, 2)}\n`)
  writeFileSync(DOCUMENT, withTables(readFileSync(DOCUMENT, 'utf8'), results))
}
