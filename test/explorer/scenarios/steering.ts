import type { Scenario } from '../scenario.ts'
import type { Actor } from '../world.ts'
import { accountFaults, addCategory, clearCategories, overrideCrew, progressFaults, requestOverride, rowFaults, standings } from './category.ts'

const words = ['cancel', 'retry', 'pause', 'resume'] as const

/** An operator who changes his mind while two workers are at it: cancel against finish against retry, pause and resume. */
export const steering: Scenario = {
  name: 'steering',
  about: 'cancel, retry, pause and resume of an operation while it starts, runs and ends',
  clear: clearCategories,
  async begin(world) {
    const { chance, query } = world
    const category = await addCategory(query)
    const settings = { channel: 'sms' }
    const run = await requestOverride(query, category, settings)
    world.mayPause = true
    world.stops = ['lanes', 'run']
    world.faults = chance.pick([{ stop: 1 }, { hang: 1, stop: 1 }, { crash: 1, lose: 2 }, { drain: 1, cut: 1 }])
    const wanted = Array.from({ length: 2 + chance.below(3) }, () => chance.pick(words))
    const answers: string[] = []
    const say = async ({ db, clock }: Actor, word: (typeof words)[number]) => {
      const subject = word === 'cancel' || word === 'retry' ? run : 'overrides.apply'
      for (;;) {
        try {
          const [row] = await db.query<{ done: boolean }>(`select pawl.${word}($1) as done`, [subject])
          answers.push(`${word} ${String(row?.done)}`)
          return
        } catch {
          await clock.sleep(10)
        }
      }
    }
    const operator = world.spawn('operator', async self => {
      for (const word of wanted) await say(self, word)
      // Whatever he left paused.
      await say(self, 'resume')
    })
    const crew = await overrideCrew(world)
    return {
      ...crew,
      glance: () => progressFaults(query),
      // He may have died between the two: then somebody finds the queue paused.
      async timePasses(round) {
        await crew.timePasses?.(round)
        if (operator.state === 'dead') await query(`select pawl.resume('overrides.apply')`)
      },
      async judge() {
        const [row] = await standings(query)
        const faults = await accountFaults(query)
        if (row?.state === 'failed') faults.push(`it failed: ${row.error}`)
        // His answer may have been lost, and then he is told that there is nothing to cancel any more.
        if (row?.state === 'cancelled' && !wanted.includes('cancel')) faults.push(`it was cancelled, and nobody was told so: ${answers.join(', ')}`)
        if (row?.state === 'completed') faults.push(...(await rowFaults(query, category, run, settings)))
        return faults
      },
    }
  },
}
