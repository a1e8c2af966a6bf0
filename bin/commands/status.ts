import { type RunRow, readStatus, type Status } from '../../src/status.ts'
import { systemClock } from '../../src/clock.ts'
import { type Command, exitCodes, type Terminal } from '../run.ts'
import { shutdownSignal } from '../signals.ts'
import { paint } from '../paint.ts'
import { bar, table } from '../table.ts'
import { connected } from './connect.ts'

const RUNS_MAX = 20
const WATCH_EVERY_MS = 500

/** `pawl status`: runs with progress bars, queues, workers. */
export const status: Command = {
  usage: 'status [--watch]',
  summary: 'runs with progress, rate and time left; queues; workers',
  example: 'pawl status --watch',
  quiet: true,
  options: { watch: { type: 'boolean' } },
  run: (terminal, values) =>
    connected(terminal, async db => {
      if (values.watch !== true) {
        print(terminal, await readStatus(db.query, RUNS_MAX))
        return exitCodes.ok
      }
      const stop = new AbortController()
      void shutdownSignal().then(() => stop.abort())
      while (!stop.signal.aborted) {
        const now = await readStatus(db.query, RUNS_MAX)
        if (terminal.color) terminal.out('\x1b[2J\x1b[H')
        print(terminal, now)
        await systemClock.sleep(WATCH_EVERY_MS, stop.signal)
      }
      return exitCodes.ok
    }),
}

function print(terminal: Terminal, now: Status): void {
  if (terminal.json) {
    terminal.out(JSON.stringify(now))
    return
  }
  for (const run of now.runs) terminal.out(runLine(run, terminal.color))
  if (now.runs.length === 0) terminal.out('no runs yet; request one: pawl override --help')
  terminal.out('')
  terminal.out(
    table(
      now.queues.map(({ queue, paused, ready, delayed, active, failed }) => ({ queue, state: paused ? 'paused' : 'open', ready, delayed, active, failed })),
    ),
  )
  terminal.out('')
  terminal.out(table(now.workers.map(({ state, name, runs }) => ({ worker: name, state, runs }))))
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
