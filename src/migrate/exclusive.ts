import type { Clock } from '../clock.ts'
import type { Config } from '../config.ts'
import { connectDirect, type DirectConnection, type Query } from '../database.ts'
import { PawlError } from '../errors.ts'
import type { Log } from '../log.ts'
import { POOLER_HINT, poolerFound, refuseSharedSession } from '../pooler.ts'

/** What is needed to be the only one who migrates. `connect` is a parameter so that a test can stand in for a pooler. */
export type ExclusiveContext = {
  config: Config
  log: Log
  clock: Clock
  connect?: ((config: Config, name: string) => Promise<DirectConnection>) | undefined
  /** How long to wait for another migrator; 10 minutes unless told. */
  lockWaitMs?: number | undefined
}

/** "pawl" in ASCII is the class of Pawl's session locks. Workers lock the number of their lease, which starts at 1. */
const LOCK_CLASS = 1885435756
const LOCK = `${LOCK_CLASS}, 0`

/** How the lock appears in pg_locks: the two-number form has objsubid 2. */
const LOCK_ROW = `locktype = 'advisory' and classid = ${LOCK_CLASS} and objid = 0 and objsubid = 2 and granted
  and database = (select oid from pg_database where datname = current_database())`

/**
 * Runs `work` while no other process migrates this database, on a connection of its own.
 * Throws `database.pooler` behind a transaction pooler, `migrate.locked` when another holds the lock for too long.
 */
export async function exclusively<Result>(context: ExclusiveContext, work: (query: Query) => Promise<Result>): Promise<Result> {
  const connect = context.connect ?? connectDirect
  const connection = await connect(context.config, 'pawl migrate')
  const second = () => connect(context.config, 'pawl migrate self-test')
  try {
    await refuseSharedSession(connection, second)
    await prepareSession(connection.query)
    await takeLock(context, connection.query)
    await proveExclusive(connection, second)
    const result = await work(connection.query)
    await connection.query(`select pg_advisory_unlock(${LOCK})`)
    return result
  } finally {
    // Whatever happened: the end of the session frees the lock.
    await connection.close()
  }
}

/**
 * Gives the session the state every file starts from, also after a file that said `set`.
 * - search_path: a role called like one of our schemas (say `pawl`) would otherwise create its tables there.
 * - client_connection_check_interval: PostgreSQL looks for a client that was killed in the middle of a long statement only
 *   when told to; without it the lock stays held until that statement ends (measured: 7 s of an 8 s statement).
 */
export async function prepareSession(query: Query): Promise<void> {
  await query(`reset role; reset all;
    set search_path = public; set timezone = 'UTC'; set statement_timeout = 0; set lock_timeout = '3s';
    set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 2; set tcp_keepalives_count = 3`)
  // Refused before PostgreSQL 14 and where the kernel can't tell: then we go without.
  await query(`set client_connection_check_interval = '500ms'`).catch(() => {})
}

/** Throws unless the backend that runs this holds the lock: asked inside the transaction that is about to change something. */
export async function requireLock(query: Query): Promise<void> {
  const rows = await query(`select from pg_locks where ${LOCK_ROW} and pid = pg_backend_pid()`)
  if (rows.length > 0) return
  throw new PawlError('migrate.lock_lost', 'this session does not hold the migration lock any more', { retryable: true, hint: POOLER_HINT })
}

/** The lock is worth something only when a second connection does not get it. */
async function proveExclusive(first: DirectConnection, connectSecond: () => Promise<DirectConnection>): Promise<void> {
  const second = await connectSecond()
  try {
    const [answer] = await second.query<{ got: boolean }>(`select pg_try_advisory_lock(${LOCK}) as got`)
    if (!answer?.got) return
    await second.query(`select pg_advisory_unlock(${LOCK})`)
    await requireLock(first.query)
    await first.query(`select pg_advisory_unlock(${LOCK})`)
    throw poolerFound()
  } finally {
    await second.close()
  }
}

/**
 * Polls, and never waits inside `pg_advisory_lock()`: a waiting statement holds a snapshot, `create index concurrently` waits
 * for every older snapshot, and the holder that builds an index would deadlock with the replicas that wait for it.
 */
async function takeLock({ clock, log, lockWaitMs = 600_000 }: ExclusiveContext, query: Query): Promise<void> {
  const startedAt = clock.elapsed()
  for (let told = false; ; told = true) {
    const [answer] = await query<{ got: boolean }>(`select pg_try_advisory_lock(${LOCK}) as got`)
    if (answer?.got) return
    const waitedMs = clock.elapsed() - startedAt
    if (waitedMs >= lockWaitMs) throw await locked(query, waitedMs)
    if (!told) log.info({ wait_max_ms: lockWaitMs }, 'waiting for another migrator')
    // The jitter keeps replicas that started together from asking together.
    await clock.sleep(100 + Math.random() * 200)
  }
}

async function locked(query: Query, waitedMs: number): Promise<PawlError> {
  const [holder] = await query<{ pid: number; application: string; address: string | null; state: string | null }>(`
    select pid, a.application_name as application, host(a.client_addr) as address, a.state
    from pg_locks l
    join pg_stat_activity a using (pid)
    where ${LOCK_ROW}`)
  const who = holder ? `pid ${holder.pid} (${holder.application}, ${holder.address ?? 'local'}, ${holder.state ?? 'unknown'})` : 'a session that has just ended'
  return new PawlError('migrate.locked', `the migration lock was not free within ${Math.round(waitedMs / 1000)} s; it is held by ${who}`, {
    retryable: true,
    hint: holder ? `let it finish, or end it: select pg_terminate_backend(${holder.pid})` : 'run it again',
  })
}
