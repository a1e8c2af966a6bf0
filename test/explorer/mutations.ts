import type { Query } from '../../src/database.ts'
import { removeFence } from '../crash/mutation.ts'

type Planted = { scenario: string; about: string; plant: (query: Query) => Promise<void> }

/** Defects that can be planted into a lane's database, and the scenario that is to find each. */
export const mutations = {
  fence: { scenario: 'overrides', about: 'a batch no longer asks for its epoch', plant: removeFence },
  recount: {
    scenario: 'overrides',
    about: 'a batch adds its rows to the progress as it was before the batch, not as it is now',
    plant: query =>
      replaceIn(query, 'apply_override_batch', [
        ['select o.category_id,', 'select o.processed_recipients as before, o.category_id,'],
        ['set processed_recipients = o.processed_recipients + rows', 'set processed_recipients = operation.before + rows'],
      ]),
  },
  turns: {
    scenario: 'line',
    about: 'operations of one category no longer take turns in starting and ending',
    plant: query => replaceIn(query, 'lock_override_category', [[/select pg_advisory_xact_lock\(.*\)\)/, 'select']]),
  },
  claims: {
    scenario: 'timers',
    about: 'a wheel fires what was due when it looked, without locking it',
    plant: query =>
      replaceIn(query, 'due_timers', [
        ['for no key update of c skip locked', ''],
        ['for update of t skip locked', ''],
      ]),
  },
  conclude: {
    scenario: 'handlers',
    about: 'a handler ends its timer without asking whether it is still its own',
    plant: query =>
      replaceIn(query, 'conclude_timer', [
        [`and t.status = 'RUNNING' and t.claimed_by = p_lease`, ''],
        [`and x.status = 'STARTED'`, ''],
      ]),
  },
  publish: {
    scenario: 'refresh',
    about: 'a refresh is compared and published without asking for its epoch',
    async plant(query) {
      await replaceIn(query, 'hold_run', [[`and epoch = p_epoch and state = 'running'`, '']])
      await replaceIn(query, 'finish_refresh', [[`perform pawl.finish(p_run_id, p_epoch, 'completed')`, `perform pawl.finish(p_run_id, null, 'completed')`]])
    },
  },
  group: {
    scenario: 'group',
    about: 'members of a group get ready without looking at each other in turn',
    plant: query =>
      replaceIn(query, 'stage_refresh', [
        [/perform pg_advisory_xact_lock\(.*\);/, ''],
        ['for share of c;', ';'],
      ]),
  },
} as const satisfies Record<string, Planted>

export type Mutation = keyof typeof mutations

export function mutate(query: Query, mutation: Mutation): Promise<void> {
  return mutations[mutation].plant(query)
}

/** Changes the text of a function of `pawl`; one that does not hold what is to be changed has become another, and the mutation says nothing any more. */
async function replaceIn(query: Query, name: string, changes: readonly (readonly [from: string | RegExp, to: string])[]): Promise<void> {
  const [row] = await query<{ source: string }>(
    `select pg_get_functiondef(p.oid) as source from pg_proc p where p.pronamespace = 'pawl'::regnamespace and p.proname = $1`,
    [name],
  )
  let source = row?.source ?? ''
  for (const [from, to] of changes) {
    const mutated = source.replace(from, to)
    if (mutated === source) throw new Error(`pawl.${name} does not hold ${String(from)}: this mutation plants nothing`)
    source = mutated
  }
  await query(source)
}
