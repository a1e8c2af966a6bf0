import type { Scenario } from '../scenario.ts'
import {
  changeSource,
  clearTables,
  fromSource,
  halfFaults,
  operatorSteers,
  prepareTables,
  refreshCrew,
  refreshFaults,
  registerTables,
  stepsNow,
} from './tables.ts'

/** One table, two workers: a zombie that publishes, a cancel before it, a retry, and a source that changes under the reading. */
export const refresh: Scenario = {
  name: 'refresh',
  about: 'one table published by two workers of which one may be a zombie, while its source changes and an operator cancels and retries',
  prepare: prepareTables,
  clear: clearTables,
  async begin(world) {
    const { chance, query } = world
    await registerTables(query, { a: { query: fromSource, after: [] } })
    await query(`select pawl.refresh_table('sqp.explorer_a', 'none')`)
    const [step] = await stepsNow(query)
    world.stops = ['run']
    world.faults = chance.pick([{ hang: 2 }, { hang: 1, crash: 1 }, { hang: 1, lose: 2, stop: 1 }, { cut: 1, drain: 1, stop: 1, crash: 1 }])
    if (chance.happens(0.5)) world.spawn('host', async ({ db }) => db.transact(changeSource).catch(() => {}))
    if (chance.happens(0.4)) operatorSteers(world, [step?.run_id ?? ''])
    return { ...(await refreshCrew(world)), glance: () => halfFaults(query), judge: () => refreshFaults(query) }
  },
}
