import { afterAll, beforeAll, expect, test } from 'vitest'
import { consoleQueries, explain, scannedWhole } from '../support/console.ts'
import { fillHistory, readHistory } from '../support/history.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'

// How the views are read, on a history that is large enough for the planner to prefer its indexes; test/crash/console.test.ts measures them on millions.
let db: TestDatabase
let queries: Record<string, string>

beforeAll(async () => {
  db = await createDatabase()
  await fillHistory(db, 12_000)
  await db.query(
    'vacuum (analyze) pawl.checkpoints, pawl.lanes, pawl.refresh_steps, public.campaign_timers, public.timer_executions, public.system_maintenance_log, pgboss.job_common, reporting.report_executions',
  )
  queries = consoleQueries(await readHistory(db.query))
})

afterAll(() => db.drop())

test('no question that an operator asks reads a table of the history from one end to the other', async () => {
  const whole: Record<string, string[]> = {}
  for (const [name, sql] of Object.entries(queries)) {
    const scanned = scannedWhole(await explain(db.query, sql))
    if (scanned.length > 0) whole[name] = scanned
  }
  expect(whole).toEqual({})
})

test('the check finds such a reading', async () => {
  expect(scannedWhole(await explain(db.query, `select * from pawl.runs where subject = 'past 7'`))).toEqual(['checkpoints', 'campaign_timers'])
})

test('the newest runs, and those of a state, come from the indexes of both halves in their order, without a sort', async () => {
  const types = (plan: Awaited<ReturnType<typeof explain>>): string[] => [plan['Node Type'], ...(plan.Plans ?? []).flatMap(types)]
  for (const name of ['runs: the newest', 'runs: failed last', 'runs: cancelled last', 'failures: the newest']) {
    const plan = types(await explain(db.query, queries[name] ?? ''))
    expect([name, plan[0], plan.includes('Merge Append')]).toEqual([name, 'Limit', true])
  }
})

test('batches leave the indexes of their run alone: what they update is in none, so the new row stays on its page', async () => {
  const rows = await db.query<{ column: string }>(
    `select distinct a.attname as column from pg_index i
     join pg_attribute a on a.attrelid = i.indrelid and (a.attnum = any (i.indkey) or pg_get_indexdef(i.indexrelid) ~ ('\\m' || a.attname || '\\M'))
     where i.indrelid in ('pawl.checkpoints'::regclass, 'pawl.lanes'::regclass)
       and a.attname in ('done', 'batch', 'updated_at', 'cursor', 'epoch', 'total', 'owner', 'last_owner', 'opened_at')`,
  )
  expect(rows).toEqual([])
})
