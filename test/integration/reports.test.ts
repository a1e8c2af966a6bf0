import { createHash } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { addReport, addSales, fileOf, openReportStage, readExecution, type ReportStage } from '../support/reports.ts'

const ROWS = 120_000
const columns = ['id', 'region', 'amount', 'placed_on', 'paid', 'note']
let stage: ReportStage
let whole: string

beforeAll(async () => {
  stage = await openReportStage()
  await addSales(stage.query, ROWS)
  whole = await addReport(stage.query, stage.people, { name: 'All sales', structure: { source: 'public.sales', columns } })
})
afterAll(() => stage.end())

test('a report becomes one whole file, whose size, checksum and rows its execution knows', async () => {
  const execution = await stage.run(whole)
  expect(execution).toMatchObject({ status: 'completed', output_format: 'csv', error_message: null, metadata: { rows: ROWS, read_from: 'primary' } })
  const file = await fileOf(execution)
  expect(file.length).toBe(execution.result_size_bytes)
  expect(createHash('sha256').update(file).digest('hex')).toBe(execution.metadata.sha256)
  const lines = file.toString().split('\n')
  expect(lines[0]).toBe('id,region,amount,placed_on,paid,note')
  expect(lines[1]).toBe(`1,US,79.19,2026-01-02,true,'=1+1`)
  expect(file.toString().split(/\n(?=\d+,)/).length).toBe(ROWS + 1)
  expect(await stage.files()).toEqual([execution.metadata.key])
})

test('report and execution are kept in step, with log and audit rows', async () => {
  const [before] = await stage.query<{ execution_count: number }>('select execution_count from reporting.reports where id = $1', [whole])
  const id = await stage.ask(whole, 'json')
  expect(await stage.query('select status from reporting.reports where id = $1', [whole])).toEqual([{ status: 'completed' }])
  expect((await readExecution(stage.query, id)).status).toBe('running')
  await stage.work()
  const execution = await readExecution(stage.query, id)
  expect(await stage.query('select status, execution_count, last_executed from reporting.reports where id = $1', [whole])).toEqual([
    { status: 'completed', execution_count: (before?.execution_count ?? 0) + 1, last_executed: execution.completed_at },
  ])
  const log = await stage.query<{ message: string }>('select message from reporting.execution_logs where execution_id = $1 order by id', [id])
  expect(log.map(line => line.message)).toEqual(['asked for by admin', 'begun by worker tester', 'reading', `completed with ${ROWS} rows`])
  const audit = await stage.query('select action, resource_type, user_id from reporting.audit_logs where resource_id = $1 order by timestamp', [id])
  expect(audit).toEqual(['create', 'export'].map(action => ({ action, resource_type: 'execution', user_id: stage.people.admin })))
  const [run] = await stage.query(`select kind, state, done, total, percent from pawl.runs where run_id = $1`, [id])
  expect(run).toEqual({ kind: 'report', state: 'completed', done: ROWS, total: ROWS, percent: '100.0' })
})

test('an attempt that failed behind its last checkpoint goes on there, and counts no row twice', async () => {
  // Parts 1 and 2 can be gone on with; 3 ends the table, and is counted; 4, the figure, fails once.
  await stage.query(`
    create sequence public.failures;
    create function public.fail_once() returns trigger language plpgsql as $$
    begin
      if nextval('public.failures') = 1 then raise exception 'not yet'; end if;
      return new;
    end $$;
    create trigger fail_once before update on pawl.lanes for each row when (new.cursor ->> 'part' = '4') execute function public.fail_once()`)
  const figure = { type: 'metric', source: 'public.sales', columns: [{ name: 'id', aggregate: 'count' }] }
  const both = { blocks: [{ type: 'table', title: 'All', source: 'public.sales', columns }, figure] }
  const execution = await stage.run(await addReport(stage.query, stage.people, { type: 'custom', structure: both }))
  await stage.query('drop trigger fail_once on pawl.lanes')
  expect(await stage.query('select last_value as failed_at, is_called from public.failures')).toEqual([{ failed_at: 1, is_called: true }])
  expect(execution).toMatchObject({ status: 'completed', metadata: { rows: ROWS + 1 } })
  expect((await fileOf(execution)).toString().split(/\n(?=\d+,)/).length).toBe(ROWS + 1)
})
