import { systemClock } from '../../src/clock.ts'
import { type Lane, openLane } from './lane.ts'
import { type Mutation, mutate } from './mutations.ts'
import { type Played, play } from './play.ts'
import type { Scenario } from './scenario.ts'

/** Several databases on one server, in which schedules are played side by side. */
export type House = {
  lanes: Lane[]
  close(): Promise<void>
}

/** Opens `count` lanes, each a clone of the migrated template, all with the same defect planted where one is named. */
export async function openHouse(
  server: { adminUrl: string; template: string },
  scenarios: readonly Scenario[],
  count: number,
  mutation?: Mutation,
): Promise<House> {
  const lanes: Lane[] = []
  const close = async () => {
    for (const lane of lanes) await lane.close()
  }
  try {
    for (let number = 0; number < count; number += 1) {
      const lane = await openLane(server.adminUrl, server.template, `pawl_explorer_${process.pid}_${number}_${mutation ?? 'sound'}`)
      lanes.push(lane)
      for (const scenario of scenarios) await scenario.prepare?.(lane.query)
      if (mutation !== undefined) await mutate(lane.query, mutation)
    }
    const [first] = lanes
    // Right after its start a server's workers rescue nobody (`pawl.beat`).
    while ((await first?.query(`select where clock_timestamp() - pg_postmaster_start_time() < interval '3 seconds'`))?.length === 1)
      await systemClock.sleep(100)
  } catch (error) {
    await close()
    throw error
  }
  return { lanes, close }
}

export type Tally = { scenario: string; schedules: number; statements: number; waits: number; deadlocks: number; violations: Played[]; seconds: number }

/** Plays `schedules` seeds from `seed` on, on all lanes; stops early once `enough` of them were violated. */
export async function explore(
  house: House,
  scenario: Scenario,
  seed: number,
  schedules: number,
  enough: number,
  told?: (tally: Tally) => void,
): Promise<Tally> {
  const begun = systemClock.elapsed()
  const tally: Tally = { scenario: scenario.name, schedules: 0, statements: 0, waits: 0, deadlocks: 0, violations: [], seconds: 0 }
  let next = seed
  await Promise.all(
    house.lanes.map(async lane => {
      while (next < seed + schedules && tally.violations.length < enough) {
        const mine = next
        next += 1
        const played = await play(lane, scenario, mine)
        tally.schedules += 1
        tally.statements += played.statements
        tally.waits += played.waits
        tally.deadlocks += played.deadlocks
        tally.seconds = (systemClock.elapsed() - begun) / 1000
        if (played.violations.length > 0) tally.violations.push(played)
        told?.(tally)
      }
    }),
  )
  tally.violations.sort((one, other) => one.seed - other.seed)
  return tally
}
