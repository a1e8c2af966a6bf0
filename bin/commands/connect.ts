import type { Config } from '../../src/config.ts'
import { type Database, openDatabase } from '../../src/database.ts'
import { PawlError } from '../../src/errors.ts'
import { exitCodes, type Terminal, type Values } from '../terminal.ts'
import type { Run } from '../spec.ts'

/** The configuration with a database in it: the one named, or the embedded one that `pawl dev` runs in this project. */
export async function withDatabaseUrl(config: Config): Promise<Config> {
  if (config.databaseUrl !== undefined) return config
  // Loaded only where it can be meant.
  const url = config.embeddedAllowed ? await (await import('../../src/embedded.ts')).runningEmbedded(config.dataDir) : undefined
  if (url === undefined) {
    throw new PawlError('database.missing', 'DATABASE_URL is not set', {
      hint: config.embeddedAllowed ? 'set it, or start one with "npm start"' : 'set it; the embedded PostgreSQL is for development only',
    })
  }
  return { ...config, databaseUrl: url, directUrl: config.directUrl ?? url }
}

/** Opens the database for one command and closes it behind it. */
export async function connected<Result>(terminal: Terminal, work: (db: Database) => Promise<Result>): Promise<Result> {
  const db = openDatabase(await withDatabaseUrl(terminal.config), terminal.log, { name: 'pawl cli', max: 2 })
  try {
    return await work(db)
  } finally {
    await db.close()
  }
}

/** What one verb of a command does, such as `create` of `pawl campaign create`; `words` are those behind it. */
export type Verb = (db: Database, terminal: Terminal, values: Values, words: string[]) => Promise<unknown>

/** Runs the verb that the first word names: the table of commands has let no other through. */
export function byVerb(verbs: Readonly<Record<string, Verb>>): Run {
  return (terminal, values, [verb = '', ...words]) =>
    connected(terminal, async db => {
      await verbs[verb]?.(db, terminal, values, words)
      return exitCodes.ok
    })
}
