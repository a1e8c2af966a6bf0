import type { Query } from '../database.ts'

/** So many timers were due in this quarter of an hour; -1 is the one that has just passed, 0 the one that has begun. */
export type Slot = { slot: number; state: TimerState; timers: number }

/** `fired` on time, `late` by a second or more, `overdue` by ten seconds and not fired. */
export type TimerState = 'fired' | 'late' | 'failed' | 'cancelled' | 'running' | 'pending' | 'overdue'

/** A timer that fires soon, or that did not fire as it should. */
export type TimerNow = {
  timer_id: string
  timer_type: string
  campaign_id: string
  state: TimerState
  scheduled_at: Date
  due_at: Date | null
  late_ms: number | null
}

export type Timers = { slots: Slot[]; next: TimerNow[]; troubled: TimerNow[]; counted: number }

/** Slots of the line before and after now. */
export const SLOTS = 96
export const SLOT_MS = 900_000
/** Beyond this the line shows a part only, and says so. */
export const TIMERS_MAX = 50_000

const LISTED_MAX = 6

// Always within the day: the index on scheduled_at is then all that is read, however long history is.
const recent = `
  select t.timer_id, t.timer_type, t.campaign_id, t.scheduled_at, t.due_at, t.late_ms::float8 as late_ms,
    case
      when t.state = 'completed' and t.late_ms >= 1000 then 'late'
      when t.state = 'completed' then 'fired'
      when t.state = 'pending' and t.due_at < now() - interval '10 seconds' then 'overdue'
      else t.state
    end as state
  from pawl.timers t
  where t.scheduled_at >= now() - interval '24 hours' and t.scheduled_at < now() + interval '24 hours'`

/** The timers of the last and the next 24 hours: how many in each quarter of an hour, those that come next, those with trouble. */
export async function readTimers(query: Query): Promise<Timers> {
  const slots = await query<Slot>(
    `select floor(extract(epoch from r.scheduled_at - now()) * 1000 / ${SLOT_MS})::integer as slot, r.state, count(*) as timers
     from (${recent} limit ${TIMERS_MAX}) r group by 1, 2 order by 1, 2`,
  )
  const next = await query<TimerNow>(
    `select * from (${recent}) r where r.state in ('pending', 'running') and r.scheduled_at >= now() - interval '10 seconds'
     order by r.scheduled_at limit ${LISTED_MAX}`,
  )
  const troubled = await query<TimerNow>(
    `select * from (${recent}) r where r.state in ('late', 'failed', 'overdue') order by r.scheduled_at desc limit ${LISTED_MAX}`,
  )
  return { slots, next, troubled, counted: slots.reduce((sum, slot) => sum + slot.timers, 0) }
}
