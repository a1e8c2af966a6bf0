import fc from 'fast-check'
import { expect, test } from 'vitest'
import { copyRows } from '../../workers/reports/copy-rows.ts'
import type { Row } from '../../workers/reports/document.ts'

const letters: Readonly<Record<string, string>> = { '\\': '\\', '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't', '\v': 'v' }

/** As CopyAttributeOutText of PostgreSQL writes it. */
const encoded = (rows: readonly Row[]) =>
  Buffer.from(rows.map(row => `${row.map(value => (value === null ? '\\N' : Array.from(value, escaped).join(''))).join('\t')}\n`).join(''))
const escaped = (character: string) => (letters[character] === undefined ? character : `\\${letters[character]}`)

function read(columns: number, pieces: readonly Uint8Array[]): Row[] {
  const reader = copyRows(columns)
  // Each piece in the same memory, as a socket may hand them over: whoever keeps one must copy it.
  const memory = Buffer.alloc(Math.max(0, ...pieces.map(piece => piece.length)))
  const rows = pieces.flatMap(piece => {
    memory.fill(0x58).set(piece)
    return reader.push(memory.subarray(0, piece.length))
  })
  reader.end()
  return rows
}

function cutAt(bytes: Buffer, places: readonly number[]): Uint8Array[] {
  const cuts = [0, ...places.map(place => place % (bytes.length + 1)), bytes.length].sort((a, b) => a - b)
  return cuts.slice(1).map((cut, index) => bytes.subarray(cuts[index], cut))
}

const character = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom('\\', '\t', '\n', '\r', '\b', '\f', '\v', 'N', 'n', 't', '.', "'", '"', 'é', '日', '😀', '\uFEFF', '\u2028') },
  { weight: 2, arbitrary: fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }).filter(unit => unit !== '\0') },
)
const value = fc.option(
  fc.array(character, { maxLength: 8 }).map(units => units.join('')),
  { freq: 5 },
)

test('any rows come out as they went in, wherever the bytes are cut', () => {
  const table = fc.integer({ min: 0, max: 5 }).chain(columns =>
    fc.record({
      columns: fc.constant(columns),
      rows: fc.array(fc.array(value, { minLength: columns, maxLength: columns }), { maxLength: 12 }),
      cuts: fc.array(fc.nat({ max: 4000 }), { maxLength: 12 }),
    }),
  )
  fc.assert(
    fc.property(table, ({ columns, rows, cuts }) => {
      expect(read(columns, cutAt(encoded(rows), cuts))).toEqual(rows)
    }),
    { numRuns: 1000 },
  )
})

test('any rows come out as they went in, byte by byte', () => {
  const rows: Row[] = [
    ['é日😀', null, ''],
    ['a\\b\tc\nd\re', '\\N', '\\.'],
    ['\\', '\\\\', '\b\f\v'],
  ]
  const bytes = encoded(rows)
  expect(
    read(
      3,
      [...bytes].map(byte => Uint8Array.of(byte)),
    ),
  ).toEqual(rows)
})

test('a row is given as soon as its newline has come, and not before', () => {
  const reader = copyRows(2)
  expect(reader.push(Buffer.from('1\tone\n2\tt'))).toEqual([['1', 'one']])
  expect(reader.push(Buffer.from('wo'))).toEqual([])
  expect(reader.push(Buffer.from('\n'))).toEqual([['2', 'two']])
  reader.end()
})

test('rows without columns, and rows of one empty text or one NULL, are counted', () => {
  expect(read(0, [Buffer.from('\n\n\n')])).toEqual([[], [], []])
  expect(read(1, [Buffer.from('\n\n\\N\n')])).toEqual([[''], [''], [null]])
  expect(read(2, [])).toEqual([])
})

test('a stream that ends in the middle of a row is refused, and can be tried again', () => {
  const reader = copyRows(1)
  reader.push(Buffer.from('whole\nhal'))
  expect(() => reader.end()).toThrow(expect.objectContaining({ code: 'report.copy_torn', retryable: true }))
  expect(() => reader.end()).toThrow('after 3 bytes')
})

test('a row with another number of columns is refused', () => {
  expect(() => copyRows(2).push(Buffer.from('1\t2\n1\t2\t3\n'))).toThrow('a row of 3 columns where 2 were asked for')
  expect(() => copyRows(0).push(Buffer.from('x\n'))).toThrow('a row of 1 columns where 0')
})

test('a long value comes out whole, though none of its pieces ends a row', () => {
  const long = 'x'.repeat(65_536)
  const reader = copyRows(1)
  for (let piece = 0; piece < 200; piece++) expect(reader.push(Buffer.from(long))).toHaveLength(0)
  const [row] = reader.push(Buffer.from('\n'))
  expect(row?.[0]?.length).toBe(13_107_200)
  reader.end()
})
