import type { Query } from '../../../src/database.ts'
import { applyOverride } from '../../../workers/overrides/apply.ts'
import { hire } from '../crew.ts'
import { readDiary } from '../diary.ts'
import type { Cast } from '../scenario.ts'
import type { World } from '../world.ts'

/** A category with seven live recipients, two of whom have no settings row yet, and one who is not synced. */
export type Category = { id: number; user: number; recipients: number[] }

const RECIPIENTS = 7

/** Takes away what the last schedule left; users stay. */
export function clearCategories(query: Query): Promise<unknown> {
  return query('delete from public.category_override_audit; delete from public.category_override_operations; delete from public.categories')
}

export async function addCategory(query: Query): Promise<Category> {
  const [row] = await query<{ id: number; user: number }>(
    `with person as (insert into public.users (username) values ('explorer') on conflict (username) do update set username = excluded.username returning id),
     category as (insert into public.categories (name, settings) values ('Newsletter', '{"channel": "email"}') returning id)
     select category.id, person.id as user from category, person`,
  )
  const { id, user } = row ?? { id: 0, user: 0 }
  const recipients = await query<{ id: number }>(
    `insert into public.recipients (category_id, name, is_ad_synced, is_active)
     select $1, 'recipient ' || i, i <> 4, true from generate_series(1, $2::integer + 1) i returning id, is_ad_synced`,
    [id, RECIPIENTS],
  )
  const ids = recipients.map(recipient => recipient.id)
  await query(
    `insert into public.category_recipient_settings (category_id, recipient_id, settings)
     select $1, i, jsonb_build_object('before', i) from unnest($2::bigint[]) i`,
    [id, ids.filter((_, place) => place % 4 !== 1)],
  )
  return { id, user, recipients: ids.filter((_, place) => place !== 3) }
}

export async function requestOverride(query: Query, category: Category, settings: object, key?: string): Promise<string> {
  const [row] = await query<{ id: string }>('select pawl.request_override($1, $2, $3, 2, null, null, $4) as id', [
    category.id,
    category.user,
    JSON.stringify(settings),
    key ?? null,
  ])
  return row?.id ?? ''
}

/** The application that owns the rows: changes some in another order than a batch does, in a transaction of its own. */
export function hostWrites(world: World, category: Category): void {
  const { chance } = world
  const [first = 0, second = 0] = [chance.below(4), 4 + chance.below(3)].map(place => category.recipients[place])
  world.spawn('host', async ({ db, clock }) => {
    for (let attempt = 0; attempt < 3; attempt += 1) {
      try {
        await db.transact(async query => {
          for (const recipient of [second, first]) {
            await query(`update public.category_recipient_settings set settings = settings || '{"host": true}' where category_id = $1 and recipient_id = $2`, [
              category.id,
              recipient,
            ])
          }
        })
        return
      } catch {
        // A deadlock with a batch, or a connection that was lost: it asks again, as applications do.
        await clock.sleep(10)
      }
    }
  })
}

type Standing = {
  run_id: string
  state: string
  status: string
  error: string | null
  done: number
  total: number | null
  failures: number
  processed: number
  expected: number | null
  audits: number
  audit: string
  affected: number
  ended: boolean
}

/** Runs, operations and audit rows beside each other, oldest operation first. */
export function standings(query: Query): Promise<Standing[]> {
  return query<Standing>(
    `select o.operation_id as run_id, c.state, o.status, c.error, c.done, c.total, c.failures, o.processed_recipients as processed, o.total_recipients as expected,
       (select count(*) from public.category_override_audit a where a.operation_id = o.operation_id)::integer as audits,
       a.operation_status as audit, a.affected_recipients_count as affected, o.completed_at is not null as ended
     from public.category_override_operations o
     join pawl.checkpoints c on c.run_id = o.operation_id
     join public.category_override_audit a on a.operation_id = o.operation_id
     order by o.id`,
  )
}

/** What every ended operation must agree on with itself. */
export async function accountFaults(query: Query): Promise<string[]> {
  const rows = await standings(query)
  const [lost] = await query<{ lost: number }>(
    `select count(*)::integer as lost from public.category_override_operations o where not exists (select from pawl.checkpoints c where c.run_id = o.operation_id)`,
  )
  const diary = await readDiary(query)
  return [
    ...(lost?.lost === 0 ? [] : [`${lost?.lost} operations have no run`]),
    ...rows.flatMap(row => {
      const writes = diary.filter(({ what, run_id: run }) => what === 'write' && run === row.run_id)
      const written = new Set(writes.map(({ subject }) => subject)).size
      const wanted: [string, unknown, unknown][] = [
        ['the status', row.status, row.state.toUpperCase()],
        ['audit rows', row.audits, 1],
        ['the audit status', row.audit, row.state === 'completed' ? 'COMPLETED' : 'FAILED'],
        ['the audited count', row.affected, row.processed],
        ['the done of the run', row.done, row.processed],
        ['failures', row.failures, 0],
        ['rows written', written, row.processed],
        ['writes', writes.length, row.processed],
        [
          'ends',
          diary.filter(({ what, run_id: run, subject }) => what === 'state' && run === row.run_id && subject === 'completed').length,
          row.state === 'completed' ? 1 : 0,
        ],
        ...(row.state === 'completed'
          ? ([
              ['the total', row.expected, row.processed],
              ['the total of the run', row.total, row.done],
            ] as [string, unknown, unknown][])
          : []),
      ]
      return wanted.flatMap(([what, is, should]) => (is === should ? [] : [`${row.run_id}: ${what}: ${String(is)}, not ${String(should)}`]))
    }),
  ]
}

/** In any snapshot: what the progress columns say is what was written. */
export async function progressFaults(query: Query): Promise<string[]> {
  const rows = await query<{ run_id: string; processed: number; written: number; done: number }>(
    `select o.operation_id as run_id, o.processed_recipients as processed,
       (select count(*)::integer from explorer.moments m where m.what = 'write' and m.run_id = o.operation_id) as written,
       (select coalesce(sum(l.done), 0)::integer from pawl.lanes l where l.run_id = o.operation_id) as done
     from public.category_override_operations o`,
  )
  return rows.flatMap(({ run_id: run, processed, written, done }) =>
    processed === written && processed === done
      ? []
      : [`${run}: processed_recipients ${processed}, but ${written} rows were written and the lanes say ${done}`],
  )
}

/** Rows of the category that are not as the operation wants them; what the host wrote on top is its own affair. */
export async function rowFaults(query: Query, category: Category, run: string, settings: object): Promise<string[]> {
  const rows = await query<{ recipient_id: number; settings: Record<string, unknown>; run: string | null; previous: Record<string, unknown> | null }>(
    `select recipient_id, settings - 'host' as settings, updated_by_operation as run, previous_settings - 'host' as previous
     from public.category_recipient_settings where category_id = $1 and jsonb_typeof(coalesce(previous_settings, '{}')) <> 'null'
     union all
     select recipient_id, settings - 'host', updated_by_operation, null
     from public.category_recipient_settings where category_id = $1 and jsonb_typeof(previous_settings) = 'null'
     order by recipient_id`,
    [category.id],
  )
  const wanted = JSON.stringify(settings)
  return category.recipients.flatMap(recipient => {
    const row = rows.find(({ recipient_id: id }) => id === recipient)
    if (row?.run !== run || JSON.stringify(row.settings) !== wanted)
      return [`recipient ${recipient} holds ${JSON.stringify(row ?? null)}, not ${wanted} of ${run}`]
    return JSON.stringify(row.previous) === wanted ? [`recipient ${recipient} was overridden twice by ${run}: before it, it held the same`] : []
  })
}

/** Two workers on the queue of overrides, and a third one where both are gone. */
export async function overrideCrew(world: World): Promise<Pick<Cast, 'isEnded' | 'stuck' | 'timePasses'>> {
  const lanes = world.chance.pick([1, 2])
  await hire(world, 'w1', [applyOverride], { lanes })
  await hire(world, 'w2', [applyOverride], { lanes })
  const busy = () => [...world.actors.values()].filter(({ worker, state }) => worker === undefined && state !== 'done' && state !== 'dead')
  return {
    async isEnded() {
      if (busy().length > 0) return false
      const [left] = await world.query<{ left: number }>(`select count(*)::integer as left from pawl.checkpoints where state in ('pending', 'running')`)
      return left?.left === 0
    },
    async stuck() {
      const rows = await world.query(`select run_id, state, pawl.why(run_id) from pawl.checkpoints where state in ('pending', 'running')`)
      const names = busy().map(actor => actor.name)
      return `${JSON.stringify(rows)}; not at their end: ${names.join(', ')}`
    },
    async timePasses() {
      const workers = [...world.actors.values()].filter(actor => actor.worker !== undefined)
      const isAnyone = workers.some(actor => actor.state === 'alive' || actor.state === 'paused')
      if (!isAnyone) await hire(world, `w${workers.length + 1}`, [applyOverride], { lanes })
    },
  }
}
