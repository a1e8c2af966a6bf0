import { z } from 'zod'
import type { Reader } from '../../../src/database.ts'
import { PawlError } from '../../../src/errors.ts'
import type { Chunk, Column, Extraction, Source, SourceContext } from '../source.ts'
import { type Connections, connect } from './postgres/connection.ts'
import { quoted } from '../../../src/names.ts'
import { between, cutRange, type KeyColumn, positionAt } from './postgres/keyset.ts'
import { putWindow } from './window.ts'

/** `custom_sync_params` of a table that is loaded from another PostgreSQL. */
export const postgresSettings = z.strictObject({
  source: z.literal('postgres'),
  /** The environment names its URL: `sales` is PAWL_SOURCE_SALES. */
  connection: z.string().regex(/^\w{1,40}$/, 'must be letters, digits and underscores'),
  /** `schema.table` of the source, or a view. */
  table: z.string().min(1).optional(),
  /** A SELECT, in place of `table`. */
  query: z.string().min(1).optional(),
  /** Columns that identify a row: rows are read in their order. A table's primary key when left out. */
  key: z.array(z.string().min(1)).min(1).optional(),
  chunk_rows: z.int().min(1).max(10_000_000).optional(),
})

export type PostgresSettings = z.output<typeof postgresSettings>

const SAMPLE_ROWS = 1000
const NEWLINE = 10

const position = z.array(z.string()).nullable()
const laneCursor = z.object({ lane: z.int().min(0), after: position, upto: position, rows: z.int().min(1) })

const beginningOf = z.object({ total: z.number(), cursors: z.array(z.record(z.string(), z.unknown())).min(1) })

/** What a reading needs to know of its rows, whoever goes on with it. */
type Plan = { rows: string; columns: readonly Column[]; key: readonly KeyColumn[] }

/** Opens a reading of another PostgreSQL: the bytes of its COPY go to the target's COPY as they come, nothing is decoded. */
export const openPostgres: Source<PostgresSettings> = async (settings, context) => {
  if ((settings.table === undefined) === (settings.query === undefined)) {
    throw refused(`the settings of ${context.table} must name either "table" or "query"`, 'correct custom_sync_params of this table in sqp.refresh_config')
  }
  const connections = connect(settings.connection, context)
  try {
    return await open(connections, settings, context)
  } catch (error) {
    await connections.close()
    throw error
  }
}

async function open(connections: Connections, settings: PostgresSettings, context: SourceContext): Promise<Extraction> {
  const plan = await connections.use(0, reader => planOf(reader, settings, context), context.signal)
  // Counted once: a worker that goes on compares with what was there at the beginning, not with what came since.
  const begun = beginningOf.safeParse(context.saved).data
  const { total, cursors } = begun ?? (await connections.use(0, reader => begin(reader, plan, settings, context), context.signal))
  if (begun === undefined) await context.remember({ total, cursors, snapshot: connections.snapshot() ?? null })
  let bytes = 0
  return {
    columns: plan.columns,
    total,
    cursors,
    async read(cursor, signal) {
      const at = laneCursor.parse(cursor)
      const chunk = await connections.use(at.lane, reader => readChunk(reader, plan, at, settings, context), signal)
      bytes += chunk.data.reduce((sum, piece) => sum + piece.length, 0)
      return chunk
    },
    facts: () => ({ connection: settings.connection, bytes, snapshots: connections.snapshots() }),
    close: () => connections.close(),
  }
}

async function planOf(reader: Reader, settings: PostgresSettings, context: SourceContext): Promise<Plan> {
  const select = settings.query === undefined ? `select * from ${await tableOf(reader, settings.table ?? '')}` : putWindow(settings.query, context.window)
  const described = await reader.describe(select)
  const columns = await typesOf(reader, described)
  const key = settings.key ?? (settings.table === undefined ? [] : await primaryKey(reader, settings.table))
  if (key.length === 0) throw refused(`${context.table} needs a key to be read in parts`, 'set "key" to the columns that identify a row of the source')
  const keyColumns = key.map(name => columns.find(column => column.name === name))
  const unknown = key.filter((_, place) => keyColumns[place] === undefined)
  if (unknown.length > 0)
    throw refused(
      `the source of ${context.table} delivers no ${unknown.join(', ')}, which "key" names`,
      `it delivers ${columns.map(({ name }) => name).join(', ')}`,
    )
  return {
    rows: `(${select}\n) source_rows`,
    columns: columns.map(({ name, type }) => ({ name, type })),
    key: keyColumns.flatMap(column => (column === undefined ? [] : [{ name: column.name, type: column.own }])),
  }
}

/** Counts the rows, measures some, and cuts the lanes: all bounded by what is there now, so that what is appended later is left for the next refresh. */
async function begin(reader: Reader, plan: Plan, settings: PostgresSettings, context: SourceContext): Promise<z.output<typeof beginningOf>> {
  const { rows, key, columns } = plan
  const [first] = key
  const isInteger = key.length === 1 && first !== undefined && /^(smallint|integer|bigint)$/.test(columns.find(({ name }) => name === first.name)?.type ?? '')
  const ends = isInteger ? `min(${quoted(first.name)})::text as least, max(${quoted(first.name)})::text as most` : 'null as least, null as most'
  const isNull = key.map(({ name }) => `${quoted(name)} is null`).join(' or ')
  const [found] = await reader.query<{ total: number; nulls: number; least: string | null; most: string | null }>(
    `select count(*) as total, count(*) filter (where ${isNull}) as nulls, ${ends} from ${rows}`,
  )
  if (found === undefined || found.nulls > 0) {
    throw refused(
      `${found?.nulls ?? 0} rows of the source of ${context.table} have no ${key.map(({ name }) => name).join(', ')}`,
      'set "key" to columns that are never null',
    )
  }
  const [size] = await reader.query<{ bytes: number | null }>(
    `select avg(octet_length(sample::text))::float8 as bytes from (select * from ${rows} limit ${SAMPLE_ROWS}) sample`,
  )
  const chunkRows = settings.chunk_rows ?? rowsFor(context.chunkBytes, size?.bytes ?? 1)
  const lanes = Math.max(1, Math.min(context.lanes, Math.ceil(found.total / chunkRows)))
  const [last] = isInteger ? [] : await reader.query<{ position: string[] }>(positionAt(rows, key, 'true', 0, 'desc'))
  const ranges = found.least === null || found.most === null ? [{ after: null, upto: last?.position ?? null }] : cutRange(found.least, found.most, lanes)
  return { total: found.total, cursors: ranges.map((range, lane) => ({ lane, ...range, rows: chunkRows })) }
}

const rowsFor = (chunkBytes: number, rowBytes: number) => Math.min(10_000_000, Math.max(1, Math.floor(chunkBytes / Math.max(1, rowBytes))))

/** The end of the chunk is found first, so that the cursor names keys, and COPY's own rows can be counted against it. */
async function readChunk(
  reader: Reader,
  { rows, columns, key }: Plan,
  at: z.output<typeof laneCursor>,
  settings: PostgresSettings,
  context: SourceContext,
): Promise<Chunk> {
  const [found] = await reader.query<{ position: string[] }>(positionAt(rows, key, between(key, at.after, at.upto), at.rows - 1))
  const upto = found?.position ?? at.upto
  const names = columns.map(({ name }) => quoted(name)).join(', ')
  const data: Uint8Array[] = []
  let [count, bytes] = [0, 0]
  for await (const piece of reader.copyOut(`copy (select ${names} from ${rows} where ${between(key, at.after, upto)}) to stdout`)) {
    data.push(piece)
    bytes += piece.length
    for (let place = piece.indexOf(NEWLINE); place !== -1; place = piece.indexOf(NEWLINE, place + 1)) count++
  }
  if (found !== undefined && count !== at.rows) {
    throw refused(
      `(${key.map(({ name }) => name).join(', ')}) does not identify a row of the source of ${context.table}: ${count} rows came for ${at.rows} keys`,
      'set "key" to columns that do',
    )
  }
  // The next chunk's size follows from this one's; it stands in the cursor, so that the same cursor gives the same rows again.
  const next = settings.chunk_rows ?? (count === 0 ? at.rows : Math.min(at.rows * 2, rowsFor(context.chunkBytes, bytes / count)))
  return { data, rows: count, next: { ...at, after: upto, rows: next }, finished: found === undefined }
}

/** The table as SQL has it: checked by the source itself. */
async function tableOf(reader: Reader, table: string): Promise<string> {
  const [found] = await reader.query<{ name: string | null }>('select to_regclass($1)::text as name', [table])
  if (typeof found?.name === 'string') return found.name
  throw refused(`the source has no table ${table}, or this login may not see it`, 'set "table" to schema.table, with double quotes around names that need them')
}

async function primaryKey(reader: Reader, table: string): Promise<string[]> {
  const found = await reader.query<{ name: string }>(
    `select a.attname as name
     from pg_index i
     cross join unnest(i.indkey::smallint[]) with ordinality as k (number, place)
     join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
     where i.indrelid = to_regclass($1) and i.indisprimary
     order by k.place`,
    [table],
  )
  return found.map(({ name }) => name)
}

/** Types that every PostgreSQL has, domains as what they are made of; all others (enums, composites, extensions, names of objects) as text. */
async function typesOf(reader: Reader, described: Awaited<ReturnType<Reader['describe']>>): Promise<(Column & { own: string })[]> {
  const wanted = described.map(({ type, modifier }, place) => `(${place}, ${type}::oid, ${modifier})`).join(', ')
  if (wanted === '') return []
  const found = await reader.query<{ place: number; type: string; own: string }>(
    `with recursive base (place, own, id, modifier) as (
       select place, id, id, modifier from (values ${wanted}) wanted (place, id, modifier)
       union all
       select b.place, b.own, t.typbasetype, case when b.modifier = -1 then t.typtypmod else b.modifier end
       from base b
       join pg_type t on t.oid = b.id
       where t.typtype = 'd'
     )
     select b.place, format_type(b.own, null) as own,
       case when t.oid >= 16384 or e.oid >= 16384 or t.typtype in ('c', 'p') or t.typname ~ '^_?(reg|char$)' then 'text' else format_type(b.id, b.modifier) end as type
     from base b
     join pg_type t on t.oid = b.id
     left join pg_type e on e.oid = t.typelem and t.typelem <> 0
     where t.typtype <> 'd'
     order by b.place`,
  )
  return described.map(({ name }, place) => ({ name, type: found[place]?.type ?? 'text', own: found[place]?.own ?? 'text' }))
}

const refused = (message: string, hint: string) => new PawlError('refresh.source_refused', message, { hint })
