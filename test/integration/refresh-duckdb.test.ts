import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Engine, openEngine } from '../../workers/refresh/sources/duckdb/engine.ts'
import { duckdbSettings, openDuckdb } from '../../workers/refresh/sources/duckdb.ts'
import { linesOf, readAll, readingWith, readLane, textOf } from '../support/reading.ts'

let engine: Engine
const dir = mkdtempSync(join(tmpdir(), 'pawl-test-duckdb-'))
const at = (name: string) => join(dir, name)
beforeAll(async () => {
  engine = await openEngine()
  await write('one.parquet', 'select 1 as one')
})
afterAll(async () => {
  await engine.close()
  rmSync(dir, { recursive: true })
})

const write = (name: string, query: string, options = 'format parquet') => engine.rows(`copy (${query}) to '${at(name)}' (${options})`)

const { using, refusal } = readingWith(openDuckdb, given => duckdbSettings.parse({ source: 'duckdb', ...given }))

test('a Parquet file is read by lanes, every row once, in chunks of about the bytes asked for', async () => {
  await write('rows.parquet', `select i, 'row ' || i || repeat('x', i % 40) as label from range(300000) t(i)`, 'format parquet, row_group_size 20000')
  await using({ files: at('rows.parquet') }, async extraction => {
    expect(extraction).toMatchObject({
      total: 300_000,
      columns: [
        { name: 'i', type: 'bigint' },
        { name: 'label', type: 'text' },
      ],
    })
    expect(extraction.cursors).toHaveLength(2)
    const chunks = await readAll(extraction)
    const ids = linesOf(chunks).map(line => Number(line.split('\t')[0]))
    expect(ids).toHaveLength(300_000)
    expect(new Set(ids).size).toBe(300_000)
    expect(chunks.reduce((sum, { rows }) => sum + rows, 0)).toBe(300_000)
    const full = chunks.filter(({ finished }) => !finished).map(chunk => textOf([chunk]).length)
    expect(full.length).toBeGreaterThan(80)
    expect(Math.max(...full)).toBeLessThan(150_000)
    expect(Math.min(...full)).toBeGreaterThan(60_000)
    expect(extraction.facts()).toEqual({ files: 1, bytes: statSync(at('rows.parquet')).size })
  })
})

test.each([
  ['parquet', 'format parquet, row_group_size 5000', {}],
  ['csv', 'format csv, header', {}],
  ['json', 'format json', {}],
  ['parquet', 'format parquet', { query: 'select * from files where i >= 0' }],
])('another worker goes on from any cursor with the same rows: %s (%s, %o)', async (format, options, settings) => {
  const files = at(`resume.${format}`)
  await write(`resume.${format}`, `select i, 'row ' || i as label, i / 7 as seventh from range(20000) t(i)`, options)
  const saved = {}
  const given = { saved, chunkBytes: 30_000 }
  const [first, cursors] = await using(
    { files, ...settings },
    async extraction => [await readLane(extraction, extraction.cursors[1] ?? {}), extraction.cursors] as const,
    given,
  )
  const middle = first[Math.floor(first.length / 2)]
  const rest = await using({ files, ...settings }, extraction => readLane(extraction, middle?.next ?? {}), given)
  const again = await using({ files, ...settings }, extraction => readLane(extraction, cursors[1] ?? {}), given)
  expect(first.length).toBeGreaterThan(4)
  expect(again.map(chunk => textOf([chunk]))).toEqual(first.map(chunk => textOf([chunk])))
  expect(textOf(rest)).toBe(textOf(first.slice(Math.floor(first.length / 2) + 1)))
})

test('several files are one table, columns by name, whatever each of them lacks', async () => {
  await write('part-1.parquet', `select i as id, 'a' as label from range(7) t(i)`)
  await write('part-2.parquet', `select 1.5::double as extra, i::integer as id from range(100, 103) t(i)`)
  await write('part-3.parquet', 'select i as id from range(0) t(i)')
  await using(
    { files: [at('part-*.parquet'), at('part-1.parquet')], chunk_rows: 4 },
    async extraction => {
      expect(extraction.total).toBe(10)
      expect(extraction.columns.map(({ name }) => name).sort()).toEqual(['extra', 'id', 'label'])
      const lines = linesOf(await readAll(extraction))
      const place = (name: string) => extraction.columns.findIndex(column => column.name === name)
      const rows = lines.map(line => line.split('\t')).map(cells => [cells[place('id')], cells[place('label')], cells[place('extra')]].join())
      expect(rows.sort()).toEqual([...Array.from({ length: 7 }, (_, i) => `${i},a,\\N`), '100,\\N,1.5', '101,\\N,1.5', '102,\\N,1.5'].sort())
    },
    { lanes: 3 },
  )
})

test('columns are those asked for, in that order, and an empty file has no rows', async () => {
  await write('wide.parquet', 'select 1 as a, 2 as b, 3 as c')
  await write('none.parquet', 'select 1 as a where false')
  await using({ files: at('wide.parquet'), columns: ['c', 'a'] }, async extraction => expect(textOf(await readAll(extraction))).toBe('3\t1\n'))
  await using({ files: at('none.parquet') }, async extraction => {
    expect(extraction).toMatchObject({ total: 0, cursors: [{}] })
    expect(await readAll(extraction)).toMatchObject([{ rows: 0, finished: true, data: [] }])
  })
})

test('a CSV keeps what its options and types say', async () => {
  writeFileSync(at('odd.csv'), 'zip;amount;note\n00123;1,5;"semi;colon"\n00007;-;plain\n')
  const options = { delim: ';', decimal_separator: ',', nullstr: '-', types: { zip: 'VARCHAR', amount: 'DECIMAL(9,2)' } }
  await using({ files: at('odd.csv'), options }, async extraction => {
    expect(extraction.columns).toEqual([
      { name: 'zip', type: 'text' },
      { name: 'amount', type: 'numeric(9,2)' },
      { name: 'note', type: 'text' },
    ])
    expect(textOf(await readAll(extraction))).toBe('00123\t1.50\tsemi;colon\n00007\t\\N\tplain\n')
  })
})

test('a query renames, casts and filters, within the window', async () => {
  await write('events.parquet', `select i as id, date '2025-01-01' + i::integer as on_day from range(100) t(i)`)
  const query = `select id::varchar as event_id, on_day from files where on_day between {window_from} and '{window_to}'`
  const window = { from: '2025-01-03', to: '2025-01-05' }
  const text = await using({ files: at('events.parquet'), query, order_by: 'on_day' }, async extraction => textOf(await readAll(extraction)), { window })
  expect(text).toBe('2\t2025-01-03\n3\t2025-01-04\n4\t2025-01-05\n')
  expect(await refusal({ files: at('events.parquet'), query })).toMatchObject({ code: 'refresh.window_missing' })
})

test('rows far wider than the sampled ones make shorter chunks', async () => {
  await write('skew.parquet', `select i, case when i between 41000 and 48000 then repeat('w', 2000) else 'n' end as body from range(200000) t(i)`)
  await using({ files: at('skew.parquet') }, async extraction => {
    const chunks = await readAll(extraction)
    expect(chunks.reduce((sum, { rows }) => sum + rows, 0)).toBe(200_000)
    expect(Math.max(...chunks.map(chunk => textOf([chunk]).length))).toBeLessThanOrEqual(200_001)
  })
})

test('a file that changed since the reading began ends it, to begin again', async () => {
  const saved = {}
  await write('changing.parquet', 'select i from range(1000) t(i)')
  await using(
    { files: at('changing.parquet'), chunk_rows: 100 },
    async extraction => {
      const chunk = await extraction.read(extraction.cursors[0] ?? {}, new AbortController().signal)
      await write('changing.parquet', 'select i + 1 as i from range(2000) t(i)')
      await expect(extraction.read(chunk.next, new AbortController().signal)).rejects.toMatchObject({ code: 'refresh.source_changed', retryable: true })
    },
    { saved },
  )
  expect(await refusal({ files: at('changing.parquet') }, { saved })).toMatchObject({ code: 'refresh.source_changed', retryable: true })
})

test('a query that answers otherwise over the same files is noticed', async () => {
  const saved = {}
  const settings = { files: at('one.parquet'), query: 'select random() as r from range(10)', order_by: 'r' }
  await using(settings, readAll, { saved })
  expect(await refusal(settings, { saved })).toMatchObject({ code: 'refresh.source_changed', retryable: true })
})

test('what can never work is refused, and says what to do', async () => {
  await write('zero.parquet', `select 'fine' as a, 'nul' || chr(0) as b, {x: 'nul' || chr(0)} as c, ['nul' || chr(0)] as d, '\\u0000' as e`)
  writeFileSync(at('broken.parquet'), 'no parquet at all')
  writeFileSync(at('data.bin'), 'x')
  const cases: [object, string, RegExp][] = [
    [{ files: at('nowhere.parquet') }, 'refresh.file_missing', /nowhere\.parquet is not there/],
    [{ files: at('nowhere-*.parquet') }, 'refresh.file_missing', /no file matches .*nowhere-\*/],
    [{ files: 'https://example.com/x.parquet' }, 'refresh.source_refused', /not a file of this machine/],
    [{ files: at('broken.parquet') }, 'refresh.source_refused', /broken\.parquet/],
    [{ files: at('data.bin') }, 'refresh.source_refused', /one format/],
    [{ files: at('one.parquet'), columns: ['two'] }, 'refresh.source_refused', /no column two/],
    [{ files: at('one.parquet'), options: { header: true } }, 'refresh.source_refused', /options/],
    [{ files: at('one.parquet'), order_by: 'one' }, 'refresh.source_refused', /order_by/],
    [{ files: at('one.parquet'), query: 'select nothing from files' }, 'refresh.source_refused', /sqp\.trial .*nothing/],
    [{ files: at('one.parquet'), query: `select * from read_text('/etc/hostname')` }, 'refresh.source_refused', /\/etc\/hostname.*disabled/],
    [{ files: at('zero.parquet') }, 'refresh.nul_character', /column b, c, d holds/],
  ]
  for (const [settings, code, message] of cases) {
    const error = await refusal(settings)
    expect(error, JSON.stringify(settings)).toMatchObject({ code, retryable: false, message: expect.stringMatching(message), hint: expect.stringMatching(/./) })
  }
  for (const bad of [
    {},
    { files: [] },
    { files: 'x', format: 'xml' },
    { files: 'x', options: { sep: ',' } },
    { files: 'x', chunk_rows: 0 },
    { files: 'x', typo: 1 },
  ]) {
    expect(duckdbSettings.safeParse({ source: 'duckdb', ...bad }).success, JSON.stringify(bad)).toBe(false)
  }
})

test('a reading stops at once when it is told to', async () => {
  await using({ files: at('rows.parquet') }, async extraction => {
    const stop = new AbortController()
    const reading = extraction.read(extraction.cursors[0] ?? {}, stop.signal)
    stop.abort(new Error('drained'))
    await expect(reading).rejects.toThrow('drained')
    expect((await readAll(extraction)).reduce((sum, { rows }) => sum + rows, 0)).toBe(300_000)
  })
})

test('closing waits for what is being read, and what comes later is refused', async () => {
  await using({ files: at('rows.parquet') }, async extraction => {
    const readings = extraction.cursors.map(cursor => extraction.read(cursor, new AbortController().signal).catch(() => 'interrupted'))
    await extraction.close()
    await Promise.all(readings)
    await expect(extraction.read(extraction.cursors[0] ?? {}, new AbortController().signal)).rejects.toMatchObject({ code: 'refresh.source_closed' })
  })
})

test('a million rows take no more memory than a hundred thousand, and the end no longer than the beginning', async () => {
  const select = (rows: number) =>
    `select i, 'label ' || i as label, hash(i) as h, (i * 7.5)::double as d, timestamp '2025-01-01' + interval (i) second as t from range(${rows}) t(i)`
  await write('small.parquet', select(200_000))
  await write('million.parquet', select(1_000_000))
  const peak = (name: string) =>
    using(
      { files: at(name) },
      async extraction => {
        let most = 0
        for (let cursor = extraction.cursors[0] ?? {}; ; ) {
          const chunk = await extraction.read(cursor, new AbortController().signal)
          most = Math.max(most, process.memoryUsage.rss())
          if (chunk.finished) return most
          cursor = chunk.next
        }
      },
      { lanes: 1, chunkBytes: 4_000_000 },
    )
  await peak('small.parquet')
  const before = await peak('small.parquet')
  expect((await peak('million.parquet')) - before).toBeLessThan(100_000_000)
  await using(
    { files: at('million.parquet'), chunk_rows: 20_000 },
    async extraction => {
      const time = async (next: number) => {
        const began = performance.now()
        await extraction.read({ next, end: 1_000_000 }, new AbortController().signal)
        return performance.now() - began
      }
      // Places alike within their row group of 122,880, or the way to them inside it would be compared.
      const best = async (next: number) => Math.min(await time(next), await time(next), await time(next), await time(next), await time(next))
      expect((await best(7 * 122_880)) / (await best(0))).toBeLessThan(4)
    },
    { lanes: 1 },
  )
})
