import { afterAll, beforeAll, expect, test } from 'vitest'
import { openDatabase } from '../../src/database.ts'
import { archive } from '../../workers/maintenance/archive.ts'
import { addAudit, AUDIT, AUDIT_MONTH, archiveOf, openArchiveStage, planArchives, RUN } from '../support/archives.ts'
import { handlerOptions, takeLease, workAll, workOne } from '../support/engine.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { runPawl, startWorker } from '../support/process.ts'
import { addPeople, type People } from '../support/reports.ts'
import { leastStall, stallOf } from '../support/stall.ts'

const OURS = ['public.campaign_state_log', 'public.category_override_audit', 'reporting.audit_logs', 'reporting.report_executions']
/** What others may notice of it at most. */
const STALL_MS = 100

let db: TestDatabase
let people: People

beforeAll(async () => {
  db = await createDatabase()
  people = await addPeople(db.query)
})

afterAll(() => db.drop())

const insert = () => `insert into reporting.audit_logs (organization_id, action, resource_type) values ('${people.organization}', 'read', 'report')`

test('every table that is partitioned by time is listed, with the real bounds of its months', async () => {
  const rows = await db.query<{ parent: string; ahead: number; state: string }>(
    `select parent, ahead, state from pawl.partitions where ahead >= 0 order by parent, ahead`,
  )
  expect(rows).toEqual(OURS.flatMap(parent => [0, 1, 2, 3].map(ahead => ({ parent, ahead, state: 'attached' }))))
  expect(await db.query(`select from_at, to_at, ahead < -20 as old from pawl.partitions where partition = $1`, [AUDIT_MONTH])).toEqual([
    { from_at: new Date('2024-01-01T00:00:00Z'), to_at: new Date('2024-02-01T00:00:00Z'), old: true },
  ])
})

test('the bounds are the same whatever the session writes dates like', async () => {
  const asked = (settings: string) =>
    db.transact(async query => {
      await query(settings)
      return query(
        `select extract(epoch from from_at)::bigint as begins, extract(epoch from to_at)::bigint as ends, ahead from pawl.partitions order by parent, 1`,
      )
    })
  const plain = await asked(`set local timezone = 'UTC'`)
  expect(await asked(`set local timezone = 'America/Los_Angeles'; set local datestyle = 'SQL, DMY'`)).toEqual(plain)
  expect(await asked(`set local timezone = 'Asia/Kathmandu'; set local datestyle = 'German'`)).toEqual(plain)
})

test('health turns red when any table, also one of a host, has less than two months ahead, a gap, or none for now', async () => {
  const check = async (name: string) => (await db.query(`select ok, detail from pawl.health where "check" = $1`, [`${name} partitions`]))[0]
  for (const name of ['audit', 'state log', 'report', 'audit log']) expect([name, await check(name)]).toEqual([name, { ok: true, detail: '3 months ahead' }])
  await db.query(`create schema host; create table host.events (at date not null) partition by range (at)`)
  expect(await check('host.events')).toEqual({ ok: false, detail: 'none for this month: rows are refused' })
  await db.query(`select pawl.ensure_month_partitions('host.events', 1)`)
  expect(await check('host.events')).toEqual({ ok: false, detail: '1 months ahead' })
  // The name says the third month, the bounds say the fourth: there is a hole.
  await db.query(`do $$ begin
    execute format('create table host.third partition of host.events for values from (%L) to (%L)',
      (date_trunc('month', now() at time zone 'UTC') + interval '3 months')::date, (date_trunc('month', now() at time zone 'UTC') + interval '5 months')::date);
  end $$`)
  expect(await check('host.events')).toEqual({ ok: false, detail: '1 months ahead' })
  await db.query(`select pawl.ensure_month_partition('host.events', ((now() at time zone 'UTC') + interval '2 months')::date)`)
  expect(await check('host.events')).toEqual({ ok: true, detail: '4 months ahead' })
  await db.query(
    `create table host.by_number (n integer) partition by range (n); create table host.first_ten partition of host.by_number for values from (1) to (10)`,
  )
  expect(await check('host.by_number')).toBeUndefined()
  await db.query('drop schema host cascade')
})

test('months are made ahead on demand, by operators too, and none twice', async () => {
  const made = () => db.query<{ parent: string; created: number }>('select parent, created from pawl.extend_partitions(5)')
  expect(await made()).toEqual(OURS.map(parent => ({ parent, created: 2 })))
  expect(await made()).toEqual(OURS.map(parent => ({ parent, created: 0 })))
  await expect(db.query('select pawl.extend_partitions(61)')).rejects.toMatchObject({ code: '22023' })
  await expect(db.query('select pawl.extend_partitions(null)')).rejects.toMatchObject({ code: '22023' })
})

test('pawl partitions lists them, makes months ahead, and archives what is due', async () => {
  const listed = await runPawl(['partitions', '--json'], db.url)
  expect(listed).toMatchObject({ code: 0 })
  expect((JSON.parse(listed.stdout) as { partitions: { parent: string }[] }).partitions.map(row => row.parent)).toEqual(expect.arrayContaining(OURS))
  expect(JSON.parse((await runPawl(['partitions', '--ahead', '6', '--json'], db.url)).stdout)).toEqual({
    extended: OURS.map(parent => ({ parent, created: 1 })),
  })
  expect((await runPawl(['partitions', '--ahead', '0'], db.url)).code).toBe(2)
  expect((await runPawl(['partitions', '--archive'], db.url)).stdout).toContain('no month is due')
  // Four processes, on a machine that may be busy.
}, 180_000)

test('pawl partitions --archive follows the months to their end', async () => {
  const stage = await openArchiveStage()
  await addAudit(stage.query, stage.people, 100)
  await stage.query(`update pawl.retention set keep = '1 year' where relation = $1`, [AUDIT])
  const worker = await startWorker(stage.db.url, { env: { PAWL_ARCHIVE_STORE: stage.folder } })
  const { code, stdout } = await runPawl(['partitions', '--archive', '--json'], stage.db.url)
  worker.signal('SIGTERM')
  await worker.exited
  expect({ code, archives: JSON.parse(stdout).archives }).toMatchObject({
    code: 0,
    archives: [{ run_id: RUN, state: 'completed', archive: 'dropped', rows: 100 }],
  })
}, 180_000)

test('making a month beside a reader of three seconds holds nobody up', async () => {
  const least = await leastStall('a month made beside a 3 s reader', STALL_MS, 5, attempt =>
    stallOf(db.url, {
      beside: `select count(*) from reporting.audit_logs`,
      seconds: 3,
      insert: insert(),
      act: () => db.query(`select pawl.ensure_month_partition('reporting.audit_logs', $1)`, [`2031-0${attempt}-01`]),
    }),
  )
  expect(least.tookMs).toBeLessThan(2_000)
  expect(least.insertMs).toBeLessThanOrEqual(STALL_MS)
})

test('making a month while someone writes to a table that it refers to holds nobody up either: it stands back and comes again', async () => {
  const update = `update reporting.organizations set description = 'x' where id = '${people.organization}'`
  const least = await leastStall('a month made beside a 3 s writer of a referenced table', STALL_MS, 5, attempt =>
    stallOf(db.url, {
      beside: update,
      seconds: 3,
      // Not the writer's row, but his table.
      insert: `insert into reporting.organizations (name, slug) select 'o' || n, 'org-' || n from (select replace(gen_random_uuid()::text, '-', '') as n) s`,
      act: () => db.query(`select pawl.ensure_month_partition('reporting.audit_logs', $1)`, [`2032-0${attempt}-01`]),
    }),
  )
  expect(least.insertMs).toBeLessThanOrEqual(STALL_MS)
})

for (const owner of [true, false]) {
  test(`archiving a month beside a reader of three seconds holds nobody up, ${owner ? 'by the owner, concurrently' : 'by a worker that owns nothing'}`, async () => {
    const stage = await openArchiveStage()
    let url = stage.db.url
    const login = `pawl_test_archivist_${process.pid}_${Math.random().toString(36).slice(2, 8)}`
    if (!owner) {
      await stage.query(`create role ${login} login password 'x' in role pawl_worker`)
      url = stage.db.urlAs(login, 'x')
    }
    await addAudit(stage.query, stage.people, 200)
    const runs: string[] = []
    const least = await leastStall(`archive beside a 3 s reader, ${owner ? 'concurrently' : "by the owner's function"}`, STALL_MS, 5, async attempt => {
      // One month a try.
      const month = `2023-0${attempt}-01`
      await stage.query(`select pawl.ensure_month_partition('${AUDIT}', '${month}')`)
      runs.push(
        ...(
          await stage.query<{ run: string }>(
            `select pawl.add_archive(partition, parent, from_at, to_at, 'planned') as run from pawl.partitions where parent = $1 and from_at = ($2 || 'Z')::timestamptz`,
            [AUDIT, month],
          )
        ).map(row => row.run),
      )
      await stage.query(`update pawl.retention set keep = '1 year' where relation = $1`, [AUDIT])
      const worker = openDatabase(stage.options({ DATABASE_URL: url }).config, stage.options().log)
      try {
        return await stallOf(stage.db.url, {
          beside: `select count(*) from ${AUDIT}`,
          seconds: 3,
          insert: `insert into ${AUDIT} (organization_id, action, resource_type) values ('${stage.people.organization}', 'read', 'report')`,
          act: () => workOne(archive, stage.options({ DATABASE_URL: url }, { db: worker })),
        })
      } finally {
        await worker.close()
      }
    })
    if (!owner) await stage.query(`drop owned by ${login}; drop role ${login}`)
    expect(await stage.query('select distinct state from pawl.checkpoints where run_id = any ($1)', [runs])).toEqual([{ state: 'completed' }])
    expect(least.insertMs).toBeLessThanOrEqual(STALL_MS)
  })
}

test('a worker that owns nothing archives a month like one that owns all', async () => {
  const stage = await openArchiveStage()
  await addAudit(stage.query, stage.people, 300)
  await planArchives(stage.query)
  const login = `pawl_test_plain_${process.pid}`
  await stage.query(`create role ${login} login password 'x' in role pawl_worker`)
  const lease = await takeLease(stage.db, 'plain')
  const { config, log } = stage.options({ DATABASE_URL: stage.db.urlAs(login, 'x') })
  const plain = openDatabase(config, log)
  try {
    expect(await workAll(archive, { ...handlerOptions(stage.db, lease), config, db: plain })).toEqual(['completed'])
    expect(await archiveOf(stage.query)).toMatchObject({ state: 'dropped', rows: 300 })
  } finally {
    await plain.close()
    await lease.stop()
    await stage.query(`drop owned by ${login}; drop role ${login}`)
  }
})
