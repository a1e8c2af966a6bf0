import { chmodSync, createReadStream, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../src/clock.ts'
import { buildBundle, startBundle } from '../test/support/bundle.ts'
import { addPeople, addReport, type Execution, readExecution } from '../test/support/reports.ts'
import { executeReport } from '../workers/reports/execute.ts'
import { median, rounded, say, timed, watchMachine } from './report.ts'
import { type BenchStage, openBenchStage, openContext } from './stage.ts'

const COLUMNS = ['id', 'day', 'marketplace', 'asin', 'query', 'volume', 'impressions', 'clicks', 'carts', 'purchases', 'share', 'seen_at']

/**
 * A report of 12 columns as CSV, from the opening of its run to its last commit, with its checkpoints, its checksum and its file safe on
 * the disk, against what the server does by itself: COPY of the same query into a file of its own, which nobody syncs. Interleaved;
 * the two files must be the same to the byte.
 */
export async function reports({ quick }: { quick: boolean }): Promise<Record<string, unknown>> {
  const bench = await openBenchStage()
  const folder = mkdtempSync(join(tmpdir(), 'pawl-bench-'))
  chmodSync(folder, 0o777)
  const machine = watchMachine(bench.postmaster)
  try {
    const rows = quick ? 100_000 : 1_000_000
    const rounds = quick ? 1 : 5
    const ask = await prepare(bench, rows)
    const ratios: number[] = []
    let seconds = 0
    for (let round = 1; round <= rounds; round += 1) {
      const copied = await timed(() =>
        bench.db.query(`copy (select ${COLUMNS.join(', ')} from public.searches order by id) to '${folder}/reference.csv' (format csv, header)`),
      )
      const id = await ask('csv')
      const made = await timed(() => throughPawl(bench, id, folder))
      verify(await readExecution(bench.db.query, id), folder, rows)
      ratios.push(copied / made)
      seconds = made / 1000
      say(`round ${round}: COPY TO ${Math.round(copied)} ms, report ${Math.round(made)} ms`)
    }
    const { othersShare } = machine()
    const memory = await memoryOf(bench, folder, quick ? 200_000 : 2_000_000)
    return {
      rows,
      pairs: rounds,
      ratio_csv: rounded(median(ratios)),
      ratio_csv_pairs: ratios.map(ratio => rounded(ratio)),
      csv_rows_per_second: Math.round(rows / seconds),
      ...memory,
      others_share: othersShare,
      verified: true,
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
    await bench.close()
  }
}

type Ask = (format: string) => Promise<string>

async function prepare({ db }: BenchStage, rows: number): Promise<Ask> {
  await fill(db.query, rows)
  const people = await addPeople(db.query)
  const report = await addReport(db.query, people, { name: 'All searches', structure: { source: 'public.searches', columns: COLUMNS } })
  return async format => {
    const [row] = await db.query<{ id: string }>('select pawl.run_report($1, $2, $3) as id', [report, people.admin, format])
    return row?.id ?? ''
  }
}

async function fill(query: BenchStage['db']['query'], rows: number): Promise<void> {
  say(`making ${rows.toLocaleString('en')} rows …`)
  await query(`drop table if exists public.searches`)
  await query(`create table public.searches as
    select i as id, (date '2026-01-01' + (i % 365)::integer) as day, 'market ' || (i % 7) as marketplace, 'B0' || lpad((i % 90000)::text, 8, '0') as asin,
      'search number ' || (i % 5000) as query, i * 3 % 100000 as volume, i * 7 % 9000 as impressions, i * 11 % 700 as clicks, i % 90 as carts,
      i % 40 as purchases, ((i % 10000) / 10000.0)::numeric(7,4) as share, timestamp '2026-01-01 00:00:00' + i * interval '1 second' as seen_at
    from generate_series(1::bigint, ${rows}::bigint) i`)
  await query('alter table public.searches add primary key (id)')
  await query('vacuum analyze public.searches')
  await query('grant select on public.searches to pawl_report')
}

/** The engine's own steps, without pg-boss's claim. */
async function throughPawl(bench: BenchStage, runId: string, folder: string): Promise<void> {
  const ending = await executeReport.work(await openContext(bench, runId, { reportStore: folder }), { lanes: 1, sliceMs: 0 })
  if (ending !== 'ended') throw new Error(`the report ended as ${ending}`)
}

function verify(execution: Execution, folder: string, rows: number): void {
  if (execution.status !== 'completed' || execution.metadata.rows !== rows)
    throw new Error(`the execution is ${execution.status} with ${execution.metadata.rows} rows`)
  const file = `${folder}/${execution.metadata.key}`
  if (!readFileSync(file).equals(readFileSync(`${folder}/reference.csv`))) throw new Error('the report is not what COPY TO writes')
  rmSync(file)
}

/** The bundled worker, as the image starts it, making a large report in each format that holds so many rows: the most memory it held. */
async function memoryOf(bench: BenchStage, folder: string, rows: number): Promise<Record<string, unknown>> {
  await fill(bench.db.query, rows)
  const [report] = await bench.db.query<{ id: string; user: string }>('select id, created_by as user from reporting.reports')
  const bundle = buildBundle({ modules: true })
  const most: Record<string, number> = {}
  const speed: Record<string, number> = {}
  try {
    for (const format of ['csv', 'json', 'html', 'excel']) {
      say(`memory: ${rows.toLocaleString('en')} rows as ${format} by the bundled worker …`)
      const worker = await startBundle(bundle.folder, bench.server.url, { PAWL_REPORT_STORE: folder })
      try {
        const begun = systemClock.elapsed()
        const [asked] = await bench.db.query<{ id: string }>('select pawl.run_report($1, $2, $3) as id', [report?.id, report?.user, format])
        const execution = await ended(bench, asked?.id ?? '', () => {
          most[format] = Math.max(most[format] ?? 0, rounded(worker.rssMb(), 1))
        })
        speed[format] = Math.round((rows / (systemClock.elapsed() - begun)) * 1000)
        if (execution.status !== 'completed' || execution.metadata.rows !== rows)
          throw new Error(`the report ended as ${execution.status}: ${execution.error_message}`)
        if (format === 'csv' && (await newlines(`${folder}/${execution.metadata.key}`)) !== rows + 1) throw new Error('the file holds another number of rows')
        rmSync(`${folder}/${execution.metadata.key}`)
      } finally {
        await worker.end()
      }
    }
  } finally {
    bundle.remove()
  }
  return { memory_rows: rows, rss_mb: Math.max(...Object.values(most)), rss_mb_by_format: most, rows_per_second_by_format: speed }
}

async function ended({ db }: BenchStage, id: string, look: () => void): Promise<Execution> {
  for (;;) {
    look()
    const execution = await readExecution(db.query, id)
    if (execution.status !== 'running') return execution
    await systemClock.sleep(50)
  }
}

async function newlines(file: string): Promise<number> {
  let count = 0
  for await (const chunk of createReadStream(file)) for (const byte of chunk as Buffer) if (byte === 0x0a) count += 1
  return count
}
