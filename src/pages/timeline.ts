import { type Html, html } from './html.ts'
import { SLOT_MS, SLOTS, type Slot, TIMERS_MAX, type TimerNow, type Timers, type TimerState } from './timers.ts'
import { badge, count, glyphOf, lookOf, moment } from './words.ts'

const LINE = { width: 1200, left: 4, right: 4, top: 20, floor: 128, bottom: 152 }
const WIDE = (LINE.width - LINE.left - LINE.right) / (2 * SLOTS)
/** One timer is this high where few are due together; where many are, the bars share the room. */
const UNIT = 10

/** What stands on the floor comes first; trouble lies on top, where it is seen. */
const order: TimerState[] = ['fired', 'cancelled', 'pending', 'running', 'late', 'failed', 'overdue']

/** The timers of a day back and a day ahead on a line, and in tables those that come next and those with trouble. */
export function timersSection(timers: Timers, now: Date): Html {
  return html`
    <p>${summary(timers)}</p>
    <div class="scroll" id="timeline" role="region" tabindex="0" aria-label="Timers on a time line">${picture(timers, now)}</div>
    <div class="pair">
      <div><h3>Next to fire</h3>${list(timers.next, now, 'No timer is due within 24 hours.', 'Timers that fire next')}</div>
      <div><h3>Late, failed or overdue</h3>${list(timers.troubled, now, 'All timers of the last 24 hours fired on time.', 'Timers with trouble')}</div>
    </div>
    ${timers.slots.length > 0 && html`<details id="timers-hours"><summary>The time line as a table, by the hour</summary>${hours(timers.slots, now)}</details>`}`
}

const sum = (slots: readonly Slot[]) => slots.reduce((total, slot) => total + slot.timers, 0)

function summary({ slots, counted }: Timers): Html {
  const of = (...states: TimerState[]) => sum(slots.filter(slot => states.includes(slot.state)))
  const text =
    `In the last 24 hours ${count(of('fired', 'late'))} timers fired, ${count(of('late'))} of them a second late or more; ${count(of('failed'))} failed, ` +
    `${count(of('overdue'))} are overdue. In the next 24 hours ${count(of('pending', 'running'))} are due.`
  return html`${text}${counted >= TIMERS_MAX && html` <strong>There are more: ${count(TIMERS_MAX)} were counted.</strong>`}`
}

function picture({ slots }: Timers, now: Date): Html {
  const bySlot = Map.groupBy(slots, slot => slot.slot)
  const most = Math.max(1, ...[...bySlot.values()].map(sum))
  const unit = Math.min(UNIT, (LINE.floor - LINE.top) / most)
  const x = (slot: number) => LINE.left + (slot + SLOTS) * WIDE
  const middle = x(0)
  return html`<svg class="timeline" viewBox="0 0 ${LINE.width} ${LINE.bottom}" role="img" aria-labelledby="timeline-title timeline-words">
    <title id="timeline-title">Timers of the last and the next 24 hours</title>
    <desc id="timeline-words">A bar for each quarter of an hour, ${count(most)} timers at most. The sentence above and the tables below say the same.</desc>
    ${hourMarks(now).map(
      ({ at, text }) =>
        html`<line class="grid" x1="${x(at)}" x2="${x(at)}" y1="${LINE.top}" y2="${LINE.floor + 4}"/><text class="axis" x="${x(at)}" y="${LINE.floor + 18}" text-anchor="middle">${text}</text>`,
    )}
    <line class="floor" x1="0" x2="${LINE.width}" y1="${LINE.floor}" y2="${LINE.floor}"/>
    ${[...bySlot].map(([slot, those]) => bar(those, x(slot), unit))}
    <line class="now" x1="${middle}" x2="${middle}" y1="${LINE.top - 4}" y2="${LINE.floor + 4}"/>
    <text class="now" x="${middle}" y="11" text-anchor="middle">now</text>
    <text class="axis" x="${LINE.left}" y="11">24 hours ago</text><text class="axis" x="${LINE.width - LINE.right}" y="11" text-anchor="end">in 24 hours</text>
  </svg>`
}

function bar(slots: readonly Slot[], x: number, unit: number): Html {
  let y = LINE.floor
  const parts = slots
    .toSorted((a, b) => order.indexOf(a.state) - order.indexOf(b.state))
    .map(({ state, timers }) => {
      // One late timer among ten thousand must still be seen.
      const high = Math.max(3, timers * unit)
      y -= high
      return html`<rect class="bar ${state} ${lookOf(state)}" x="${(x + 0.75).toFixed(2)}" y="${y.toFixed(2)}" width="${(WIDE - 1.5).toFixed(2)}" height="${(high - 1).toFixed(2)}" rx="1"><title>${count(timers)} ${state}</title></rect>`
    })
  const worst = (['overdue', 'failed', 'late'] as const).find(state => slots.some(slot => slot.state === state))
  return html`${parts}${worst !== undefined && html`<text class="mark ${lookOf(worst)}" x="${(x + WIDE / 2).toFixed(2)}" y="${(y - 4).toFixed(2)}" text-anchor="middle">${glyphOf(worst)}</text>`}`
}

/** Every third full hour, in UTC, in slots from now. */
function hourMarks(now: Date): { at: number; text: string }[] {
  const hour = 3_600_000
  const first = Math.ceil((now.getTime() - SLOTS * SLOT_MS) / (3 * hour)) * 3 * hour
  const marks = Array.from({ length: 16 }, (_, step) => first + step * 3 * hour)
  return marks
    .map(time => ({ at: (time - now.getTime()) / SLOT_MS, text: new Date(time).toISOString().slice(11, 16) }))
    .filter(({ at }) => at > -SLOTS + 3 && at < SLOTS - 3)
}

function list(timers: readonly TimerNow[], now: Date, none: string, caption: string): Html {
  if (timers.length === 0) return html`<p class="empty">${none}</p>`
  return html`<table>
    <caption class="hidden">${caption}</caption>
    <thead><tr><th scope="col">Timer</th><th scope="col">State</th><th scope="col">Due</th></tr></thead>
    <tbody>${timers.map(
      timer => html`<tr>
        <th scope="row">${timer.timer_type}<div class="id">campaign ${timer.campaign_id.slice(0, 8)}</div></th>
        <td>${badge(timer.state, timer.late_ms === null ? timer.state : `${timer.state} by ${count(Math.round(timer.late_ms))} ms`)}</td>
        <td class="time">${moment(timer.due_at ?? timer.scheduled_at, now)}</td>
      </tr>`,
    )}</tbody>
  </table>`
}

function hours(slots: readonly Slot[], now: Date): Html {
  const rows = [...Map.groupBy(slots, ({ slot }) => Math.floor(slot / 4))].sort(([a], [b]) => a - b)
  const from = (hour: number) => new Date(now.getTime() + hour * 3_600_000).toISOString().slice(11, 16)
  return html`<table class="narrow">
    <caption class="hidden">Timers by the hour, counted from now</caption>
    <thead><tr><th scope="col">From, in UTC</th><th scope="col" class="figure">Timers</th><th scope="col">States</th></tr></thead>
    <tbody>${rows.map(
      ([hour, those]) =>
        html`<tr><th scope="row">${from(hour)}</th><td class="figure">${count(sum(those))}</td><td>${[...Map.groupBy(those, slot => slot.state)]
          .map(([state, some]) => `${count(sum(some))} ${state}`)
          .join(', ')}</td></tr>`,
    )}</tbody>
  </table>`
}
