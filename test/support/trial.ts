import { inBatches, type RunContext, transactionBatch } from '../../src/batches.ts'
import { cutLanes } from '../../src/checkpoint.ts'
import type { Query } from '../../src/database.ts'
import type { Worker } from '../../src/worker.ts'

/** The queue of a domain that exists in tests only. */
export const TRIAL_QUEUE = 'trial.walk'

export type TrialCursor = { after: number; upto: number }

/** Makes that domain: a queue, a kind, a table whose rows say how often and by which epoch they were written, and a diary. */
export async function createTrial(query: Query): Promise<void> {
  await query(`
    select pgboss.create_queue('${TRIAL_QUEUE}.dead', '{"policy": "standard"}');
    select pgboss.create_queue('${TRIAL_QUEUE}', '{"policy": "standard", "retryLimit": 1000, "deadLetter": "${TRIAL_QUEUE}.dead"}');
    create table public.trial_items (run_id text, item integer, times integer not null default 1, primary key (run_id, item));
    create table public.trial_diary (id bigserial primary key, run_id text, state text, error text);
    create function public.trial_changed(p_run_id text, p_state text, p_error text) returns void language sql as
      'insert into public.trial_diary (run_id, state, error) values (p_run_id, p_state, p_error)';
    insert into pawl.kinds (kind, queue, changed_function) values ('trial', '${TRIAL_QUEUE}', 'public.trial_changed')`)
}

/** Asks for a run, with its delivery. */
export async function requestTrial(query: Query, runId: string): Promise<void> {
  await query(`insert into pawl.checkpoints (run_id, kind, subject) values ($1, 'trial', 'a trial')`, [runId])
  await query('select pawl.deliver($1)', [runId])
}

/** Writes `rows` items from the cursor on, and counts a second writing of the same item. */
export async function writeItems(
  query: Query,
  runId: string,
  cursor: TrialCursor,
  rows: number,
): Promise<{ cursor: TrialCursor; rows: number; finished: boolean }> {
  const last = Math.min(cursor.after + rows, cursor.upto)
  await query(
    `insert into public.trial_items (run_id, item) select $1, i from generate_series($2::integer, $3::integer) i
     on conflict (run_id, item) do update set times = trial_items.times + 1`,
    [runId, cursor.after + 1, last],
  )
  return { cursor: { after: last, upto: cursor.upto }, rows: last - cursor.after, finished: last === cursor.upto }
}

export type TrialOptions = {
  lanes?: TrialCursor[]
  rows?: number
  /** Runs inside each batch's transaction, behind the writing: may throw, or do something to the run from outside. */
  during?: (context: RunContext, cursor: TrialCursor, query: Query) => Promise<void>
}

/** Walks 1 … 100 ten by ten on one lane, unless told otherwise. */
export function trialWorker(options: TrialOptions = {}): Worker {
  const { lanes = [{ after: 0, upto: 100 }], rows = 10, during } = options
  return {
    queue: TRIAL_QUEUE,
    async work(context) {
      await cutLanes(context.db.query, context.run, lanes)
      return inBatches(
        context,
        transactionBatch<TrialCursor>(context, async (query, cursor) => {
          const done = await writeItems(query, context.run.runId, cursor, rows)
          await during?.(context, cursor, query)
          return done
        }),
      )
    },
  }
}

/** The run's row, with what its lanes and items say beside it. */
export async function readTrial(query: Query, runId: string): Promise<Record<string, unknown>> {
  const [row] = await query(
    `select c.state, c.done, c.batch, c.failures, c.crashes, c.error, c.owner, c.job_id is not null as has_job,
       (select count(*) from public.trial_items i where i.run_id = c.run_id) as items,
       (select coalesce(max(times), 0) from public.trial_items i where i.run_id = c.run_id) as times,
       (select coalesce(sum(l.done), 0)::bigint from pawl.lanes l where l.run_id = c.run_id) as lanes_done,
       (select coalesce(sum(l.batch), 0)::bigint from pawl.lanes l where l.run_id = c.run_id) as lanes_batch,
       (select array_agg(d.state order by d.id) from public.trial_diary d where d.run_id = c.run_id) as diary
     from pawl.checkpoints c where c.run_id = $1`,
    [runId],
  )
  return row ?? {}
}
