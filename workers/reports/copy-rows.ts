import { PawlError } from '../../src/errors.ts'
import type { Row } from './document.ts'

const NEWLINE = 10
const BACKSLASH = 92

/** What PostgreSQL writes for a character that would end a field or a line; any other escaped character stands for itself. */
const ESCAPED: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' }

/** Takes apart what `copy … to stdout` sends: `push` gives the rows that are whole by now, `end` throws when one is not. */
export type CopyRows = { push(bytes: Uint8Array): Row[]; end(): void }

/**
 * A reader of PostgreSQL's COPY text format, rows of so many columns, in pieces that end anywhere, also within a character.
 * Throws `report.copy_torn` when the stream ends in mid-row or a row has another number of columns.
 */
export function copyRows(columns: number): CopyRows {
  // A list, not one growing buffer: a value of 100 MB comes in a thousand pieces, and joining at each would copy 50 GB.
  let begun: Uint8Array[] = []
  return {
    push(bytes) {
      const piece = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      const last = piece.lastIndexOf(NEWLINE)
      if (last === -1) {
        if (piece.length > 0) begun.push(Buffer.from(piece))
        return []
      }
      const whole = piece.subarray(0, last)
      const lines = begun.length === 0 ? whole : Buffer.concat([...begun, whole])
      // A copy, because whoever handed in the bytes may use their memory again.
      begun = last + 1 < piece.length ? [Buffer.from(piece.subarray(last + 1))] : []
      return rowsOf(lines, columns)
    },
    end() {
      const left = begun.reduce((sum, piece) => sum + piece.length, 0)
      if (left > 0) throw torn(`ended in the middle of a row, after ${left} bytes of it`)
    },
  }
}

/** A raw newline always ends a row: those in values are escaped. So the text is decoded and split in one go, not byte by byte. */
function rowsOf(lines: Buffer, columns: number): Row[] {
  const escaped = lines.includes(BACKSLASH)
  const rows: (string | null)[][] = []
  for (const line of lines.toString('utf8').split('\n')) {
    const row: (string | null)[] = columns === 0 && line === '' ? [] : line.split('\t')
    if (row.length !== columns) throw torn(`has a row of ${row.length} columns where ${columns} were asked for`)
    if (escaped && line.includes('\\')) unescapeRow(row)
    rows.push(row)
  }
  return rows
}

function unescapeRow(row: (string | null)[]): void {
  for (let index = 0; index < row.length; index++) {
    const field = row[index] as string
    if (field === '\\N') row[index] = null
    else if (field.includes('\\')) row[index] = field.replace(/\\(.)/gs, (_, character: string) => ESCAPED[character] ?? character)
  }
}

function torn(what: string): PawlError {
  return new PawlError('report.copy_torn', `what PostgreSQL copies ${what}`, {
    retryable: true,
    hint: 'the connection may have been lost: the run is tried again; when it comes back, look at the log of PostgreSQL',
  })
}
