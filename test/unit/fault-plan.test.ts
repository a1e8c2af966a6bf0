import { expect, test } from 'vitest'
import { KINDS, plan } from '../faults/plan.ts'

test('the same seed gives the same plan, another one another', () => {
  expect(plan(7, 10)).toEqual(plan(7, 10))
  expect(plan(8, 10)).not.toEqual(plan(7, 10))
  // Written down: a plan that someone reported must still be the same after a change of the code.
  expect(plan(1, 1).map(fault => fault.kind)).toEqual([
    'stop',
    'migration',
    'connections',
    'black hole',
    'clock',
    'disk full',
    'term',
    'pooler',
    'kill',
    'latency',
    'storm',
    'crash',
    'promotion',
  ])
  expect(plan(1, 1)[0]).toEqual({ number: 1, kind: 'stop', atMs: 932, lastsMs: 2003, victim: 0.154, dose: 0.489 })
})

test('every plan has each kind of fault, in their time and in their order', () => {
  for (let seed = 0; seed < 25; seed += 1) {
    for (const minutes of [1, 3, 10]) {
      const faults = plan(seed, minutes)
      expect(new Set(faults.map(fault => fault.kind))).toEqual(new Set(KINDS))
      expect(faults.map(fault => fault.number)).toEqual(faults.map((_, place) => place + 1))
      expect(faults.map(fault => fault.atMs)).toEqual(faults.map(fault => fault.atMs).toSorted((a, b) => a - b))
      for (const { atMs, lastsMs, victim, dose } of faults) {
        expect(atMs).toBeLessThan(minutes * 60_000)
        expect(lastsMs).toBeLessThanOrEqual(9_000)
        for (const share of [victim, dose]) expect(share >= 0 && share <= 1).toBe(true)
      }
    }
  }
})
