import { open, rm } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import type { Config } from '../../src/config.ts'
import type { Query } from '../../src/database.ts'
import { codeOf, PawlError } from '../../src/errors.ts'
import { openStore } from '../../src/store.ts'
import { ownDir } from '../own-dir.ts'
import { answer, usageError } from '../terminal.ts'
import { table } from '../table.ts'
import { show } from '../watch.ts'
import { byVerb } from './connect.ts'

/** `pawl report …`: the contract's run_report, schedules, and what became of executions. REPORT and USER are ids or, where only one has it, names. */
export const report = byVerb({
  async run(db, terminal, { as: user, format, parameters }, [name = '']) {
    const id = await reportNamed(db.query, name)
    const [row] = await db.query<{ id: string }>(`select pawl.run_report($1, $2, $3, coalesce($4::jsonb, '{}')) as id`, [
      id,
      await userNamed(db.query, String(user)),
      format ?? 'csv',
      parameters ?? null,
    ])
    answer(terminal, { execution_id: row?.id }, `${row?.id}\n  its file: pawl report get ${row?.id}`)
  },

  async schedule(db, terminal, _values, [name = '', time]) {
    const id = await reportNamed(db.query, name)
    const [row] = await db
      .query<{ scheduled_at: Date }>(`update reporting.reports set status = 'scheduled', scheduled_at = $2 where id = $1 returning scheduled_at`, [id, time])
      .catch((error: unknown) => {
        if (/^22(007|008|023)$/.test(codeOf(error) ?? '')) throw usageError(`"${time}" is no time`, `pawl report schedule ${id} '2027-01-04 09:00+01'`)
        throw error
      })
    if (row === undefined) throw noSuch('report', id)
    answer(terminal, { report_id: id, scheduled_at: row.scheduled_at }, `${id} is executed at ${row.scheduled_at.toISOString()}`)
  },

  async list(db, terminal, values, [name]) {
    const report = name === undefined ? null : await reportNamed(db.query, name)
    await show(terminal, values, async () => {
      const executions = await db.query(
        `select e.started_at as asked, r.name as report, coalesce(c.state, e.status) as state, e.output_format as format, (e.metadata ->> 'rows')::bigint as rows,
           e.result_size_bytes as bytes, e.execution_time_ms as ms, e.id as execution, coalesce(e.error_message, e.output_url, '') as note
         from reporting.report_executions e join reporting.reports r on r.id = e.report_id left join pawl.checkpoints c on c.run_id = e.id::text
         where $1::uuid is null or r.id = $1 order by e.started_at desc, e.id limit $2`,
        [report, values.limit ?? 50],
      )
      return { machine: { executions }, people: table(executions) }
    })
  },

  async log(db, terminal, values, [execution = '']) {
    const { id } = await executionNamed(db.query, execution)
    await show(terminal, values, async () => {
      const lines = await db.query('select created_at as at, level, message from reporting.execution_logs where execution_id = $1 order by id', [id])
      return { machine: { lines }, people: table(lines) }
    })
  },

  async get(db, terminal, values, [execution = '']) {
    if (terminal.json && values.to === undefined)
      throw usageError('the file itself goes to standard output, which leaves no room for JSON', 'name a file: --to FILE')
    const { id, status, key } = await executionNamed(db.query, execution)
    if (key === null || status !== 'completed') {
      throw new PawlError('report.no_file', `execution ${id} has no file: it is ${status}`, { hint: `pawl why ${id}` })
    }
    const file = openStore(await storeOf(terminal.config), { config: terminal.config }).read(key)
    if (typeof values.to !== 'string') return pipeline(file, process.stdout, { end: false })
    await writeNew(values.to, file)
    answer(terminal, { execution_id: id, file: values.to }, values.to)
  },
})

/** Where the workers keep reports; those of `pawl dev`, whose database the embedded one is, keep them in the checkout. */
async function storeOf({ reportStore, databaseUrl }: Config): Promise<string> {
  if (reportStore !== undefined) return reportStore
  if (databaseUrl === undefined) return ownDir('reports')
  throw new PawlError('report.store_unset', 'no place for reports is named', { hint: 'set PAWL_REPORT_STORE as the workers have it' })
}

/** A file of that name must not be there yet, and stays only when it is whole. */
async function writeNew(name: string, bytes: AsyncIterable<Uint8Array>): Promise<void> {
  const handle = await open(name, 'wx').catch((error: unknown) => {
    if (codeOf(error) === 'EEXIST') throw usageError(`there is a file ${name} already`, 'name another one, or remove it')
    throw error
  })
  try {
    await pipeline(bytes, handle.createWriteStream())
  } catch (error) {
    await rm(name, { force: true })
    throw error
  }
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

async function reportNamed(query: Query, word: string): Promise<string> {
  if (UUID.test(word)) return word
  return onlyOne(await query<{ id: string }>('select id from reporting.reports where name = $1 limit 2', [word]), 'report', word)
}

type Named = { id: string; status: string; key: string | null }

async function executionNamed(query: Query, id: string): Promise<Named> {
  const [row] = await query<Named>(`select id, status, metadata ->> 'key' as key from reporting.report_executions where id = $1`, [id])
  if (row === undefined) throw noSuch('execution', id)
  return row
}

async function userNamed(query: Query, word: string): Promise<string> {
  if (UUID.test(word)) return word
  return onlyOne(await query<{ id: string }>('select id from reporting.users where username = $1 or email = $1 limit 2', [word]), 'user', word)
}

function noSuch(what: string, word: string): PawlError {
  return usageError(`there is no ${what} ${word}`, what === 'execution' ? 'pawl report list' : `select id, name from reporting.${what}s`)
}

function onlyOne(rows: { id: string }[], what: string, word: string): string {
  const [row, second] = rows
  if (row !== undefined && second === undefined) return row.id
  throw usageError(
    row === undefined ? `there is no ${what} "${word}"` : `more than one ${what} is called "${word}"`,
    `give its id: select id, name from reporting.${what}s`,
  )
}
