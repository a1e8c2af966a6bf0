import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { archive } from '../../workers/maintenance/archive.ts'
import { addAudit, AUDIT_MONTH, archiveOf, fingerprint, fingerprintOfFile, openArchiveStage, planArchives, RUN } from '../support/archives.ts'
import { connectDirect } from '../../src/database.ts'
import type { HandlerOptions } from '../../src/worker.ts'
import { workOne } from '../support/engine.ts'
import { until } from '../support/until.ts'

const PARENT = 'reporting.audit_logs'

test('a file that does not hold the rows is found out, and the table stays', async () => {
  const stage = await openArchiveStage()
  await addAudit(stage.query, stage.people, 500)
  await planArchives(stage.query)
  // Between writing and reading back, one digit in the store changes: uncompressed, so that it is still a CSV.
  const damaging = (async () => {
    const name = await until('the file is there', async () => (await stage.files()).find(file => file.endsWith('.csv')))
    const path = join(stage.folder, name)
    await writeFile(path, (await readFile(path, 'utf8')).replace('10.0.0.2', '10.0.0.9'))
  })()
  const options = stage.options({ BACKUP_COMPRESSION: 'none' })
  const held = holding(options, 'pawl.archive_written', () => damaging)
  expect((await workOne(archive, held))?.output).toMatchObject({ outcome: 'failed', error: expect.stringContaining('are not the 500') })
  expect(await archiveOf(stage.query)).toMatchObject({ state: 'written', run: 'failed', stands: true })
  expect(await stage.files()).toEqual([])
  await stage.query('select pawl.retry($1)', [RUN])
  expect(await stage.work()).toEqual(['completed'])
  expect(await archiveOf(stage.query)).toMatchObject({ state: 'dropped', stands: false })
})

test('a verified file that has gone from the store since is written anew before anything is dropped', async () => {
  const stage = await openArchiveStage()
  await addAudit(stage.query, stage.people, 200)
  const before = await fingerprint(stage.query, AUDIT_MONTH)
  await planArchives(stage.query)
  await stage.query(`create function public.stop_here() returns trigger language plpgsql as $$ begin raise exception 'not yet' using errcode = 'XX000'; end $$;
    create trigger stop_here before update on pawl.archives for each row when (new.state = 'dropped') execute function public.stop_here()`)
  expect((await workOne(archive, stage.options()))?.output.outcome).toBe('retry')
  const verified = await archiveOf(stage.query)
  expect(verified).toMatchObject({ state: 'verified', stands: true })
  await rm(join(stage.folder, String(verified.key)))
  await stage.query('drop trigger stop_here on pawl.archives')
  expect(await stage.work()).toEqual(['completed'])
  const row = await archiveOf(stage.query)
  expect(row).toMatchObject({ state: 'dropped' })
  expect(row.key).not.toBe(verified.key)
  expect(await stage.files()).toEqual([String(row.key), `${String(row.key).split('.')[0]}.manifest.json`].toSorted())
  expect(await fingerprintOfFile(stage, String(row.key), PARENT)).toEqual(before)
})

test('without a place for archives it is refused with the next step, before anything is touched', async () => {
  const stage = await openArchiveStage()
  await planArchives(stage.query)
  expect(await stage.work({ PAWL_ARCHIVE_STORE: '' })).toEqual(['failed'])
  expect(await archiveOf(stage.query)).toMatchObject({ state: 'planned', stands: true, error: 'no place for archives is named' })
  expect(await stage.query('select state from pawl.partitions where partition = $1', [AUDIT_MONTH])).toEqual([{ state: 'attached' }])
})

test('a month that is to be kept longer by now stays, and can be planned again', async () => {
  const stage = await openArchiveStage()
  await planArchives(stage.query)
  await stage.query(`update pawl.retention set keep = null where relation = $1`, [PARENT])
  expect(await stage.work()).toEqual(['completed'])
  expect(await stage.query('select state, error from pawl.runs where run_id = $1', [RUN])).toEqual([
    { state: 'cancelled', error: 'cancelled: pawl.retention keeps it longer by now' },
  ])
  expect(await stage.query('select state from pawl.partitions where partition = $1', [AUDIT_MONTH])).toEqual([{ state: 'attached' }])
  expect(await planArchives(stage.query)).toHaveLength(1)
  expect(await stage.work()).toEqual(['completed'])
  expect(await archiveOf(stage.query)).toMatchObject({ state: 'dropped', rows: 0 })
})

for (const [ask, outcome, state] of [
  [`select pawl.cancel('${RUN}')`, 'cancel', 'cancelled'],
  [`select pawl.pause('maintenance.archive')`, 'pause', 'pending'],
] as const) {
  test(`${outcome} in the middle of writing leaves the table, no file, and a run that goes on when asked`, async () => {
    const stage = await openArchiveStage()
    await addAudit(stage.query, stage.people, 2_000)
    const before = await fingerprint(stage.query, AUDIT_MONTH)
    await planArchives(stage.query)
    // Whoever wants to read the month waits, without end.
    const holder = await connectDirect(stage.options().config, 'holder')
    const options = stage.options()
    const held = holding(options, 'pawl.begin_archive_file', () => holder.query(`begin; lock table ${AUDIT_MONTH} in access exclusive mode`))
    const working = workOne(archive, held)
    await until(
      'it waits for the month',
      async () => (await stage.query(`select from pg_stat_activity where wait_event_type = 'Lock' and application_name = $1`, [`pawl ${RUN}`.slice(0, 63)]))[0],
    )
    await stage.query(ask)
    expect((await working)?.output.outcome).toBe(outcome)
    await holder.close()
    expect(await archiveOf(stage.query)).toMatchObject({ run: state, stands: true, state: 'detached' })
    expect(await stage.files()).toEqual([])
    if (outcome === 'cancel') await stage.query(`select pawl.retry('${RUN}')`)
    else await stage.query(`select pawl.resume('maintenance.archive')`)
    expect(await stage.work()).toEqual(['completed'])
    expect(await fingerprintOfFile(stage, String((await archiveOf(stage.query)).key), PARENT)).toEqual(before)
  })
}

test('a worker that was taken over changes nothing more, and takes its file away', async () => {
  const stage = await openArchiveStage()
  await addAudit(stage.query, stage.people, 500)
  await planArchives(stage.query)
  const options = stage.options()
  const taken = () =>
    stage.query(`with lost as (update pawl.lanes set epoch = epoch + 1 where run_id = $1) update pawl.checkpoints set epoch = epoch + 1 where run_id = $1`, [
      RUN,
    ])
  expect((await workOne(archive, holding(options, 'pawl.begin_archive_file', taken)))?.output.outcome).toBe('lost')
  expect(await archiveOf(stage.query)).toMatchObject({ state: 'detached', key: null, stands: true })
  expect(await stage.files()).toEqual([])
  for (const call of [
    `pawl.drop_archive('${RUN}', 1)`,
    `pawl.archive_verified('${RUN}', 1, 'k')`,
    `pawl.detach_archive('${RUN}', 1, true)`,
    `pawl.begin_archive_file('${RUN}', 1, 'k')`,
    `pawl.clear_dependents('${RUN}', 1, 1)`,
    `pawl.touch_archive('${RUN}', 1)`,
  ])
    await expect(stage.query(`select ${call}`), call).rejects.toMatchObject({ code: 'PW001' })
})

test('a month that was detached half-way by a worker that died is taken the rest of the way', async () => {
  const stage = await openArchiveStage()
  await addAudit(stage.query, stage.people, 100)
  const before = await fingerprint(stage.query, AUDIT_MONTH)
  const [reader, detacher] = [await connectDirect(stage.options().config, 'reader'), await connectDirect(stage.options().config, 'detacher')]
  await reader.query(`begin; select count(*) from ${PARENT}`)
  await detacher.query(`set lock_timeout = '50ms'`)
  await expect(detacher.query(`alter table ${PARENT} detach partition ${AUDIT_MONTH} concurrently`)).rejects.toMatchObject({ code: '55P03' })
  expect(await stage.query('select state from pawl.partitions where partition = $1', [AUDIT_MONTH])).toEqual([{ state: 'detaching' }])
  await detacher.close()
  await stage.query(`update pawl.retention set keep = '1 year' where relation = $1`, [PARENT])
  // As the plan had it before the worker died.
  await stage.query(`select pawl.add_archive(partition, parent, from_at, to_at, 'planned') from pawl.partitions where partition = $1`, [AUDIT_MONTH])
  const working = stage.work()
  await until('it waits for the reader', async () => (await stage.query(`select from pawl.checkpoints where run_id = $1 and state = 'running'`, [RUN]))[0])
  await reader.query('commit')
  await reader.close()
  expect(await working).toEqual(['completed'])
  const row = await archiveOf(stage.query)
  expect(row).toMatchObject({ state: 'dropped', rows: 100 })
  expect(await fingerprintOfFile(stage, String(row.key), PARENT)).toEqual(before)
})

/** The same worker, held after its statement that contains `text` until `meanwhile` is done. */
function holding(options: HandlerOptions, text: string, meanwhile: () => Promise<unknown>): HandlerOptions {
  const query = async (statement: string, values?: unknown[]) => {
    const rows = await options.db.query(statement, values)
    if (statement.includes(text)) await meanwhile()
    return rows
  }
  return { ...options, db: { ...options.db, query: query as HandlerOptions['db']['query'] } }
}

test('a month that somebody else dropped first ends its run, and leaves its name free', async () => {
  const stage = await openArchiveStage()
  await addAudit(stage.query, stage.people, 20)
  await planArchives(stage.query)
  await stage.query(`drop table ${AUDIT_MONTH}`)
  expect((await workOne(archive, stage.options()))?.output.outcome).toBe('completed')
  expect(await stage.query('select state, error from pawl.runs where run_id = $1', [RUN])).toEqual([
    { state: 'cancelled', error: 'cancelled: its table was dropped by someone else' },
  ])
  await stage.query(`create table ${AUDIT_MONTH} partition of ${PARENT} for values from ('2024-01-01') to ('2024-02-01')`)
  await addAudit(stage.query, stage.people, 20)
  expect(await planArchives(stage.query)).toEqual([`${RUN}:2`])
  expect(await stage.work()).toEqual(['completed'])
})
