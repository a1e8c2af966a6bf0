import type { Config } from '../src/config.ts'
import { type Database, openDatabase } from '../src/database.ts'
import { readJournal } from '../src/migrate/files.ts'
import { migrationsDir } from '../src/migrate.ts'
import { openLog } from '../src/log.ts'
import { withDatabaseUrl } from './commands/connect.ts'

/** Why something of ours is not in the database, as far as that can be found out: never migrated, older or newer than this Pawl, or changed by hand. */
export async function schemaHint(config: Config): Promise<string | undefined> {
  let db: Database | undefined
  try {
    db = openDatabase(await withDatabaseUrl(config), openLog({ level: 'silent' }), { name: 'pawl cli', max: 1 })
    return await hintOf(
      db,
      (await readJournal(migrationsDir(config))).map(entry => entry.tag),
    )
  } catch {
    // The first error is the one to be told.
    return undefined
  } finally {
    await db?.close()
  }
}

async function hintOf({ query }: Database, known: string[]): Promise<string> {
  const [there] = await query<{ is_there: boolean }>(`select to_regclass('pawl.schema_migrations') is not null as is_there`)
  if (there?.is_there !== true) return 'this database was never migrated: pawl migrate up'
  const applied = (await query<{ tag: string }>('select version as tag from pawl.schema_migrations')).map(row => row.tag)
  const lacking = known.filter(tag => !applied.includes(tag))
  const beyond = applied.filter(tag => !known.includes(tag))
  if (beyond.length > 0) return `the database is newer than this Pawl (it has ${beyond.join(', ')}): use the Pawl that migrated it`
  if (lacking.length > 0) return `the database is older than this Pawl (it lacks ${lacking.join(', ')}): pawl migrate up`
  return 'all migrations are applied, so somebody changed the schema by hand: pawl migrate verify names what'
}
