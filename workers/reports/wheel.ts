import type { Loop } from '../../src/loop.ts'
import { openStore } from '../../src/store.ts'
import { startWheel } from '../../src/wheel.ts'

const REPORTS_MAX = 100
const STRAYS_MAX = 100
const BACKSTOP_MS = 15_000
const HOUSEKEEPING_MS = 60_000

/** Starts scheduled reports at their time (document 001), and removes files that belong to nothing any more. */
export const reportWheel: Loop = {
  queue: 'reports.execute',
  channel: 'pawl_reports',
  start({ config, db, log, clock }) {
    let keptMs = Number.NEGATIVE_INFINITY
    return startWheel({
      clock,
      log,
      backstopMs: BACKSTOP_MS,
      async turn() {
        const [row] = await db.query<{ started: number; more: boolean; next_at_ms: number | null; now_ms: number }>(
          'select * from pawl.start_scheduled_reports($1)',
          [REPORTS_MAX],
        )
        if (row === undefined) throw new Error('pawl.start_scheduled_reports returned no row')
        if (row.started > 0) log.info({ started: row.started }, 'scheduled reports started')
        if (config.reportStore !== undefined && clock.elapsed() - keptMs >= HOUSEKEEPING_MS) {
          keptMs = clock.elapsed()
          // A store that is out of reach must not keep reports from their time.
          await removeStrays().catch((error: unknown) => log.warn({ err: error }, 'files of ended reports could not be removed'))
        }
        return { more: row.more, nextAtMs: row.next_at_ms, nowMs: row.now_ms }
      },
    })

    async function removeStrays(): Promise<void> {
      const strays = await db.query<{ key: string }>('select key from pawl.stray_report_files($1) key', [STRAYS_MAX])
      if (strays.length === 0 || config.reportStore === undefined) return
      const store = openStore(config.reportStore, { config })
      for (const { key } of strays) await store.remove(key)
      await db.query('delete from pawl.report_files where key = any ($1)', [strays.map(stray => stray.key)])
      log.info({ files: strays.length }, 'files of ended reports removed')
    }
  },
}
