import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { addCanary, expectCanaryUntouched, expectFailure } from '../support/report-attack.ts'
import { addReport, openReportStage, type ReportStage } from '../support/reports.ts'

let stage: ReportStage

beforeAll(async () => {
  stage = await openReportStage()
  await addCanary(stage.query)
  await stage.query(
    `create table public.words (id bigint primary key, word text, day date); grant select on public.words to pawl_report; insert into public.words values (1, 'a', '2026-01-01')`,
  )
})
afterAll(() => stage.end())

const columns = ['id', 'word']
const sql = `id"; select public.canary(); --`
const base = { source: 'public.words', columns }
const chart = { x: 'word', y: 'id' }
const refusals: [string, Record<string, unknown>, RegExp, string?][] = [
  ['source', { ...base, source: sql }, /the source "id\\"; select public\.canary\(\); --" of the report/],
  ['source, a subquery', { ...base, source: '(select public.canary())' }, /the source "\(select public\.canary\(\)\)"/],
  ['source, a function', { ...base, source: 'public.canary()' }, /the source "public\.canary\(\)" of the report does not exist/],
  ['source, in pieces', { ...base, source: 'a.b.c' }, /the source "a\.b\.c" of the report is no name/],
  ['column', { ...base, columns: [sql] }, /public\.words has no column "id"; select/],
  ['column, an expression', { ...base, columns: ['public.canary()'] }, /public\.words has no column "public\.canary\(\)"/],
  ['column, of the system', { ...base, columns: ['ctid'] }, /public\.words has no column "ctid"/],
  ['column, the row', { ...base, columns: ['words'] }, /public\.words has no column "words"/],
  ['column, the alias', { ...base, columns: ['r'] }, /public\.words has no column "r"/],
  ['column, an object', { ...base, columns: [{ name: 'id', sql: 'public.canary()' }] }, /structure\.columns\.0/],
  ['column, a control character', { ...base, columns: ['a\nb'] }, /structure\.columns\.0/],
  ['alias, too long', { ...base, columns: [{ name: 'id', as: 'x'.repeat(64) }] }, /structure\.columns\.0/],
  ['alias, a byte order mark before a formula', { ...base, columns: [{ name: 'id', as: '\ufeff=1+1' }] }, /structure\.columns\.0/],
  ['label, a byte order mark before a formula', { ...base, columns: [{ name: 'id', label: '\ufeff=1+1' }] }, /structure\.columns\.0/],
  ['aggregate', { ...base, columns: [{ name: 'id', aggregate: `public.canary` }] }, /structure\.columns\.0/],
  ['bucket', { ...base, columns: [{ name: 'day', bucket: `month', public.canary()) --` }] }, /structure\.columns\.0/],
  ['operator', { ...base, filters: [{ column: 'id', operator: `= public.canary() or 1 =`, value: 1 }] }, /structure\.filters\.0\.operator/],
  ['filter column', { ...base, filters: [{ column: sql, value: 1 }] }, /names "id\\"; select.*does not declare/],
  ['filter parameter', { ...base, filters: [{ column: 'id', parameter: sql }] }, /names parameter "id"; select.*does not declare/],
  ['filter value, an object', { ...base, filters: [{ column: 'id', value: { sql: 'public.canary()' } }] }, /structure\.filters\.0\.value/],
  [
    'filter value, of another type',
    { ...base, filters: [{ column: 'id', value: 'public.canary()' }] },
    /public\.words could not be read: invalid input syntax for type bigint/,
  ],
  ['order', { ...base, order_by: [sql] }, /names "id\\"; select.*does not declare/],
  ['order, a place', { ...base, order_by: [1] }, /structure\.order_by\.0/],
  ['direction', { ...base, order_by: [{ column: 'id', direction: 'asc, public.canary()' }] }, /structure\.order_by\.0/],
  ['limit', { ...base, limit: '1; select public.canary()' }, /structure\.limit/],
  ['limit, too small', { ...base, limit: 0 }, /structure\.limit/],
  ['limit, a fraction', { ...base, limit: 1.5 }, /structure\.limit/],
  ['key', { ...base, key: [sql] }, /public\.words has no column "id"; select/],
  ['key with a limit', { ...base, key: [sql], limit: 3 }, /public\.words (has no column|could not be read)/],
  ['chart', { ...base, chart: { ...chart, x: sql } }, /names "id\\"; select.*does not declare/, 'chart'],
  ['chart kind', { ...base, chart: { ...chart, kind: '<svg onload=alert(1)>' } }, /structure\.chart\.kind/, 'chart'],
  ['unknown setting', { ...base, where: 'public.canary() = 1' }, /structure: .*"where"/],
  ['unknown block', { blocks: [{ type: 'sql', text: 'select public.canary()' }] }, /structure\.blocks\.0/, 'custom'],
  ['sum of a text', { ...base, columns: [{ name: 'word', aggregate: 'sum' }] }, /public\.words could not be read: function sum\(text\) does not exist/],
  ['month of a text', { ...base, columns: [{ name: 'word', bucket: 'month' }] }, /public\.words could not be read: /],
]

describe('a structure is words of ours and names of columns', () => {
  test.each(refusals)('%s', async (_what, structure, message, type = 'tabular') => {
    await expectFailure(stage, { type, structure }, message)
  })

  test('fields of a template are held to the same', async () => {
    const cases: [string, Record<string, unknown>, RegExp][] = [
      [sql, {}, /public\.words has no column "id"; select/],
      ['id', { aggregate: 'public.canary' }, /field "id"/],
      ['id', { sql: '1' }, /field "id".*"sql"/],
      ['x'.repeat(64), {}, /field "x{64}".*63 characters/],
    ]
    for (const [name, configuration, message] of cases) {
      const report = await addReport(stage.query, stage.people, { structure: { source: 'public.words' } })
      await stage.query(
        `insert into reporting.template_fields (template_id, name, field_type, configuration) select r.template_id, $2, 'x; --', $3 from reporting.reports r where r.id = $1`,
        [report, name, JSON.stringify(configuration)],
      )
      const execution = await stage.run(report)
      expect(execution.status).toBe('failed')
      expect(execution.error_message).toMatch(message)
    }
  })

  test.each([
    ['timezone', { timezone: `UTC'; select public.canary(); --` }, /TimeZone/i],
    ['timezone, endless', { timezone: 'x'.repeat(51) }, /configuration of the report\.timezone/],
    ['limits, text', { limits: { rows: '1 offset public.canary()' } }, /configuration of the report\.limits\.rows/],
    ['limits, none', { limits: { seconds: 0 } }, /configuration of the report\.limits\.seconds/],
    ['limits, unknown', { limits: { search_path: 'public' } }, /configuration of the report\.limits.*"search_path"/],
  ])('configuration: %s', async (_what, configuration, message) => {
    await expectFailure(stage, { structure: base, configuration }, message)
  })

  test('repeat_every is an interval and nothing else', async () => {
    for (const every of [`1 day'; select public.canary(); --`, '-1 day', '1 second', 'infinity', '{"sql": 1}']) {
      const report = await addReport(stage.query, stage.people, { structure: base, configuration: { repeat_every: every } })
      await stage.query(`update reporting.reports set status = 'scheduled', scheduled_at = now() where id = $1`, [report])
      await stage.query('select pawl.start_scheduled_reports(100)')
      const [row] = await stage.query<{ status: string; error_message: string; log: string }>(
        `select r.status, e.error_message, (select l.message from reporting.execution_logs l where l.execution_id = e.id and l.level = 'error') as log
         from reporting.reports r join reporting.report_executions e on e.report_id = r.id where r.id = $1`,
        [report],
      )
      expect(row).toMatchObject({ status: 'failed', error_message: expect.stringContaining(`repeat_every of report ${report} is `) })
      expect(row?.log).toBe(`failed: ${row?.error_message}`)
    }
  })
})

test('none of it ran', async () => {
  expect(await stage.files()).toEqual([])
  expect(await stage.query('select count(*)::integer as count from public.words')).toEqual([{ count: 1 }])
  await expectCanaryUntouched(stage)
})
