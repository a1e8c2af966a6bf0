import type { Query } from '../../src/database.ts'

const FENCED = ['hold', 'hold_run', 'advance'] as const

/**
 * Takes the fence out of this test's database: `pawl.hold` and its kin no longer ask for the epoch. A test that passes with
 * and without it shows nothing; so each fence test runs both ways, and the second must come out badly.
 */
export async function removeFence(query: Query): Promise<void> {
  for (const name of FENCED) {
    const [row] = await query<{ source: string }>(
      `select pg_get_functiondef(p.oid) as source from pg_proc p where p.pronamespace = 'pawl'::regnamespace and p.proname = $1`,
      [name],
    )
    const source = row?.source ?? ''
    const mutated = source.replace('and epoch = p_epoch', '')
    if (mutated === source) throw new Error(`pawl.${name} has no epoch predicate to take out: is the fence still there?`)
    await query(mutated)
  }
}
