import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { takeLease } from '../support/engine.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { addPeople, addReport, type People } from '../support/reports.ts'

// What is no run itself: pawl.why speaks of the runs that it had, has or will have.
let db: TestDatabase
let people: People

beforeAll(async () => {
  db = await createDatabase()
  people = await addPeople(db.query)
})

afterAll(() => db.drop())

/** What pawl.why says: one line, without holes where a value was missing. */
async function why(id: string): Promise<string> {
  const text = await one<string>('select pawl.why($1)', [id])
  expect(text).toMatch(/^[A-Z].*\.$/)
  expect(text).not.toMatch(/\bnull\b| {2}|\(\)|%/)
  return text
}

const one = async <Value>(sql: string, values: unknown[] = []): Promise<Value> => Object.values((await db.query(sql, values))[0] ?? {})[0] as Value

describe('a report, by its own id', () => {
  const schedule = async (due: string, name = 'Night figures') => {
    const id = await addReport(db.query, people, { name, structure: { source: 'public.users', columns: ['id'] } })
    await db.query(`update reporting.reports set status = 'scheduled', scheduled_at = now() + $2::interval where id = $1`, [id, due])
    return id
  }

  test('that is scheduled: says when it is executed, and what stands in its way once it is due', async () => {
    expect(await why(await schedule('1 hour'))).toMatch(/^Report Night figures is executed at \d{4}-.*, in 00:59:5\d\.$/)
    const due = await schedule('-1 second', 'Morning figures')
    expect(await why(due)).toMatch(/is due since \d{4}-.*, but no worker is running for queue reports\.execute; start one with "pawl work"\.$/)
    const lease = await takeLease(db, 'printer', ['reports.execute'])
    expect(await why(due)).toMatch(/is due since .*; a worker starts it within moments\.$/)
    await lease.stop()
    await db.query(`select pawl.pause('reports.execute')`)
    expect(await why(due)).toMatch(/queue reports\.execute is paused; select pawl\.resume\('reports\.execute'\)/)
  })

  test('that is not scheduled, or could not be started: says so, with the error and the execution', async () => {
    const id = await addReport(db.query, people, { name: 'Idle', structure: { source: 'public.users', columns: ['id'] } })
    expect(await why(id)).toMatch(/^Report Idle is \w+ and not scheduled; its last execution is none yet\.$/)
    const execution = await one<string>(
      `insert into reporting.report_executions (report_id, executed_by, status, completed_at, error_message) values ($1, $2, 'failed', now(), 'its owner has left') returning id`,
      [id, people.admin],
    )
    expect(await why(execution)).toMatch(/^It could not be started, and failed at \d{4}-.*: its owner has left\. Mend that/)
    expect(await why(id)).toContain(`its last execution is failed: select pawl.why('${execution}').`)
  })
})

describe('a refreshed table, by its name', () => {
  const change = (set: string) => db.query(`update sqp.refresh_config set ${set} where table_name = 'yearly_summary'`)

  test('says why it is stale or fresh, as pawl.tables does', async () => {
    expect(await why('sqp.yearly_summary')).toMatch(/^Table sqp\.yearly_summary: it has no source and is never planned/)
    await change(`custom_sync_params = '{"source": "sql", "query": "select 1"}', next_refresh_at = now() - interval '1 minute'`)
    expect(await why('yearly_summary')).toMatch(/: it is due since \d{4}-.*plan-refresh takes it within a minute/)
    await db.query(`select pawl.pause('refresh.load')`)
    expect(await why('yearly_summary')).toMatch(/: it is due since .*, and queue refresh\.load is paused\.$/)
    await db.query('select pawl.refresh_table($1)', ['yearly_summary'])
    const run = await one<string>(`select run_id from pawl.tables where "table" = 'sqp.yearly_summary'`)
    expect(await why('yearly_summary')).toBe(`Table sqp.yearly_summary: it is planned and waits: select pawl.why('${run}').`)
    await db.query(`select pawl.finish($1, null, 'failed', 'the source is gone')`, [run])
    expect(await why('yearly_summary')).toBe(
      `Table sqp.yearly_summary: its last refresh failed: the source is gone; mend that, then select pawl.retry('${run}').`,
    )
    await change('is_enabled = false')
    expect(await why('yearly_summary')).toMatch(/: it is disabled: update sqp\.refresh_config/)
  })
})

test('a name that nothing bears: says where runs are listed, and that old ones were pruned', async () => {
  for (const id of ['nothing', '00000000-0000-4000-8000-000000000000'])
    expect(await why(id)).toMatch(new RegExp(`^There is no run "${id}"; select run_id, subject from pawl\\.runs .*pruned`))
})
