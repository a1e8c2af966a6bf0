import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import type { Row } from '../../workers/reports/document.ts'
import { excel } from '../../workers/reports/formats/excel.ts'
import { column, headOf, tableOf, unzip, written } from '../support/excel.ts'

test('a sheet is full with 1,048,576 rows', async () => {
  const rows = Array.from({ length: 1_048_576 + 9 }, (_, index) => [String(index)])
  const parts = unzip(await written(excel, [[tableOf('Full', column('n', 'number')), rows]]))
  const [first = '', second = ''] = [1, 2].map(number => parts.get(`xl/worksheets/sheet${number}.xml`))
  expect(first.slice(-150)).toContain('<c r="A1048576"><v>1048574</v></c></row></sheetData><autoFilter ref="A1:A1048576"/>')
  expect(second.match(/<v>\d+<\/v>/g)).toEqual(Array.from({ length: 10 }, (_, index) => `<v>${1_048_575 + index}</v>`))
  expect(parts.get('xl/workbook.xml')).toContain('name="Full (2)"')
})

const wide = tableOf('Wide', ...Array.from({ length: 8 }, (_, index) => column(`c${index}`, 'text')))
/** Texts that compress badly, so that the bytes of the zip come early. */
const wideRows = (from: number): Row[] =>
  Array.from({ length: 500 }, (_, row) => Array.from({ length: 8 }, (_, place) => Math.sin((from + row) * 8 + place).toString(36)))

/** A document whose sink takes nothing until `settle` is called; `taken` counts the batches of 230 kB of XML that the writer took. */
async function stuckDocument(batches: number) {
  const gate = Promise.withResolvers<void>()
  gate.promise.catch(() => {})
  const seen = { taken: 0, bytes: 0, done: false }
  const writer = await excel.open(headOf([wide]), async piece => {
    await gate.promise
    seen.bytes += piece.length
  })
  const write = async () => {
    await writer.begin(wide)
    for (; seen.taken < batches; seen.taken++) await writer.rows(wideRows(seen.taken * 500))
    await writer.end()
    await writer.finish()
    seen.done = true
  }
  const writing = write()
  writing.catch(() => {})
  // When nothing has moved for 200 turns of the loop, with no thread at work, nothing will.
  for (let [turns, before] = [0, -1]; turns < 200; turns = seen.taken === before ? turns + 1 : 0) {
    before = seen.taken
    await new Promise(resolve => setTimeout(resolve, 1))
  }
  return { gate, seen, writing, writer }
}

test('while the sink takes nothing, no more rows are taken than fit into a few buffers', async () => {
  const { gate, seen, writing } = await stuckDocument(60)
  expect(seen).toEqual({ taken: expect.any(Number), bytes: 0, done: false })
  expect(seen.taken).toBeLessThan(12)
  gate.resolve()
  await writing
  expect(seen.taken).toBe(60)
  expect(seen.bytes).toBeGreaterThan(1_000_000)
})

test('what the sink throws is thrown by the call that waits for it, and by every later one', async () => {
  const { gate, seen, writing, writer } = await stuckDocument(60)
  gate.reject(new Error('the disk is full'))
  await expect(writing).rejects.toThrow('the disk is full')
  expect(seen.taken).toBeLessThan(12)
  await expect(writer.rows(wideRows(0))).rejects.toThrow('the disk is full')
  await expect(writer.finish()).rejects.toThrow('the disk is full')
})

test('what the sink throws at the last bytes is thrown by finish', async () => {
  const late = await excel.open(headOf([]), async () => Promise.reject(new Error('the disk is gone')))
  await expect(late.finish()).rejects.toThrow('the disk is gone')
})

test('memory stays flat over 400,000 rows of 8 columns', async () => {
  // Their XML is 180 MB: a writer that held it, or half of it, would be seen. The young generation is as small as in the image.
  // Not maxRSS: a child process begins with that of its parent.
  const program = `
    import { excel } from './workers/reports/formats/excel.ts'
    const block = { title: 'Wide', kind: 'table', columns: Array.from({ length: 8 }, (_, i) => ({ name: 'c' + i, label: 'c' + i, kind: i % 2 ? 'text' : 'number' })) }
    const head = { title: 't', description: null, organization: 'o', generatedAt: '2026-11-21T10:00:00Z', parameters: [], blocks: [block] }
    let [bytes, peak] = [0, 0]
    const writer = await excel.open(head, async piece => {
      bytes += piece.length
      peak = Math.max(peak, process.memoryUsage.rss())
      await new Promise(setImmediate)
    })
    await writer.begin(block)
    const batch = from => Array.from({ length: 500 }, (_, row) => block.columns.map((_, i) => i % 2 ? 'a remark on number ' + (from + row) * 7919 : String((from + row) * 8 + i)))
    const before = process.memoryUsage.rss()
    for (let from = 0; from < 400000; from += 500) await writer.rows(batch(from))
    await writer.end()
    await writer.finish()
    console.log(JSON.stringify({ grown: peak - before, bytes }))`
  const cwd = fileURLToPath(new URL('../..', import.meta.url))
  const child = spawn(process.execPath, ['--max-semi-space-size=1', '--input-type=module', '--eval', program], { cwd, stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  for await (const text of child.stdout) output += text
  const { grown, bytes } = JSON.parse(output) as { grown: number; bytes: number }
  expect(bytes).toBeGreaterThan(10_000_000)
  console.log(grown / 1e6)
  expect(grown / 1e6).toBeLessThan(80)
})
