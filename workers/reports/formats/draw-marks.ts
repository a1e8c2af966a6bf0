import { area, line } from 'd3-shape'
import type { Field } from './draw-axes.ts'
import { type Plot, type Series, stacked } from './draw-plot.ts'
import type { Shape } from './draw-shape.ts'
import { grouped } from './draw-value.ts'

/** From where to where each value of each series reaches; null is a gap. */
export type Spans = readonly (readonly (readonly [number, number] | null)[])[]

/** The spans of all values: on each other, or each from zero. */
export function spansOf(series: readonly Series[], onEachOther: boolean): Spans {
  const found = onEachOther ? stacked(series) : series.map(one => one.values.map((value): [number, number] => [0, value ?? 0]))
  return found.map((spans, place) => spans.map((span, row) => (series[place]?.values[row] === null ? null : span)))
}

/** Bars from zero: next to each other, or on each other. */
export function drawBars(plot: Plot, spans: Spans, field: Field, onEachOther: boolean): Shape[] {
  const lanes = onEachOther ? 1 : Math.max(1, plot.series.length)
  // A single row must not become a wall.
  const band = Math.min(field.band, 90 * lanes)
  const width = Math.max(0.2, band / lanes - (lanes > 1 && band / lanes > 4 ? 1 : 0))
  return plot.series.flatMap((series, place) =>
    series.values.flatMap((value, row): Shape[] => {
      const span = spans[place]?.[row]
      if (!span || value === null) return []
      const [one, other] = [field.up(span[0]), field.up(span[1])]
      const x = field.across(row) - band / 2 + (onEachOther ? 0 : (band / lanes) * place)
      return [{ kind: 'rect', x, y: Math.min(one, other), width, height: Math.abs(one - other), fill: series.colour, label: told(plot, series, row) }]
    }),
  )
}

/** Lines through the values, broken at gaps; each point is marked while there are few, or where it stands alone. */
export function drawLines(plot: Plot, field: Field, ends?: Spans): Shape[] {
  return plot.series.flatMap((series, place): Shape[] => {
    const heights = ends?.[place]?.map(span => span?.[1] ?? null) ?? series.values
    const stroke = line<number | null>()
      .defined(value => value !== null)
      .x((_, row) => field.across(row))
      .y(value => field.up(value ?? 0))
      .digits(3)
    const d = stroke(heights)
    const alone = (row: number) => (heights[row - 1] ?? null) === null && (heights[row + 1] ?? null) === null
    const points = heights.flatMap((value, row): Shape[] =>
      value !== null && (heights.length <= 40 || alone(row)) ? [dot(field.across(row), field.up(value), series, told(plot, series, row))] : [],
    )
    return [...(d === null ? [] : [pathOf(d, { stroke: series.colour, width: 1.8, dash: series.dash })]), ...points]
  })
}

/** Areas between where values begin and end, and their lines. */
export function drawAreas(plot: Plot, spans: Spans, field: Field, onEachOther: boolean): Shape[] {
  const areas = plot.series.flatMap((series, place): Shape[] => {
    const under = area<readonly [number, number] | null>()
      .defined(span => span !== null)
      .x((_, row) => field.across(row))
      .y0(span => field.up(span?.[0] ?? 0))
      .y1(span => field.up(span?.[1] ?? 0))
      .digits(3)
    const d = under(spans[place] ?? [])
    return d === null ? [] : [pathOf(d, { fill: series.colour, opacity: onEachOther ? 0.65 : 0.25 })]
  })
  return [...areas, ...drawLines(plot, field, spans)]
}

function dot(x: number, y: number, series: Series, label: string): Shape {
  const [left, right, height] = [(x - 2.4).toFixed(3), (x + 2.4).toFixed(3), y.toFixed(3)]
  return { ...pathOf(`M${left},${height}A2.4,2.4,0,1,1,${right},${height}A2.4,2.4,0,1,1,${left},${height}Z`, { fill: series.colour }), label }
}

/** A path with nothing but what is asked for. */
export function pathOf(d: string, look: Partial<Omit<Extract<Shape, { kind: 'path' }>, 'kind' | 'd'>>): Extract<Shape, { kind: 'path' }> {
  return { kind: 'path', d, fill: null, opacity: 1, stroke: null, width: 1, dash: [], ...look }
}

function told(plot: Plot, series: Series, row: number): string {
  return `${plot.labels[row] ?? ''} · ${series.label}: ${grouped(String(series.values[row] ?? ''))}`
}
