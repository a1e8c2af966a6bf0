import type { PgBoss } from 'pg-boss'
import { openBoss } from './boss.ts'
import { type Claims, startClaims } from './claims.ts'
import { type Clock, systemClock } from './clock.ts'
import type { Config } from './config.ts'
import { type Database, openDatabase } from './database.ts'
import { messageOf } from './errors.ts'
import { type Check, serveHealth } from './health.ts'
import type { Log } from './log.ts'
import type { Loop, Turning } from './loop.ts'
import { type Metrics, openMetrics } from './metrics.ts'
import { migrationsDir, requireSchema } from './migrate.ts'
import { type Presence, type Rescue, startPresence } from './presence.ts'
import type { Task } from './task.ts'
import type { Worker } from './worker.ts'

/** A worker process: started, drained, gone. Knows no domain. */
export type Daemon = {
  httpPort: number
  workerName: string
  /** Stops claiming, lets runs stop at their next batch edge, hands them back, and closes everything. Safe to call twice. */
  drain(reason: string): Promise<void>
}

export type DaemonOptions = { config: Config; log: Log; workers: readonly (Worker | Task)[]; loops?: readonly Loop[]; clock?: Clock }

/** Without a confirmed lease for this long we are no use to anyone: not ready. */
const READY_SILENT_MS = 5_000
/** The presence loop turns twice a second; this long without a turn and the event loop is stuck. */
const LIVE_STALLED_MS = 30_000

/**
 * Starts a worker: schema checked, queue connected, lease taken, claims open, probes served.
 * When a step fails, those before it are taken back: what throws leaves no half worker behind that claims and answers nobody.
 */
export async function startDaemon(options: DaemonOptions): Promise<Daemon> {
  const opened: Opened = []
  try {
    return await openDaemon(options, opened)
  } catch (error) {
    for (const close of opened.reverse()) await close().catch(closing => options.log.warn({ err: closing }, 'a part of the worker did not close'))
    throw error
  }
}

/** How to take back each step of a start, first to last. */
type Opened = (() => Promise<void>)[]

async function openDaemon({ config, log, workers, loops = [], clock = systemClock }: DaemonOptions, opened: Opened): Promise<Daemon> {
  const db = openDatabase(config, log, { name: 'pawl worker' })
  opened.push(() => db.close())
  await requireSchema(db.query, migrationsDir(config))
  const drain = new AbortController()
  const held = new Set<string>()
  const boss = openBoss(config, log, { supervise: true, name: 'pawl boss' })
  opened.push(() => stopQuietly(boss, log))
  await boss.start()
  // Filled as the start goes on; the probes answer from the first moment.
  const parts: { claims?: Claims; presence?: Presence } = {}
  const turnings: Turning[] = []
  const metrics: Metrics = openMetrics(
    {
      query: db.query,
      queues: workers.filter(worker => 'work' in worker).map(worker => worker.queue),
      pool: db.counts,
      poolMax: config.poolMax,
      held: () => held.size,
      slots: () => parts.claims?.slots() ?? 0,
      draining: () => drain.signal.aborted,
      leaseSilentMs: () => parts.presence?.silentMs() ?? 0,
    },
    clock,
  )
  // Before the first claim: a port that is taken must not cost a run its delivery.
  const health = await serveHealth({
    host: config.httpHost,
    port: config.httpPort,
    log,
    probes: {
      live: () => [checkOf('loop', (parts.presence?.stalledMs() ?? 0) < LIVE_STALLED_MS, `turned ${Math.round(parts.presence?.stalledMs() ?? 0)} ms ago`)],
      ready: () => readiness(drain.signal.aborted, parts.presence, parts.claims),
      metrics: async () => ({ type: metrics.contentType, text: await metrics.text() }),
    },
  })
  opened.push(() => health.close())
  // Imported by those only who serve them: an idle worker is not to hold what nobody looks at.
  const pagesPort = config.pages.port
  const pages = pagesPort === undefined ? undefined : await (await import('./pages/server.ts')).servePages({ config, port: pagesPort, db, log, clock })
  opened.push(async () => pages?.close())
  const presence = await startPresence({
    config,
    log,
    clock,
    queues: workers.map(worker => worker.queue),
    held: () => [...held],
    onRescue: rescues => voidDeliveries(boss, rescues, metrics, log),
    channels: loops.map(loop => loop.channel),
    onNews(channel, payload = '') {
      if (channel === undefined || channel === 'pawl') void parts.claims?.refresh()
      for (const [place, turning] of turnings.entries()) {
        // A queue that goes on again, or a connection that may have missed something: look for yourself.
        if (loops[place]?.channel === channel) turning.notified(payload)
        else if (channel === undefined || channel === 'pawl') turning.notified('')
      }
    },
  })
  parts.presence = presence
  opened.push(presence.stop)
  const claims = await startClaims({ boss, db, log, clock, config, workers, metrics, drain: drain.signal, held, lease: presence.lease })
  parts.claims = claims
  turnings.push(...loops.map(loop => loop.start({ config, db, log: log.child({ loop: loop.queue }), clock, metrics, lease: presence.lease })))
  opened.push(async () => void (await Promise.all(turnings.map(turning => turning.stop()))))
  log.info({ worker: presence.name, http_port: health.port, queues: workers.map(worker => worker.queue) }, 'worker ready')

  let draining: Promise<void> | undefined
  return {
    httpPort: health.port,
    workerName: presence.name,
    drain(reason) {
      draining ??= (async () => {
        log.info({ reason, held: held.size }, 'worker draining')
        drain.abort()
        await presence.draining()
        await within(config.drainMs, clock, Promise.all([claims.stop(), ...turnings.map(turning => turning.stop())]))
        await stopQuietly(boss, log)
        await presence.stop()
        await health.close()
        await pages?.close()
        await closeQuietly(db, log)
        log.info({ reason, left_behind: held.size }, 'worker drained')
      })()
      return draining
    },
  }
}

function readiness(draining: boolean, presence: Presence | undefined, claims: Claims | undefined): Check[] {
  const silentMs = Math.round(presence?.silentMs() ?? Number.MAX_SAFE_INTEGER)
  return [
    checkOf('database', presence?.lease() !== undefined && silentMs < READY_SILENT_MS, `confirmed ${silentMs} ms ago`),
    checkOf('claiming', (claims?.slots() ?? 0) > 0, `${claims?.slots() ?? 0} slots on ${claims?.queues().join(', ') || 'no queue'}`),
    checkOf('not draining', !draining, draining ? 'shutting down' : 'at work'),
  ]
}

function checkOf(check: string, ok: boolean, detail: string): Check {
  return { check, ok, detail }
}

/** The old job of a rescued run: settled by its attempt, so that whoever held it can't complete it any more. */
async function voidDeliveries(boss: PgBoss, rescues: Rescue[], metrics: Metrics, log: Log): Promise<void> {
  for (const rescue of rescues) {
    metrics.rescue(rescue.reason)
    log.warn({ run_id: rescue.runId, queue: rescue.queue, reason: rescue.reason }, 'run rescued')
    if (rescue.jobId === null || rescue.jobAttempt === null) continue
    await boss
      .complete(rescue.queue, { id: rescue.jobId, retryCount: rescue.jobAttempt }, { outcome: 'rescued', reason: rescue.reason })
      .catch(error => log.warn({ err: error, job_id: rescue.jobId }, 'the old job of a rescued run was not settled'))
  }
}

async function within(ms: number, clock: Clock, work: Promise<unknown>): Promise<void> {
  const settled = new AbortController()
  await Promise.race([work, clock.sleep(ms, settled.signal)]).finally(() => settled.abort())
}

async function stopQuietly(boss: PgBoss, log: Log): Promise<void> {
  await boss.stop({ graceful: false }).catch(error => log.warn({ err: error, reason: messageOf(error) }, 'pg-boss did not stop cleanly'))
}

async function closeQuietly(db: Database, log: Log): Promise<void> {
  await db.close().catch(error => log.warn({ err: error }, 'the pool did not close cleanly'))
}
