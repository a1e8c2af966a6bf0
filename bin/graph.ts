/** A table and how its last or present refresh stands; `state` is null where it was never planned. */
export type GraphNode = { table: string; state: string | null; changed: string }
/** `child` is refreshed after `parent`. */
export type GraphEdge = { parent: string; child: string; hard: boolean }
export type Graph = { nodes: readonly GraphNode[]; edges: readonly GraphEdge[] }

/** Tables by how many others come before them at most: a column each in the drawings. */
export function levels({ nodes, edges }: Graph): GraphNode[][] {
  const depth = new Map(nodes.map(({ table }) => [table, 0]))
  // As many rounds as there are tables at most, so that a circle restored past the triggers ends too.
  for (let round = 0; round < nodes.length; round += 1) {
    for (const { parent, child } of edges) depth.set(child, Math.min(nodes.length, Math.max(depth.get(child) ?? 0, (depth.get(parent) ?? 0) + 1)))
  }
  const columns = Map.groupBy(nodes, ({ table }) => depth.get(table) ?? 0)
  return [...columns].sort(([a], [b]) => a - b).map(([, column]) => column)
}

/** For people: a line a table, parents first, each with what comes right after it. A soft dependency has a question mark. */
export function graphText(graph: Graph): string {
  const width = Math.max(0, ...graph.nodes.map(({ table }) => table.length))
  const lines = levels(graph).flatMap((column, level) =>
    column.map(({ table, state, changed }) => {
      const next = graph.edges.filter(({ parent }) => parent === table).map(({ child, hard }) => `${child}${hard ? '' : '?'}`)
      return `${level}  ${table.padEnd(width)}  ${(state ?? '-').padEnd(9)}  ${changed}${next.length === 0 ? '' : `  → ${next.join(', ')}`}`.trimEnd()
    }),
  )
  return lines.length === 0 ? '(no table is registered)' : lines.join('\n')
}

/** A Mermaid flowchart; soft dependencies are dotted. */
export function graphMermaid({ nodes, edges }: Graph): string {
  const id = (table: string) => `t${nodes.findIndex(node => node.table === table)}`
  const boxes = nodes.map(({ table, state }) => `  ${id(table)}["${table.replaceAll('"', '#quot;')}${state === null ? '' : `<br>${state}`}"]`)
  const arrows = edges.map(({ parent, child, hard }) => `  ${id(parent)} ${hard ? '-->' : '-.->'} ${id(child)}`)
  return ['flowchart LR', ...boxes, ...arrows].join('\n')
}

const fills: Readonly<Record<string, string>> = { completed: '#d7f0dc', warning: '#fff0c2', failed: '#f9d4d4', skipped: '#e4e4e4', running: '#d5e6fb' }
const BOX = { width: 250, height: 44, across: 330, down: 64, margin: 20 }

/** A picture that stands by itself: a column for each level, an arrow for each dependency. */
export function graphSvg(graph: Graph): string {
  const columns = levels(graph)
  const at = new Map(columns.flatMap((column, x) => column.map(({ table }, y) => [table, { x: BOX.margin + x * BOX.across, y: BOX.margin + y * BOX.down }])))
  const size = {
    width: 2 * BOX.margin + Math.max(0, columns.length - 1) * BOX.across + BOX.width,
    height: 2 * BOX.margin + Math.max(0, ...columns.map(column => column.length - 1)) * BOX.down + BOX.height,
  }
  const boxes = graph.nodes.map(({ table, state, changed }) => {
    const { x, y } = at.get(table) ?? { x: 0, y: 0 }
    const second = [state ?? 'never refreshed', changed].filter(text => text !== '').join(', ')
    return (
      `<rect x="${x}" y="${y}" width="${BOX.width}" height="${BOX.height}" rx="6" fill="${fills[state ?? ''] ?? '#ffffff'}" stroke="#555"/>` +
      `<text x="${x + 10}" y="${y + 18}" font-weight="bold">${escaped(table)}</text><text x="${x + 10}" y="${y + 35}">${escaped(second)}</text>`
    )
  })
  const arrows = graph.edges.map(({ parent, child, hard }) => {
    const [from, to] = [at.get(parent) ?? { x: 0, y: 0 }, at.get(child) ?? { x: 0, y: 0 }]
    const [x1, y1, x2, y2] = [from.x + BOX.width, from.y + BOX.height / 2, to.x, to.y + BOX.height / 2]
    const bend = (x1 + x2) / 2
    return `<path d="M${x1} ${y1} C${bend} ${y1} ${bend} ${y2} ${x2} ${y2}" fill="none" stroke="#555"${hard ? '' : ' stroke-dasharray="5 4"'} marker-end="url(#end)"/>`
  })
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${size.width}" height="${size.height}" font-family="sans-serif" font-size="12">`,
    '<title>Refresh order</title>',
    '<defs><marker id="end" markerWidth="9" markerHeight="9" refX="8" refY="4" orient="auto"><path d="M0 0 L9 4 L0 8 z" fill="#555"/></marker></defs>',
    ...arrows,
    ...boxes,
    '</svg>',
  ].join('\n')
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}
