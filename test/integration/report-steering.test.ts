import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { readExecution } from '../support/reports.ts'
import { type LivesStage, openLivesStage } from './report-lives.ts'

let stage: LivesStage

beforeAll(async () => {
  stage = await openLivesStage()
})
afterAll(() => stage.end())
beforeEach(() => stage.clear())

test('cancelled in the middle of a statement: within seconds, and its draft is gone', async () => {
  const gated = await stage.add('gated', ['id', 'gate'])
  const { execution, working } = await stage.underWay(gated)
  expect(await stage.statusOf(gated)).toBe('processing')
  expect(await stage.why(execution)).toMatch(/^Running on worker tester: 0 of \? rows/)
  const begun = systemClock.elapsed()
  await stage.query(`select pawl.cancel($1)`, [execution])
  expect(await stage.why(execution)).toMatch(/^Running; \w+ asked to cancel it at /)
  expect(await working).toMatchObject({ output: { outcome: 'cancel' } })
  expect(systemClock.elapsed() - begun).toBeLessThan(5_000)
  expect(await readExecution(stage.query, execution)).toMatchObject({ status: 'cancelled', error_message: `cancelled by ${stage.login}`, output_url: null })
  expect(await stage.statusOf(gated)).toBe('cancelled')
  await stage.sweep()
  expect(await stage.query('select from pawl.report_files where run_id = $1', [execution])).toEqual([])
})

test('paused in the middle of a statement: it gives back its place, spends no attempt, and completes after resume', async () => {
  const gated = await stage.add('gated', ['id', 'gate'])
  const { execution, gate, working } = await stage.underWay(gated)
  await stage.query(`select pawl.pause('reports.execute', 'night')`)
  expect(await working).toMatchObject({ output: { outcome: 'pause' } })
  expect(await stage.runOf(execution)).toMatchObject({ state: 'pending', failures: 0 })
  expect(await readExecution(stage.query, execution)).toMatchObject({ status: 'running' })
  expect(await stage.statusOf(gated)).toBe('processing')
  expect(await stage.why(execution)).toMatch(/^Waiting: queue reports.execute was paused by \w+ at .* \(night\)/)
  await gate.open()
  await stage.query(`select pawl.resume('reports.execute')`)
  expect(await stage.work()).toEqual(['completed'])
  expect(await readExecution(stage.query, execution)).toMatchObject({ status: 'completed', metadata: { rows: 1 } })
})

test('deleted while it runs, the run is cancelled and its file swept', async () => {
  const gated = await stage.add('gated', ['id', 'gate'])
  const { execution, gate, working } = await stage.underWay(gated)
  await stage.query('delete from reporting.reports where id = $1', [gated])
  await gate.open()
  await working
  expect(await stage.runOf(execution)).toMatchObject({ state: 'cancelled', error: 'cancelled: what it worked on was deleted' })
  await stage.sweep()
  expect(await stage.query('select from pawl.report_files where run_id = $1', [execution])).toEqual([])
  expect((await stage.files()).sort()).toEqual(await stage.keptFiles())
})

test('a report that nobody starts is overdue, unless its queue is paused', async () => {
  const report = await stage.add('little', ['id'])
  const check = async (name: string) => (await stage.query<{ ok: boolean; detail: string }>('select ok, detail from pawl.health where "check" = $1', [name]))[0]
  expect(await check('overdue reports')).toMatchObject({ ok: true })
  expect(await check('report partitions')).toEqual({ ok: true, detail: '3 months ahead' })
  await stage.query(`update reporting.reports set status = 'scheduled', scheduled_at = now() - interval '2 minutes' where id = $1`, [report])
  expect(await check('overdue reports')).toEqual({ ok: false, detail: '1 scheduled and due for more than a minute' })
  await stage.query(`select pawl.pause('reports.execute')`)
  expect(await check('overdue reports')).toMatchObject({ ok: true })
  await stage.query(`select pawl.resume('reports.execute')`)
  await stage.query(`update reporting.reports set status = 'draft' where id = $1`, [report])
})

test('an execution that is silent for a quarter of an hour is stuck', async () => {
  const gated = await stage.add('gated', ['id', 'gate'])
  const { execution, gate, working } = await stage.underWay(gated)
  const stuck = async (minutes: number) => {
    await stage.query(`update pawl.checkpoints set updated_at = now() - $2 * interval '1 minute' where run_id = $1`, [execution, minutes])
    await stage.query(`update pawl.lanes set updated_at = now() - $2 * interval '1 minute' where run_id = $1`, [execution, minutes])
    await stage.query('update pawl.leases set seen_at = clock_timestamp() where id = $1', [stage.lease.id])
    return (await stage.query('select from pawl.stuck where run_id = $1', [execution])).length
  }
  expect(await stuck(14)).toBe(0)
  expect(await stuck(16)).toBe(1)
  expect(await stage.why(execution)).toMatch(/no batch has committed since/)
  await gate.open()
  await working
  expect(await stage.runOf(execution)).toMatchObject({ state: 'completed' })
})
