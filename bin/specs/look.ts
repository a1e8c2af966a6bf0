import type { CommandSpec, Commands, Form } from '../spec.ts'
import { choice, duration, flag, limit, run } from './values.ts'

const states = ['pending', 'running', 'completed', 'failed', 'cancelled'] as const

/** `pawl.runs.kind` */
export const kinds = ['override', 'timer', 'refresh', 'report', 'backup', 'archive', 'backfill'] as const

/** A command that shows the view of its name. */
function view(name: string, summary: string, form: Omit<Form, 'summary' | 'role' | 'watch'>): CommandSpec {
  return {
    group: 'look',
    summary,
    forms: [{ summary, role: 'pawl_observer', watch: true, ...form }],
    load: async () => (await import('../commands/views.ts')).view(name),
  }
}

/** Commands that look and change nothing. */
export const lookCommands: Commands = {
  status: {
    group: 'look',
    summary: 'runs with progress, rate and time left; queues; workers. Or all of one run',
    forms: [
      {
        summary: 'how things stand',
        words: [{ ...run, optional: true }],
        role: 'pawl_observer',
        watch: true,
        examples: ['pawl status', 'pawl status --watch', 'pawl status ovr_42 --json'],
      },
    ],
    load: async () => (await import('../commands/status.ts')).status,
  },
  why: {
    group: 'look',
    summary: 'why a run is where it is, and what to do, in one sentence',
    forms: [
      { summary: 'why', words: [run], role: 'pawl_observer', examples: ['pawl why ovr_42', 'pawl why refresh:7:sqp.weekly_summary', 'pawl why ovr_42 --json'] },
    ],
    load: async () => (await import('../commands/steer.ts')).why,
  },
  health: {
    group: 'look',
    summary: 'one line a check; exit code 1 when one needs a person',
    forms: [
      {
        summary: 'every check, or those with a word in their name',
        words: [{ name: 'CHECK', optional: true, many: true, summary: "only checks with this in their name, such as 'verified backup' or partitions" }],
        role: 'pawl_observer',
        watch: true,
        examples: ['pawl health', "pawl health 'verified backup' partitions", 'pawl health --json'],
      },
    ],
    load: async () => (await import('../commands/health.ts')).health,
  },
  'deploy-check': {
    group: 'look',
    summary: 'whether a deploy can begin now, and what stands against it; exit code 1 when something does',
    forms: [{ summary: 'can I deploy now', role: 'pawl_observer', watch: true, examples: ['pawl deploy-check', 'pawl deploy-check --json'] }],
    load: async () => (await import('../commands/health.ts')).deployCheck,
  },
  runs: view('runs', 'runs of every kind, newest first', {
    options: {
      state: { ...choice('STATE', states, 'only in this state'), multiple: true },
      kind: { ...choice('KIND', kinds, 'only of this kind'), multiple: true },
      since: duration('only those requested in the last so long'),
      limit: limit(),
      ids: flag('their ids alone, one a line'),
    },
    examples: ['pawl runs', 'pawl runs --state running,pending', "pawl runs --kind refresh --since '12 hours' --json"],
  }),
  stuck: view('stuck', 'runs that should be moving and are not, longest first, with the reason', {
    options: { limit: limit() },
    examples: ['pawl stuck', 'pawl stuck --watch 5', 'pawl stuck --json'],
  }),
  failures: view('failures', 'runs that failed for good, newest first, each with what runs it again', {
    options: {
      since: duration('only those that failed in the last so long'),
      kind: { ...choice('KIND', kinds, 'only of this kind'), multiple: true },
      limit: limit(),
    },
    examples: ['pawl failures', "pawl failures --since '12 hours'", 'pawl failures --kind timer,report --json'],
  }),
  timers: view('timers', 'campaign timers: what fires next, what fired and how late', {
    words: [{ name: 'CAMPAIGN', kind: 'uuid', optional: true, summary: 'only those of this campaign' }],
    options: {
      state: { ...choice('STATE', states, 'only in this state'), multiple: true },
      next: duration('what fires in the next so long, the overdue included'),
      late: duration('how late those were that were due in the last so long: count, median, worst'),
      limit: limit(),
    },
    examples: ['pawl timers', "pawl timers --next '1 hour'", "pawl timers --late '1 day' --json"],
  }),
  queues: view('queues', 'jobs ready, delayed, active and failed of each queue, and whether it is paused', {
    examples: ['pawl queues', 'pawl queues --watch', 'pawl queues --json'],
  }),
  workers: view('workers', 'worker processes of the last day: state, runs in hand, queues', {
    examples: ['pawl workers', 'pawl workers --watch 2', 'pawl workers --json'],
  }),
  schedules: view('schedules', 'what runs by the clock: cron line in UTC, queue, when it last ran', { examples: ['pawl schedules', 'pawl schedules --json'] }),
  tables: view('tables', 'tables that are refreshed: when each was, when it is due, why it is stale', {
    words: [{ name: 'TABLE', optional: true, summary: 'only this one, with its schema or without' }],
    options: { stale: flag('only those whose rows are older than they should be') },
    examples: ['pawl tables', 'pawl tables --stale', 'pawl tables weekly_summary --json'],
  }),
}
