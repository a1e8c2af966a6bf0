import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { Clock } from '../../src/clock.ts'
import { systemClock } from '../../src/clock.ts'
import { connectDirect } from '../../src/database.ts'
import { reportWheel } from '../../workers/reports/wheel.ts'
import { silent } from '../support/postgres.ts'
import { startWorker, type WorkerProcess } from '../support/process.ts'
import { addReport, openReportStage, type ReportParts, type ReportStage } from '../support/reports.ts'
import { until } from '../support/until.ts'

let stage: ReportStage

beforeAll(async () => {
  stage = await openReportStage()
  await stage.lease.stop()
  await stage.query('create table public.little (id integer primary key); insert into public.little values (1); grant select on public.little to pawl_report')
})
afterAll(() => stage.end())

const add = (parts: Partial<ReportParts> = {}) => addReport(stage.query, stage.people, { structure: { source: 'little', columns: ['id'] }, ...parts })
/** By plain SQL, as anyone would; `due` is an interval from now. */
const schedule = (ids: string[], due: string) =>
  stage.query(`update reporting.reports set status = 'scheduled', scheduled_at = now() + $2::interval where id = any ($1)`, [ids, due])
const executionsOf = (ids: string[]) =>
  stage.query<{ report_id: string; status: string; error_message: string | null }>(
    'select report_id, status, error_message from reporting.report_executions where report_id = any ($1) order by started_at',
    [ids],
  )
const reportOf = async (id: string) =>
  (await stage.query<{ status: string; scheduled_at: Date }>('select status, scheduled_at from reporting.reports where id = $1', [id]))[0]
const ended = (ids: string[]) =>
  until(`${ids.length} executions ended`, async () => {
    const executions = await executionsOf(ids)
    return executions.length >= ids.length && executions.every(({ status }) => status !== 'running') ? executions : null
  })

async function work(env: Record<string, string> = {}): Promise<WorkerProcess> {
  const worker = await startWorker(stage.db.url, { env: { PAWL_REPORT_STORE: stage.folder, ...env } })
  onTestFinished(async () => {
    worker.signal('SIGTERM')
    await worker.exited
  })
  return worker
}

describe('by real workers', () => {
  test('a report begins within a second of its time, and not before', async () => {
    await work()
    const ids = [await add(), await add()]
    await schedule(ids.slice(0, 1), '2 seconds')
    await schedule(ids.slice(1), '2500 milliseconds')
    await ended(ids)
    const late = await stage.query<{ asked: number; begun: number }>(
      `select extract(epoch from e.started_at - r.scheduled_at)::float8 as asked, extract(epoch from c.started_at - r.scheduled_at)::float8 as begun
       from reporting.report_executions e join reporting.reports r on r.id = e.report_id join pawl.checkpoints c on c.run_id = e.id::text where r.id = any ($1)`,
      [ids],
    )
    expect(late).toHaveLength(2)
    for (const { asked, begun } of late) {
      expect(asked).toBeGreaterThanOrEqual(0)
      expect(begun).toBeGreaterThanOrEqual(asked)
      expect(begun).toBeLessThan(1)
    }
    expect((await reportOf(ids[0] ?? ''))?.status).toBe('completed')
  })

  test('of many that are due together, those of priority 1 begin first, and of one priority the earliest', async () => {
    const ids = await Promise.all(Array.from({ length: 60 }, (_, place) => add({ priority: 1 + ((place * 7) % 3) })))
    // Written backwards: neither the table's order nor that of the inserts is the right one.
    await stage.query(
      `update reporting.reports set status = 'scheduled', scheduled_at = now() - place * interval '1 second'
       from unnest($1::uuid[]) with ordinality t (report, place) where reports.id = t.report`,
      [ids],
    )
    await work({ PAWL_CONCURRENCY: '1' })
    await ended(ids)
    const order = `select r.id from reporting.report_executions e join reporting.reports r on r.id = e.report_id join pawl.checkpoints c on c.run_id = e.id::text
       where r.id = any ($1) order by`
    expect(await stage.query(`${order} c.started_at`, [ids])).toEqual(await stage.query(`${order} r.priority, r.scheduled_at`, [ids]))
  })

  test('two workers execute each report once, and one that repeats once for all the turns that nobody was there for', async () => {
    const ids = await Promise.all(Array.from({ length: 30 }, () => add()))
    const repeated = await Promise.all(['1 minute', '1 hour', '1 day'].map(repeat_every => add({ configuration: { repeat_every } })))
    await schedule([...ids, ...repeated], '1 second')
    await stage.query(`update reporting.reports set scheduled_at = now() - interval '400 days' where id = any ($1)`, [repeated])
    await Promise.all([work(), work()])
    const executions = await ended([...ids, ...repeated])
    expect(executions.map(({ status }) => status)).toEqual(executions.map(() => 'completed'))
    expect(executions.map(execution => execution.report_id).sort()).toEqual([...ids, ...repeated].sort())
    const next = await stage.query<{ status: string; seconds: number }>(
      `select status, extract(epoch from scheduled_at - now())::float8 as seconds from reporting.reports where id = any ($1) order by scheduled_at`,
      [repeated],
    )
    for (const [place, most] of [60, 3_600, 90_000].entries()) {
      expect(next[place]?.status).toBe('scheduled')
      expect(next[place]?.seconds).toBeGreaterThan(-5)
      expect(next[place]?.seconds).toBeLessThanOrEqual(most)
    }
  })

  test('a paused queue holds schedules back, and resuming lets them go at once', async () => {
    await work()
    await stage.query(`select pawl.pause('reports.execute')`)
    onTestFinished(async () => void (await stage.query(`select pawl.resume('reports.execute')`)))
    const [held, other] = [await add(), await add({ name: 'looked at' })]
    await schedule([held], '-1 second')
    const [turn] = await stage.query<{ started: number; next_at_ms: null }>('select * from pawl.start_scheduled_reports(10)')
    expect(turn).toMatchObject({ started: 0, more: false, next_at_ms: null })
    expect(await executionsOf([held, other])).toEqual([])
    const begun = systemClock.elapsed()
    await stage.query(`select pawl.resume('reports.execute')`)
    await ended([held])
    expect(systemClock.elapsed() - begun).toBeLessThan(5_000)
  })

  test("reports that can't be executed fail by themselves, each with the reason, and hold nobody up", async () => {
    const bad: [Partial<ReportParts>, string][] = [
      [{ configuration: { repeat_every: 'often' } }, 'repeat_every of report .* is "often"'],
      [{ configuration: { repeat_every: '59 seconds' } }, 'repeat_every of report .* is 00:00:59'],
      [{ configuration: { repeat_every: '-1 day' } }, 'repeat_every of report'],
      [{ configuration: { repeat_every: '1 year -360 days' } }, 'repeat_every of report'],
      [{ configuration: { output_format: 'docx' } }, 'there is no output format "docx"'],
      [{ declared: { region: { type: 'text', required: true } } }, 'parameter "region" is required'],
    ]
    const ids = await Promise.all(bad.map(([parts]) => add({ ...parts, priority: 1 })))
    const endless = await add({ configuration: { repeat_every: '1 minute' }, priority: 1 })
    const good = await add({ priority: 10 })
    await schedule([...ids, good], '-1 second')
    await stage.query(`update reporting.reports set status = 'scheduled', scheduled_at = '-infinity' where id = $1`, [endless])
    await work()
    await ended([...ids, endless, good])
    for (const [place, [, message]] of bad.entries()) {
      const [execution] = await executionsOf([ids[place] ?? ''])
      expect(execution?.status).toBe('failed')
      expect(execution?.error_message).toMatch(new RegExp(message))
      expect((await reportOf(ids[place] ?? ''))?.status).toBe('failed')
    }
    expect((await reportOf(endless))?.status).toBe('failed')
    expect((await reportOf(good))?.status).toBe('completed')
  })
})

describe('a wheel', () => {
  /** A clock on which no time passes until the test lets it: all that sleep are woken then. */
  function standing(): Clock & { sleeps: number[]; pass(): void } {
    const sleeps: number[] = []
    let passing = new AbortController()
    return {
      sleeps,
      now: () => 0,
      elapsed: () => 0,
      pass() {
        passing.abort()
        passing = new AbortController()
      },
      sleep(ms, signal) {
        sleeps.push(ms)
        const over = signal === undefined ? passing.signal : AbortSignal.any([signal, passing.signal])
        return new Promise(resolve => (over.aborted ? resolve() : over.addEventListener('abort', () => resolve(), { once: true })))
      },
    }
  }

  async function turning() {
    const clock = standing()
    const statements: string[] = []
    const { lease, options } = stage
    const query: typeof stage.query = (text, values) => {
      statements.push(text)
      return stage.query(text, values)
    }
    const wheel = reportWheel.start({ config: options.config, db: { ...stage.db, query }, log: silent, clock, lease: () => lease.id })
    onTestFinished(() => wheel.stop())
    const turns = () => statements.filter(text => text.includes('start_scheduled_reports')).length
    return { clock, statements, turns }
  }

  test('with nothing due asks once and sleeps until it must look again', async () => {
    await stage.query(`update reporting.reports set status = 'draft' where status = 'scheduled'`)
    const { clock, statements, turns } = await turning()
    await until('it sleeps', () => clock.sleeps.includes(15_000))
    expect(turns()).toBe(1)
    expect(statements.length).toBeLessThanOrEqual(2)
  })

  test('sleeps to the millisecond at which the next one is due', async () => {
    const id = await add()
    await schedule([id], '9 seconds')
    const { clock, turns } = await turning()
    await until('it sleeps', () => clock.sleeps.some(ms => ms > 5_000))
    expect(clock.sleeps.find(ms => ms > 5_000)).toBeLessThanOrEqual(9_000)
    expect(turns()).toBe(1)
    await stage.query(`update reporting.reports set status = 'draft' where id = $1`, [id])
  })

  test("that can't have a due report, because another session has locked it, sleeps instead of asking on and on, and starts the others", async () => {
    const [locked, free] = [await add({ priority: 1 }), await add()]
    await schedule([locked, free], '-1 second')
    const other = await connectDirect(stage.options.config, 'locks a report')
    onTestFinished(() => other.close())
    await other.query('begin')
    await other.query('select from reporting.reports where id = $1 for update', [locked])
    const { clock, turns } = await turning()
    await until('it sleeps', () => clock.sleeps.some(ms => ms > 10))
    expect(turns()).toBe(1)
    expect(clock.sleeps.find(ms => ms > 10)).toBeGreaterThan(900)
    expect((await executionsOf([locked, free])).map(execution => execution.report_id)).toEqual([free])
    // Nothing that the trigger would tell of: it is found when the second is over.
    await other.query('rollback')
    clock.pass()
    await until('the locked one is started', async () => (await executionsOf([locked])).length === 1)
  })
})
