import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { type Mutant, rotten, within } from '../mutations/mutant.ts'
import { mutants } from '../mutations/mutants.ts'
import { verdictOf } from '../mutations/verdict.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const textOf = (file: string) => readFileSync(join(root, file), 'utf8')

test('each planted bug still fits what it changes, in one place and no other', () => {
  expect(rotten(mutants, textOf)).toEqual([])
  expect(mutants.length).toBeGreaterThanOrEqual(36)
})

test('one that is there twice, not at all, or changes nothing is named', () => {
  const mutant = (name: string, ...pairs: [string, string][]): Mutant => ({ name, why: '', tests: [], changes: within('file', ...pairs) })
  const list = [mutant('gone', ['x', 'y']), mutant('twice', ['a', 'b']), mutant('idle', ['c', 'c']), mutant('good', ['c', 'd']), mutant('good', ['c', 'd'])]
  expect(rotten(list, () => 'a c a')).toEqual([
    'good: there are two of that name',
    'gone: file has 0 times "x"',
    'twice: file has 2 times "a"',
    'idle: changes nothing',
  ])
})

const report = (...failed: [fullName: string, how: string][]) => ({
  success: failed.length === 0,
  numPassedTests: 2,
  testResults: [
    { name: 'x.test.ts', message: '', assertionResults: failed.map(([fullName, how]) => ({ status: 'failed', fullName, failureMessages: [how] })) },
  ],
})

test.each([
  ['a test that fails has caught it', report(['a test', 'AssertionError: expected 1 to be 2\n at x']), false, '', ['caught', 'a test']],
  ['tests that all pass have not', report(), false, '', ['survived', '']],
  ['what is no program shows nothing', report(['a test', 'ReferenceError: x is not defined']), false, '', ['broken', 'a test']],
  ['what is no SQL shows nothing', report(['a test', 'error: syntax error at or near "form"']), false, '', ['broken', 'a test']],
  ['a run that never ends has caught it', undefined, true, '', ['caught', 'no test ended']],
  ['so has one that fills its memory', { ...report(), success: false }, false, 'FATAL ERROR: heap out of memory', ['caught', 'no test ended']],
  ['a run that ends before its first test shows nothing', undefined, false, 'migration 0000_engine failed at line 7', ['broken', '']],
  ['nor does one without a test', { ...report(), numPassedTests: 0 }, false, '', ['broken', '']],
  ['nor does one that fails beside its tests', { ...report(), success: false }, false, 'Unhandled Rejection', ['broken', '']],
] as const)('%s', (_what, found, isTimedOut, words, [outcome, by]) => {
  expect(verdictOf(found, isTimedOut, words)).toMatchObject({ outcome, by })
})
