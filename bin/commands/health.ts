import { systemClock } from '../../src/clock.ts'
import { classify, messageOf } from '../../src/errors.ts'
import { pingMs } from '../../workers/maintenance/checks.ts'
import { paint } from '../paint.ts'
import { type Command, exitCodes, type Terminal } from '../run.ts'
import { connected } from './connect.ts'

type Check = { check: string; ok: boolean; detail: string }

const ANSWER_MS_MAX = 500

/** `pawl health`: what this machine sees of the database, then the view, and an exit code for scripts. */
export const health: Command = {
  usage: 'health',
  summary: 'one line per check; exit code 1 when one needs a person',
  example: 'pawl health --json',
  quiet: true,
  async run(terminal) {
    const checks = await look(terminal)
    const ok = checks.every(check => check.ok)
    if (terminal.json) terminal.out(JSON.stringify({ ok, checks }))
    const width = Math.max(...checks.map(({ check }) => check.length))
    for (const check of terminal.json ? [] : checks) {
      const mark = check.ok ? 'ok ' : 'BAD'
      terminal.out(`${paint(terminal.color, check.ok ? 'green' : 'red', mark)}  ${check.check.padEnd(width)}  ${check.detail}`)
    }
    return ok ? exitCodes.ok : exitCodes.failed
  },
}

async function look(terminal: Terminal): Promise<Check[]> {
  const begun = systemClock.elapsed()
  try {
    return await connected(terminal, async db => {
      await db.query('select 1')
      const connectedMs = Math.round(systemClock.elapsed() - begun)
      const answerMs = await pingMs(db.query, systemClock)
      const reached = { check: 'database', ok: answerMs < ANSWER_MS_MAX, detail: `connected in ${connectedMs} ms, answers in ${answerMs.toFixed(1)} ms` }
      return [reached, ...(await db.query<Check>('select * from pawl.health'))]
    })
  } catch (error) {
    // A database that is out of reach is a finding, not a failure of the command; a missing schema or right is told as such.
    if (classify(error) !== 'transient') throw error
    return [{ check: 'database', ok: false, detail: `out of reach: ${messageOf(error)}` }]
  }
}
