import { expect, onTestFinished, test } from 'vitest'
import { upgrade } from '../../bin/commands/migrate.ts'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { openDatabase } from '../../src/database.ts'
import { startEmbedded } from '../../src/embedded.ts'
import { silent } from '../support/postgres.ts'
import { openProxy } from '../support/proxy.ts'
import { addReport, readExecution } from '../support/reports.ts'
import { until } from '../support/until.ts'
import { allEnded, reportFaults } from './report-faults.ts'
import { filesIn, furnish, openings, openReports, ROWS, rowsOf } from './report-stage.ts'
import { endOf, recordedBatches, startCrew } from './stage.ts'

test('SIGTERM in the middle of a report: exit 0 at once, no attempt spent, and another worker goes on', async () => {
  const reports = await openReports()
  const { query, gate } = reports
  await reports.start()
  const drains: number[] = []
  for (const [format, place] of [
    ['csv', 'row 120000'],
    ['excel', 'row 55000'],
    ['pdf', 'row 1000'],
  ] as const) {
    await gate.shut(place)
    const id = await reports.ask(format)
    const { worker } = await gate.caught()
    const begun = systemClock.elapsed()
    worker.signal('SIGTERM')
    expect(await worker.exited).toEqual({ code: 0, signal: null })
    drains.push(Math.round(systemClock.elapsed() - begun))
    await gate.open()
    const next = await reports.start()
    expect(await endOf(query, id)).toBe('completed')
    expect(await openings(query, id)).toEqual([`begun ${worker.name}`, `${format === 'pdf' ? 'begun' : 'resumed'} ${next.name}`])
    expect(
      await query(
        `select crashes, failures, (select array_agg(j.retry_count) from pgboss.job j where j.data ->> 'run_id' = run_id) as retries from pawl.checkpoints where run_id = $1`,
        [id],
      ),
    ).toEqual([{ crashes: 0, failures: 0, retries: [0, 0] }])
    if (format === 'csv') expect(rowsOf(await recordedBatches(query, id))).toBe(ROWS.csv)
  }
  console.info(JSON.stringify({ drain_ms: drains }))
  expect(Math.max(...drains)).toBeLessThanOrEqual(2_000)
  await allEnded(reports)
  expect(await reportFaults(reports)).toEqual([])
})

test('cancelled within a long statement: ended within two seconds, the statement gone from the server, no file and no draft left', async () => {
  const reports = await openReports()
  const { query, people } = reports
  const worker = await reports.start()
  await query(`
    create view public.slow as select 1 as id, pg_sleep(120)::text as slept;
    create view public.sorted as select a as id, sum(b) as total from generate_series(1, 100000) a, generate_series(1, 1000000) b group by a order by 2;
    grant select on public.slow, public.sorted to pawl_report`)
  const inStatement = () => query(`select from pg_stat_activity where application_name = $1 and state = 'active' and query like 'copy (select%'`, [worker.name])
  const structures = [
    ['csv', { source: 'public.slow', columns: ['id', 'slept'] }],
    ['pdf', { source: 'public.sorted', columns: ['id', 'total'] }],
    // Part of the file is written already.
    ['excel', { source: 'public.gated_sales', columns: ['id', 'region', 'note'], key: ['id'] }],
  ] as const
  const took: Record<string, number>[] = []
  for (const [format, structure] of structures) {
    if (format === 'excel') await reports.gate.shut('row 120000')
    const report = await addReport(query, people, { structure })
    const [asked] = await query<{ id: string }>('select pawl.run_report($1, $2, $3) as id', [report, people.admin, format])
    const id = asked?.id ?? ''
    await until('the statement is at work', async () => (await inStatement()).length > 0)
    if (format === 'excel') await reports.gate.caught()
    const begun = systemClock.elapsed()
    const since = () => Math.round(systemClock.elapsed() - begun)
    await query('select pawl.cancel($1, $2)', [id, 'too slow'])
    expect(await endOf(query, id)).toBe('cancelled')
    const cancelled = since()
    await until('the server has stopped', async () => (await inStatement()).length === 0)
    const stopped = since()
    await until('nothing is left in the store', async () => (await filesIn(reports)).length === 0)
    took.push({ cancelled, stopped, cleared: since() })
    await reports.gate.open()
    expect(await readExecution(query, id)).toMatchObject({ status: 'cancelled', output_url: null, error_message: expect.stringContaining('too slow') })
    expect(await query(`select action from reporting.audit_logs where resource_id = $1`, [id])).toEqual([{ action: 'create' }])
  }
  console.info(JSON.stringify({ took_ms: took }))
  expect(Math.max(...took.flatMap(times => Object.values(times)))).toBeLessThanOrEqual(3_000)
  await allEnded(reports)
  expect(await filesIn(reports)).toEqual([])
  expect(await query('select failures, crashes, state from pawl.checkpoints')).toEqual(Array(3).fill({ failures: 0, crashes: 0, state: 'cancelled' }))
})

test('an execution whose last answer was lost on the way is completed all the same, and keeps its file', async () => {
  const reports = await openReports()
  const proxy = await openProxy(reports.url)
  onTestFinished(() => proxy.close())
  const cut = await reports.start({ name: 'cut-off', url: proxy.url })
  await reports.gate.shut('output')
  const id = await reports.ask('json')
  await reports.gate.caught()
  proxy.stall()
  await reports.gate.open()
  expect(await endOf(reports.query, id)).toBe('completed')
  proxy.cut()
  proxy.flow()
  await until('the worker lets go', () => cut.log.some(line => line.msg === 'run let go'))
  await allEnded(reports)
  expect(await reportFaults(reports)).toEqual([])
})

test('PostgreSQL stopped at once and started again, three times in mid-run: the worker never exits, every file is exact', async () => {
  // Durable commits: what a client was told is committed must be there after the crash.
  const server = await startEmbedded({ log: silent, ephemeral: true, settings: { synchronous_commit: 'on', full_page_writes: 'on' } })
  const crew = startCrew()
  const config = readConfig({ DATABASE_URL: server.url })
  const db = openDatabase(config, silent, { max: 2 })
  onTestFinished(async () => {
    await crew.end()
    await db.close()
    await server.stop()
  })
  await upgrade(config, silent)
  const { query } = db
  const reports = await furnish({ query, url: server.url, workers: crew.workers, start: options => crew.start(server.url, options) }, 300)
  const worker = await reports.start()
  let ended = false
  void worker.exited.then(() => {
    ended = true
  })
  for (const format of ['csv', 'excel', 'html'] as const) await reports.ask(format)
  const recorded = async () => (await query<{ n: number }>('select count(*) as n from public.recorded_batches'))[0]?.n ?? 0
  for (let crash = 1; crash <= 3; crash += 1) {
    const before = await recorded()
    await until(`checkpoints before crash ${crash}`, async () => (await recorded()) >= before + 2)
    await server.kill('immediate')
    await server.restart()
    await until(`the server answers after crash ${crash}`, () =>
      query('select 1').then(
        () => true,
        () => false,
      ),
    )
  }
  await allEnded(reports)
  expect(await reportFaults(reports)).toEqual([])
  expect(ended).toBe(false)
})
