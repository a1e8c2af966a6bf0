import { readConfig } from '../../src/config.ts'
import { connectDirect, type Database, type DirectConnection, openDatabase, type Query } from '../../src/database.ts'
import { openLog } from '../../src/log.ts'
import { version } from '../../src/version.ts'
import { withDatabase } from '../support/global.ts'
import { keepDiary, type Place, STOP_CLASS } from './diary.ts'

export const silent = openLog({ level: 'silent' })

/** A database of its own, where one schedule after another is played; several lie side by side. */
export type Lane = {
  /** Beside the play: asks and changes without anybody's leave. */
  query: Query
  config: ReturnType<typeof readConfig>
  /** The connections of an actor, the same ones in the next schedule unless they were cut. */
  database(actor: string): Database
  /** A lease row and its session lock, as a worker that has just started has them. */
  register(worker: string, queues: readonly string[]): Promise<number>
  /** Ends connections on the server, by their application_name. */
  terminate(names: readonly string[]): Promise<void>
  /** As SIGKILL: the connections end, the lease's as well, and nothing of this actor is used again. */
  bury(actor: string): Promise<void>
  /** Sessions that wait for a lock now. */
  waiting(): Promise<number>
  /** Stops the actor's next statement before it changes `place`; false where it is stopped already. */
  stop(place: Place, actor: string): Promise<boolean>
  letGo(): Promise<void>
  close(): Promise<void>
}

/** What a lock class of leases is in `src/presence.ts`. */
const LEASE_CLASS = 1_885_435_756

/** Clones the migrated template, has the clone keep a diary, and connects. */
export async function openLane(adminUrl: string, template: string, name: string): Promise<Lane> {
  const admin = openDatabase(readConfig({ DATABASE_URL: adminUrl }), silent, { max: 1 })
  await admin.query(`create database ${name} template ${template}`)
  // Two that wait for each other are to be told so at once; and nobody's plans are worth compiling here.
  await admin.query(`alter database ${name} set deadlock_timeout = '10ms'; alter database ${name} set jit = off`)
  const url = withDatabase(adminUrl, name)
  const config = readConfig({ DATABASE_URL: url })
  const side = await connectDirect(config, 'side')
  let before: Promise<unknown> = Promise.resolve()
  // One after another: several may ask at once.
  const query: Query = (text, values) => {
    const mine = before.then(() => side.query(text, values))
    before = mine.catch(() => {})
    return mine as Promise<never[]>
  }
  await keepDiary(query)
  const databases = new Map<string, Database>()
  const leases = new Map<string, DirectConnection>()
  const terminate = async (names: readonly string[]) => {
    await query('select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() and application_name = any ($1)', [names])
  }

  return {
    query,
    config,
    database(actor) {
      const known = databases.get(actor)
      if (known !== undefined) return known
      const opened = openDatabase(config, silent, { url, name: actor, max: 4 })
      databases.set(actor, opened)
      return opened
    },
    async register(worker, queues) {
      let connection = leases.get(worker)
      if (connection === undefined) {
        connection = await connectDirect(config, `${worker}.lease`)
        leases.set(worker, connection)
      }
      const [row] = await connection.query<{ id: number }>(
        `with left_before as materialized (select pg_advisory_unlock_all()),
         taken as (insert into pawl.leases (name, host, pid, version, queues) select $1, 'here', 1, $2, $3 from left_before returning id)
         select id, pg_advisory_lock(${LEASE_CLASS}, id) from taken`,
        [worker, version, queues],
      )
      return row?.id ?? 0
    },
    terminate,
    async bury(actor) {
      await terminate([actor, `${actor}.lease`])
      // Nobody waits for it: what the pool lent out never comes back.
      void databases.get(actor)?.close()
      databases.delete(actor)
      leases.get(actor)?.abort()
      leases.delete(actor)
    },
    async waiting() {
      const [row] = await query<{ waiting: number }>(
        `select count(distinct l.pid)::integer as waiting from pg_locks l
         where not l.granted and l.pid in (select a.pid from pg_stat_activity a where a.datname = current_database())`,
      )
      return row?.waiting ?? 0
    },
    async stop(place, actor) {
      const [row] = await query<{ stopped: boolean }>('select pg_try_advisory_lock($1, hashtext($2)) as stopped', [STOP_CLASS, `${place} ${actor}`])
      return row?.stopped === true
    },
    async letGo() {
      await query('select pg_advisory_unlock_all()')
    },
    async close() {
      for (const connection of leases.values()) await connection.close()
      for (const database of databases.values()) void database.close()
      await side.close()
      await admin.query(`drop database if exists ${name} with (force)`)
      await admin.close()
    },
  }
}
