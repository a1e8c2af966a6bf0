import { scaleBand, scaleLinear, scalePoint, scaleUtc } from 'd3-scale'
import type { Plot } from './draw-plot.ts'
import { instantLabels, numberLabels } from './draw-ticks.ts'
import { axisGrey, gridGrey, type Measure, type Shape, type Size, shorten, TEXT_SIZE, textAt } from './draw-shape.ts'

/** Where things are: `across` a row's place from the left, `up` a value's from the top. `band`: how wide a row's place is. */
export type Field = { left: number; right: number; top: number; bottom: number; across(row: number): number; band: number; up(value: number): number }

type Tick = { at: number; text: string }
type Across = { at(row: number): number; band: number; ticks: Tick[]; regular: boolean }

const LABEL_WIDTH = 150
const TILT = 40
const SIN = Math.sin((TILT * Math.PI) / 180)
const COS = Math.cos((TILT * Math.PI) / 180)

/** Lays out the axes of a chart whose values reach from `low` to `high`, below a legend of `top`, and draws them. */
export function drawAxes(
  plot: Plot,
  extent: readonly [number, number],
  size: Size,
  top: number,
  banded: boolean,
  measure: Measure,
): { field: Field; shapes: Shape[] } {
  const steps = Math.max(2, Math.round((size.height - top) / 55))
  const values = scaleLinear().domain(extent).nice(steps)
  const marks = values.ticks(steps)
  const names = numberLabels(marks)
  const right = size.width - 14
  const tilted = (from: number) => layOut(acrossOf(plot, from, right, banded), plot, size, measure)
  let left = Math.min(size.width / 3, Math.max(24, ...names.map(name => measure(name, TEXT_SIZE))) + 14)
  // Tilted labels reach to the left of the first place.
  left = Math.max(left, Math.min(size.width / 4, tilted(left).reach))
  const labels = tilted(left)
  const bottom = size.height - labels.height - 18
  values.range([bottom, top])
  const field: Field = { left, right, top, bottom, across: labels.across.at, band: labels.across.band, up: value => values(value) }
  const grid = marks.flatMap((mark, place): Shape[] => [
    { kind: 'line', x1: left, x2: right, y1: values(mark), y2: values(mark), stroke: mark === 0 ? axisGrey : gridGrey, width: mark === 0 ? 1 : 0.7, dash: [] },
    textAt(left - 7, values(mark) + 4, shorten(names[place] ?? '', left - 8, TEXT_SIZE, measure), 'end'),
  ])
  const foot: Shape = { kind: 'line', x1: left, x2: right, y1: bottom, y2: bottom, stroke: axisGrey, width: 1, dash: [] }
  const under = labels.ticks.map(tick =>
    textAt(tick.at, bottom + (labels.tilt ? 12 : 16), tick.text, labels.tilt ? 'end' : 'middle', undefined, labels.tilt ? -TILT : 0),
  )
  const caption = textAt((left + right) / 2, size.height - 4, shorten(plot.caption, right - left, TEXT_SIZE, measure), 'middle')
  return { field, shapes: [...grid, foot, ...under, caption] }
}

/** Which labels of the x axis are shown and how: level while they fit, tilted when they are names, else every n-th. */
function layOut(across: Across, plot: Plot, size: Size, measure: Measure) {
  const longest = Math.min(LABEL_WIDTH, size.height * 0.5)
  const short = across.ticks.map(tick => ({ at: tick.at, text: shorten(tick.text, longest, TEXT_SIZE, measure) }))
  const widest = short.reduce((most, tick) => Math.max(most, measure(tick.text, TEXT_SIZE)), 0)
  const step = short.length > 1 ? Math.abs((short[1]?.at ?? 0) - (short[0]?.at ?? 0)) : Number.POSITIVE_INFINITY
  const tilt = across.regular && widest + 8 > step && (plot.xKind === 'text' || plot.xKind === 'json')
  const needed = tilt ? TEXT_SIZE * 1.4 : widest + 8
  const ticks = across.regular ? everyNth(short, Math.ceil(needed / Math.max(step, 1e-9))) : apart(short, measure)
  const reach = tilt ? widest * COS - Math.min(step, 400) / 2 + 8 : 0
  return { across, ticks, tilt, reach, height: tilt ? widest * SIN + 20 : 22 }
}

function acrossOf(plot: Plot, from: number, to: number, banded: boolean): Across {
  const count = plot.labels.length
  if (plot.places !== null) return measuredAcross(plot.places, plot.xKind, from, to)
  const rows = Array.from({ length: count }, (_, row) => row)
  const scale = banded ? scaleBand(rows, [from, to]).paddingInner(0.25).paddingOuter(0.15) : scalePoint(rows, [from, to]).padding(0.5)
  const half = scale.bandwidth() / 2
  const at = (row: number) => (scale(row) ?? from) + half
  return { at, band: scale.bandwidth(), regular: true, ticks: rows.map(row => ({ at: at(row), text: plot.labels[row] ?? '' })) }
}

function measuredAcross(places: readonly number[], kind: Plot['xKind'], from: number, to: number): Across {
  // The last label has half its width right of the last place.
  const inner: [number, number] = [from + 12, to - 24]
  const count = Math.max(2, Math.floor((to - from) / 95))
  if (kind === 'number') {
    const scale = scaleLinear(widened(places[0] ?? 0, places.at(-1) ?? 0), inner)
    const marks = scale.ticks(count)
    const names = numberLabels(marks)
    return { at: row => scale(places[row] ?? 0), band: 0, regular: false, ticks: marks.map((mark, place) => ({ at: scale(mark), text: names[place] ?? '' })) }
  }
  const [first, last] = [places[0] ?? 0, places.at(-1) ?? 0]
  const scale = scaleUtc(first === last ? [first - 43_200_000, last + 43_200_000] : [first, last], inner)
  const marks = first === last ? [new Date(first)] : scale.ticks(count)
  const names = instantLabels(marks)
  return { at: row => scale(places[row] ?? 0), band: 0, regular: false, ticks: marks.map((mark, place) => ({ at: scale(mark), text: names[place] ?? '' })) }
}

/** A span that can be divided: numbers next to each other are told apart no further than a billionth. */
export function widened(low: number, high: number): [number, number] {
  const least = Math.max(Math.abs(low), Math.abs(high)) * 1e-9
  if (low === 0 && high === 0) return [0, 1]
  return high - low > least ? [low, high] : [low - Math.max(least, Math.abs(low) * 0.05), high + Math.max(least, Math.abs(high) * 0.05)]
}

function everyNth(ticks: Tick[], nth: number): Tick[] {
  return nth <= 1 ? ticks : ticks.filter((_, place) => place % nth === 0)
}

/** As many as stand apart, each as many steps from the next. */
function apart(ticks: Tick[], measure: Measure): Tick[] {
  const half = (tick: Tick) => measure(tick.text, TEXT_SIZE) / 2
  const standApart = (shown: Tick[]) =>
    shown.every((tick, place) => {
      const next = shown[place + 1]
      return next === undefined || tick.at + half(tick) + 8 <= next.at - half(next)
    })
  let nth = 1
  while (nth < ticks.length && !standApart(everyNth(ticks, nth))) nth++
  return everyNth(ticks, nth)
}
