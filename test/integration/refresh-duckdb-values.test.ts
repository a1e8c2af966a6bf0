import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { writeSampleFiles } from '../../workers/refresh/sample.ts'
import { type Engine, openEngine } from '../../workers/refresh/sources/duckdb/engine.ts'
import { duckdbSettings, openDuckdb } from '../../workers/refresh/sources/duckdb.ts'
import { values } from '../support/duckdb-values.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { readAll, readingWith } from '../support/reading.ts'

let db: TestDatabase
let engine: Engine
const dir = mkdtempSync(join(tmpdir(), 'pawl-test-duckdb-'))
const at = (name: string) => join(dir, name)
beforeAll(async () => {
  db = await createDatabase({ empty: true })
  engine = await openEngine()
  await write('one.parquet', 'select 1 as one')
})
afterAll(async () => {
  await engine.close()
  await db.drop()
  rmSync(dir, { recursive: true })
})

const write = (name: string, query: string) => engine.rows(`copy (${query}) to '${at(name)}' (format parquet)`)
const { using } = readingWith(openDuckdb, given => duckdbSettings.parse({ source: 'duckdb', ...given }))

test.each(values)('%s arrives as PostgreSQL itself would write it', async (type, expressions, expectedType, expected) => {
  // Not all of DuckDB's types live in Parquet: a query keeps its own.
  const select = expressions.map((value, n) => `select ${n} as n, (${value})::${type} as value`).join(' union all ')
  const shown = await using({ files: at('one.parquet'), query: select, order_by: 'n' }, async extraction => {
    expect(extraction.columns[1]).toEqual({ name: 'value', type: expectedType })
    const chunks = await readAll(extraction)
    return db.transact(async (query, copy) => {
      await query(`set local timezone = 'UTC'; create table one (n integer, value ${expectedType})`)
      for (const chunk of chunks) expect(await copy('copy one from stdin', chunk.data)).toBe(chunk.rows)
      const rows = await query<{ value: string | null }>('select value::text from one order by n')
      await query('drop table one')
      return rows.map(({ value }) => value)
    })
  })
  expect(shown).toEqual(expected)
})

test('the sample is written once, with keys that are unique, and reads as its tables want it', async () => {
  const sample = at('sample')
  await writeSampleFiles(sample)
  const written = statSync(join(sample, 'daily_sqp_data.csv')).mtimeMs
  await writeSampleFiles(sample)
  expect(statSync(join(sample, 'daily_sqp_data.csv')).mtimeMs).toBe(written)
  const tables: [string, number, string][] = [
    ['asin_performance_data.parquet', 520_000, 'report_date, marketplace, asin, search_query'],
    ['search_query_performance.parquet', 60_000, 'report_date, marketplace, search_query'],
    ['daily_sqp_data.csv', 30_000, 'day, marketplace, asin'],
  ]
  for (const [name, rows, key] of tables) {
    expect(await engine.rows(`select count(*), count(distinct (${key})) from '${join(sample, name)}'`)).toEqual([[String(rows), String(rows)]])
  }
})
