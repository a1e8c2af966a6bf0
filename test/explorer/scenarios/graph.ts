import type { Scenario } from '../scenario.ts'
import {
  clearTables,
  fromBoth,
  fromSource,
  halfFaults,
  operatorSteers,
  prepareTables,
  refreshCrew,
  refreshFaults,
  registerTables,
  stepsNow,
  versionsOf,
} from './tables.ts'

/** Three tables, each read from the ones before it: in their order, or not at all. */
export const graph: Scenario = {
  name: 'graph',
  about: 'three tables that depend on each other, two workers, and an operator who cancels one and retries it',
  prepare: prepareTables,
  clear: clearTables,
  async begin(world) {
    const { chance, query } = world
    await registerTables(query, {
      a: { query: fromSource, after: [] },
      b: { query: 'select id, version from sqp.explorer_a', after: ['a'] },
      c: { query: fromBoth, after: ['a', 'b'] },
    })
    await query(`select pawl.refresh_table('sqp.explorer_c', 'all')`)
    world.stops = ['run']
    world.faults = chance.pick([{ stop: 2 }, { hang: 1, stop: 1 }, { crash: 1, lose: 1 }, { hang: 1, cut: 1 }])
    if (chance.happens(0.5)) {
      operatorSteers(
        world,
        (await stepsNow(query)).map(step => step.run_id),
      )
    }
    return {
      ...(await refreshCrew(world)),
      glance: () => halfFaults(query),
      async judge() {
        const steps = await stepsNow(query)
        const endOf = (table: string) => steps.find(step => step.table === table)
        const versions = await versionsOf(query)
        const faults = await refreshFaults(query)
        for (const [parent, child] of [
          ['a', 'b'],
          ['b', 'c'],
          ['a', 'c'],
        ] as const) {
          const [before, after] = [endOf(parent), endOf(child)]
          if (after?.state === 'completed' && before?.state !== 'completed') faults.push(`${child} is refreshed, and its parent ${parent} is ${before?.state}`)
          if (after?.state === 'completed' && versions[child] !== versions[parent]) faults.push(`${child} was read from another version than ${parent} holds`)
        }
        return faults
      },
    }
  },
}
