import { expect, test } from 'vitest'
import { type Graph, graphMermaid, graphSvg, graphText, levels } from '../../bin/graph.ts'

const graph: Graph = {
  nodes: [
    { table: 'sqp.year', state: null, changed: 'disabled' },
    { table: 'sqp.asin', state: 'completed', changed: '+5 ~1 -0' },
    { table: 'sqp.month', state: 'skipped', changed: '' },
    { table: 'sqp.lone "<one>"', state: 'failed', changed: '' },
  ],
  edges: [
    { parent: 'sqp.asin', child: 'sqp.month', hard: true },
    { parent: 'sqp.month', child: 'sqp.year', hard: false },
    { parent: 'sqp.asin', child: 'sqp.year', hard: true },
  ],
}

test('a table stands behind everything it depends on', () => {
  expect(levels(graph).map(column => column.map(({ table }) => table))).toEqual([['sqp.asin', 'sqp.lone "<one>"'], ['sqp.month'], ['sqp.year']])
})

test('as text, parents come first and soft dependencies have a question mark', () => {
  expect(graphText(graph).split('\n')).toEqual([
    '0  sqp.asin          completed  +5 ~1 -0  → sqp.month, sqp.year',
    '0  sqp.lone "<one>"  failed',
    '1  sqp.month         skipped      → sqp.year?',
    '2  sqp.year          -          disabled',
  ])
  expect(graphText({ nodes: [], edges: [] })).toBe('(no table is registered)')
})

test('as Mermaid, each table is a box and each dependency an arrow', () => {
  const text = graphMermaid(graph)
  expect(text).toMatch(/^flowchart LR\n/)
  expect(text).toContain('  t1["sqp.asin<br>completed"]')
  expect(text).toContain('  t3["sqp.lone #quot;<one>#quot;<br>failed"]')
  expect(text).toContain('  t1 --> t2\n  t2 -.-> t0\n  t1 --> t0')
})

test('as SVG, what a table is called can not break the picture', () => {
  const text = graphSvg(graph)
  expect(text.match(/<rect /g)).toHaveLength(4)
  expect(text.match(/<path d="M\d/g)).toHaveLength(4)
  expect(text.match(/stroke-dasharray/g)).toHaveLength(1)
  expect(text).toContain('sqp.lone &quot;&lt;one&gt;&quot;')
  expect(text).not.toMatch(/<one>/)
})

test('a circle, which only rows restored past the triggers can hold, still draws', () => {
  const circle: Graph = { nodes: graph.nodes, edges: [...graph.edges, { parent: 'sqp.year', child: 'sqp.asin', hard: true }] }
  expect(graphText(circle)).toContain('sqp.asin')
})
