import type { TableEdge } from './tables.ts'

/** Where a node lies: column by how much comes before it, and place in the column. */
export type Point = { column: number; row: number }

export type Layout = {
  at: Map<number, Point>
  /** The way of each edge: its two ends, and a bend in every column that it passes. */
  ways: { edge: TableEdge; points: Point[] }[]
  /** Nodes and bends in each column, from the top. */
  columns: { id: number | undefined }[][]
  /** Nodes without any edge. */
  loose: number[]
}

/** Enough for a picture to settle; more rounds change nothing that is seen. */
const ROUNDS = 8

type Cell = { id: number | undefined; before: Cell[]; after: Cell[]; place: number }

/** Layers by longest path, bends where an edge passes a layer, and few crossings by the mean place of the neighbours. Ends on circles too. */
export function layout(ids: readonly number[], edges: readonly TableEdge[]): Layout {
  const tied = new Set(edges.flatMap(({ parent, child }) => [parent, child]))
  const depth = depths(
    ids.filter(id => tied.has(id)),
    edges,
  )
  const columns: Cell[][] = []
  const cell = (id: number | undefined, column: number): Cell => {
    const line = (columns[column] ??= [])
    const made = { id, before: [], after: [], place: line.length }
    line.push(made)
    return made
  }
  const cells = new Map([...depth].map(([id, column]) => [id, cell(id, column)]))
  const chains = edges.flatMap(edge => {
    const [from, to] = [cells.get(edge.parent), cells.get(edge.child)]
    if (from === undefined || to === undefined) return []
    const chain = [from]
    for (let column = (depth.get(edge.parent) ?? 0) + 1; column < (depth.get(edge.child) ?? 0); column += 1) chain.push(cell(undefined, column))
    return [{ edge, chain: tie([...chain, to]) }]
  })
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const column of columns) settle(column, 'before')
    for (const column of columns.toReversed()) settle(column, 'after')
  }
  const places = new Map(columns.flatMap((column, at) => column.map((held, row) => [held, { column: at, row }] as const)))
  const pointOf = (held: Cell) => places.get(held) ?? { column: 0, row: 0 }
  return {
    at: new Map([...cells].map(([id, held]) => [id, pointOf(held)])),
    ways: chains.map(({ edge, chain }) => ({ edge, points: chain.map(pointOf) })),
    columns,
    loose: ids.filter(id => !tied.has(id)),
  }
}

function depths(ids: number[], edges: readonly TableEdge[]): Map<number, number> {
  const depth = new Map(ids.map(id => [id, 0]))
  // As many rounds as there are nodes at most, and no node deeper than that: a circle restored past the triggers ends too.
  for (let round = 0; round < ids.length; round += 1) {
    let changed = false
    for (const { parent, child } of edges) {
      const wanted = Math.min(ids.length - 1, (depth.get(parent) ?? 0) + 1)
      if (wanted <= (depth.get(child) ?? 0)) continue
      depth.set(child, wanted)
      changed = true
    }
    if (!changed) break
  }
  // A circle leaves columns empty.
  const used = [...new Set(depth.values())].sort((a, b) => a - b)
  return new Map([...depth].map(([id, column]) => [id, used.indexOf(column)]))
}

function tie(chain: Cell[]): Cell[] {
  chain.forEach((held, place) => {
    const next = chain[place + 1]
    if (next === undefined) return
    held.after.push(next)
    next.before.push(held)
  })
  return chain
}

function settle(column: Cell[], side: 'before' | 'after'): void {
  const weights = new Map(
    column.map(held => {
      const neighbours = held[side]
      return [held, neighbours.length === 0 ? held.place : neighbours.reduce((sum, other) => sum + other.place, 0) / neighbours.length]
    }),
  )
  column.sort((a, b) => (weights.get(a) ?? 0) - (weights.get(b) ?? 0) || a.place - b.place)
  column.forEach((held, place) => {
    held.place = place
  })
}
