import { crc32, inflateRawSync } from 'node:zlib'
import readExcelFile from 'read-excel-file/node'
import { expect } from 'vitest'
import type { Block, Column, ColumnKind, Format, Head, Row } from '../../workers/reports/document.ts'
import { excel } from '../../workers/reports/formats/excel.ts'

/** A block and its rows. */
type Part = readonly [Block, readonly Row[]]

/** A column whose label is its name, unless it is told another. */
export const column = (name: string, kind: ColumnKind, label = name): Column => ({ name, label, kind })
/** A table of these columns. */
export const tableOf = (title: string | null, ...columns: Column[]): Block => ({ title, kind: 'table', columns })
/** A document of these blocks. */
export const headOf = (blocks: readonly Block[]): Head => ({
  title: 'Sales & "more"',
  description: 'All <of> it',
  organization: 'Müller',
  generatedAt: '2026-11-21T10:00:00Z',
  parameters: [],
  blocks,
})

/** The whole document, its rows handed over 500 at a time. */
export async function written(format: Format, parts: readonly Part[]): Promise<Buffer> {
  const out: Buffer[] = []
  const writer = await format.open(headOf(parts.map(([block]) => block)), async bytes => void out.push(Buffer.from(bytes as Uint8Array)))
  for (const [block, rows] of parts) {
    await writer.begin(block)
    for (let from = 0; from < rows.length; from += 500) await writer.rows(rows.slice(from, from + 500))
    await writer.end()
  }
  await writer.finish()
  return Buffer.concat(out)
}

/** Its sheets, as another library reads them. */
export const sheetsIn = (file: Buffer) => readExcelFile(file, { trim: false })
/** The rows below the heading of the first sheet. */
export const readBack = async (block: Block, rows: readonly Row[]) => (await sheetsIn(await written(excel, [[block, rows]])))[0]?.data.slice(1)

/** Every file of a zip by its central directory, its checksum proved. */
export function unzip(file: Buffer): Map<string, string> {
  const end = file.lastIndexOf(Buffer.from('PK\x05\x06', 'latin1'))
  const files = new Map<string, string>()
  let at = file.readUInt32LE(end + 16)
  for (let count = file.readUInt16LE(end + 10); count > 0; count--) {
    expect(file.readUInt32LE(at)).toBe(0x02014b50)
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map(offset => file.readUInt16LE(at + offset)) as [number, number, number]
    const local = file.readUInt32LE(at + 42)
    const start = local + 30 + file.readUInt16LE(local + 26) + file.readUInt16LE(local + 28)
    const bytes = inflateRawSync(file.subarray(start, start + file.readUInt32LE(at + 20)))
    expect(crc32(bytes)).toBe(file.readUInt32LE(at + 16))
    files.set(file.toString('utf8', at + 46, at + 46 + nameLength), bytes.toString())
    at += 46 + nameLength + extraLength + commentLength
  }
  return files
}
