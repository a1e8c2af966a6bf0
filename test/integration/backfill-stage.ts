import { expect } from 'vitest'
import { backfill } from '../../workers/maintenance/backfill.ts'
import { handlerOptions, type Lease, takeLease, workAll } from '../support/engine.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'

/** A database with a table of orders to change, and a worker that may work on it. */
export type BackfillStage = {
  db: TestDatabase
  lease: Lease
  /** 1,000 orders anew, their ids three apart. */
  refill(): Promise<unknown>
  work(): Promise<string[]>
  /** Asks for a backfill of the orders; its run id. */
  request(assignments: string, options?: Record<string, unknown>): Promise<string>
  /** The one value of an expression. */
  ask(sql: string, values?: unknown[]): Promise<unknown>
  /** Opens the run as a worker with this lease does; its epoch. */
  open(id: string, by: Lease): Promise<number>
  /** Ends a run that a test has opened by hand, with the job that would bring it again. */
  end(id: string, epoch: number): Promise<unknown>
  close(): Promise<void>
}

export async function openBackfillStage(): Promise<BackfillStage> {
  const db = await createDatabase()
  const lease = await takeLease(db, 'tester', ['maintenance.backfill'])
  return {
    db,
    lease,
    refill: () =>
      db.query(`
        drop table if exists public.orders cascade;
        create table public.orders (id bigint primary key, price int, amount int, total int, n int not null default 0);
        insert into public.orders (id, price, amount) select i * 3, i, 2 from generate_series(1, 1000) i;
        analyze public.orders`),
    work: () => workAll(backfill, handlerOptions(db, lease)),
    async request(assignments, options = {}) {
      const named = Object.keys(options).map((name, place) => `, ${name} => $${place + 2}`)
      const [row] = await db.query<{ id: string }>(`select pawl.request_backfill('public.orders', $1${named.join('')}) as id`, [
        assignments,
        ...Object.values(options),
      ])
      return row?.id ?? ''
    },
    ask: async (sql, values = []) => (await db.query<{ answer: unknown }>(`select (${sql}) as answer`, values))[0]?.answer,
    async open(id, by) {
      const [row] = await db.query<{ outcome: string; epoch: number }>(
        `select outcome, epoch from pawl.open_run($1, $2, gen_random_uuid(), 0, interval '10 s')`,
        [id, by.id],
      )
      expect(row?.outcome).toBe('opened')
      await db.query('select pawl.start_backfill($1, $2)', [id, row?.epoch])
      return row?.epoch ?? 0
    },
    end: (id, epoch) =>
      db.query(
        `with ended as (select pawl.finish($1, $2, 'cancelled'))
         update pgboss.job set state = 'completed' from ended where name = 'maintenance.backfill' and state < 'completed'`,
        [id, epoch],
      ),
    async close() {
      await lease.stop()
      await db.drop()
    },
  }
}
