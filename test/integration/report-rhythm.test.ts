import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { addReport, openReportStage, type ReportParts, type ReportStage } from '../support/reports.ts'

let stage: ReportStage

beforeAll(async () => {
  stage = await openReportStage()
})
afterAll(() => stage.end())

const add = (parts: Partial<ReportParts> = {}) => addReport(stage.query, stage.people, { structure: {}, ...parts })
const reportOf = async (id: string) =>
  (await stage.query<{ status: string; scheduled_at: Date }>('select status, scheduled_at from reporting.reports where id = $1', [id]))[0]

describe('the next time of a repeated report', () => {
  /** Its times as the creator's clocks show them, each turn taken as the wheel takes it. */
  async function times(first: string, every: string, timezone: string, turns: number): Promise<string[]> {
    const id = await add({ configuration: { repeat_every: every } })
    await stage.query('update reporting.users set timezone = $1 where id = $2', [timezone, stage.people.admin])
    await stage.query(`update reporting.reports set status = 'scheduled', scheduled_at = $2::timestamptz where id = $1`, [id, first])
    const seen: string[] = []
    for (let turn = 0; turn < turns; turn += 1) {
      const [row] = await stage.query<{ next: Date }>('select pawl.next_report_time(r) as next from reporting.reports r where id = $1', [id])
      await stage.query('select pawl.start_scheduled_report(r) from reporting.reports r where id = $1', [id])
      const report = await reportOf(id)
      expect(report).toEqual({ status: 'scheduled', scheduled_at: row?.next })
      const [shown] = await stage.query<{ local: string }>(
        `select to_char(scheduled_at at time zone $2, 'YYYY-MM-DD HH24:MI') || to_char(scheduled_at at time zone 'UTC', ' (HH24)') as local
        from reporting.reports where id = $1`,
        [id, timezone],
      )
      seen.push(shown?.local ?? '')
    }
    // All turns but the first were left out, because its execution is not over.
    expect(await stage.query('select from reporting.report_executions where report_id = $1', [id])).toHaveLength(1)
    await stage.query('delete from reporting.reports where id = $1', [id])
    return seen
  }

  test.each([
    ['2031-03-28 09:00+01', '1 day', 'Europe/Berlin', ['2031-03-29 09:00 (08)', '2031-03-30 09:00 (07)', '2031-03-31 09:00 (07)']],
    ['2031-10-25 09:00+02', '1 day', 'Europe/Berlin', ['2031-10-26 09:00 (08)', '2031-10-27 09:00 (08)']],
    // Half past two does not exist on the 30th; the day after it is back.
    ['2031-03-29 02:30+01', '1 day', 'Europe/Berlin', ['2031-03-30 03:30 (01)', '2031-03-31 02:30 (00)']],
    // The hour that comes twice is two hours.
    ['2031-10-26 01:30+02', '1 hour', 'Europe/Berlin', ['2031-10-26 02:30 (00)', '2031-10-26 02:30 (01)', '2031-10-26 03:30 (02)']],
    ['2031-01-31 06:00+00', '1 month', 'UTC', ['2031-02-28 06:00 (06)', '2031-03-31 06:00 (06)', '2031-04-30 06:00 (06)', '2031-05-31 06:00 (06)']],
    ['2032-02-29 06:00+00', '1 year', 'UTC', ['2033-02-28 06:00 (06)', '2034-02-28 06:00 (06)', '2035-02-28 06:00 (06)', '2036-02-29 06:00 (06)']],
    ['2031-01-01 23:30-05', '1 week', 'America/New_York', ['2031-01-08 23:30 (04)', '2031-01-15 23:30 (04)']],
  ])('from %s every %s in %s', async (first, every, timezone, wanted) => {
    expect(await times(first, every, timezone, wanted.length)).toEqual(wanted)
  })

  test('a creator whose time zone is none: what repeats is refused, what is executed once needs none', async () => {
    const [once, often] = [await add(), await add({ configuration: { repeat_every: '1 day' } })]
    await stage.query(`update reporting.users set timezone = 'Nowhere/Land' where id = $1`, [stage.people.admin])
    await stage.query(`update reporting.reports set status = 'scheduled', scheduled_at = now() where id = any ($1)`, [[once, often]])
    await stage.query('select pawl.start_scheduled_reports(10)')
    const executions = await stage.query(
      'select report_id, status, error_message from reporting.report_executions where report_id = any ($1) order by status',
      [[once, often]],
    )
    expect(executions).toEqual([
      { report_id: often, status: 'failed', error_message: 'time zone "Nowhere/Land" not recognized' },
      { report_id: once, status: 'running', error_message: null },
    ])
    await stage.query(`update reporting.users set timezone = 'UTC' where id = $1`, [stage.people.admin])
  })

  test('another time, or another rhythm, is a new beginning', async () => {
    const id = await add({ configuration: { repeat_every: '1 month' } })
    await stage.query(`update reporting.users set timezone = 'UTC' where id = $1`, [stage.people.admin])
    const turn = async (at: string | null, every = '1 month') => {
      await stage.query(
        `update reporting.reports set status = 'scheduled', scheduled_at = coalesce($2, scheduled_at), configuration = jsonb_build_object('repeat_every', $3::text) where id = $1`,
        [id, at, every],
      )
      await stage.query('select pawl.start_scheduled_report(r) from reporting.reports r where id = $1', [id])
      return (await reportOf(id))?.scheduled_at.toISOString().slice(0, 10)
    }
    expect(await turn('2031-01-31 06:00+00')).toBe('2031-02-28')
    expect(await turn('2031-02-27 06:00+00')).toBe('2031-03-27')
    expect(await turn('2031-01-31 06:00+00')).toBe('2031-02-28')
    expect(await turn(null, '2 months')).toBe('2031-04-28')
  })

  test.each(['1 minute', '7 days', '1 month', '1 month 3 days', '90 minutes'])(
    'every %s: the first one after now, whenever it began, and found at once',
    async every => {
      const id = await add({ configuration: { repeat_every: every } })
      const zones = ['UTC', 'Europe/Berlin', 'America/St_Johns']
      for (const [place, first] of ['1901-12-31 12:34:56+00', '1999-12-31 23:59:59+00', '2026-02-28 00:30:00+00'].entries()) {
        await stage.query('update reporting.users set timezone = $1 where id = $2', [zones[place], stage.people.admin])
        const begun = systemClock.elapsed()
        const [row] = await stage.query<{ ahead: boolean; first: boolean }>(
          `select n > now() as ahead, ((n at time zone $4) - $3::interval * 1.05) < now() at time zone $4 as first
         from (select pawl.next_report_time(r) as n from (select (jsonb_populate_record(r, jsonb_build_object('scheduled_at', $2::timestamptz))).* from reporting.reports r where id = $1) r) t`,
          [id, first, every, zones[place]],
        )
        expect(row).toEqual({ ahead: true, first: true })
        expect(systemClock.elapsed() - begun).toBeLessThan(1_000)
      }
      await stage.query(`update reporting.users set timezone = 'UTC' where id = $1`, [stage.people.admin])
    },
  )
})
