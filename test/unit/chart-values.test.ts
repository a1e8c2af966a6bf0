import { expect, test } from 'vitest'
import { instantOf, numberOf } from '../../workers/reports/formats/draw-plot.ts'
import { instantLabels, numberLabels } from '../../workers/reports/formats/draw-ticks.ts'
import { grouped, shownValue } from '../../workers/reports/formats/draw-value.ts'

test('numbers and instants on axes are short and tell ticks apart', () => {
  expect(numberLabels([0, 0.1, 0.2, 0.1 + 0.2])).toEqual(['0', '0.1', '0.2', '0.3'])
  expect(numberLabels([0, 5000, 10000])).toEqual(['0', '5000', '10,000'])
  expect(numberLabels([-20000, 0, 40000])).toEqual(['-20 k', '0', '40 k'])
  expect(numberLabels([0, 2.5e6, 5e6])).toEqual(['0', '2.5 M', '5 M'])
  expect(numberLabels([0, 1e9, 12e9])).toEqual(['0', '1 B', '12 B'])
  expect(numberLabels([1e21, 2e21])).toEqual(['1e+21', '2e+21'])
  const at = (...texts: string[]) => instantLabels(texts.map(text => new Date(text)))
  expect(at('2025-01-01', '2026-01-01')).toEqual(['2025', '2026'])
  expect(at('2025-12-01', '2026-01-01')).toEqual(['Dec 2025', 'Jan 2026'])
  expect(at('2025-12-31', '2026-01-01')).toEqual(['31 Dec 2025', '1 Jan 2026'])
  expect(at('2026-01-01T06:00Z', '2026-01-01T12:00Z')).toEqual(['1 Jan 06:00', '1 Jan 12:00'])
  expect(at('2026-01-01T06:00:05Z', '2026-01-01T06:00:10Z')).toEqual(['06:00:05', '06:00:10'])
})

test('texts of PostgreSQL are read as the numbers and instants they are, or not at all', () => {
  expect(['1', '-2.50', '1e3', '0', '1e-300'].map(numberOf)).toEqual([1, -2.5, 1000, 0, 0])
  expect([null, '', ' ', 'NaN', 'Infinity', '-Infinity', '1e200', 't', '2026-01-01'].map(numberOf)).toEqual(Array(9).fill(null))
  const utc = Date.UTC(2026, 0, 2, 3, 4, 5)
  expect(['2026-01-02 03:04:05', '2026-01-02 03:04:05+00', '2026-01-02 08:34:05+05:30', '2026-01-01 22:04:05-05'].map(instantOf)).toEqual(Array(4).fill(utc))
  expect(instantOf('2026-01-02 03:04:05.25+00')).toBe(utc + 250)
  expect(instantOf('0044-03-15')).toBe(Date.parse('0044-03-15T00:00:00Z'))
  expect([null, '', 'infinity', '-infinity', '0044-03-15 BC', '294276-12-31', 'x'].map(instantOf)).toEqual(Array(7).fill(null))
})

test('digits are grouped, and each of them is kept', () => {
  expect(['0', '2026', '10000', '-1234567.8900', '123456789012345678901234567890.5', '1e+20', 'NaN'].map(grouped)).toEqual([
    '0',
    '2026',
    '10,000',
    '-1,234,567.8900',
    '123,456,789,012,345,678,901,234,567,890.5',
    '1e+20',
    'NaN',
  ])
  expect([shownValue(null, 'text'), shownValue('t', 'boolean'), shownValue('t', 'text'), shownValue('123456', 'text')]).toEqual(['', 'true', 't', '123456'])
})
