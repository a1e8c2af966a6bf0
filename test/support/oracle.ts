/** What a table's refresh does when it gets its turn: works, fails once or dies once before it does, fails each time, is refused, or is cancelled before its turn. */
export type Fate = 'works' | 'stumbles' | 'dies' | 'fails' | 'refused' | 'cancelled'

/** A registered table. Times are hours from now; `next` null is never due. */
export type Table = { id: number; enabled: boolean; next: number | null; last: number | null; every: number; fate: Fate; source: string; priority: number }
export type Edge = { parent: number; child: number; hard: boolean }
export type Graph = { tables: Table[]; edges: Edge[] }
export type Request = { table: number; upstream: 'stale' | 'all' | 'none'; downstream: boolean }

/** What a step must come to; `roots` are the steps of which a skip may name one. */
export type Expected = { state: 'completed' | 'warning' | 'failed' | 'skipped' | 'cancelled'; attempts: number; roots: Set<number> }

const bad = (expected: Expected | undefined) => expected !== undefined && expected.state !== 'completed' && expected.state !== 'warning'

/** The tables that a plan holds: all that are due, or what a request asks for. */
export function planned({ tables, edges }: Graph, request?: Request): Set<number> {
  const byId = new Map(tables.map(table => [table.id, table]))
  const due = (table: Table) => table.enabled && table.next !== null && table.next <= 0
  if (request === undefined) return new Set(tables.filter(due).map(table => table.id))
  const reach = (from: number[], to: (id: number) => number[], seen = new Set(from)): Set<number> => {
    for (const id of from) for (const next of to(id)) if (!seen.has(next)) reach([next], to, seen.add(next))
    return seen
  }
  const parents = (id: number) => edges.filter(edge => edge.child === id).map(edge => edge.parent)
  const children = (id: number) => edges.filter(edge => edge.parent === id).map(edge => edge.child)
  const above = reach([request.table], parents)
  const old = [...above]
    .filter(id => id !== request.table)
    .filter(id => {
      const table = byId.get(id)
      return table?.enabled === true && (request.upstream === 'all' || table.last === null || due(table))
    })
  const wanted = new Set([request.table])
  if (request.upstream !== 'none') for (const id of reach(old, children)) if (above.has(id)) wanted.add(id)
  if (request.downstream) for (const id of reach([request.table], children)) wanted.add(id)
  return new Set([...wanted].filter(id => byId.get(id)?.enabled))
}

/** The end of every step. `before` holds those that have ended well already and are not run again. */
export function ends({ tables, edges }: Graph, plan: Set<number>, before = new Map<number, Expected>()): Map<number, Expected> {
  const found = new Map<number, Expected>()
  const end = (id: number): Expected => {
    const known = found.get(id) ?? before.get(id)
    if (known !== undefined) return known
    const above = edges.filter(edge => edge.child === id && plan.has(edge.parent)).map(({ parent, hard }) => ({ parent, hard, end: end(parent) }))
    const lost = above.filter(one => one.hard && bad(one.end))
    const fate = tables.find(table => table.id === id)?.fate ?? 'works'
    const result = ((): Expected => {
      if (fate === 'cancelled') return { state: 'cancelled', attempts: 0, roots: new Set() }
      if (lost.length > 0)
        return { state: 'skipped', attempts: 0, roots: new Set(lost.flatMap(one => (one.end.state === 'skipped' ? [...one.end.roots] : [one.parent]))) }
      if (fate === 'refused' || fate === 'fails') return { state: 'failed', attempts: fate === 'fails' ? 4 : 1, roots: new Set() }
      const state = above.some(one => !one.hard && bad(one.end)) ? 'warning' : 'completed'
      return { state, attempts: fate === 'stumbles' ? 2 : 1, roots: new Set() }
    })()
    found.set(id, result)
    return result
  }
  for (const id of plan) found.set(id, end(id))
  return found
}
