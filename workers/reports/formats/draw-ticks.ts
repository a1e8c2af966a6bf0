import { grouped } from './draw-value.ts'

const units = [
  { from: 1e15, unit: 1, name: '' },
  { from: 1e12, unit: 1e12, name: ' T' },
  { from: 1e9, unit: 1e9, name: ' B' },
  { from: 1e6, unit: 1e6, name: ' M' },
  { from: 2e4, unit: 1e3, name: ' k' },
]

/** Short names of the numbers of one axis, all in the same unit: 0, 5 k, 10 k. */
export function numberLabels(marks: readonly number[]): string[] {
  const most = marks.reduce((found, mark) => Math.max(found, Math.abs(mark)), 0)
  const { unit, name } = units.find(candidate => most >= candidate.from) ?? { unit: 1, name: '' }
  // Twelve digits hide what binary fractions add (0.30000000000000004).
  return marks.map(mark => (mark === 0 ? '0' : grouped(String(Number((mark / unit).toPrecision(12)))) + name))
}

const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']
const DAY_MS = 86_400_000

/** Names of the instants of one axis, in UTC, as fine as the steps between them. */
export function instantLabels(marks: readonly Date[]): string[] {
  const step = marks.length > 1 ? Number(marks[1]) - Number(marks[0]) : 0
  return marks.map(mark => {
    const [year, month, day] = [String(mark.getUTCFullYear()), months[mark.getUTCMonth()] ?? '', mark.getUTCDate()]
    if (step >= 365 * DAY_MS) return year
    if (step >= 28 * DAY_MS) return `${month} ${year}`
    if (step >= DAY_MS || (step === 0 && Number(mark) % DAY_MS === 0)) return `${day} ${month} ${year}`
    const time = mark.toISOString().replace(/^.*T/, '')
    return step === 0 || step >= 60_000 ? `${day} ${month} ${time.slice(0, 5)}` : step >= 1000 ? time.slice(0, 8) : time.slice(0, 12)
  })
}
