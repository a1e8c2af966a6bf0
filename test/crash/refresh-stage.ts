import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Query } from '../../src/database.ts'
import { openEngine } from '../../workers/refresh/sources/duckdb/engine.ts'
import { registerTable } from '../support/refresh.ts'
import { until } from '../support/until.ts'
import { recordBatches } from './stage.ts'

/** The columns of every table that these tests load. */
export const COLUMNS = 'id integer primary key, name text not null, amount numeric(12,2)'

/** A Parquet file of so many rows, each of which PostgreSQL can make as well; `remove` when done. */
export async function writeRows(rows: number): Promise<{ file: string; rows: number; remove(): void }> {
  const dir = mkdtempSync(join(tmpdir(), 'pawl-crash-'))
  const file = join(dir, 'rows.parquet')
  const engine = await openEngine()
  try {
    await engine.rows(
      `copy (select i::integer as id, md5(i::varchar) as name, (i * 7919 % 1000003 / 100)::decimal(12,2) as amount from range(${rows}) r(i)) to '${file}' (format parquet, row_group_size 20480)`,
    )
  } finally {
    await engine.close()
  }
  return { file, rows, remove: () => rmSync(dir, { recursive: true }) }
}

/** Registers sqp.loaded, read from the file in about so many chunks, and asks for its refresh; the run's id. */
export async function requestLoad(query: Query, { file, rows }: { file: string; rows: number }, chunks: number): Promise<string> {
  // A row is 45 bytes of COPY text, or 46.
  const chunkBytes = Math.floor((rows * 46) / chunks)
  await registerTable(query, 'loaded', COLUMNS, { source: 'duckdb', files: file, chunk_bytes: chunkBytes })
  await query(`select pawl.refresh_table('loaded')`)
  const [row] = await query<{ run_id: string }>(`select run_id from pawl.refresh_steps where table_name = 'sqp.loaded'`)
  return row?.run_id ?? ''
}

/** `recordBatches`, and of each chunk which rows it was: its cursor before and after. */
export async function recordChunks(query: Query, paceMs: number): Promise<void> {
  await recordBatches(query, paceMs)
  await query(`
    alter table public.recorded_batches add from_row integer, add to_row integer, add extraction integer;
    create or replace function public.record_batch() returns trigger language plpgsql as $$
    begin
      perform pg_sleep(${paceMs} / 1000.0);
      insert into public.recorded_batches (run_id, lane, batch, epoch, rows, from_row, to_row, extraction)
      values (new.run_id, new.lane, new.batch, new.epoch, new.done - old.done, (old.cursor ->> 'next')::integer, (new.cursor ->> 'next')::integer,
        (select s.extraction from pawl.refresh_steps s where s.run_id = new.run_id));
      return null;
    end $$`)
}

/** Where the chunks of the last extraction overlap, leave rows out, or differ from what the lanes say; an empty list when they are the source exactly. */
export async function chunkFaults(query: Query, runId: string, rows: number): Promise<string[]> {
  const [extraction] = await query<{ n: number }>('select max(extraction) as n from public.recorded_batches where run_id = $1', [runId])
  const chunks = await query<{ from: number; to: number; rows: number }>(
    'select from_row as "from", to_row as "to", rows from public.recorded_batches where run_id = $1 and extraction = $2 order by from_row, place',
    [runId, extraction?.n],
  )
  let edge = 0
  const faults: string[] = []
  for (const { from, to, rows: counted } of chunks) {
    if (from !== edge) faults.push(`rows ${from} to ${to} after ${edge}`)
    if (counted !== to - from) faults.push(`rows ${from} to ${to} were counted as ${counted}`)
    edge = to
  }
  if (edge !== rows) faults.push(`the last row was ${edge} of ${rows}`)
  const [lanes] = await query<{ done: number; batches: number }>(
    'select sum(done)::bigint as done, sum(batch)::bigint as batches from pawl.lanes where run_id = $1',
    [runId],
  )
  if (lanes?.done !== rows || lanes.batches !== chunks.length)
    faults.push(`lanes say ${lanes?.done} rows in ${lanes?.batches} chunks, recorded are ${chunks.length}`)
  return faults
}

/** Whether sqp.loaded is the source: row by row, and by its sums. */
export async function tableFaults(query: Query, rows: number): Promise<string[]> {
  const facts = (from: string) =>
    `select count(*) as rows, count(distinct id) as keys, sum(amount)::text as amount, md5(string_agg(id || name, ',' order by id)) as md5 from ${from}`
  const source = `(select i as id, md5(i::text) as name, (i::bigint * 7919 % 1000003 / 100.0)::numeric(12,2) as amount from generate_series(0, ${rows - 1}) i) s`
  const [[wanted], [found]] = [await query(facts(source)), await query(facts('sqp.loaded'))]
  return JSON.stringify(wanted) === JSON.stringify(found) ? [] : [`the source is ${JSON.stringify(wanted)}, the table ${JSON.stringify(found)}`]
}

/** What the run and its audit say of how often it was begun. */
export async function attemptsOf(query: Query, runId: string): Promise<Record<string, unknown>> {
  const [row] = await query(
    `select c.state, c.failures, s.extraction, s.outcome,
       (select array_agg(a.status order by a.id) from sqp.refresh_audit_log a where a.sync_metadata ->> 'run_id' = c.run_id) as audits,
       (select a.rows_inserted from sqp.refresh_audit_log a where a.id = s.audit_id) as inserted,
       (select r.status || ' ' || r.last_processed_row from sqp.refresh_checkpoints r where r.checkpoint_data ->> 'run_id' = c.run_id) as checkpoint,
       (select count(*) from pg_class where relnamespace = 'pawl_stage'::regnamespace) as staging
     from pawl.checkpoints c join pawl.refresh_steps s using (run_id) where c.run_id = $1`,
    [runId],
  )
  return row ?? {}
}

/** What `attemptsOf` says of a run that was read once and published once. */
export const once = (rows: number, extraction: unknown = 1) => ({
  state: 'completed',
  failures: 0,
  extraction,
  outcome: 'completed',
  audits: ['success'],
  inserted: rows,
  checkpoint: `completed ${rows}`,
  staging: 0,
})

/** Waits until so many chunks are committed. */
export function chunksDone(query: Query, runId: string, chunks: number): Promise<true> {
  return until(`${chunks} chunks`, async () => {
    const [row] = await query<{ n: number }>('select count(*) as n from public.recorded_batches where run_id = $1', [runId])
    return (row?.n ?? 0) >= chunks ? true : undefined
  })
}
