import { readdir } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import { AUDIT } from '../support/archives.ts'
import { until } from '../support/until.ts'
import { type ArchiveCrash, allOver, archiveFaults, fingerprints, kill, openArchiveCrash, planMonths } from './archive-stage.ts'

const ROWS = 20_000

/** Places at which a worker dies: what to wait for in the database, or in the store. `during`: in the transaction that is about to bring the state. */
const places: Record<string, (stage: ArchiveCrash) => Promise<unknown>> = {
  'while the table is in use by a reader': ({ query }) => row(query, `select from pawl.partitions where state = 'detaching'`),
  'before "detached" commits': stage => during(stage, 'pawl.detach_archive'),
  'when it is detached': ({ query }) => row(query, `select from pawl.archives where state = 'detached'`),
  'before its file is written down': stage => during(stage, 'pawl.begin_archive_file'),
  'with half a file': async ({ folder }) => (await readdir(folder)).some(name => name.endsWith('.draft')),
  'before "written" commits': stage => during(stage, 'pawl.archive_written'),
  'when it is written': ({ query }) => row(query, `select from pawl.archives where state = 'written'`),
  'before "verified" commits': stage => during(stage, 'pawl.archive_verified'),
  'when it is verified': ({ query }) => row(query, `select from pawl.archives where state = 'verified'`),
  'before "dropped" commits': stage => during(stage, 'pawl.drop_archive'),
}

const row = async (query: ArchiveCrash['query'], statement: string) => (await query(statement)).length > 0

/** A backend sleeps in the step: our trigger holds it there. */
function during({ query }: ArchiveCrash, call: string) {
  return row(query, `select from pg_stat_activity where wait_event = 'PgSleep' and query like '%${call}%' and datname = current_database()`)
}

test.each(Object.entries(places))(
  'a worker that is killed %s leaves a month that the next one takes to its end: one whole file, and no row lost',
  async (place, seen) => {
    const stage = await openArchiveCrash(1, ROWS, 400)
    const before = await fingerprints(stage)
    expect([...before.values()][0]?.rows).toBe(ROWS)
    await planMonths(stage.query)
    const reader = await connectDirect(readConfig({ DATABASE_URL: stage.db.url }), 'reader')
    if (place.includes('reader')) await reader.query(`begin; select count(*) from ${AUDIT}`)
    const first = await stage.start()
    await until(place, () => seen(stage), 60_000)
    await kill(first, stage.query)
    await reader.close()
    await stage.start()
    await allOver(stage.query)
    expect(await archiveFaults(stage, before)).toEqual([])
  },
)

test('workers that are killed again and again at any moment archive every month once, whole', async () => {
  const stage = await openArchiveCrash(6, ROWS, 100)
  const before = await fingerprints(stage)
  await planMonths(stage.query)
  let kills = 0
  const over = allOver(stage.query, 280_000)
  let isOver = false
  void over.finally(() => {
    isOver = true
  })
  while (kills < 14) {
    const worker = await stage.start()
    await until(
      'a run is at work',
      async () =>
        isOver ||
        (await row(stage.query, `select from pawl.checkpoints c join pawl.leases l on l.id = c.owner where c.kind = 'archive' and l.name = '${worker.name}'`)),
      60_000,
    )
    if (isOver) break
    await systemClock.sleep(Math.random() * 900)
    await kill(worker, stage.query)
    kills += 1
  }
  await stage.start()
  await allOver(stage.query, 200_000)
  console.info(`${kills} kills at random times, ${stage.months.length} months of ${ROWS} rows`)
  expect(kills).toBeGreaterThanOrEqual(10)
  expect(await archiveFaults(stage, before)).toEqual([])
}, 600_000)

test('a worker that was stopped while it wrote, and wakes when another has done the work, changes nothing and leaves no file', async () => {
  const stage = await openArchiveCrash(1, ROWS, 200)
  const before = await fingerprints(stage)
  await planMonths(stage.query)
  const first = await stage.start()
  await until('half a file', async () => (await readdir(stage.folder)).some(name => name.endsWith('.draft')), 60_000)
  first.signal('SIGSTOP')
  await stage.start()
  await allOver(stage.query)
  expect(await archiveFaults(stage, before)).toEqual([])
  first.signal('SIGCONT')
  await until('the first has let go', () => first.log.some(line => line.msg === 'run let go' || line.msg === 'ending of the run was not ours to write'), 60_000)
  expect(await archiveFaults(stage, before)).toEqual([])
}, 300_000)
