import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { type Config, readConfig } from '../../src/config.ts'
import { connectDirect, type DirectConnection, type Query } from '../../src/database.ts'
import type { MigrateContext } from '../../src/migrate.ts'
import { createDatabase, silent } from '../support/postgres.ts'

/** A migration as a test writes it down. `when` is a number of its own unless the test is about order. */
export type Draft = { tag: string; up?: string; down?: string; when?: number }

/** An empty database and an empty directory of migrations, both gone when the test is over. */
export type Stage = {
  url: string
  config: Config
  dir: string
  context: MigrateContext
  query: Query
  /** Another session, closed when the test is over. */
  connect(name?: string): Promise<DirectConnection>
  /** Writes journal, up and down files anew: the directory holds these drafts and nothing else. */
  write(...drafts: Draft[]): Promise<void>
  /** How many sessions of this database (the asking one aside) are as the condition on pg_stat_activity says. */
  sessions(condition: string): Promise<number>
  /** Backends that hold an advisory lock in this database. */
  lockHolders(): Promise<number[]>
  /** Tags in the ledger, oldest first. */
  applied(): Promise<string[]>
}

export async function openStage(): Promise<Stage> {
  const { url, query, drop } = await createDatabase({ empty: true })
  onTestFinished(drop)
  const dir = await mkdtemp(join(tmpdir(), 'pawl-migrations-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  const config = readConfig({ DATABASE_URL: url })
  const connect = async (name = 'test') => {
    const connection = await connectDirect(config, name)
    onTestFinished(() => connection.close())
    return connection
  }
  return {
    url,
    config,
    dir,
    context: { config, log: silent, clock: systemClock, dir },
    query,
    connect,
    write: (...drafts) => writeMigrations(dir, drafts),
    async sessions(condition) {
      const rows = await query(`select from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and ${condition}`)
      return rows.length
    },
    async lockHolders() {
      const rows = await query<{ pid: number }>(`
        select pid from pg_locks where locktype = 'advisory' and granted and database = (select oid from pg_database where datname = current_database())`)
      return rows.map(row => row.pid)
    },
    applied: async () => {
      const [table] = await query<{ present: boolean }>(`select to_regclass('pawl.schema_migrations') is not null as present`)
      if (!table?.present) return []
      return (await query<{ version: string }>('select version from pawl.schema_migrations order by journal_when')).map(row => row.version)
    },
  }
}

async function writeMigrations(dir: string, drafts: Draft[]): Promise<void> {
  await rm(dir, { recursive: true, force: true })
  await mkdir(join(dir, 'meta'), { recursive: true })
  await mkdir(join(dir, 'down'))
  const entries = drafts.map((draft, idx) => ({
    idx,
    version: '7',
    when: draft.when ?? 1_700_000_000_000 + 1000 * Number(draft.tag.slice(0, 4)),
    tag: draft.tag,
    breakpoints: true,
  }))
  await writeFile(join(dir, 'meta', '_journal.json'), JSON.stringify({ version: '7', dialect: 'postgresql', entries }))
  for (const { tag, up = '', down = '' } of drafts) {
    await writeFile(join(dir, `${tag}.sql`), up)
    await writeFile(join(dir, 'down', `${tag}.sql`), down)
  }
}
