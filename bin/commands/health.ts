import { type Command, exitCodes } from '../run.ts'
import { paint } from '../paint.ts'
import { connected } from './connect.ts'

/** `pawl health`: the view, and an exit code for scripts. */
export const health: Command = {
  usage: 'health',
  summary: 'one line per check; exit code 1 when one needs a person',
  example: 'pawl health --json',
  quiet: true,
  run: terminal =>
    connected(terminal, async db => {
      const checks = await db.query<{ check: string; ok: boolean; detail: string }>('select * from pawl.health')
      const ok = checks.every(check => check.ok)
      if (terminal.json) terminal.out(JSON.stringify({ ok, checks }))
      for (const check of terminal.json ? [] : checks) {
        const mark = check.ok ? 'ok ' : 'BAD'
        terminal.out(`${paint(terminal.color, check.ok ? 'green' : 'red', mark)}  ${check.check.padEnd(20)}  ${check.detail}`)
      }
      return ok ? exitCodes.ok : exitCodes.failed
    }),
}
