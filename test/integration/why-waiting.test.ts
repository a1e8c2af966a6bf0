import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect, type DirectConnection } from '../../src/database.ts'
import { applyOverride } from '../../workers/overrides/apply.ts'
import { handlerOptions, type Lease, takeLease, workAll } from '../support/engine.ts'
import { requestOverride, type Seeded, seedCategory } from '../support/overrides.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { until } from '../support/until.ts'

// What the engine's own states can't bring about alone: other sessions and several workers. why.test.ts has the rest.
let db: TestDatabase
let seeded: Seeded
let other: Seeded
let me: string
const leases: Lease[] = []
const sessions: DirectConnection[] = []

beforeAll(async () => {
  db = await createDatabase()
  seeded = await seedCategory(db.query, 20)
  other = await seedCategory(db.query, 20, { name: 'another' })
  me = (await db.query<{ me: string }>('select session_user as me'))[0]?.me ?? ''
})

afterEach(async () => {
  for (const session of sessions.splice(0)) await session.close()
  for (const lease of leases.splice(0)) await lease.stop()
  await db.query(`select pawl.finish(run_id, null, 'cancelled', 'the test is over') from pawl.checkpoints where state in ('pending', 'running')`)
  await db.query('delete from pgboss.job')
  await db.query('delete from pawl.paused_queues')
  await db.query(`update pawl.leases set state = 'stopped', stopped_at = now() where state <> 'stopped'`)
})

afterAll(() => db.drop())

async function lend(name: string, queues?: string[]): Promise<Lease> {
  const lease = await takeLease(db, name, queues)
  leases.push(lease)
  return lease
}

async function connect(name: string): Promise<DirectConnection> {
  const session = await connectDirect(readConfig({ DATABASE_URL: db.url }), name)
  sessions.push(session)
  return session
}

/** What pawl.why says: one line, without holes where a value was missing. */
async function why(id: string | undefined): Promise<string> {
  const [row] = await db.query<{ why: string }>('select pawl.why($1)', [id])
  const text = row?.why ?? ''
  expect(text).toMatch(/^[A-Z].*\.$/)
  expect(text).not.toMatch(/\bnull\b| {2}|\(\)|%/)
  return text
}

const one = async <Value>(sql: string, values: unknown[] = []): Promise<Value> => Object.values((await db.query(sql, values))[0] ?? {})[0] as Value

/** Requests an operation and opens it for a lease, as it stands between two batches. */
async function running(lease: Lease): Promise<string> {
  const runId = await requestOverride(db.query, seeded, { batchSize: 10 })
  await db.query(
    `select pawl.start_override($1, o.epoch, 1) from pawl.checkpoints c cross join lateral pawl.open_run($1, $2, c.job_id, 0, '10 seconds') o where c.run_id = $1`,
    [runId, lease.id],
  )
  return runId
}

const pidOf = async (session: DirectConnection) => (await session.query<{ pid: number }>('select pg_backend_pid() as pid'))[0]?.pid

describe('a run that works', () => {
  test('and whose batch waits for a lock: names the process that holds it, and since when', async () => {
    const runId = await running(await lend('patient'))
    const holder = await connect('somebody in psql')
    await holder.query('begin')
    await holder.query('update public.category_recipient_settings set settings = settings where category_id = $1', [seeded.categoryId])
    const batch = await connect('pawl batch')
    const applied = batch.query('select pawl.apply_override_batch(run_id, 0, epoch) from pawl.checkpoints where run_id = $1', [runId])
    const pid = await pidOf(holder)
    const text = await until('it says who blocks it', async () => {
      const said = await why(runId)
      return said.includes('waits for a lock') ? said : null
    })
    expect(text).toMatch(
      new RegExp(`^Running on worker patient, but its batch waits for a lock that is held by process ${pid} \\(somebody in psql, idle in transaction, `),
    )
    expect(text).toContain(`select pg_terminate_backend(${pid}) ends it`)
    await holder.query('rollback')
    await applied
    expect(await why(runId)).toMatch(/^Running on worker patient: 10 of 20 rows/)
  })

  test('on a worker that drains: says that it is handed over', async () => {
    const lease = await lend('leaving')
    const runId = await running(lease)
    await db.query(`update pawl.leases set state = 'draining' where id = $1`, [lease.id])
    expect(await why(runId)).toBe('Running; its worker leaving is draining and hands it over at its next batch edge.')
  })

  test('on a queue that was paused meanwhile: says so, and how to go on', async () => {
    const runId = await running(await lend('steady'))
    await db.query(`select pawl.pause('overrides.apply')`)
    expect(await why(runId)).toMatch(
      /^Running on worker steady until its next batch edge, as queue overrides\.apply was paused; select pawl\.resume\('overrides\.apply'\)/,
    )
  })

  test('says since when; and completed, how long it took and on which worker', async () => {
    const lease = await lend('steady')
    const runId = await running(lease)
    expect(await why(runId)).toMatch(/^Running on worker steady: 0 of 20 rows, .*begun \d{4}-.*; nothing to do\.$/)
    await db.query(`update pawl.checkpoints set state = 'pending', owner = null where run_id = $1`, [runId])
    expect(await workAll(applyOverride, handlerOptions(db, lease))).toEqual(['completed'])
    expect(await why(runId)).toMatch(/^Completed at \d{4}-.* with 20 rows; nothing to do\. It took 00:00:\d\d(\.\d+)? on worker steady\.$/)
  })
})

describe('a run that waits', () => {
  test('while all slots are busy: names what is in work, and where', async () => {
    const busy = await running(await lend('full'))
    expect(await why(await requestOverride(db.query, other))).toMatch(
      new RegExp(`^Waiting in queue overrides\\.apply \\(jobs before it: \\d, workers alive: 1\\); .* In work there: ${busy} on full\\.$`),
    )
  })

  test('for a worker, while the only one drains: names that one', async () => {
    const lease = await lend('leaving')
    await db.query(`update pawl.leases set state = 'draining' where id = $1`, [lease.id])
    expect(await why(await requestOverride(db.query, seeded))).toMatch(/no worker is running for queue overrides\.apply \(draining: leaving\); start one/)
  })

  test('with its job in the hands of a worker that has not opened it yet', async () => {
    await lend('quick')
    const runId = await requestOverride(db.query, seeded)
    await db.query(`update pgboss.job set state = 'active', started_on = now() where data ->> 'run_id' = $1`, [runId])
    expect(await why(runId)).toMatch(/^A worker has its job and is about to open it/)
  })

  test('after its worker died: says how often', async () => {
    const lease = await lend('doomed')
    const runId = await running(lease)
    await lend('next')
    await lease.die()
    await db.query('select pawl.note_crash($1), pawl.deliver($1)', [runId])
    expect(await why(runId)).toMatch(/free slot\. Its worker died \(1 of 3 times in a row at one place\); it goes on where it was\.$/)
  })
})

test('who cancelled a run, when and why stands in pawl.runs, also before it has stopped', async () => {
  const runId = await running(await lend('steady'))
  await db.query(`select pawl.cancel($1, 'wrong category')`, [runId])
  const row = () =>
    db.query("select state, cancelled_by, cancel_reason, cancelled_at > now() - interval '1 minute' as lately from pawl.runs where run_id = $1", [runId])
  expect(await row()).toEqual([{ state: 'running', cancelled_by: me, cancel_reason: 'wrong category', lately: true }])
  await db.query(`select pawl.finish($1, null, 'cancelled', 'cancelled')`, [runId])
  expect(await row()).toEqual([{ state: 'cancelled', cancelled_by: me, cancel_reason: 'wrong category', lately: true }])
})

describe('a timer', () => {
  /** One that is due, or not yet, of a new campaign. */
  const timer = async (startsIn: string) => {
    const campaign = await one<string>('select pawl.create_campaign(2, now(), false)')
    const id = await one<string>('select id from public.campaign_timers where campaign_id = $1', [campaign])
    await db.query(`update public.campaign_timers set scheduled_at = now() + $2::interval where id = $1`, [id, startsIn])
    return { campaign, id }
  }

  test('that is due while somebody has its campaign locked: names the process', async () => {
    await lend('wheel', ['campaigns.fire'])
    const { campaign, id } = await timer('-1 second')
    const holder = await connect('a long form')
    await holder.query('begin')
    await holder.query('select from public.campaigns where id = $1 for update', [campaign])
    expect(await why(id)).toMatch(new RegExp(`^Due, but process ${await pidOf(holder)} \\(a long form, .* has its campaign or itself locked`))
    await holder.query('rollback')
    expect(await why(id)).toMatch(/^Due since .* within moments/)
  })

  test('whose handler hangs with its worker: says that it is taken back', async () => {
    const lease = await lend('frozen', ['campaigns.fire'])
    const { id } = await timer('-1 second')
    await db.query(`update public.campaign_timers set status = 'RUNNING', claimed_by = $2 where id = $1`, [id, lease.id])
    expect(await why(id)).toMatch(/^A handler in worker frozen is at work on it/)
    await lease.die()
    expect(await why(id)).toMatch(/^Its worker frozen has gone silent in the middle of a handler/)
    await db.query(`update public.campaign_timers set status = 'CANCELLED', claimed_by = null where id = $1`, [id])
  })

  test('that was cancelled by plain SQL, or with its campaign: says which', async () => {
    const { campaign, id } = await timer('1 hour')
    await db.query(`update public.campaign_timers set status = 'CANCELLED' where id = $1`, [id])
    expect(await why(id)).toMatch(/^It was cancelled by whoever set its status at \d{4}-/)
    for (const state of ['RUNNING', 'EXPIRED']) await db.query('update public.campaigns set status = $2 where id = $1', [campaign, state])
    expect(await why(id)).toMatch(/^It was cancelled when its campaign expired at \d{4}-/)
  })

  test('its campaign can be asked as well: what comes next, or nothing', async () => {
    const { campaign, id } = await timer('1 hour')
    expect(await why(campaign)).toMatch(new RegExp(`^The campaign is CREATED; next comes START_CAMPAIGN at \\d{4}-.*: select pawl\\.why\\('${id}'\\)\\.$`))
    await db.query('select pawl.cancel($1)', [id])
    expect(await why(campaign)).toBe('The campaign is CREATED, and no timer of it is to come.')
  })
})
