import { afterAll, beforeAll, expect, test } from 'vitest'
import { z } from 'zod'
import { claim } from '../support/engine.ts'
import { manifestFiles } from '../support/kubernetes.ts'
import { requestOverride, seedCategory } from '../support/overrides.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'

const triggerOf = z.object({ spec: z.object({ triggers: z.tuple([z.object({ metadata: z.object({ query: z.string() }) })]) }) })

let db: TestDatabase

beforeAll(async () => {
  db = await createDatabase()
})

afterAll(() => db.drop())

/** What KEDA is told: the query of the ScaledObject, asked as an observer. */
async function backlog(): Promise<unknown> {
  const [scaler] = manifestFiles().get('components/keda/scaled-object.yaml') ?? []
  const { metadata } = triggerOf.parse(scaler).spec.triggers[0]
  return db.transact(async query => {
    await query('set local role pawl_observer')
    return query(`select pg_typeof(asked.jobs)::text as type, asked.* from (${metadata.query}) asked`)
  })
}

test('the query of the autoscaler gives one whole number: what wants a worker now, also while one is at it', async () => {
  const is = (jobs: number) => [{ type: 'integer', jobs }]
  expect(await backlog()).toEqual(is(0))

  const seeded = await seedCategory(db.query, 3)
  await requestOverride(db.query, seeded)
  await requestOverride(db.query, seeded)
  expect(await backlog()).toEqual(is(2))
  // Taken up, not done: a number that fell now would send the worker away.
  expect(await claim(db.query, 'overrides.apply')).toBeDefined()
  expect(await backlog()).toEqual(is(2))

  // What nobody could work on now: a paused queue, a job of tomorrow, an event for others, a dead letter.
  await db.query(`select pawl.pause('overrides.apply')`)
  expect(await backlog()).toEqual(is(0))
  await db.query(`select pawl.enqueue('refresh.load', '{}', start_after => now() + interval '1 day')`)
  await db.query(`select pawl.enqueue('campaign.started', '{}'), pawl.enqueue('overrides.apply.dead', '{}')`)
  expect(await backlog()).toEqual(is(0))
  await db.query(`select pawl.resume('overrides.apply')`)
  expect(await backlog()).toEqual(is(2))

  // Timers have no jobs until they fail: those in time are nobody's backlog, overdue ones are.
  await db.query('select pawl.create_campaign(1)')
  expect(await backlog()).toEqual(is(2))
  await db.query(
    `set session_replication_role = replica; update public.campaign_timers set scheduled_at = now() - interval '1 minute' where timer_type = 'START_CAMPAIGN'; reset session_replication_role`,
  )
  expect(await backlog()).toEqual(is(3))
  await db.query(`select pawl.pause('campaigns.fire')`)
  expect(await backlog()).toEqual(is(2))
})
