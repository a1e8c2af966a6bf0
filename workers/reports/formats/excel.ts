import type { Column, ColumnKind, Format, Row } from '../document.ts'
import { headingRow, rowWriter } from './excel-cells.ts'
import { columnLetters, sheetNames } from './excel-names.ts'
import { closingParts, openingParts, type Sheet, sheetClosing, sheetOpening, sheetPath } from './excel-parts.ts'
import { openZip, type Zip } from './excel-zip.ts'

/** All that a sheet of Excel holds, its heading included. */
const SHEET_ROWS_MAX = 1_048_576

/** Characters handed to the zip at once: one row at a time costs more in the stream than in the writing. */
const PIECE_LENGTH = 1 << 16

const WIDTH_MIN = 8
const WIDTH_MAX = 60
const WIDTHS_BY_ROWS = 100
const FIXED_WIDTHS: Partial<Record<ColumnKind, number>> = { date: 11, timestamp: 20, boolean: 8 }

/** Office Open XML, a sheet for each block of data. Not guarded on the server: a cell here says that it is text, and keeps its value. */
export const excel: Format = excelFormat(SHEET_ROWS_MAX)

/** The same with another limit of rows in a sheet, heading included, after which a block goes on in the next one. */
export function excelFormat(sheetRowsMax: number): Format {
  return {
    extension: 'xlsx',
    contentType: 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet',
    copy: 'text',
    resumable: false,
    async open(head, sink) {
      const zip = await openZip(sink, new Date(head.generatedAt))
      for (const [path, text] of openingParts(head)) zip.add(path, text)
      const sheets: Sheet[] = []
      const nameOf = sheetNames()
      const openSheet = (title: string | null, columns: readonly Column[]) => {
        const sheet: Sheet = { name: nameOf(title ?? head.title), range: null }
        return beginSheet(zip, sheet, sheets.push(sheet), columns)
      }
      let block: ReturnType<typeof blockWriter> | undefined
      return {
        async begin({ title, ...rest }) {
          block = rest.kind === 'text' ? undefined : blockWriter(() => openSheet(title, rest.columns), sheetRowsMax)
        },
        rows: async rows => block?.rows(rows),
        end: async () => block?.end(),
        async finish() {
          // Excel opens no workbook without a sheet.
          if (sheets.length === 0) await blockWriter(() => openSheet(null, []), sheetRowsMax).end()
          for (const [path, text] of closingParts(sheets)) zip.add(path, text)
          await zip.finish()
        },
      }
    },
  }
}

/** The sheets of one block. The first is begun with the first rows, because the widths of columns come before all rows. */
function blockWriter(open: () => OpenSheet, sheetRowsMax: number) {
  let sheet: OpenSheet | undefined
  return {
    async rows(rows: readonly Row[]) {
      for (let from = 0; from < rows.length; ) {
        if (sheet !== undefined && sheet.size() === sheetRowsMax) {
          await sheet.end()
          sheet = undefined
        }
        sheet ??= open()
        const some = rows.slice(from, from + sheetRowsMax - Math.max(sheet.size(), 1))
        await sheet.rows(some)
        from += some.length
      }
    },
    async end() {
      sheet ??= open()
      await sheet.end()
    },
  }
}

type OpenSheet = { size(): number; rows(rows: readonly Row[]): Promise<void>; end(): Promise<void> }

function beginSheet(zip: Zip, sheet: Sheet, number: number, columns: readonly Column[]): OpenSheet {
  const part = zip.part(sheetPath(number))
  const toText = rowWriter(columns)
  let size = 0
  const begin = (rows: readonly Row[]) => {
    size = 1
    return sheetOpening(widthsOf(columns, rows), number === 1) + headingRow(columns)
  }
  return {
    size: () => size,
    async rows(rows) {
      let piece = size === 0 ? begin(rows) : ''
      for (const row of rows) {
        size += 1
        piece += toText(row, size)
        if (piece.length < PIECE_LENGTH) continue
        await part.write(piece)
        piece = ''
      }
      await part.write(piece)
    },
    async end() {
      const opening = size === 0 ? begin([]) : ''
      sheet.range = columns.length === 0 ? null : `A1:${columnLetters(columns.length - 1)}${size}`
      await part.write(opening + sheetClosing(sheet.range))
      part.end()
    },
  }
}

/** In characters: as wide as the label and what is in the first rows. */
function widthsOf(columns: readonly Column[], rows: readonly Row[]): number[] {
  const first = rows.slice(0, WIDTHS_BY_ROWS)
  return columns.map(({ kind, label }, index) => {
    const lengths = first.map(row => FIXED_WIDTHS[kind] ?? row[index]?.length ?? 0)
    // The button of the filter covers the end of the label.
    return Math.min(Math.max(WIDTH_MIN, label.length + 4, ...lengths.map(length => length + 1)), WIDTH_MAX)
  })
}
