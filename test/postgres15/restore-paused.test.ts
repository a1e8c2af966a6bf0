import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, inject, onTestFinished, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { openDatabase } from '../../src/database.ts'
import { queues } from '../../src/queues.ts'
import { restoreBackup } from '../../workers/maintenance/backups/restore.ts'
import { countFaults, endOf, holderOf, recordBatches, recordedBatches, startCrew } from '../crash/stage.ts'
import { withDatabase } from '../support/global.ts'
import { faultsOf, requestOverride, seedCategory } from '../support/overrides.ts'
import { silent } from '../support/postgres.ts'
import { addPeople, addReport, addSales } from '../support/reports.ts'
import { until } from '../support/until.ts'
import { nameForTest, openRestoreStage } from './restore-stage.ts'

const RECIPIENTS = 10_000

/** What of the work shows in the tables: any of it that a worker began would change a number. */
const TRACES = `
  select
    (select coalesce(sum(done), 0)::bigint from pawl.lanes) as rows_done,
    (select count(*) from public.recorded_batches) as batches,
    (select count(*) from public.timer_executions) as firings,
    (select count(*) from public.campaign_state_log) as transitions,
    (select count(*) from public.campaign_timers where status <> 'PENDING') as timers_touched,
    (select count(*) from reporting.report_executions) as executions,
    (select count(*) from public.system_maintenance_log) as maintenance,
    (select count(*) from pawl.refresh_runs) as plans,
    (select count(*) from pgboss.job where name not like '\\_\\_pgboss%' and state in ('active', 'completed') and started_on > $1) as jobs_begun`

test('a worker on a restored database runs nothing of what was under way, due or scheduled, until its queues are resumed; then it runs all of it once', async () => {
  const stage = await openRestoreStage()
  const { query } = stage
  const crew = startCrew()
  const reports = mkdtempSync(join(tmpdir(), 'pawl-reports-'))
  onTestFinished(async () => {
    await crew.end()
    rmSync(reports, { recursive: true, force: true })
  })
  await recordBatches(query, 15)
  const category = await seedCategory(query, RECIPIENTS)
  const victim = await crew.start(stage.db.url)
  const runId = await requestOverride(query, category, { batchSize: 50 })
  await holderOf(query, runId)
  await until('ten batches are done', async () => (await recordedBatches(query, runId)).length >= 10)
  victim.signal('SIGKILL')
  await victim.exited
  // Due when the snapshot is taken: a run that a worker holds, a campaign's start, a report by schedule, a job of a sweep, and one held back.
  await query(`select pawl.create_campaign(24, now() + interval '100 ms')`)
  const people = await addPeople(query)
  await addSales(query, 100)
  const report = await addReport(query, people, { structure: { source: 'public.sales', columns: ['id', 'region'] } })
  await query(`update reporting.reports set status = 'scheduled', scheduled_at = now() - interval '1 second' where id = $1`, [report])
  await query(`select pawl.enqueue('maintenance.sweep', '{"schedule": "plan-refresh"}')`)
  await query(`select pawl.pause('campaigns.fire', 'by hand')`)
  await query(`select pawl.resume('campaigns.fire')`)
  await until(
    'the campaign is due',
    async () => (await query(`select from public.campaign_timers where status = 'PENDING' and scheduled_at <= now()`)).length > 0,
  )
  const { stored } = await stage.take()

  const into = nameForTest()
  await restoreBackup(stage.context(), stage.store, stored, { into, identities: [], owners: true })
  const url = withDatabase(inject('adminUrl'), into)
  const db = openDatabase(readConfig({ DATABASE_URL: url }), silent, { max: 2 })
  onTestFinished(async () => {
    await crew.end()
    await db.close()
  })
  const [start] = await db.query<{ at: string }>('select now()::text as at')
  const traces = async () => (await db.query(TRACES, [start?.at]))[0]
  const before = await traces()
  const held = `select c.state, l.state as lease from pawl.checkpoints c left join pawl.leases l on l.id = c.owner where run_id = '${runId}'`
  expect(await db.query(held)).toEqual([{ state: 'running', lease: 'running' }])

  const worker = await crew.start(url, { name: 'second-life', env: { PAWL_REPORT_STORE: reports } })
  await until('the run is taken from the worker that is not here', async () => (await db.query<{ state: string }>(held))[0]?.state === 'pending')
  // A minute passes: pg-boss's cron has its say, and the wheels' backstops theirs.
  const cron = `select from pgboss.job where name = 'maintenance.sweep' and created_on > $1`
  await until('the cron has enqueued a sweep', async () => (await db.query(cron, [start?.at])).length > 0, 150_000)
  expect(await traces()).toEqual(before)
  expect(worker.log.filter(line => ['run opened', 'queue open', 'task failed'].includes(line.msg))).toEqual([])
  expect(await db.query('select count(*) from pawl.paused_queues')).toEqual([{ count: queues.length }])

  await db.query(`select pawl.resume(queue) from pawl.paused_queues where reason = $1`, [`restored from ${stored.manifest.name}`])
  expect(await endOf(db.query, runId)).toBe('completed')
  expect(await faultsOf(db.query, runId, RECIPIENTS)).toEqual([])
  expect(await countFaults(db.query, runId)).toEqual([])
  await until('the campaign has started', async () => (await db.query(`select from public.timer_executions where status = 'COMPLETED'`)).length === 1)
  await until('the report is there', async () => (await db.query(`select from reporting.report_executions where status = 'completed'`)).length === 1)
  await until('the sweep was done', async () => (await db.query(`select from pgboss.job where name = 'maintenance.sweep' and state = 'completed'`)).length > 0)
}, 300_000)
