import { expect, test } from 'vitest'
import { bar, table } from '../../bin/table.ts'

test('rows stand in columns under their names, words to the left and numbers to the right', () => {
  const rows = [
    { queue: 'overrides.apply', ready: 3, state: 'open' },
    { queue: 'a', ready: 12_000, state: 'paused' },
  ]
  expect(table(rows)).toBe(['queue            ready  state', 'overrides.apply      3  open', 'a                12000  paused'].join('\n'))
})

test('a name wider than its values widens the column, and no line ends in blanks', () => {
  expect(
    table([
      { worker: 'w', runs: 1 },
      { worker: 'ww', runs: null },
    ]),
  ).toBe('worker  runs\nw          1\nww')
})

test('times are in ISO, lists joined, nothing is empty, and no rows is said', () => {
  const rows = [{ at: new Date(0), queues: ['a', 'b'], error: undefined, ok: true }]
  expect(table(rows)).toBe(['                      at  queues  error    ok', '1970-01-01T00:00:00.000Z    a, b         true'].join('\n'))
  expect(table([])).toBe('(none)')
})

test('a bar has always 24 cells, filled by the share, which is held between 0 and 1', () => {
  expect(bar(0)).toBe('░'.repeat(24))
  expect(bar(0.5)).toBe('█'.repeat(12) + '░'.repeat(12))
  expect(bar(1)).toBe('█'.repeat(24))
  expect(bar(7)).toBe(bar(1))
  expect(bar(-1)).toBe(bar(0))
  for (let share = 0; share <= 1; share += 0.01) expect(bar(share)).toHaveLength(24)
})
