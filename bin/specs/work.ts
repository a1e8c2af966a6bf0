import { queues } from '../../src/queues.ts'
import type { Commands } from '../spec.ts'
import { flag, text, whole } from './values.ts'

/** Commands that run Pawl itself. */
export const workCommands: Commands = {
  work: {
    group: 'work',
    summary: 'run a worker until SIGTERM or SIGINT; its log is JSON lines on standard output',
    forms: [
      {
        summary: 'run a worker',
        options: { queues: { ...text('QUEUES', "only these queues; a * stands for anything, as in 'overrides.*'"), multiple: true } },
        examples: ['pawl work', "pawl work --queues 'overrides.*'", 'pawl work --queues campaigns.fire,reports.execute'],
      },
    ],
    load: async () => (await import('../commands/work.ts')).work,
  },
  dev: {
    group: 'work',
    summary: 'PostgreSQL, sample data and a worker in one process; --once exits when the sample runs are done',
    forms: [
      {
        summary: 'try Pawl',
        options: { once: flag('exit when the sample runs are done: 0 when all went well') },
        examples: ['pawl dev', 'pawl dev --once', 'pawl dev --once --json'],
      },
    ],
    load: async () => (await import('../commands/dev.ts')).dev,
  },
  pages: {
    group: 'work',
    summary: 'serve the read-only pages: runs, refreshed tables, timers, backups, health, queues',
    forms: [
      {
        summary: 'serve the pages until Ctrl-C',
        options: { port: { ...whole('where; 0 takes any free port', 0, 65_535), default: 'PAWL_PAGES_PORT, else 9466' } },
        role: 'pawl_observer',
        examples: ['pawl pages', 'pawl pages --port 0'],
      },
    ],
    load: async () => (await import('../commands/pages.ts')).pages,
  },
}

/** Names of the queues that can be paused, and worked on. */
export const queueNames: readonly string[] = queues.map(({ name }) => name)
