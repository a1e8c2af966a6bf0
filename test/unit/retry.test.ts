import fc from 'fast-check'
import { expect, test } from 'vitest'
import { backoffMs } from '../../src/retry.ts'

const attempts = fc.integer({ min: 1, max: 10_000 })
const firsts = fc.integer({ min: 1, max: 60_000 })
const mosts = fc.integer({ min: 1, max: 3_600_000 })
const chances = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })

test('a wait is a whole number between half of its ceiling and the ceiling, and never more than the most', () => {
  fc.assert(
    fc.property(attempts, firsts, mosts, chances, (attempt, firstMs, mostMs, chance) => {
      const wait = backoffMs(attempt, firstMs, mostMs, () => chance)
      const ceiling = Math.min(mostMs, firstMs * 2 ** (attempt - 1))
      expect(Number.isInteger(wait)).toBe(true)
      expect(wait).toBeLessThanOrEqual(mostMs)
      expect(wait).toBeGreaterThanOrEqual(Math.floor(ceiling / 2))
      expect(wait).toBeLessThanOrEqual(Math.ceil(ceiling))
    }),
  )
})

test('at the same chance a later attempt never waits less', () => {
  fc.assert(
    fc.property(attempts, firsts, mosts, chances, (attempt, firstMs, mostMs, chance) => {
      expect(backoffMs(attempt + 1, firstMs, mostMs, () => chance)).toBeGreaterThanOrEqual(backoffMs(attempt, firstMs, mostMs, () => chance))
    }),
  )
})

test('the wait doubles from try to try until it meets the most', () => {
  const waits = [1, 2, 3, 4, 5, 6, 7].map(attempt => backoffMs(attempt, 100, 2_000, () => 1))
  expect(waits).toEqual([100, 200, 400, 800, 1_600, 2_000, 2_000])
  expect(backoffMs(1_000_000, 100, 2_000, () => 1)).toBe(2_000)
})

test('the jitter spreads a fleet over half of the ceiling', () => {
  expect(backoffMs(4, 100, 10_000, () => 0)).toBe(400)
  expect(backoffMs(4, 100, 10_000, () => 0.5)).toBe(600)
  const waits = Array.from({ length: 200 }, () => backoffMs(10, 1_000, 60_000))
  expect(new Set(waits).size).toBeGreaterThan(150)
  expect(Math.min(...waits)).toBeGreaterThanOrEqual(30_000)
  expect(Math.max(...waits)).toBeLessThanOrEqual(60_000)
})
