import { expect, test } from 'vitest'
import type { Candidate } from '../../workers/maintenance/backups/retention.ts'
import { backup, inOrder, kept, mondayOf, namesOf, policy } from '../support/retention.ts'

const DAY_MS = 86_400_000

/** What 7/4/12 and 30 days promise, from everything that was ever taken, by the calendar. */
function promised(history: readonly Candidate[], now: Date): string[] {
  const newest = new Map<string, string>()
  const verified = inOrder(history.filter(one => one.verification !== undefined))
  for (const { manifest } of verified) {
    const day = manifest.takenAt.slice(0, 10)
    for (const period of [`day ${day}`, `week ${mondayOf(day)}`, `month ${day.slice(0, 7)}`]) newest.set(period, manifest.name)
  }
  const last = (what: string, count: number) =>
    [...newest.keys()]
      .filter(period => period.startsWith(what))
      .sort()
      .slice(-count)
      .map(period => newest.get(period) ?? '')
  const young = history.filter(({ manifest }) => now.getTime() - Date.parse(manifest.takenAt) < 30 * DAY_MS).map(({ manifest }) => manifest.name)
  const lastVerified = verified.at(-1)?.manifest.takenAt
  const waiting = history.filter(one => one.verification === undefined && (lastVerified === undefined || one.manifest.takenAt > lastVerified))
  return [...new Set([...last('day', 7), ...last('week', 4), ...last('month', 12), ...young, ...namesOf(waiting)])].sort()
}

test('over two years of days with outages, failed verifications and missing weeks, what is kept is what was promised', () => {
  const history: Candidate[] = []
  let store: Candidate[] = []
  const begin = Date.parse('2024-01-01T00:00:00Z')
  const isOut = (day: number) => (day >= 100 && day < 121) || (day >= 400 && day < 465) || day % 17 === 3
  // Six weeks in which nothing could be restored: longer than the thirty days.
  const isUnverified = (day: number) => (day >= 250 && day < 292) || day % 11 === 5
  let deleted = 0
  for (let day = 0; day < 731; day += 1) {
    const at = (hour: number) => new Date(begin + day * DAY_MS + hour * 3_600_000)
    const taken = isOut(day) ? [] : [backup({ takenAt: at(2).toISOString(), verified: !isUnverified(day) })]
    if (!isOut(day) && at(3).getUTCDay() === 0) taken.push(backup({ takenAt: at(3).toISOString(), kind: 'weekly', verified: !isUnverified(day) }))
    history.push(...taken)
    store.push(...taken)
    const before = store.length
    store = kept(store, policy, at(4))
    deleted += before - store.length
    expect(namesOf(store), `on day ${day}`).toEqual(promised(history, at(4)))
  }
  expect(deleted).toBe(history.length - store.length)
  expect(deleted).toBeGreaterThan(500)
  expect(store.length).toBeGreaterThan(30)
})
