import { mkdir, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { executeReport } from '../../workers/reports/execute.ts'
import { takeLease, workOne } from '../support/engine.ts'
import { addReport, addSales, fileOf, openReportStage, readExecution, type ReportStage } from '../support/reports.ts'
import { interrupted, takeOver } from '../support/takeover.ts'

/** One page of 50,000, behind which a report can be taken up again, and a few more. */
const ROWS = 50_100

let stage: ReportStage
let report: string

beforeAll(async () => {
  stage = await openReportStage()
  await addSales(stage.query, ROWS)
  report = await addReport(stage.query, stage.people, { structure: { source: 'public.sales', columns: ['id', 'region'], key: ['id'] } })
})

afterAll(() => stage.end())

test.each(['pawl.advance', 'pawl.finish_report'])('a worker that is taken over at %s ends nothing, and takes its file away', async words => {
  const id = await stage.ask(report)
  const dying = await takeLease(stage.db, 'dying', ['reports.execute'])
  let owner: Record<string, unknown> = {}
  const db = interrupted(stage.db, words, {
    async before() {
      const { heir, epoch } = await takeOver(stage.db, dying, id)
      owner = { state: 'running', owner: heir.id, epoch }
    },
  })
  expect(await workOne(executeReport, { ...stage.options, db, lease: () => dying.id })).toEqual({ status: 'completed', output: { outcome: 'lost' } })
  expect(await stage.query('select state, owner, epoch from pawl.checkpoints where run_id = $1', [id])).toEqual([owner])
  expect(await readExecution(stage.query, id)).toMatchObject({ status: 'running', output_url: null, completed_at: null })
  expect(await stage.files()).toEqual([])
})

test('an ending whose answer is lost with its connection is written once, and its file stays', async () => {
  const id = await stage.ask(report)
  const lost = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' })
  const db = interrupted(stage.db, 'pawl.finish_report', { after: () => Promise.reject(lost) })
  expect(await workOne(executeReport, { ...stage.options, db })).toEqual({ status: 'completed', output: { outcome: 'completed' } })
  const execution = await readExecution(stage.query, id)
  expect(execution).toMatchObject({ status: 'completed', metadata: { rows: ROWS } })
  expect(
    String(await fileOf(execution))
      .trim()
      .split('\n'),
  ).toHaveLength(ROWS + 1)
  expect(await stage.query(`select count(*) as n from reporting.execution_logs where execution_id = $1 and message like 'completed%'`, [id])).toEqual([
    { n: 1 },
  ])
})

test('broken off between its last row and its file, it goes on behind the last whole page, and counts no row twice', async () => {
  const id = await stage.ask(report)
  let inTheWay = ''
  // The page and the rest are recorded; then the file can't take its name, because a folder has it.
  const db = interrupted(stage.db, 'pawl.advance', {
    nth: 2,
    async before() {
      const [file] = await stage.query<{ key: string }>('select key from pawl.report_files where run_id = $1', [id])
      inTheWay = join(stage.folder, file?.key ?? '')
      await mkdir(inTheWay)
    },
  })
  const broken = await workOne(executeReport, { ...stage.options, db })
  expect(broken?.output.outcome).not.toBe('completed')
  expect(await stage.query('select done from pawl.checkpoints where run_id = $1', [id])).toEqual([{ done: ROWS }])
  await rmdir(inTheWay)
  await stage.query('select pawl.retry($1)', [id])
  expect(await stage.work()).toContain('completed')
  const execution = await readExecution(stage.query, id)
  expect(execution).toMatchObject({ status: 'completed', metadata: { rows: ROWS } })
  expect(
    String(await fileOf(execution))
      .trim()
      .split('\n'),
  ).toHaveLength(ROWS + 1)
  expect(await stage.query(`select message from reporting.execution_logs where execution_id = $1 and message like 'resumed%'`, [id])).toHaveLength(1)
})
