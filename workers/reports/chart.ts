import type { Row } from './document.ts'
import { drawAxes, widened } from './formats/draw-axes.ts'
import { drawAreas, drawBars, drawLines, type Spans, spansOf } from './formats/draw-marks.ts'
import { drawPie } from './formats/draw-pie.ts'
import { type ChartBlock, type Plot, readPlot } from './formats/draw-plot.ts'
import { ink, type Measure, roughWidth, type Shape, type Size, shorten, TEXT_SIZE, textAt } from './formats/draw-shape.ts'

export type { ChartBlock } from './formats/draw-plot.ts'
export type { Shape, Size } from './formats/draw-shape.ts'

/** What a chart looks like: shapes within a width and height, for whoever draws them. Values that aren't numbers are gaps. */
export function drawChart(block: ChartBlock, rows: readonly Row[], size: Size, measure: Measure = roughWidth): Shape[] {
  const plot = readPlot(block, rows)
  if (block.chart.kind !== 'pie') return drawField(block, plot, size, measure)
  const shapes = drawPie(plot, size, measure)
  return shapes.length > 0 ? shapes : [nothing(size.width / 2, size.height / 2)]
}

function drawField(block: ChartBlock, plot: Plot, size: Size, measure: Measure): Shape[] {
  const { kind } = block.chart
  const onEachOther = block.chart.stacked && kind !== 'line'
  const spans = spansOf(plot.series, onEachOther)
  const legend = drawLegend(plot, size, measure)
  const { field, shapes } = drawAxes(plot, extentOf(spans, kind === 'line'), size, legend.height, kind === 'bar', measure)
  const empty = spans.every(series => series.every(span => span === null))
  if (empty) return [...legend.shapes, ...shapes, nothing((field.left + field.right) / 2, (field.top + field.bottom) / 2)]
  if (kind === 'bar') return [...legend.shapes, ...shapes, ...drawBars(plot, spans, field, onEachOther)]
  return [...legend.shapes, ...shapes, ...(kind === 'area' ? drawAreas(plot, spans, field, onEachOther) : drawLines(plot, field))]
}

/** What the y axis must show. Bars and areas grow from zero; a line may leave it out, where its values lie close together and far from it. */
function extentOf(spans: Spans, isLine: boolean): [number, number] {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  for (const span of spans.flat()) {
    if (span === null) continue
    low = Math.min(low, span[1])
    high = Math.max(high, span[1])
  }
  if (low > high) return [0, 1]
  const far = isLine && (low > 0 || high < 0) && high - low < Math.max(Math.abs(low), Math.abs(high)) / 3
  return far ? widened(low, high) : widened(Math.min(0, low), Math.max(0, high))
}

/** The names of several series, in as many lines as they need; the name of a single one over its axis. */
function drawLegend(plot: Plot, size: Size, measure: Measure): { shapes: Shape[]; height: number } {
  const only = plot.series.length === 1 ? plot.series[0] : undefined
  if (only) return { shapes: [textAt(4, 12, shorten(only.label, size.width - 8, TEXT_SIZE, measure))], height: 26 }
  let [x, y] = [4, 12]
  const shapes = plot.series.flatMap((series): Shape[] => {
    const name = shorten(series.label, Math.min(200, size.width - 40), TEXT_SIZE, measure)
    const width = 18 + measure(name, TEXT_SIZE) + 16
    if (x > 4 && x + width > size.width) [x, y] = [4, y + 18]
    const [left, height] = [x, y]
    x += width
    return [{ kind: 'rect', x: left, y: height - 9, width: 11, height: 11, fill: series.colour }, textAt(left + 17, height, name, 'start', ink)]
  })
  return { shapes, height: Math.min(y + 16, size.height / 2) }
}

function nothing(x: number, y: number): Shape {
  return textAt(x, y, 'no data', 'middle')
}
