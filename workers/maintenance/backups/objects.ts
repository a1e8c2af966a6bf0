import type { Query } from '../../../src/database.ts'
import type { Manifest } from './manifest.ts'

type Counts = NonNullable<Manifest['objects']>[number]

/**
 * What a database is made of besides rows, counted by schema. Left out is what a dump leaves to others (members of extensions, invalid indexes)
 * and what PostgreSQL derives for partitions: how many rows of its catalog that takes depends on the order in which they were attached.
 */
export function readObjects(query: Query): Promise<Counts[]> {
  return query<Counts>(`
    select n.nspname as schema,
      (select count(*) from pg_constraint c where c.connamespace = n.oid and c.contype in ('c', 'f', 'p', 'u', 'x') and c.conparentid = 0)::integer as constraints,
      (select count(*) from pg_index i join pg_class c on c.oid = i.indexrelid join pg_class t on t.oid = i.indrelid
       where c.relnamespace = n.oid and (i.indisvalid or t.relkind = 'p') and t.relkind <> 't')::integer as indexes,
      (select count(*) from pg_proc p where p.pronamespace = n.oid and not ${isMember('p.oid', 'pg_proc')})::integer as routines,
      (select count(*) from pg_trigger t join pg_class c on c.oid = t.tgrelid
       where c.relnamespace = n.oid and not t.tgisinternal and t.tgparentid = 0)::integer as triggers,
      (select count(*) from pg_class c where c.relnamespace = n.oid and c.relkind in ('v', 'm') and not ${isMember('c.oid', 'pg_class')})::integer as views
    from pg_namespace n
    where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and not ${isMember('n.oid', 'pg_namespace')}
    order by n.nspname`)
}

function isMember(oid: string, catalog: string): string {
  return `exists (select from pg_depend d where d.classid = '${catalog}'::regclass and d.objid = ${oid} and d.deptype = 'e')`
}

/** How the database of this connection compares text. Since PostgreSQL 15 that may be ICU's business; its column has changed its name since. */
export async function readLocale(query: Query): Promise<NonNullable<Manifest['locale']>> {
  const [row] = await query<{ encoding: string; collate: string; ctype: string; provider: string | null; icu: string | null }>(`
    select pg_encoding_to_char(d.encoding) as encoding, d.datcollate as collate, d.datctype as ctype, f.fields ->> 'datlocprovider' as provider,
      coalesce(f.fields ->> 'datlocale', f.fields ->> 'daticulocale') as icu
    from pg_database d, to_jsonb(d) f (fields)
    where d.datname = current_database()`)
  if (row === undefined) throw new Error('the database is not in its own catalog')
  const { encoding, collate, ctype, provider, icu } = row
  return { encoding, collate, ctype, icu: provider === 'i' ? icu : null }
}
