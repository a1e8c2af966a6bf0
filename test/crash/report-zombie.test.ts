import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect, type Query } from '../../src/database.ts'
import type { WorkerProcess } from '../support/process.ts'
import { readExecution } from '../support/reports.ts'
import { until } from '../support/until.ts'
import { removeFence } from './mutation.ts'
import { allEnded, reportFaults } from './report-faults.ts'
import { openings, openReports, type ReportCrash } from './report-stage.ts'
import { endOf } from './stage.ts'

const env = { PAWL_LEASE_SECONDS: '2' }

/**
 * Wakes a worker, and keeps its queue from telling it meanwhile that the job is no longer its own: nothing but the fence stands in its way then.
 */
async function wake(worker: WorkerProcess, { url }: ReportCrash): Promise<void> {
  const bolt = await openBolt(url)
  await bolt.query('lock table pgboss.job')
  worker.signal('SIGCONT')
  await until(`${worker.name} lets go`, () => worker.log.some(line => line.msg === 'run let go'))
  await bolt.query('rollback')
}

/** A transaction of its own, which holds what the test locks in it. */
async function openBolt(url: string) {
  const bolt = await connectDirect(readConfig({ DATABASE_URL: url }), 'bolt')
  onTestFinished(() => bolt.close())
  await bolt.query('begin')
  return bolt
}

/** The file of a completed execution, as it lies there now. */
async function fileNow({ query, folder }: ReportCrash, id: string): Promise<Buffer | undefined> {
  const { metadata } = await readExecution(query, id)
  return readFile(join(folder, String(metadata.key))).catch(() => undefined)
}

/** Stops a worker behind its second checkpoint, lets another take over and complete the execution, wakes it: it has the rest of its rows before it. */
async function wakeBehindCompletion(reports: ReportCrash) {
  const { query, gate } = reports
  const zombie = await reports.start({ name: 'zombie', env })
  await gate.shut('row 120000')
  const id = await reports.ask('csv')
  await gate.caught()
  zombie.signal('SIGSTOP')
  await gate.forget()
  const heir = await reports.start({ name: 'heir', env })
  expect(await endOf(query, id)).toBe('completed')
  const before = await fileNow(reports, id)
  expect(before).toBeDefined()
  await gate.open()
  await wake(zombie, reports)
  return { id, zombie, heir, unchanged: before?.equals((await fileNow(reports, id)) ?? Buffer.alloc(0)) }
}

test('a worker that is stopped between two checkpoints, replaced and woken leaves the completed file alone, and is a good worker again', async () => {
  const reports = await openReports()
  const { id, zombie, heir, unchanged } = await wakeBehindCompletion(reports)
  expect(unchanged).toBe(true)
  expect(await openings(reports.query, id)).toEqual(['begun zombie', 'resumed heir'])
  expect(zombie.log.map(line => line.msg)).toContain('run was taken over, leaving it alone')
  heir.signal('SIGTERM')
  await heir.exited
  const next = await reports.ask('pdf')
  expect(await endOf(reports.query, next)).toBe('completed')
  expect(await openings(reports.query, next)).toEqual(['begun zombie'])
  await allEnded(reports)
  expect(await reportFaults(reports)).toEqual([])
})

test('without the epoch predicate the same zombie counts its rows a second time: the test above can fail', async () => {
  const reports = await openReports()
  await removeFence(reports.query)
  await wakeBehindCompletion(reports)
  await allEnded(reports)
  const faults = (await reportFaults(reports)).join('\n')
  expect(faults).toContain('"run":300000,"lanes":500000')
})

/** Stops a worker whose file is published and whose ending was never written, lets another take over and come half-way, wakes it: it writes its ending now. */
async function wakeBeforeEnding(reports: ReportCrash): Promise<string> {
  const { query, gate, url } = reports
  const zombie = await reports.start({ name: 'zombie', env })
  await gate.shut('row 290000')
  const id = await reports.ask('csv')
  await gate.caught()
  const bolt = await openBolt(url)
  await bolt.query('select from pawl.checkpoints where run_id = $1 for update', [id])
  await gate.open()
  const ending = await until('the ending is on its way', async () => {
    const [waiting] = await query<{ pid: number }>(
      `select pid from pg_stat_activity where wait_event_type = 'Lock' and query like '%finish_report%' and pid <> pg_backend_pid()`,
    )
    return waiting
  })
  zombie.signal('SIGSTOP')
  await query('select pg_terminate_backend($1, 10000)', [ending.pid])
  await bolt.query('rollback')
  await gate.shut('row 280000')
  await reports.start({ name: 'heir', env })
  expect((await gate.caught()).worker.name).toBe('heir')
  await wake(zombie, reports)
  await gate.open()
  expect(await endOf(query, id)).toBe('completed')
  await allEnded(reports)
  return id
}

test('a worker that is stopped with its file published, replaced and woken does not end the execution that another has in work', async () => {
  const reports = await openReports()
  const id = await wakeBeforeEnding(reports)
  expect(await openings(reports.query, id)).toEqual(['begun zombie', 'resumed heir'])
  expect(await reportFaults(reports)).toEqual([])
})

/** Ending a run asks for the epoch once more, whatever was held before. */
async function removeEndingFence(query: Query): Promise<void> {
  const [row] = await query<{ source: string }>(`select pg_get_functiondef('pawl.finish(text, bigint, text, text)'::regprocedure) as source`)
  const mutated = row?.source.replace('and (p_epoch is null or c.epoch = p_epoch)', '') ?? ''
  if (mutated === '' || mutated === row?.source) throw new Error('pawl.finish has no epoch predicate to take out: is the fence still there?')
  await query(mutated)
}

test('without the epoch predicate it does, and the file it names is gone: the test above can fail', async () => {
  const reports = await openReports()
  await removeFence(reports.query)
  await removeEndingFence(reports.query)
  const id = await wakeBeforeEnding(reports)
  expect(await reportFaults(reports)).toContain(`csv: the file of execution ${id} is missing`)
})
