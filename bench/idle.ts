import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { upgrade } from '../bin/commands/migrate.ts'
import { systemClock } from '../src/clock.ts'
import { readConfig } from '../src/config.ts'
import { startEmbedded } from '../src/embedded.ts'
import { openLog } from '../src/log.ts'
import { buildBundle, startBundle } from '../test/support/bundle.ts'
import { rounded, say } from './report.ts'

const SETTLE_MS = 10_000
const COUNTED_MS = 30_000

/** What an idle worker asks of its database: the statements a second that the server itself logged, by connection. */
export async function idle(): Promise<Record<string, unknown>> {
  const log = openLog({ level: 'silent' })
  const settings = { logging_collector: 'on', log_directory: 'statements', log_statement: 'all', log_line_prefix: '%a|', log_rotation_size: '0' }
  const server = await startEmbedded({ log, ephemeral: true, settings })
  const bundle = buildBundle()
  try {
    await upgrade(readConfig({ DATABASE_URL: server.url }), log)
    const worker = await startBundle(bundle.folder, server.url)
    await systemClock.sleep(SETTLE_MS)
    const before = statements(server.dataDir).length
    await systemClock.sleep(COUNTED_MS)
    const counted = statements(server.dataDir).slice(before)
    const verified = (await worker.end()) === 0 && counted.length > 0
    for (const [what, times] of frequent(counted)) say(`${rounded(times / (COUNTED_MS / 1000), 2)}/s ${what}`)
    return { idle_statements_per_second: rounded(counted.length / (COUNTED_MS / 1000), 1), seconds: COUNTED_MS / 1000, verified }
  } finally {
    bundle.remove()
    await server.stop()
  }
}

/** What began in the server's log so far; BEGIN and COMMIT count as what they are, statements of their own. */
function statements(dataDir: string): string[] {
  const folder = join(dataDir, 'statements')
  return readdirSync(folder)
    .flatMap(file => readFileSync(join(folder, file), 'utf8').replaceAll(/\n\s+/g, ' ').split('\n'))
    .filter(line => /^[^|]*\|LOG: {2}(statement|execute [^:]*):/.test(line))
}

function frequent(lines: readonly string[]): [string, number][] {
  const times = new Map<string, number>()
  for (const line of lines) {
    const what = line.replace(/LOG: {2}(statement|execute [^:]*): */, '').slice(0, 220)
    times.set(what, (times.get(what) ?? 0) + 1)
  }
  return [...times].sort((left, right) => right[1] - left[1]).slice(0, 25)
}
