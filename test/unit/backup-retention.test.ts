import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Kind, Scope } from '../../workers/maintenance/backups/manifest.ts'
import { type Candidate, decide, type Policy } from '../../workers/maintenance/backups/retention.ts'
import { backup, inOrder, kept, mondayOf, namesOf, NOW, OWN, policy } from '../support/retention.ts'

const DAY_MS = 86_400_000
/** One a day, `count` of them, the newest two hours before NOW. */
const daily = (count: number) =>
  Array.from({ length: count }, (_, age) => backup({ takenAt: new Date(NOW.getTime() - 7_200_000 - age * DAY_MS).toISOString() }))

const whyOf = (backups: Candidate[], by: Policy = policy, now = NOW) =>
  Object.fromEntries(decide(backups, by, now).map(({ backup: { manifest }, verdict, why }) => [manifest.name, `${verdict}: ${why}`]))

test('two years of daily backups: thirty days, and the ends of weeks and months', () => {
  const days = kept(daily(730)).map(({ manifest }) => manifest.takenAt.slice(0, 10))
  expect(days.slice(0, 30)).toEqual(daily(30).map(({ manifest }) => manifest.takenAt.slice(0, 10)))
  // The fourth Sunday back is younger than 30 days.
  expect(days.slice(30)).toEqual([
    '2026-09-30',
    '2026-08-31',
    '2026-07-31',
    '2026-06-30',
    '2026-05-31',
    '2026-04-30',
    '2026-03-31',
    '2026-02-28',
    '2026-01-31',
    '2025-12-31',
  ])
})

test('every reason is named', () => {
  const why = whyOf(daily(60), { ...policy, keepDays: 3 })
  expect(why['2026-11-21T02:00:00.000Z-daily']).toBe('keep: newest verified, daily 1 of 7, weekly 1 of 4, monthly 1 of 12, younger than 3 days')
  expect(why['2026-11-19T02:00:00.000Z-daily']).toBe('keep: daily 3 of 7, younger than 3 days')
  // Its third birthday is two hours ago.
  expect(why['2026-11-18T02:00:00.000Z-daily']).toBe('keep: daily 4 of 7')
  expect(why['2026-11-15T02:00:00.000Z-daily']).toBe('keep: daily 7 of 7, weekly 2 of 4')
  expect(why['2026-11-14T02:00:00.000Z-daily']).toBe('delete: in no generation, 3 days old or older')
  expect(why['2026-11-08T02:00:00.000Z-daily']).toBe('keep: weekly 3 of 4')
  expect(why['2026-10-31T02:00:00.000Z-daily']).toBe('keep: monthly 2 of 12')
})

test('a backup is deleted at the very moment its days are over, and not before', () => {
  const old = backup({ takenAt: '2026-10-22T04:00:00Z', scope: 'schema' })
  expect(whyOf([...daily(1), old], policy, new Date(NOW.getTime() - 1))[old.manifest.name]).toBe('keep: younger than 30 days')
  expect(whyOf([...daily(1), old])[old.manifest.name]).toBe('delete: the structure alone, 30 days old or older')
})

test('days, weeks and months are those of UTC, and the newest of each stands for it', () => {
  const by = (keep: Partial<Policy['keep']>) => ({ ...policy, keepDays: 1, keep: { daily: 0, weekly: 0, monthly: 0, ...keep } })
  const takenAt = [
    '2024-12-29T23:59:59Z',
    '2024-12-30T00:00:00Z',
    '2024-12-31T23:59:59Z',
    '2025-01-01T00:00:00Z',
    '2025-01-05T23:59:59.999Z',
    '2025-01-06T00:00:00Z',
  ]
  const backups = takenAt.map(taken => backup({ takenAt: taken }))
  const keptBy = (keep: Partial<Policy['keep']>) => kept(backups, by(keep)).map(({ manifest }) => manifest.takenAt)
  expect(keptBy({ daily: 9 })).toEqual([...takenAt].reverse())
  // ISO week 1 of 2025 begins in 2024.
  expect(keptBy({ weekly: 9 })).toEqual(['2025-01-06T00:00:00Z', '2025-01-05T23:59:59.999Z', '2024-12-29T23:59:59Z'])
  expect(keptBy({ monthly: 9 })).toEqual(['2025-01-06T00:00:00Z', '2024-12-31T23:59:59Z'])
  expect(keptBy({})).toEqual(['2025-01-06T00:00:00Z'])
})

test('with nothing verified nothing is deleted, not even when a part of the database or the future is', () => {
  const backups = daily(400).map(one => ({ ...one, verification: undefined }))
  expect(kept(backups)).toHaveLength(400)
  const others = [
    backup({ takenAt: '2026-11-20T00:00:00Z', scope: 'tables' }),
    backup({ takenAt: '2026-11-20T00:00:01Z', scope: 'schema' }),
    backup({ takenAt: '2026-11-22T00:00:00Z' }),
    backup({ takenAt: '2026-11-20T00:00:00Z', database: 'another' }),
    backup({ takenAt: '2026-11-20T00:00:00Z', cluster: '7300000000000000002' }),
  ]
  expect(kept([...backups, ...others])).toHaveLength(405)
})

test('what is newer than the newest verified one is kept until it is verified or overtaken', () => {
  const verified = backup({ takenAt: '2026-06-01T02:00:00Z' })
  const older = backup({ takenAt: '2026-05-01T02:00:00Z', verified: false })
  const newer = backup({ takenAt: '2026-07-01T02:00:00Z', verified: false })
  expect(whyOf([older, verified, newer])).toEqual({
    [older.manifest.name]: 'delete: not verified, 30 days old or older',
    [verified.manifest.name]: 'keep: newest verified, daily 1 of 7, weekly 1 of 4, monthly 1 of 12',
    [newer.manifest.name]: 'keep: not verified, newer than the newest verified one',
  })
  const overtaken = whyOf([older, verified, newer, backup({ takenAt: '2026-08-01T02:00:00Z' })])
  expect(overtaken[newer.manifest.name]).toBe('delete: not verified, 30 days old or older')
})

test('pre-migration and partial backups go by days alone, the newest verified one excepted', () => {
  const regular = backup({ takenAt: '2026-08-01T02:00:00Z' })
  const [before, tables] = [backup({ takenAt: '2026-08-02T02:00:00Z', kind: 'pre_migration' }), backup({ takenAt: '2026-08-03T02:00:00Z', scope: 'tables' })]
  const why = whyOf([regular, before, tables])
  expect(why[before.manifest.name]).toBe('keep: newest verified')
  expect(why[regular.manifest.name]).toBe('keep: daily 1 of 7, weekly 1 of 4, monthly 1 of 12')
  expect(why[tables.manifest.name]).toBe('delete: some tables alone, 30 days old or older')
  const later = whyOf([regular, before, backup({ takenAt: '2026-08-04T02:00:00Z' })])
  expect(later[before.manifest.name]).toBe('delete: taken before a migration, 30 days old or older')
})

test('what is of another database or cluster, or from the future, is left alone', () => {
  const old = { takenAt: '2024-01-01T02:00:00Z', verified: false }
  const others = [backup({ ...old, database: 'Shop', name: 'a' }), backup({ ...old, cluster: '7300000000000000002', name: 'b' })]
  const ahead = backup({ takenAt: '2026-11-21T04:00:00.001Z', name: 'c' })
  const why = whyOf([...daily(1), ...others, ahead])
  expect([why.a, why.b, why.c]).toEqual([
    'keep: of another database, Shop',
    'keep: of another cluster, 7300000000000000002',
    expect.stringContaining('keep: from the future: a clock is wrong'),
  ])
  // It stands for no day either: a clock that was a year ahead for a week would push all generations out.
  expect(why['2026-11-21T02:00:00.000Z-daily']).toContain('newest verified, daily 1 of 7')
})

const counts = fc.record({ daily: fc.nat(9), weekly: fc.nat(6), monthly: fc.nat(14) })
const policies: fc.Arbitrary<Policy> = fc.record({ keepDays: fc.integer({ min: 1, max: 60 }), keep: counts }).map(given => ({ ...OWN, ...given }))
const moments = fc.integer({ min: -800 * 24 * 60, max: 2 * 24 * 60 }).map(minutes => new Date(NOW.getTime() + minutes * 60_000).toISOString())
const candidates = fc
  .array(
    fc.record({
      takenAt: moments,
      verified: fc.boolean(),
      kind: fc.constantFrom<Kind[]>('daily', 'daily', 'weekly', 'manual', 'pre_migration'),
      scope: fc.constantFrom<Scope[]>('full', 'full', 'full', 'schema', 'tables'),
      database: fc.constantFrom(OWN.database, OWN.database, OWN.database, 'another'),
      cluster: fc.constantFrom(OWN.cluster, OWN.cluster, OWN.cluster, '7300000000000000002'),
    }),
    { maxLength: 120 },
  )
  .map(list => list.map((given, index) => backup({ ...given, name: `backup-${index}` })))

const isOwn = ({ manifest }: Candidate) => manifest.database === OWN.database && manifest.cluster === OWN.cluster
const isPast = ({ manifest }: Candidate) => Date.parse(manifest.takenAt) <= NOW.getTime()
const isWhole = (one: Candidate) => one.manifest.scope === 'full' && one.verification !== undefined

test('the newest verified one, what is newer and not verified, and what is not ours or not yet are never deleted', () => {
  fc.assert(
    fc.property(candidates, policies, (backups, by) => {
      const stays = new Set(kept(backups, by))
      const newest = inOrder(backups.filter(one => isOwn(one) && isPast(one) && isWhole(one))).at(-1)
      for (const one of backups) {
        const isNewer = newest === undefined || Date.parse(one.manifest.takenAt) > Date.parse(newest.manifest.takenAt)
        const isSafe = !isOwn(one) || !isPast(one) || (one.verification === undefined && isNewer)
        if (isSafe || newest === undefined) expect(stays.has(one)).toBe(true)
      }
      if (newest !== undefined) expect(kept(backups, by).some(one => one.manifest.takenAt === newest.manifest.takenAt && isWhole(one))).toBe(true)
    }),
  )
})

test('never are fewer kept than there are periods to stand for', () => {
  fc.assert(
    fc.property(candidates, policies, (backups, by) => {
      const standing = (list: readonly Candidate[]) => list.filter(one => isOwn(one) && isPast(one) && isWhole(one) && one.manifest.kind !== 'pre_migration')
      const periodsOf = (list: readonly Candidate[], period: (day: string) => string) =>
        new Set(standing(list).map(one => period(new Date(one.manifest.takenAt).toISOString().slice(0, 10)))).size
      for (const [most, period] of [
        [by.keep.daily, (day: string) => day],
        [by.keep.weekly, mondayOf],
        [by.keep.monthly, (day: string) => day.slice(0, 7)],
      ] as const) {
        expect(periodsOf(kept(backups, by), period)).toBeGreaterThanOrEqual(Math.min(most, periodsOf(backups, period)))
      }
      if (backups.some(isOwn)) expect(kept(backups, by).some(isOwn)).toBe(true)
    }),
  )
})

test('to decide again after the deletion deletes nothing more', () => {
  fc.assert(
    fc.property(candidates, policies, (backups, by) => {
      expect(kept(kept(backups, by), by)).toEqual(kept(backups, by))
    }),
  )
})

test('to keep more deletes nothing that was kept', () => {
  fc.assert(
    fc.property(candidates, policies, fc.nat(30), counts, (backups, by, days, more) => {
      const { daily: days7, weekly, monthly } = by.keep
      const keep = { daily: days7 + more.daily, weekly: weekly + more.weekly, monthly: monthly + more.monthly }
      expect(namesOf(kept(backups, { ...by, keepDays: by.keepDays + days, keep }))).toEqual(expect.arrayContaining(namesOf(kept(backups, by))))
    }),
  )
})

test('the order they are listed in changes nothing, be they of the same moment', () => {
  const crowded = fc
    .tuple(candidates, fc.nat(5))
    .map(([backups, moment]) =>
      backups.map((one, index) => (index % 6 > moment ? one : { ...one, manifest: { ...one.manifest, takenAt: `2026-10-0${moment + 1}T02:00:00Z` } })),
    )
  const shuffled = crowded.chain(backups => fc.tuple(fc.constant(backups), fc.shuffledSubarray(backups, { minLength: backups.length })))
  fc.assert(
    fc.property(shuffled, policies, ([backups, others], by) => {
      expect(whyOf(others, by)).toEqual(whyOf(backups, by))
    }),
  )
})
