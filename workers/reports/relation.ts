import type { Reader } from '../../src/database.ts'
import { codeOf, messageOf, PawlError } from '../../src/errors.ts'
import { quoted } from '../../src/names.ts'
import type { ColumnKind } from './document.ts'
import type { Relation } from './statement.ts'
import type { Limits } from './template.ts'

/** Who reads, for row security policies and views of the host: `current_setting('pawl.organization_id')`. */
export type Asker = { organization: string; user: string }

/** Binds values to settings of the reader's transaction. */
export async function bindSettings(reader: Reader, settings: Readonly<Record<string, string>>): Promise<void> {
  // Qualified: the login's own search_path may find others of these names first.
  await reader.query('select pg_catalog.set_config(key, value, true) from pg_catalog.jsonb_each_text($1::pg_catalog.jsonb)', [JSON.stringify(settings)])
}

/**
 * Takes the rights of the worker from the reader's transaction, which is read-only already: from here on it is pawl_report, may only
 * read what that role was granted, and no statement may take longer than the report's limit.
 */
export async function restrict(reader: Reader, asker: Asker, limits: Limits, timezone: string): Promise<void> {
  await bindSettings(reader, {
    statement_timeout: `${limits.seconds}s`,
    lock_timeout: '10s',
    // A worker that is stopped must not hold back the server's vacuum for ever.
    idle_in_transaction_session_timeout: '5min',
    search_path: 'pg_catalog, pg_temp',
    timezone,
    datestyle: 'ISO, YMD',
    intervalstyle: 'postgres',
    'pawl.organization_id': asker.organization,
    'pawl.user_id': asker.user,
  })
  // Else the server sorts on for a worker that has left. Only Linux can look at a socket without reading from it.
  await reader.query(`select set_config('client_connection_check_interval', '1s', true) where version() like '%linux%'`)
  await reader.query('set local role pawl_report')
}

type Found = { oid: string; kind: string; readable: boolean; types: Record<string, string>; primary_key: string[] }

/** Looks a source up, as pawl_report. Throws `report.source` when it is not there or may not be read. */
export async function findRelation(reader: Reader, source: string): Promise<Relation> {
  const [schema, name, ...rest] = source.includes('.') ? source.split('.') : ['public', source]
  if (schema === undefined || name === undefined || schema === '' || name === '' || rest.length > 0 || /^pg_|^information_schema$/.test(schema)) {
    throw unreadable(source, 'is no name of a table or view that a report may read', 'write schema.table')
  }
  const [found] = await reader
    .query<Found>(
      `select c.oid::text, c.relkind as kind, has_any_column_privilege(c.oid, 'select') as readable,
         -- Without length and scale: a value that is cast to varchar(5) or numeric(12,2) is cut to fit, and finds what it does not equal.
         (select jsonb_object_agg(a.attname, format_type(case t.typtype when 'd' then t.typbasetype else t.oid end, -1) order by a.attnum)
          from pg_attribute a join pg_type t on t.oid = a.atttypid
          where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as types,
         array(select a.attname::text from pg_index i cross join lateral unnest(i.indkey) with ordinality k (attnum, place)
          join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
          where i.indrelid = c.oid and i.indisprimary order by k.place) as primary_key
       from pg_class c where c.oid = to_regclass($1)`,
      [`${quoted(schema)}.${quoted(name)}`],
    )
    .catch((error: unknown) => {
      if (codeOf(error) === '42501') throw unreadable(source, 'may not be read by reports', `grant usage on schema ${quoted(schema)} to pawl_report`)
      throw error
    })
  if (found === undefined || !['r', 'p', 'v', 'm', 'f'].includes(found.kind)) {
    throw unreadable(source, 'does not exist', 'name an existing table or view as schema.table, in its own spelling')
  }
  if (!found.readable) throw unreadable(source, 'may not be read by reports', `grant select on ${quoted(schema)}.${quoted(name)} to pawl_report`)
  return { schema, name, types: new Map(Object.entries(found.types)), primaryKey: found.primary_key }
}

function unreadable(source: string, what: string, hint: string): PawlError {
  return new PawlError('report.source', `the source ${JSON.stringify(source)} of the report ${what}`, { hint })
}

/**
 * What went wrong while a report's own statement was read. What would go wrong again is refused, and names its source: a type that does
 * not fit (22, 42), a view that writes (25006, else the sign of a fail-over), a limit of the server's (53400) or of time (57014).
 */
export function judged(error: unknown, source: string, limits: Pick<Limits, 'seconds'>): unknown {
  const code = codeOf(error) ?? ''
  if (code === '57014') {
    return new PawlError('report.too_slow', `the server broke off reading ${source}: ${messageOf(error)} (the limit of a statement is ${limits.seconds} s)`, {
      hint: 'filter it, index what it filters by, or raise limits.seconds in the configuration of the report or its template',
      cause: error,
    })
  }
  if (!/^(22|42)[0-9A-Z]{3}$|^25006$|^53400$/.test(code)) return error
  return new PawlError('report.statement', `${source} could not be read: ${messageOf(error)}`, {
    hint: 'compare the template with the types of the columns, and with what pawl_report was granted',
    cause: error,
  })
}

const kinds: Readonly<Record<number, ColumnKind>> = {
  16: 'boolean',
  20: 'number',
  21: 'number',
  23: 'number',
  26: 'number',
  114: 'json',
  700: 'number',
  701: 'number',
  1082: 'date',
  1114: 'timestamp',
  1184: 'timestamp',
  1700: 'number',
  3802: 'json',
}

/** What a type, by its object id, comes down to for whoever reads the report. */
export function kindOf(type: number): ColumnKind {
  return kinds[type] ?? 'text'
}
