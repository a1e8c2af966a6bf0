/** What a chart comes down to, in a plane whose y grows downwards: one list, drawn as SVG and as PDF. `label` is what it stands for. */
export type Shape =
  | { kind: 'rect'; x: number; y: number; width: number; height: number; fill: string; label?: string }
  | { kind: 'path'; d: string; fill: string | null; opacity: number; stroke: string | null; width: number; dash: Dash; label?: string }
  | { kind: 'line'; x1: number; y1: number; x2: number; y2: number; stroke: string; width: number; dash: Dash }
  | { kind: 'text'; x: number; y: number; text: string; size: number; anchor: Anchor; degrees: number; fill: string }

/** Where a text stands to its x: it begins there, has its middle there or ends there. */
export type Anchor = 'start' | 'middle' | 'end'

/** Lengths of strokes and gaps, none for a line without gaps. */
export type Dash = readonly number[]

export type Size = { width: number; height: number }

/** The width of a text of a size; that of a whole is the sum of its parts. */
export type Measure = (text: string, size: number) => number

export const ink = '#1f2933'
export const faint = '#5f6b78'
export const axisGrey = '#8a95a1'
export const gridGrey = '#e3e7eb'

/** The size of all text in a chart. */
export const TEXT_SIZE = 11

// Okabe and Ito's colours, which colour-blind people tell apart; their yellow is too pale for white paper and comes darker, their black as grey.
const palette = ['#0072b2', '#e69f00', '#009e73', '#d55e00', '#56b4e9', '#cc79a7', '#b3a100', '#5b6168'] as const

const dashes: readonly Dash[] = [[], [6, 3], [2, 3]]

/** The colour of the n-th series or slice. */
export function colourOf(place: number): string {
  return palette[place % palette.length] ?? ink
}

/** The dash of the n-th series: another one each time that the colours begin anew. */
export function dashOf(place: number): Dash {
  return dashes[Math.floor(place / palette.length) % dashes.length] ?? []
}

/** What a text is about as wide as, where its font isn't known: a browser takes the reader's. */
export function roughWidth(text: string, size: number): number {
  let ems = 0
  for (const character of text) ems += /[ -~]/.test(character) ? (/[ .,:;'|il!]/.test(character) ? 0.34 : 0.62) : character < '\u2e80' ? 0.68 : 1.05
  return ems * size
}

/** The text, or as much of its beginning as fits with an ellipsis after it. */
export function shorten(text: string, width: number, size: number, measure: Measure): string {
  let [whole, kept, taken] = [0, '', 0]
  const room = width - measure('…', size)
  for (const character of text) {
    const wide = measure(character, size)
    if (whole + wide <= room && kept.length === taken) kept += character
    taken += character.length
    whole += wide
    if (whole > width) return `${kept.trimEnd()}…`
  }
  return text
}

/** A text of a chart, in its one size. */
export function textAt(x: number, y: number, text: string, anchor: Anchor = 'start', fill: string = faint, degrees = 0): Shape {
  return { kind: 'text', x, y, text, size: TEXT_SIZE, anchor, degrees, fill }
}
