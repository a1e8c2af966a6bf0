import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect, type DirectConnection } from '../../src/database.ts'
import { takeLease } from '../support/engine.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { type Night, openNight, readQuestions } from '../support/questions.ts'

let db: TestDatabase
let night: Night
let runs: Night['runs']
let observer: DirectConnection
let operator: DirectConnection
let questions: Awaited<ReturnType<typeof readQuestions>>

/** Runs the line of a question as it is printed, with `RUN` filled in. */
async function ask(number: number, run = '', login = observer): Promise<Record<string, unknown>[]> {
  const sql = questions.get(number)?.sql
  if (sql === undefined) throw new Error(`docs/operations.md has no question ${number}`)
  return login.query(sql.replaceAll('RUN', run))
}

beforeAll(async () => {
  questions = await readQuestions()
  db = await createDatabase()
  night = await openNight(db)
  runs = night.runs
  observer = await connectDirect(readConfig({ DATABASE_URL: night.urlOf('pawl_observer') }), 'questions observer')
  operator = await connectDirect(readConfig({ DATABASE_URL: night.urlOf('pawl_operator') }), 'questions operator')
})

afterAll(async () => {
  await observer.close()
  await operator.close()
  await night.end()
  await db.drop()
})

test('the document asks twelve, each with one line of SQL and one of the shell', () => {
  expect([...questions.keys()]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
  for (const { sql, shell } of questions.values()) {
    expect(sql).toMatch(/^select [^;]+;$/)
    expect(shell).toMatch(/^pawl /)
  }
})

test('1: which runs are stuck, since when and why', async () => {
  expect(await ask(1)).toEqual([{ run_id: runs.stuck, kind: 'override', since: expect.any(Date), reason: expect.stringMatching(/^no worker has opened it/) }])
})

test('2: why this one waits', async () => {
  expect(await ask(2, runs.stuck)).toEqual([{ why: expect.stringMatching(/^Waiting in queue overrides\.apply/) }])
})

test('3: who cancelled it, when and why', async () => {
  expect(await ask(3, runs.cancelled)).toEqual([
    { run_id: runs.cancelled, cancelled_by: new URL(night.urlOf('pawl_operator')).username, cancelled_at: expect.any(Date), cancel_reason: 'wrong settings' },
  ])
})

test('4: what fires in the next hour, and nothing later', async () => {
  expect(await ask(4)).toMatchObject([{ timer_type: 'START_CAMPAIGN' }])
})

test('5: how late timers were', async () => {
  expect(await ask(5)).toEqual([{ count: 1, median_ms: 1200, worst_ms: '1200.0' }])
})

test('6: which table is stale and why', async () => {
  expect(await ask(6)).toMatchObject([{ table: 'sqp.yearly_summary', reason: expect.stringMatching(/^it is due since \d{4}-.*plan-refresh/) }])
})

test('7: how far it is and when it will be done', async () => {
  expect(await ask(7, runs.running)).toEqual([{ done: 10, total: 20, percent: '50.0', rows_per_second: expect.anything(), eta: expect.any(Date) }])
})

test('8: which worker holds it', async () => {
  expect(await ask(8, runs.running)).toEqual([{ worker: 'night-shift', state: 'running', host: 'here', pid: process.pid, version: 'test' }])
})

test('9 and 10: what failed last night, and the statement that runs it again, which an observer may not call', async () => {
  expect(await ask(9)).toMatchObject([{ run_id: runs.failed, kind: 'override', error: 'the template is empty' }])
  await expect(ask(10, runs.failed)).rejects.toMatchObject({ code: '42501' })
  expect(await ask(10, runs.failed, operator)).toEqual([{ retry: true }])
  expect(await ask(9)).toEqual([])
})

test('11: whether the last backup is verified and partitions are ahead', async () => {
  const rows = await ask(11)
  expect(rows.map(({ check }) => check)).toEqual(expect.arrayContaining(['verified backup', 'audit partitions', 'state log partitions', 'report partitions']))
  expect(rows.every(({ ok }) => ok)).toBe(true)
})

test('12: whether to deploy now: what stands in the way, each in a row of its own', async () => {
  const checks = async (): Promise<Record<string, { ok: unknown; detail: unknown }>> =>
    Object.fromEntries((await ask(12)).map(row => [row.check, { ok: row.ok, detail: row.detail }]))
  await db.query(`select pawl.cancel($1)`, [runs.stuck])
  const calm = await checks()
  expect(Object.entries(calm).filter(([name, { ok }]) => !ok && name !== 'health')).toEqual([])
  expect(calm.runs?.detail).toMatch(/^1 running are handed over/)

  const migrator = await connectDirect(readConfig({ DATABASE_URL: db.url }), 'questions migrator')
  await migrator.query('select pg_advisory_lock(1885435756, 0)')
  expect((await checks()).migration).toMatchObject({ ok: false, detail: expect.stringMatching(/^process \d+ migrates/) })
  await migrator.close()

  const leaving = await takeLease(db, 'leaving')
  await db.query(`update pawl.leases set state = 'draining', version = 'next' where id = $1`, [leaving.id])
  const meanwhile = await checks()
  expect(meanwhile.draining).toEqual({ ok: false, detail: 'still draining: leaving; wait for them' })
  expect(meanwhile.ready).toMatchObject({ ok: false })
  await db.query(`update pawl.leases set state = 'running' where id = $1`, [leaving.id])
  await leaving.stop()

  const [backup] = await db.query<{ run: string }>('select pawl.request_backup() as run')
  await db.query(`select outcome from pawl.checkpoints c cross join lateral pawl.open_run(c.run_id, $2, c.job_id, 0, '10 seconds') o where c.run_id = $1`, [
    backup?.run,
    night.lease.id,
  ])
  expect((await checks())['backups in work']).toEqual({ ok: false, detail: `${backup?.run} would begin anew; wait for it` })
})

/** Statements in code spans and SQL blocks, with words such as PID in place of what one fills in. */
async function printedStatements(): Promise<string[]> {
  const text = await readFile(new URL('../../docs/operations.md', import.meta.url), 'utf8')
  const spans = [...text.replaceAll(/```sql\n[^`]*```/g, '').matchAll(/`((?:select|update|insert|delete) [^`]+)`/g)].map(([, span]) => span ?? '')
  const blocks = [...text.matchAll(/```sql\n([^`]*)```/g)].flatMap(([, block]) => (block ?? '').split(/;\s*/))
  return [...spans, ...blocks]
    .map(statement =>
      statement
        .trim()
        .replace(/;$/, '')
        .replaceAll(/\bPID\b/g, '1'),
    )
    .filter(statement => statement !== '')
}

test('every statement the document prints can be run by an operator: its tables, columns and functions are there and open to him', async () => {
  const statements = await printedStatements()
  expect(statements.length).toBeGreaterThan(90)
  const refused: unknown[] = []
  for (const statement of statements) {
    // What only producers may call is theirs.
    const login = /pawl\.(revert_override|schedule_timer)\(/.test(statement) ? db : operator
    try {
      await login.query(`explain ${statement}`)
      // EXPLAIN looks at the rights of tables only; functions are looked at by name.
      for (const [, name] of statement.matchAll(/\b(pawl\.\w+)\(/g)) {
        const [may] = await login.query<{ may: boolean }>(`select has_function_privilege(to_regproc($1)::oid, 'execute') as may`, [name])
        if (may?.may !== true) refused.push({ statement, name })
      }
      if (!/\(/.test(statement.replaceAll(/\b(count|max|left|now)\(/g, '')) && /^select .* from /.test(statement))
        await login.query(`select from (${statement}) as asked limit 1`)
    } catch (error) {
      refused.push({ statement, error: String(error) })
    }
  }
  expect(refused).toEqual([])
})
