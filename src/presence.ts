import { hostname } from 'node:os'
import type { Clock } from './clock.ts'
import type { Config } from './config.ts'
import { connectDirect, type DirectConnection } from './database.ts'
import { codeOf, messageOf } from './errors.ts'
import type { Log } from './log.ts'
import { refuseSharedSession } from './pooler.ts'
import { backoffMs } from './retry.ts'
import { version } from './version.ts'

/** A run taken from a worker that died, hangs, or let it fall; its old delivery is void. */
export type Rescue = { runId: string; queue: string; jobId: string | null; jobAttempt: number | null; reason: 'dead' | 'hung' | 'abandoned' }

/** This worker's row in `pawl.leases` and the session lock that proves it lives. */
export type Presence = {
  name: string
  /** The lease held now, or undefined while the database is out of reach. */
  lease(): number | undefined
  /** Milliseconds since the database last confirmed that we live. */
  silentMs(): number
  /** Milliseconds since the loop last turned, whatever the database said: what /livez watches. */
  stalledMs(): number
  draining(): Promise<void>
  stop(): Promise<void>
}

export type PresenceOptions = {
  config: Config
  log: Log
  clock: Clock
  queues: readonly string[]
  /** Run ids this process works on at this moment. */
  held: () => string[]
  onRescue: (rescues: Rescue[]) => Promise<void>
  /** Channels to listen on besides our own. */
  channels: readonly string[]
  /** Someone paused or resumed a queue, or told us something; no channel: the connection is new, and some of it may have been missed. */
  onNews: (channel?: string, payload?: string) => void
}

/** Class of the advisory locks of leases: "pawl" in ASCII. `pawl.lease_alive` looks for the same number. */
const LOCK_CLASS = 1885435756
const BEAT_MS = 500
/** A beat without an answer for this long: the connection is cut off, and a new one is tried. */
const BEAT_PATIENCE_MS = 4_000
/** How long we must have been connected before a missing lock of another worker means anything. */
const SETTLED_MS = 2_000
const REDELIVER_EVERY_MS = 30_000

/** SQLSTATE of `pawl.beat` when the lease was taken from us: we were presumed dead. */
const LEASE_LOST = 'PW002'

/** Registers this worker and keeps saying that it lives, for as long as the process does; reconnects by itself. */
export async function startPresence(options: PresenceOptions): Promise<Presence> {
  const { config, log, clock } = options
  const name = config.workerName ?? `${hostname()}:${process.pid}`
  const stopping = new AbortController()
  let connection: DirectConnection | undefined
  let lease: number | undefined
  let state: 'running' | 'draining' = 'running'
  let connectedAt = 0
  let beatenAt = clock.elapsed()
  let turnedAt = clock.elapsed()
  let redeliveredAt = clock.elapsed()

  const connect = async () => {
    const fresh = await connectDirect(config, `pawl ${name}`)
    try {
      // Once: the address does not change while we run, and a reconnect after an outage should be quick.
      if (lease === undefined) await refuseSharedSession(fresh, () => connectDirect(config, `pawl ${name} self-test`))
      lease = await takeLease(fresh, lease, name, state, options.queues)
      await fresh.query(['pawl', ...options.channels].map(channel => `listen ${channel}`).join('; '))
    } catch (error) {
      fresh.abort()
      throw error
    }
    fresh.onNotify(options.onNews)
    connection = fresh
    connectedAt = beatenAt = clock.elapsed()
    options.onNews()
    log.info({ lease_id: lease, worker: name }, 'worker registered')
  }

  const beat = async (current: DirectConnection, held: number) => {
    const mayRescue = clock.elapsed() - connectedAt > SETTLED_MS
    const rows = await current.query<{ run_id: string; queue: string; job_id: string | null; job_attempt: number | null; reason: Rescue['reason'] }>(
      `select * from pawl.beat($1, $2, $3 * interval '1 millisecond', $4)`,
      [held, options.held(), config.leaseMs, mayRescue],
    )
    beatenAt = clock.elapsed()
    if (rows.length > 0) {
      await options.onRescue(rows.map(row => ({ runId: row.run_id, queue: row.queue, jobId: row.job_id, jobAttempt: row.job_attempt, reason: row.reason })))
    }
    if (mayRescue && clock.elapsed() - redeliveredAt > REDELIVER_EVERY_MS) {
      redeliveredAt = clock.elapsed()
      const lost = await current.query<{ redeliver_lost: string }>(`select pawl.redeliver_lost('20 seconds')`)
      if (lost.length > 0) log.warn({ run_ids: lost.map(row => row.redeliver_lost) }, 'runs without a delivery were enqueued again')
    }
  }

  const loop = async () => {
    let failures = 0
    while (!stopping.signal.aborted) {
      turnedAt = clock.elapsed()
      try {
        if (connection === undefined) await connect()
        if (connection !== undefined && lease !== undefined) await within(BEAT_PATIENCE_MS, clock, beat(connection, lease))
        failures = 0
        await clock.sleep(BEAT_MS, stopping.signal)
      } catch (error) {
        if (stopping.signal.aborted) return
        failures += 1
        if (codeOf(error) === LEASE_LOST) lease = undefined
        log.warn({ err: error, reason: messageOf(error), failures }, 'worker could not confirm its lease, reconnecting')
        connection?.abort()
        connection = undefined
        await clock.sleep(backoffMs(failures, 50, 1_000), stopping.signal)
      }
    }
  }

  await connect()
  const looping = loop()
  return {
    name,
    lease: () => (connection === undefined ? undefined : lease),
    silentMs: () => clock.elapsed() - beatenAt,
    stalledMs: () => clock.elapsed() - turnedAt,
    async draining() {
      state = 'draining'
      await connection?.query(`update pawl.leases set state = 'draining' where id = $1 and state = 'running'`, [lease]).catch(() => {})
    },
    async stop() {
      stopping.abort()
      await looping
      await connection?.query(`update pawl.leases set state = 'stopped', stopped_at = now() where id = $1`, [lease]).catch(() => {})
      await connection?.close()
    },
  }
}

/** Takes back the lease we had, when nobody has declared it lost, or a new one; and the session lock that goes with it. */
async function takeLease(connection: DirectConnection, former: number | undefined, name: string, state: string, queues: readonly string[]): Promise<number> {
  for (;;) {
    const [row] =
      former === undefined
        ? await connection.query<{ id: number }>(
            'insert into pawl.leases (state, name, host, pid, version, queues) values ($1, $2, $3, $4, $5, $6) returning id',
            [state, name, hostname(), process.pid, version, queues],
          )
        : await connection.query<{ id: number }>(`update pawl.leases set seen_at = now() where id = $1 and state in ('running', 'draining') returning id`, [
            former,
          ])
    if (row === undefined) {
      former = undefined
      continue
    }
    const [lock] = await connection.query<{ locked: boolean }>('select pg_try_advisory_lock($1, $2) as locked', [LOCK_CLASS, row.id])
    if (lock?.locked === true) return row.id
    // The server has not noticed yet that our former connection is gone: that lease will be declared dead, take another.
    former = undefined
  }
}

async function within<Result>(ms: number, clock: Clock, work: Promise<Result>): Promise<Result> {
  const settled = new AbortController()
  const late = clock.sleep(ms, settled.signal).then(() => {
    if (!settled.signal.aborted) throw new Error(`the database has not answered for ${ms} ms`)
    return work
  })
  try {
    return await Promise.race([work, late])
  } finally {
    settled.abort()
    late.catch(() => {})
    work.catch(() => {})
  }
}
