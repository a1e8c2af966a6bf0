import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { DOCUMENT, readResults, tableOf, withTables } from '../../bench/tables.ts'

test('the tables of docs/performance.md say what bench/results.json says', () => {
  const document = readFileSync(DOCUMENT, 'utf8')
  expect(withTables(document, readResults())).toBe(document)
})

test('a result that the document has no place for is refused by name', () => {
  expect(() => withTables('# Performance', readResults())).toThrow('docs/performance.md has no place for overrides')
})

test('no line of a table is without its figure', () => {
  for (const [name, result] of Object.entries(readResults())) expect(tableOf(name, result), name).not.toMatch(/\| –|NaN|undefined/u)
})
