import type { Database, Query } from '../../src/database.ts'
import type { HandlerOptions } from '../../src/worker.ts'
import { loadTable } from '../../workers/refresh/load.ts'
import { workAll } from './engine.ts'
import type { RefreshStage } from './refresh.ts'

/** An identifier, quoted for SQL. */
export const quote = (name: string) => `"${name.replaceAll('"', '""')}"`

/** Registers a table anywhere, whatever its name; its columns stay as they are. */
export async function register(query: Query, schema: string, table: string, params: Record<string, unknown>): Promise<number> {
  const [row] = await query<{ id: number }>(
    `insert into sqp.refresh_config (table_schema, table_name, custom_sync_params) values ($1, $2, $3)
     on conflict (table_schema, table_name) do update set is_enabled = true, custom_sync_params = excluded.custom_sync_params
     returning id`,
    [schema, table, JSON.stringify(params)],
  )
  return row?.id ?? 0
}

/** Everything in a table and where it stands on disk: equal before and after means that nobody wrote it. */
export async function bytesOf(query: Query, relation: string): Promise<unknown> {
  const [row] = await query(
    `select count(*) as rows, md5(string_agg(tableoid || ' ' || ctid || ' ' || xmin || ' ' || t::text, e'\\n' order by tableoid, ctid)) as bytes from ${relation} t`,
  )
  return row
}

/** Options whose next comparison is followed by `act`, before anything of it is applied. */
export function betweenLookAndAct(options: HandlerOptions, act: (look: number) => Promise<unknown>): HandlerOptions {
  let look = 0
  const transact: Database['transact'] = async (work, given) => {
    let compared = false
    const result = await options.db.transact(
      (query, copy) =>
        work((text, values) => {
          compared ||= text.includes('pawl_action') || text.includes('having count(*) > 1')
          return query(text, values)
        }, copy),
      given,
    )
    if (compared) await act((look += 1))
    return result
  }
  return { ...options, db: { ...options.db, transact } }
}

/** Asks for a refresh and works on it with these options; the steps of its run. */
export async function refreshWith(stage: RefreshStage, table: string, options: HandlerOptions) {
  const [row] = await stage.query<{ run: number }>(`select pawl.refresh_table($1, 'none') as run`, [table])
  const outcomes = await workAll(loadTable, options)
  return { outcomes, steps: await stage.steps(row?.run ?? 0) }
}

/** What the last attempts of a table left in the audit log, newest first. */
export function auditOf(query: Query, table: string) {
  return query<{ id: number; status: string; error_message: string | null; rows_inserted: number | null }>(
    `select id, status, error_message, rows_inserted from sqp.refresh_audit_log where table_name = $1 order by id desc`,
    [table],
  )
}

/** The measurements of an attempt, in the order in which they were taken. */
export function metricsOf(query: Query, audit: number | undefined) {
  return query(
    `select metric_name as name, metric_value::float8 as value, expected_value::float8 as expected, threshold_min::float8 as min, threshold_max::float8 as max, is_within_threshold as within
     from sqp.refresh_data_quality where audit_log_id = $1 order by id`,
    [audit ?? 0],
  )
}

/** All that hangs on a table: its identity, owner, grants, indexes, views, triggers, constraints and comments. */
export async function surroundings(query: Query, relation: string): Promise<unknown> {
  const [row] = await query<{ found: unknown }>(
    `with t as (select $1::regclass as oid),
     cols as (select attnum, attname::text from pg_attribute, t where attrelid = t.oid and attnum > 0 and not attisdropped)
     select jsonb_build_object(
       'class', (select jsonb_build_array(c.oid, c.relowner, c.relacl::text, c.relkind, c.relfilenode, c.reloptions) from pg_class c, t where c.oid = t.oid),
       'indexes', (select jsonb_agg(jsonb_build_array(i.indexrelid, pg_get_indexdef(i.indexrelid), pg_relation_filenode(i.indexrelid)) order by i.indexrelid) from pg_index i, t where i.indrelid = t.oid),
       'constraints', (select jsonb_agg(jsonb_build_array(k.oid, pg_get_constraintdef(k.oid)) order by k.oid) from pg_constraint k, t where t.oid in (k.conrelid, k.confrelid)),
       'triggers', (select jsonb_agg(jsonb_build_array(g.oid, pg_get_triggerdef(g.oid)) order by g.oid) from pg_trigger g, t where g.tgrelid = t.oid),
       'views', (select jsonb_agg(distinct jsonb_build_array(v.oid, v.relname, v.relacl::text, pg_get_viewdef(v.oid))) from pg_depend d
         join pg_rewrite r on r.oid = d.objid join pg_class v on v.oid = r.ev_class, t where d.refobjid = t.oid),
       'comments', (select jsonb_agg(jsonb_build_array(d.objsubid, d.description) order by d.objsubid) from pg_description d, t where d.objoid = t.oid),
       'columns', (select jsonb_agg(attname order by attnum) from cols)
     ) as found from t`,
    [relation],
  )
  return row?.found
}

/** A database that lets `act` run, once, before the first statement of a transaction that `when` is true of. */
export function actBefore(db: Database, when: (text: string) => boolean, act: () => Promise<unknown>): Database {
  let acted = false
  const transact: Database['transact'] = (work, given) =>
    db.transact(
      (query, copy) =>
        work(async (text, values) => {
          if (!acted && when(text)) {
            acted = true
            await act()
          }
          return query(text, values)
        }, copy),
      given,
    )
  return { ...db, transact }
}

/** A database that does something right after a step was marked as loaded: between its last row and its publishing. */
export function actWhenLoaded(db: Database, act: () => unknown): Database {
  const query: Database['query'] = async (text, values) => {
    const rows = await db.query(text, values)
    if (text.includes('set loaded = true')) await act()
    return rows as never[]
  }
  return { ...db, query }
}
