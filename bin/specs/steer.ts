import type { Commands, CommandSpec, OptionSpec, WordSpec } from '../spec.ts'
import { run, text } from './values.ts'
import { queueNames } from './work.ts'

const queue: WordSpec = { name: 'QUEUE', suggestions: queueNames, summary: 'a queue, as pawl queues lists them' }
const reason: OptionSpec = text('TEXT', 'for whoever asks later why')

/** Each is one function of the contract. */
function steering(
  name: 'cancel' | 'retry' | 'pause' | 'resume',
  word: WordSpec,
  summary: string,
  examples: string[],
  options: Record<string, OptionSpec> = {},
): CommandSpec {
  return {
    group: 'steer',
    summary,
    forms: [{ summary, words: [word], options, role: 'pawl_operator', examples }],
    load: async () => (await import('../commands/steer.ts'))[name],
  }
}

/** Commands that stop work and let it go on. */
export const steerCommands: Commands = {
  cancel: steering(
    'cancel',
    run,
    'cancel a run at its next batch edge; what it applied stays',
    ['pawl cancel ovr_42', `pawl cancel ovr_42 --reason 'wrong settings'`],
    { reason },
  ),
  retry: steering('retry', run, 'run a failed or cancelled run again, from its cursor', ['pawl retry ovr_42', 'pawl retry refresh:7:sqp.weekly_summary']),
  pause: steering(
    'pause',
    queue,
    'stop work on a queue; running runs keep their place',
    ['pawl pause overrides.apply', `pawl pause overrides.apply --reason 'index build'`],
    { reason },
  ),
  resume: steering('resume', queue, 'let a paused queue go on', ['pawl resume overrides.apply', 'pawl resume campaigns.fire']),
}
