import type { Scenario } from '../scenario.ts'
import { accountFaults, addCategory, clearCategories, hostWrites, overrideCrew, progressFaults, requestOverride, rowFaults } from './category.ts'

/** One operation, two workers, and all that may befall them. */
export const overrides: Scenario = {
  name: 'overrides',
  about: 'one operation, two workers of which one may become a zombie or die, and the host writing the same rows',
  clear: clearCategories,
  async begin(world) {
    const { chance, query } = world
    const category = await addCategory(query)
    const settings = { channel: 'sms' }
    const run = await requestOverride(query, category, settings)
    world.stops = ['rows', 'lanes', 'progress', 'run']
    // Two deaths at most: three at one place are poison, and the run fails as it should.
    world.faults = chance.pick([
      { hang: 1, stop: 2 },
      { hang: 1, crash: 1, lose: 1 },
      { hang: 2, cut: 1, lose: 2, stop: 1 },
      { crash: 1, drain: 1, cut: 1, lose: 1, stop: 2 },
    ])
    if (chance.happens(0.4)) hostWrites(world, category)
    const crew = await overrideCrew(world)
    return {
      ...crew,
      glance: () => progressFaults(query),
      judge: async () => [
        ...(await accountFaults(query)),
        ...(await rowFaults(query, category, run, settings)),
        ...(await query<{ state: string }>('select state from pawl.checkpoints'))
          .filter(({ state }) => state !== 'completed')
          .map(({ state }) => `the run is ${state}`),
      ],
    }
  },
}
