import { spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

// `npm run check`: everything that can be known of the code without running it. Each check has its own words; all of them are run.
const root = fileURLToPath(new URL('..', import.meta.url))
const bin = join(root, 'node_modules', '.bin')

const checks: readonly (readonly [what: string, command: string, ...words: string[]])[] = [
  ['types', 'tsc', '--noEmit'],
  ['format (npm run format mends it)', 'biome', 'format', '--log-level=warn', '.'],
  ['lint', 'oxlint', '--type-aware', '--deny-warnings', '--quiet'],
  ['unused files, exports, dependencies', 'knip', '--no-progress', '--treat-config-hints-as-errors'],
  ['architecture', 'node', 'scripts/architecture.ts'],
  ['migrations match src/schema', 'drizzle-kit', 'check'],
]

let failed = 0
for (const [what, command, ...words] of checks) {
  const path = command === 'node' ? process.execPath : join(bin, command)
  const environment = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env.PATH ?? ''}` }
  const done = spawnSync(path, words, { cwd: root, encoding: 'utf8', env: environment })
  const ok = done.status === 0
  process.stdout.write(`${ok ? 'ok    ' : 'FAILED'}  ${what}\n`)
  if (ok) continue
  failed += 1
  process.stdout.write(`${done.stdout}${done.stderr}${done.error?.message ?? ''}\n`)
}
process.stdout.write(`${checks.length - failed} passed, ${failed} failed\n`)
process.exitCode = failed === 0 ? 0 : 1
