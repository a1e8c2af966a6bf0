import { upgrade } from '../bin/commands/migrate.ts'
import { systemClock } from '../src/clock.ts'
import { readConfig } from '../src/config.ts'
import { startEmbedded } from '../src/embedded.ts'
import { openLog } from '../src/log.ts'
import { buildBundle, startBundle } from '../test/support/bundle.ts'
import { median, rounded, say } from './report.ts'

const STARTS = 5
const SETTLE_MS = 10_000

/** What the image holds, started as it starts there: from start to ready, and the memory it has when idle. */
export async function image(): Promise<Record<string, unknown>> {
  const log = openLog({ level: 'silent' })
  const server = await startEmbedded({ log, ephemeral: true })
  const bundle = buildBundle()
  try {
    await upgrade(readConfig({ DATABASE_URL: server.url }), log)
    const readyMs: number[] = []
    let rssMb = 0
    let verified = true
    for (let start = 1; start <= STARTS; start += 1) {
      const worker = await startBundle(bundle.folder, server.url)
      readyMs.push(worker.readyMs)
      // The last one is left alone for a while: what it holds after its first sweeps is what it keeps.
      if (start === STARTS) {
        await systemClock.sleep(SETTLE_MS)
        rssMb = worker.rssMb()
      }
      verified = (await worker.end()) === 0 && worker.uid !== 0 && verified
      say(`start ${start}: ready after ${Math.round(worker.readyMs)} ms`)
    }
    return { ready_ms: Math.round(median(readyMs)), idle_rss_mb: rounded(rssMb, 1), starts: STARTS, verified }
  } finally {
    bundle.remove()
    await server.stop()
  }
}
