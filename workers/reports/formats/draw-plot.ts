import type { Block, ColumnKind, Row } from '../document.ts'
import { colourOf, type Dash, dashOf } from './draw-shape.ts'

export type ChartBlock = Extract<Block, { kind: 'chart' }>

/** One column of figures; null is a gap. */
export type Series = { label: string; colour: string; dash: Dash; values: readonly (number | null)[] }

/**
 * A chart's rows as it needs them. `places`: where each row stands on an x axis that is measured (a number, or milliseconds); null where
 * rows just follow each other.
 */
export type Plot = { caption: string; xKind: ColumnKind; labels: readonly string[]; places: readonly number[] | null; series: readonly Series[] }

// A sum or a span of values beyond it is Infinity, and nobody could see a difference smaller than the other.
const LARGEST = 1e150
const SMALLEST = 1e-150

/** Takes a chart's rows apart. */
export function readPlot(block: ChartBlock, all: readonly Row[]): Plot {
  const { kind, x, series } = block.chart
  const xKind = block.columns[x]?.kind ?? 'text'
  const measured = kind === 'line' || kind === 'area' ? measuredRows(all, x, xKind) : null
  const rows = measured?.map(found => found.row) ?? all
  return {
    caption: block.columns[x]?.label ?? '',
    xKind,
    labels: labelsOf(rows, x, xKind),
    places: measured?.map(found => found.place) ?? null,
    series: series.map((column, place) => ({
      label: block.columns[column]?.label ?? '',
      colour: colourOf(place),
      dash: dashOf(place),
      values: rows.map(row => numberOf(row[column])),
    })),
  }
}

/** A number that can be drawn, or null. */
export function numberOf(text: string | null | undefined): number | null {
  // Number('') is 0.
  if (text === null || text === undefined || text.trim() === '') return null
  const value = Number(text)
  if (!(Math.abs(value) <= LARGEST)) return null
  return Math.abs(value) < SMALLEST ? 0 : value
}

const instant = /^(\d{4,6})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?(?:Z|([+-])(\d\d)(?::?(\d\d))?(?::?\d\d)?)?)?$/

/** The milliseconds of a date or timestamp in ISO style, UTC where it names no zone; null for `infinity`, for years BC and the like. */
export function instantOf(text: string | null | undefined): number | null {
  const found = instant.exec(text ?? '')
  if (found === null) return null
  const part = (place: number) => Number(found[place] ?? 0)
  // Date.UTC takes the years 0 to 99 for 1900 to 1999.
  const date = new Date(0)
  date.setUTCFullYear(part(1), part(2) - 1, part(3))
  const offset = (found[8] === '-' ? -1 : 1) * (part(9) * 60 + part(10))
  const time = date.getTime() + (part(4) * 60 + part(5) - offset) * 60_000 + (part(6) + part(7)) * 1000
  return Number.isNaN(new Date(time).getTime()) ? null : Math.round(time)
}

/** From where to where each value reaches when they stand on each other; those below zero hang from it. */
export function stacked(series: readonly Series[]): [number, number][][] {
  const [up, down]: [number[], number[]] = [[], []]
  return series.map(one =>
    one.values.map((value, row): [number, number] => {
      const side = (value ?? 0) < 0 ? down : up
      const from = side[row] ?? 0
      side[row] = from + (value ?? 0)
      return [from, from + (value ?? 0)]
    }),
  )
}

function measuredRows(rows: readonly Row[], x: number, kind: ColumnKind): { row: Row; place: number }[] | null {
  const read = kind === 'number' ? numberOf : kind === 'date' || kind === 'timestamp' ? instantOf : null
  if (read === null) return null
  const found = rows.flatMap(row => {
    const place = read(row[x])
    return place === null ? [] : [{ row, place }]
  })
  return found.length === 0 ? null : found.sort((one, other) => one.place - other.place)
}

/** Of timestamps, no more than tells them apart: months, days, or minutes. */
function labelsOf(rows: readonly Row[], x: number, kind: ColumnKind): string[] {
  const labels = rows.map(row => (row[x] ?? '').replace(/\s+/g, ' '))
  if ((kind !== 'timestamp' && kind !== 'date') || labels.length === 0) return labels
  const all = (pattern: RegExp) => labels.every(label => label === '' || pattern.test(label))
  if (labels.length > 1 && all(/^\d{4}-\d\d-01( 00:00:00(\.0+)?([+-]00)?)?$/)) return labels.map(label => label.slice(0, 7))
  if (all(/^\d{4}-\d\d-\d\d( 00:00:00(\.0+)?([+-]00)?)?$/)) return labels.map(label => label.slice(0, 10))
  return all(/^\d{4}-\d\d-\d\d \d\d:\d\d/) ? labels.map(label => label.slice(0, 16)) : labels
}
