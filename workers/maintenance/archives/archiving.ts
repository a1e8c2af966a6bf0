import type { RunContext } from '../../../src/batches.ts'
import type { Query } from '../../../src/database.ts'
import { classify, codeOf, messageOf } from '../../../src/errors.ts'
import { backoffMs } from '../../../src/retry.ts'

/** What the steps of an archive work with. `signal`: break off, take back what is half done, and throw. */
export type Archiving = RunContext & { place: string; signal: AbortSignal }

/** Where an archive stands, as `pawl.start_archive` tells it. */
export type Begun =
  | { outcome: 'gone' | 'kept' }
  | {
      outcome: 'started'
      /** What an operator wants of the run. */
      stop: 'cancel' | 'pause' | null
      state: 'planned' | 'detached' | 'written' | 'verified'
      parent: string
      partition: string
      /** The partition's name, ready to stand in a statement. */
      relation: string
      /** The parent's bare name. */
      table: string
      from: string
      to: string
      /** Whether this login may detach without anyone noticing. */
      concurrently: boolean
      key: string | null
      sha256: string | null
      rows: number | null
    }

export type Started = Extract<Begun, { outcome: 'started' }>

/** How often a step that has to wait for others says so. */
const TELL_EVERY = 60

/**
 * Tries until it finds its locks free, for as long as that takes: each try waits for 50 ms at most, because everyone else who comes
 * meanwhile waits behind it, and then stands back for longer than it waited. Lost connections are waited out as well.
 */
export async function untilFree<Result>(archiving: Archiving, busy: string, work: () => Promise<Result>): Promise<Result> {
  const { clock, log, signal } = archiving
  for (let attempt = 1; ; attempt += 1) {
    signal.throwIfAborted()
    try {
      return await work()
    } catch (error) {
      if (classify(error) !== 'transient') throw error
      const isBusy = codeOf(error) === '55P03'
      if (attempt % TELL_EVERY === 1)
        log[isBusy ? 'info' : 'warn']({ attempt, reason: isBusy ? busy : messageOf(error) }, 'step of an archive waits, trying again')
      await clock.sleep(isBusy ? 150 + backoffMs(Math.min(attempt, 4), 25, 400) : backoffMs(attempt, 50, 2_000), signal)
    }
  }
}

/** The class of the session locks by which the connections of a run are known: pawl, after the leases' own and the backups'. */
const LOCK_CLASS = 1885435758

/** Marks a connection as one of the run's. It is not waited for: any number hold it. */
export async function mark(query: Query, runId: string): Promise<void> {
  await query('select pg_advisory_lock_shared($1, hashtext($2))', [LOCK_CLASS, runId])
}

/**
 * Ends the connections of earlier attempts. A worker that hangs in the middle of reading a month would hold it for as long as it hangs,
 * and nobody could drop it. Whoever may not end another login's connections waits for it.
 */
export async function endEarlier({ db, run, log }: Archiving): Promise<void> {
  const ended = await db
    .query<{ pid: number }>(
      `select l.pid, pg_terminate_backend(l.pid, 1000) from pg_locks l
       where l.locktype = 'advisory' and l.classid = $1 and l.objid::bigint = hashtext($2)::bigint & 4294967295 and l.objsubid = 2
         and l.database = (select d.oid from pg_database d where d.datname = current_database())`,
      [LOCK_CLASS, run.runId],
    )
    .catch((error: unknown) => {
      log.warn({ reason: messageOf(error) }, 'connections of an earlier attempt could not be ended')
      return []
    })
  if (ended.length > 0) log.info({ connections: ended.length }, 'connections of an earlier attempt ended')
}
