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

/** Two tables that are published together: nobody ever sees one without the other. */
export const group: Scenario = {
  name: 'group',
  about: 'two tables of one publishing group, one made from the other or side by side, seen after every statement',
  prepare: prepareTables,
  clear: clearTables,
  async begin(world) {
    const { chance, query } = world
    const a = { query: fromSource, after: [], group: true }
    if (chance.happens(0.5)) {
      await registerTables(query, { a, b: { query: 'select id, version from sqp.explorer_a', after: ['a'], group: true } })
      await query(`select pawl.refresh_table('sqp.explorer_b', 'all')`)
    } else {
      // Side by side, so that both can get ready at the same moment; another table comes after the two.
      await registerTables(query, { a, b: a, c: { query: fromBoth, after: ['a', 'b'] } })
      await query(`select pawl.refresh_table('sqp.explorer_c', 'all')`)
    }
    world.stops = ['run']
    world.faults = chance.pick([{ stop: 2 }, { hang: 2 }, { crash: 1, lose: 1 }, { hang: 1, cut: 1, stop: 1 }])
    if (chance.happens(0.4)) {
      operatorSteers(
        world,
        (await stepsNow(query)).map(step => step.run_id),
      )
    }
    return {
      ...(await refreshCrew(world)),
      async glance() {
        const { a, b } = await versionsOf(query)
        return [...(await halfFaults(query)), ...(a === b ? [] : [`a holds version ${a} and b version ${b}, which are published together`])]
      },
      judge: () => refreshFaults(query),
    }
  },
}
