import { expect, onTestFinished, test } from 'vitest'
import { faultsOf, requestOverride, seedCategory } from '../support/overrides.ts'
import { runPawl } from '../support/process.ts'
import { until } from '../support/until.ts'
import { countFaults, endOf, holderOf, openStage, recordBatches, recordedBatches } from './stage.ts'

test('five replicas start at once on an empty database, each migrating first: one schema, every run done once', async () => {
  const stage = await openStage({ empty: true })
  const url = stage.db.url
  const replicas = await Promise.all(
    Array.from({ length: 5 }, async () => {
      const migrated = await runPawl(['migrate', 'up', '--json'], url)
      expect(migrated).toMatchObject({ code: 0 })
      await stage.start()
      return (JSON.parse(migrated.stdout) as { applied: string[] }).applied.length
    }),
  )
  const [{ files } = { files: 0 }] = await stage.query<{ files: number }>('select count(*) as files from pawl.schema_migrations')
  expect(replicas.reduce((sum, applied) => sum + applied, 0)).toBe(files)
  await recordBatches(stage.query)
  const categories = await Promise.all(Array.from({ length: 8 }, () => seedCategory(stage.query, 2_000)))
  const runs = await Promise.all(categories.map(category => requestOverride(stage.query, category)))
  for (const runId of runs) {
    expect(await endOf(stage.query, runId)).toBe('completed')
    expect(await faultsOf(stage.query, runId, 2_000)).toEqual([])
    expect(await countFaults(stage.query, runId)).toEqual([])
  }
})

test('an operator pauses, resumes, cancels and retries a running operation, and every row is accounted for', async () => {
  const stage = await openStage()
  await recordBatches(stage.query)
  const category = await seedCategory(stage.query, 50_000)
  await stage.start()
  const runId = await requestOverride(stage.query, category, { batchSize: 50 })
  await holderOf(stage.query, runId)
  await stage.query(`select pawl.pause('overrides.apply', 'a look')`)
  await until('the run is handed back', async () => (await stage.query(`select from pawl.runs where run_id = $1 and state = 'pending'`, [runId])).length > 0)
  expect(await countFaults(stage.query, runId)).toEqual([])
  await stage.query(`select pawl.resume('overrides.apply')`)
  await holderOf(stage.query, runId)
  await stage.query(`select pawl.cancel($1, 'wrong settings')`, [runId])
  expect(await endOf(stage.query, runId)).toBe('cancelled')
  expect(await countFaults(stage.query, runId)).toEqual([])
  await stage.query('select pawl.retry($1)', [runId])
  expect(await endOf(stage.query, runId)).toBe('completed')
  expect(await faultsOf(stage.query, runId, 50_000)).toEqual([])
  const batches = await recordedBatches(stage.query, runId)
  expect(batches.reduce((sum, batch) => sum + batch.rows, 0)).toBe(50_000)
})

test('a run that kills its worker three times at the same place is poison: failed, with that reason, and the queue goes on', async () => {
  const stage = await openStage()
  await recordBatches(stage.query)
  const category = await seedCategory(stage.query, 1_000)
  // The last batch of each lane waits for a lock that the test holds: the place where its worker is killed.
  await stage.query(`
    create function public.wait_here() returns trigger language plpgsql as $$
    begin
      if new.settings ? 'deadly' and new.recipient_id % 500 = 0 then perform pg_advisory_xact_lock(42); end if;
      return new;
    end $$;
    create trigger wait_here before update on public.category_recipient_settings for each row execute function public.wait_here()`)
  let release: () => void = () => {}
  const released = new Promise<void>(resolve => {
    release = resolve
  })
  onTestFinished(() => release())
  const holding = stage.db.transact(async query => {
    await query('set local idle_in_transaction_session_timeout = 0')
    await query('select pg_advisory_xact_lock(42)')
    await released
  })
  const runId = await requestOverride(stage.query, category, { settings: { deadly: true } })
  for (let death = 1; death <= 3; death += 1) {
    const worker = await stage.start()
    await until(
      `death ${death}`,
      async () => (await stage.query(`select from pg_stat_activity where application_name = $1 and wait_event = 'advisory'`, [worker.name])).length === 2,
    )
    worker.signal('SIGKILL')
    await worker.exited
    await stage.query(`select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1`, [worker.name])
  }
  await stage.start()
  expect(await endOf(stage.query, runId)).toBe('failed')
  release()
  await holding
  const [run] = await stage.query<{ error: string; failures: number; why: string }>(
    'select error, failures, pawl.why(run_id) as why from pawl.runs where run_id = $1',
    [runId],
  )
  expect(run).toMatchObject({ failures: 0, error: expect.stringContaining('poison: the worker died 3 times in a row') })
  expect(run?.why).toContain('pawl.retry')
  const next = await requestOverride(stage.query, category)
  expect(await endOf(stage.query, next)).toBe('completed')
  expect(await faultsOf(stage.query, next, 1_000)).toEqual([])
})
