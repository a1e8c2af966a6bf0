import { systemClock } from '../../src/clock.ts'
import type { Database, Query } from '../../src/database.ts'
import { isOutage } from './load.ts'
import { REFRESHED } from './shadow.ts'

/** Something that must never be seen, and when it was. */
export type Violation = { check: string; what: string; atMs: number }

/** Looks at the whole house again and again, each time in one snapshot. */
export type Sampler = {
  violations: Violation[]
  /** Snapshots so far: on a loaded machine they come as slowly as everything else. */
  samples(): number
  stop(): Promise<void>
}

const EVERY_MS = 300

/** What one snapshot must not show. Each statement returns a row for each breach; `what` says which. */
export const SNAPSHOT_CHECKS: Readonly<Record<string, string>> = {
  'progress is what the rows say': `
    select format('%s says %s processed, its lanes %s, %s rows carry it', o.operation_id, o.processed_recipients, l.done, r.rows) as what
    from public.category_override_operations o
    cross join lateral (select coalesce(sum(done), 0) as done from pawl.lanes where run_id = o.operation_id) l
    cross join lateral (select count(*) as rows from public.category_recipient_settings s where s.category_id = o.category_id and s.updated_by_operation = o.operation_id) r
    where o.status = 'PROCESSING' and (o.processed_recipients <> l.done or o.processed_recipients <> r.rows)`,
  'no more is done than there is': `
    select format('%s: %s of %s done, %s %%, %s', run_id, done, total, percent, state) as what
    from pawl.runs where state in ('running', 'completed') and kind in ('override', 'backfill', 'refresh') and (done > total or percent > 100)`,
  'nothing is completed that lacks rows': `
    select format('%s is completed with %s of %s rows, %s carry it', o.operation_id, o.processed_recipients, n.recipients, r.rows) as what
    from public.category_override_operations o
    cross join lateral (select count(*) as recipients from public.recipients r where r.category_id = o.category_id and r.is_ad_synced and r.is_active) n
    cross join lateral (select count(*) as rows from public.category_recipient_settings s where s.category_id = o.category_id and s.updated_by_operation = o.operation_id) r
    where o.status = 'COMPLETED' and o.reverts_operation_id is null and (o.processed_recipients <> n.recipients or (r.rows <> n.recipients and not exists (
      select from public.category_override_operations later where later.category_id = o.category_id and later.id > o.id and later.started_at is not null)))`,
  'one operation of a category at a time': `
    select format('category %s: %s at once', category_id, string_agg(operation_id, ', ')) as what
    from public.category_override_operations where status = 'PROCESSING' group by category_id having count(*) > 1`,
  'a backfill has changed what it says': `
    select format('the rows count %s changes, the runs %s', c.n, r.done) as what
    from (select coalesce(sum(n), 0) as n from public.faults_counters) c,
      (select coalesce(sum(done), 0) as done from pawl.runs where kind = 'backfill') r
    where c.n <> r.done`,
  'a refreshed table is whole': `
    ${REFRESHED.map(table => `select format('sqp.${table} shows versions %s to %s', min(version), max(version)) as what from sqp.${table} having min(version) <> max(version)`).join(' union all ')}`,
  'no table is newer than what it is made of': `
    select format('raw has version %s, daily %s, summary %s', raw, daily, summary) as what
    from (select (select max(version) from sqp.raw) as raw, (select max(version) from sqp.daily) as daily, (select max(version) from sqp.summary) as summary) v
    where daily > raw or summary > daily`,
  'a report that is completed has its file': `
    select format('execution %s: %s bytes, %s', id, result_size_bytes, output_url) as what
    from reporting.report_executions where status = 'completed' and (output_url is null or result_size_bytes is null or metadata ->> 'sha256' is null)`,
  'nothing fails': `
    select format('%s failed: %s', run_id, error) as what from pawl.checkpoints where state = 'failed' and not (${isForgivable('error')})`,
}

/** Failures that name what an operator has to do, and which the harness then does: it is what killed the worker thrice, or filled the disk. */
export function isForgivable(error: string): string {
  return `${error} like 'poison: the worker died%' or ${error} like '%there is no room left in%' or ${error} like '%can''t be used: EACCES%'`
}

/** Begins to look, on connections of the superuser's own that no fault touches. */
export function startSampler(exempt: Database, begunMs: number): Sampler {
  const stopping = new AbortController()
  const violations: Violation[] = []
  const told = new Set<string>()
  const high = new Map<string, { epoch: number; percent: number }>()
  let samples = 0
  const note = (check: string, what: string) => {
    // The same breach stands in every later snapshot too.
    if (told.has(`${check} ${what}`)) return
    told.add(`${check} ${what}`)
    violations.push({ check, what, atMs: Math.round(systemClock.elapsed() - begunMs) })
  }
  const look = async (query: Query) => {
    await query('set transaction isolation level repeatable read, read only')
    for (const [check, statement] of Object.entries(SNAPSHOT_CHECKS)) {
      for (const { what } of await query<{ what: string }>(statement)) note(check, what)
    }
    for (const what of await fallen(query, high)) note('a run never goes back', what)
  }
  const loop = async () => {
    while (!stopping.signal.aborted) {
      try {
        await exempt.transact(look, { timeoutMs: 60_000 })
        await retryForgiven(exempt.query)
        samples += 1
      } catch (error) {
        if (!isOutage(error)) throw error
      }
      await systemClock.sleep(EVERY_MS, stopping.signal)
    }
  }
  const looping = loop()
  looping.catch((error: unknown) => note('the sampler itself', String(error)))
  return {
    violations,
    samples: () => samples,
    async stop() {
      stopping.abort()
      // What it died of stands among the violations.
      await looping.catch(() => {})
    },
  }
}

/** Runs whose percentage is less than in an earlier snapshot. A refresh may begin anew, and says so: another reading of its source. */
export async function fallen(query: Query, high: Map<string, { epoch: number; percent: number }>): Promise<string[]> {
  const runs = await query<{ run_id: string; percent: number; reading: number }>(
    `select r.run_id, r.percent::float8, coalesce((select s.extraction from pawl.refresh_steps s where s.run_id = r.run_id), 0) as reading
     from pawl.runs r where r.percent is not null and r.kind in ('override', 'backfill', 'refresh') and r.started_at > now() - interval '10 minutes' and r.state <> 'failed'`,
  )
  return runs.flatMap(({ run_id, percent, reading }) => {
    const before = high.get(run_id)
    high.set(run_id, { epoch: reading, percent })
    return before !== undefined && before.epoch === reading && percent < before.percent ? [`${run_id}: ${percent} % after ${before.percent} %`] : []
  })
}

/** What an operator does whom `pawl.failures` has told of poison or of a full disk. */
async function retryForgiven(query: Query): Promise<void> {
  await query(
    `with failed as materialized (select run_id, error from pawl.checkpoints where state = 'failed' and (${isForgivable('error')}) for update skip locked),
     noted as (insert into faults.retried (run_id, error) select run_id, error from failed)
     select pawl.retry(run_id) from failed`,
  )
}
