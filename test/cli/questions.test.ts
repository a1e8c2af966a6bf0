import { afterAll, beforeAll, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { runPawl } from '../support/process.ts'
import { type Night, openNight, readQuestions } from '../support/questions.ts'
import { shellWords } from '../support/shell-words.ts'

type Row = Record<string, unknown>

const questions = await readQuestions()
let db: TestDatabase
let night: Night

beforeAll(async () => {
  db = await createDatabase()
  night = await openNight(db)
})

afterAll(async () => {
  await night.end()
  await db.drop()
})

/** The same answer twice: of the line of SQL, and of a process with the line of the shell, both by a login of that role. */
async function both(number: number, run: string, role: string, between = async () => {}) {
  const { sql, shell } = questions.get(number) ?? { sql: '', shell: '' }
  const connection = await connectDirect(readConfig({ DATABASE_URL: night.urlOf(role) }), 'questions')
  const rows = await connection.query<Row>(sql.replaceAll('RUN', run))
  await connection.close()
  await between()
  const { code, stdout, stderr } = await runPawl([...shellWords(shell.replaceAll('RUN', run)).slice(1), '--json'], night.urlOf(role))
  expect(stderr).toBe('')
  return { rows: JSON.parse(JSON.stringify(rows)) as Row[], answer: JSON.parse(stdout) as Answer, code }
}

/** The columns of the SQL, out of what the command knows more of. */
const like = (rows: Row[], told: Row[] = []) => told.map(row => Object.fromEntries(Object.keys(rows[0] ?? {}).map(column => [column, row[column]])))

/** What a command answers to a machine: rows under a name of their own. */
type Answer = { [rows in 'stuck' | 'timers' | 'tables' | 'failures' | 'checks']?: Row[] } & { run: Row; worker: Row; ok: boolean; why: string }
type Asked = { run?: keyof Night['runs']; told(answer: Answer): Row[] | undefined; atLeast?: number }

const asked: Record<number, Asked> = {
  1: { told: ({ stuck }) => stuck },
  2: { run: 'stuck', told: answer => [answer] },
  3: { run: 'cancelled', told: ({ run }) => [run] },
  4: { told: ({ timers }) => timers },
  5: { told: ({ timers }) => timers },
  6: { told: ({ tables }) => tables },
  8: { run: 'running', told: ({ worker }) => [{ ...worker, worker: worker.name }] },
  9: { told: ({ failures }) => failures },
  11: { told: ({ checks }) => checks, atLeast: 4 },
}

for (const [number, { run, told, atLeast = 1 }] of Object.entries(asked)) {
  const { question, shell } = questions.get(Number(number)) ?? {}
  test(`${number}. ${question} ${shell} tells an observer what the SQL tells`, async () => {
    const look = () => both(Number(number), run === undefined ? '' : night.runs[run], 'pawl_observer')
    let { rows, answer, code } = await look()
    // On a machine that has too much to do, the worker's lease may fall silent between the two looks, or be heard again.
    for (let looks = 1; looks < 3 && JSON.stringify(like(rows, told(answer))) !== JSON.stringify(rows); looks += 1) ({ rows, answer, code } = await look())
    expect(rows.length).toBeGreaterThanOrEqual(atLeast)
    expect(like(rows, told(answer))).toEqual(rows)
    expect(code).toBe(0)
  })
}

test('7. how far it is, and when it will be done: rate and time left are as of each look', async () => {
  const { rows, answer, code } = await both(7, night.runs.running, 'pawl_observer')
  // As time goes on without a batch, the rate falls, below one at last; then nobody knows when it will be done.
  const moment = ({ rows_per_second: rate, eta, ...row }: Row) => ({ ...row, knows: Number(rate) > 0 === (eta !== null) })
  expect(code).toBe(0)
  expect(like(rows, [answer.run]).map(moment)).toEqual([{ done: 10, total: 20, percent: '50.0', knows: true }])
  expect(rows.map(moment)).toEqual([{ done: 10, total: 20, percent: '50.0', knows: true }])
})

test('10. run it again: an operator may, an observer hears which role it takes', async () => {
  const { failed } = night.runs
  const again = async () => void (await db.query(`select pawl.finish($1, null, 'failed', 'the template is empty')`, [failed]))
  const { rows, answer, code } = await both(10, failed, 'pawl_operator', again)
  expect([rows, answer, code]).toEqual([[{ retry: true }], { retry: failed, done: true }, 0])
  expect(await db.query('select state from pawl.runs where run_id = $1', [failed])).toEqual([{ state: 'pending' }])
  const denied = await runPawl(['retry', failed], night.urlOf('pawl_observer'))
  expect([denied.code, denied.stderr]).toEqual([
    2,
    expect.stringMatching(/permission denied for function retry \(42501\)\n {2}next: this needs the role pawl_operator/),
  ])
})

test('12. whether to deploy: the same lines, and an exit code that says it to a pipeline', async () => {
  const { rows, answer, code } = await both(12, '', 'pawl_observer')
  // Seconds and bytes go on between the two looks.
  const still = (row: Row) => ({ ...row, detail: String(row.detail).replaceAll(/\d+/g, 'N') })
  expect(rows.length).toBeGreaterThan(5)
  expect(like(rows, answer.checks).map(still)).toEqual(rows.map(still))
  expect([answer.ok, code]).toEqual(rows.every(row => row.ok) ? [true, 0] : [false, 1])
})

test('every question of the document is asked here', () => {
  expect([...Object.keys(asked).map(Number), 7, 10, 12].sort((a, b) => a - b)).toEqual([...questions.keys()])
})
