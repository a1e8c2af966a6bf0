import { createRequire } from 'node:module'
import type PDFDocument from 'pdfkit'
import { codeOf, PawlError } from '../../../src/errors.ts'
import type { Head, Sink } from '../document.ts'
import { type Anchor, faint, ink } from './draw-shape.ts'
import { Face, type Fitted, type PdfFont, runsOf, shaping } from './pdf-face.ts'

type Document = InstanceType<typeof PDFDocument>

const MARGIN = 40
const FOOTER = 26
const DRAIN_BYTES = 65_536

/**
 * The pages of one PDF, written one after another: `y` is how far down the page is filled. A page is in the document's stream as soon as
 * the next one begins, and in the sink soon after, so that memory holds one page.
 */
export class Pages {
  readonly left = MARGIN
  readonly right: number
  readonly bottom: number
  readonly regular: Face
  readonly bold: Face
  y = 0
  readonly doc: Document
  readonly #head: Head
  readonly #sink: Sink
  #count = 0

  constructor(doc: Document, faces: { regular: Face; bold: Face }, head: Head, sink: Sink, landscape: boolean) {
    const [width, height] = landscape ? [841.89, 595.28] : [595.28, 841.89]
    this.doc = doc
    this.regular = faces.regular
    this.bold = faces.bold
    this.#head = head
    this.#sink = sink
    this.right = width - MARGIN
    this.bottom = height - MARGIN - FOOTER
  }

  get width(): number {
    return this.right - this.left
  }

  /** Begins a page; what the ones before hold goes to the sink. */
  async next(): Promise<void> {
    this.doc.addPage()
    this.#count++
    this.y = MARGIN
    const foot = this.doc.page.height - MARGIN + 2
    const number = `Page ${this.#count}`
    this.raw(`${gray(0.87)} ${strokeLine(this.left, foot - 14, this.right, foot - 14, 0.6)}`)
    this.text(this.regular, number, 8, this.right, foot, { align: 'end', colour: faint })
    const room = this.width - this.regular.measure(number, 8) - 24
    this.text(this.regular, this.#head.title, 8, this.left, foot, { colour: faint, room })
    if (this.doc.readableLength >= DRAIN_BYTES) await this.#drain()
  }

  /** Begins a page unless so many points are left on this one. */
  async room(height: number): Promise<void> {
    if (this.y + height > this.bottom) await this.next()
  }

  /** Writes one line; `y` is its base line. */
  text(face: Face, text: string, size: number, x: number, y: number, look: { align?: Anchor; colour?: string; room?: number; degrees?: number } = {}): void {
    const fitted = face.fit(text, size, look.room ?? Number.POSITIVE_INFINITY)
    if (fitted.width === 0) return
    const behind = look.align === 'end' ? fitted.width : look.align === 'middle' ? fitted.width / 2 : 0
    const colour = look.colour ?? ink
    if (fitted.shaped) return this.shaped(face, fitted, size, x - behind, y, colour, { degrees: look.degrees ?? 0, origin: [x, y] })
    this.raw(`${fillColour(colour)} BT /${this.use(face)} ${size} Tf ${matrix(x, y, behind, look.degrees ?? 0)} Tm <${fitted.hex}> Tj ET`)
  }

  /** Writes one line whose letters join. */
  shaped(face: Face, fitted: Fitted, size: number, x: number, y: number, colour: string, turned?: { degrees: number; origin: [number, number] }): void {
    const { doc } = this
    doc.save()
    this.raw(fillColour(colour))
    if (turned) doc.rotate(turned.degrees, { origin: turned.origin })
    doc.font(face === this.bold ? 'bold' : 'regular').fontSize(size)
    let at = x
    for (const run of runsOf(fitted.text)) {
      // pdfkit's types want features as a list, its fonts take a record too.
      doc.text(run, at, y, { lineBreak: false, baseline: 'alphabetic', features: shaping as [] })
      at += face.width(run, size)
    }
    doc.restore()
  }

  /** The name of the face on this page. */
  use(face: Face): string {
    const { fonts } = this.doc.page as unknown as { fonts: Record<string, unknown> }
    fonts[face.font.id] ??= face.font.ref()
    return face.font.id
  }

  /** Operators of PDF's own, in a plane whose y grows downwards. */
  raw(operators: string): void {
    this.doc.addContent(operators)
  }

  /** Ends the document; resolves when its last byte is in the sink. */
  async finish(): Promise<void> {
    this.doc.end()
    for await (const bytes of this.doc) await this.#sink(bytes as Uint8Array)
  }

  async #drain(): Promise<void> {
    const bytes = this.doc.read() as Uint8Array | null
    if (bytes !== null) await this.#sink(bytes)
  }
}

/** Opens a document, with DejaVu's fonts where they are installed; Helvetica, which every reader has, knows Western European letters only. */
export async function openPages(head: Head, sink: Sink, landscape: boolean): Promise<Pages> {
  const { default: Pdfkit } = await import('pdfkit').catch(missing)
  const options = { size: 'A4', layout: landscape ? 'landscape' : 'portrait', margin: 0, autoFirstPage: false, lang: 'en', fontLayoutCache: false } as const
  const doc = new Pdfkit({
    ...options,
    info: { Title: head.title, Author: head.organization, Creator: 'Pawl', Producer: 'Pawl', CreationDate: new Date(head.generatedAt) },
  })
  const face = (name: string, file: string, standard: string): Face => {
    doc.registerFont(name, resolved(`dejavu-fonts-ttf/ttf/${file}`) ?? standard)
    doc.font(name)
    return new Face((doc as unknown as { _font: PdfFont })._font)
  }
  const faces = { regular: face('regular', 'DejaVuSans.ttf', 'Helvetica'), bold: face('bold', 'DejaVuSans-Bold.ttf', 'Helvetica-Bold') }
  const pages = new Pages(doc, faces, head, sink, landscape)
  await pages.next()
  return pages
}

function missing(error: unknown): never {
  if (codeOf(error) !== 'ERR_MODULE_NOT_FOUND') throw error
  throw new PawlError('report.pdf_missing', 'pdfkit, which writes PDFs, is not installed', { hint: 'npm install pdfkit@0.20.2', cause: error })
}

function resolved(file: string): string | null {
  try {
    return createRequire(import.meta.url).resolve(file)
  } catch {
    return null
  }
}

/** Operators for a colour such as #1f2933, to fill with. */
export function fillColour(colour: string): string {
  const part = (from: number) => Number((Number.parseInt(colour.slice(from, from + 2), 16) / 255).toFixed(3))
  return `${part(1)} ${part(3)} ${part(5)} rg`
}

/** Operators for a shade to draw lines with: 0 is black. */
export function gray(shade: number): string {
  return `${shade} G`
}

/** Operators that draw a line. */
export function strokeLine(x1: number, y1: number, x2: number, y2: number, width: number): string {
  return `${width} w ${points(x1)} ${points(y1)} m ${points(x2)} ${points(y2)} l S`
}

/** A length as PDF writes it. */
export function points(length: number): string {
  return length.toFixed(2)
}

/** Where a line of text is and how it is turned, clockwise: upright again in a plane whose y grows downwards. */
function matrix(x: number, y: number, behind: number, degrees: number): string {
  if (degrees === 0) return `1 0 0 -1 ${points(x - behind)} ${points(y)}`
  const [sin, cos] = [Math.sin((degrees * Math.PI) / 180), Math.cos((degrees * Math.PI) / 180)]
  return `${cos.toFixed(4)} ${sin.toFixed(4)} ${sin.toFixed(4)} ${(-cos).toFixed(4)} ${points(x - behind * cos)} ${points(y - behind * sin)}`
}
