import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { contract } from './functions.ts'
import { announce, faultsIn, settings } from './runs.ts'
import { type Given, openStage, type Outcome, type Stage } from './stage.ts'

let stage: Stage

beforeAll(async () => {
  announce('contract')
  stage = await openStage()
})

afterAll(() => stage.end())

const everyone = ['pawl_producer', 'pawl_operator', 'pawl_observer']

describe('whatever is given to a function, it answers or says clearly what was wrong', () => {
  for (const [name, { roles, given, writes, look, answer, slow = 1 }] of Object.entries(contract)) {
    test(`pawl.${name}`, async () => {
      const parameters = given(stage.known)
      const calls = fc.tuple(fc.constantFrom(...roles), fc.record(Object.fromEntries(Object.entries(parameters).map(([key, { values }]) => [key, values]))))
      const found = await faultsIn(calls, { numRuns: Math.ceil(settings.numRuns / slow) }, async ([role, values]) =>
        faultsOf(await stage.call(role, name, typed(parameters, values), look?.(values)), writes, answer),
      )
      expect(found).toEqual([])
    }, 900_000)
  }
})

describe('who may not call a function is told so, whatever is given', () => {
  for (const [name, { roles, given }] of Object.entries(contract)) {
    const others = everyone.filter(role => !roles.includes(role))
    test.skipIf(others.length === 0)(
      `pawl.${name}`,
      async () => {
        const parameters = given(stage.known)
        const calls = fc.tuple(fc.constantFrom(...others), fc.record(Object.fromEntries(Object.entries(parameters).map(([key, { values }]) => [key, values]))))
        const found = await faultsIn(calls, { numRuns: Math.max(3, Math.ceil(settings.numRuns / 5)) }, async ([role, values]) => {
          const outcome = await stage.call(role, name, typed(parameters, values))
          // What is not even read as a value of the type is refused before the right is asked for.
          return 'refused' in outcome && (outcome.refused.code === '42501' || isUnread(outcome.refused)) ? [] : ['was not refused']
        })
        expect(found).toEqual([])
      },
      900_000,
    )
  }
})

test('nothing of it touched the canary', async () => {
  expect(await stage.db.query('select touched, count(*) over () as rows from public.fuzz_canary')).toEqual([{ touched: false, rows: 1 }])
})

function typed(parameters: Record<string, { type: string }>, values: Record<string, unknown>): Given {
  return Object.fromEntries(Object.entries(parameters).map(([name, { type }]) => [name, { type, value: values[name] }]))
}

/** Refused by PostgreSQL itself while it read the parameter: no function of ours was called. */
function isUnread({ code, where }: { code: string; where: string }): boolean {
  return !where.includes('function') && (/^22(P0[25]|00[378]|021|030|032|P03)$/.test(code) || code === '54001' || code === '2202E')
}

/** Echoing a megabyte fills the log of the server and of everyone on the way. */
const WORDS_MAX = 2_000

function faultsOf(outcome: Outcome, writes: readonly RegExp[], answer: RegExp): string[] {
  if ('refused' in outcome) {
    const { refused } = outcome
    if (isUnread(refused)) return []
    const clear = (refused.code === '22023' || refused.code === '23503' || refused.code === '42501') && refused.hint !== undefined && refused.hint !== ''
    const short = refused.message.length + (refused.hint?.length ?? 0) < WORDS_MAX
    return clear && short
      ? []
      : [`${refused.code} ${refused.message.slice(0, 300)} (${refused.message.length}; hint: ${refused.hint?.slice(0, 200)}; ${refused.where.slice(0, 300)})`]
  }
  const beyond = outcome.wrote.filter(table => !writes.some(pattern => pattern.test(table)))
  const strange = outcome.answer === null || answer.test(outcome.answer) ? [] : [`answered ${outcome.answer.slice(0, 200)}`]
  return [...outcome.faults, ...beyond.map(table => `wrote to ${table}`), ...strange]
}
