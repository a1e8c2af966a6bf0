import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { messageOf } from '../src/errors.ts'
import { plan } from '../test/faults/plan.ts'
import { runFaults } from '../test/faults/stage.ts'

// `npm run test:faults -- --seed N --minutes M`: real workers of every domain under load, and a plan of faults. The same seed, the same plan.
const USAGE = `npm run test:faults -- [--seed N] [--minutes M] [--json FILE] [--plan] [--keep]

  --seed N      which plan; default: one at random, which is printed
  --minutes M   how long, from 1 to 1440; default: 2
  --json FILE   what happened, for other programs
  --plan        print the plan and do nothing
  --keep        keep the server's files and the workers' logs, also when nothing was wrong

Exit codes: 0 no violation, 1 violations or broken off, 2 bad usage.
`

function read(): { seed: number; minutes: number; json: string | undefined; onlyPlan: boolean; keep: boolean } | string {
  try {
    const { values } = parseArgs({
      options: {
        seed: { type: 'string' },
        minutes: { type: 'string', default: '2' },
        json: { type: 'string' },
        plan: { type: 'boolean', default: false },
        keep: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
    if (values.help) return ''
    const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(values.seed)
    if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 32) return `--seed must be a whole number from 0 to ${2 ** 32 - 1}, not "${values.seed}"`
    const minutes = Number(values.minutes)
    if (!(minutes >= 1 && minutes <= 1440)) return `--minutes must be a number from 1 to 1440, not "${values.minutes}"`
    return { seed, minutes, json: values.json, onlyPlan: values.plan, keep: values.keep }
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

const say = (line: string) => void process.stdout.write(`${line}\n`)

async function main(): Promise<number> {
  const options = read()
  if (typeof options === 'string') {
    process.stderr.write(`${options === '' ? '' : `${options}\n\n`}${USAGE}`)
    return options === '' ? 0 : 2
  }
  const { seed, minutes, json, onlyPlan, keep } = options
  const faults = plan(seed, minutes)
  say(`seed ${seed}, ${minutes} minutes, ${faults.length} faults`)
  for (const { number, kind, atMs, lastsMs, victim, dose } of faults) {
    say(
      `${String(number).padStart(4)}  ${(atMs / 1000).toFixed(1).padStart(7)} s  ${kind.padEnd(11)} ${(lastsMs / 1000).toFixed(1).padStart(4)} s  victim ${victim}  dose ${dose}`,
    )
  }
  if (onlyPlan) return 0
  const interrupted = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort(new Error(`ended by ${signal}, nothing was checked`)))
  const result = await runFaults({ faults, tell: say, ...(keep ? { keep: 'always' as const } : {}), signal: interrupted.signal }).catch((error: unknown) => {
    if (!interrupted.signal.aborted) throw error
    process.stderr.write(`${messageOf(interrupted.signal.reason)}\n`)
  })
  if (result === undefined) return 1
  say(`\n${result.table}`)
  say(
    Object.entries(result.done)
      .map(([what, times]) => `${what}: ${times}`)
      .join(', '),
  )
  if (json !== undefined) writeFileSync(json, `${JSON.stringify({ seed, minutes, plan: faults, ...result }, null, 2)}\n`)
  if (result.kept !== undefined) say(`kept: ${result.kept} (the server's files in server/, the workers' logs in logs/, the reports in reports/ or store/)`)
  if (result.violations.length === 0) return 0
  say(`\n${result.violations.length} violations:`)
  for (const line of result.violations) say(`  ${line}`)
  say(`again: npm run test:faults -- --seed ${seed} --minutes ${minutes}`)
  return 1
}

process.exitCode = await main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
  return 1
})
