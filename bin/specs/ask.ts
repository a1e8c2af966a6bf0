import { timerTypes } from '../../workers/campaigns/states.ts'
import type { Commands, WordSpec } from '../spec.ts'
import { choice, file, flag, json, limit, text, whole } from './values.ts'

const category: WordSpec = { name: 'CATEGORY', kind: 'whole', least: 1, summary: 'the id of a category' }
const user = { ...whole('who asks: an id of public.users', 1), value: { name: 'USER', kind: 'whole', least: 1 }, required: true } as const
const campaign: WordSpec = { name: 'CAMPAIGN', kind: 'uuid', summary: "a campaign's id" }
const time: WordSpec = { name: 'TIME', kind: 'time', summary: "when, as PostgreSQL reads it: '2027-01-01 09:00+01'" }
const report: WordSpec = { name: 'REPORT', summary: "a report's id, or its name where only one has it" }
const execution: WordSpec = { name: 'EXECUTION', kind: 'uuid', summary: "an execution's id, as pawl report list has it" }
const table: WordSpec = { name: 'TABLE', summary: 'a table, with its schema or without' }

/** Commands that ask for work, and look at what became of it. */
export const askCommands: Commands = {
  override: {
    group: 'ask',
    summary: "apply a category's settings to its recipients, or take that back",
    forms: [
      {
        summary: "apply a category's settings to its recipients",
        words: [category],
        options: {
          user,
          settings: json("other settings than the category's own"),
          'batch-size': { ...whole('recipients a batch', 1, 1000), default: '100' },
          key: text('KEY', 'an idempotency key: with the same one, the operation that is there already is answered'),
        },
        role: 'pawl_producer',
        examples: [
          'pawl override 3 --user 1',
          `pawl override 3 --user 1 --settings '{"channel": "email"}' --batch-size 500`,
          'pawl override 3 --user 1 --key order-4711 --json',
        ],
      },
      {
        verb: 'revert',
        summary: 'put back what each row held before, where no one changed it since',
        words: [{ name: 'OPERATION', kind: 'run', summary: 'the operation to take back' }],
        options: { user },
        role: 'pawl_producer',
        examples: ['pawl override revert ovr_42 --user 1'],
      },
    ],
    load: async () => (await import('../commands/override.ts')).override,
  },
  campaign: {
    group: 'ask',
    summary: 'create a campaign, schedule or move its timers, see them',
    forms: [
      {
        verb: 'create',
        summary: 'a campaign with its timers',
        options: {
          hours: { ...whole('how long it lasts', 1), required: true },
          start: { summary: 'when it starts (default now)', value: { name: 'TIME', kind: 'time' } },
          'no-close': flag('no timer that closes it'),
          'no-rewards': flag('no rewards'),
          metadata: json('what else is to be kept with it'),
          id: { summary: 'its id; without it, a new one', value: { name: 'UUID', kind: 'uuid' } },
        },
        role: 'pawl_producer',
        examples: ['pawl campaign create --hours 48', `pawl campaign create --hours 48 --start '2099-01-01 09:00+01' --metadata '{"name": "Spring"}'`],
      },
      {
        verb: 'timers',
        summary: 'its timers, or all; those that wait first',
        words: [{ ...campaign, optional: true }],
        options: { limit: limit() },
        role: 'pawl_observer',
        watch: true,
        examples: ['pawl campaign timers'],
      },
      {
        verb: 'schedule',
        summary: 'one more timer',
        words: [campaign, { name: 'TYPE', choices: timerTypes, summary: 'what it does' }, time],
        options: { payload: json('what the timer carries') },
        role: 'pawl_producer',
        examples: [`pawl campaign schedule 6f1c2d3e-0000-4000-8000-000000000000 EXPIRE_CAMPAIGN '2099-02-01 00:00Z'`],
      },
      {
        verb: 'move',
        summary: 'another time for a timer that has not fired',
        words: [{ name: 'TIMER', kind: 'uuid', summary: "a timer's id" }, time],
        role: 'pawl_operator',
        examples: [`pawl campaign move 7a1c2d3e-0000-4000-8000-000000000000 '2099-03-01 00:00Z'`],
      },
    ],
    load: async () => (await import('../commands/campaign.ts')).campaign,
  },
  refresh: {
    group: 'ask',
    summary: 'refresh a table now; see the plan, the order, what past refreshes changed',
    forms: [
      {
        verb: 'run',
        summary: 'refresh a table now',
        words: [table],
        options: {
          upstream: { ...choice('WHICH', ['stale', 'all', 'none'], 'which tables above it as well'), default: 'stale' },
          downstream: flag('those that depend on it as well'),
        },
        role: 'pawl_producer',
        examples: ['pawl refresh run weekly_summary', 'pawl refresh run weekly_summary --upstream all --downstream'],
      },
      {
        verb: 'plan',
        summary: 'the steps of a refresh run, the most urgent first',
        words: [
          {
            name: 'REFRESH-RUN',
            kind: 'whole',
            least: 1,
            most: Number.MAX_SAFE_INTEGER,
            optional: true,
            summary: 'its number, as pawl refresh run gives it (default the newest)',
          },
        ],
        role: 'pawl_observer',
        watch: true,
        examples: ['pawl refresh plan', 'pawl refresh plan --watch', 'pawl refresh plan 1 --json'],
      },
      {
        verb: 'graph',
        summary: 'which table depends on which, with what the last refresh changed',
        options: { format: { ...choice('FORMAT', ['text', 'mermaid', 'svg'], 'how it is drawn'), default: 'text' } },
        role: 'pawl_observer',
        examples: ['pawl refresh graph', 'pawl refresh graph --format mermaid'],
      },
      {
        verb: 'history',
        summary: 'what past refreshes did, newest first',
        words: [{ ...table, optional: true }],
        options: { limit: limit() },
        role: 'pawl_observer',
        examples: ['pawl refresh history', 'pawl refresh history weekly_summary --json'],
      },
    ],
    load: async () => (await import('../commands/refresh.ts')).refresh,
  },
  report: {
    group: 'ask',
    summary: 'execute or schedule a report; see executions, read their log, fetch their file',
    forms: [
      {
        verb: 'run',
        summary: 'execute a report',
        words: [report],
        options: {
          as: { ...text('USER', 'who executes it: id, name or e-mail address of reporting.users'), required: true },
          format: {
            summary: 'what the file is: csv, json, html, excel or pdf',
            value: { name: 'FORMAT', suggestions: ['csv', 'json', 'html', 'excel', 'pdf'] },
            default: 'csv',
          },
          parameters: json("the report's parameters"),
        },
        role: 'pawl_producer',
        examples: [`pawl report run 'Best queries' --as ada`, `pawl report run 'Best queries' --as ada --format excel --parameters '{"marketplaces": ["US"]}'`],
      },
      {
        verb: 'schedule',
        summary: 'have it executed at a time',
        words: [report, time],
        examples: [`pawl report schedule 'Best queries' '2099-01-04 09:00+01'`],
      },
      {
        verb: 'list',
        summary: 'executions, newest first',
        words: [{ ...report, optional: true }],
        options: { limit: limit() },
        watch: true,
        examples: ['pawl report list', `pawl report list 'Best queries' --json`],
      },
      {
        verb: 'log',
        summary: 'what an execution says of itself',
        words: [execution],
        watch: true,
        examples: ['pawl report log 8b1c2d3e-0000-4000-8000-000000000000'],
      },
      {
        verb: 'get',
        summary: "an execution's file, on standard output or as a new file",
        words: [execution],
        options: { to: file('write it there; nothing is overwritten') },
        examples: ['pawl report get 8b1c2d3e-0000-4000-8000-000000000000 --to queries.csv'],
      },
    ],
    load: async () => (await import('../commands/report.ts')).report,
  },
}
