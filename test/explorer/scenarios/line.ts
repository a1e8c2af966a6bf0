import { readDiary } from '../diary.ts'
import type { Scenario } from '../scenario.ts'
import { accountFaults, addCategory, clearCategories, overrideCrew, progressFaults, requestOverride, rowFaults, standings } from './category.ts'

/** Operations of one category: in the order in which they were asked for, each only when the one before it has ended. */
export const line: Scenario = {
  name: 'line',
  about: 'three operations of one category and their order, with two workers',
  clear: clearCategories,
  async begin(world) {
    const { chance, query } = world
    const category = await addCategory(query)
    const all = [{ channel: 'sms' }, { channel: 'push' }, { channel: 'phone' }]
    const runs = [await requestOverride(query, category, all[0] ?? {}), await requestOverride(query, category, all[1] ?? {})]
    world.stops = ['lanes', 'progress', 'run']
    world.faults = chance.pick([{ stop: 3 }, { hang: 1, stop: 2 }, { crash: 1, lose: 1, stop: 1 }, { cut: 1, drain: 1, stop: 1 }])
    // The third one comes while the others are at work.
    world.spawn('producer', async ({ db, clock }) => {
      while (runs.length < 3) {
        await db
          .transact(async on => runs.push(await requestOverride(on, category, all[2] ?? {}, 'the third')))
          .catch(async () => {
            runs.length = 2
            await clock.sleep(10)
          })
      }
    })
    const crew = await overrideCrew(world)
    return {
      ...crew,
      glance: () => progressFaults(query),
      async judge() {
        const last = world.actors.get('producer')?.state === 'dead' ? (await standings(query)).length - 1 : 2
        const writes = (await readDiary(query)).filter(({ what }) => what === 'write').map(({ run_id: run }) => runs.indexOf(run ?? ''))
        const ordered = writes.every((run, place) => place === 0 || run >= (writes[place - 1] ?? 0))
        return [
          ...(await accountFaults(query)),
          ...(await rowFaults(query, category, runs[last] ?? '', all[last] ?? {})),
          ...(ordered ? [] : [`the operations were mixed: ${writes.join(' ')}`]),
          ...(writes.length === 7 * (last + 1) ? [] : [`${writes.length} rows were written by ${last + 1} operations on seven recipients`]),
        ]
      },
    }
  },
}
