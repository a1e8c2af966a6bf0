import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'

/** What an operation did to the others: its own time, and the longest that anyone's insert took meanwhile. Milliseconds. */
export type Stall = { tookMs: number; insertMs: number; inserts: number }

/**
 * Runs `act` beside someone who holds `beside` (a statement) in a transaction for `seconds`, and someone who inserts without a pause; measures
 * how long the slowest insert took. `act` begins when the holder holds.
 */
export async function stallOf(url: string, parts: { beside: string; insert: string; seconds: number; act: () => Promise<unknown> }): Promise<Stall> {
  const config = readConfig({ DATABASE_URL: url })
  const [holder, inserter] = [await connectDirect(config, 'holder'), await connectDirect(config, 'inserter')]
  try {
    await holder.query('begin')
    await holder.query(parts.beside)
    const held = holder.query(`select pg_sleep(${parts.seconds})`).then(() => holder.query('commit'))
    // The first one reads the catalog, as every new connection does.
    await inserter.query(parts.insert)
    let over = false
    const begun = systemClock.elapsed()
    const acting = parts.act().then(() => systemClock.elapsed() - begun)
    const ended = Promise.all([acting, held]).finally(() => {
      over = true
    })
    let [insertMs, inserts] = [0, 0]
    while (!over) {
      const at = systemClock.elapsed()
      await inserter.query(parts.insert)
      insertMs = Math.max(insertMs, systemClock.elapsed() - at)
      inserts += 1
      await systemClock.sleep(1)
    }
    await ended
    return { tookMs: Math.round(await acting), insertMs: Math.round(insertMs), inserts }
  } finally {
    await Promise.all([holder.close(), inserter.close()])
  }
}

/** The least stall of a few tries: a machine that was busy with something else proves nothing against the product. */
export async function leastStall(what: string, mostMs: number, tries: number, measure: (attempt: number) => Promise<Stall>): Promise<Stall> {
  let least: Stall | undefined
  for (let attempt = 1; attempt <= tries; attempt += 1) {
    const stall = await measure(attempt)
    console.info(`${what}: the slowest of ${stall.inserts} inserts took ${stall.insertMs} ms, the work itself ${stall.tookMs} ms`)
    if (least === undefined || stall.insertMs < least.insertMs) least = stall
    if (least.insertMs <= mostMs) return least
  }
  if (least === undefined) throw new Error('nothing was measured')
  return least
}
