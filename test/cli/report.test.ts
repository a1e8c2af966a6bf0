import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { executeReport } from '../../workers/reports/execute.ts'
import { ask, freshDirectory, start } from '../support/embedded.ts'
import { workOne } from '../support/engine.ts'
import { runPawl } from '../support/process.ts'
import { addPeople, addReport, fileOf, openReportStage, readExecution, type ReportStage } from '../support/reports.ts'

const NOBODY = '00000000-0000-4000-8000-000000000000'
let stage: ReportStage
let report: string
let folder: string

beforeAll(async () => {
  stage = await openReportStage()
  folder = await mkdtemp(join(tmpdir(), 'pawl-cli-report-'))
  // No newline at its end, and bytes that are no UTF-8 when they are cut anywhere.
  await stage.query(`
    create table public.words (id integer primary key, word text);
    insert into public.words select i, repeat('grüße €', 10) from generate_series(1, 20000) i;
    grant select on public.words to pawl_report`)
  report = await addReport(stage.query, stage.people, {
    name: 'All words',
    structure: { source: 'words', columns: ['id', 'word'], filters: [{ column: 'id', operator: '<=', parameter: 'most' }] },
    declared: { most: { type: 'integer' } },
  })
  const twice = await addReport(stage.query, stage.people, { name: 'Twice', structure: {} })
  await stage.query(
    'insert into reporting.reports (name, template_id, organization_id, created_by) select name, template_id, organization_id, created_by from reporting.reports where id = $1',
    [twice],
  )
})
afterAll(async () => {
  await stage.end()
  await rm(folder, { recursive: true, force: true })
})

const pawl = (words: string[], env: Record<string, string> = { PAWL_REPORT_STORE: stage.folder }) => runPawl(['report', ...words], stage.db.url, { env })

/** What the command answered to a machine. */
async function asked(words: string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await pawl([...words, '--json'])
  expect([code, stderr]).toEqual([0, ''])
  return JSON.parse(stdout) as Record<string, unknown>
}

test('a report is executed by name or id, listed, its log read and its file fetched', async () => {
  const { execution_id: byName } = await asked(['run', 'All words', '--as', 'admin', '--parameters', '{"most": 15000}'])
  const { execution_id: byId } = await asked(['run', report, '--as', stage.people.admin, '--format', 'json'])
  const { execution_id: byMail } = await asked(['run', report, '--as', 'admin@own.example', '--format', 'xlsx', '--parameters', '{"most": 3}'])
  const ids = [byName, byId, byMail].map(String)
  expect(await asked(['list', 'All words'])).toMatchObject({ executions: ids.map(() => ({ report: 'All words', state: 'pending' })) })
  const waiting = await pawl(['get', ids[0] ?? ''])
  expect([waiting.code, waiting.stdout]).toEqual([2, ''])
  expect(waiting.stderr).toMatch(/has no file: it is running.*\n {2}next: pawl why/)

  await stage.work()
  const { executions } = (await asked(['list', report])) as { executions: Record<string, unknown>[] }
  expect(executions.map(({ execution, state, format, rows }) => ({ execution, state, format, rows })).reverse()).toEqual([
    { execution: ids[0], state: 'completed', format: 'csv', rows: 15_000 },
    { execution: ids[1], state: 'completed', format: 'json', rows: 20_000 },
    { execution: ids[2], state: 'completed', format: 'excel', rows: 3 },
  ])
  expect((await pawl(['list'])).stdout).toMatch(/All words +completed +csv +15000/)
  expect(((await asked(['log', ids[0] ?? ''])) as { lines: { message: string }[] }).lines.map(line => line.message)).toEqual([
    'asked for by admin',
    'begun by worker tester',
    'reading',
    'completed with 15000 rows',
  ])
  expect((await pawl(['log', ids[0] ?? ''])).stdout).toContain('asked for by admin')

  for (const id of ids) {
    const wanted = await fileOf(await readExecution(stage.query, id))
    const name = join(folder, id)
    expect(await asked(['get', id, '--to', name])).toEqual({ execution_id: id, file: name })
    expect((await readFile(name)).equals(wanted)).toBe(true)
  }
})

test('the file goes to standard output byte by byte, and nothing else does', async () => {
  const { id } = await stage.run(report)
  const wanted = await fileOf(await readExecution(stage.query, id))
  expect(wanted.length).toBeGreaterThan(1_000_000)
  const { code, stdout, stderr } = await pawl(['get', id])
  expect([code, stderr]).toEqual([0, ''])
  expect(stdout.length).toBeGreaterThan(1_000_000)
  const name = join(folder, 'piped')
  expect(await runPiped(id, name)).toBe(0)
  expect((await readFile(name)).equals(wanted)).toBe(true)
})

async function runPiped(id: string, name: string): Promise<number | null> {
  const bin = fileURLToPath(new URL('../../bin/pawl.ts', import.meta.url))
  const env = { ...process.env, DATABASE_URL: stage.db.url, PAWL_REPORT_STORE: stage.folder, NODE: process.execPath, BIN: bin, ID: id, NAME: name }
  const child = spawn('sh', ['-c', '"$NODE" "$BIN" report get "$ID" | cat > "$NAME"'], { env, stdio: 'inherit' })
  return new Promise(resolve => child.on('close', resolve))
}

test('a file that is there already is not overwritten, and none is left behind that is not whole', async () => {
  const { id, metadata } = await stage.run(report)
  const name = join(folder, 'mine')
  await writeFile(name, 'mine')
  const { code, stderr } = await pawl(['get', id, '--to', name])
  expect(code).toBe(2)
  expect(stderr).toMatch(/there is a file .*mine already.*\n {2}next:/)
  expect(await readFile(name, 'utf8')).toBe('mine')

  await rm(join(stage.folder, metadata.key ?? ''))
  const gone = await pawl(['get', id, '--to', join(folder, 'gone')])
  expect(gone.code).toBe(2)
  expect(gone.stderr).toMatch(/there is no file .*\n {2}next: it was removed, or written into another store/)
  await expect(readFile(join(folder, 'gone'))).rejects.toThrow('ENOENT')
})

test('a report is scheduled, by its name', async () => {
  expect(await asked(['schedule', 'All words', '2031-01-04 09:00+01'])).toEqual({ report_id: report, scheduled_at: '2031-01-04T08:00:00.000Z' })
  expect(await stage.query('select status, scheduled_at from reporting.reports where id = $1', [report])).toEqual([
    { status: 'scheduled', scheduled_at: new Date('2031-01-04T08:00:00Z') },
  ])
})

test.each([
  [[], 'what to do is missing'],
  [['dance'], 'report has no verb "dance"'],
  [['run'], 'the report is missing'],
  [['run', 'All words'], '--as is missing'],
  [['run', 'No words', '--as', 'admin'], 'there is no report "No words"'],
  [['run', 'Twice', '--as', 'admin'], 'more than one report is called "Twice"'],
  [['run', 'All words', '--as', 'nobody'], 'there is no user "nobody"'],
  [['run', NOBODY, '--as', 'admin'], `report ${NOBODY} does not exist`],
  [['run', 'All words', '--as', NOBODY], `user ${NOBODY} does not exist`],
  [['run', 'All words', '--as', 'stranger'], 'user "stranger" may not execute'],
  [['run', 'All words', '--as', 'admin', '--format', 'docx'], 'there is no output format "docx"'],
  [['run', 'All words', '--as', 'admin', '--parameters', '{most: 1}'], '--parameters is not JSON'],
  [['run', 'All words', '--as', 'admin', '--parameters', '[1]'], 'parameters must be a JSON object'],
  [['run', 'All words', '--as', 'admin', '--parameters', '{"least": 1}'], 'parameter "least" is not declared'],
  [['run', 'All words', '--as', 'admin', '--parameters', '{"most": "many"}'], 'parameter "most" must be of the type integer'],
  [['run', 'All words', '--loud'], 'there is no option --loud'],
  [['schedule', 'All words'], 'the time is missing'],
  [['schedule', 'All words', 'soon'], '"soon" is no time'],
  [['schedule', 'All words', '2031-02-30'], '"2031-02-30" is no time'],
  [['schedule', NOBODY, '2031-01-01'], `there is no report ${NOBODY}`],
  [['list', 'No words'], 'there is no report "No words"'],
  [['log'], 'the execution is missing'],
  [['log', NOBODY], `there is no execution ${NOBODY}`],
  [['get'], 'the execution is missing'],
  [['get', 'latest'], 'the execution must be an id such as'],
  [['get', NOBODY], `there is no execution ${NOBODY}`],
])('pawl report %j is refused: exit code 2, what is wrong and what to do', async (words, message) => {
  const { code, stdout, stderr } = await pawl(words)
  expect([code, stdout]).toEqual([2, ''])
  expect(stderr).toContain(message)
  expect(stderr).toContain('next:')
})

test('without a store nothing is executed and nothing fetched, and both say what is to be set', async () => {
  const { id } = await stage.run(report)
  const { code, stderr } = await pawl(['get', id], {})
  expect(code).toBe(2)
  expect(stderr).toMatch(/no place for reports is named.*\n {2}next: set PAWL_REPORT_STORE/)
  const other = await stage.ask(report)
  await workOne(executeReport, { ...stage.options, config: { ...stage.options.config, reportStore: undefined } })
  expect(await readExecution(stage.query, other)).toMatchObject({ status: 'failed', error_message: 'no place for reports is named' })
})

test('without DATABASE_URL, the file of a report of pawl dev is found where that keeps them', async () => {
  const dataDir = freshDirectory()
  const server = await start({ dataDir })
  const environment = { env: { PAWL_DATA_DIR: dataDir } }
  expect((await runPawl(['migrate', 'up'], server.url)).code).toBe(0)
  const people = await addPeople(text => ask(server.url, text))
  const query: ReportStage['query'] = (text, values = []) =>
    ask(
      server.url,
      values.reduce<string>((all, value, place) => all.replaceAll(`$${place + 1}`, `'${String(value)}'`), text),
    )
  const own = await addReport(query, people, { structure: {} })
  const key = `cli-report-test-${Math.random().toString(36).slice(2)}.csv`
  const [execution] = await ask<{ id: string }>(
    server.url,
    `insert into reporting.report_executions (report_id, executed_by, status, metadata) values ('${own}', '${people.admin}', 'completed', '{"key": "${key}"}') returning id`,
  )
  const reports = fileURLToPath(new URL('../../.pawl/reports', import.meta.url))
  await mkdir(reports, { recursive: true })
  await writeFile(join(reports, key), 'id\n1\n')
  onTestFinished(() => rm(join(reports, key)))
  expect(await runPawl(['report', 'get', execution?.id ?? ''], '', environment)).toEqual({ code: 0, stdout: 'id\n1\n', stderr: '' })
})
