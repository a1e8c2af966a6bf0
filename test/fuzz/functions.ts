import fc from 'fast-check'
import { queues } from '../../src/queues.ts'
import type { Known, Look } from './stage.ts'
import { address, identifier, json, list, maybe, moment, number, omitted, span, text, truth } from './values.ts'

/** A function of the contract: who may call it, what may be given to it, what it may write to, what must be so when it answers. */
export type Contract = {
  roles: readonly string[]
  given: (known: Known) => Record<string, { type: string; values: fc.Arbitrary<unknown> }>
  writes: readonly RegExp[]
  look?: (given: Record<string, unknown>) => Look
  answer: RegExp
  /** Of as many calls one is made: each of these takes a second or more. */
  slow?: number
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
const producer = ['pawl_producer']
const operator = ['pawl_operator']
const both = ['pawl_producer', 'pawl_operator']
const required = (type: string, values: fc.Arbitrary<unknown>) => ({ type, values })
const optional = (type: string, values: fc.Arbitrary<unknown>) => ({ type, values: maybe(values) })
const run = [/^pawl\.(checkpoints|lanes)$/, /^pgboss\.job/]
const runIds = (k: Known) => text(k.pending, k.completed, k.timer, `${k.pending} `, k.timer.toUpperCase())
const queueNames = [...queues.map(queue => queue.name), 'campaign.started', 'overrides.apply.dead']

/** Half a pair of UTF-16 is no text in any encoding: the driver sends U+FFFD for it. */
const shown = (value: unknown) => (typeof value === 'string' ? value.toWellFormed() : (JSON.stringify(value) ?? 'nothing'))

/** Reads one row of what the call made, and says what of it is not as it was given. */
const rowIs =
  (sql: string, wanted: (given: Record<string, unknown>) => Record<string, unknown>) =>
  (given: Record<string, unknown>): Look =>
  async (query, answer) => {
    const [row] = await query<Record<string, unknown>>(sql, [answer])
    const differs = Object.entries(wanted(given)).filter(([name, value]) => value !== omitted && value !== null && shown(row?.[name]) !== shown(value))
    return differs.map(([name, value]) => `${name} is ${shown(row?.[name]).slice(0, 100)}, not ${shown(value).slice(0, 100)}`)
  }

/** Every function of the contract. */
export const contract: Readonly<Record<string, Contract>> = {
  request_override: {
    roles: producer,
    given: k => ({
      category_id: required('bigint', number(k.category)),
      user_id: required('bigint', number(k.user)),
      settings: optional('jsonb', json(fc.constant({ channel: 'sms' }))),
      batch_size: optional('integer', number(1, 1000)),
      client_ip: optional('inet', address),
      user_agent: optional('text', text('curl')),
      idempotency_key: optional('text', text('key')),
    }),
    writes: [/^public\.category_override_(operations|audit|audit_keys)$/, ...run],
    look: rowIs(
      `select a.user_agent, o.idempotency_key, c.state from public.category_override_operations o
       join public.category_override_audit a using (operation_id) join pawl.checkpoints c on c.run_id = o.operation_id where operation_id = $1`,
      ({ user_agent, idempotency_key }) => ({ user_agent, idempotency_key, state: 'pending' }),
    ),
    answer: /^ovr_\d+$/,
  },
  revert_override: {
    roles: producer,
    given: k => ({ operation_id: required('text', text(k.completed, k.completed, k.pending)), user_id: required('bigint', number(k.user)) }),
    writes: [/^public\.category_override_(operations|audit|audit_keys)$/, ...run],
    answer: /^ovr_\d+$/,
  },
  create_campaign: {
    roles: producer,
    given: k => ({
      duration_hours: required('integer', number(1, 24, 87_600, 87_601)),
      start_at: optional('timestamptz', moment),
      auto_close: optional('boolean', truth),
      rewards_enabled: optional('boolean', truth),
      metadata: optional('jsonb', json(fc.constant({ expire_hours: 1 }))),
      id: optional('uuid', identifier(k.campaign)),
    }),
    writes: [/^public\.campaign(s|_timers|_state_log|_metrics)$/],
    look: rowIs('select duration_hours, id from public.campaigns where id = $1::uuid', ({ duration_hours }) => ({
      duration_hours: duration_hours === null ? null : Number(duration_hours),
    })),
    answer: UUID,
  },
  schedule_timer: {
    roles: producer,
    given: k => ({
      campaign_id: required('uuid', identifier(k.campaign)),
      timer_type: required('text', text('EXPIRE_CAMPAIGN', 'REWARD_REMINDER', 'START_CAMPAIGN', 'start_campaign')),
      at: required('timestamptz', moment),
      payload: optional('jsonb', json()),
    }),
    writes: [/^public\.campaign_timers$/],
    look: rowIs('select timer_type, campaign_id from public.campaign_timers where id = $1::uuid', ({ timer_type }) => ({ timer_type })),
    answer: UUID,
  },
  reschedule_timer: {
    roles: operator,
    given: k => ({ timer_id: required('uuid', identifier(k.timer)), at: required('timestamptz', moment) }),
    writes: [/^public\.campaign_timers$/],
    answer: /^(true|false)$/,
  },
  refresh_table: {
    roles: both,
    given: () => ({
      name: required('text', text('yearly_summary', 'sqp.yearly_summary', 'SQP.yearly_summary')),
      upstream: optional('text', text('stale', 'all', 'none')),
      downstream: optional('boolean', truth),
    }),
    writes: [/^pawl\.refresh_(runs|steps|waits)$/, ...run],
    answer: /^\d+$/,
  },
  run_report: {
    roles: both,
    given: k => ({
      report_id: required('uuid', identifier(k.report)),
      executed_by: required('uuid', identifier(k.admin, k.viewer)),
      output_format: optional('text', text('csv', 'XLSX', 'pdf')),
      parameters: optional(
        'jsonb',
        json(
          fc.dictionary(
            fc.constantFrom('region', 'least', 'share', 'day', 'at', 'who', 'flag', 'names', 'days'),
            fc.oneof(
              fc.jsonValue({ maxDepth: 2 }),
              fc.constantFrom<unknown>(
                1e300,
                '1e131072',
                '99999999999999999999',
                'infinity',
                '294277-01-01',
                'NaN',
                `'; --`,
                '{1,2}',
                [['a']],
                ['a', null],
                ['2026-01-01'],
                'yes',
              ),
            ),
          ),
        ),
      ),
    }),
    writes: [/^reporting\.(report_executions|execution_logs|audit_logs)$/, ...run],
    look: rowIs(`select status from reporting.report_executions where id = $1::uuid`, () => ({ status: 'running' })),
    answer: UUID,
  },
  enqueue: {
    roles: producer,
    given: () => ({
      queue: required('text', text(...queueNames)),
      data: required('jsonb', json(fc.constant({ run_id: 'ovr_1' }))),
      priority: optional('integer', number(5, -5)),
      start_after: optional('timestamptz', moment),
      singleton_key: optional('text', text('key')),
    }),
    writes: [/^pgboss\.job/],
    look: rowIs('select name, priority, singleton_key, data::jsonb = data::jsonb as whole from pgboss.job where id = $1::uuid', given => ({
      name: given.queue,
      singleton_key: given.singleton_key,
    })),
    answer: UUID,
  },
  why: { roles: ['pawl_operator', 'pawl_observer'], given: k => ({ run_id: required('text', runIds(k)) }), writes: [], answer: /^[A-Z][^]*\.$/ },
  cancel: {
    roles: operator,
    given: k => ({ run_id: required('text', runIds(k)), reason: optional('text', text('enough')) }),
    writes: [/^public\.(campaign_timers|categories|category_override_(operations|audit))$/, ...run],
    answer: /^(true|false)$/,
  },
  retry: { roles: operator, given: k => ({ run_id: required('text', runIds(k)) }), writes: run, answer: /^(true|false)$/ },
  pause: {
    roles: operator,
    given: () => ({ queue: required('text', text(...queueNames)), reason: optional('text', text('rest')) }),
    writes: [/^pawl\.paused_queues$/],
    answer: /^(true|false)$/,
  },
  resume: { roles: operator, given: () => ({ queue: required('text', text(...queueNames)) }), writes: [/^pawl\.paused_queues$/], answer: /^(true|false)$/ },
  request_backup: {
    roles: operator,
    given: () => ({
      kind: optional('text', text('manual', 'daily')),
      scope: optional('text', text('full', 'tables')),
      tables: optional('text[]', list('public.campaigns', 'public.users')),
    }),
    writes: run,
    answer: /^backup_\d+$/,
  },
  extend_partitions: {
    roles: operator,
    given: () => ({ months_ahead: optional('integer', number(1, 2)) }),
    writes: [],
    answer: /^\(.*\)$/,
    slow: 10,
  },
  index_report: { roles: ['pawl_operator', 'pawl_observer'], given: () => ({ watch: optional('interval', span) }), writes: [], answer: /^\([^]*\)$/, slow: 25 },
}
