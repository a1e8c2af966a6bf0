import { quoted } from '../../../../src/names.ts'

/** A column of the key, and its type on the source. */
export type KeyColumn = { name: string; type: string }

/** The values of a key as the source writes them; null: before the first row. */
export type Position = readonly string[] | null

export const literal = (text: string): string =>
  text.includes('\\') ? ` E'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'` : `'${text.replaceAll("'", "''")}'`

const list = (key: readonly KeyColumn[]) => key.map(({ name }) => quoted(name)).join(', ')
const values = (key: readonly KeyColumn[], position: readonly string[]) => key.map(({ type }, place) => `${literal(position[place] ?? '')}::${type}`).join(', ')

/** Rows behind `after`, up to and with `upto`, as a WHERE; row comparison is what an index on the key answers. */
export const between = (key: readonly KeyColumn[], after: Position, upto: Position): string =>
  [after === null ? 'true' : `(${list(key)}) > (${values(key, after)})`, upto === null ? 'true' : `(${list(key)}) <= (${values(key, upto)})`].join(' and ')

/** A SELECT of the key as text; `rank` rows further in its order, or from the other end. */
export const positionAt = (rows: string, key: readonly KeyColumn[], where: string, rank: number, direction: 'asc' | 'desc' = 'asc'): string =>
  `select array[${key.map(({ name }) => `${quoted(name)}::text`).join(', ')}] as position
   from ${rows}
   where ${where}
   order by ${key.map(({ name }) => `${quoted(name)} ${direction}`).join(', ')}
   offset ${rank}
   limit 1`

/** Cuts (least - 1, most] into ranges of equal width: bigint, since Number ends at 2^53. */
export function cutRange(least: string, most: string, lanes: number): { after: Position; upto: Position }[] {
  const [from, to] = [BigInt(least) - 1n, BigInt(most)]
  const edge = (lane: number) => [String(from + ((to - from) * BigInt(lane)) / BigInt(lanes))]
  return Array.from({ length: lanes }, (_, lane) => ({ after: lane === 0 ? null : edge(lane), upto: edge(lane + 1) }))
}
