import { systemClock } from '../src/clock.ts'
import type { Database } from '../src/database.ts'
import { openLog } from '../src/log.ts'
import type { Metrics } from '../src/metrics.ts'
import { handle } from '../src/worker.ts'
import { applyOverride } from '../workers/overrides/apply.ts'
import { median, rounded, say, watchMachine } from './report.ts'
import { type BenchStage, openBenchStage } from './stage.ts'

/**
 * Pawl's override, every batch fenced, checkpointed and durable, against one single UPDATE of the same rows: same table, same
 * indexes and references, interleaved in one run, median of the pair ratios. Each result is checked before its time counts.
 */
export async function overrides({ quick }: { quick: boolean }): Promise<Record<string, unknown>> {
  const stage = await openBenchStage()
  const bench = { db: stage.db, work: openWorker(stage) }
  const machine = watchMachine(stage.postmaster)
  try {
    const rows = quick ? 100_000 : 1_000_000
    const large = await seed(bench.db, rows)
    const rounds = quick ? 1 : 5
    const pairs = await ratios(bench, large, rounds)
    const slow = await slowDisk(bench, quick ? 20_000 : 200_000)
    const growth = await batchGrowth(bench, quick ? [10_000, 100_000] : [10_000, 1_000_000, 5_000_000])
    const { othersShare } = machine()
    return {
      rows,
      pairs: rounds,
      update_rows_per_second: Math.round(median([...pairs[1000], ...pairs[100]].map(pair => pair.update))),
      pawl_1000_rows_per_second: Math.round(median(pairs[1000].map(pair => pair.pawl))),
      pawl_100_rows_per_second: Math.round(median(pairs[100].map(pair => pair.pawl))),
      ...ratioOf('ratio_1000', pairs[1000]),
      ...ratioOf('ratio_100', pairs[100]),
      ...slow,
      ...growth,
      others_share: othersShare,
      verified: true,
    }
  } finally {
    await stage.close()
  }
}

type Bench = { db: Database; work: ReturnType<typeof openWorker> }
type Category = { id: number; user: number; rows: number }

/** The real engine and the real domain in this process; only pg-boss's claim loop is left out. */
function openWorker({ db, config, lease }: BenchStage) {
  let batchMs: number[] = []
  let enough = { batches: Number.POSITIVE_INFINITY, reached: new AbortController() }
  const metrics = {
    batches(_kind: string, committed: { batches: number }, ms: number) {
      for (let batch = 0; batch < committed.batches; batch += 1) batchMs.push(ms / committed.batches)
      if (batchMs.length >= enough.batches) enough.reached.abort()
    },
    run() {},
    rescue() {},
  } as unknown as Metrics
  const handler = handle(applyOverride, {
    config,
    db,
    log: openLog({ level: 'error', destination: 2 }),
    clock: systemClock,
    metrics,
    drain: new AbortController().signal,
    lanes: config.lanes,
    sliceMs: config.sliceMs,
    leaseMs: 3_600_000,
    turnMs: 3_600_000,
    lease: () => lease,
    held: new Set(),
    onPaused() {},
  })
  return {
    /** Works a run to its end, or until it has done `batches` of them; rows a second and the time of each batch. */
    async run(runId: string, rows: number, batches = Number.POSITIVE_INFINITY) {
      batchMs = []
      enough = { batches, reached: new AbortController() }
      const begun = systemClock.elapsed()
      const settlement = await handler({ runId, jobId: '00000000-0000-0000-0000-000000000000', jobAttempt: 0 }, enough.reached.signal)
      const seconds = (systemClock.elapsed() - begun) / 1000
      const expected = enough.reached.signal.aborted ? ['completed', 'turn'] : ['completed']
      if (!expected.includes(String(settlement.output.outcome))) throw new Error(`the run ended as ${JSON.stringify(settlement)}`)
      return { rate: rows / seconds, batchMs }
    },
  }
}

async function seed(db: Database, rows: number): Promise<Category> {
  say(`seeding ${rows.toLocaleString('en')} recipients with their settings …`)
  const [user] = await db.query<{ id: number }>(`insert into public.users (username) values ('bench ' || gen_random_uuid()) returning id`)
  const [category] = await db.query<{ id: number }>(`insert into public.categories (name) values ('bench') returning id`)
  if (user === undefined || category === undefined) throw new Error('the seed inserted nothing')
  await db.query(
    `insert into public.recipients (category_id, name, is_ad_synced, is_active) select $1, 'recipient ' || i, true, true from generate_series(1, $2::integer) i`,
    [category.id, rows],
  )
  await db.query(
    `insert into public.category_recipient_settings (category_id, recipient_id, settings)
     select category_id, id, '{"channel": "email", "frequency": "weekly"}' from public.recipients where category_id = $1`,
    [category.id],
  )
  await db.query('vacuum analyze public.recipients')
  return { id: category.id, user: user.id, rows }
}

/** Every measurement starts from the same table: no dead rows left to trip over, no checkpoint in the middle, page images to pay. */
async function settle(db: Database): Promise<void> {
  await db.query('vacuum public.category_recipient_settings')
  await db.query('checkpoint')
}

type Pair = { update: number; pawl: number }

/** Each measurement of Pawl stands right behind one UPDATE of its own: these machines change their speed from minute to minute. */
async function ratios(bench: Bench, category: Category, rounds: number) {
  const pairs: Record<1000 | 100, Pair[]> = { 1000: [], 100: [] }
  for (let round = 1; round <= rounds; round += 1) {
    for (const batchSize of [1000, 100] as const) {
      const update = await singleUpdate(bench.db, category)
      const pawl = (await throughPawl(bench, category, batchSize)).rate
      pairs[batchSize].push({ update, pawl })
      say(`round ${round}: UPDATE ${Math.round(update)} rows/s, batches of ${batchSize} ${Math.round(pawl)}: ${rounded(pawl / update)}`)
    }
  }
  return pairs
}

function ratioOf(name: string, pairs: readonly Pair[]): Record<string, unknown> {
  const ratios = pairs.map(pair => rounded(pair.pawl / pair.update))
  return { [name]: rounded(median(ratios)), [`${name}_pairs`]: ratios }
}

async function singleUpdate(db: Database, category: Category): Promise<number> {
  const id = await request(db, category, 1000, { channel: 'sms' })
  await settle(db)
  const begun = systemClock.elapsed()
  await db.query(
    `update public.category_recipient_settings
     set settings = $2, updated_by_operation = $1, is_override_generated = true, override_timestamp = now()
     where category_id = $3`,
    [id, '{"channel": "sms"}', category.id],
  )
  const rate = category.rows / ((systemClock.elapsed() - begun) / 1000)
  await verify(db, id, category.rows)
  await db.query('select pawl.cancel($1)', [id])
  return rate
}

async function throughPawl({ db, work }: Bench, category: Category, batchSize: number) {
  const id = await request(db, category, batchSize, { channel: 'push', batch: batchSize })
  await settle(db)
  const measured = await work.run(id, category.rows)
  await verify(db, id, category.rows)
  return measured
}

async function request(db: Database, category: Category, batchSize: number, settings: object): Promise<string> {
  const [row] = await db.query<{ id: string }>('select pawl.request_override($1, $2, $3, $4) as id', [
    category.id,
    category.user,
    JSON.stringify(settings),
    batchSize,
  ])
  return row?.id ?? ''
}

async function verify(db: Database, id: string, rows: number): Promise<void> {
  const [row] = await db.query<{ exact: number }>('select count(*) as exact from public.category_recipient_settings where updated_by_operation = $1', [id])
  if (row?.exact !== rows) throw new Error(`operation ${id} wrote ${row?.exact} of ${rows} rows`)
}

/** fsync costs 50 µs on these machines; commit_delay adds 2 ms to every commit, as a network disk would. */
async function slowDisk(bench: Bench, rows: number) {
  const category = await seed(bench.db, rows)
  await bench.db.query('alter system set commit_siblings = 0')
  await bench.db.query('alter system set commit_delay = 2000')
  await bench.db.query('select pg_reload_conf()')
  await systemClock.sleep(500)
  const update = await singleUpdate(bench.db, category)
  const batch1000 = await throughPawl(bench, category, 1000)
  const batch100 = await throughPawl(bench, category, 100)
  await bench.db.query('alter system reset commit_delay')
  await bench.db.query('select pg_reload_conf()')
  await systemClock.sleep(500)
  return { slow_disk_ratio_1000: rounded(batch1000.rate / update), slow_disk_ratio_100: rounded(batch100.rate / update) }
}

const GROWTH_ROUNDS = 5
const GROWTH_BATCHES = 200

/**
 * The median batch at each size, over the median at the smallest: what growth of the table costs a batch.
 * Round by round, a sample of each size, because the machine is a third slower some minutes than others.
 */
async function batchGrowth(bench: Bench, sizes: number[]) {
  const categories: Category[] = []
  for (const rows of sizes) categories.push(await seed(bench.db, rows))
  const rounds: number[][] = []
  for (let round = 1; round <= GROWTH_ROUNDS; round += 1) {
    const medians: number[] = []
    for (const category of categories) medians.push(median(await sampleBatches(bench, category)))
    rounds.push(medians)
    say(
      `round ${round}: a batch of 1000 among ${sizes.map((rows, place) => `${rows.toLocaleString('en')}: ${rounded(medians[place] ?? Number.NaN)} ms`).join(', ')}`,
    )
  }
  const batchMs = sizes.map((_, place) => median(rounds.map(medians => medians[place] ?? Number.NaN)))
  return { batch_ms: batchMs.map(ms => rounded(ms)), batch_growth: rounded(Math.max(...batchMs) / (batchMs[0] ?? Number.NaN)) }
}

/** The times of at least GROWTH_BATCHES batches; a small category is gone through several times. */
async function sampleBatches({ db, work }: Bench, category: Category): Promise<number[]> {
  const all: number[] = []
  while (all.length < GROWTH_BATCHES) {
    const id = await request(db, category, 1000, { channel: 'push', sample: all.length })
    all.push(...(await work.run(id, category.rows, GROWTH_BATCHES)).batchMs)
    await db.query('select pawl.cancel($1)', [id])
  }
  return all
}
