/** What this writer takes from a font of pdfkit, whose types don't name it: the exact version of pdfkit is pinned, and tests read the text back. */
export type PdfFont = {
  id: string
  ascender: number
  encode(text: string): [string[], { xAdvance: number; advanceWidth: number }[]]
  widthOfString(text: string, size: number, features: object): number
  ref(): unknown
}

type Glyph = { hex: string; width: number; shaped: boolean }

/** A text that fits: in the codes of its font, or, where its letters change with their neighbours, as it is. */
export type Fitted = { width: number; text: string; hex: string; shaped: boolean }

/** Letters that join, turn around or stand on others: left to pdfkit's shaping, which is a hundred times as slow. */
const joined = /[\p{M}\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u

/** Every feature that a font has by default. Naming them makes pdfkit lay a text out whole: word by word, it sets Arabic backwards. */
export const shaping = {}

/**
 * A font at work: measures and encodes texts character by character, with a cache per character. pdfkit lays out each text anew, which costs
 * 20 to 50 µs a cell, and caches by word, which never ends with a million different cells. Ligatures would also hide letters from a search.
 */
export class Face {
  readonly font: PdfFont
  readonly #glyphs = new Map<string, Glyph>()

  constructor(font: PdfFont) {
    this.font = font
  }

  /** The width of a text in points. */
  measure(text: string, size: number): number {
    let width = 0
    for (const character of text) {
      const glyph = this.#glyphOf(character)
      if (glyph.shaped) return runsOf(printable(text)).reduce((sum, run) => sum + this.width(run, size), 0)
      width += glyph.width
    }
    return (width * size) / 1000
  }

  /** The width of a run that is shaped as a whole. */
  width(run: string, size: number): number {
    return this.font.widthOfString(run, size, shaping)
  }

  /** The text in the codes of the font, with an ellipsis where it doesn't fit into `room` points. */
  fit(text: string, size: number, room: number): Fitted {
    const most = (room * 1000) / size
    const dots = this.#glyphOf('…')
    let [width, hex, cut, cutWidth] = [0, '', '', 0]
    for (const character of text) {
      const glyph = this.#glyphOf(character)
      if (glyph.shaped) return this.#fitShaped(printable(text), size, room)
      if (width + dots.width <= most) [cut, cutWidth] = [hex, width]
      width += glyph.width
      hex += glyph.hex
      // Half a point of rounding must not cost a letter.
      if (width > most + 500 / size) return { width: ((cutWidth + dots.width) * size) / 1000, text, hex: cut + dots.hex, shaped: false }
    }
    return { width: (width * size) / 1000, text, hex, shaped: false }
  }

  #fitShaped(text: string, size: number, room: number): Fitted {
    const width = (part: string) => runsOf(part).reduce((sum, run) => sum + this.width(run, size), 0)
    if (width(text) <= room) return { width: width(text), text, hex: '', shaped: true }
    const characters = Array.from(text)
    let [fits, tooLong] = [0, characters.length]
    while (tooLong - fits > 1) {
      const middle = (fits + tooLong) >> 1
      if (width(`${characters.slice(0, middle).join('')}…`) <= room) fits = middle
      else tooLong = middle
    }
    const cut = `${characters.slice(0, fits).join('')}…`
    return { width: width(cut), text: cut, hex: '', shaped: true }
  }

  #glyphOf(character: string): Glyph {
    const known = this.#glyphs.get(character)
    if (known !== undefined) return known
    const found = this.#encode(character)
    this.#glyphs.set(character, found)
    return found
  }

  #encode(character: string): Glyph {
    if (joined.test(character)) return { hex: '', width: 0, shaped: true }
    const [codes, positions] = this.font.encode(printable(character))
    const hex = codes.join('')
    const embedded = hex.length >= 4
    // What a font has no picture of: glyph 0 of an embedded one, a code of no meaning in a standard one.
    const missing = embedded ? /^(0000)+$/.test(hex) : hex.length !== 2 || positions[0]?.advanceWidth === 0
    const stand = embedded ? '\ufffd' : '?'
    if (missing && character !== stand) return this.#glyphOf(stand)
    return { hex, width: positions.reduce((sum, position) => sum + position.xAdvance, 0), shaped: false }
  }
}

const leftwards = String.raw`\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}`
const leftwardsRun = new RegExp(`([${leftwards}][${leftwards}\\p{M}]*(?:\\s+[${leftwards}][${leftwards}\\p{M}]*)*)`, 'u')

/** The text in runs of one direction: pdfkit takes that of the first letter for all. */
export function runsOf(text: string): string[] {
  return text.split(leftwardsRun).filter(run => run !== '')
}

function printable(text: string): string {
  // Control characters have no picture: what separates words in them does so as a space.
  return text.replace(/[\p{Cc}\u2028\u2029]/gu, ' ')
}
