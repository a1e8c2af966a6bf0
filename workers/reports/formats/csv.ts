import type { Block, Column, DataBlock, Format, Row } from '../document.ts'

/**
 * First characters, by code point, for which spreadsheets take a cell to be a formula: tab, newline, carriage return, `+`, `-`, `=`, `@`
 * and the full-width forms of the last four, which some of them treat alike. The SQL that copies CSV asks for the same ones.
 */
export const formulaStarts: readonly number[] = [0x09, 0x0a, 0x0d, 0x2b, 0x2d, 0x3d, 0x40, 0xff0b, 0xff0d, 0xff1d, 0xff20]

const STARTS = new Set(formulaStarts)

/** Whether a spreadsheet would take the text for a formula. */
export function beginsFormula(value: string): boolean {
  return STARTS.has(value.charCodeAt(0))
}

/** The text with an apostrophe before it where a spreadsheet would take it for a formula. */
export function guard(value: string): string {
  return beginsFormula(value) ? `'${value}` : value
}

/** Comma-separated values, RFC 4180 but for the line ends, which are `\n`; rows come from PostgreSQL's own `copy … csv` and pass through. */
export const csv: Format = {
  extension: 'csv',
  contentType: 'text/csv; charset=utf-8',
  copy: 'csv',
  resumable: true,
  async open(head, sink, resumed) {
    const several = head.blocks.filter(holdsData).length > 1
    let first = !head.blocks.slice(0, (resumed?.block ?? -1) + 1).some(holdsData)
    let columns = columnsOf(resumed === undefined ? undefined : head.blocks[resumed.block])
    return {
      async begin(block) {
        columns = columnsOf(block)
        if (!holdsData(block)) return
        const title = several && block.title !== null ? line([quote(guard(block.title))]) : ''
        await sink(`${first ? '' : '\n'}${title}${line(columns.map(column => quote(guard(column.label))))}`)
        first = false
      },
      data: sink,
      async rows(rows) {
        if (rows.length > 0) await sink(rows.map(row => line(cells(row, columns))).join(''))
      },
      async end() {},
      async finish() {},
    }
  },
}

function holdsData(block: Block): block is DataBlock {
  return block.kind !== 'text'
}

function columnsOf(block: Block | undefined): readonly Column[] {
  return block !== undefined && holdsData(block) ? block.columns : []
}

function cells(row: Row, columns: readonly Column[]): string[] {
  return row.map((value, index) => {
    if (value === null) return ''
    const kind = columns[index]?.kind
    const text = kind === 'text' || kind === 'json' ? guard(value) : value
    // PostgreSQL quotes it too, because older servers take it, alone on a line, for the end of the data.
    return row.length === 1 && text === '\\.' ? `"${text}"` : quote(text)
  })
}

/** Quoted where it must be, and when it is empty: nothing between two commas is NULL. */
function quote(value: string): string {
  return value === '' || /[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value
}

function line(quoted: readonly string[]): string {
  return `${quoted.join(',')}\n`
}
