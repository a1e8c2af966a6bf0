import { systemClock } from '../../src/clock.ts'
import type { Query } from '../../src/database.ts'
import { messageOf } from '../../src/errors.ts'
import { pingMs } from '../../workers/maintenance/checks.ts'
import { isPassing } from '../failure.ts'
import { paint } from '../paint.ts'
import { exitCodes, type Terminal, usageError, type Values } from '../terminal.ts'
import type { Run } from '../spec.ts'
import { type Frame, show } from '../watch.ts'
import { connected } from './connect.ts'

type Check = { check: string; ok: boolean; detail: string }

const ANSWER_MS_MAX = 500

/** `pawl health`: what this machine sees of the database, then the view, and an exit code for scripts. Words choose checks by their names. */
export const health: Run = async (terminal, values, words) => {
  const wanted = ({ check }: Check) => words.length === 0 || words.some(word => check.includes(word))
  return verdictOf(terminal, values, async () => {
    const checks = (await look(terminal)).filter(wanted)
    if (checks.length === 0) throw usageError(`no check has ${words.join(' or ')} in its name`, 'pawl health lists them all')
    return checks
  })
}

/** `pawl deploy-check`: the view that says what stands against a deploy. */
export const deployCheck: Run = (terminal, values) => connected(terminal, db => verdictOf(terminal, values, () => db.query<Check>('select * from pawl.deploy')))

async function verdictOf(terminal: Terminal, values: Values, read: () => Promise<Check[]>): Promise<number> {
  const frame = await show(terminal, values, async () => frameOf(await read(), terminal.color))
  // Who watches has seen it; Ctrl-C is no finding.
  return values.watch !== undefined || (frame.machine as { ok: boolean }).ok ? exitCodes.ok : exitCodes.failed
}

function frameOf(checks: Check[], color: boolean): Frame {
  const width = Math.max(...checks.map(({ check }) => check.length))
  const lines = checks.map(({ check, ok, detail }) => `${paint(color, ok ? 'green' : 'red', ok ? 'ok ' : 'BAD')}  ${check.padEnd(width)}  ${detail}`)
  return { machine: { ok: checks.every(check => check.ok), checks }, people: lines.join('\n') }
}

async function look(terminal: Terminal): Promise<Check[]> {
  const begun = systemClock.elapsed()
  try {
    return await connected(terminal, db => checksOf(db.query, begun))
  } catch (error) {
    // A database that is out of reach is a finding, not a failure of the command; a missing schema or right is told as such.
    if (!isPassing(error)) throw error
    return [{ check: 'database', ok: false, detail: `out of reach: ${messageOf(error)}` }]
  }
}

async function checksOf(query: Query, begun: number): Promise<Check[]> {
  await query('select 1')
  const connectedMs = Math.round(systemClock.elapsed() - begun)
  const answerMs = await pingMs(query, systemClock)
  const reached = { check: 'database', ok: answerMs < ANSWER_MS_MAX, detail: `connected in ${connectedMs} ms, answers in ${answerMs.toFixed(1)} ms` }
  return [reached, ...(await query<Check>('select * from pawl.health'))]
}
