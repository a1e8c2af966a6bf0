import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import type { Query } from '../../src/database.ts'
import { buildBundle } from '../support/bundle.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { runPawl, type WorkerProcess } from '../support/process.ts'
import { until } from '../support/until.ts'
import { finishedOf, type Load, startLoad } from './rolling-load.ts'
import { writeVersions } from './rolling-versions.ts'
import { startCrew } from './stage.ts'

const REPLICAS = 3

/** What one update took and what went on meanwhile; times in milliseconds. */
export type Update = { update: string; migrate_ms: number; ready_ms: number; drain_ms: number[]; runs: number; timers: number; claim_gap_ms: number }

export type Rolling = {
  query: Query
  load: Load
  /** Everyone who ever worked, in the order of their starts. */
  workers: readonly WorkerProcess[]
  updates: readonly Update[]
  /** The migration Job of that version, as deploy/kubernetes runs it: while the workers of the former one are at work. */
  migrate(version: number): Promise<number>
  /** Starts one worker of that version and lets one old one go, `times` over: `maxSurge: 1, maxUnavailable: 0`. */
  replace(version: number, times?: number): Promise<Replaced>
  /** Starts a worker of that version, whatever becomes of it. */
  start(version: number, env?: Record<string, string>): Promise<WorkerProcess>
  /** The whole of an update: the Job, then each replica. `name` for the table. */
  update(version: number, name?: string): Promise<void>
  /** Runs that ended while `work` was done, and the longest time in which nobody took a job. */
  during<Result>(work: () => Promise<Result>): Promise<{ result: Result; runs: number; timers: number; claim_gap_ms: number }>
}

type Replaced = { readyMs: number[]; drainMs: number[] }

/** Three workers of version 0 under load, and as many later versions to bring them to. `farewell` is what lets an old worker go. */
export async function openRolling(releases: number, farewell: NodeJS.Signals = 'SIGTERM'): Promise<Rolling> {
  // What the image runs: from the sources, half of the time would go into starting Node.
  const bundle = buildBundle({ modules: true })
  const program = join(bundle.folder, 'pawl.mjs')
  const db = await createDatabase()
  const crew = startCrew()
  const url = await workerLogin(db)
  onTestFinished(async () => {
    await db.drop()
    await dropLogin(url)
    bundle.remove()
  })
  const versions = await writeVersions(db.query, releases)
  const load = await startLoad(db.query)
  // The last to be told is the first to be done: the workers go before what they write to.
  onTestFinished(() => crew.end())
  const updates: Update[] = []
  const current: WorkerProcess[] = []

  const start: Rolling['start'] = (version, env = {}) =>
    crew.start(url, { program, env: { ...load.environment, PAWL_MIGRATIONS_DIR: versions[version] ?? '', PAWL_LOG_LEVEL: 'info', ...env } })
  const replace: Rolling['replace'] = async (version, times = REPLICAS) => {
    const [readyMs, drainMs]: [number[], number[]] = [[], []]
    for (let replica = 0; replica < times; replica += 1) {
      readyMs.push(await timed(async () => void current.push(await ready(await start(version)))))
      drainMs.push(await timed(() => dismiss(current.shift(), farewell)))
    }
    return { readyMs, drainMs }
  }
  const migrate: Rolling['migrate'] = version =>
    timed(async () => {
      const { code, stdout, stderr } = await runPawl(['migrate', 'up', '--json'], db.url, {
        program,
        env: { PAWL_MIGRATIONS_DIR: versions[version] ?? '' },
      })
      if (code !== 0) throw new Error(`the migration to version ${version} ended with ${code}: ${stdout}${stderr}`)
    })
  const during: Rolling['during'] = async work => {
    const before = { finished: await finishedOf(db.query), at: await now(db.query) }
    const result = await work()
    const after = await finishedOf(db.query)
    const { timer = 0, ...runs } = Object.fromEntries(Object.entries(after).map(([kind, n]) => [kind, n - (before.finished[kind] ?? 0)]))
    return { result, runs: Object.values(runs).reduce((sum, n) => sum + n, 0), timers: timer, claim_gap_ms: await claimGapMs(db.query, before.at) }
  }
  for (let replica = 0; replica < REPLICAS; replica += 1) current.push(await ready(await start(0)))
  return {
    query: db.query,
    load,
    workers: crew.workers,
    updates,
    migrate,
    replace,
    start,
    during,
    async update(version, name = `${version - 1} to ${version}`) {
      const { result, ...meanwhile } = await during(async () => ({ migrateMs: await migrate(version), ...(await replace(version)) }))
      updates.push({ update: name, migrate_ms: result.migrateMs, ready_ms: Math.max(...result.readyMs), drain_ms: result.drainMs, ...meanwhile })
    },
  }
}

/** As in a cluster, workers are not who migrates: a login of their own, with the rights of `pawl_worker`. */
async function workerLogin(db: TestDatabase): Promise<string> {
  const name = `rolling_${randomBytes(4).toString('hex')}`
  await db.query(`create role ${name} login password '${name}' in role pawl_worker`)
  return db.urlAs(name, name)
}

async function dropLogin(url: string): Promise<void> {
  const db = await createDatabase({ empty: true })
  await db.query(`drop role ${new URL(url).username}`)
  await db.drop()
}

/** What lets a rollout go on: the readiness probe, asked over HTTP. */
async function ready(worker: WorkerProcess): Promise<WorkerProcess> {
  await until(`${worker.name} is ready`, async () => (await fetch(`http://127.0.0.1:${worker.httpPort}/readyz`)).status === 200)
  return worker
}

async function dismiss(worker: WorkerProcess | undefined, farewell: NodeJS.Signals): Promise<void> {
  if (worker === undefined) throw new Error('there is no old worker to let go')
  worker.signal(farewell)
  const end = await worker.exited
  if (farewell === 'SIGTERM' && end.code !== 0) throw new Error(`${worker.name} was let go and ended with ${end.code ?? end.signal}`)
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = systemClock.elapsed()
  await work()
  return Math.round(systemClock.elapsed() - begun)
}

async function now(query: Query): Promise<Date> {
  const [row] = await query<{ now: Date }>('select clock_timestamp() as now')
  return row?.now ?? new Date(0)
}

async function claimGapMs(query: Query, since: Date): Promise<number> {
  const [row] = await query<{ ms: number }>(
    `select coalesce(max(extract(epoch from gap) * 1000), 0)::integer as ms
     from (select started_on - lag(started_on, 1, $1) over (order by started_on) as gap from pgboss.job where started_on >= $1) claim`,
    [since],
  )
  return row?.ms ?? 0
}
