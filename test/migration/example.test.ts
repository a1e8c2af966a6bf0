import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { upgrade } from '../../bin/commands/migrate.ts'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { migrateDown, migrateUp, migrationsDir, verifyMigrations } from '../../src/migrate.ts'
import { readMigrations } from '../../src/migrate/files.ts'
import { backfill } from '../../workers/maintenance/backfill.ts'
import { handlerOptions, takeLease, workAll } from '../support/engine.ts'
import { createDatabase, silent } from '../support/postgres.ts'
import { addPeople, addReport } from '../support/reports.ts'
import { catalog } from './catalog.ts'
import { lint } from './lint.ts'

const guide = fileURLToPath(new URL('../../docs/migrations.md', import.meta.url))
const FIRST = '9001_add_new_feature_flag'
const REQUESTED = '9002_backfill_new_feature_flag'
const LAST = '9003_require_new_feature_flag'

/** The project's files, and behind them those that docs/migrations.md prints. */
async function printedFiles(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'pawl-example-'))
  onTestFinished(() => rm(dir, { recursive: true, force: true }))
  await cp(migrationsDir(readConfig({})), dir, { recursive: true })
  const text = await readFile(guide, 'utf8')
  for (const [, name, sql] of text.matchAll(/```sql\n-- (\S+\.sql)\n([\s\S]*?)```/g)) await writeFile(join(dir, name ?? ''), sql ?? '')
  const path = join(dir, 'meta', '_journal.json')
  const journal = JSON.parse(await readFile(path, 'utf8')) as { entries: object[] }
  for (const [place, tag] of [FIRST, REQUESTED, LAST].entries()) {
    journal.entries.push({ idx: 9000 + place, version: '7', when: 1_900_000_000_000 + place, tag, breakpoints: true })
  }
  await writeFile(path, JSON.stringify(journal))
  return dir
}

async function openExample(options: { empty?: boolean } = {}) {
  const db = await createDatabase(options)
  onTestFinished(db.drop)
  const config = readConfig({ DATABASE_URL: db.url })
  return { db, query: db.query, config, context: { config, log: silent, clock: systemClock, dir: await printedFiles() } }
}

test("the guide's column comes in three files, while rows come and go: nobody waits, none is without it in the end, and all of it can be taken back", async () => {
  const { db, query, context } = await openExample()
  const migrations = await readMigrations(context.dir)
  expect(migrations.problems).toEqual([])
  expect(lint(migrations).filter(finding => finding.tag.includes('new_feature_flag'))).toEqual(
    [{ tag: `down/${LAST}`, rule: 'down-not-repeatable', about: 'public.campaigns', line: 1 }].slice(1),
  )
  await query('insert into campaigns (duration_hours) select 24 from generate_series(1, 3000)')
  const before = await catalog(query)
  // Without the last, as the release before has it.
  await migrateUp(context, { to: REQUESTED })
  const flags = () => query('select new_feature_flag as flag, count(*) as campaigns from campaigns group by 1 order by 1')
  expect(await flags()).toEqual([{ flag: null, campaigns: 3000 }])
  await query('insert into campaigns (duration_hours) values (1)')
  await query('update campaigns set new_feature_flag = false where id = (select id from campaigns where new_feature_flag is null limit 1)')
  await expect(migrateUp(context)).rejects.toMatchObject({
    code: 'migrate.failed',
    message: expect.stringContaining('backfill backfill:new_feature_flag is not done: it is pending with 0 of about'),
    hint: expect.stringContaining(`select pawl.why('backfill:new_feature_flag')`),
  })

  const lease = await takeLease(db, 'tester', ['maintenance.backfill'])
  onTestFinished(() => lease.stop())
  expect(await workAll(backfill, handlerOptions(db, lease))).toEqual(['completed'])
  expect((await migrateUp(context)).map(move => move.tag)).toEqual([LAST])
  expect(await flags()).toEqual([
    { flag: false, campaigns: 1 },
    { flag: true, campaigns: 3000 },
  ])
  await expect(query('insert into campaigns (duration_hours, new_feature_flag) values (1, null)')).rejects.toMatchObject({ code: '23502' })
  expect(await verifyMigrations(context)).toEqual({ ok: true, problems: [] })

  const after = await catalog(query)
  await migrateDown(context, { steps: 3, allowDataLoss: true })
  expect(await catalog(query)).toEqual(before)
  await migrateUp(context, { to: REQUESTED })
  expect(await workAll(backfill, handlerOptions(db, lease))).toEqual(['completed'])
  await migrateUp(context)
  expect(await catalog(query)).toEqual(after)
})

test('a new database takes all of it in one go', async () => {
  const { query, config, context } = await openExample({ empty: true })
  await upgrade({ ...config, migrationsDir: context.dir }, silent)
  expect(await query(`select pawl.backfill_done('new_feature_flag') as done`)).toEqual([{ done: true }])
})

test("document 001's batched data migration, as the guide has it", async () => {
  const { db, query } = await openExample()
  const sql = /```sql\n(select pawl\.request_backfill\('reporting\.reports'[\s\S]*?)```/.exec(await readFile(guide, 'utf8'))?.[1] ?? ''
  const people = await addPeople(query)
  for (const name of ['One', 'Two', 'Three']) await addReport(query, people, { name, structure: { source: 'public.users', columns: ['id'] } })
  await query(`alter table reporting.reports alter column status drop not null; update reporting.reports set status = null where name <> 'Two'`)
  await query(sql)
  const lease = await takeLease(db, 'tester', ['maintenance.backfill'])
  onTestFinished(() => lease.stop())
  expect(await workAll(backfill, handlerOptions(db, lease))).toEqual(['completed'])
  expect(await query(`select done from pawl.runs where kind = 'backfill'`)).toEqual([{ done: 2 }])
  expect(await query(`select count(*) as n from reporting.reports where status is null`)).toEqual([{ n: 0 }])
})
