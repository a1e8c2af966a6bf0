import type { Query } from '../../src/database.ts'

/** What is looked at every few seconds, in bytes, rows and counts. */
export type Sample = {
  seconds: number
  rssMb: number
  connections: number
  /** Median lateness of the timers that fired since the last sample. */
  timerLateMs: number
  /** Runs that ended since the last sample. */
  ended: number
  relations: Record<string, { rows: number; heap: number; indexes: number }>
}

/** Tables that hold too little to be measured in pages of 8 kB. */
const SMALLEST_BYTES = 512 * 1024

/** Reads one sample; `since` is the last one's instant on the database's clock. */
export async function takeSample(query: Query, parts: { seconds: number; rssMb: number; since: Date }): Promise<Sample> {
  const [now] = await query<{ connections: number; late: number | null; ended: number }>(
    `select (select count(*)::integer from pg_stat_activity where application_name like 'pawl%' and datname = current_database()) as connections,
       (select percentile_cont(0.5) within group (order by extract(epoch from executed_at - scheduled_at) * 1000)
        from public.campaign_timers where executed_at >= $1) as late,
       (select count(*)::integer from pawl.checkpoints where finished_at >= $1) as ended`,
    [parts.since],
  )
  return {
    seconds: parts.seconds,
    rssMb: parts.rssMb,
    connections: now?.connections ?? 0,
    timerLateMs: now?.late ?? 0,
    ended: now?.ended ?? 0,
    relations: await relations(query),
  }
}

async function relations(query: Query): Promise<Sample['relations']> {
  const found = await query<{ name: string; heap: string; indexes: string }>(
    `select c.oid::regclass::text as name, pg_table_size(c.oid) as heap, pg_indexes_size(c.oid) as indexes
     from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind = 'r' and n.nspname in ('public', 'pawl', 'pgboss', 'sqp', 'reporting') and pg_total_relation_size(c.oid) > $1`,
    [SMALLEST_BYTES],
  )
  const entries = []
  for (const { name, heap, indexes } of found) {
    const [counted] = await query<{ rows: number }>(`select count(*)::integer as rows from ${name}`)
    entries.push([name, { rows: counted?.rows ?? 0, heap: Number(heap), indexes: Number(indexes) }] as const)
  }
  return Object.fromEntries(entries)
}
