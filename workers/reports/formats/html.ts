import { type ChartBlock, drawChart } from '../chart.ts'
import type { Block, DataBlock, Format, Head, Row, Sink, Writer } from '../document.ts'
import { cards, pageEnd, pageHead, paragraphs, sectionEnd, sectionHead, tableEnd, tableHead, tableRow } from './html-parts.ts'
import { svgOf } from './svg.ts'

const BATCH_CHARACTERS = 65_536
const CHART_SIZE = { width: 760, height: 340 }

/** One page that stands by itself: no script, nothing fetched, charts as SVG. */
export const html: Format = {
  extension: 'html',
  contentType: 'text/html; charset=utf-8',
  copy: 'text',
  resumable: true,
  open,
}

/** A table's rows are in the sink when `rows` resolves, so that a run can be resumed there; a chart's and a metric's come with `end`. */
async function open(head: Head, sink: Sink, resumed?: { block: number; rows: number }): Promise<Writer> {
  const begun = resumed === undefined ? undefined : head.blocks[resumed.block]
  let block: DataBlock | undefined = begun?.kind === 'text' ? undefined : begun
  let written = resumed?.rows ?? 0
  let held: Row[] = []
  if (resumed === undefined) await sink(pageHead(head))

  const writeRows = async (table: DataBlock, rows: readonly Row[]) => {
    let batch = ''
    for (const row of rows) {
      batch += tableRow(table.columns, row)
      if (batch.length < BATCH_CHARACTERS) continue
      await sink(batch)
      batch = ''
    }
    if (batch !== '') await sink(batch)
    written += rows.length
  }

  return {
    async begin(next) {
      block = next.kind === 'text' ? undefined : next
      ;[written, held] = [0, []]
      await sink(sectionHead(next.title) + beginning(next))
    },
    async rows(rows) {
      if (block?.kind === 'table') await writeRows(block, rows)
      else for (const row of rows) held.push(row)
    },
    async end() {
      if (block?.kind === 'table') await sink(tableEnd(written))
      else if (block?.kind === 'metric') await sink(cards(block.columns, held[0]))
      else if (block?.kind === 'chart') await sink(chartPart(block, held))
      await sink(sectionEnd)
      ;[block, held] = [undefined, []]
    },
    finish: () => sink(pageEnd),
  }
}

function beginning(block: Block): string {
  if (block.kind === 'text') return paragraphs(block.text)
  return block.kind === 'table' ? tableHead(block.columns) : ''
}

function chartPart(block: ChartBlock, rows: readonly Row[]): string {
  const drawing = svgOf(drawChart(block, rows, CHART_SIZE), CHART_SIZE, block.title ?? 'Chart')
  const body = rows.map(row => tableRow(block.columns, row)).join('')
  const table = `<details><summary>Values</summary>\n${tableHead(block.columns)}${body}${tableEnd(rows.length)}</details>\n`
  return `<div class="scroll">${drawing}</div>\n${table}`
}
