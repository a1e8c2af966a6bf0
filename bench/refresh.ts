import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../src/clock.ts'
import { buildBundle, startBundle } from '../test/support/bundle.ts'
import { publishOne } from '../workers/refresh/publish.ts'
import { openEngine } from '../workers/refresh/sources/duckdb/engine.ts'
import { stage } from '../workers/refresh/stage.ts'
import { prepared, type StepRow } from '../workers/refresh/step.ts'
import { median, rounded, say, timed, watchMachine } from './report.ts'
import { type BenchStage, openBenchStage, openContext } from './stage.ts'

const COLUMNS = 'id, day, marketplace, asin, query, volume, impressions, clicks, carts, purchases, share, seen_at'

/**
 * A refresh of a table of 12 columns from a Parquet file, chunk and checkpoint committing together, against what the server does
 * by itself in one session: COPY of a text file that lies on its own disk, and one MERGE. Interleaved, each result checked.
 */
export async function refresh({ quick }: { quick: boolean }): Promise<Record<string, unknown>> {
  const bench = await openBenchStage()
  const folder = mkdtempSync(join(tmpdir(), 'pawl-bench-'))
  chmodSync(folder, 0o777)
  const machine = watchMachine(bench.postmaster)
  try {
    const rows = quick ? 100_000 : 1_000_000
    const rounds = quick ? 1 : 5
    await prepare(bench, folder, rows)
    const load: number[] = []
    const whole: number[] = []
    for (let round = 1; round <= rounds; round += 1) {
      await reset(bench)
      const copied = await timed(() => bench.db.query(`copy public.copied from '${folder}/next.txt'`))
      await reset(bench)
      const merged = await timed(() => merge(bench, folder))
      await verify(bench, 'public.reference', rows)
      await reset(bench)
      const { staged, total } = await throughPawl(bench)
      await verify(bench, 'sqp.bench', rows)
      load.push(copied / staged)
      whole.push(merged / total)
      say(
        `round ${round}: COPY ${Math.round(copied)} ms, staged ${Math.round(staged)} ms; COPY and MERGE ${Math.round(merged)} ms, refreshed ${Math.round(total)} ms`,
      )
    }
    const { othersShare } = machine()

    const memory = await memoryOf(bench, folder, quick ? 500_000 : 10_000_000)
    return {
      rows,
      pairs: rounds,
      ratio_load: rounded(median(load)),
      ratio_load_pairs: load.map(ratio => rounded(ratio)),
      ratio_end_to_end: rounded(median(whole)),
      ratio_end_to_end_pairs: whole.map(ratio => rounded(ratio)),
      ...memory,
      others_share: othersShare,
      verified: true,
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
    await bench.close()
  }
}

/** The same numbers in DuckDB and in PostgreSQL: `v` is the version, and a tenth of the rows differs from one to the next. */
function generated(from: number, upto: number, range: (from: number, upto: number) => string, v: number): string {
  return `select i as id, (date '2026-01-01' + (i % 365)::integer) as day, 'market ' || (i % 7) as marketplace, 'B0' || lpad((i % 90000)::text, 8, '0') as asin,
    'search number ' || (i % 5000) as query, i * 3 % 100000 as volume, i * 7 % 9000 as impressions, i * 11 % 700 as clicks, i % 90 as carts,
    i % 40 + case when i % 10 = 3 then ${v} else 0 end as purchases, ((i % 10000) / 10000.0)::numeric(7,4) as share,
    timestamp '2026-01-01 00:00:00' + i * interval '1 second' as seen_at
    from ${range(from, upto)}`
}
const inDuckdb = (from: number, upto: number) => `(select range as i from range(${from}, ${upto + 1})) numbers`
const inPostgres = (from: number, upto: number) => `generate_series(${from}::bigint, ${upto}::bigint) i`

/** Before: 1 … n. After: a tenth changed, a twentieth gone at the front, a twentieth new at the end. */
async function prepare({ db }: BenchStage, folder: string, rows: number): Promise<void> {
  say(`making ${rows.toLocaleString('en')} rows …`)
  const moved = rows / 20
  await writeParquet(`${folder}/next.parquet`, generated(moved + 1, rows + moved, inDuckdb, 1))
  const columns =
    'id bigint, day date not null, marketplace text not null, asin text not null, query text not null, volume bigint, impressions bigint, clicks bigint, carts bigint, purchases bigint, share numeric(7,4), seen_at timestamp'
  await db.query(`create table public.before as ${generated(1, rows, inPostgres, 0)}`)
  await db.query(`create table public.after as ${generated(moved + 1, rows + moved, inPostgres, 1)}`)
  await db.query(`copy public.after (${COLUMNS}) to '${folder}/next.txt'`)
  await db.query(`create table public.copied (${columns})`)
  await db.query(`create unlogged table public.stage (${columns})`)
  for (const table of ['public.reference', 'sqp.bench']) {
    await db.query(`create table ${table} (${columns}, primary key (id))`)
    await db.query(`create index on ${table} (day, asin)`)
  }
  await db.query(`update sqp.refresh_config set is_enabled = true, custom_sync_params = $1 where table_name = 'bench'`, [
    JSON.stringify({ source: 'duckdb', files: `${folder}/next.parquet` }),
  ])
}

async function writeParquet(file: string, query: string): Promise<void> {
  const engine = await openEngine({ memoryLimit: '1GB' })
  try {
    await engine.rows(`copy (${query}) to '${file}' (format parquet, row_group_size 100000)`)
  } finally {
    await engine.close()
  }
}

/** Every measurement starts from the same tables, without dead rows, and pays its own page images. */
async function reset({ db }: BenchStage): Promise<void> {
  await db.query('truncate public.copied, public.stage, public.reference, sqp.bench')
  for (const table of ['public.reference', 'sqp.bench']) {
    await db.query(`insert into ${table} select * from public.before`)
    await db.query(`vacuum analyze ${table}`)
  }
  await db.query('checkpoint')
}

/** What a careful hand writes: one session, one transaction, only what differs. */
async function merge({ db }: BenchStage, folder: string): Promise<void> {
  const others = COLUMNS.split(', ').slice(1)
  await db.transact(
    async query => {
      await query(`copy public.stage from '${folder}/next.txt'`)
      await query('analyze public.stage')
      await query(
        `merge into public.reference t using public.stage s on t.id = s.id
         when matched and (${others.map(column => `t.${column}`).join(', ')}) is distinct from (${others.map(column => `s.${column}`).join(', ')})
           then update set ${others.map(column => `${column} = s.${column}`).join(', ')}
         when not matched then insert (${COLUMNS}) values (${COLUMNS.split(', ')
           .map(column => `s.${column}`)
           .join(', ')})
         when not matched by source then delete`,
      )
    },
    { timeoutMs: 600_000 },
  )
}

/** The engine's own steps, without pg-boss's claim: staging, and the whole from opening to the last commit. */
async function throughPawl(bench: BenchStage): Promise<{ staged: number; total: number }> {
  const { db, config } = bench
  const [asked] = await db.query<{ run: number }>(`select pawl.refresh_table('bench') as run`)
  const runId = `refresh:${asked?.run}:sqp.bench`
  const begun = systemClock.elapsed()
  const context = await openContext(bench, runId)
  const [row] = await db.query<{ start: StepRow }>('select pawl.start_refresh($1, $2) as start', [runId, context.run.epoch])
  if (row === undefined) throw new Error('the refresh did not start')
  const step = prepared(row.start)
  const loading = systemClock.elapsed()
  const ending = await stage(context, step, config.lanes)
  const staged = systemClock.elapsed() - loading
  if (ending !== 'finished') throw new Error(`staging ended as ${ending}`)
  await publishOne(context, step)
  return { staged, total: systemClock.elapsed() - begun }
}

async function verify({ db }: BenchStage, table: string, rows: number): Promise<void> {
  const [row] = await db.query<{ rows: number; wrong: number }>(
    `select count(*) as rows, count(*) filter (where t is distinct from a) as wrong
     from (select ${COLUMNS} from ${table}) t full join (select ${COLUMNS} from public.after) a using (id)`,
  )
  if (row?.rows !== rows || row.wrong !== 0) throw new Error(`${table} holds ${row?.rows} of ${rows} rows, ${row?.wrong} of them wrong`)
}

/** The bundled worker, as the image starts it, refreshing a large table: the most memory it held. */
async function memoryOf(bench: BenchStage, folder: string, rows: number): Promise<{ memory_rows: number; rss_mb: number; refresh_rows_per_second: number }> {
  say(`memory: a refresh of ${rows.toLocaleString('en')} rows by the bundled worker …`)
  await writeParquet(`${folder}/large.parquet`, generated(1, rows, inDuckdb, 0))
  chmodSync(`${folder}/large.parquet`, 0o644)
  await bench.db.query('truncate sqp.bench')
  await bench.db.query(`update sqp.refresh_config set custom_sync_params = $1 where table_name = 'bench'`, [
    JSON.stringify({ source: 'duckdb', files: `${folder}/large.parquet` }),
  ])
  const bundle = buildBundle({ modules: true })
  const worker = await startBundle(bundle.folder, bench.server.url)
  try {
    const begun = systemClock.elapsed()
    const [asked] = await bench.db.query<{ run: number }>(`select pawl.refresh_table('bench') as run`)
    let most = worker.rssMb()
    for (;;) {
      const [row] = await bench.db.query<{ state: string; error: string | null }>('select state, error from pawl.refresh_plan where run = $1', [asked?.run])
      most = Math.max(most, worker.rssMb())
      if (row?.state === 'completed') break
      if (row === undefined || !['ready', 'running', 'waiting'].includes(row.state)) throw new Error(`the refresh ended as ${row?.state}: ${row?.error}`)
      await systemClock.sleep(50)
    }
    const seconds = (systemClock.elapsed() - begun) / 1000
    const [held] = await bench.db.query<{ rows: number }>('select count(*) as rows from sqp.bench')
    if (held?.rows !== rows) throw new Error(`the table holds ${held?.rows} of ${rows} rows`)
    return { memory_rows: rows, rss_mb: rounded(most, 1), refresh_rows_per_second: Math.round(rows / seconds) }
  } finally {
    await worker.end()
    bundle.remove()
  }
}
