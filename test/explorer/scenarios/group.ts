import type { Scenario } from '../scenario.ts'
import { clearTables, halfFaults, operatorSteers, prepareTables, refreshCrew, refreshFaults, registerTables, stepsNow, versionsOf } from './tables.ts'

/** Two tables that are published together: nobody ever sees one without the other. */
export const group: Scenario = {
  name: 'group',
  about: 'two tables of one publishing group, seen after every statement',
  prepare: prepareTables,
  clear: clearTables,
  async begin(world) {
    const { chance, query } = world
    await registerTables(query, { a: 'select id, version from sqp.explorer_source', b: 'select id, version from sqp.explorer_a' }, true)
    await query(`select pawl.refresh_table('sqp.explorer_b', 'all')`)
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
