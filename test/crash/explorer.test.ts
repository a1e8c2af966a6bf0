import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { explore, type House, openHouse } from '../explorer/house.ts'
import { type Mutation, mutations } from '../explorer/mutations.ts'
import { replay } from '../explorer/chooser.ts'
import { play } from '../explorer/play.ts'
import { scenarios } from '../explorer/scenarios/index.ts'
import { shrink } from '../explorer/shrink.ts'

// A short pass; `npm run test:explorer` plays ten thousand schedules.
const SCHEDULES = 34

const server = () => ({ adminUrl: inject('adminUrl'), template: inject('template') })
let house: House

beforeAll(async () => {
  house = await openHouse(server(), scenarios, 3)
})
afterAll(() => house.close())

test.each(scenarios.map(scenario => [scenario.name, scenario] as const))(
  'whoever goes on at a statement, all is as it must be: %s',
  async (_name, scenario) => {
    const { violations, schedules } = await explore(house, scenario, 1, SCHEDULES, 1)
    expect(violations.map(({ seed, violations: what }) => `seed ${seed}: ${what.join('; ')}`)).toEqual([])
    expect(schedules).toBe(SCHEDULES)
  },
)

test('a seed plays the same schedule again, and so do its choices', async () => {
  const [lane] = house.lanes
  if (lane === undefined) throw new Error('the house has no lane')
  for (const scenario of scenarios) {
    const { choices } = await play(lane, scenario, 77)
    expect((await play(lane, scenario, 77)).choices).toEqual(choices)
    expect((await play(lane, scenario, 77, replay(choices))).choices).toEqual(choices)
  }
})

/** Seeds in which each planted defect must show; what is rarer needs a statement to be stopped just in its middle. */
const seeds: Record<Mutation, number> = { fence: 20, recount: 60, turns: 60, claims: 60, conclude: 60, publish: 60, group: 60 }

test.each(Object.entries(seeds) as [Mutation, number][])('a planted defect is found: %s, in %i seeds at most', async (mutation, most) => {
  const scenario = scenarios.find(({ name }) => name === mutations[mutation].scenario)
  if (scenario === undefined) throw new Error(`${mutation} has no scenario`)
  const mutants = await openHouse(server(), [scenario], 2, mutation)
  try {
    const { violations } = await explore(mutants, scenario, 1, most, 1)
    expect(violations.length).toBeGreaterThan(0)
    const [first] = violations
    const [lane] = mutants.lanes
    if (mutation !== 'fence' || first === undefined || lane === undefined) return
    // What is left of it is short enough to be read, and goes wrong again.
    const least = await shrink(lane, scenario, first)
    expect(least?.choices.length).toBeLessThan(first.choices.length)
    expect((await play(lane, scenario, first.seed, replay(least?.choices ?? []))).violations).not.toEqual([])
  } finally {
    await mutants.close()
  }
})
