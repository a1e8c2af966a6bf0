-- Index care (document 004's "index optimization"): what is unused, doubled, missing, broken or bloated, and the statement that mends it.
-- Locks: none but on the catalog. The reports themselves only read.
create view pawl.index_facts as
select
  i.indexrelid as index_id,
  i.indrelid as table_id,
  format('%I.%I', n.nspname, t.relname) as relation,
  format('%I.%I', n.nspname, c.relname) as index,
  c.relname as index_name,
  c.relkind = 'I' as partitioned,
  m.amname as method,
  i.indisvalid and i.indisready as valid,
  i.indisunique as is_unique,
  i.indnullsnotdistinct as nulls_equal,
  i.indisexclusion as is_exclusion,
  i.indexprs is not null as has_expressions,
  -- The catalog's vectors count from 0; a slice of them counts from 1, as every other array does.
  (i.indkey::smallint[])[0:i.indnkeyatts - 1] as keys,
  (i.indkey::smallint[])[i.indnkeyatts:] as included,
  (i.indclass::oid[])[0:i.indnkeyatts - 1] as classes,
  (i.indcollation::oid[])[0:i.indnkeyatts - 1] as collations,
  (i.indoption::smallint[])[0:i.indnkeyatts - 1] as options,
  pg_get_expr(i.indexprs, i.indrelid) as expressions,
  pg_get_expr(i.indpred, i.indrelid) as predicate,
  -- Something other than a query relies on it: a constraint (also one that refers to it), replication, CLUSTER.
  i.indisprimary or i.indisexclusion or i.indisreplident or i.indisclustered
    or exists (select from pg_constraint k where k.conindid = i.indexrelid) as is_held,
  s.bytes,
  s.scans
from pg_index i
join pg_class c on c.oid = i.indexrelid
join pg_class t on t.oid = i.indrelid
join pg_namespace n on n.oid = t.relnamespace
join pg_am m on m.oid = c.relam
cross join lateral (
  -- The index of a partitioned table has neither pages nor scans of its own, but those of its parts.
  select coalesce(sum(pg_relation_size(part.relid)), 0)::bigint as bytes, coalesce(sum(pg_stat_get_numscans(part.relid)), 0)::bigint as scans
  from pg_partition_tree(i.indexrelid) part
  where part.isleaf
  having c.relkind = 'I'
  union all
  select pg_relation_size(i.indexrelid), pg_stat_get_numscans(i.indexrelid)
  where c.relkind = 'i'
) s
where t.relkind in ('r', 'p', 'm')
  and t.relpersistence <> 't'
  and not t.relispartition
  and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'pgboss', 'pawl_stage')
  and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = t.oid and d.deptype = 'e');
--> statement-breakpoint
comment on view pawl.index_facts is 'The indexes that are looked after: not PostgreSQL''s, pg-boss''s, an extension''s or a single partition''s';
--> statement-breakpoint

create function pawl.statistics_since() returns timestamptz
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- PostgreSQL throws all statistics away when it recovers from a crash and notes that nowhere but in those it keeps for the whole
  -- server, of which the archiver's are the ones nobody resets by hand. A database's own reset is null until somebody asked for it.
  select greatest(d.stats_reset, a.stats_reset)
  from pg_stat_database d, pg_stat_archiver a
  where d.datname = current_database()
$$;
--> statement-breakpoint
comment on function pawl.statistics_since() is 'Since when scans of indexes are counted; null where that can''t be known';
--> statement-breakpoint

create function pawl.doubled_indexes() returns table (finding text, index_id oid, keeper_id oid)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with same as (
    select distinct on (d.index_id) d.index_id, k.index_id as keeper_id
    from pawl.index_facts d
    join pawl.index_facts k
      on k.table_id = d.table_id and k.index_id <> d.index_id and k.method = d.method
      and k.keys = d.keys and k.included = d.included and k.classes = d.classes and k.collations = d.collations and k.options = d.options
      and k.expressions is not distinct from d.expressions and k.predicate is not distinct from d.predicate
    where d.valid and k.valid and not d.is_held
      -- A unique one is kept for what it forbids.
      and (not d.is_unique or (k.is_unique and k.nulls_equal = d.nulls_equal))
      -- Of two that are worth the same the older one stays, so that never both are given up.
      and (k.is_held or (k.is_unique and not d.is_unique) or k.index_id < d.index_id)
    order by d.index_id, k.is_held desc, k.is_unique desc, k.index_id
  ),
  shorter as (
    select distinct on (d.index_id) d.index_id, k.index_id as keeper_id
    from pawl.index_facts d
    join pawl.index_facts k
      on k.table_id = d.table_id and k.method = 'btree' and cardinality(k.keys) > cardinality(d.keys)
      and k.keys[1:cardinality(d.keys)] = d.keys and k.classes[1:cardinality(d.keys)] = d.classes
      and k.collations[1:cardinality(d.keys)] = d.collations and k.options[1:cardinality(d.keys)] = d.options
    where d.method = 'btree' and d.valid and k.valid and not d.is_held and not d.is_unique and d.predicate is null and k.predicate is null
      and not d.has_expressions and d.included = '{}'
      and d.index_id not in (select same.index_id from same) and k.index_id not in (select same.index_id from same)
    -- The longest is its own keeper's keeper, so that the one named is never given up itself.
    order by d.index_id, k.is_held or k.is_unique desc, cardinality(k.keys) desc, k.index_id
  )
  select 'duplicate', same.index_id, same.keeper_id from same
  union all
  select 'prefix', shorter.index_id, shorter.keeper_id from shorter
$$;
--> statement-breakpoint
comment on function pawl.doubled_indexes() is 'Indexes that another one makes needless, each with the one that keeps serving';
--> statement-breakpoint

create function pawl.unused_indexes(watch interval) returns table (certain boolean, index_id oid, reason text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select doubt.reason is null, f.index_id,
    coalesce('unknown: ' || doubt.reason, format('not scanned once since %s', s.since::date))
      || case when f.partitioned then ', on no partition' else '' end
  from pawl.index_facts f
  cross join (select pawl.statistics_since() as since) s
  cross join lateral (
    -- Proof that it stood there the whole time, as PostgreSQL doesn't say how old an index is: the weekly report named it.
    -- Names and numbers may come back with a restored dump, but not in the same database.
    select min(m.timestamp) as at
    from public.system_maintenance_log m
    where m.operation = 'index_report' and m.details -> 'unused' ? f.index_id::text
      and m.details ->> 'database' = (select d.oid::text from pg_database d where d.datname = current_database())
  ) seen
  cross join lateral (
    select case
      when s.since is null then 'it is not known since when the statistics count'
      -- Ages are compared, not moments: no time is so long that it overflows, and none at all makes nothing certain.
      when coalesce(now() - s.since < watch, true) then format('the statistics are only %s days old', extract(day from now() - s.since))
      when coalesce(now() - seen.at < watch, true)
        then format('the weekly report has watched it for only %s days', coalesce(extract(day from now() - seen.at), 0))
      when exists (select from pg_stat_replication) then 'a standby has statistics of its own, and it may be used there'
      when f.has_expressions then 'the planner may use what ANALYZE knows of its expression'
    end as reason
  ) doubt
  where f.scans = 0 and f.bytes >= 65536 and f.valid and not f.is_unique and not f.is_held
    -- Deleting or changing a referenced row looks for those that refer to it; that may be rare and must not be slow.
    and not exists (
      select from pg_constraint k
      where k.contype = 'f' and k.conrelid = f.table_id and f.method = 'btree'
        and f.keys[1:cardinality(k.conkey)] <@ k.conkey and f.keys[1:cardinality(k.conkey)] @> k.conkey
    )
    -- One of them is said to be needless because the other is there: no advice may take both.
    and f.index_id not in (select unnest(array[d.index_id, d.keeper_id]) from pawl.doubled_indexes() d)
$$;
--> statement-breakpoint
comment on function pawl.unused_indexes(interval) is 'Indexes that no query has scanned; certain once statistics and weekly reports have watched for that long';
--> statement-breakpoint

create function pawl.bloated_indexes() returns table (index_id oid, wasted bigint)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  -- What its rows would need in a new index: an item of 8 bytes, 8 more where there are nulls, the columns as wide as ANALYZE found
  -- them, all aligned to 8, and a pointer of 4; pages of 8192 bytes with 40 of their own. A btree of many equal keys needs less.
  select e.index_id, e.bytes - e.needed
  from (
    select f.index_id, f.bytes,
      (1 + ceil(c.reltuples * (4 + 8 * ceil((8 + w.nulls + w.width) / 8)) / ((size.page - 40) * fill.share)))::bigint * size.page as needed
    from pawl.index_facts f
    join pg_class c on c.oid = f.index_id
    join pg_class t on t.oid = f.table_id
    join pg_namespace n on n.oid = t.relnamespace
    cross join (select current_setting('block_size')::integer as page) size
    cross join lateral (
      select coalesce((select option.option_value::numeric from pg_options_to_table(c.reloptions) option where option.option_name = 'fillfactor'), 90) / 100 as share
    ) fill
    cross join lateral (
      select sum((1 - s.null_frac) * s.avg_width) as width, case when max(s.null_frac) > 0 then 8 else 0 end as nulls, count(*) as known
      from pg_attribute a
      join pg_attribute b on b.attrelid = f.table_id and b.attnum = (f.keys || f.included)[a.attnum]
      join pg_stats s on s.schemaname = n.nspname and s.tablename = t.relname and s.attname = b.attname and s.inherited = false
      where a.attrelid = f.index_id
    ) w
    where f.method = 'btree' and f.valid and not f.partitioned and not f.is_exclusion
      and c.reltuples >= 0 and f.bytes > 10 * 1024 * 1024
      -- A column that was never analyzed, or an expression, leaves the width unknown.
      and w.known = cardinality(f.keys || f.included)
  ) e
  where e.bytes - e.needed > greatest(e.bytes / 2, 10 * 1024 * 1024)
$$;
--> statement-breakpoint
comment on function pawl.bloated_indexes() is 'btrees of which more than half and more than 10 MB is estimated to be empty';
--> statement-breakpoint

create function pawl.missing_indexes() returns table (finding text, table_id oid, columns text[], name name, predicate text, bytes bigint, reason text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select 'foreign key', k.conrelid, referring.columns,
    -- Within the 63 bytes of a name, whatever the columns are called, and never another's.
    (left(t.relname || '_' || array_to_string(referring.columns, '_'), 40) || '_' || k.oid || '_fkey_idx')::name,
    null, null::bigint, format('no btree leads with the columns of %I: a delete in %s reads all of its about %s rows', k.conname, k.confrelid::regclass, grown.rows)
  from pg_constraint k
  join pg_class t on t.oid = k.conrelid and not t.relispartition and t.relkind in ('r', 'p')
  -- What Pawl's own tables refer to is never deleted, or has its index.
  join pg_namespace n on n.oid = t.relnamespace and n.nspname not in ('pg_catalog', 'information_schema', 'pgboss', 'pawl', 'pawl_stage')
  cross join lateral (
    select array_agg(a.attname::text order by key.place) as columns
    from unnest(k.conkey) with ordinality key (number, place)
    join pg_attribute a on a.attrelid = k.conrelid and a.attnum = key.number
  ) referring
  cross join lateral (
    select sum(greatest(leaf.reltuples, 0))::bigint as rows
    from pg_partition_tree(t.oid) part
    join pg_class leaf on leaf.oid = part.relid and part.isleaf
    where t.relkind = 'p'
    having count(*) > 0
    union all
    select t.reltuples::bigint
    where t.relkind = 'r'
  ) grown
  where k.contype = 'f' and k.conparentid = 0 and grown.rows > 1000
    -- An invalid one is another finding.
    and not exists (
      select from pawl.index_facts f
      where f.table_id = k.conrelid and f.method = 'btree'
        and f.keys[1:cardinality(k.conkey)] <@ k.conkey and f.keys[1:cardinality(k.conkey)] @> k.conkey
        and (f.predicate is null or f.predicate = format('(%I IS NOT NULL)', referring.columns[1]))
    )
  union all
  select 'document 004', t.oid, listed.columns, listed.name::name, listed.predicate, null, 'document 004 lists it for this table'
  from (
    values
      ('users', 'users_emailVerificationToken_idx', array['emailVerificationToken'], '"emailVerificationToken" is not null'),
      ('users', 'users_verified_idx', array['verified'], 'verified = false'),
      ('users', 'users_role_idx', array['role'], null),
      ('users', 'users_plan_idx', array['plan'], null),
      ('users', 'users_email_verified_idx', array['email', 'verified'], null),
      ('content_pieces', 'content_pieces_organizationId_status_idx', array['organizationId', 'status'], null),
      ('content_pieces', 'content_pieces_platform_publishedAt_idx', array['platform', 'publishedAt'], null),
      ('scheduled_posts', 'scheduled_posts_organizationId_scheduledAt_idx', array['organizationId', 'scheduledAt'], null),
      ('analytics', 'analytics_organizationId_collectedAt_idx', array['organizationId', 'collectedAt'], null),
      ('analytics', 'analytics_platform_metricType_idx', array['platform', 'metricType'], null)
  ) listed (relname, name, columns, predicate)
  join pg_namespace n on n.nspname in ('public', 'reporting')
  join pg_class t on t.relnamespace = n.oid and t.relname = listed.relname and t.relkind in ('r', 'p') and not t.relispartition
  cross join lateral (
    select array_agg(a.attnum order by array_position(listed.columns, a.attname::text)) as keys,
      bool_and(a.attname <> 'verified' or a.atttypid = 'boolean'::regtype) as fits
    from pg_attribute a
    where a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped and a.attname = any (listed.columns)
  ) present
  where cardinality(present.keys) = cardinality(listed.columns) and present.fits
    -- Any name will do, and so will one that serves more than the listed one would.
    and not exists (
      select from pawl.index_facts f
      where f.table_id = t.oid
        and (f.index_name = listed.name
          or (f.method = 'btree' and f.keys[1:cardinality(present.keys)] = present.keys and (f.predicate is null or cardinality(f.keys) = cardinality(present.keys))))
    )
$$;
--> statement-breakpoint
comment on function pawl.missing_indexes() is 'Columns that should have an index: foreign keys of tables beyond a thousand rows, and document 004''s list';
--> statement-breakpoint

create function pawl.stale_statistics() returns table (relation text, bytes bigint, reason text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select format('%I.%I', n.nspname, t.relname), g.bytes,
    case when g.never then format('never analyzed; about %s rows', g.rows) else format('%s of about %s rows changed since the last ANALYZE', g.changed, g.rows) end
  from pg_class t
  join pg_namespace n on n.oid = t.relnamespace and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'pgboss', 'pawl_stage')
  cross join lateral (
    -- Autovacuum analyzes partitions but never the whole.
    select sum(pg_stat_get_live_tuples(part.oid)) as rows, sum(pg_stat_get_mod_since_analyze(part.oid)) as changed, sum(pg_relation_size(part.oid))::bigint as bytes,
      pg_stat_get_last_analyze_time(t.oid) is null and pg_stat_get_last_autoanalyze_time(t.oid) is null as never
    from (
      select tree.relid as oid from pg_partition_tree(t.oid) tree where t.relkind = 'p' and tree.isleaf
      union all
      select t.oid where t.relkind in ('r', 'm')
    ) part
  ) g
  where t.relkind in ('r', 'p', 'm') and not t.relispartition and t.relpersistence <> 't'
    -- Where statistics are lost with a crash, so is the time of the last ANALYZE; reltuples stays.
    and ((g.never and g.rows >= 50 and (t.reltuples < 0 or t.relkind = 'p')) or g.changed > greatest(50, g.rows / 5))
$$;
--> statement-breakpoint
comment on function pawl.stale_statistics() is 'Tables that were never analyzed or of whose rows more than a fifth has changed since';
--> statement-breakpoint

-- SECURITY DEFINER: an observer sees no pg_stats of tables he may not read. To ask for a size is to wait for whoever locks the table.
create function pawl.index_report(watch interval default '30 days')
returns table (finding text, certain boolean, relation text, index text, bytes bigint, reason text, statement text)
language sql stable security definer set search_path = pg_catalog, pg_temp set lock_timeout = '3s'
as $$
  with found as (
    select 'invalid' as finding, not f.partitioned and not b.busy as certain, f.relation, f.index, f.bytes,
      case
        when f.partitioned then 'not every partition has its part: build the missing ones concurrently and attach them'
        when b.busy then 'unknown: a session holds the table as one that builds an index does; is it being built?'
        when leftover.is then 'left behind by a REINDEX CONCURRENTLY that failed'
        else 'no query uses it, but every write keeps it: its build failed'
      end as reason,
      format(case when leftover.is then 'drop index concurrently %s' else 'reindex index concurrently %s' end, f.index) as statement
    from pawl.index_facts f
    cross join lateral (select f.index_name ~ '_cc(new|old)\d*$' and not f.is_held as is) leftover
    -- What builds an index holds this lock on its table the whole time. So does VACUUM, which is over the sooner.
    cross join lateral (
      select exists (
        select from pg_locks l
        where l.locktype = 'relation' and l.relation = f.table_id and l.mode in ('ShareUpdateExclusiveLock', 'ShareLock') and l.granted
          and l.database = (select d.oid from pg_database d where d.datname = current_database())
      ) as busy
    ) b
    where not f.valid
    union all
    select 'bloated', true, f.relation, f.index, f.bytes,
      format('about %s of %s are empty (an estimate)', pg_size_pretty(b.wasted), pg_size_pretty(f.bytes)), format('reindex index concurrently %s', f.index)
    from pawl.bloated_indexes() b
    join pawl.index_facts f using (index_id)
    union all
    select m.finding, t.relkind = 'r', format('%I.%I', n.nspname, t.relname), format('%I.%I', n.nspname, m.name), m.bytes,
      m.reason || case when t.relkind = 'p' then '; build it on each partition concurrently, then attach' else '' end,
      format('create index concurrently %I on %I.%I (%s)%s', m.name, n.nspname, t.relname,
        (select string_agg(quote_ident(c.name), ', ' order by c.place) from unnest(m.columns) with ordinality c (name, place)), ' where ' || m.predicate)
    from pawl.missing_indexes() m
    join pg_class t on t.oid = m.table_id
    join pg_namespace n on n.oid = t.relnamespace
    union all
    select 'statistics', true, s.relation, null, s.bytes, s.reason, format('analyze %s', s.relation)
    from pawl.stale_statistics() s
    union all
    select d.finding, not f.partitioned, f.relation, f.index, f.bytes,
      format('%s %s (scans: %s, and %s of the other)',
        case d.finding when 'duplicate' then 'the same as' else 'its columns lead' end, k.index, f.scans, k.scans)
        || case when f.partitioned then '; a partitioned index can only be dropped under a lock that stops all reads' else '' end,
      format('drop index concurrently %s', f.index)
    from pawl.doubled_indexes() d
    join pawl.index_facts f using (index_id)
    join pawl.index_facts k on k.index_id = d.keeper_id
    union all
    select 'unused', u.certain and not f.partitioned, f.relation, f.index, f.bytes,
      u.reason || case when f.partitioned then '; a partitioned index can only be dropped under a lock that stops all reads' else '' end,
      format('drop index concurrently %s', f.index)
    from pawl.unused_indexes(watch) u
    join pawl.index_facts f using (index_id)
  )
  select f.finding, f.certain, f.relation, f.index, f.bytes, f.reason, case when f.certain then f.statement end
  from found f
  order by array_position(array['invalid', 'bloated', 'foreign key', 'document 004', 'statistics', 'duplicate', 'prefix', 'unused'], f.finding),
    f.certain desc, f.bytes desc nulls last, f.relation, f.index
$$;
--> statement-breakpoint
comment on function pawl.index_report(interval) is
  'What indexes and statistics need, each with the statement that mends it where that is certain; watch: how long an index must have gone unused';
--> statement-breakpoint

create function pawl.log_index_report() returns integer
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  with report as materialized (
    select r.finding, r.certain, r.index, f.index_id
    from pawl.index_report() r
    left join pawl.index_facts f on f.index = r.index
  )
  insert into public.system_maintenance_log (operation, affected_rows, timestamp, details)
  select 'index_report', count(*) filter (where r.certain), now(),
    jsonb_build_object(
      'findings', (
        select coalesce(jsonb_object_agg(c.finding, c.number), '{}')
        from (select x.finding, count(*) as number from report x where x.certain group by x.finding) c
      ),
      'uncertain', count(*) filter (where not r.certain),
      'database', (select d.oid::text from pg_database d where d.datname = current_database()),
      -- What a later report takes as proof of how long an index has been there.
      'unused', coalesce(jsonb_object_agg(r.index_id, r.index) filter (where r.finding = 'unused'), '{}')
    )
  from report r
  returning affected_rows
$$;
--> statement-breakpoint
comment on function pawl.log_index_report() is 'Document 004, Saturday 01:00: writes what the index report counts into system_maintenance_log; returns the certain findings';
--> statement-breakpoint
revoke execute on all routines in schema pawl from public;
