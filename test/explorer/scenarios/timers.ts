import type { Scenario } from '../scenario.ts'
import { addCampaigns, campaignFaults, clearCampaigns, wheelCrew } from './campaigns.ts'

/** Two wheels over two campaigns whose timers are all overdue, and a host that holds a campaign's row. */
export const timers: Scenario = {
  name: 'timers',
  about: 'two wheels fire the timers of two campaigns; one dies, answers are lost, the host holds a row',
  clear: clearCampaigns,
  async begin(world) {
    const { chance, query } = world
    const ids = await addCampaigns(query, 2)
    world.stops = ['timers', 'campaigns']
    world.faults = chance.pick([{ stop: 3 }, { crash: 1, stop: 1, lose: 1 }, { hang: 1, lose: 2, stop: 1 }, { cut: 2, drain: 1 }])
    if (chance.happens(0.5)) {
      world.spawn('host', async ({ db }) => {
        await db
          .transact(async on => {
            await on(`update public.campaigns set metadata = metadata || '{"note": 1}' where id = $1`, [chance.pick(ids)])
            await on('select 1')
          })
          .catch(() => {})
      })
    }
    return { ...(await wheelCrew(world)), judge: () => campaignFaults(query, ids) }
  },
}
