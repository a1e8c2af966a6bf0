import { systemClock } from '../src/clock.ts'
import { dag } from './dag.ts'
import { idle } from './idle.ts'
import { image } from './image.ts'
import { overrides } from './overrides.ts'
import { refresh } from './refresh.ts'
import { reports } from './reports.ts'
import { timers } from './timers.ts'
import { say } from './report.ts'
import { update } from './tables.ts'

const benchmarks: Record<string, (options: { quick: boolean }) => Promise<Record<string, unknown>>> = { overrides, timers, refresh, dag, reports, image, idle }

// npm run bench -- overrides [--json] [--quick] [--update]: one JSON line a benchmark; the talk goes to standard error.
// --update writes the result to bench/results.json and the tables of docs/performance.md.
const words = process.argv.slice(2)
const flags = new Set(words.filter(word => word.startsWith('--')))
const names = words.filter(word => !word.startsWith('--'))
const unknown = names.filter(name => benchmarks[name] === undefined)
if (flags.has('--quick') && flags.has('--update')) {
  say('--quick is for a look; what the document says comes from whole runs: leave one of the two away')
  process.exitCode = 2
} else if (unknown.length > 0) {
  say(`there is no benchmark ${unknown.join(', ')}; there are: ${Object.keys(benchmarks).join(', ')}`)
  process.exitCode = 2
} else {
  for (const name of names.length > 0 ? names : Object.keys(benchmarks)) {
    const result = await benchmarks[name]?.({ quick: flags.has('--quick') })
    if (flags.has('--json')) process.stdout.write(`${JSON.stringify({ benchmark: name, ...result })}\n`)
    else for (const [key, value] of Object.entries(result ?? {})) process.stdout.write(`${key.padEnd(24)} ${JSON.stringify(value)}\n`)
    if (result?.verified !== true) process.exitCode = 1
    else if (flags.has('--update')) update(name, result, new Date(systemClock.now()).toISOString().slice(0, 10))
  }
}
