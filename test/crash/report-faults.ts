import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Query } from '../../src/database.ts'
import { sheetsIn } from '../support/excel.ts'
import { pagesOf, popplerMissing } from '../support/pdf.ts'
import { until } from '../support/until.ts'
import { FORMATS, filesIn, type Format, type ReportCrash, ROWS } from './report-stage.ts'

const pdfUnread = popplerMissing()
const SEPARATOR = '\u0001'

type Facts = {
  id: string
  status: string
  format: Format
  output_url: string | null
  bytes: number | null
  sha256: string | null
  key: string | null
  facts: Record<string, unknown>
}

/** Waits until no execution is left to do, and no file that any attempt left. */
export async function allEnded({ query, start }: ReportCrash): Promise<void> {
  await until('all executions end', async () => (await query(`select from pawl.checkpoints where state in ('pending', 'running')`)).length === 0, 120_000)
  // A wheel's first turn removes what nobody needs; those that are running do it once a minute.
  await start()
  await until('strays are removed', async () => (await query('select from pawl.report_files')).length === 0)
}

/** Where executions, their files, and what counts them disagree with the table or with each other; an empty list when all are completed and exact. */
export async function reportFaults(reports: ReportCrash): Promise<string[]> {
  const { query } = reports
  const executions = await query<Facts>(
    `select e.id, e.status, e.output_format as format, e.output_url, e.result_size_bytes as bytes, e.metadata ->> 'sha256' as sha256, e.metadata ->> 'key' as key,
       json_build_object('status', e.status, 'state', c.state, 'failures', c.failures, 'rows', (e.metadata ->> 'rows')::bigint, 'run', c.done,
         'lanes', (select sum(l.done) from pawl.lanes l where l.run_id = c.run_id), 'running', c.owner is not null,
         'create', (select count(*) from reporting.audit_logs a where a.resource_id = e.id and a.action = 'create'),
         'export', (select count(*) from reporting.audit_logs a where a.resource_id = e.id and a.action = 'export'),
         'completed', (select count(*) from reporting.execution_logs l where l.execution_id = e.id and l.message like 'completed%')) as facts
     from reporting.report_executions e join pawl.checkpoints c on c.run_id = e.id::text order by e.started_at`,
  )
  const wanted = await wantedContents(query)
  const faults: string[] = []
  for (const execution of executions) {
    const rows = ROWS[execution.format]
    const exact = { status: 'completed', state: 'completed', failures: 0, rows, run: rows, lanes: rows, running: false, create: 1, export: 1, completed: 1 }
    if (JSON.stringify(execution.facts) !== JSON.stringify(exact)) faults.push(`${execution.format}: ${JSON.stringify(execution.facts)}`)
    faults.push(...(await fileFaults(reports, execution, wanted[execution.format] ?? '')).map(fault => `${execution.format}: ${fault}`))
  }
  const keys = executions.map(execution => execution.key).toSorted()
  const files = await filesIn(reports)
  if (JSON.stringify(files) !== JSON.stringify(keys)) faults.push(`in the store are ${files.join(' ')}, the executions' files are ${keys.join(' ')}`)
  const strays = await query('select key from pawl.report_files')
  if (strays.length > 0) faults.push(`files to be removed: ${JSON.stringify(strays)}`)
  return [...faults, ...(await countFaults(query))]
}

/** Reports whose counter differs from their completed executions. */
async function countFaults(query: Query): Promise<string[]> {
  const counts = await query<{ name: string; counted: number; completed: number }>(
    `select r.name, r.execution_count as counted, (select count(*) from reporting.report_executions e where e.report_id = r.id and e.status = 'completed') as completed
     from reporting.reports r`,
  )
  return counts.filter(row => row.counted !== row.completed).map(row => `${row.name}: execution_count ${row.counted}, completed ${row.completed}`)
}

async function fileFaults({ folder }: ReportCrash, execution: Facts, wanted: string): Promise<string[]> {
  if (execution.key === null) return [`execution ${execution.id} has no file`]
  const file = await readFile(join(folder, execution.key)).catch(() => undefined)
  if (file === undefined) return [`the file of execution ${execution.id} is missing`]
  const sha256 = createHash('sha256').update(file).digest('hex')
  const faults: string[] = []
  if (file.length !== execution.bytes) faults.push(`the file has ${file.length} bytes, its execution says ${execution.bytes}`)
  if (sha256 !== execution.sha256) faults.push('the checksum of the file is not the one its execution says')
  if (execution.format === 'pdf' && pdfUnread) return faults
  const rows = await contents[execution.format](file)
  if (rows.length !== ROWS[execution.format]) faults.push(`the file has ${rows.length} rows`)
  if (md5(rows) !== wanted) faults.push(`the rows of the file are not those of the table: ${JSON.stringify(rows.slice(0, 2))}`)
  return faults
}

/** What the file of each format must hold, by the table itself. */
async function wantedContents(query: Query): Promise<Record<string, string>> {
  const wanted: Record<string, string> = {}
  for (const format of FORMATS) {
    const cells = format === 'pdf' ? 'id, region' : `id, region, amount, coalesce(note, '')`
    const [row] = await query<{ md5: string }>(
      `select md5(string_agg(concat_ws('${SEPARATOR}', ${cells}), E'\\x02' order by id)) as md5 from public.sales where id <= $1`,
      [ROWS[format]],
    )
    wanted[format] = row?.md5 ?? ''
  }
  return wanted
}

function md5(rows: readonly string[]): string {
  return createHash('md5').update(rows.join('\u0002')).digest('hex')
}

/** The rows of a file, read as its format is read. */
const contents: Readonly<Record<Format, (file: Buffer) => string[] | Promise<string[]>>> = {
  csv: file => csvRows(file.toString()).slice(1),
  json: file =>
    (JSON.parse(file.toString()) as { blocks: { rows: { id: number; region: string; amount: number; note: string | null }[] }[] }).blocks.flatMap(block =>
      block.rows.map(row => rowOf(row.id, row.region, row.amount.toFixed(2), row.note ?? '')),
    ),
  html(file) {
    const body = file.toString()
    if (!body.endsWith('</html>\n')) return ['the page does not end']
    const row = /<tr><td class="number">([\d,]+)<\/td><td>([^<]*)<\/td><td class="number">([\d,.]+)<\/td><td>([^<]*)<\/td><\/tr>/g
    const plain = (number = '') => number.replaceAll(',', '')
    return [...body.matchAll(row)].map(([, id, region, amount, note = '']) => rowOf(plain(id), region, plain(amount), unescaped(note)))
  },
  async excel(file) {
    const sheets = await sheetsIn(file)
    return sheets.flatMap(sheet => sheet.data.slice(1).map(([id, region, amount, note]) => rowOf(id, region, Number(amount).toFixed(2), note ?? '')))
  },
  pdf: file =>
    pagesOf(file).flatMap(page => [...page.matchAll(/^ *([\d,]+) +(EU|US|APAC)$/gm)].map(([, id = '', region]) => rowOf(id.replaceAll(',', ''), region))),
}

const rowOf = (...cells: unknown[]) => cells.join(SEPARATOR)

function csvRows(text: string): string[] {
  const rows: string[] = []
  let cells: string[] = []
  for (const [, quoted, plain = '', end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\n]*))(,|\n)/g)) {
    cells.push(quoted?.replaceAll('""', '"') ?? plain.replace(/^'(?==)/, ''))
    if (end === ',') continue
    rows.push(rowOf(...cells))
    cells = []
  }
  return cells.length === 0 ? rows : [...rows, 'the last line does not end']
}

const ENTITIES: Readonly<Record<string, string>> = { '&lt;': '<', '&gt;': '>', '&quot;': '"', '&#39;': "'", '&amp;': '&' }

function unescaped(text: string): string {
  return text.replaceAll(/&(?:lt|gt|quot|#39|amp);/g, entity => ENTITIES[entity] ?? entity)
}
