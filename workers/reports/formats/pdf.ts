import { type ChartBlock, drawChart } from '../chart.ts'
import type { Column, DataBlock, Format, Head, Row, Sink, Writer } from '../document.ts'
import { faint, ink } from './draw-shape.ts'
import { countedRows, shownInstant, shownValue } from './draw-value.ts'
import { drawShapes } from './pdf-chart.ts'
import { fillColour, gray, openPages, type Pages, points, strokeLine } from './pdf-pages.ts'
import { SAMPLE_ROWS, Table } from './pdf-table.ts'
import { wrapped } from './pdf-text.ts'

const CHART_HEIGHT = 200
// A chart's text is 11 units high, which on paper are 7.5 points.
const SCALE = 0.68
const COLUMNS_UPRIGHT = 6

/** Pages for paper: vectors, fonts within, nothing to fetch. */
export const pdf: Format = {
  extension: 'pdf',
  contentType: 'application/pdf',
  copy: 'text',
  resumable: false,
  open,
}

async function open(head: Head, sink: Sink): Promise<Writer> {
  const widest = head.blocks.reduce((most, block) => (block.kind === 'table' ? Math.max(most, block.columns.length) : most), 0)
  const pages = await openPages(head, sink, widest > COLUMNS_UPRIGHT)
  await writeHead(pages, head)
  let block: DataBlock | undefined
  let table: Table | undefined
  let [held, count]: [Row[], number] = [[], 0]

  return {
    async begin(next) {
      ;[block, table, held, count] = [next.kind === 'text' ? undefined : next, undefined, [], 0]
      if (next.title !== null) await writeTitle(pages, next.title, next.kind === 'chart' ? CHART_HEIGHT : 60)
      if (next.kind === 'text') await writeText(pages, next.text, 9.5, ink)
      if (next.kind === 'text') pages.y += 14
    },
    async rows(rows) {
      count += rows.length
      if (table) return table.rows(rows)
      for (const row of rows) held.push(row)
      if (block?.kind !== 'table' || held.length < SAMPLE_ROWS) return
      table = new Table(pages, block.columns, held.slice(0, SAMPLE_ROWS))
      await table.rows(held)
      held = []
    },
    async end() {
      if (block?.kind === 'table') await writeRest(pages, table ?? new Table(pages, block.columns, held), held, count)
      else if (block?.kind === 'chart') await writeChart(pages, block, held)
      else if (block?.kind === 'metric') await writeFigures(pages, block.columns, held[0])
      ;[block, table, held] = [undefined, undefined, []]
    },
    finish: () => pages.finish(),
  }
}

async function writeHead(pages: Pages, head: Head): Promise<void> {
  for (const line of wrapped(pages.bold, head.title, 18, pages.width)) {
    pages.text(pages.bold, line, 18, pages.left, pages.y + 18)
    pages.y += 23
  }
  pages.y += 4
  if (head.description !== null) await writeText(pages, head.description, 9.5, ink)
  await writeText(pages, `${head.organization} · ${shownInstant(head.generatedAt)}`, 8.5, faint)
  if (head.parameters.length > 0) {
    await writeText(pages, head.parameters.map(one => `${one.label}: ${one.value}`).join('   ·   '), 8.5, faint)
  }
  pages.y += 4
  pages.raw(`${gray(0.12)} ${strokeLine(pages.left, pages.y, pages.right, pages.y, 1.2)}`)
  pages.y += 20
}

/** A title goes with what follows: `after` points of it must fit below. */
async function writeTitle(pages: Pages, title: string, after: number): Promise<void> {
  const lines = wrapped(pages.bold, title, 12, pages.width)
  await pages.room(lines.length * 16 + 8 + after)
  for (const line of lines) {
    await pages.room(16)
    pages.text(pages.bold, line, 12, pages.left, pages.y + 11)
    pages.y += 16
  }
  pages.y += 6
}

async function writeText(pages: Pages, text: string, size: number, colour: string): Promise<void> {
  for (const line of wrapped(pages.regular, text.trim(), size, pages.width)) {
    const height = line === '' ? size * 0.8 : size * 1.45
    await pages.room(height)
    pages.text(pages.regular, line, size, pages.left, pages.y + size, { colour })
    pages.y += height
  }
  pages.y += 3
}

async function writeRest(pages: Pages, table: Table, held: readonly Row[], count: number): Promise<void> {
  await table.begin()
  await table.rows(held)
  await pages.room(14)
  pages.text(pages.regular, countedRows(count), 8, pages.left, pages.y + 13, { colour: faint })
  pages.y += 34
}

async function writeChart(pages: Pages, block: ChartBlock, rows: readonly Row[]): Promise<void> {
  await pages.room(CHART_HEIGHT)
  const size = { width: pages.width / SCALE, height: CHART_HEIGHT / SCALE }
  const shapes = drawChart(block, rows, size, (text, points) => pages.regular.measure(text, points))
  drawShapes(pages, shapes, SCALE)
  pages.y += CHART_HEIGHT + 22
}

/** Figures in boxes, four next to each other. */
async function writeFigures(pages: Pages, columns: readonly Column[], row: Row | undefined): Promise<void> {
  const [height, gap] = [50, 10]
  const lanes = Math.min(4, Math.max(2, columns.length))
  const width = (pages.width - gap * (lanes - 1)) / lanes
  for (let first = 0; first < columns.length; first += lanes) {
    await pages.room(height)
    columns.slice(first, first + lanes).forEach((column, lane) => {
      const x = pages.left + lane * (width + gap)
      const value = row?.[first + lane] ?? null
      pages.raw(`${fillColour('#f5f7f9')} ${points(x)} ${points(pages.y)} ${points(width)} ${points(height)} re f`)
      pages.text(pages.regular, column.label, 8, x + 10, pages.y + 17, { colour: faint, room: width - 20 })
      writeFigure(pages, value === null ? '–' : shownValue(value, column.kind), x + 10, width - 20)
    })
    pages.y += height + gap
  }
  pages.y += 14
}

/** A figure is set smaller rather than cut. */
function writeFigure(pages: Pages, text: string, x: number, room: number): void {
  const size = Math.max(6, Math.min(16, (16 * room) / Math.max(1, pages.bold.measure(text, 16))))
  pages.text(pages.bold, text, Number(size.toFixed(1)), x, pages.y + 38, { room: room + 1 })
}
