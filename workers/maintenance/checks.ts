import { statfs } from 'node:fs/promises'
import type { Clock } from '../../src/clock.ts'
import type { Config } from '../../src/config.ts'
import type { Query } from '../../src/database.ts'
import { codeOf, messageOf } from '../../src/errors.ts'
import type { Loop, LoopContext } from '../../src/loop.ts'
import { openStore } from '../../src/store.ts'
import { findTools } from '../../src/tools.ts'

/** What a worker finds where SQL can't look: on its own machine. */
export type WorkerCheck = { check: string; ok: boolean; detail: string; data?: Record<string, unknown> }

const EVERY_MS = 15 * 60_000
const RETRY_MS = 30_000
const PINGS = 5
const LATENCY_MS_MAX = 100
const FREE_SHARE_MIN = 0.05
const GIGABYTE = 2 ** 30

/**
 * Each worker looks at its machine when it starts and every quarter of an hour, or when someone says `notify pawl_health`, so that a missing
 * pg_dump is known by day and not at two in the morning. `pawl.health` shows what they found.
 */
export const workerChecks: Loop = {
  queue: 'maintenance.health',
  channel: 'pawl_health',
  start(context) {
    const { log, clock } = context
    const stopping = new AbortController()
    let woken = new AbortController()
    let told = ''
    const turn = async () => {
      const bad = (await lookAndRecord(context)).filter(check => !check.ok)
      // Once, and again when it changes: not every quarter of an hour.
      const words = JSON.stringify(bad.map(({ check }) => check))
      if (words !== told) for (const { check, detail } of bad) log.warn({ check, detail }, 'this worker needs a person')
      told = words
      return EVERY_MS
    }
    const looping = (async () => {
      while (!stopping.signal.aborted) {
        const waitMs = await turn().catch((error: unknown) => {
          log.warn({ reason: messageOf(error) }, 'what this worker found could not be written down')
          return RETRY_MS
        })
        await clock.sleep(waitMs, AbortSignal.any([stopping.signal, woken.signal]))
        woken = new AbortController()
      }
    })()
    return {
      notified: () => woken.abort(),
      async stop() {
        stopping.abort()
        await looping
      },
    }
  },
}

/** While the lease is lost nothing is written: when it is back, a notification comes with it. */
async function lookAndRecord(context: LoopContext): Promise<WorkerCheck[]> {
  const checks = await lookAround(context)
  await context.db.query('select pawl.record_worker_checks(l.name, $2) from pawl.leases l where l.id = $1', [context.lease() ?? null, JSON.stringify(checks)])
  return checks
}

/** Everything that is to be found out, side by side; what can't be found out is a finding. */
export function lookAround({ config, db, clock }: Pick<LoopContext, 'config' | 'db' | 'clock'>): Promise<WorkerCheck[]> {
  const places = [...new Set([config.backup.place, config.reportStore, config.archiveStore])].filter(place => place?.startsWith('/') === true)
  return Promise.all([latency(db, clock), Promise.resolve(pool(db, config)), backupReadiness(db, config), ...(places as string[]).map(room)])
}

async function latency(db: LoopContext['db'], clock: LoopContext['clock']): Promise<WorkerCheck> {
  const median = await pingMs(db.query, clock)
  const ms = Math.round(median * 10) / 10
  return { check: 'latency', ok: median < LATENCY_MS_MAX, detail: `the database answers in ${ms} ms`, data: { ms } }
}

/** How long the database takes to answer, the median of a few times: one may meet a pause of anybody's. */
export async function pingMs(query: Query, clock: Clock): Promise<number> {
  const times: number[] = []
  for (let ping = 0; ping < PINGS; ping += 1) {
    const begun = clock.elapsed()
    await query('select 1')
    times.push(clock.elapsed() - begun)
  }
  return times.sort((one, other) => one - other)[Math.floor(PINGS / 2)] ?? 0
}

function pool(db: LoopContext['db'], { poolMax }: Config): WorkerCheck {
  const { total, idle, waiting } = db.counts()
  return {
    check: 'pool',
    ok: waiting < poolMax,
    detail: `${total - idle} of ${poolMax} connections in use, ${waiting} callers wait`,
    data: { total, idle, waiting, max: poolMax },
  }
}

async function backupReadiness(db: LoopContext['db'], config: Config): Promise<WorkerCheck> {
  const check = 'backup'
  const { place, recipients } = config.backup
  if (place === undefined) return { check, ok: true, detail: 'off: neither BACKUP_DIR nor BACKUP_S3_BUCKET is set', data: { place: null } }
  try {
    const [server] = await db.query<{ major: number }>(`select current_setting('server_version_num')::integer / 10000 as major`)
    const tools = await findTools(config.pgBin, server?.major ?? 0)
    // Whether the place can be reached at all; what is in it does not matter here.
    for await (const _ of openStore(place, { config }).list()) break
    return { check, ok: true, detail: `pg_dump ${tools.version}, ${recipients.length === 0 ? 'not encrypted' : 'encrypted'}, to ${place}`, data: { place } }
  } catch (error) {
    return { check, ok: false, detail: messageOf(error), data: { place } }
  }
}

async function room(directory: string): Promise<WorkerCheck> {
  const check = `disk ${directory}`
  try {
    const { bavail, blocks, bsize } = await statfs(directory)
    const free = bavail * bsize
    const share = blocks === 0 ? 0 : bavail / blocks
    return {
      check,
      ok: share >= FREE_SHARE_MIN || free >= 50 * GIGABYTE,
      detail: `${(free / GIGABYTE).toFixed(1)} GB free (${Math.round(share * 100)} %)`,
      data: { free_bytes: free },
    }
  } catch (error) {
    // It is made with the first file.
    return { check, ok: codeOf(error) === 'ENOENT', detail: codeOf(error) === 'ENOENT' ? 'nothing there yet' : messageOf(error) }
  }
}
