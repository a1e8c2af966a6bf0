import { type Html, html } from './html.ts'
import { type Layout, layout, type Point } from './layers.ts'
import { TABLES_MAX, type Table, type TableEdge } from './tables.ts'
import { badge, count, glyphOf, lookOf, moment, shortened } from './words.ts'

const BOX = { width: 184, height: 46, bend: 14, across: 54, down: 12, edge: 4 }
const LOOSE_IN_A_ROW = 4

/** Which table is refreshed after which, and how each stands: a picture, and the same as a table. */
export function graphSection(tables: readonly Table[], edges: readonly TableEdge[], now: Date): Html {
  if (tables.length === 0) return html`<p class="empty">No table is registered in <code>sqp.refresh_config</code>.</p>`
  // What is switched off would stand in the way of the rest.
  const drawn = tables.filter(table => table.state !== 'off')
  const states = [...Map.groupBy(tables, table => table.state)].map(([state, those]) => `${those.length} ${state}`).join(', ')
  return html`
    ${drawn.length > 0 && html`<div class="scroll" id="graph" role="region" tabindex="0" aria-label="Refresh graph">${picture(drawn, edges, now, states)}</div>`}
    ${tables.length === TABLES_MAX && html`<p class="muted">The first ${TABLES_MAX} tables are shown.</p>`}
    <details id="tables-list"><summary>The same as a table: ${count(tables.length)} tables, ${states}</summary>${list(tables, edges, now)}</details>`
}

function picture(tables: readonly Table[], edges: readonly TableEdge[], now: Date, states: string): Html {
  const ids = new Set(tables.map(table => table.id))
  const drawn = layout(
    tables.map(table => table.id),
    edges.filter(({ parent, child }) => ids.has(parent) && ids.has(child)),
  )
  const y = heights(drawn)
  const left = (column: number) => BOX.edge + column * (BOX.width + BOX.across)
  const tied = Math.max(0, ...y.map(column => column.at(-1)?.bottom ?? 0))
  const looseTop = tied === 0 ? BOX.edge : tied + BOX.down * 2
  const place = (table: Table): { x: number; top: number } => {
    const point = drawn.at.get(table.id)
    if (point !== undefined) return { x: left(point.column), top: y[point.column]?.[point.row]?.top ?? 0 }
    const order = drawn.loose.indexOf(table.id)
    return { x: left(order % LOOSE_IN_A_ROW), top: looseTop + Math.floor(order / LOOSE_IN_A_ROW) * (BOX.height + BOX.down) }
  }
  const looseRows = Math.ceil(drawn.loose.length / LOOSE_IN_A_ROW)
  const across = Math.max(drawn.columns.length, Math.min(LOOSE_IN_A_ROW, drawn.loose.length))
  const width = left(across) - BOX.across + BOX.edge
  const height = (looseRows === 0 ? tied : looseTop + looseRows * (BOX.height + BOX.down) - BOX.down) + BOX.edge
  const common = commonSchema(tables)
  return html`<svg class="graph" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-labelledby="graph-title graph-words">
    <title id="graph-title">Refresh graph</title>
    <desc id="graph-words">${count(tables.length)} tables, ${states}; ${edges.length} dependencies. The table below says the same.</desc>
    <defs><marker id="tip" markerWidth="7" markerHeight="8" refX="6.5" refY="4" orient="auto"><path class="tip" d="M0 0.5 L7 4 L0 7.5 z"/></marker></defs>
    ${drawn.ways.map(way => arrow(way, y, left))}
    ${tables.map(table => box(table, place(table), common, now))}
  </svg>`
}

type Span = { top: number; bottom: number }

/** From where to where each cell reaches, columns centred on the tallest. */
function heights({ columns }: Layout): Span[][] {
  const high = (id: number | undefined) => (id === undefined ? BOX.bend : BOX.height)
  const totals = columns.map(column => column.reduce((sum, { id }) => sum + high(id) + BOX.down, -BOX.down))
  const most = Math.max(0, ...totals)
  return columns.map((column, at) => {
    let top = BOX.edge + (most - (totals[at] ?? 0)) / 2
    return column.map(({ id }) => {
      const span = { top, bottom: top + high(id) }
      top = span.bottom + BOX.down
      return span
    })
  })
}

function arrow({ edge, points }: Layout['ways'][number], y: Span[][], left: (column: number) => number): Html {
  const middle = ({ column, row }: Point) => ((y[column]?.[row]?.top ?? 0) + (y[column]?.[row]?.bottom ?? 0)) / 2
  const path = points.slice(1).map((to, step) => {
    const from = points[step] as Point
    const [x1, x2] = [left(from.column) + BOX.width, left(to.column)]
    const bend = (x1 + x2) / 2
    // Through a column that it only passes, an edge runs straight.
    const onward = step < points.length - 2 ? ` H${x2 + BOX.width}` : ''
    return `${step === 0 ? `M${x1} ${middle(from)} ` : ''}C${bend} ${middle(from)} ${bend} ${middle(to)} ${x2} ${middle(to)}${onward}`
  })
  return html`<path class="edge${edge.hard ? '' : ' soft'}" d="${path.join(' ')}" marker-end="url(#tip)"/>`
}

function box(table: Table, { x, top }: { x: number; top: number }, common: string, now: Date): Html {
  const name = table.name.startsWith(common) ? table.name.slice(common.length) : table.name
  const words = stateWords(table, now)
  return html`<g class="node ${lookOf(table.state)}">
    <title>${table.name}: ${words}</title>
    <rect x="${x}" y="${top}" width="${BOX.width}" height="${BOX.height}" rx="8"/>
    <text class="name" x="${x + 12}" y="${top + 19}">${shortened(name, 25)}</text>
    <text class="state" x="${x + 12}" y="${top + 36}">${glyphOf(table.state)} ${shortened(words, 30)}</text>
  </g>`
}

function stateWords({ state, percent, waiting_for: waits, ended_at: ended }: Table, now: Date): string {
  if (state === 'running') return percent === null ? 'running' : `running, ${Math.floor(percent)} %`
  if (state === 'waiting')
    return `waits for ${waits?.[0]?.replace(/^.*\./, '') ?? 'its turn'}${waits !== null && waits.length > 1 ? ` +${waits.length - 1}` : ''}`
  if (state === 'never') return 'never refreshed'
  if (state === 'off') return 'switched off'
  if (ended === null) return state
  const minutes = Math.floor((now.getTime() - ended.getTime()) / 60_000)
  if (minutes < 1) return `${state} just now`
  if (minutes < 60) return `${state} ${minutes} min ago`
  return minutes < 2_880 ? `${state} ${Math.floor(minutes / 60)} h ago` : `${state} ${Math.floor(minutes / 1440)} d ago`
}

/** `sqp.` where all tables are there: a name that all share tells nothing. */
function commonSchema(tables: readonly Table[]): string {
  const schemas = new Set(tables.map(({ name }) => name.slice(0, name.indexOf('.') + 1)))
  return schemas.size === 1 ? ([...schemas][0] ?? '') : ''
}

function list(tables: readonly Table[], edges: readonly TableEdge[], now: Date): Html {
  const names = new Map(tables.map(({ id, name }) => [id, name]))
  const parents = Map.groupBy(edges, edge => edge.child)
  const comesAfter = (id: number) => (parents.get(id) ?? []).map(({ parent, hard }) => `${names.get(parent) ?? '?'}${hard ? '' : ' (soft)'}`).join(', ')
  return html`<div class="scroll" id="tables-scroll" role="region" tabindex="0" aria-label="Refreshed tables"><table>
    <caption class="hidden">Refreshed tables: state, what comes before, last and next refresh</caption>
    <thead><tr><th scope="col">Table</th><th scope="col">State</th><th scope="col">Comes after</th><th scope="col" class="figure">Rows changed</th><th scope="col">Last</th><th scope="col">Next</th></tr></thead>
    <tbody>${tables.map(
      table => html`<tr>
        <th scope="row">${table.name}<div class="${table.stale && table.state === 'failed' ? 'error' : 'note'}">${shortened(table.reason, 300)}</div></th>
        <td>${badge(table.state)}${table.stale && html` ${badge('warning', 'stale')}`}${(table.waiting_for?.length ?? 0) > 0 && html` <span class="muted">for ${table.waiting_for?.join(', ')}</span>`}</td>
        <td>${comesAfter(table.id)}</td>
        <td class="figure">${table.changed}</td>
        <td>${moment(table.ended_at, now)}</td>
        <td>${moment(table.due_at, now)}</td>
      </tr>`,
    )}</tbody>
  </table></div>`
}
