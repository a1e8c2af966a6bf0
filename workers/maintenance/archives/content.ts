import type { Hash } from 'node:crypto'
import type { Query } from '../../../src/database.ts'

/** What a table holds, whatever the order of its rows: how many, and the sums of two 64-bit hashes of each row's text. */
export type Content = { rows: number; first: string; second: string }

/** Row texts are the same in every session after this, and so is the CSV, to the last digit of a float. */
export const SETTLED = `
  set statement_timeout = 0; set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres'; set timezone = 'UTC'; set extra_float_digits = 1;
  set bytea_output = 'hex'; set xmlbinary = 'base64'; set lc_monetary = 'C'; set search_path = pg_catalog, pg_temp`

/** Counts and hashes the rows of `relation`, which must be ready to stand in a statement. The session must be settled. */
export async function readContent(query: Query, relation: string): Promise<Content> {
  const [row] = await query<Content>(
    `select count(*) as rows, coalesce(sum(hashtextextended(t, 0)::numeric), 0)::text as first, coalesce(sum(hashtextextended(t, 1)::numeric), 0)::text as second
     from (select pawl_row::text as t from ${relation} pawl_row offset 0) texts`,
  )
  if (row === undefined) throw new Error('a count returned no row')
  return row
}

/** Whether two tables hold the same rows. */
export function sameContent(one: Content, other: Content): boolean {
  return one.rows === other.rows && one.first === other.first && one.second === other.second
}

/** Hashes what passes, until `signal` aborts. */
export async function* hashed(source: AsyncIterable<Uint8Array>, hash: Hash, signal: AbortSignal): AsyncIterable<Uint8Array> {
  for await (const piece of source) {
    signal.throwIfAborted()
    hash.update(piece)
    yield piece
  }
}
