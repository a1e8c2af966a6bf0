import { expect } from 'vitest'
import { connectPawl, type Pawl, PawlRequestError } from '../../client/src/index.ts'
import { applyOverride } from '../../workers/overrides/apply.ts'
import { createLogins, type Logins } from '../support/client.ts'
import { handlerOptions, takeLease, workAll } from '../support/engine.ts'
import { type Seeded, seedCategory } from '../support/overrides.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { addPeople, addReport, type People } from '../support/reports.ts'

const NO_ONE = '00000000-0000-4000-8000-000000000000'

type Requests = { [Name in 'requestOverride' | 'createCampaign' | 'scheduleTimer' | 'refreshTable' | 'runReport' | 'enqueue']: () => Parameters<Pawl[Name]>[0] }

/** A database with something to ask for of each kind, and Pawl as logins that are nothing but a producer, an observer, an operator. */
export type ClientStage = {
  db: TestDatabase
  logins: Logins
  producer: Pawl
  observer: Pawl
  operator: Pawl
  people: People
  report: string
  /** The category of this test; `refresh` makes a new one, and clears what waits. */
  seeded(): Seeded
  refresh(): Promise<void>
  /** Each request with everything it may be given. */
  complete: Requests
  /** Requests an override as the producer; its id. */
  ask(): Promise<string>
  /** Works until nothing is ready. */
  work(): Promise<string[]>
  /** One value of the database, as its owner sees it. */
  one(text: string, values?: unknown[]): Promise<unknown>
  end(): Promise<void>
}

/** Opens the stage; call `end` when done. */
export async function openClientStage(): Promise<ClientStage> {
  const db = await createDatabase()
  const logins = await createLogins(db)
  const lease = await takeLease(db)
  const people = await addPeople(db.query)
  const report = await addReport(db.query, people, { structure: { source: 'public.users', columns: ['id'] }, declared: { since: { type: 'date' } } })
  await db.query(`update sqp.refresh_config set custom_sync_params = '{"source": "sql", "query": "select"}' where table_name = 'yearly_summary'`)
  await db.query('create table public.business (note text)')
  await db.query('grant insert on public.business to pawl_producer')
  let seeded = await seedCategory(db.query, 20)
  const producer = connectPawl(logins.producer)
  return {
    db,
    logins,
    producer,
    observer: connectPawl(logins.observer),
    operator: connectPawl(logins.operator),
    people,
    report,
    seeded: () => seeded,
    async refresh() {
      // A request joins a refresh that still waits, and an operation waits for those of its category.
      await db.query(`select pawl.cancel(run_id) from pawl.runs where kind = 'refresh' and state = 'pending'`)
      await db.query('delete from pgboss.job; delete from public.campaigns; truncate public.business')
      seeded = await seedCategory(db.query, 20)
    },
    complete: completeRequests(() => seeded, people, report),
    ask: () => producer.requestOverride({ categoryId: seeded.categoryId, userId: seeded.userId }),
    work: () => workAll(applyOverride, handlerOptions(db, lease)),
    async one(text, values = []) {
      return (await db.query<{ answer: unknown }>(`select ${text} as answer`, values))[0]?.answer
    },
    async end() {
      await lease.stop()
      await logins.drop()
      await db.drop()
    },
  }
}

/** The refusal that a promise is rejected with. */
export async function errorOf(promise: Promise<unknown>): Promise<PawlRequestError> {
  const error: unknown = await promise.then(
    value => new Error(`it was answered: ${String(value)}`),
    reason => reason as unknown,
  )
  expect(error).toBeInstanceOf(PawlRequestError)
  return error as PawlRequestError
}

function completeRequests(seeded: () => Seeded, people: People, report: string): Requests {
  return {
    requestOverride: () => ({
      categoryId: seeded().categoryId,
      userId: seeded().userId,
      settings: { channel: 'push', note: `it's "quoted" $1 \\ grüße` },
      batchSize: 7,
      clientIp: '2001:db8::7',
      userAgent: 'test/1',
      idempotencyKey: `key ${Math.random()}`,
    }),
    createCampaign: () => ({
      durationHours: 3,
      startAt: new Date(Date.now() + 3_600_000),
      autoClose: false,
      rewardsEnabled: false,
      metadata: { a: 1 },
      id: crypto.randomUUID(),
    }),
    scheduleTimer: () => ({ campaignId: NO_ONE, timerType: 'EXPIRE_CAMPAIGN', at: '2099-01-01 09:00 Europe/Berlin', payload: { b: [2] } }),
    refreshTable: () => ({ name: 'sqp.yearly_summary', upstream: 'none', downstream: true }),
    runReport: () => ({ reportId: report, executedBy: people.admin, outputFormat: 'xlsx', parameters: { since: '2026-01-01' } }),
    enqueue: () => ({ queue: 'overrides.apply.dead', data: { c: null }, priority: 3, startAfter: new Date('2099-01-01T00:00:00Z'), singletonKey: 'k' }),
  }
}
