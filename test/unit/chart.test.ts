import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type ChartBlock, drawChart, type Shape } from '../../workers/reports/chart.ts'
import type { ColumnKind, Row } from '../../workers/reports/document.ts'
import { slicesOf } from '../../workers/reports/formats/draw-pie.ts'
import { readPlot } from '../../workers/reports/formats/draw-plot.ts'
import { roughWidth } from '../../workers/reports/formats/draw-shape.ts'
import { svgOf } from '../../workers/reports/formats/svg.ts'

const SIZE = { width: 600, height: 300 }
const BLUE = '#0072b2'
const ORANGE = '#e69f00'

type Kind = ChartBlock['chart']['kind']

function chartOf(kind: Kind, xKind: ColumnKind = 'text', series = ['amount'], stacked = false): ChartBlock {
  const columns = [{ name: 'x', label: 'X', kind: xKind }, ...series.map(name => ({ name, label: name, kind: 'number' as const }))]
  return { kind: 'chart', title: 'Chart', columns, chart: { kind, x: 0, series: series.map((_, place) => place + 1), stacked } }
}

const rects = (shapes: Shape[], fill: string) => shapes.filter(shape => shape.kind === 'rect' && shape.fill === fill && shape.label !== undefined)
const bars = (shapes: Shape[], fill = BLUE) => rects(shapes, fill) as Extract<Shape, { kind: 'rect' }>[]
const texts = (shapes: Shape[]) => shapes.filter(shape => shape.kind === 'text')
const words = (shapes: Shape[]) => texts(shapes).map(text => text.text)
const paths = (shapes: Shape[]) => shapes.filter(shape => shape.kind === 'path')
const dots = (shapes: Shape[]) => paths(shapes).filter(path => path.label !== undefined)
const lines = (shapes: Shape[]) => paths(shapes).filter(path => path.stroke !== null && path.fill === null)

/** The height of the tick with this text: where the value it names is. */
function heightOf(shapes: Shape[], tick: string): number {
  const found = texts(shapes).find(text => text.text === tick && text.anchor === 'end')
  if (found === undefined) throw new Error(`no tick ${tick} among ${words(shapes).join(' ')}`)
  return found.y - 4
}

test('bars are as high as their values and stand on zero', () => {
  const shapes = drawChart(
    chartOf('bar'),
    [
      ['a', '10'],
      ['b', '30'],
      ['c', '0'],
      ['d', '20'],
    ],
    SIZE,
  )
  const [a, b, c, d] = bars(shapes)
  expect(b?.height).toBeCloseTo(3 * (a?.height ?? 0))
  expect(d?.height).toBeCloseTo(2 * (a?.height ?? 0))
  expect(c?.height).toBe(0)
  for (const bar of [a, b, c, d]) expect((bar?.y ?? 0) + (bar?.height ?? 0)).toBeCloseTo(heightOf(shapes, '0'))
  // What the axis says is what the bar shows.
  expect(b?.y).toBeCloseTo(heightOf(shapes, '30'))
  expect(a?.y).toBeCloseTo(heightOf(shapes, '10'))
})

test('bars of values below zero hang from it', () => {
  const shapes = drawChart(
    chartOf('bar'),
    [
      ['a', '10'],
      ['b', '-10'],
    ],
    SIZE,
  )
  const [up, down] = bars(shapes)
  expect(down?.height).toBeCloseTo(up?.height ?? 0)
  expect(down?.y).toBeCloseTo(heightOf(shapes, '0'))
  expect((down?.y ?? 0) + (down?.height ?? 0)).toBeCloseTo(heightOf(shapes, '-10'))
})

test('bars of a group stand next to each other and never on each other', () => {
  const shapes = drawChart(
    chartOf('bar', 'text', ['one', 'two']),
    [
      ['a', '5', '4'],
      ['b', '3', '6'],
    ],
    SIZE,
  )
  const all = [...bars(shapes), ...bars(shapes, ORANGE)].toSorted((one, other) => one.x - other.x)
  expect(all).toHaveLength(4)
  for (const [place, bar] of all.entries()) expect(bar.x + bar.width).toBeLessThanOrEqual(all[place + 1]?.x ?? SIZE.width)
  expect(words(shapes)).toEqual(expect.arrayContaining(['one', 'two', 'a', 'b']))
})

test('stacked bars are together as high as their sum, and those below zero hang by themselves', () => {
  const shapes = drawChart(
    chartOf('bar', 'text', ['one', 'two'], true),
    [
      ['a', '10', '20'],
      ['b', '10', '-20'],
    ],
    SIZE,
  )
  const [low, other] = bars(shapes)
  const [high, hanging] = bars(shapes, ORANGE)
  expect((high?.y ?? 0) + (high?.height ?? 0)).toBeCloseTo(low?.y ?? 0)
  expect((low?.height ?? 0) + (high?.height ?? 0)).toBeCloseTo(heightOf(shapes, '0') - heightOf(shapes, '30'))
  expect(hanging?.y).toBeCloseTo(heightOf(shapes, '0'))
  expect(hanging?.height).toBeCloseTo(high?.height ?? 0)
  expect((other?.y ?? 0) + (other?.height ?? 0)).toBeCloseTo(heightOf(shapes, '0'))
})

test('a line is broken where a value is missing, and a point that stands alone is still seen', () => {
  const rows = ['1', '2', null, 'NaN', '4', 'Infinity', 'seven', '', '9', '10'].map((value, place): Row => [`x${place}`, value])
  const shapes = drawChart(chartOf('line'), rows, SIZE)
  expect(lines(shapes).map(line => line.d.match(/M/g)?.length)).toEqual([3])
  expect(dots(shapes)).toHaveLength(5)
})

test('points on a time axis stand as far apart as their instants, in their order', () => {
  const rows = [
    ['2026-01-05', '3'],
    ['2026-01-01', '1'],
    ['infinity', '9'],
    ['2026-01-02', '2'],
    [null, '8'],
  ]
  const shapes = drawChart(chartOf('line', 'date'), rows, SIZE)
  const [first = 0, second = 0, third = 0, ...more] = dots(shapes).map(dot => Number(/^M([\d.]+)/.exec(dot.d)?.[1]))
  expect(more).toEqual([])
  expect((third - second) / (second - first)).toBeCloseTo(3, 1)
})

test('a line may leave out zero, where its values are close together; an area and bars never do', () => {
  const rows = [
    ['1', '1000'],
    ['2', '1010'],
    ['3', '1020'],
  ]
  expect(words(drawChart(chartOf('line', 'number'), rows, SIZE))).not.toContain('0')
  for (const kind of ['area', 'bar'] as const) expect(words(drawChart(chartOf(kind, 'number'), rows, SIZE))).toContain('0')
})

test('the slices of a pie are the whole circle, and each its share of it', () => {
  const plot = readPlot(chartOf('pie'), [
    ['a', '1'],
    ['b', '3'],
    ['c', '-5'],
    ['d', null],
    ['e', '4'],
  ])
  const slices = slicesOf(plot)
  expect(slices.map(slice => slice.label)).toEqual(['a', 'b', 'e'])
  expect(slices.map(slice => (slice.endAngle - slice.startAngle) / (2 * Math.PI))).toEqual([0.125, 0.375, 0.5].map(share => expect.closeTo(share)))
  expect(slices.at(-1)?.endAngle).toBeCloseTo(2 * Math.PI)
})

test('the smallest slices of a pie of many become one', () => {
  const rows = Array.from({ length: 30 }, (_, place): Row => [`slice ${place}`, String(place + 1)])
  const slices = slicesOf(readPlot(chartOf('pie'), rows))
  expect(slices).toHaveLength(8)
  expect(slices.at(-1)?.label).toBe('23 others')
  expect(slices.reduce((sum, slice) => sum + slice.share, 0)).toBeCloseTo(1)
  expect(slices.reduce((sum, slice) => sum + slice.endAngle - slice.startAngle, 0)).toBeCloseTo(2 * Math.PI)
})

test.each(['bar', 'line', 'area', 'pie'] as const)('a %s chart without rows says that there is no data', kind => {
  for (const rows of [[], [['a', null]], [['a', 'NaN']]]) {
    const shapes = drawChart(chartOf(kind, 'date'), rows, SIZE)
    expect(words(shapes)).toContain('no data')
    expect(shapes.filter(shape => shape.kind === 'line').length > 0).toBe(kind !== 'pie')
  }
})

test.each([3, 12, 40, 400])('the labels of %i rows are apart, in the picture and shortened', count => {
  for (const xKind of ['text', 'date'] as const) {
    const rows = Array.from(
      { length: count },
      (_, place): Row => [xKind === 'date' ? `2026-01-${place}` : `a label that is much too long for any chart ${place}`, '1'],
    )
    const shapes = drawChart(chartOf('bar', xKind), rows, SIZE)
    const labels = texts(shapes).filter(text => text.y > 150 && (text.degrees !== 0 || text.anchor === 'middle') && text.text !== 'X')
    expect(labels.length).toBeGreaterThan(0)
    const [first, second] = labels
    const needed = first?.degrees === 0 ? roughWidth(first.text, first.size) : 11
    if (second) expect(second.x - (first?.x ?? 0)).toBeGreaterThanOrEqual(needed)
    for (const { text } of labels) expect(roughWidth(text, 11)).toBeLessThanOrEqual(150)
    if (xKind === 'text' && count > 3) expect(labels.every(label => label.text.endsWith('…') && label.degrees === -40)).toBe(true)
  }
})

const hostile = fc.oneof(
  fc.constantFrom(null, '', 'NaN', '-Infinity', 'Infinity', '0', '-0', '1e308', '-1e308', '5e-324', '1e149', '-1e150', '1', '1.0000000000000002', '</svg>'),
  fc.constantFrom('infinity', '2026-02-31', '0001-01-01 BC', '9999-12-31 23:59:59.999999+00', '275760-09-13', '0001-01-01', '2026-01-01 00:00:00+00'),
  fc.double().map(String),
  fc.integer().map(String),
  fc.string({ unit: 'binary' }),
)

test('no chart of any rows draws anything that is not a number', () => {
  const input = fc.record({
    kind: fc.constantFrom<Kind>('bar', 'line', 'area', 'pie'),
    xKind: fc.constantFrom<ColumnKind>('text', 'number', 'boolean', 'date', 'timestamp', 'json'),
    stacked: fc.boolean(),
    rows: fc.array(fc.array(hostile, { minLength: 3, maxLength: 3 }), { maxLength: 50 }),
    width: fc.integer({ min: 120, max: 2000 }),
    height: fc.integer({ min: 100, max: 1000 }),
  })
  const holds = fc.property(input, ({ kind, xKind, stacked, rows, ...size }) => {
    const shapes = drawChart(chartOf(kind, xKind, ['one', 'two'], stacked), rows, size)
    expect(shapes.length).toBeGreaterThan(0)
    for (const shape of shapes) {
      const numbers = Object.values(shape).filter(value => typeof value === 'number')
      if (shape.kind === 'path') {
        expect(shape.d).toMatch(/^[MLAZ\d.,-]+$/)
        numbers.push(...(shape.d.match(/-?[\d.]+/g) ?? []).map(Number))
      }
      for (const number of numbers) {
        expect(Number.isFinite(number)).toBe(true)
        expect(Math.abs(number)).toBeLessThan(3000)
      }
      if (shape.kind !== 'rect') continue
      expect(shape.height).toBeGreaterThanOrEqual(0)
      expect(shape.x).toBeGreaterThan(-1)
      expect(shape.x + shape.width).toBeLessThan(size.width + 1)
      expect(shape.y + shape.height).toBeLessThan(size.height + 1)
    }
    expect(svgOf(shapes, size, 'title').match(/<\/svg>/g)).toHaveLength(1)
  })
  fc.assert(holds, { numRuns: 400 })
})

test('an SVG says what it shows, and text in it is only text', () => {
  const title = `<script>alert("1") & 'more'</script>`
  const drawn = svgOf(drawChart(chartOf('bar', 'text', ['<i>']), [[title, '1']], SIZE), SIZE, title)
  expect(drawn).toMatch(/^<svg [^<>]* role="img" aria-label="&lt;script&gt;[^<>"]*"><title>&lt;script&gt;/)
  expect(drawn).not.toMatch(/<(script|i)[ >]/)
  expect(drawn).toContain('<title>&lt;script&gt;alert(&quot;1&quot;) &amp; &#39;more&#39;&lt;/script&gt; · &lt;i&gt;: 1</title></rect>')
})
