import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { Query } from '../../src/database.ts'
import { CHECKS, checkFiles, checkRows } from '../faults/check.ts'
import { prepareLoad, startLoad } from '../faults/load.ts'
import { fallen, SNAPSHOT_CHECKS } from '../faults/sampler.ts'
import { castShadows } from '../faults/shadow.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { until } from '../support/until.ts'
import { openStage } from './stage.ts'

const TIMERS = 'timers: each fires once, in order, never early'

const anOverride = `(select min(operation_id) from public.category_override_operations where status = 'COMPLETED')`
const lastOverride = `(select operation_id from public.category_override_operations where processed_recipients > 0 order by id desc limit 1)`

/** For each check, what it has to find: rows as a product that breaks its word would leave them. */
const BAD_ROWS: readonly (readonly [check: string, done: string])[] = [
  ['conservation: what was acknowledged is there', `insert into faults.acknowledged (kind, id) values ('override', 'ovr_0')`],
  ['conservation: what was acknowledged is there', `insert into faults.acknowledged (kind, id) values ('health', gen_random_uuid())`],
  [
    'conservation: what was acknowledged is there',
    `delete from public.campaign_timers where id = (select min(id::text)::uuid from public.campaign_timers where payload ? 'ours')`,
  ],
  ['conservation: every run has ended', `update pawl.checkpoints set state = 'pending', finished_at = null where run_id = ${anOverride}`],
  [
    'conservation: operations end as they were asked to',
    `update public.category_override_operations set status = 'CANCELLED' where operation_id = ${anOverride}`,
  ],
  [
    'conservation: each recipient once',
    `insert into faults.writes (operation_id, recipients, worker, holder) select operation_id, recipients[1:1], worker, holder from faults.writes limit 1`,
  ],
  ['conservation: each recipient once', 'delete from faults.writes where place = (select min(place) from faults.writes)'],
  [
    'conservation: the rows carry their last operation',
    `update public.category_recipient_settings set settings = '{}' where id = (select max(id) from public.category_recipient_settings where updated_by_operation = ${lastOverride})`,
  ],
  [
    'conservation: one audit row a change',
    `update public.category_override_audit set affected_recipients_count = affected_recipients_count - 1 where operation_id = ${anOverride}`,
  ],
  ['conservation: one audit row a change', `delete from public.category_override_audit where operation_id = ${anOverride}`],
  ['conservation: one audit row a change', `update public.categories set override_count = override_count + 1`],
  ['conservation: one audit row a change', `delete from sqp.refresh_audit_log where status = 'success'`],
  ['conservation: one audit row a change', `delete from reporting.audit_logs where action = 'export'`],
  ['conservation: one audit row a change', `update reporting.reports set execution_count = execution_count + 1`],
  ['conservation: each backfill changed each row once', 'update public.faults_counters set n = n + 1 where id = 7'],
  ['conservation: health was looked at', `delete from public.system_maintenance_log where operation = 'health_check'`],
  ['conservation: tables are what their sources are', 'update sqp.raw set amount = amount + 1 where id = 7'],
  ['conservation: tables are what their sources are', 'delete from sqp.summary where id = 7'],
  ['conservation: nothing is in a dead letter queue', `select pawl.enqueue('overrides.apply.dead', '{"run_id": "ovr_1"}')`],
  ['conservation: a fault is no failure of the work', `update pawl.checkpoints set failures = 1 where run_id = ${anOverride}`],
  [
    'order: operations of a category one after another',
    `update faults.writes set at = at - interval '1 hour' where operation_id = (select max(operation_id) from faults.writes where place = (select max(place) from faults.writes))`,
  ],
  ['order: a table after what it is made of', `update faults.published set at = at - interval '1 hour' where table_name = 'daily'`],
  ['order: the batches of a lane', `update faults.batches set epoch = epoch - 1 where place = (select max(place) from faults.batches where batch > 1)`],
  ['order: the batches of a lane', `delete from faults.batches where place = (select max(place) from faults.batches where batch = 3)`],
  ['order: the batches of a lane', `update faults.batches set before = '{"after": 0}' where place = (select max(place) from faults.batches where batch = 3)`],
  ['fences: who writes is who holds the run', `update faults.writes set worker = 'zombie' where place = (select min(place) from faults.writes)`],
  ['fences: who writes is who holds the run', `update faults.batches set holder = null where place = (select min(place) from faults.batches)`],
  ['fences: who writes is who holds the run', `update faults.published set holder = 'another' where table_name = 'shop'`],
  [
    'fences: what the lanes say is what was written',
    `update faults.batches set rows = rows + 1 where place = (select min(place) from faults.batches where run_id = ${anOverride})`,
  ],
  [
    TIMERS,
    `insert into public.timer_executions (timer_id, status, started_at, completed_at) select timer_id, status, started_at, completed_at from public.timer_executions limit 1`,
  ],
  [TIMERS, `delete from pgboss.job where name = 'campaign.started'`],
  [TIMERS, `update public.campaign_timers set executed_at = scheduled_at - interval '1 ms' where payload ? 'ours'`],
  [
    'progress is what the rows say',
    `update public.category_override_operations set status = 'PROCESSING', processed_recipients = processed_recipients - 1, completed_at = null where operation_id = ${lastOverride}`,
  ],
  ['no more is done than there is', `update pawl.checkpoints set total = 1 where run_id = ${anOverride}`],
  [
    'nothing is completed that lacks rows',
    `delete from public.category_recipient_settings where recipient_id = (select min(recipient_id) from public.category_recipient_settings)`,
  ],
  [
    'one operation of a category at a time',
    `drop index public.operations_one_processing_per_category; update public.category_override_operations set status = 'PROCESSING', completed_at = null`,
  ],
  ['a backfill has changed what it says', 'update public.faults_counters set n = n - 1 where id = 7'],
  ['a refreshed table is whole', 'update sqp.shop set version = version - 1 where id = 7'],
  ['no table is newer than what it is made of', 'update sqp.daily set version = version + 1'],
  ['a report that is completed has its file', `update reporting.report_executions set output_url = null where status = 'completed'`],
  ['nothing fails', `update pawl.checkpoints set state = 'failed', error = 'division by zero' where run_id = ${anOverride}`],
]

class Undo extends Error {}

/** What the checks say of the database as `done` would leave it; it stays as it is. */
async function breachesAfter(db: TestDatabase, done: string): Promise<Set<string>> {
  let found = new Set<string>()
  const trial = db.transact(async query => {
    // No trigger or constraint of the product stands in the way: it is the product that is supposed to be broken.
    await query('set local session_replication_role = replica')
    await query(done)
    found = new Set((await checkRows(query)).map(breach => breach.check))
    throw new Undo()
  })
  await trial.catch((error: unknown) => {
    if (!(error instanceof Undo)) throw error
  })
  return found
}

/** A database on which all domains have worked, and rest; and where its reports are. */
async function openWorked(): Promise<{ db: TestDatabase; folder: string }> {
  const { db, query, start } = await openStage()
  const shop = await createDatabase({ empty: true })
  onTestFinished(() => shop.drop())
  const folder = mkdtempSync(join(tmpdir(), 'pawl-faults-check-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  await castShadows(query)
  const cast = await prepareLoad(query, shop.query, 'pawl_worker')
  await start({ env: { PAWL_SOURCE_SHOP: shop.url, PAWL_REPORT_STORE: folder } })
  const load = startLoad({ own: db.url, shop: shop.url }, query, cast)
  await until('each domain has done something', () => haveWorked(query), 120_000)
  await load.stop()
  await query(`select pawl.refresh_table('sqp.raw', 'none', true), pawl.refresh_table('sqp.shop', 'none')`)
  await until('all is done', () => isQuiet(query), 120_000)
  return { db, folder }
}

async function haveWorked(query: Query): Promise<boolean> {
  const [row] = await query<{ kinds: number; overrides: number; formats: number; shop: number }>(
    `select (select count(distinct kind) from pawl.checkpoints where state = 'completed') as kinds,
       (select count(*) from pawl.checkpoints where kind = 'override' and state = 'completed') as overrides,
       (select count(*) from pawl.checkpoints where kind = 'refresh' and subject = 'sqp.shop' and state = 'completed') as shop,
       (select count(distinct output_format) from reporting.report_executions where status = 'completed') as formats`,
  )
  return row !== undefined && row.kinds >= 4 && row.overrides >= 9 && row.formats >= 2 && row.shop > 0
}

async function isQuiet(query: Query): Promise<boolean> {
  const [row] = await query<{ n: number }>(
    `select (select count(*) from pawl.checkpoints where state in ('pending', 'running')) + (select count(*) from pgboss.job where name = 'maintenance.health' and state < 'completed')
       + (select count(*) from public.campaign_timers where payload ? 'ours' and status in ('PENDING', 'RUNNING')) as n`,
  )
  return row?.n === 0
}

test('the checker finds nothing in rows and files that are right, and each thing that is wrong', async () => {
  const { db, folder } = await openWorked()
  expect(await checkRows(db.query)).toEqual([])
  expect(await checkFiles(db.query, folder)).toEqual([])

  const missed: string[] = []
  for (const [check, done] of BAD_ROWS) if (!(await breachesAfter(db, done)).has(check)) missed.push(`${check}: ${done}`)
  expect(missed).toEqual([])
  const tried = new Set(BAD_ROWS.map(([check]) => check))
  expect([...Object.keys(CHECKS), ...Object.keys(SNAPSHOT_CHECKS)].filter(check => !tried.has(check))).toEqual([])

  const csv = readdirSync(folder).find(name => name.endsWith('.csv')) ?? ''
  const whole = readFileSync(join(folder, csv), 'utf8')
  const spoiled: readonly (readonly [finding: RegExp, spoil: (place: string) => void])[] = [
    [/is missing/, place => rmSync(join(place, csv))],
    [/is nobody's/, place => writeFileSync(join(place, 'stray.csv'), '')],
    [/another checksum/, place => writeFileSync(join(place, csv), whole.replace('EU', 'UE'))],
    [/bytes, not/, place => writeFileSync(join(place, csv), `${whole}x`)],
    [/rows, not/, place => writeFileSync(join(place, csv), whole.slice(0, whole.length >> 1))],
    [/row 2 is/, place => writeFileSync(join(place, csv), whole.replace(/\n2,/, '\n1,'))],
    [/it shows edition -1/, place => writeFileSync(join(place, csv), whole.replace(/\n2,(\w+),\d+/, '\n2,$1,-1'))],
  ]
  for (const [finding, spoil] of spoiled) {
    const place = `${folder}-spoiled`
    mkdirSync(place)
    cpSync(folder, place, { recursive: true })
    spoil(place)
    const findings = await checkFiles(db.query, place)
    rmSync(place, { recursive: true })
    expect(findings.map(breach => breach.what)).toContainEqual(expect.stringMatching(finding))
  }

  const high: Parameters<typeof fallen>[1] = new Map()
  expect(await fallen(db.query, high)).toEqual([])
  await db.query(`update pawl.checkpoints set state = 'cancelled', done = 1, total = 3 where run_id = ${anOverride}`)
  expect(await fallen(db.query, high)).toEqual([expect.stringContaining('33.3 % after 100 %')])
})
