import type { Query } from '../../src/database.ts'

/**
 * Everything a migration may make in our schemas, as sorted lines of text: two databases with equal lines have the same
 * structure. An absent access list is its default. The schema pawl itself is the ledger's, no migration's. Column order counts, column numbers don't (a column that was dropped and added again has a new one).
 */
export async function catalog(query: Query): Promise<string[]> {
  const rows = await query<{ line: string }>(`
    with ours as (
      select oid, nspname from pg_namespace where nspname in ('public', 'pawl', 'sqp', 'reporting')
    )
    select format('schema %s %s %s', nspname, obj_description(oid, 'pg_namespace'), (select string_agg(acl::text, ' ' order by acl::text) from unnest(coalesce(n.nspacl, acldefault('n', nspowner))) acl)) as line
      from ours join pg_namespace n using (oid, nspname)
      where nspname <> 'pawl'
    union all
    select format('relation %s.%s %s %s %s %s', nspname, relname, relkind, reloptions, obj_description(c.oid, 'pg_class'),
        (select string_agg(acl::text, ' ' order by acl::text) from unnest(coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner))) acl))
      || case when relkind in ('v', 'm') then pg_get_viewdef(c.oid) else '' end
      || coalesce(pg_get_expr(relpartbound, c.oid), '') || coalesce(pg_get_partkeydef(c.oid), '')
      from pg_class c join ours on ours.oid = relnamespace
    union all
    select format('column %s.%s %s %s %s null %s %s %s %s %s', nspname, relname,
        row_number() over (partition by attrelid order by attnum), attname, format_type(atttypid, atttypmod),
        not attnotnull, attidentity, attgenerated, pg_get_expr(adbin, adrelid), col_description(attrelid, attnum))
      from pg_attribute a
      join pg_class c on c.oid = attrelid and relkind in ('r', 'p', 'v', 'm', 'f')
      join ours on ours.oid = relnamespace
      left join pg_attrdef d on adrelid = attrelid and adnum = attnum
      where attnum > 0 and not attisdropped
    union all
    select format('constraint %s %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(o.oid), convalidated)
      from pg_constraint o join ours on ours.oid = connamespace
      where conrelid <> 0
    union all
    select format('index %s valid %s', pg_get_indexdef(indexrelid), indisvalid)
      from pg_index join pg_class c on c.oid = indexrelid join ours on ours.oid = relnamespace
    union all
    select format('function %s %s', pg_get_functiondef(p.oid), obj_description(p.oid, 'pg_proc'))
        || coalesce((select string_agg(acl::text, ' ' order by acl::text) from unnest(coalesce(proacl, acldefault('f', proowner))) acl), '')
      from pg_proc p join ours on ours.oid = pronamespace
      where prokind in ('f', 'p')
    union all
    select format('trigger %s %s', pg_get_triggerdef(t.oid), tgenabled)
      from pg_trigger t join pg_class c on c.oid = tgrelid join ours on ours.oid = relnamespace
      where not tgisinternal
    union all
    select format('type %s.%s %s', nspname, typname, (select string_agg(enumlabel, ',' order by enumsortorder) from pg_enum where enumtypid = t.oid))
      from pg_type t join ours on ours.oid = typnamespace
      where typtype in ('e', 'd')
    union all
    select format('statistics %s', pg_get_statisticsobjdef(s.oid)) from pg_statistic_ext s join ours on ours.oid = stxnamespace
    union all
    select format('policy %s.%s.%s %s %s', schemaname, tablename, policyname, qual, with_check) from pg_policies
    order by 1`)
  return rows.map(row => row.line)
}
