import { arc, pie } from 'd3-shape'
import { pathOf } from './draw-marks.ts'
import type { Plot } from './draw-plot.ts'
import { axisGrey, colourOf, ink, type Measure, type Shape, type Size, shorten, TEXT_SIZE, textAt } from './draw-shape.ts'

/** A slice: angles in radians, clockwise from the top. */
export type Slice = { label: string; share: number; colour: string; startAngle: number; endAngle: number }

// Eight colours can be told apart; what is left is one slice of grey.
const SLICES_MAX = 8

/** The slices of a pie: of the first series, those above zero; the smallest of many become one. */
export function slicesOf(plot: Plot): Slice[] {
  const parts = (plot.series[0]?.values ?? []).flatMap((value, row) => (value !== null && value > 0 ? [{ label: plot.labels[row] ?? '', value }] : []))
  const large = parts.length <= SLICES_MAX ? parts : parts.toSorted((one, other) => other.value - one.value).slice(0, SLICES_MAX - 1)
  const small = parts.filter(part => !large.includes(part))
  const all = small.length === 0 ? large : [...large, { label: `${small.length} others`, value: small.reduce((sum, part) => sum + part.value, 0) }]
  const total = all.reduce((sum, part) => sum + part.value, 0)
  const angles = pie<{ value: number }>()
    .sort(null)
    .value(part => part.value)
  return angles(all).map(({ startAngle, endAngle }, place) => ({
    label: all[place]?.label ?? '',
    share: (all[place]?.value ?? 0) / total,
    colour: small.length > 0 && place === all.length - 1 ? axisGrey : colourOf(place),
    startAngle,
    endAngle,
  }))
}

/** A pie with its names and shares beside it; nothing where there is nothing to divide. */
export function drawPie(plot: Plot, size: Size, measure: Measure): Shape[] {
  const slices = slicesOf(plot)
  if (slices.length === 0) return []
  const radius = Math.max(4, Math.min(size.height / 2 - 10, size.width * 0.27))
  const [middle, centre] = [Math.min(size.width * 0.3, radius + size.width * 0.06), size.height / 2]
  const names = middle + radius + Math.min(40, size.width * 0.06)
  const spacing = Math.min(22, (size.height - 16) / slices.length)
  const top = centre - (spacing * slices.length) / 2
  const room = size.width - names - 20
  const outline = arc<Slice>().innerRadius(0).outerRadius(radius).digits(3)
  return slices.flatMap((slice, place): Shape[] => {
    const share = ` · ${percent(slice.share)}`
    const name = shorten(slice.label, room - measure(share, TEXT_SIZE), TEXT_SIZE, measure)
    const y = top + spacing * place
    return [
      { ...pathOf(moved(outline(slice) ?? '', middle, centre), { fill: slice.colour, stroke: '#ffffff' }), label: slice.label + share },
      { kind: 'rect', x: names, y: y + spacing / 2 - 5, width: 10, height: 10, fill: slice.colour },
      textAt(names + 17, y + spacing / 2 + 4, name + share, 'start', ink),
    ]
  })
}

function percent(share: number): string {
  const shown = share * 100
  return shown > 0 && shown < 0.1 ? '<0.1 %' : `${shown.toFixed(1)} %`
}

/** The path elsewhere: arcs are drawn around 0,0. Arcs end in a point, after five numbers that no move changes. */
function moved(d: string, x: number, y: number): string {
  const by = (text: string, distance: number) => String(Number((Number(text) + distance).toFixed(3)))
  return d.replace(/([ML]|A(?:[^,]+,){5})([^,]+),([^,MLAZ]+)/g, (_, command: string, right: string, down: string) => command + by(right, x) + ',' + by(down, y))
}
