import { codeOf } from '../../../src/errors.ts'
import type { Scenario } from '../scenario.ts'
import { accountFaults, addCategory, clearCategories, overrideCrew, requestOverride, rowFaults, standings } from './category.ts'

/** Two producers with one idempotency key, each in a transaction that also writes its own row, and asking again until it knows. */
export const requests: Scenario = {
  name: 'requests',
  about: 'two producers request with one idempotency key, lose answers, crash and ask again',
  clear: clearCategories,
  async begin(world) {
    const { chance, query } = world
    const category = await addCategory(query)
    const settings = { channel: 'sms' }
    const isOther = chance.happens(0.25)
    world.faults = chance.pick([{ lose: 3 }, { crash: 1, lose: 1 }, { cut: 2, lose: 1 }])
    const answers: string[] = []
    const refusals: string[] = []
    for (const name of ['producer', 'second']) {
      world.spawn(name, async ({ db, clock }) => {
        // Under the same key, something else: one of the two is refused.
        const mine = isOther && name === 'second' ? { channel: 'push' } : settings
        for (;;) {
          try {
            const id = await db.transact(async on => {
              await on(`update public.users set username = username where id = $1`, [chance.happens(0.5) ? category.user : 0])
              return requestOverride(on, category, mine, 'order-4711')
            })
            answers.push(id)
            return
          } catch (error) {
            if (codeOf(error) === '22023') {
              refusals.push(name)
              return
            }
            await clock.sleep(10)
          }
        }
      })
    }
    const crew = await overrideCrew(world)
    return {
      ...crew,
      async judge() {
        const rows = await standings(query)
        const died = [...world.actors.values()].some(actor => actor.state === 'dead' && actor.worker === undefined)
        const [jobs] = await query<{ jobs: number }>(
          `select count(*)::integer as jobs from pgboss.job where name = 'overrides.apply' and state in ('created', 'retry')`,
        )
        const faults = await accountFaults(query)
        const runs = new Set(answers)
        if (rows.length !== 1 && !(died && rows.length === 0 && answers.length === 0)) faults.push(`${rows.length} operations for one key`)
        if (runs.size > 1) faults.push(`two answers for one key: ${[...runs].join(', ')}`)
        if (answers.length > 0 && !runs.has(rows[0]?.run_id ?? '')) faults.push(`the answer was ${answers[0]}, the operation is ${rows[0]?.run_id}`)
        if (!isOther && refusals.length > 0) faults.push('a request was refused that said the same')
        if (isOther && !died && refusals.length !== 1) faults.push(`${refusals.length} of two different requests were refused`)
        if (jobs?.jobs !== 0) faults.push(`${jobs?.jobs} jobs are left`)
        if (rows.length === 1 && rows[0]?.state !== 'completed') faults.push(`the run is ${rows[0]?.state}`)
        if (rows.length === 1 && !isOther) faults.push(...(await rowFaults(query, category, rows[0]?.run_id ?? '', settings)))
        return faults
      },
    }
  },
}
