import { type Html, html } from './html.ts'

/** Figures as people read them. */
export const count = (value: number | string): string => Number(value).toLocaleString('en')

/** Milliseconds in the two units that matter: `3 min 20 s`, `2 d 4 h`. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  const units: [string, number][] = [
    ['d', 86_400],
    ['h', 3_600],
    ['min', 60],
    ['s', 1],
  ]
  const first = units.findIndex(([, size]) => seconds >= size)
  if (first === -1) return '0 s'
  let left = seconds
  const words = units.slice(first, first + 2).flatMap(([unit, size]) => {
    const whole = Math.floor(left / size)
    left -= whole * size
    return whole === 0 ? [] : [`${whole} ${unit}`]
  })
  return words.join(' ')
}

/** `16.9 MB`, in powers of ten as disks are sold. */
export function bytes(value: number | string): string {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB', 'PB']
  const size = Number(value)
  const power = size < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(size) / 3))
  return `${(size / 1000 ** power).toLocaleString('en', { maximumSignificantDigits: 3 })} ${units[power]}`
}

/** A moment as seen from `now`, with the moment itself for machines and for whoever points at it. */
export function moment(at: Date | null, now: Date): Html {
  if (at === null) return html`<span class="muted">–</span>`
  const away = at.getTime() - now.getTime()
  const iso = at.toISOString()
  const text = Math.abs(away) < 1000 ? 'now' : away < 0 ? `${duration(-away)} ago` : `in ${duration(away)}`
  return html`<time datetime="${iso}" title="${iso.slice(0, 19).replace('T', ' ')} UTC">${text}</time>`
}

/** At most `most` characters; an ellipsis tells that there were more. */
export function shortened(text: string, most: number): string {
  // By characters, not by halves of them.
  const characters = Array.from(text)
  return characters.length <= most ? text : `${characters.slice(0, most - 1).join('')}…`
}

/** What a person reads at a glance beside a state's name: never colour alone. */
const glyphs: Readonly<Record<string, string>> = {
  running: '▶\ufe0e',
  ready: '◔',
  completed: '✓',
  verified: '✓',
  ok: '✓',
  fired: '✓',
  failed: '✕',
  silent: '✕',
  late: '▲',
  overdue: '▲',
  warning: '!',
  attention: '!',
  unverified: '!',
  paused: '‖',
  draining: '↘',
  skipped: '↷',
  cancelled: '⊘',
  never: '·',
}

/** States that look alike: the class of their colours in the style sheet. */
const looks: Readonly<Record<string, string>> = {
  running: 'running',
  completed: 'good',
  verified: 'good',
  ok: 'good',
  fired: 'good',
  failed: 'bad',
  silent: 'bad',
  overdue: 'bad',
  late: 'warn',
  warning: 'warn',
  attention: 'warn',
  unverified: 'warn',
  paused: 'warn',
  skipped: 'off',
  cancelled: 'off',
}

/** The sign of a state. */
export const glyphOf = (state: string): string => glyphs[state] ?? '○'

/** The class that colours a state. */
export const lookOf = (state: string): string => looks[state] ?? 'quiet'

/** A state as sign, word and colour. */
export function badge(state: string, text = state): Html {
  return html`<span class="badge ${lookOf(state)}"><span aria-hidden="true">${glyphOf(state)}</span> ${text}</span>`
}
