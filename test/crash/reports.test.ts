import { expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { until } from '../support/until.ts'
import { allEnded, reportFaults } from './report-faults.ts'
import { FORMATS, filesIn, killCaught, openings, openReports, type ReportCrash, ROWS, rowsOf } from './report-stage.ts'
import { endOf, orderFaults, recordedBatches } from './stage.ts'

const KILLS = 20
/** A checkpoint takes at least this long, or the executions end between two kills. */
const PART_MS = 250

test('kill -9 at each stage of each format: one whole file an execution, and nothing else', async () => {
  const reports = await openReports()
  await Promise.all([reports.start(), reports.start()])
  const stages = [
    ['csv', 'reading'],
    ['pdf', 'reading'],
    ['csv', 'part 3'],
    ['json', 'part 3'],
    ['html', 'part 2'],
    ['excel', 'row 30000'],
    ['pdf', 'row 1000'],
    ['csv', 'output'],
    ['excel', 'output'],
    ['pdf', 'output'],
  ] as const
  const starting: Promise<unknown>[] = []
  for (const [format, place] of stages) {
    const before = await filesIn(reports)
    await reports.gate.shut(place)
    const id = await reports.ask(format)
    const victim = await killCaught(reports)
    if (place === 'output') expect((await filesIn(reports)).length, 'the file was published before the kill').toBeGreaterThan(before.length)
    starting.push(reports.start())
    expect(await endOf(reports.query, id)).toBe('completed')
    const opened = await openings(reports.query, id)
    expect([format, place, opened.length, opened[0]]).toEqual([format, place, 2, `begun ${victim.name}`])
  }
  for (const format of ['json', 'excel'] as const) {
    await reports.gate.shut('output')
    const id = await reports.ask(format)
    const { worker } = await reports.gate.caught()
    // Completed, and its worker never learns of it.
    worker.signal('SIGSTOP')
    await reports.gate.open()
    expect(await endOf(reports.query, id)).toBe('completed')
    worker.signal('SIGKILL')
    starting.push(reports.start())
  }
  await Promise.all(starting)
  await allEnded(reports)
  expect(await reportFaults(reports)).toEqual([])
  expect(await reports.query(`select count(*) as n, sum(crashes) as crashes from pawl.checkpoints where state = 'completed'`)).toEqual([
    { n: stages.length + 2, crashes: stages.length },
  ])
})

/**
 * Who has begun on an execution, or has `parts` checkpoints of it behind it. Not who holds one that two workers have died with at its
 * present place, be it another: a third makes it poison, as it should.
 */
function victims({ query }: ReportCrash, dead: readonly number[], parts: number) {
  return query<{ pid: number }>(
    `select l.pid
     from pawl.checkpoints c join pawl.leases l on l.id = c.owner
     where c.state = 'running' and l.pid <> all ($1)
     group by l.pid
     having bool_and(c.crashes < 2 or c.crashed_at_batch < (select coalesce(sum(n.batch), 0) from pawl.lanes n where n.run_id = c.run_id))
       and bool_or(
         exists (select from reporting.execution_logs b where b.execution_id::text = c.run_id and (b.details ->> 'attempt')::bigint = c.epoch)
         and (select count(*) from public.recorded_batches b where b.run_id = c.run_id and b.epoch = c.epoch) >= $2
       )`,
    [dead, parts],
  )
}

test(`${KILLS} times kill -9 at a random moment over executions of all formats: each has one whole file, with exactly its rows`, async () => {
  const seed = Number(process.env.PAWL_TEST_SEED ?? Math.floor(Math.random() * 2 ** 32))
  console.info(`seed ${seed} (PAWL_TEST_SEED)`)
  const random = seeded(seed)
  const reports = await openReports(PART_MS)
  await Promise.all([reports.start(), reports.start()])
  const asked: string[] = []
  const dead: number[] = []
  const starting: Promise<unknown>[] = []
  for (let kill = 0; kill < KILLS; kill += 1) {
    const format = FORMATS[kill % FORMATS.length] ?? 'csv'
    asked.push(await reports.ask(format))
    const find = () =>
      until(`a worker to kill, the ${kill + 1}.`, async () => {
        const found = await victims(reports, dead, kill % 2)
        // All may have ended before their turn to lose a worker came.
        const left = await reports.query(`select from pawl.checkpoints where state in ('pending', 'running')`)
        if (left.length === 0) asked.push(await reports.ask('csv'))
        return found.at(Math.floor(random() * 2) - 1)
      })
    await find()
    await systemClock.sleep(random() * PART_MS)
    const victim = await find()
    process.kill(victim.pid, 'SIGKILL')
    dead.push(victim.pid)
    starting.push(reports.start())
  }
  await Promise.all(starting)
  await allEnded(reports)
  expect(await reportFaults(reports)).toEqual([])
  const [opened] = await reports.query<{ n: number }>(`select count(*) as n from reporting.execution_logs where message ~ '^(begun|resumed) by worker'`)
  console.info(JSON.stringify({ kills: KILLS, executions: asked.length, openings: opened?.n }))
  // An execution may end between the last look and the kill.
  expect(opened?.n).toBeGreaterThanOrEqual(asked.length + KILLS / 2)
})

test('csv goes on behind the last checkpoint and reads nothing before it again, excel starts over; both end exact', async () => {
  const reports = await openReports()
  await Promise.all([reports.start({ name: 'left' }), reports.start({ name: 'right' })])
  const { query, gate } = reports
  await gate.shut('row 170000')
  const csv = await reports.ask('csv')
  const { worker } = await gate.caught()
  // From now on, whoever reads one of the first 150,000 rows fails.
  await query('insert into public.closed_rows values (150000)')
  await killCaught(reports)
  expect(await endOf(query, csv)).toBe('completed')
  const heir = worker.name === 'left' ? 'right' : 'left'
  expect(await openings(query, csv)).toEqual([`begun ${worker.name}`, `resumed ${heir}`])
  const batches = await recordedBatches(query, csv)
  expect(rowsOf(batches)).toBe(ROWS.csv)
  expect(batches.map(batch => [batch.worker, batch.rows]).filter(([, rows]) => rows !== 0)).toEqual([
    ...Array(3).fill([worker.name, 50_000]),
    ...Array(3).fill([heir, 50_000]),
  ])
  expect(orderFaults(batches)).toEqual([])

  await query('truncate public.closed_rows')
  await reports.start()
  await gate.shut('row 55000')
  const excel = await reports.ask('excel')
  await killCaught(reports)
  expect(await endOf(query, excel)).toBe('completed')
  expect(rowsOf(await recordedBatches(query, excel))).toBe(50_000 + ROWS.excel)
  await allEnded(reports)
  expect(await reportFaults(reports)).toEqual([])
})

/** A small generator (mulberry32), so that a failing order of events can be had again. */
function seeded(state: number): () => number {
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
