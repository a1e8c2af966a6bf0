import { isTimerType, timerTypes } from '../../workers/campaigns/states.ts'
import { answer, type Command, jsonOption, usageError, wordAt } from '../run.ts'
import { table } from '../table.ts'
import { byVerb, type Verb } from './connect.ts'

const USAGE =
  'campaign create --hours N [--start TIME] [--no-close] [--no-rewards] [--metadata JSON] [--id UUID]  |  campaign timers [CAMPAIGN]' +
  '  |  campaign schedule CAMPAIGN TYPE TIME [--payload JSON]  |  campaign move TIMER TIME'

/** `pawl campaign …`: the contract's create_campaign and schedule_timer, and a look at the timers. */
export const campaign: Command = {
  usage: USAGE,
  summary: 'create a campaign, schedule or move its timers, see them',
  example: `pawl campaign create --hours 48 --start '2027-01-01 09:00+01'`,
  quiet: true,
  options: {
    hours: { type: 'string' },
    start: { type: 'string' },
    'no-close': { type: 'boolean' },
    'no-rewards': { type: 'boolean' },
    metadata: { type: 'string' },
    payload: { type: 'string' },
    id: { type: 'string' },
  },
  run: (...given) => byVerb('campaign', USAGE, verbs)(...given),
}

const verbs: Readonly<Record<string, Verb>> = {
  async create(db, terminal, values) {
    const hours = Number(values.hours)
    if (values.hours === undefined || !Number.isSafeInteger(hours)) throw usageError('--hours must be a whole number', `usage: pawl ${USAGE}`)
    const [row] = await db.query<{ id: string }>(
      'select pawl.create_campaign($1, coalesce($2::timestamptz, now()), $3, $4, coalesce($5::jsonb, $6), $7) as id',
      [
        hours,
        values.start ?? null,
        values['no-close'] !== true,
        values['no-rewards'] !== true,
        jsonOption(values.metadata, '--metadata', '{"expire_hours": 48}'),
        '{}',
        values.id ?? null,
      ],
    )
    answer(terminal, { campaign_id: row?.id }, `${row?.id}\n  its timers: pawl campaign timers ${row?.id}`)
  },

  async timers(db, terminal, _values, [subject]) {
    const rows = await db.query(
      `select state, timer_type, scheduled_at, late_ms, retry_count as retries, timer_id, campaign_id, error
       from pawl.timers where $1::uuid is null or campaign_id = $1::uuid
       order by state = 'pending' desc, scheduled_at limit 50`,
      [subject ?? null],
    )
    answer(terminal, { timers: rows }, table(rows))
  },

  async schedule(db, terminal, values, words) {
    const [subject, type, time] = [wordAt(words, 0, 'the campaign', USAGE), wordAt(words, 1, 'the timer type', USAGE), wordAt(words, 2, 'the time', USAGE)]
    if (!isTimerType(type)) throw usageError(`there is no timer type "${type}"`, timerTypes.join(', '))
    const [row] = await db.query<{ id: string }>(`select pawl.schedule_timer($1, $2, $3, coalesce($4::jsonb, '{}')) as id`, [
      subject,
      type,
      time,
      jsonOption(values.payload, '--payload', '{"by": "hand"}'),
    ])
    answer(terminal, { timer_id: row?.id }, `${row?.id}`)
  },

  async move(db, terminal, _values, words) {
    const timer = wordAt(words, 0, 'the timer', USAGE)
    const [row] = await db.query<{ done: boolean }>('select pawl.reschedule_timer($1, $2) as done', [timer, wordAt(words, 1, 'the time', USAGE)])
    answer(terminal, { timer_id: timer, done: row?.done === true }, `${timer} ${row?.done === true ? 'is moved' : 'has fired, failed or was cancelled'}`)
  },
}
