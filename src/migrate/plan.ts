import type { Query } from '../database.ts'
import type { Migrations, Problem } from './files.ts'
import { compare, type Recorded } from './ledger.ts'
import { type LockMode, readLocks, stops } from './locks.ts'

/** A lock that a pending file would take. `rows` is PostgreSQL's estimate; null where the relation is not there yet or was never counted. */
export type PlannedLock = { table: string; lock: LockMode; stops: ReturnType<typeof stops>; exists: boolean; rows: number | null }

/** A pending file and what its text says it would do. */
export type PlannedMigration = {
  tag: string
  /** Deletes data: it opens with `-- pawl:destructive`. */
  destructive: boolean
  transactional: boolean
  locks: PlannedLock[]
  /** What the text does not say about its locks, by line. */
  unknown: string[]
  statements: string[]
}

/** What `up` would do. With problems it would do nothing at all. */
export type Plan = { pending: PlannedMigration[]; problems: Problem[] }

/** Puts the pending files beside the database as it stands. Reads only. */
export async function planOf(query: Query, migrations: Migrations, ledger: Recorded[]): Promise<Plan> {
  const { states, problems } = compare(migrations, ledger)
  const pendingTags = new Set(states.filter(state => state.state === 'pending').map(state => state.tag))
  const pending: PlannedMigration[] = []
  for (const { tag, up } of migrations.entries) {
    if (up === undefined || !pendingTags.has(tag)) continue
    const { locks, unknown } = readLocks(up.text)
    const sizes = await sizesOf(
      query,
      locks.map(lock => lock.table),
    )
    pending.push({
      tag,
      destructive: up.destructive,
      transactional: up.transactional,
      locks: locks.map(({ table, lock }) => ({ table, lock, stops: stops(lock), exists: sizes.has(table), rows: sizes.get(table) ?? null })),
      unknown,
      statements: up.statements.map(statement => statement.text),
    })
  }
  return { pending, problems }
}

/** How many rows each relation that is there has; null for one that was never analyzed. */
async function sizesOf(query: Query, tables: string[]): Promise<Map<string, number | null>> {
  const rows = await query<{ name: string; rows: number | null }>(
    `select name, case when c.reltuples >= 0 then c.reltuples::float8 end as rows
    from unnest($1::text[]) name
    join pg_class c on c.oid = to_regclass(name)`,
    [tables],
  )
  return new Map(rows.map(row => [row.name, row.rows]))
}
