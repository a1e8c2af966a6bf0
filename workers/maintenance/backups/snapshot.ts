import type { Query } from '../../../src/database.ts'
import { quoted } from '../../../src/names.ts'
import type { Manifest } from './manifest.ts'

/** A table that has rows of its own. */
export type Table = { schema: string; name: string }

/** Settings under which the same row has the same text on every server, and under which a long look at everything is not cut short. */
const SETTINGS: Readonly<Record<string, string>> = {
  client_encoding: 'UTF8',
  DateStyle: 'ISO, YMD',
  IntervalStyle: 'postgres',
  TimeZone: 'UTC',
  bytea_output: 'hex',
  xmlbinary: 'base64',
  // Numbers with all their digits; money without a country.
  extra_float_digits: '3',
  lc_monetary: 'C',
  // Names of tables and types in rows (regclass and its kin) then say their schema.
  search_path: '',
  // As pg_dump: rather refused than given a part of the rows.
  row_security: 'off',
  // One plan a table, each of a single pass: compiling it costs more than it saves.
  jit: 'off',
  // The snapshot is held, idle, until pg_dump has come to its end.
  statement_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  idle_session_timeout: '0',
  transaction_timeout: '0',
  lock_timeout: '0',
  // Where we are cut off, a query that reads a large table for minutes must not go on for nobody.
  client_connection_check_interval: '1s',
}

/** Makes this session's texts equal to those of every other that called it; settings that this server doesn't have are left out. */
export async function settle(query: Query): Promise<void> {
  await query(
    `select set_config(wanted.name, wanted.value, false)
     from json_each_text($1::json) as wanted(name, value)
     join pg_settings on lower(pg_settings.name) = lower(wanted.name)`,
    [JSON.stringify(SETTINGS)],
  )
}

/**
 * Ordinary tables, unlogged ones among them: a refresh's staging rows belong to the cursor in its checkpoint. Not:
 * - materialized views: a restore computes them anew, from what is restored;
 * - members of extensions: `create extension` brings them, pg_dump takes at most some of their rows;
 * - foreign tables: their rows are elsewhere;
 * - unlogged tables on a standby, where they can't be read; pg_dump leaves them out there, too.
 */
export async function listTables(query: Query): Promise<Table[]> {
  return query<Table>(
    `select n.nspname as schema, c.relname as name
     from pg_class c
     join pg_namespace n on n.oid = c.relnamespace
     where c.relkind = 'r'
       and c.relpersistence <> 't'
       and not (c.relpersistence = 'u' and pg_is_in_recovery())
       and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
       and not exists (
         select from pg_depend d
         where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
     order by n.nspname collate "C", c.relname collate "C"`,
  )
}

/**
 * Rows and hash of each table, one after the other: `told` is given how many are done. A row's hash is of its text; their sum doesn't depend
 * on their order, which a restore changes. Sums grow past any integer, hence numeric; equal rows count as often as they are there.
 */
export async function readTables(
  query: Query,
  { tables, told }: { tables?: readonly Table[]; told?: ((done: number, total: number) => void) | undefined } = {},
): Promise<Manifest['tables']> {
  const wanted = tables ?? (await listTables(query))
  const read: Manifest['tables'] = []
  for (const { schema, name } of wanted) {
    // Only this table: rows of those that inherit from it are theirs. `held.*` in brackets is the row, even where a column is called `held`.
    const [row] = await query<{ rows: number; hash: string }>(
      `select count(*) as rows, coalesce(sum(hashtextextended((held.*)::text, 0)::numeric), 0)::text as hash from only ${qualified({ schema, name })} as held`,
    )
    read.push({ schema, name, rows: Number(row?.rows ?? 0), hash: row?.hash ?? '0' })
    told?.(read.length, wanted.length)
  }
  return read
}

/** Null where it was never used, or where further along may mean a smaller number: nothing can be said of it after a restore. */
export async function readSequences(query: Query): Promise<Manifest['sequences']> {
  return query<Manifest['sequences'][number]>(
    `select s.schemaname as schema, s.sequencename as name, case when s.cycle or s.increment_by < 0 then null else s.last_value::text end as value
     from pg_sequences s
     join pg_namespace n on n.nspname = s.schemaname
     join pg_class c on c.relnamespace = n.oid and c.relname = s.sequencename
     where c.relpersistence <> 't'
       and not exists (
         select from pg_depend d
         where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
     order by s.schemaname collate "C", s.sequencename collate "C"`,
  )
}

/** Owners of what is in this database, and those who were granted something there. The server keeps no such record of the role it was made by. */
export async function readRoles(query: Query): Promise<string[]> {
  const rows = await query<{ name: string }>(
    `with held(oid) as (
       select d.refobjid
       from pg_shdepend d
       where d.refclassid = 'pg_authid'::regclass
         and (d.dbid = (select oid from pg_database where datname = current_database())
           or d.classid = 'pg_database'::regclass and d.objid = (select oid from pg_database where datname = current_database()))
       union
       select datdba from pg_database where datname = current_database()
       union
       select c.relowner from pg_class c join pg_namespace n on n.oid = c.relnamespace
       where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
       union
       select p.proowner from pg_proc p join pg_namespace n on n.oid = p.pronamespace
       where n.nspname !~ '^pg_' and n.nspname <> 'information_schema')
     select r.rolname as name
     from pg_roles r
     where r.oid in (select oid from held) and r.rolname !~ '^pg_'
     order by r.rolname collate "C"`,
  )
  return rows.map(({ name }) => name)
}

/** `"schema"."name"`, as SQL and the patterns of pg_dump read it. */
export function qualified({ schema, name }: Table): string {
  return `${quoted(schema)}.${quoted(name)}`
}
