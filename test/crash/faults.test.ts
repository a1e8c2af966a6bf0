import { expect, test } from 'vitest'
import { type Fault, plan } from '../faults/plan.ts'
import { runFaults } from '../faults/stage.ts'
import { removeFence } from './mutation.ts'

const SEED = Number(process.env.PAWL_TEST_SEED ?? 1)
/** On a machine with nothing else to do it takes two minutes. */
const timeout = 1_200_000

test('each kind of fault once, all domains under load: nothing lost, nothing doubled, nothing out of order, and all of it moves again', {
  timeout,
}, async () => {
  const result = await runFaults({ faults: plan(SEED, 1), tell: line => console.info(line) })
  console.info(`${result.table}\n${JSON.stringify(result.done)}`)
  expect(result.violations).toEqual([])
})

/** Workers that hang for so long that others take over, and wake up while those are at work. */
const ZOMBIES: readonly Fault[] = Array.from({ length: 6 }, (_, place) => ({
  number: place + 1,
  kind: 'stop',
  atMs: place * 6_000,
  lastsMs: 4_600,
  victim: (place % 3) / 3,
  dose: 0,
}))

test('without the fence, workers that wake up are seen to write: the test above can fail', { timeout }, async () => {
  const result = await runFaults({ faults: ZOMBIES, tell: line => console.info(line), sabotage: ({ exempt }) => removeFence(exempt.query), keep: 'never' })
  expect(result.violations).toContainEqual(expect.stringMatching(/^(fault \d+.*: )?fences: /))
})
