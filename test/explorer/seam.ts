import type { Clock } from '../../src/clock.ts'
import type { Copy, Database, Query } from '../../src/database.ts'
import type { Scheduler } from './scheduler.ts'

/** The same database, each of whose statements waits for the scheduler's leave, `begin` and `commit` too. */
export function throughSeam(db: Database, scheduler: Scheduler, actor: string): Database {
  const gated =
    (query: Query): Query =>
    (text, values) =>
      scheduler.pass(actor, labelOf(text, values), () => query(text, values))
  const copying =
    (copy: Copy): Copy =>
    (statement, data) =>
      scheduler.pass(actor, statement, () => copy(statement, data))

  return {
    ...db,
    query: gated(db.query),
    describe: select => scheduler.pass(actor, `describe ${labelOf(select)}`, () => db.describe(select)),
    async transact(work, options) {
      if ((await scheduler.leave(actor, 'begin')) === 'unsent') throw lost()
      let flight = scheduler.depart(actor, 'begin')
      let isAnswerLost = false
      const land = (error?: unknown) => (scheduler.isDead(actor) ? undefined : flight.land(error))
      try {
        const result = await db.transact(async (query, copy) => {
          land()
          try {
            const done = await work(gated(query), copying(copy))
            const how = await scheduler.leave(actor, 'commit')
            if (how === 'unsent') throw lost()
            isAnswerLost = how === 'lost'
            flight = scheduler.depart(actor, 'commit')
            return done
          } catch (error) {
            await scheduler.leave(actor, 'rollback')
            flight = scheduler.depart(actor, 'rollback')
            throw error
          }
        }, options)
        if (scheduler.isDead(actor)) return await new Promise<never>(() => {})
        land()
        if (isAnswerLost) throw lost()
        return result
      } catch (error) {
        if (scheduler.isDead(actor)) return new Promise<never>(() => {})
        land(error)
        throw error
      }
    },
  }
}

/** Time that passes where somebody sleeps, when the scheduler says so: all that code may know of a sleep is that it was long enough. */
export function virtualClock(scheduler: Scheduler, actor: string): Clock {
  let elapsed = 0
  return {
    now: () => elapsed,
    elapsed: () => elapsed,
    async sleep(milliseconds, signal) {
      await scheduler.sleep(actor, milliseconds, signal)
      if (signal?.aborted !== true) elapsed += milliseconds
    },
  }
}

function lost(): Error {
  return new Error('Connection terminated unexpectedly')
}

/** Statements that stand for pg-boss's, in fewer words. */
const shorter = [
  [/^with next as materialized .*/, 'claim a job'],
  [/^update pgboss.job set state = \$3.*/, 'settle the job'],
  [/^update pgboss.job set state = 'completed'.*/, 'settle the job of a rescued run'],
] as const

function labelOf(text: string, values: unknown[] = []): string {
  const line = shorter.reduce((said, [from, to]) => said.replace(from, to), text.replaceAll(/\s+/g, ' ').trim())
  const given = values.length === 0 ? '' : ` ← ${JSON.stringify(values)}`
  return `${line.slice(0, 90)}${line.length > 90 ? '…' : ''}${given.slice(0, 110)}`
}
