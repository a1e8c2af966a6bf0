import type { Query } from '../database.ts'
import { messageOf } from '../errors.ts'
import type { Log } from '../log.ts'

/** A named place in the WAL: recovery stops there with `recovery_target_name`. */
export type RestorePoint = { name: string; lsn: string }

/** PostgreSQL refuses a longer name. The number that a tag begins with tells files apart however little else is left of it. */
const NAME_MAX = 63
const STAMP = 'YYYYMMDD"T"HH24MISSMS"Z"'
const STAMP_LENGTH = '20261121T152729123Z'.length

/**
 * Marks the WAL just before a file that deletes data, as `pawl_before_TAG_UTC`. Where that can't be done, one warning says why
 * and the migration goes on: the point helps only those who archive their WAL, and its absence harms nobody else.
 */
export async function markRestorePoint(log: Log, query: Query, tag: string): Promise<RestorePoint | undefined> {
  try {
    const obstacle = await obstacleTo(query)
    if (obstacle !== undefined) return warn(log, tag, obstacle)
    const prefix = `pawl_before_${tag}`.slice(0, NAME_MAX - STAMP_LENGTH - 1)
    // Milliseconds, because recovery stops at the first point of a name: a second try within a second needs a name of its own.
    const [point] = await query<RestorePoint & { archive_mode: string }>(
      `select name, pg_create_restore_point(name)::text as lsn, current_setting('archive_mode') as archive_mode
      from (select $1 || '_' || to_char(clock_timestamp() at time zone 'UTC', $2) as name offset 0) named`,
      [prefix, STAMP],
    )
    if (point === undefined) return undefined
    const { name, lsn, archive_mode } = point
    log.info({ migration: tag, restore_point: name, lsn, archive_mode }, 'restore point created')
    return { name, lsn }
  } catch (error) {
    return warn(log, tag, messageOf(error))
  }
}

async function obstacleTo(query: Query): Promise<string | undefined> {
  const [facts] = await query<{ wal_level: string; allowed: boolean; role: string }>(
    `select current_setting('wal_level') as wal_level,
      has_function_privilege('pg_catalog.pg_create_restore_point(text)', 'execute') as allowed,
      quote_ident(current_user) as role`,
  )
  if (facts?.wal_level === 'minimal') return 'wal_level is minimal: set it to replica to recover to a point in time'
  if (facts?.allowed === false) {
    return `the role may not: grant execute on function pg_catalog.pg_create_restore_point(text) to ${facts.role}`
  }
  return undefined
}

function warn(log: Log, tag: string, reason: string): undefined {
  log.warn({ migration: tag, reason }, 'no restore point before a migration that deletes data')
}
