import type { Reader } from '../../src/database.ts'
import { PawlError } from '../../src/errors.ts'
import { quoted } from '../../src/names.ts'
import { copyRows } from './copy-rows.ts'
import { csvRowCounter } from './csv-rows.ts'
import type { Column, DataBlock, Format, Head } from './document.ts'
import { formulaStarts } from './formats/csv.ts'
import { bindSettings, judged } from './relation.ts'
import { keySettings, pageEndText, pageText, type Statement, wholeText } from './statement.ts'

/** Rows of a page: a checkpoint every few megabytes. */
const PAGE_ROWS = 50_000
/** Of a result that can't be read by page: how much goes by between two looks at who wants what of the run. */
const SLICE_BYTES = 4_000_000
/**
 * Taken apart at once. V8 holds a megabyte of young objects in the image; the rows of a whole 64 kB outlive that and are collected late
 * (190 MB for two million rows of JSON), those of a small piece die young (140 MB).
 */
const PIECE_BYTES = 8_192
/** More points than this no one can see; a chart's rows are held in memory. */
const CHART_ROWS_MAX = 5_000

/** Where a document can be taken up again: behind so many rows of a block, the last of which has this key. */
export type Place = { block: number; rows: number; after: string[] }

/** What was written since the last one. `place` is null where the document can't be taken up again. */
export type Progress = { rows: number; place: Place | null }

export type Composition = {
  reader: Reader
  format: Format
  writer: Awaited<ReturnType<Format['open']>>
  head: Head
  /** One for each data block, by its place among the blocks. */
  statements: ReadonlyMap<number, Statement>
  rowsMax: number
  secondsMax: number
}

/** Writes the document from `from` on, block by block. Throws `report.too_large` when a block has more rows than it may. */
export async function* compose(composition: Composition, from?: Place): AsyncGenerator<Progress> {
  const { head, writer, statements } = composition
  for (const [place, block] of head.blocks.entries()) {
    if (from !== undefined && place < from.block) continue
    const resumed = from?.block === place ? from : undefined
    if (resumed === undefined) await writer.begin(block)
    const statement = statements.get(place)
    if (block.kind !== 'text' && statement !== undefined) {
      await bindSettings(composition.reader, statement.settings)
      try {
        yield* statement.key === undefined ? whole(composition, statement, block) : pages(composition, statement, place, block, resumed)
      } catch (error) {
        throw judged(error, statement.source, { seconds: composition.secondsMax })
      }
    }
    await writer.end()
  }
  await writer.finish()
}

async function* pages(composition: Composition, statement: Statement, block: number, data: DataBlock, from: Place | undefined): AsyncGenerator<Progress> {
  const { reader, rowsMax } = composition
  let rows = from?.rows ?? 0
  let after = from?.after
  for (;;) {
    if (after !== undefined) await bindSettings(reader, keySettings('after', after))
    const [end] = await reader.query<{ key: string[] }>(pageEndText(statement, PAGE_ROWS, after === undefined))
    if (end !== undefined) await bindSettings(reader, keySettings('upto', end.key))
    const text = pageText(statement, after === undefined, end === undefined, PAGE_ROWS)
    let read = 0
    for await (const taken of copied(composition, text, data)) read += taken.rows
    rows += read
    if (rows > rowsMax) throw tooLarge(data, rowsMax)
    if (end === undefined) {
      yield { rows: read, place: null }
      return
    }
    after = end.key
    yield { rows: read, place: { block, rows, after } }
  }
}

async function* whole(composition: Composition, statement: Statement, data: DataBlock): AsyncGenerator<Progress> {
  const most = data.kind === 'chart' ? Math.min(CHART_ROWS_MAX, composition.rowsMax) : composition.rowsMax
  const text = wholeText(statement, most + 1)
  let total = 0
  let slice = { rows: 0, bytes: 0 }
  for await (const taken of copied(composition, text, data)) {
    total += taken.rows
    if (total > most) throw tooLarge(data, most)
    slice = { rows: slice.rows + taken.rows, bytes: slice.bytes + taken.bytes }
    if (slice.bytes < SLICE_BYTES) continue
    yield { rows: slice.rows, place: null }
    slice = { rows: 0, bytes: 0 }
  }
  yield { rows: slice.rows, place: null }
}

/** Sends a result to the writer as it arrives. */
async function* copied({ reader, format, writer }: Composition, select: string, { columns }: DataBlock): AsyncGenerator<{ rows: number; bytes: number }> {
  const shown = columns.map(column => `${cell(column, format)} as ${quoted(column.name)}`).join(', ')
  const stream = reader.copyOut(`copy (select ${shown} from (${select}) result) to stdout${format.copy === 'csv' ? ' (format csv)' : ''}`)
  if (format.copy === 'csv') {
    const count = csvRowCounter()
    for await (const bytes of stream) {
      await writer.data?.(bytes)
      yield { rows: count(bytes), bytes: bytes.length }
    }
    return
  }
  const parser = copyRows(columns.length)
  for await (const bytes of stream) {
    let count = 0
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      const rows = parser.push(bytes.subarray(at, at + PIECE_BYTES))
      await writer.rows(rows)
      count += rows.length
    }
    yield { rows: count, bytes: bytes.length }
  }
  parser.end()
}

function cell({ name, kind }: Column, format: Format): string {
  const own = `${quoted(name)}`
  // COPY would write t and f.
  if (kind === 'boolean') return `${own}::text`
  if (format.copy !== 'csv' || (kind !== 'text' && kind !== 'json')) return own
  return `case when ascii(${own}::text) in (${formulaStarts.join(', ')}) then '''' || ${own}::text else ${own}::text end`
}

function tooLarge({ title }: DataBlock, most: number): PawlError {
  return new PawlError('report.too_large', `${title === null ? 'the report' : JSON.stringify(title)} has more than ${most} rows`, {
    hint: 'filter or group it, or raise limits.rows in the configuration of the report or its template (a chart shows 5000 points at most)',
  })
}
