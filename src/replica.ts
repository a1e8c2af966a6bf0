import type { Clock } from './clock.ts'
import type { Config } from './config.ts'
import { type Database, openReader, type Query, type Reader } from './database.ts'
import { classify, codeOf, PawlError } from './errors.ts'
import type { Log } from './log.ts'

/** A reader, and where it reads. */
export type FreshReader = { reader: Reader; from: 'primary' | 'replica' }

/** Where the primary stood: a replica that has replayed `position` on this timeline of this cluster has all that was committed before. */
type Mark = { position: string; timeline: number; cluster: string | undefined }

type Standby = { recovering: boolean; paused: boolean | null; reached: boolean | null; timeline: number }

/** A replica that is not there must not cost more than this; one that is there answers in milliseconds. */
const ANSWER_MS = 2_000
const PAUSE_MS_MAX = 50

/**
 * Opens a reader that sees all that was committed before the call: on the replica (DATABASE_READ_REPLICA_URL, which must lead each connection to
 * one standby) when that has it within `config.replicaWaitMs`, else on the primary, with one warning that says why. Throws only what the primary throws.
 * With `primaryOnly` the replica is not asked: for the next attempt after an error that `primaryMayAnswer`.
 */
export async function openFreshReader(
  context: { config: Config; db: Database; log: Log; clock: Clock },
  name: string,
  options: { primaryOnly?: boolean } = {},
): Promise<FreshReader> {
  const { config, db, log, clock } = context
  if (config.replicaUrl !== undefined && options.primaryOnly !== true) {
    const mark = await markOf(db.query)
    try {
      return { reader: await openReplica(config, config.replicaUrl, name, mark, clock), from: 'replica' }
    } catch (error) {
      log.warn({ reason: reasonOf(error), err: error }, 'reading from the primary instead of the replica')
    }
  }
  return { reader: await openReader(config, config.databaseUrl, name), from: 'primary' }
}

/**
 * Whether a query that failed on the replica deserves a try on the primary: cancelled because the replay had to go on (40001), a replica that went
 * away, or what no standby can do, such as reading an unlogged table (0A000). Not a statement that took too long: the primary has other work.
 */
export function primaryMayAnswer(error: unknown): boolean {
  const code = codeOf(error)
  if (code === '57014') return false
  // 55000: "recovery is in progress"; 57P04: "terminating connection due to conflict with recovery".
  return code === '0A000' || code === '55000' || code === '57P04' || classify(error) === 'transient'
}

/**
 * The end of a WAL record of our own, written and flushed now, so it lies behind every commit that anyone can see, and a replica can reach it at once.
 * The functions that only ask were measured and are no good, with a streaming standby on the same machine:
 * - `pg_current_wal_lsn()` and `pg_current_wal_flush_lsn()` lay before the commit in 40 of 40 commits with `synchronous_commit = off`: a stale report.
 * - `pg_current_wal_insert_lsn()` is safe, but then the WAL writer decides when it is sent: 200 ms in the middle, 400 ms at worst, against 0.2 ms and
 *   1.7 ms. And it says where the next record will begin: behind a page header (0/400A018, one commit in hundreds) or after a WAL switch (0/4000028) that
 *   is a place which nothing has written, and an idle primary was never reached.
 * The message takes no transaction id and is not awaited by synchronous standbys; logical decoding passes it over unless asked for messages.
 */
async function markOf(query: Query): Promise<Mark> {
  const [row] = await emit(query, `, '', true`).catch((error: unknown) => {
    // Before PostgreSQL 17 the message can't be flushed at once; the WAL writer does it within 200 ms.
    if (codeOf(error) === '42883') return emit(query, `, ''`)
    throw error
  })
  if (row === undefined) {
    throw new PawlError('database.in_recovery', 'the primary is in recovery: it takes no writes', {
      retryable: true,
      hint: 'wait for the end of the fail-over, or correct DATABASE_URL if it names a standby',
    })
  }
  return { position: row.position, timeline: Number.parseInt(row.file.slice(0, 8), 16), cluster: await clusterOf(query) }
}

function emit(query: Query, rest: string): Promise<{ position: string; file: string }[]> {
  return query(`select pg_logical_emit_message(false, 'pawl.fresh'${rest})::text as position, pg_walfile_name(pg_current_wal_insert_lsn()) as file
    where not pg_is_in_recovery()`)
}

async function openReplica(config: Config, url: string, name: string, mark: Mark, clock: Clock): Promise<Reader> {
  const reader = await openReader(config, url, name, undefined, {
    answerMs: ANSWER_MS,
    beforeSnapshot: query => reach(query, mark, config.replicaWaitMs, clock),
  })
  try {
    // The first query takes the snapshot, after the position was reached and never before. In recovery still: nothing in it is of another timeline.
    const [row] = await reader.query<{ recovering: boolean }>('select pg_is_in_recovery() as recovering')
    if (row?.recovering !== true) throw promoted()
    return reader
  } catch (error) {
    await reader.close()
    throw error
  }
}

async function reach(query: Query, mark: Mark, waitMs: number, clock: Clock): Promise<void> {
  const cluster = await clusterOf(query)
  if (mark.cluster !== undefined && cluster !== undefined && cluster !== mark.cluster) {
    throw unfit('other_cluster', 'the replica belongs to another cluster than the primary', 'correct DATABASE_READ_REPLICA_URL')
  }
  const deadline = clock.elapsed() + waitMs
  for (let pauseMs = 2; ; pauseMs = Math.min(2 * pauseMs, PAUSE_MS_MAX)) {
    const standby = await look(query, mark.position)
    if (!standby.recovering) throw promoted()
    if (standby.reached === true) return sameTimeline(standby, mark)
    const leftMs = deadline - clock.elapsed()
    if (leftMs <= 0) throw late(standby, waitMs)
    await clock.sleep(Math.min(pauseMs, leftMs))
  }
}

/**
 * A standby of the old primary may have replayed further than the new one has written, and yet lack its rows. The timeline is the one it receives;
 * who may not see that (no pg_read_all_stats), or no receiver, leaves the one of its last restart point, which after a fail-over lags for minutes.
 */
async function look(query: Query, position: string): Promise<Standby> {
  const [standby] = await query<Standby>(
    `select
      pg_is_in_recovery() as recovering,
      case when pg_is_in_recovery() then pg_is_wal_replay_paused() end as paused,
      pg_last_wal_replay_lsn() >= $1::pg_lsn as reached,
      coalesce(
        (select received_tli from pg_stat_wal_receiver),
        (select greatest(point.timeline_id, recovery.min_recovery_end_timeline) from pg_control_checkpoint() point, pg_control_recovery() recovery)
      ) as timeline`,
    [position],
  )
  return standby as Standby
}

function sameTimeline(standby: Standby, mark: Mark): void {
  if (standby.timeline === mark.timeline) return
  const hint = 'let the replica follow the new primary, and give its login pg_read_all_stats: without that its last restart point decides'
  throw unfit('other_timeline', `the replica is on timeline ${standby.timeline}, the primary on ${mark.timeline}`, hint)
}

function promoted(): PawlError {
  return unfit('not_in_recovery', 'the replica is no standby (any more)', 'point DATABASE_READ_REPLICA_URL at a standby of DATABASE_URL')
}

function late(standby: Standby, waitMs: number): PawlError {
  if (standby.paused === true) return unfit('replay_paused', 'the replay of the replica is paused', 'select pg_wal_replay_resume() on it')
  return unfit('behind', `the replica had not caught up after ${waitMs} ms`, 'see pg_stat_replication on the primary, or raise PAWL_REPLICA_WAIT_MS')
}

/** The name that every copy of one cluster bears; undefined where we may not ask. */
async function clusterOf(query: Query): Promise<string | undefined> {
  try {
    const [row] = await query<{ id: string }>('select system_identifier::text as id from pg_control_system()')
    return row?.id
  } catch (error) {
    if (codeOf(error) === '42501') return undefined
    throw error
  }
}

function unfit(reason: string, message: string, hint: string): PawlError {
  return new PawlError(`replica.${reason}`, message, { retryable: true, hint })
}

function reasonOf(error: unknown): string {
  if (error instanceof PawlError) return error.code.replace(/^replica\./, '')
  if (codeOf(error) === '3D000') return 'no_database'
  return classify(error) === 'transient' ? 'unreachable' : 'refused'
}
