import { expect, test } from 'vitest'
import { deadLetterOf, queues, queuesMatching } from '../../src/queues.ts'

const all = queues.map(queue => queue.name)

test('no pattern means every queue, in the order of the list', () => {
  expect(queuesMatching([])).toEqual(all)
  expect(queuesMatching(['*'])).toEqual(all)
})

test('a name means itself, a star any part of a name, and each queue is named once however often it matches', () => {
  const overrides = all.filter(name => name.startsWith('overrides.'))
  expect(overrides).toContain('overrides.apply')
  expect(queuesMatching(['overrides.apply'])).toEqual(['overrides.apply'])
  expect(queuesMatching(['overrides.*'])).toEqual(overrides)
  expect(queuesMatching(['*.apply', 'overrides.*', 'o*e*s.apply'])).toEqual(overrides)
})

test('everything but the star is meant as it stands, and the whole name must match', () => {
  for (const pattern of [
    'overridesXapply',
    'overrides',
    'apply',
    'overrides.apply2',
    'overrides.appl',
    '',
    '.',
    '.*',
    'overrides.(apply)',
    '[a-z.]*',
    'overrides.appl?',
    'OVERRIDES.*',
    'overrides.apply|x',
  ]) {
    expect(queuesMatching([pattern]), pattern).toEqual([])
  }
})

test('names are unique, none is the dead letter queue of another, and jobs outlive a run of a whole day', () => {
  expect(new Set(all).size).toBe(all.length)
  expect(deadLetterOf('overrides.apply')).toBe('overrides.apply.dead')
  for (const queue of queues) {
    expect(all).not.toContain(deadLetterOf(queue.name))
    // A task is short; what holds a run may hold it for a day.
    const holdsRuns = ['overrides.apply', 'refresh.load', 'reports.execute', 'maintenance.backup', 'maintenance.archive', 'maintenance.backfill']
    expect(queue.expireInSeconds).toBe(holdsRuns.includes(queue.name) ? 86_400 : 900)
    expect(queue.heartbeatSeconds).toBeGreaterThanOrEqual(10)
  }
})
