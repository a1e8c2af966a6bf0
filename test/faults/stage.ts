import { cpus, loadavg } from 'node:os'
import { systemClock } from '../../src/clock.ts'
import { until } from '../support/until.ts'
import { type Breach, checkFiles, checkRows } from './check.ts'
import { answering, blows, ended } from './faults.ts'
import { type Ground, openGround } from './ground.ts'
import { type Load, prepareLoad, startLoad } from './load.ts'
import type { Fault } from './plan.ts'
import { type Mark, markProgress, recover } from './recovery.ts'
import { type Sampler, startSampler } from './sampler.ts'
import { castShadows } from './shadow.ts'
import { footerOf, type Outcome, tableOf } from './table.ts'

const WORKERS = 3
/** From here on the live line says what came last. */
const SLOW_MS = 5_000
const QUIET_PATIENCE_MS = 60_000
const QUIET_PATIENCE_SAMPLES = 150

export type Result = {
  outcomes: Outcome[]
  /** Every violation: those seen in and between the faults, and what the rows and files show at the end. */
  violations: string[]
  samples: number
  /** How much was done, by kind. */
  done: Record<string, number>
  table: string
  /** Where it all still lies, when there were violations. */
  kept: string | undefined
}

export type Options = {
  faults: readonly Fault[]
  tell: (line: string) => void
  /** The load alone, for so long, after the last fault. */
  afterMs?: number
  /** Done to the house before the load begins: a planted bug. */
  sabotage?: (ground: Ground) => Promise<void>
  /** Ends it early: everything is taken down, nothing is checked. */
  signal?: AbortSignal
  /** Keep everything also when nothing was wrong, or not even when something was. */
  keep?: 'always' | 'never'
}

/** Opens a house, puts it under load, strikes it with the faults of a plan, and says what the rows show. */
export async function runFaults({ faults, tell, afterMs = 0, sabotage, signal, keep }: Options): Promise<Result> {
  const ground = await openGround()
  let clean = false
  const isKept = () => keep === 'always' || (keep !== 'never' && !clean && signal?.aborted !== true)
  try {
    await castShadows(ground.exempt.query)
    const cast = await prepareLoad(ground.exempt.query, ground.shop, ground.login)
    await sabotage?.(ground)
    await Promise.all(Array.from({ length: WORKERS }, () => ground.crew.start()))
    const begunMs = systemClock.elapsed()
    const sampler = startSampler(ground.exempt, begunMs)
    const load = startLoad(ground.urls, ground.exempt.query, cast)
    const outcomes = await underLoad(ground, begunMs, faults, sampler, tell, afterMs, load, signal)
    tell('the load ends; waiting until everything that was asked for is done')
    await load.stop()
    const restless = await quiet(ground, sampler)
    await sampler.stop()
    const drained = await drainAll(ground)
    const between = sampler.violations.filter(({ atMs }) => !outcomes.some(outcome => isDuring(outcome, atMs)))
    const atTheEnd = [
      ...between,
      ...restless,
      ...drained,
      ...(await checkRows(ground.exempt.query)),
      ...(await checkFiles(ground.exempt.query, ground.store.folder)),
    ]
    const violations = [
      ...outcomes.flatMap(outcome => outcome.violations.map(violation => `fault ${outcome.number}, ${outcome.what}: ${violation}`)),
      ...atTheEnd.map(({ check, what }) => `${check}: ${what}`),
    ]
    clean = violations.length === 0
    return {
      outcomes,
      violations,
      samples: sampler.samples(),
      done: await doneIn(ground),
      table: `${tableOf(outcomes, atTheEnd.length)}\n${footerOf(outcomes, sampler.samples(), cpus().length)}`,
      kept: isKept() ? ground.folder : undefined,
    }
  } finally {
    await ground.end(isKept())
  }
}

const isDuring = (outcome: Outcome, atMs: number) => atMs >= outcome.atMs && atMs <= outcome.atMs + outcome.lastedMs

async function underLoad(
  ground: Ground,
  begunMs: number,
  faults: readonly Fault[],
  sampler: Sampler,
  tell: Options['tell'],
  afterMs: number,
  load: Load,
  signal?: AbortSignal,
) {
  const { query } = ground.exempt
  await until(
    'every domain is at work',
    async () => {
      const [row] = await query<{ kinds: number; timers: number }>(
        `select (select count(distinct kind) from pawl.checkpoints where state = 'completed') as kinds, (select count(*) from public.timer_executions) as timers`,
      )
      load.check()
      return row !== undefined && row.kinds >= 4 && row.timers > 0
    },
    300_000,
  )
  tell('every domain is at work')
  const baseMs = systemClock.elapsed()
  const outcomes: Outcome[] = []
  for (const fault of faults) {
    await systemClock.sleep(Math.max(300, baseMs + fault.atMs - systemClock.elapsed()), signal)
    signal?.throwIfAborted()
    load.check()
    const outcome = await strike(ground, begunMs, fault, sampler)
    outcomes.push(outcome)
    tell(lineOf(outcome))
  }
  await systemClock.sleep(afterMs)
  return outcomes
}

async function strike(ground: Ground, begunMs: number, fault: Fault, sampler: Sampler): Promise<Outcome> {
  const atMs = systemClock.elapsed() - begunMs
  const seen = sampler.violations.length
  let mark: Mark | undefined
  const done = await blows[fault.kind](ground, fault, async victim => {
    mark = await answering(() => markProgress(ground.exempt.query, victim?.name))
  })
  // Looked at below; until then nobody hears it, and that would end the process.
  const after = done.after?.catch((error: unknown) => [String(error)])
  if (mark === undefined) throw new Error(`the fault "${fault.kind}" did not say when it struck`)
  const { tookMs, last, late } = await recover(ground.exempt.query, fault.kind, mark, sampler.samples)
  const wrong = [...done.wrong, ...((await after) ?? [])]
  return {
    number: fault.number,
    kind: fault.kind,
    what: done.what,
    held: mark.runs,
    atMs: Math.round(atMs),
    lastedMs: Math.round(systemClock.elapsed() - begunMs - atMs),
    recoveredMs: Math.round(tookMs),
    last,
    loadAverage: loadavg()[0] ?? 0,
    violations: [
      ...wrong,
      ...(late === undefined ? [] : [`not recovered in time: ${late}`]),
      ...sampler.violations.slice(seen).map(({ check, what }) => `${check}: ${what}`),
    ],
  }
}

function lineOf({ number, what, held, atMs, recoveredMs, last, violations }: Outcome): string {
  const held_ = held.length === 0 ? '' : `, ${held.length} runs under way`
  const line = `${(atMs / 1000).toFixed(1).padStart(6)} s  ${String(number).padStart(3)}  ${what}${held_}: recovered after ${(recoveredMs / 1000).toFixed(2)} s${recoveredMs > SLOW_MS && last !== '' ? `, last ${last}` : ''}`
  return [line, ...violations.map(violation => `        VIOLATION  ${violation}`)].join('\n')
}

/** Until everything that was asked for is done. It may take as long as it moves. */
async function quiet({ exempt, crew }: Ground, sampler: Sampler): Promise<Breach[]> {
  const { query } = exempt
  await query(`select pawl.refresh_table('sqp.raw', 'none', true), pawl.refresh_table('sqp.shop', 'none')`)
  // A wheel's first turn removes the files of dead attempts; those that are at work do it once a minute.
  let swept = false
  let [last, lastMs, lastSamples] = ['', systemClock.elapsed(), sampler.samples()]
  for (;;) {
    const [row] = await query<{ left: string; work: number }>(
      `select format('%s runs, %s timers, %s health checks, %s files', r.n, t.n, h.n, f.n) as left, r.n + t.n + h.n as work,
         format('%s %s', (select count(*) from faults.batches), (select count(*) from public.timer_executions)) as moved
       from (select count(*) as n from pawl.checkpoints where state in ('pending', 'running', 'failed')) r,
         (select count(*) as n from public.campaign_timers where payload ? 'ours' and (status in ('PENDING', 'RUNNING') or (status = 'FAILED' and retry_count < 5))) t,
         (select count(*) as n from pgboss.job where name = 'maintenance.health' and state < 'completed') h,
         (select count(*) as n from pawl.report_files) f`,
    )
    if (row?.left === '0 runs, 0 timers, 0 health checks, 0 files') return []
    if (row?.work === 0 && !swept) {
      swept = true
      await crew.start()
    }
    const now = JSON.stringify(row)
    if (now !== last) [last, lastMs, lastSamples] = [now, systemClock.elapsed(), sampler.samples()]
    else if (systemClock.elapsed() - lastMs > QUIET_PATIENCE_MS && sampler.samples() - lastSamples > QUIET_PATIENCE_SAMPLES) {
      return [{ check: 'everything comes to its end', what: `nothing moves any more, and there are left: ${row?.left}` }]
    }
    await systemClock.sleep(200)
  }
}

async function drainAll({ crew }: Ground): Promise<Breach[]> {
  const ends = await Promise.all(
    crew.living().map(worker => {
      worker.signal('SIGTERM')
      return ended(worker)
    }),
  )
  return ends.flat().map(what => ({ check: 'every worker drains', what }))
}

async function doneIn({ exempt }: Ground): Promise<Record<string, number>> {
  const rows = await exempt.query<{ what: string; n: number }>(
    `select kind || ' ' || state as what, count(*) as n from pawl.checkpoints group by 1
     union all select 'timers fired', count(*) from public.timer_executions where status = 'COMPLETED'
     union all select 'batches', count(*) from faults.batches
     union all select 'retried by hand (' || split_part(error, ':', 1) || ')', count(*) from faults.retried group by 1
     union all select 'takeovers', coalesce(sum(n), 0)::bigint from (select count(distinct epoch) - 1 as n from faults.batches group by run_id, lane) t
     order by what`,
  )
  return Object.fromEntries(rows.map(({ what, n }) => [what, n]))
}
