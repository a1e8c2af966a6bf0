import type { Config } from '../../src/config.ts'
import { type Database, openDatabase } from '../../src/database.ts'
import { runningEmbedded } from '../../src/embedded.ts'
import { PawlError } from '../../src/errors.ts'
import { type Command, exitCodes, type Terminal, usageError, type Values, wordAt } from '../run.ts'

/** The configuration with a database in it: the one named, or the embedded one that `pawl dev` runs in this project. */
export async function withDatabaseUrl(config: Config): Promise<Config> {
  if (config.databaseUrl !== undefined) return config
  const url = config.embeddedAllowed ? await runningEmbedded(config.dataDir) : undefined
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
export type Verb = (db: Database, terminal: Terminal, values: Values, words: string[]) => Promise<void>

/** Runs the verb that the first word names. Throws a usage error where it names none. */
export function byVerb(name: string, usage: string, verbs: Readonly<Record<string, Verb>>): Command['run'] {
  return (terminal, values, words) =>
    connected(terminal, async db => {
      const verb = verbs[wordAt(words, 0, 'what to do', usage)]
      if (verb === undefined) throw usageError(`${name} has no verb "${words[0]}"`, `usage: pawl ${usage}`)
      await verb(db, terminal, values, words.slice(1))
      return exitCodes.ok
    })
}
