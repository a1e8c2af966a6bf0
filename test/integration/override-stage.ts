import { readConfig } from '../../src/config.ts'
import { connectDirect, type DirectConnection, type Query } from '../../src/database.ts'
import type { HandlerOptions } from '../../src/worker.ts'
import { applyOverride } from '../../workers/overrides/apply.ts'
import { handlerOptions, type Lease, takeLease, workAll } from '../support/engine.ts'
import type { Seeded } from '../support/overrides.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { until } from '../support/until.ts'

/** A database with a worker's lease, a session of the host application, and a diary of every committed write of an override. */
export type OverrideStage = {
  db: TestDatabase
  query: Query
  lease: Lease
  host: DirectConnection
  /** Works off the queue; what became of each delivery, in order. */
  work(options?: Partial<HandlerOptions>): Promise<string[]>
  /** Options whose n-th batch, once committed, gives its answer only when `act` is done; one lane unless told otherwise, so that nothing moves meanwhile. */
  afterBatch(nth: number, act: (runId: string) => unknown, changes?: Partial<HandlerOptions>): HandlerOptions
  /** Operation, audit row, run and category of an operation. */
  read(runId: string): Promise<Record<string, unknown>>
  /** What the rows of a category (or of all others) hold, without what Pawl remembers for a revert. */
  held(seeded: Seeded, others?: boolean): Promise<Record<string, unknown>[]>
  /** The recipients that the operation wrote more than once. */
  writtenTwice(runId: string): Promise<Record<string, unknown>[]>
  /** The id of the category's n-th recipient, counted from 1. */
  nthRecipient(seeded: Seeded, nth: number): Promise<number>
  /** Makes every write of this recipient by this operation fail, until the function it returns is called. */
  curse(recipient: number, runId: string): Promise<() => Promise<unknown>>
  /** Resolves once a batch waits for a row that the host has locked. */
  batchWaits(): Promise<unknown>
  close(): Promise<void>
}

/** Whether this statement asks for the next batches of an operation; one batch, where `sliceMs` is 0. */
export const isBatch = (text: string) => /pawl\.(apply|revert)_override_batch/.test(text)

export async function openOverrideStage(): Promise<OverrideStage> {
  const db = await createDatabase()
  const { query } = db
  const lease = await takeLease(db)
  const host = await connectDirect(readConfig({ DATABASE_URL: db.url }), 'host')
  await query(`
    create table public.diary (id bigserial primary key, run_id text, recipient_id bigint);
    create function public.note() returns trigger language plpgsql as $$
    begin insert into public.diary (run_id, recipient_id) values (new.updated_by_operation, new.recipient_id); return null; end $$;
    create trigger note after insert or update on public.category_recipient_settings
      for each row when (new.updated_by_operation is not null) execute function public.note();
    create function public.refuse() returns trigger language plpgsql as $$
    begin raise exception 'recipient % is cursed', new.recipient_id; end $$`)
  return {
    db,
    query,
    lease,
    host,
    work: options => workAll(applyOverride, handlerOptions(db, lease, options)),
    afterBatch(nth, act, changes = {}) {
      let batches = 0
      const watched = async <Row extends Record<string, unknown>>(text: string, values?: unknown[]) => {
        const rows = await query<Row>(text, values)
        if (isBatch(text) && (batches += 1) === nth) await act(String(values?.[0]))
        return rows
      }
      return handlerOptions(db, lease, { lanes: 1, sliceMs: 0, db: { ...db, query: watched }, ...changes })
    },
    async read(runId) {
      const [row] = await query(READ, [runId])
      return row ?? {}
    },
    held: (seeded, others = false) => query(HELD, [seeded.categoryId, others]),
    writtenTwice: runId => query('select recipient_id from public.diary where run_id = $1 group by recipient_id having count(*) > 1', [runId]),
    async nthRecipient(seeded, nth) {
      const [row] = await query<{ id: number }>('select id from public.recipients where category_id = $1 order by id offset $2 limit 1', [
        seeded.categoryId,
        nth - 1,
      ])
      return row?.id ?? 0
    },
    async curse(recipient, runId) {
      await query(`create trigger refuse before insert or update on public.category_recipient_settings
        for each row when (new.recipient_id = ${recipient} and new.updated_by_operation = '${runId}') execute function public.refuse()`)
      return () => query('drop trigger refuse on public.category_recipient_settings')
    },
    batchWaits: () => until('a batch waits for the host', async () => (await query(WAITING)).length > 0),
    async close() {
      await host.close()
      await lease.stop()
      await db.drop()
    },
  }
}

const READ = `
  select o.status, o.processed_recipients, o.total_recipients, o.current_batch, o.retry_count, o.error_message, o.completed_at is not null as ended,
    a.operation_status, a.affected_recipients_count, a.error_message as audit_error, c.state, c.done, c.failures, c.crashes, cat.override_count,
    (select count(*) from public.category_recipient_settings s where s.updated_by_operation = $1) as carrying
  from public.category_override_operations o
  join public.category_override_audit a using (operation_id)
  join public.categories cat on cat.id = o.category_id
  join pawl.checkpoints c on c.run_id = o.operation_id
  where o.operation_id = $1`

const HELD = `
  select category_id, recipient_id, settings, updated_by_operation, is_override_generated, override_timestamp
  from public.category_recipient_settings
  where (category_id = $1) <> $2
  order by category_id, recipient_id`

const WAITING = `
  select from pg_stat_activity
  where wait_event_type = 'Lock' and query ~ '^call pawl.*_override_batch' and datname = current_database()`
