import type { Column, Row } from '../document.ts'
import { ink } from './draw-shape.ts'
import { shownValue } from './draw-value.ts'
import type { Face, Fitted } from './pdf-face.ts'
import { fillColour, gray, type Pages, points, strokeLine } from './pdf-pages.ts'

type Place = { x: number; width: number; column: Column }

/** What is free left and right of a cell's text. */
const PAD = 4

/** How many rows a table's widths are taken from. */
export const SAMPLE_ROWS = 100

/** A table that goes on over pages, its head on each. */
export class Table {
  readonly #pages: Pages
  readonly #places: readonly Place[]
  readonly #size: number
  readonly #height: number
  #begun = false

  constructor(pages: Pages, columns: readonly Column[], sample: readonly Row[]) {
    this.#pages = pages
    this.#size = columns.length > 16 ? 5.5 : columns.length > 10 ? 6.5 : 8
    this.#height = this.#size * 1.9
    let x = pages.left
    this.#places = widthsOf(columns, sample, pages, this.#size).map((width, place) => {
      const found = { x, width, column: columns[place] as Column }
      x += width
      return found
    })
  }

  /** Writes rows, beginning pages where they are full. */
  async rows(rows: readonly Row[]): Promise<void> {
    await this.begin()
    const pages = this.#pages
    for (const row of rows) {
      if (pages.y + this.#height > pages.bottom) {
        await pages.next()
        this.#head()
      }
      this.#row(pages.regular, place => shownValue(row[place] ?? null, this.#places[place]?.column.kind ?? 'text'))
      pages.raw(`${gray(0.88)} ${strokeLine(pages.left, pages.y, pages.right, pages.y, 0.4)}`)
    }
  }

  /** Writes the head; never by itself at the end of a page. */
  async begin(): Promise<void> {
    if (this.#begun) return
    this.#begun = true
    await this.#pages.room(this.#height * 3)
    this.#head()
  }

  #head(): void {
    const pages = this.#pages
    pages.raw(`0.955 0.965 0.975 rg ${points(pages.left)} ${points(pages.y)} ${points(pages.width)} ${points(this.#height)} re f`)
    this.#row(pages.bold, place => this.#places[place]?.column.label ?? '')
    pages.raw(`${gray(0.45)} ${strokeLine(pages.left, pages.y, pages.right, pages.y, 0.8)}`)
  }

  /** One row is one piece of text in the file, whose cells stand at places of their own. */
  #row(face: Face, textOf: (place: number) => string): void {
    const pages = this.#pages
    const base = pages.y + this.#height - this.#size * 0.6
    let line = `${fillColour(ink)} BT /${pages.use(face)} ${this.#size} Tf`
    for (let place = 0; place < this.#places.length; place++) {
      const text = textOf(place)
      const at = this.#places[place]
      if (text === '' || at === undefined) continue
      const room = at.width - 2 * PAD
      const isNumber = at.column.kind === 'number'
      const fitted = isNumber && face === pages.regular ? narrowed(face, text, this.#size, room) : { ...face.fit(text, this.#size, room), percent: 100 }
      const x = isNumber ? at.x + at.width - PAD - (fitted.width * fitted.percent) / 100 : at.x + PAD
      if (fitted.shaped) pages.shaped(face, fitted, this.#size, x, base, ink)
      else if (fitted.percent === 100) line += ` 1 0 0 -1 ${points(x)} ${points(base)} Tm <${fitted.hex}> Tj`
      else line += ` ${fitted.percent} Tz 1 0 0 -1 ${points(x)} ${points(base)} Tm <${fitted.hex}> Tj 100 Tz`
    }
    pages.raw(`${line} ET`)
    pages.y += this.#height
  }
}

/** A number that its column is too narrow for is set narrower: with digits left out it would read as another. */
function narrowed(face: Face, text: string, size: number, room: number): Fitted & { percent: number } {
  const fitted = face.fit(text, size, (room * 100) / 55)
  return { ...fitted, percent: fitted.width <= room ? 100 : Math.max(1, Math.floor((room / fitted.width) * 100)) }
}

/** The widths of the columns, as wide as the page in all: what each wants by its label and first rows, where all of it fits. */
function widthsOf(columns: readonly Column[], sample: readonly Row[], pages: Pages, size: number): number[] {
  const total = pages.width
  const wanted = columns.map((column, place) => {
    let widest = pages.bold.measure(column.label, size)
    for (const row of sample) widest = Math.max(widest, pages.regular.measure(shownValue(row[place] ?? null, column.kind), size))
    // Later numbers may have a digit more than the first ones.
    return Math.min(widest + 2 * PAD + (column.kind === 'number' ? size : 1), total * 0.6)
  })
  const sum = wanted.reduce((all, width) => all + width, 0)
  if (sum <= total) return widenedTo(total - sum, wanted, columns)
  return shrunk(wanted, columns, total)
}

/** What is left over goes to the texts, whose later rows may be longer, and to all where there are none. */
function widenedTo(left: number, wanted: readonly number[], columns: readonly Column[]): number[] {
  const grows = columns.map(column => column.kind === 'text' || column.kind === 'json')
  const any = grows.includes(true)
  const share = wanted.reduce((sum, width, place) => sum + (any && !grows[place] ? width * 0.25 : width), 0)
  return wanted.map((width, place) => width + (left * (any && !grows[place] ? width * 0.25 : width)) / share)
}

/** Narrow columns keep what they want, the others share what is left; texts give way before numbers. */
function shrunk(wanted: readonly number[], columns: readonly Column[], total: number): number[] {
  const stiff = columns.map(column => column.kind !== 'text' && column.kind !== 'json')
  const needed = wanted.reduce((sum, width, place) => sum + (stiff[place] ? width : Math.min(width, 45)), 0)
  const fixed = wanted.map((width, place) => stiff[place] && needed <= total)
  let room = total - wanted.reduce((sum, width, place) => sum + (fixed[place] ? width : 0), 0)
  const order = wanted.map((width, place) => ({ width, place })).filter(one => !fixed[one.place])
  order.sort((one, other) => one.width - other.width)
  const result = [...wanted]
  order.forEach(({ width, place }, done) => {
    const given = Math.min(width, room / (order.length - done))
    result[place] = given
    room -= given
  })
  return result
}
