import type { Database } from '../../src/database.ts'
import { interruptible } from '../signals.ts'
import { follow, type Look } from '../follow.ts'
import { answer, exitCodes, type Terminal, usageError } from '../terminal.ts'
import type { Run } from '../spec.ts'
import { table } from '../table.ts'
import { show } from '../watch.ts'
import { connected } from './connect.ts'

/** `pawl partitions`: which months there are; makes some ahead, or has those archived that are kept no longer. */
export const partitions: Run = async (terminal, values) => {
  const { ahead, archive: isArchiving, watch } = values
  if (isArchiving === true && ahead !== undefined) throw usageError('--ahead and --archive are two errands', 'one after the other')
  if (watch !== undefined && (isArchiving === true || ahead !== undefined)) throw usageError('--watch goes with the list alone', 'pawl partitions --watch')
  return connected(terminal, async db => {
    if (ahead !== undefined) return extend(db, terminal, Number(ahead))
    if (isArchiving === true) return archive(db, terminal)
    await show(terminal, values, async () => {
      const rows = await db.query(
        'select parent, partition, state, ahead, from_at, to_at, rows, bytes from pawl.partitions order by parent, from_at, partition',
      )
      return { machine: { partitions: rows }, people: table(rows) }
    })
    return exitCodes.ok
  })
}

async function extend(db: Database, terminal: Terminal, months: number): Promise<number> {
  const rows = await db.query('select parent, created from pawl.extend_partitions($1)', [months])
  answer(terminal, { extended: rows }, table(rows))
  return exitCodes.ok
}

type Row = { run_id: string; state: string; step: string | null; error: string | null }

/** Plans what is due now and follows every archive that is under way to its end. */
async function archive(db: Database, terminal: Terminal): Promise<number> {
  const planned = await db.query<{ run_id: string }>('select run_id from pawl.plan_archives() run_id')
  const ids = await db.query<{ run_id: string }>(`select run_id from pawl.runs where kind = 'archive' and state in ('pending', 'running')`)
  const followed = new Set([...planned, ...ids].map(row => row.run_id))
  if (followed.size === 0) {
    answer(terminal, { archives: [] }, 'no month is due: select * from pawl.retention says how long each table keeps its rows')
    return exitCodes.ok
  }
  if (!terminal.json) terminal.say(`${followed.size} ${followed.size === 1 ? 'month' : 'months'} to archive; Ctrl-C stops the watching, not the work`)
  // Months may take days.
  const well = await interruptible(signal => follow(terminal, () => lookAt(db, followed), signal, Number.POSITIVE_INFINITY))
  const rows = await db.query(
    `select r.run_id, r.state, a.state as archive, a.partition, a.rows, a.bytes, a.key, r.error
     from pawl.runs r left join pawl.archives a using (run_id) where r.run_id = any ($1) order by r.run_id`,
    [[...followed]],
  )
  answer(terminal, { archives: rows }, table(rows.map(row => ({ ...row, error: row.error ?? '' }))))
  return well ? exitCodes.ok : exitCodes.failed
}

/** Runs that were added meanwhile (the log lines of a month of executions) are followed as well. */
async function lookAt(db: Database, followed: Set<string>): Promise<Look> {
  const runs = await db.query<Row>(
    `select r.run_id, r.state, a.state as step, r.error from pawl.runs r left join pawl.archives a using (run_id)
     where r.kind = 'archive' and (r.run_id = any ($1) or r.state in ('pending', 'running')) order by r.run_id`,
    [[...followed]],
  )
  for (const run of runs) followed.add(run.run_id)
  return {
    lines: runs.map(({ run_id: run, state, step }) => `${run}: ${state}${step === null ? '' : `, ${step}`}`),
    over: runs.every(({ state }) => state !== 'pending' && state !== 'running'),
    well: runs.every(({ state }) => state === 'completed'),
  }
}
