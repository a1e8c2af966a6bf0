import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Query } from '../../src/database.ts'
import { timerFaults } from '../crash/timer-stage.ts'
import { COUNTERS, REPORT_ROWS } from './load.ts'
import { SNAPSHOT_CHECKS } from './sampler.ts'

const AGAIN = `exists (select from faults.retried again where again.run_id = c.run_id)`

/** What must not be in the rows when all work is done. Each statement returns a row for each breach; `what` says which. */
export const CHECKS: Readonly<Record<string, string>> = {
  'conservation: what was acknowledged is there': `
    select format('%s %s was acknowledged and is gone', a.kind, a.id) as what
    from faults.acknowledged a
    where (a.kind in ('override', 'report', 'backfill') and not exists (select from pawl.checkpoints c where c.run_id = a.id))
      or (a.kind = 'health' and not exists (select from pgboss.job j where j.name = 'maintenance.health' and j.id = a.id::uuid))
    union all
    select format('%s timers were acknowledged, %s are there', a.timers, t.timers)
    from (select coalesce(sum((detail ->> 'timers')::integer), 0) as timers from faults.acknowledged where kind = 'timers') a,
      (select count(*) as timers from public.campaign_timers where payload ? 'ours') t
    where t.timers < a.timers`,
  'conservation: every run has ended': `
    select format('%s is %s%s', run_id, state, coalesce(': ' || error, '')) as what from pawl.checkpoints where state not in ('completed', 'cancelled')`,
  'conservation: operations end as they were asked to': `
    select format('%s is %s, %s', o.operation_id, o.status, case when a.detail ? 'cancel' then 'to be cancelled' else 'to be completed' end) as what
    from public.category_override_operations o left join faults.acknowledged a on a.kind = 'override' and a.id = o.operation_id
    -- A cancellation is heard at the next batch edge, and there may be none any more.
    where o.status <> 'COMPLETED' and not (o.status = 'CANCELLED' and coalesce(a.detail ? 'cancel', false))`,
  'conservation: each recipient once': `
    select format('%s processed %s of %s, wrote %s rows of %s recipients', o.operation_id, o.processed_recipients, n.recipients, w.rows, w.recipients) as what
    from public.category_override_operations o
    cross join lateral (select count(*) as recipients from public.recipients r where r.category_id = o.category_id and r.is_ad_synced and r.is_active) n
    cross join lateral (select count(*) as rows, count(distinct r) as recipients from faults.writes f, unnest(f.recipients) r where f.operation_id = o.operation_id) w
    where o.processed_recipients <> w.rows or w.rows <> w.recipients or (o.status = 'COMPLETED' and w.rows <> n.recipients)`,
  'conservation: the rows carry their last operation': `
    select format('%s is the last that wrote to category %s, %s rows carry it, not %s', last.operation_id, last.category_id, r.rows, last.processed_recipients) as what
    from (
      select distinct on (o.category_id) o.* from public.category_override_operations o
      where o.processed_recipients > 0 order by o.category_id, o.id desc
    ) last
    cross join lateral (
      select count(*) as rows from public.category_recipient_settings s
      where s.category_id = last.category_id and s.updated_by_operation = last.operation_id and s.settings = last.override_settings and s.is_override_generated
    ) r
    where r.rows <> last.processed_recipients`,
  'conservation: one audit row a change': `
    select format('%s: %s audit rows, %s', o.operation_id, a.rows, a.says) as what
    from public.category_override_operations o
    cross join lateral (
      select count(*) as rows, string_agg(format('%s of %s', x.operation_status, x.affected_recipients_count), ', ') as says,
        bool_and(x.operation_status = case when o.status = 'COMPLETED' then 'COMPLETED' else 'FAILED' end and x.affected_recipients_count = o.processed_recipients) as right
      from public.category_override_audit x where x.operation_id = o.operation_id
    ) a
    where a.rows <> 1 or not a.right
    union all
    select format('category %s counts %s overrides, %s are completed', c.id, c.override_count, n.completed)
    from public.categories c
    cross join lateral (select count(*) as completed from public.category_override_operations o where o.category_id = c.id and o.status = 'COMPLETED') n
    where c.override_count <> n.completed
    union all
    select format('%s has %s audit rows of success', s.run_id, n.rows)
    from pawl.refresh_steps s
    cross join lateral (select count(*) as rows from sqp.refresh_audit_log a where a.sync_metadata ->> 'run_id' = s.run_id and a.status = 'success') n
    where s.outcome = 'completed' and n.rows <> 1
    union all
    select format('execution %s: %s', e.id, n.facts)
    from reporting.report_executions e
    cross join lateral (select format('%s times created, %s times exported, %s times completed',
      (select count(*) from reporting.audit_logs a where a.resource_id = e.id and a.action = 'create'),
      (select count(*) from reporting.audit_logs a where a.resource_id = e.id and a.action = 'export'),
      (select count(*) from reporting.execution_logs l where l.execution_id = e.id and l.message like 'completed%')) as facts) n
    where e.status = 'completed' and n.facts <> '1 times created, 1 times exported, 1 times completed'
    union all
    select format('report %s counts %s executions, %s are completed', r.name, r.execution_count, n.completed)
    from reporting.reports r
    cross join lateral (select count(*) as completed from reporting.report_executions e where e.report_id = r.id and e.status = 'completed') n
    where r.execution_count <> n.completed`,
  'conservation: each backfill changed each row once': `
    select format('%s rows were changed %s times, %s backfills are completed', count(*), n, b.backfills) as what
    from public.faults_counters, (select count(*) as backfills from pawl.checkpoints where kind = 'backfill' and state = 'completed') b
    where n <> b.backfills group by n, b.backfills
    union all
    select format('%s changed %s rows of ${COUNTERS}', run_id, done) from pawl.checkpoints where kind = 'backfill' and state = 'completed' and done <> ${COUNTERS}`,
  'conservation: health was looked at': `
    select format('%s health checks were asked for, %s are written down', a.asked, l.lines) as what
    from (select count(*) as asked from faults.acknowledged where kind = 'health') a,
      (select count(*) as lines from public.system_maintenance_log where operation = 'health_check') l
    where l.lines < a.asked`,
  'conservation: tables are what their sources are': `
    select format('sqp.%s has %s, its source %s', t.name, t.found, t.wanted) as what
    from (
      select 'raw' as name, (select md5(string_agg(format('%s %s %s', id, version, amount), ',' order by id)) from sqp.raw) as found,
        (select md5(string_agg(format('%s %s %s', id, version, amount), ',' order by id)) from public.faults_source) as wanted
      union all
      select 'daily', (select md5(string_agg(format('%s %s %s', id, version, amount), ',' order by id)) from sqp.daily),
        (select md5(string_agg(format('%s %s %s', id, version, amount * 2), ',' order by id)) from public.faults_source)
      union all
      select 'summary', (select md5(string_agg(format('%s %s %s', id, version, amount), ',' order by id)) from sqp.summary),
        (select md5(string_agg(format('%s %s %s', id, version, amount), ',' order by id))
         from (select id % 100 as id, max(version) as version, sum(amount * 2) as amount from public.faults_source group by 1) s)
    ) t
    where t.found is distinct from t.wanted`,
  'conservation: nothing is in a dead letter queue': `
    select format('%s: %s', name, coalesce(data ->> 'run_id', data::text)) as what from pgboss.job j
    where name like '%.dead' and not exists (select from faults.retried again where again.run_id = j.data ->> 'run_id')`,
  'conservation: a fault is no failure of the work': `
    select format('%s counts %s failures', run_id, failures) as what from pawl.checkpoints c where failures > 0 and not ${AGAIN}`,
  'order: operations of a category one after another': `
    select format('%s began before %s had ended', later.operation_id, earlier.operation_id) as what
    from (
      select o.category_id, o.id, o.operation_id, min(w.at) as begun, max(w.at) as done
      from public.category_override_operations o join faults.writes w using (operation_id)
      -- One that failed and was asked for again goes on when it is its turn again.
      where not exists (select from faults.retried again where again.run_id = o.operation_id)
      group by o.id
    ) earlier
    join (select o.category_id, o.id, o.operation_id, min(w.at) as begun from public.category_override_operations o join faults.writes w using (operation_id) group by o.id) later
      on later.category_id = earlier.category_id and later.id > earlier.id
    where later.begun < earlier.done`,
  'order: a table after what it is made of': `
    select format('%s was begun at %s, %s had ended at %s', w.run_id, b.begun, w.parent_run_id, c.finished_at) as what
    from pawl.refresh_waits w
    join pawl.checkpoints c on c.run_id = w.parent_run_id
    cross join lateral (
      select min(at) as begun from (
        select at from faults.batches f where f.run_id = w.run_id union all select at from faults.published p where p.run_id = w.run_id
      ) own
    ) b
    where b.begun < c.finished_at and not ${AGAIN}`,
  'order: the batches of a lane': `
    select format('%s, lane %s: batch %s of epoch %s from %s (%s) after batch %s of epoch %s up to %s (%s)', run_id, lane, batch, epoch, before, worker, last_batch, last_epoch, last_after, last_worker) as what
    from (
      select f.*, lag(batch) over own as last_batch, lag(epoch) over own as last_epoch, lag(after) over own as last_after, lag(worker) over own as last_worker
      from faults.batches f window own as (partition by run_id, lane order by place)
    ) f
    where not (
      case when last_batch is null or (run_id like 'refresh:%' and batch = 1) then batch = 1
      -- A report goes on behind the last page that is whole, in a file of a new name; one whose file was removed when it failed begins anew.
      when exists (select from pawl.checkpoints c where c.run_id = f.run_id and c.kind = 'report') then batch = last_batch + 1 and epoch >= last_epoch
        and (before -> 'place' is not distinct from last_after -> 'place' or exists (select from faults.retried again where again.run_id = f.run_id))
      else batch = last_batch + 1 and epoch >= last_epoch and before = last_after end
    )`,
  'fences: who writes is who holds the run': `
    select format('%s wrote %s rows of %s, which %s held', worker, cardinality(recipients), operation_id, coalesce(holder, 'nobody')) as what
    from faults.writes where worker is distinct from holder
    union all
    select format('%s moved lane %s of %s, which %s held', worker, lane, run_id, coalesce(holder, 'nobody')) from faults.batches where worker is distinct from holder
    union all
    select format('%s published sqp.%s, whose run %s %s held', worker, table_name, coalesce(run_id, '-'), coalesce(holder, 'nobody'))
    from faults.published where worker is distinct from holder`,
  'fences: what the lanes say is what was written': `
    select format('%s: %s rows in its batches, %s processed', o.operation_id, b.rows, o.processed_recipients) as what
    from public.category_override_operations o
    cross join lateral (select coalesce(sum(f.rows), 0) as rows from faults.batches f where f.run_id = o.operation_id) b
    where b.rows <> o.processed_recipients`,
}

export type Breach = { check: string; what: string }

/** All of it, when the house is quiet: the last snapshot, the rows, and the files in the store. */
export async function checkRows(query: Query): Promise<Breach[]> {
  const breaches: Breach[] = []
  for (const [check, statement] of [...Object.entries(SNAPSHOT_CHECKS), ...Object.entries(CHECKS)]) {
    for (const { what } of await query<{ what: string }>(statement)) breaches.push({ check, what })
  }
  for (const what of await timerFaults(query)) breaches.push({ check: 'timers: each fires once, in order, never early', what })
  return breaches
}

type File = { id: string; format: keyof typeof REPORT_ROWS; key: string; bytes: number; sha256: string; edition: number | null }

/** One whole file for each execution that is completed, with what was there when it was asked for or later; and nothing else. */
export async function checkFiles(query: Query, folder: string): Promise<Breach[]> {
  const files = await query<File>(
    `select e.id, e.output_format as format, e.metadata ->> 'key' as key, e.result_size_bytes as bytes, e.metadata ->> 'sha256' as sha256, (a.detail ->> 'edition')::integer as edition
     from reporting.report_executions e left join faults.acknowledged a on a.kind = 'report' and a.id = e.id::text where e.status = 'completed'`,
  )
  const breaches: string[] = []
  for (const file of files) {
    const bytes = await readFile(join(folder, file.key)).catch(() => undefined)
    if (bytes === undefined) breaches.push(`${file.key} of execution ${file.id} is missing`)
    else breaches.push(...contentFaults(file, bytes).map(fault => `${file.key} of execution ${file.id}: ${fault}`))
  }
  const wanted = new Set(files.map(file => file.key))
  for (const name of await readdir(folder)) if (!wanted.has(name)) breaches.push(`${name} is nobody's`)
  for (const { key } of await query<{ key: string }>('select key from pawl.report_files')) breaches.push(`${key} is still to be removed`)
  return breaches.map(what => ({ check: 'reports: one whole file each, and no other', what }))
}

function contentFaults(file: File, bytes: Buffer): string[] {
  const faults: string[] = []
  if (bytes.length !== file.bytes) faults.push(`${bytes.length} bytes, not ${file.bytes}`)
  if (createHash('sha256').update(bytes).digest('hex') !== file.sha256) faults.push('another checksum')
  if (file.format !== 'csv') return faults
  const rows = bytes
    .toString()
    .trimEnd()
    .split('\n')
    .slice(1)
    .map(line => line.split(','))
  if (rows.length !== REPORT_ROWS.csv) faults.push(`${rows.length} rows, not ${REPORT_ROWS.csv}`)
  const strange = rows.findIndex(([id], place) => Number(id) !== place + 1)
  if (strange !== -1) faults.push(`row ${strange + 1} is ${rows[strange]?.join(',')}`)
  // Smaller: read where the commit before it had not arrived. Negative: read from a server that was promoted.
  const stale = rows.find(([, , edition]) => Number(edition) < (file.edition ?? 0))
  if (stale !== undefined) faults.push(`it shows edition ${stale[2]}, and was asked for with ${file.edition}`)
  return faults
}
