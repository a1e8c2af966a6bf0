import { dag } from './dag.ts'
import { image } from './image.ts'
import { overrides } from './overrides.ts'
import { refresh } from './refresh.ts'
import { reports } from './reports.ts'
import { timers } from './timers.ts'
import { say } from './report.ts'

const benchmarks: Record<string, (options: { quick: boolean }) => Promise<Record<string, unknown>>> = { overrides, timers, refresh, dag, reports, image }

// npm run bench -- overrides [--json] [--quick]: one JSON line a benchmark; the talk goes to standard error.
const words = process.argv.slice(2)
const flags = new Set(words.filter(word => word.startsWith('--')))
const names = words.filter(word => !word.startsWith('--'))
const unknown = names.filter(name => benchmarks[name] === undefined)
if (unknown.length > 0) {
  say(`there is no benchmark ${unknown.join(', ')}; there are: ${Object.keys(benchmarks).join(', ')}`)
  process.exitCode = 2
} else {
  for (const name of names.length > 0 ? names : Object.keys(benchmarks)) {
    const result = await benchmarks[name]?.({ quick: flags.has('--quick') })
    if (flags.has('--json')) process.stdout.write(`${JSON.stringify({ benchmark: name, ...result })}\n`)
    else for (const [key, value] of Object.entries(result ?? {})) process.stdout.write(`${key.padEnd(24)} ${JSON.stringify(value)}\n`)
    if (result?.verified !== true) process.exitCode = 1
  }
}
