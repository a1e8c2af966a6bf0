import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { upgrade } from '../bin/commands/migrate.ts'
import { systemClock } from '../src/clock.ts'
import { readConfig } from '../src/config.ts'
import { openDatabase } from '../src/database.ts'
import { startEmbedded } from '../src/embedded.ts'
import { openLog } from '../src/log.ts'
import { judge, type Verdict } from '../test/soak/judge.ts'
import { startLoad } from '../test/soak/load.ts'
import { type Sample, takeSample } from '../test/soak/samples.ts'
import { buildBundle, startBundle } from '../test/support/bundle.ts'

// npm run test:soak -- [--minutes 60] [--json FILE]: a worker as the image starts it, at a steady load; exit 1 when something grows, or a run failed.
const { values } = parseArgs({ options: { minutes: { type: 'string', default: '60' }, json: { type: 'string' } } })
const minutes = Number(values.minutes)
if (!(minutes > 0)) {
  process.stderr.write(`--minutes ${values.minutes} is no number of minutes: say --minutes 60\n`)
  process.exit(2)
}
const EVERY_MS = Math.min(20_000, (minutes * 60_000) / 30)

const log = openLog({ level: 'warn', destination: 2 })
const server = await startEmbedded({ log, ephemeral: true })
const bundle = buildBundle({ modules: true })
const store = mkdtempSync(join(tmpdir(), 'pawl-soak-'))
// The worker runs as nobody when we are root.
chmodSync(store, 0o777)
const config = readConfig({ DATABASE_URL: server.url })
await upgrade(config, log)
const db = openDatabase({ ...config, queryTimeoutMs: 0 }, log, { max: 8 })
const samples: Sample[] = []
try {
  const worker = await startBundle(bundle.folder, server.url, { PAWL_REPORT_STORE: store })
  const load = await startLoad(db.query)
  const begun = systemClock.elapsed()
  let since = new Date(systemClock.now())
  while (systemClock.elapsed() - begun < minutes * 60_000) {
    await systemClock.sleep(EVERY_MS)
    const [at] = await db.query<{ now: Date }>('select now()')
    const sample = await takeSample(db.query, { seconds: Math.round((systemClock.elapsed() - begun) / 1000), rssMb: worker.rssMb(), since })
    since = at?.now ?? since
    samples.push(sample)
    process.stderr.write(
      `${sample.seconds} s: ${sample.rssMb.toFixed(1)} MB, ${sample.connections} connections, ${sample.ended} runs ended, timers ${sample.timerLateMs.toFixed(1)} ms late\n`,
    )
  }
  await load.stop()
  const [left] = await db.query<{ failed: number; stuck: number }>(
    'select (select count(*)::integer from pawl.failures) as failed, (select count(*)::integer from pawl.stuck) as stuck',
  )
  const code = await worker.end()
  const verdicts = judge(samples)
  print(verdicts)
  process.stdout.write(`${JSON.stringify({ minutes, asked: load.asked, failed: left?.failed, stuck: left?.stuck, worker_exit: code })}\n`)
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ minutes, asked: load.asked, ...left, verdicts, samples })}\n`)
  if (verdicts.some(({ flat }) => !flat) || left?.failed !== 0 || left.stuck !== 0 || code !== 0) process.exitCode = 1
} finally {
  await db.close()
  await server.stop()
  bundle.remove()
  rmSync(store, { recursive: true, force: true })
}

function print(verdicts: readonly Verdict[]): void {
  const width = Math.max(...verdicts.map(({ what }) => what.length))
  for (const { what, unit, before, after, ratio, flat } of verdicts) {
    const change = `${ratio >= 1 ? '+' : ''}${((ratio - 1) * 100).toFixed(1)} %`
    process.stdout.write(`${flat ? 'flat ' : 'GROWS'}  ${what.padEnd(width)}  ${before.toFixed(1)} → ${after.toFixed(1)} ${unit} (${change})\n`)
  }
}
