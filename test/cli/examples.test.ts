import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import { commands } from '../../bin/commands/index.ts'
import { run } from '../../bin/run.ts'
import { loadOverrideSample } from '../../workers/overrides/sample.ts'
import { refreshSample } from '../../workers/refresh/sample-tables.ts'
import { loadReportSample } from '../../workers/reports/sample.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { shellWords } from '../support/shell-words.ts'

/** Daemons, and what needs PostgreSQL's own tools, have tests of their own; that their examples are understood, test/unit/parse.test.ts shows. */
const elsewhere = /^pawl (work|dev|pages|backup|restore|backups --verify)\b/
/** These say by their exit code what they found. */
const findings: Readonly<Record<string, number[]>> = { health: [0, 1], 'deploy-check': [0, 1], optimize: [0, 1, 3] }
/** They take the schema away, so they come last. */
const last = /^pawl migrate down/

let db: TestDatabase
let folder: string
const known: Record<string, string> = {}

beforeAll(async () => {
  db = await createDatabase()
  folder = await mkdtemp(join(tmpdir(), 'pawl-examples-'))
  await loadOverrideSample(db)
  await loadReportSample(db)
  const refresh = await refreshSample(db, folder)
  const one = async (text: string, values: unknown[] = []) => Object.values((await db.query(text, values))[0] ?? {})[0] as string
  known['refresh:7:'] = `refresh:${refresh}:`
  known['6f1c2d3e-0000-4000-8000-000000000000'] = await one(`select pawl.create_campaign(48, now() + interval '1 day')`)
  known['7a1c2d3e-0000-4000-8000-000000000000'] = await one('select id from campaign_timers limit 1')
  await writeFile(join(folder, 'example-of-an-export-0001.csv'), 'query\n')
  known['8b1c2d3e-0000-4000-8000-000000000000'] = await one(
    `insert into reporting.report_executions (report_id, executed_by, status, metadata)
     select r.id, u.id, 'completed', '{"key": "example-of-an-export-0001.csv"}' from reporting.reports r, reporting.users u where u.username = 'ada' limit 1 returning id`,
  )
  known['--to queries.csv'] = `--to ${join(folder, 'queries.csv')}`
})

afterAll(async () => {
  await rm(folder, { recursive: true, force: true })
  await db.drop()
})

afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

/** Runs the line in this process: starting one for each would take minutes. Watching is for test/unit/watch.test.ts. */
async function runLine(line: string): Promise<{ code: number; stdout: string; stderr: string }> {
  vi.stubEnv('DATABASE_URL', db.url)
  // The embedded server has no pg_dump: what deletes data goes without a backup here.
  vi.stubEnv('BACKUP_DIR', last.test(line) ? '' : folder)
  vi.stubEnv('PAWL_REPORT_STORE', folder)
  const said = { stdout: '', stderr: '' }
  vi.spyOn(process.stdout, 'write').mockImplementation(text => Boolean((said.stdout += String(text))))
  vi.spyOn(process.stderr, 'write').mockImplementation(text => Boolean((said.stderr += String(text))))
  const real = Object.entries(known).reduce((all, [example, own]) => all.replaceAll(example, own), line)
  const words = shellWords(real.replace(/ --watch( \d+)?/, '')).slice(1)
  const code = await run(commands, words)
  return { code, ...said }
}

/** The runs that examples steer are put there just before: each of them changes what the others find. */
async function prepare(name: string, example: string): Promise<void> {
  const step = `${known['refresh:7:']}sqp.weekly_summary`
  if (name === 'retry' && example.includes('refresh:7')) await db.query(`select pawl.finish($1, null, 'failed', 'for the example')`, [step])
  const [made] = await db.query<{ id: string }>('select pawl.request_override(3, 1) as id')
  known.ovr_42 = made?.id ?? ''
  if (name === 'retry' || name === 'override') await db.query('select pawl.cancel($1)', [made?.id])
}

const examples = Object.entries(commands).flatMap(([name, { forms }]) => forms.flatMap(form => form.examples.map(example => ({ name, example }))))
const runnable = examples.filter(({ example }) => !elsewhere.test(example)).sort((a, b) => Number(last.test(a.example)) - Number(last.test(b.example)))

test.each(runnable)('$example', async ({ name, example }) => {
  if (/ovr_42|refresh:7/.test(example)) await prepare(name, example)
  const { code, stdout, stderr } = await runLine(example)
  expect(findings[name] ?? [0], `${stdout}${stderr}`).toContain(code)
  expect(stdout).toMatch(/\S/)
  if (example.includes('--json')) expect(() => JSON.parse(stdout) as unknown).not.toThrow()
})
