import type { TimerHandler } from '../../../workers/campaigns/handlers.ts'
import type { Scenario } from '../scenario.ts'
import { addCampaigns, campaignFaults, clearCampaigns, wheelCrew } from './campaigns.ts'

/** Timers that a handler in the worker takes: claimed, at work, concluded, and rescued from a worker who was taken for dead. */
export const handlers: Scenario = {
  name: 'handlers',
  about: 'timers with a handler in the worker, whose worker hangs, dies or loses the answer to its claim',
  clear: clearCampaigns,
  async begin(world) {
    const { chance, query, scheduler } = world
    const ids = await addCampaigns(query, 2)
    world.stops = ['timers', 'campaigns']
    world.faults = chance.pick([{ hang: 2 }, { hang: 1, stop: 2 }, { crash: 1, hang: 1 }, { hang: 1, cut: 1, lose: 1 }, { drain: 1, hang: 1 }])
    const crew = await wheelCrew(world, name => {
      const handler: TimerHandler = async () => {
        await scheduler.leave(name, 'the handler is at work')
        return { by: name }
      }
      return { START_CAMPAIGN: handler, CLOSE_CAMPAIGN: handler }
    })
    return {
      ...crew,
      // A claim whose answer was lost is only given up after ten minutes.
      async timePasses(round) {
        await crew.timePasses?.(round)
        await query(
          `set pawl.firing = on; update public.campaign_timers set updated_at = updated_at - interval '5 minutes' where status = 'RUNNING'; reset pawl.firing`,
        )
        // One who wakes claims under his old lease until his next heartbeat, so that one hang may count as several deaths: three are poison, as they should be.
        if (round > 2) {
          await query(
            `select pawl.retry(t.id::text) from public.campaign_timers t where t.status = 'FAILED' and exists (
               select from public.timer_executions x where x.timer_id = t.id and x.error_message like 'poison%')`,
          )
        }
      },
      judge: () => campaignFaults(query, ids),
    }
  },
}
