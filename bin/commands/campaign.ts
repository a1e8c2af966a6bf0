import { answer } from '../terminal.ts'
import { table } from '../table.ts'
import { show } from '../watch.ts'
import { byVerb } from './connect.ts'

/** `pawl campaign …`: the contract's create_campaign, schedule_timer and reschedule_timer, and a look at the timers. */
export const campaign = byVerb({
  async create(db, terminal, values) {
    const [row] = await db.query<{ id: string }>(
      'select pawl.create_campaign($1, coalesce($2::timestamptz, now()), $3, $4, coalesce($5::jsonb, $6), $7) as id',
      [values.hours, values.start ?? null, values['no-close'] !== true, values['no-rewards'] !== true, values.metadata ?? null, '{}', values.id ?? null],
    )
    answer(terminal, { campaign_id: row?.id }, `${row?.id}\n  its timers: pawl campaign timers ${row?.id}`)
  },

  timers: (db, terminal, values, [subject]) =>
    show(terminal, values, async () => {
      const rows = await db.query(
        `select state, timer_type, scheduled_at, late_ms, retry_count as retries, timer_id, campaign_id, error
         from pawl.timers where $1::uuid is null or campaign_id = $1::uuid
         order by state = 'pending' desc, scheduled_at limit $2`,
        [subject ?? null, values.limit ?? 50],
      )
      return { machine: { timers: rows }, people: table(rows) }
    }),

  async schedule(db, terminal, { payload }, [subject, type, time]) {
    const [row] = await db.query<{ id: string }>(`select pawl.schedule_timer($1, $2, $3, coalesce($4::jsonb, '{}')) as id`, [
      subject,
      type,
      time,
      payload ?? null,
    ])
    answer(terminal, { timer_id: row?.id }, `${row?.id}`)
  },

  async move(db, terminal, _values, [timer, time]) {
    const [row] = await db.query<{ done: boolean }>('select pawl.reschedule_timer($1, $2) as done', [timer, time])
    answer(terminal, { timer_id: timer, done: row?.done === true }, `${timer} ${row?.done === true ? 'is moved' : 'has fired, failed or was cancelled'}`)
  },
})
