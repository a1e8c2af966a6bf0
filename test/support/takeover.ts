import { onTestFinished } from 'vitest'
import type { Database, Query } from '../../src/database.ts'
import { type Lease, takeLease } from './engine.ts'
import type { TestDatabase } from './postgres.ts'

/** A worker dies, and another one opens the run it held. Returns the new owner's lease, which ends with the test, and the epoch. */
export async function takeOver(db: TestDatabase, from: Lease, runId: string): Promise<{ heir: Lease; epoch: number }> {
  await from.die()
  await db.query(`update pawl.leases set seen_at = now() - interval '1 hour' where id = $1`, [from.id])
  const heir = await takeLease(db, 'heir')
  onTestFinished(() => heir.die())
  const [opened] = await db.query<{ outcome: string; epoch: number }>(
    `select o.outcome, o.epoch from pawl.open_run($1, $2, (select job_id from pawl.checkpoints where run_id = $1), 0, '10 s') o`,
    [runId, heir.id],
  )
  if (opened?.outcome !== 'opened') throw new Error(`the heir could not open ${runId}: ${opened?.outcome}`)
  return { heir, epoch: opened.epoch }
}

/** The database as a worker sees it to whom something happens the moment before, or after, a statement that holds these words: the first one, or the nth. */
export function interrupted(
  db: TestDatabase,
  words: string,
  happen: { nth?: number; before?: () => Promise<unknown>; after?: () => Promise<unknown> },
): TestDatabase {
  let left = happen.nth ?? 1
  const watched =
    (query: Query): Query =>
    async (text, values) => {
      if (text.includes(words)) left -= 1
      if (left !== 0 || !text.includes(words)) return query(text, values)
      await happen.before?.()
      const rows = await query<never>(text, values)
      await happen.after?.()
      return rows
    }
  const transact: Database['transact'] = (work, options) => db.transact((query, copy) => work(watched(query), copy), options)
  return { ...db, query: watched(db.query), transact }
}
