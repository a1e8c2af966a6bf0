import type { Query } from '../../../src/database.ts'
import { codeOf } from '../../../src/errors.ts'

/** The database that backups are of, and the cluster it is in. */
export type Origin = { database: string; cluster: string }

/**
 * Which database this is. initdb makes the system identifier, and every physical copy of the cluster has it, too. Where a provider keeps it
 * to himself, `d` and a hash of what else stays with a database stand for it: two clusters may have that in common, if hardly ever.
 */
export async function readOrigin(query: Query): Promise<Origin> {
  const identifier = `system_identifier::text from pg_control_system()`
  const [row] = await query<Origin>(reading(identifier)).catch((error: unknown) => {
    // insufficient_privilege
    if (codeOf(error) !== '42501') throw error
    return query<Origin>(
      reading(`'d' || left(md5(concat_ws(':', oid, datname, datdba, encoding, datcollate)), 16) from pg_database where datname = current_database()`),
    )
  })
  if (row === undefined) throw new Error('the server does not say which it is')
  return row
}

const reading = (cluster: string) => `select current_database()::text as database, (select ${cluster}) as cluster`
