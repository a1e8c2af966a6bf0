import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { newIdentity, unseal } from '../../src/seal.ts'
import { addAudit, AUDIT_MONTH, archiveOf, fingerprint, fingerprintOfFile, manifestOf, openArchiveStage, planArchives, RUN } from '../support/archives.ts'
import { workAll } from '../support/engine.ts'
import { requestOverride, seedCategory } from '../support/overrides.ts'
import { applyOverride } from '../../workers/overrides/apply.ts'
import { collect } from '../support/store.ts'

const PARENT = 'reporting.audit_logs'

/** Says loudly what is left out; in CI nothing is. */
function stockToolsMissing(): boolean {
  const missing = ['age', 'zstd'].filter(tool => spawnSync(tool, ['--version']).error !== undefined)
  if (missing.length === 0 || process.env.CI !== undefined) return false
  console.warn(`SKIPPED: a test with stock ${missing.join(' and ')}. Install to run it: apt-get install age zstd`)
  return true
}

test('a month that is kept no longer goes into one file, row for row, and its table is dropped', async () => {
  const stage = await openArchiveStage()
  await addAudit(stage.query, stage.people, 5_000)
  const before = await fingerprint(stage.query, AUDIT_MONTH)
  expect(before.rows).toBe(5_000)
  expect(await planArchives(stage.query)).toEqual([RUN])
  expect(await planArchives(stage.query)).toEqual([])
  expect(await stage.work()).toEqual(['completed'])
  const row = await archiveOf(stage.query)
  expect(row).toMatchObject({ state: 'dropped', run: 'completed', rows: 5_000, done: 5_000, total: 5_000, stands: false, late_writes: 0, error: null })
  const key = String(row.key)
  expect(key).toMatch(/^archive_audit_logs_y2024m01_[0-9a-f]{24}\.csv\.zst$/)
  expect(await stage.files()).toEqual([key, `${key.split('.')[0]}.manifest.json`].toSorted())
  expect(await fingerprintOfFile(stage, key, PARENT)).toEqual(before)
  const bytes = await readFile(join(stage.folder, key))
  expect(await manifestOf(stage.folder, key)).toMatchObject({
    format: 1,
    key,
    parent: PARENT,
    partition: AUDIT_MONTH,
    rows: 5_000,
    bytes: bytes.length,
    sha256: createHash('sha256').update(bytes).digest('hex'),
  })
  expect(await stage.query('select count(*) as n from pawl.archive_files')).toEqual([{ n: 0 }])
  expect(await stage.query(`select state, rows from pawl.partitions where partition = $1`, [AUDIT_MONTH])).toEqual([{ state: 'archived', rows: 5_000 }])
  expect(
    await stage.query(`select affected_rows as rows, details ->> 'state' as state from system_maintenance_log where operation = 'archive_partition'`),
  ).toEqual([{ rows: 5_000, state: 'completed' }])
})

test('an archive is encrypted to the keys of the backups, and the key the worker proved it with is forgotten', async () => {
  const stage = await openArchiveStage()
  await addAudit(stage.query, stage.people, 300)
  const before = await fingerprint(stage.query, AUDIT_MONTH)
  const { identity, recipient } = await newIdentity()
  await planArchives(stage.query)
  expect(await stage.work({ PAWL_BACKUP_RECIPIENTS: recipient })).toEqual(['completed'])
  const { key } = await archiveOf(stage.query)
  expect(key).toMatch(/\.csv\.zst\.age$/)
  expect(await fingerprintOfFile(stage, String(key), PARENT, [identity])).toEqual(before)
  expect((await readFile(join(stage.folder, String(key)))).includes('broken line')).toBe(false)
  expect((await manifestOf(stage.folder, String(key))).recipients).toEqual([recipient])
  const other = await newIdentity()
  await expect(fingerprintOfFile(stage, String(key), PARENT, [other.identity])).rejects.toMatchObject({ code: 'seal.key' })
})

test.skipIf(stockToolsMissing())('stock age and zstd open an archive, and plain COPY loads what comes out', async () => {
  const stage = await openArchiveStage()
  await addAudit(stage.query, stage.people, 400)
  const before = await fingerprint(stage.query, AUDIT_MONTH)
  const { identity, recipient } = await newIdentity()
  await planArchives(stage.query)
  await stage.work({ PAWL_BACKUP_RECIPIENTS: recipient })
  const key = String((await archiveOf(stage.query)).key)
  const keyFile = join(stage.folder, 'private.key')
  await writeFile(keyFile, `${identity}\n`)
  const csv = execFileSync('sh', ['-c', 'age -d -i "$1" "$2" | zstd -d', 'sh', keyFile, join(stage.folder, key)], { maxBuffer: 2 ** 28 })
  expect(createHash('sha256').update(csv).digest('hex')).toBe((await manifestOf(stage.folder, key)).csvSha256)
  const loaded = await stage.db.transact(async (query, copy) => {
    await query(`create temporary table loaded (like ${PARENT}) on commit drop`)
    await copy('copy loaded from stdin with (format csv, header true)', [csv])
    return fingerprint(query, 'loaded')
  })
  expect(loaded).toEqual(before)
})

test('a month of executions takes its log lines along as a second archive, and gives the files of its reports to the sweep', async () => {
  const stage = await openArchiveStage()
  const { query, people } = stage
  await query(
    `with template as (insert into reporting.templates (name, organization_id, created_by, template_type) values ('t', $1, $2, 'tabular') returning id),
     report as (insert into reporting.reports (name, template_id, organization_id, created_by) select 'r', id, $1, $2 from template returning id)
     insert into reporting.report_executions (report_id, executed_by, status, started_at, completed_at, metadata)
     select id, $2, 'completed', at, at + interval '1 second', case when n % 2 = 0 then jsonb_build_object('key', 'file_number_' || n || '_of_it.csv') else '{}' end
     from report, generate_series(1, 1200) n, lateral (select case when n <= 1100 then '2024-01-10'::timestamptz else now() end + n * interval '1 second' as at) t`,
    [people.organization, people.admin],
  )
  await query(
    `insert into reporting.execution_logs (execution_id, execution_started_at, message) select id, started_at, 'line ' || n from reporting.report_executions, generate_series(1, 3) n`,
  )
  const month = 'reporting.report_executions_y2024m01'
  const logs = 'reporting.execution_logs_y2024m01'
  const before = await fingerprint(query, month)
  const logsBefore = await fingerprint(query, `(select l.* from reporting.execution_logs l where execution_started_at < '2024-02-01')`)
  expect([before.rows, logsBefore.rows]).toEqual([1100, 3300])
  expect(await planArchives(query, 'reporting.report_executions')).toEqual([`archive:${month}`])
  expect(await stage.work()).toEqual(['completed', 'completed'])
  const [executionsArchive, logsArchive] = [await archiveOf(query, month), await archiveOf(query, logs)]
  expect([executionsArchive.state, logsArchive.state]).toEqual(['dropped', 'dropped'])
  expect(await fingerprintOfFile(stage, String(executionsArchive.key), 'reporting.report_executions')).toEqual(before)
  expect(await fingerprintOfFile(stage, String(logsArchive.key), 'reporting.execution_logs')).toEqual(logsBefore)
  expect(await query('select count(*) as n from reporting.execution_logs')).toEqual([{ n: 300 }])
  expect(await query('select count(*) as n from reporting.report_executions')).toEqual([{ n: 100 }])
  expect(await query('select count(*) as n from pawl.report_files')).toEqual([{ n: 550 }])
  expect(await query('select count(*) as n from pawl.stray_report_files(1000)')).toEqual([{ n: 550 }])
})

test('executions that are still at work, and operations that have begun, keep their month where it is', async () => {
  const stage = await openArchiveStage()
  const { query, people } = stage
  await query(
    `with template as (insert into reporting.templates (name, organization_id, created_by, template_type) values ('t', $1, $2, 'tabular') returning id),
     report as (insert into reporting.reports (name, template_id, organization_id, created_by) select 'r', id, $1, $2 from template returning id)
     insert into reporting.report_executions (report_id, executed_by, started_at) select id, $2, '2024-01-10' from report`,
    [people.organization, people.admin],
  )
  expect(await planArchives(query, 'reporting.report_executions')).toEqual([])
  await query(`update reporting.report_executions set status = 'completed', completed_at = started_at`)
  expect(await planArchives(query, 'reporting.report_executions')).toHaveLength(1)
  await query(`update reporting.report_executions set status = 'running', completed_at = null`)
  expect(await stage.work()).toEqual(['failed'])
  expect(await archiveOf(query, 'reporting.report_executions_y2024m01')).toMatchObject({
    state: 'planned',
    stands: true,
    error: expect.stringContaining('still at work'),
  })
})

test('when a month of the audit goes, no settings row names an operation that nobody knows', async () => {
  const stage = await openArchiveStage()
  const { query } = stage
  const seeded = await seedCategory(query, 1_500)
  const old = await requestOverride(query, seeded, { batchSize: 1000 })
  await workAll(applyOverride, stage.options())
  const young = await requestOverride(query, await seedCategory(query, 5))
  await workAll(applyOverride, stage.options())
  await query(`select pawl.ensure_month_partition('public.category_override_audit', '2024-03-01')`)
  // Without the triggers: a row that moves to another month would add its key a second time.
  await stage.db.transact(async inside => {
    await inside(`set local session_replication_role = 'replica'`)
    await inside(`update category_override_audit set operation_timestamp = '2024-03-05' where operation_id = $1`, [old])
  })
  const named = `select updated_by_operation as operation, count(*) as rows from category_recipient_settings group by 1 order by 2`
  expect(await query(named)).toEqual([
    { operation: young, rows: 5 },
    { operation: old, rows: 1_500 },
  ])
  const month = 'public.category_override_audit_y2024m03'
  expect(await planArchives(query, 'public.category_override_audit')).toEqual([`archive:${month}`])
  expect(await stage.work()).toEqual(['completed'])
  expect(await archiveOf(query, month)).toMatchObject({ state: 'dropped', rows: 1 })
  expect(await query(named)).toEqual([
    { operation: young, rows: 5 },
    { operation: null, rows: 1_500 },
  ])
  expect(await query('select operation_id from category_override_audit_keys')).toEqual([{ operation_id: young }])
})

test('rows that are written to a month on its way out are in its file: it is written anew', async () => {
  const stage = await openArchiveStage()
  const { query, people } = stage
  await addAudit(query, people, 500)
  await planArchives(query)
  await query(`
    create table public.late (done boolean);
    create function public.write_late() returns trigger language plpgsql as $$
    begin
      if new.state = 'verified' and not exists (select from public.late) then
        insert into public.late values (true);
        update ${AUDIT_MONTH} set user_agent = 'changed at the last moment' where id = (select id from ${AUDIT_MONTH} limit 1);
      end if;
      return null;
    end $$;
    create trigger write_late after update on pawl.archives for each row execute function public.write_late()`)
  expect(await stage.work()).toEqual(['completed'])
  const row = await archiveOf(query)
  expect(row).toMatchObject({ state: 'dropped', rows: 500 })
  expect(await query('select batch from pawl.lanes where run_id = $1', [RUN])).not.toEqual([])
  const key = String(row.key)
  expect(await stage.files()).toEqual([key, `${key.split('.')[0]}.manifest.json`].toSorted())
  const loaded = await stage.db.transact(async (inside, copy) => {
    await inside(`create temporary table loaded (like ${PARENT}) on commit drop`)
    await copy('copy loaded from stdin with (format csv, header true)', [await collect(unseal(stage.store.read(key), key, []))])
    return inside(`select count(*) as n from loaded where user_agent = 'changed at the last moment'`)
  })
  expect(loaded).toEqual([{ n: 1 }])
})
