import { systemClock } from '../../src/clock.ts'
import type { Database } from '../../src/database.ts'
import { answer, type Command, exitCodes, type Terminal, usageError, type Values } from '../run.ts'
import { table } from '../table.ts'
import { connected } from './connect.ts'

const USAGE = 'partitions [--ahead N]  |  partitions --archive'
const LOOK_MS = 500

/** `pawl partitions`: which months there are; makes some ahead, or has those archived that are kept no longer. */
export const partitions: Command = {
  usage: USAGE,
  summary: 'months of every partitioned table; --ahead N makes the next ones, --archive takes out those that pawl.retention keeps no longer',
  example: 'pawl partitions --ahead 6',
  quiet: true,
  options: { ahead: { type: 'string' }, archive: { type: 'boolean' } },
  async run(terminal, values) {
    if (values.archive === true && values.ahead !== undefined) throw usageError('--ahead and --archive are two errands', `usage: pawl ${USAGE}`)
    return connected(terminal, db => {
      if (values.ahead !== undefined) return extend(db, terminal, values)
      return values.archive === true ? archive(db, terminal) : list(db, terminal)
    })
  },
}

async function list(db: Database, terminal: Terminal): Promise<number> {
  const rows = await db.query('select parent, partition, state, ahead, from_at, to_at, rows, bytes from pawl.partitions order by parent, from_at, partition')
  answer(terminal, { partitions: rows }, table(rows))
  return exitCodes.ok
}

async function extend(db: Database, terminal: Terminal, { ahead }: Values): Promise<number> {
  const months = Number(ahead)
  if (!Number.isInteger(months) || months < 1 || months > 60) throw usageError(`"${String(ahead)}" is no number of months`, 'name 1 to 60, such as --ahead 6')
  const rows = await db.query('select parent, created from pawl.extend_partitions($1)', [months])
  answer(terminal, { extended: rows }, table(rows))
  return exitCodes.ok
}

type Run = { run_id: string; state: string; step: string | null; error: string | null }

/** Plans what is due now and follows every archive that is under way to its end. */
async function archive(db: Database, terminal: Terminal): Promise<number> {
  const planned = await db.query<{ run_id: string }>('select run_id from pawl.plan_archives() run_id')
  const ids = await db.query<{ run_id: string }>(`select run_id from pawl.runs where kind = 'archive' and state in ('pending', 'running')`)
  const followed = [...new Set([...planned, ...ids].map(row => row.run_id))]
  if (followed.length === 0) {
    answer(terminal, { archives: [] }, 'no month is due: select * from pawl.retention says how long each table keeps its rows')
    return exitCodes.ok
  }
  if (!terminal.json) terminal.say(`${followed.length} ${followed.length === 1 ? 'month' : 'months'} to archive; Ctrl-C stops the watching, not the work`)
  const ended = await follow(db, terminal, followed)
  const rows = await db.query(
    `select r.run_id, r.state, a.state as archive, a.partition, a.rows, a.bytes, a.key, r.error
     from pawl.runs r left join pawl.archives a using (run_id) where r.run_id = any ($1) order by r.run_id`,
    [followed],
  )
  answer(terminal, { archives: rows }, table(rows.map(row => ({ ...row, error: row.error ?? '' }))))
  return ended.every(run => run.state === 'completed') ? exitCodes.ok : exitCodes.failed
}

/** Runs that were added meanwhile (the log lines of a month of executions) are followed as well. */
async function follow(db: Database, terminal: Terminal, followed: string[]): Promise<Run[]> {
  const told = new Map<string, string>()
  for (;;) {
    const runs = await db.query<Run>(
      `select r.run_id, r.state, a.state as step, r.error from pawl.runs r left join pawl.archives a using (run_id)
       where r.kind = 'archive' and (r.run_id = any ($1) or r.state in ('pending', 'running')) order by r.run_id`,
      [followed],
    )
    for (const { run_id, state, step } of runs) {
      if (!followed.includes(run_id)) followed.push(run_id)
      const word = `${state}${step === null ? '' : `, ${step}`}`
      if (!terminal.json && told.get(run_id) !== word) terminal.say(`${run_id}: ${word}`)
      told.set(run_id, word)
    }
    if (runs.every(run => run.state !== 'pending' && run.state !== 'running')) return runs
    await systemClock.sleep(LOOK_MS)
  }
}
