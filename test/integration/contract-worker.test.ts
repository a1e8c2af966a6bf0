import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { requestOverride, type Seeded, seedCategory } from '../support/overrides.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { startWorker } from '../support/process.ts'
import { addPeople, addReport } from '../support/reports.ts'
import { until } from '../support/until.ts'

/** Three years out of nothing, for sqp.yearly_summary. */
const YEARS = JSON.stringify({
  source: 'sql',
  query: `select make_date(2020 + n, 1, 1) as year_start, 'here' as marketplace, 1::bigint as asins, 2::bigint as impressions, 1::bigint as clicks,
    0::bigint as cart_adds, 0::bigint as purchases from generate_series(1, 3) n`,
})
const login = `pawl_test_member_${randomBytes(6).toString('hex')}`

let db: TestDatabase
let seeded: Seeded

beforeAll(async () => {
  db = await createDatabase()
  seeded = await seedCategory(db.query, 20)
  await addReport(db.query, await addPeople(db.query), { name: 'Everyone', structure: { source: 'public.users', columns: ['id', 'username'] } })
  await db.query(`update sqp.refresh_config set custom_sync_params = $1 where table_name = 'yearly_summary'`, [YEARS])
  await db.query(`create role ${login} login password 'secret' in role pawl_worker`)
})

afterAll(async () => {
  await db.query(`drop owned by ${login}; drop role ${login}`)
  await db.drop()
})

test('a worker process that is nothing but a member of pawl_worker does the work, and leaves in order', async () => {
  const store = await mkdtemp(join(tmpdir(), 'pawl-contract-'))
  const worker = await startWorker(db.urlAs(login, 'secret'), { env: { PAWL_REPORT_STORE: store } })
  try {
    const runId = await requestOverride(db.query, seeded)
    const ended = `select from pawl.runs where run_id = $1 and state not in ('pending', 'running')`
    await until('the run has ended', async () => (await db.query(ended, [runId]))[0])
    expect(await db.query('select state, done, error from pawl.runs where run_id = $1', [runId])).toEqual([{ state: 'completed', done: 20, error: null }])
    const [{ run } = { run: 0 }] = await db.query<{ run: number }>(`select pawl.refresh_table('yearly_summary') as run`)
    const refreshed = `select state, inserted, error from pawl.refresh_plan where run = $1 and state not in ('ready', 'running')`
    expect(await until('the table is refreshed', async () => (await db.query(refreshed, [run]))[0])).toEqual({ state: 'completed', inserted: 3, error: null })
    const [campaign] = await db.query<{ id: string }>('select pawl.create_campaign(1) as id')
    await until('the campaign runs', async () => (await db.query(`select from campaigns where id = $1 and status = 'RUNNING'`, [campaign?.id]))[0])
    await db.query('grant select on public.users to pawl_report')
    await db.query(`update reporting.reports set status = 'scheduled', scheduled_at = now()`)
    const executed = `select status, error_message from reporting.report_executions where status <> 'running' and metadata ? 'scheduled_at'`
    expect(await until('the report is executed', async () => (await db.query(executed))[0])).toEqual({ status: 'completed', error_message: null })
    await db.query(`select pawl.enqueue('maintenance.sweep', jsonb_build_object('schedule', key)) from pgboss.schedule`)
    const swept = `select count(*) filter (where state <> 'completed') = 0 and count(*) >= 7 as done from pgboss.job where name = 'maintenance.sweep'`
    await until('every schedule was done', async () => (await db.query<{ done: boolean }>(swept))[0]?.done)
    expect(worker.log.filter(line => JSON.stringify(line).includes('permission denied'))).toEqual([])
  } finally {
    worker.signal('SIGTERM')
    expect(await worker.exited).toEqual({ code: 0, signal: null })
    await rm(store, { recursive: true })
  }
})
