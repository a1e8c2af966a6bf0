import { type RunRow, readStatus, type Status } from '../../src/status.ts'
import { systemClock } from '../../src/clock.ts'
import type { Query } from '../../src/database.ts'
import { exitCodes, usageError } from '../terminal.ts'
import { paint } from '../paint.ts'
import type { Run } from '../spec.ts'
import { bar, table } from '../table.ts'
import { type Frame, show } from '../watch.ts'
import { connected } from './connect.ts'

const RUNS_MAX = 20

/** `pawl status`: runs with progress bars, queues, workers; or one run, its worker and why it is where it is. Watched, that one is followed to its end. */
export const status: Run = (terminal, values, [run]) =>
  connected(terminal, async db => {
    if (run === undefined) {
      await show(terminal, values, async () => allOf(await readStatus(db.query, RUNS_MAX), terminal.color))
      return exitCodes.ok
    }
    await show(terminal, values, () => lookAt(db.query, run, terminal.color))
    return exitCodes.ok
  })

function allOf(now: Status, color: boolean): Frame {
  const queues = now.queues.map(({ queue, paused, ready, delayed, active, failed }) => ({
    queue,
    state: paused ? 'paused' : 'open',
    ready,
    delayed,
    active,
    failed,
  }))
  const people = [
    ...(now.runs.length === 0 ? ['no runs yet; request one: pawl override --help'] : now.runs.map(run => runLine(run, color))),
    '',
    table(queues),
    '',
    table(now.workers.map(({ state, name, runs }) => ({ worker: name, state, runs }))),
  ]
  return { machine: now, people: people.join('\n') }
}

type Holder = { name: string; state: string; host: string; pid: number; version: string; seen_at: Date }

/** All that is known of one run: its row, the worker that holds it, and `pawl.why`. */
async function lookAt(query: Query, id: string, color: boolean): Promise<Frame> {
  const [run] = await query<RunRow & Record<string, unknown>>('select * from pawl.runs where run_id = $1', [id])
  if (run === undefined) throw usageError(`there is no run ${JSON.stringify(id)}`, 'pawl runs lists them')
  const [worker] = await query<Holder>('select name, state, host, pid, version, seen_at from pawl.workers where name = $1', [run.worker])
  const [why] = await query<{ why: string }>('select pawl.why($1) as why', [id])
  const { error: _, ...row } = run
  const facts = Object.entries(row).filter(([, value]) => value !== null)
  const width = Math.max(...facts.map(([name]) => name.length))
  const people = [
    runLine(run, color),
    '',
    ...facts.map(([name, value]) => `${name.padEnd(width)}  ${value instanceof Date ? value.toISOString() : String(value)}`),
    ...(worker === undefined ? [] : ['', `worker ${worker.name} is ${worker.state} on ${worker.host}, pid ${worker.pid}, version ${worker.version}`]),
    '',
    why?.why ?? '',
  ]
  return { machine: { run, worker: worker ?? null, why: why?.why ?? null }, people: people.join('\n'), isOver: run.finished_at !== null }
}

const colors = { pending: 'gray', running: 'cyan', completed: 'green', failed: 'red', cancelled: 'yellow' } as const

/** One run in one line: bar, share, counts, rate, time left. */
export function runLine(run: RunRow, color: boolean): string {
  const share = run.percent === null ? 0 : Number(run.percent) / 100
  const counts = `${run.done.toLocaleString('en')}/${run.total === null ? '?' : run.total.toLocaleString('en')}`
  const rate = run.rows_per_second === null ? '' : `${Number(run.rows_per_second).toLocaleString('en')} rows/s`
  const left = run.eta === null ? '' : `${Math.max(0, Math.round((run.eta.getTime() - systemClock.now()) / 1000))} s left`
  const state = run.state.padEnd(9)
  const parts = [paint(color, colors[run.state], state), bar(share), `${(share * 100).toFixed(0)} %`.padStart(5), counts.padStart(17), rate.padStart(15), left]
  return `${parts.join(' ').trimEnd()}  ${run.kind} ${run.subject}  ${run.run_id}${run.error === null ? '' : `\n          ${run.error}`}`
}
