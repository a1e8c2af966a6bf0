import { expect, test } from 'vitest'
import { keptFresh } from '../../src/pages/fresh.ts'
import { html, textOf } from '../../src/pages/html.ts'
import { layout } from '../../src/pages/layers.ts'
import { bytes, duration, shortened } from '../../src/pages/words.ts'
import { fakeClock } from '../support/engine.ts'

test('markup escapes text and attributes, and nothing but markup itself passes for markup', () => {
  expect(textOf(html`<a title="${`"'<>&`}">${'<script>'}</a>`)).toBe('<a title="&quot;&#39;&lt;&gt;&amp;">&lt;script&gt;</a>')
  expect(textOf(html`${html`<b>${'<'}</b>`}${[html`<i></i>`, '<']}${null}${undefined}${false}${0}`)).toBe('<b>&lt;</b><i></i>&lt;0')
  // A jsonb column that looks like what html makes.
  const forged = JSON.parse('{"markup": "<script>", "safe": "<script>"}') as never
  expect(textOf(html`${forged}`)).toBe('')
})

test('durations, sizes and shortened texts read as people say them', () => {
  expect([0, 999, 61_000, 3_600_000, 3_661_000, 90_061_000].map(duration)).toEqual(['0 s', '1 s', '1 min 1 s', '1 h', '1 h 1 min', '1 d 1 h'])
  expect([0, 999, 1000, 16_900_000, '9007199254740993'].map(bytes)).toEqual(['0 bytes', '999 bytes', '1 kB', '16.9 MB', '9.01 PB'])
  expect(shortened('four', 4)).toBe('four')
  expect(shortened('🐦🐦🐦🐦🐦', 4)).toBe('🐦🐦🐦…')
})

const hard = (pairs: [number, number][]) => pairs.map(([parent, child]) => ({ parent, child, hard: true }))

test('every table stands to the right of all it depends on, and edges bend where they pass a column', () => {
  const { at, ways, loose } = layout(
    [1, 2, 3, 4, 9],
    hard([
      [1, 2],
      [2, 3],
      [1, 3],
      [4, 3],
    ]),
  )
  expect([1, 2, 3, 4].map(id => at.get(id)?.column)).toEqual([0, 1, 2, 0])
  expect(ways.map(way => way.points.map(point => point.column))).toEqual([
    [0, 1],
    [1, 2],
    [0, 1, 2],
    [0, 1, 2],
  ])
  expect(loose).toEqual([9])
})

test('edges that need not cross do not', () => {
  const { ways } = layout(
    [1, 2, 3, 4, 5, 6],
    hard([
      [1, 6],
      [2, 5],
      [3, 4],
    ]),
  )
  for (const one of ways) {
    for (const other of ways) {
      const [from, to] = [0, 1].map(end => Math.sign((one.points[end]?.row ?? 0) - (other.points[end]?.row ?? 0)))
      expect(from).toBe(to)
    }
  }
})

test('a circle, which the triggers refuse but a restore may bring, is drawn as well', () => {
  const { at, ways } = layout(
    [1, 2, 3, 4],
    hard([
      [1, 2],
      [2, 3],
      [3, 1],
      [3, 4],
    ]),
  )
  expect(at.size).toBe(4)
  expect(ways).toHaveLength(4)
})

test('a hundred tables with many dependencies are laid out in no time, each in a place of its own', () => {
  const ids = Array.from({ length: 100 }, (_, place) => place)
  const edges = hard(ids.flatMap(id => [1, 7, 13].flatMap(step => (id + step * 3 < 100 ? [[id, id + step * 3] as [number, number]] : []))))
  const { at } = layout(ids, edges)
  expect(new Set([...at.values()].map(({ column, row }) => `${column} ${row}`)).size).toBe(100)
  for (const { parent, child } of edges) expect(at.get(parent)?.column).toBeLessThan(at.get(child)?.column ?? 0)
})

test('fifty who ask at once cost one read, and so does a database that is down', async () => {
  const clock = fakeClock()
  // Nobody is impatient here.
  const patient = { ...clock, sleep: () => new Promise<void>(() => {}) }
  let reads = 0
  let fails = false
  const read = async () => {
    reads += 1
    await new Promise(resolve => setImmediate(resolve))
    if (fails) throw new Error('down')
    return reads
  }
  const ask = keptFresh(read, { freshMs: 1000, patienceMs: 5000, clock: patient })
  const fifty = () => Promise.allSettled(Array.from({ length: 50 }, ask))
  expect(new Set((await fifty()).map(({ status }) => status))).toEqual(new Set(['fulfilled']))
  expect(reads).toBe(1)
  await fifty()
  expect(reads).toBe(1)
  await clock.sleep(1000)
  fails = true
  expect(new Set((await fifty()).map(({ status }) => status))).toEqual(new Set(['rejected']))
  await fifty()
  expect(reads).toBe(2)
  await clock.sleep(1000)
  fails = false
  await fifty()
  expect(reads).toBe(3)
})

test('a read that hangs is given up by those who wait, and no second one begins beside it', async () => {
  let reads = 0
  const ask = keptFresh(
    () => {
      reads += 1
      return new Promise<never>(() => {})
    },
    { freshMs: 1000, patienceMs: 5000, clock: fakeClock() },
  )
  for (const _ of [1, 2, 3]) await expect(ask()).rejects.toMatchObject({ code: 'pages.slow', message: 'the database has not answered for 5000 ms' })
  expect(reads).toBe(1)
})
