import type { Query } from '../../src/database.ts'
import { PawlError } from '../../src/errors.ts'
import { quoted } from '../../src/names.ts'
import type { Column } from './source.ts'

/** `computed`: the table gives it its values itself, nobody else may. `collation`: where it is not that of its type, quoted. */
export type TargetColumn = Column & { required: boolean; computed: boolean; collation: string | null }

/** The table that is refreshed, as it stands in the catalogue now. */
export type Target = {
  /** `schema.table`, for people. */
  name: string
  /** The same, quoted for SQL. */
  relation: string
  schema: string
  table: string
  columns: readonly TargetColumn[]
  /** What identifies a row; empty where nothing does (`append` can do without). */
  key: readonly string[]
  empty: boolean
}

/** Reads the target's columns and its key: `key`, which a unique index must cover, or else its primary key. Throws `refresh.target`. */
export async function readTarget(query: Query, schema: string, table: string, key: readonly string[] | undefined): Promise<Target> {
  const name = `${schema}.${table}`
  const relation = `${quoted(schema)}.${quoted(table)}`
  const [standing] = await query<Standing>(catalogSql, [relation])
  if (standing?.columns === undefined) throw refused(`table ${name} does not exist`, 'create it; a refresh fills tables, it does not make them')
  const { columns: found, uniques } = standing
  const own = key ?? uniques.find(index => index.primary)?.columns ?? []
  const unknown = own.filter(column => !found.some(({ name: existing, computed }) => existing === column && !computed))
  if (unknown.length > 0) throw refused(`${name} has no column ${unknown.join(', ')} to write, which its key names`, `correct "key" in its custom_sync_params`)
  if (own.length > 0 && !uniques.some(index => index.columns.length === own.length && index.columns.every(column => own.includes(column)))) {
    throw refused(
      `no unique index of ${name} covers its key (${own.join(', ')})`,
      `create unique index concurrently on ${relation} (${own.map(quoted).join(', ')})`,
    )
  }
  // A unique index lets any number of nulls in, and no comparison finds such a row again.
  const nullable = found.filter(column => column.nullable && own.includes(column.name)).map(column => column.name)
  if (nullable.length > 0) {
    throw refused(
      `${name} allows null in ${nullable.join(', ')}, which its key names`,
      `alter table ${relation} alter ${nullable.map(quoted).join(' set not null, alter ')} set not null`,
    )
  }
  // GENERATED ALWAYS AS IDENTITY takes a value when its row is inserted, and no other afterwards.
  const columns = found.map(({ nullable: _nullable, always, ...column }) => ({
    ...column,
    computed: column.computed || (always && !own.includes(column.name)),
  }))
  const [rows] = await query<{ empty: boolean }>(`select not exists (select from ${relation}) as empty`)
  return { name, relation, schema, table, columns, key: own, empty: rows?.empty === true }
}

type Standing = { columns: (TargetColumn & { nullable: boolean; always: boolean })[]; uniques: { columns: string[]; primary: boolean }[] }

/** One question, since each refresh asks it three times. The first indnkeyatts columns of an index are its key; what INCLUDE names comes after them. */
const catalogSql = `
select array(
    select jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'required', a.attnotnull and not a.atthasdef and a.attidentity = '',
      'computed', a.attgenerated <> '', 'always', a.attidentity = 'a', 'nullable', not a.attnotnull,
      'collation', case when a.attcollation <> t.typcollation then quote_ident(n.nspname) || '.' || quote_ident(c.collname) end)
    from pg_attribute a
    join pg_type t on t.oid = a.atttypid
    left join pg_collation c on c.oid = a.attcollation
    left join pg_namespace n on n.oid = c.collnamespace
    where a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
    order by a.attnum
  ) as columns,
  array(
    select jsonb_build_object('primary', i.indisprimary, 'columns', array(
      select a.attname from generate_series(0, i.indnkeyatts - 1) place
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[place] order by place))
    from pg_index i
    where i.indrelid = r.oid and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
    order by i.indisprimary desc
  ) as uniques
from pg_class r where r.oid = to_regclass($1)`

function refused(message: string, hint: string): PawlError {
  return new PawlError('refresh.target', message, { hint })
}
