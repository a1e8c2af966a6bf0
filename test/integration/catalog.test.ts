import { afterAll, beforeAll, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'

/** To the letter what other services were promised: arguments as PostgreSQL prints them, and what comes back. */
const signatures: Record<string, [parameters: string, returns: string]> = {
  request_override: [
    'category_id bigint, user_id bigint, settings jsonb DEFAULT NULL::jsonb, batch_size integer DEFAULT 100, ' +
      'client_ip inet DEFAULT NULL::inet, user_agent text DEFAULT NULL::text, idempotency_key text DEFAULT NULL::text',
    'text',
  ],
  revert_override: ['operation_id text, user_id bigint', 'text'],
  enqueue: [
    'queue text, data jsonb, priority integer DEFAULT 0, start_after timestamp with time zone DEFAULT NULL::timestamp with time zone, ' +
      'singleton_key text DEFAULT NULL::text',
    'uuid',
  ],
  create_campaign: [
    'duration_hours integer, start_at timestamp with time zone DEFAULT now(), auto_close boolean DEFAULT true, ' +
      "rewards_enabled boolean DEFAULT true, metadata jsonb DEFAULT '{}'::jsonb, id uuid DEFAULT NULL::uuid",
    'uuid',
  ],
  schedule_timer: ["campaign_id uuid, timer_type text, at timestamp with time zone, payload jsonb DEFAULT '{}'::jsonb", 'uuid'],
  reschedule_timer: ['timer_id uuid, at timestamp with time zone', 'boolean'],
  refresh_table: ["name text, upstream text DEFAULT 'stale'::text, downstream boolean DEFAULT false", 'bigint'],
  cancel: ['run_id text, reason text DEFAULT NULL::text', 'boolean'],
  retry: ['run_id text', 'boolean'],
  pause: ['queue text, reason text DEFAULT NULL::text', 'boolean'],
  resume: ['queue text', 'boolean'],
  why: ['run_id text', 'text'],
  plan_archives: ['', 'SETOF text'],
  extend_partitions: ['months_ahead integer DEFAULT 3', 'TABLE(parent text, created integer)'],
  request_backup: ["kind text DEFAULT 'manual'::text, scope text DEFAULT 'full'::text, tables text[] DEFAULT NULL::text[]", 'text'],
  index_report: [
    "watch interval DEFAULT '30 days'::interval",
    'TABLE(finding text, certain boolean, relation text, index text, bytes bigint, reason text, statement text)',
  ],
}

let db: TestDatabase

beforeAll(async () => {
  db = await createDatabase()
})

afterAll(() => db.drop())

test('no function of pawl, and no SECURITY DEFINER function at all, is executable by everyone', async () => {
  const rows = await db.query(
    `select p.oid::regprocedure::text as name
     from pg_proc p join pg_namespace n on n.oid = p.pronamespace
     cross join aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) acl
     where acl.grantee = 0 and acl.privilege_type = 'EXECUTE'
       and (n.nspname in ('pawl', 'sqp', 'reporting') or (n.nspname = 'public' and p.prosecdef))`,
  )
  expect(rows).toEqual([])
})

test('every SECURITY DEFINER function pins its search_path, the temporary schema last', async () => {
  const rows = await db.query<{ name: string; path: string | null }>(
    `select p.oid::regprocedure::text as name, (select setting from unnest(p.proconfig) setting where setting like 'search\\_path=%') as path
     from pg_proc p where p.pronamespace in ('pawl'::regnamespace, 'sqp'::regnamespace, 'reporting'::regnamespace, 'public'::regnamespace) and p.prosecdef`,
  )
  expect(rows.length).toBeGreaterThan(Object.keys(signatures).length)
  expect(rows.filter(row => row.path !== 'search_path=pg_catalog, pg_temp')).toEqual([])
})

test('every table, view and function says what it is for', async () => {
  // A month's partition is a part of its table, which has the comment.
  const rows = await db.query<{ name: string; comment: string | null }>(
    `select c.oid::regclass::text as name, obj_description(c.oid, 'pg_class') as comment from pg_class c
     where c.relnamespace in ('pawl'::regnamespace, 'sqp'::regnamespace, 'reporting'::regnamespace, 'public'::regnamespace) and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
     union all
     select p.oid::regprocedure::text, obj_description(p.oid, 'pg_proc') from pg_proc p
     where p.pronamespace in ('pawl'::regnamespace, 'sqp'::regnamespace, 'reporting'::regnamespace, 'public'::regnamespace)`,
  )
  expect(rows.length).toBeGreaterThan(100)
  expect(rows.filter(row => (row.comment ?? '').length < 20)).toEqual([])
})

test('every column that an operator or an observer may read in pawl says what it holds', async () => {
  const rows = await db.query<{ name: string; comment: string | null }>(
    `select format('%s.%s', c.oid::regclass, a.attname) as name, col_description(c.oid, a.attnum) as comment
     from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
     where c.relnamespace = 'pawl'::regnamespace and c.relkind in ('r', 'v')
       and (has_table_privilege('pawl_operator', c.oid, 'select') or has_table_privilege('pawl_observer', c.oid, 'select'))`,
  )
  expect(rows.length).toBeGreaterThan(150)
  expect(rows.filter(({ comment }) => comment === null || comment === '')).toEqual([])
})

test('the functions have exactly the arguments, defaults and results that were promised, and no overloads', async () => {
  const rows = await db.query<{ name: string; parameters: string; returns: string; definer: boolean }>(
    `select p.proname as name, pg_get_function_arguments(p.oid) as parameters, pg_get_function_result(p.oid) as returns, p.prosecdef as definer
     from pg_proc p where p.pronamespace = 'pawl'::regnamespace and p.proname = any ($1) order by p.proname`,
    [Object.keys(signatures)],
  )
  const promised = Object.entries(signatures).map(([name, [parameters, returns]]) => ({ name, parameters, returns, definer: true }))
  expect(rows).toEqual(promised.sort((a, b) => (a.name < b.name ? -1 : 1)))
})

test('each view begins with the columns that were promised, in their order', async () => {
  const rows = await db.query<{ name: string; columns: string }>(
    `select c.relname as name, string_agg(a.attname, ', ' order by a.attnum) as columns
     from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
     where c.relnamespace = 'pawl'::regnamespace and c.relkind = 'v' group by c.relname`,
  )
  const columns = Object.fromEntries(rows.map(row => [row.name, row.columns]))
  expect(columns.runs).toMatch(
    /^run_id, kind, state, subject, done, total, percent, rows_per_second, eta, attempt, failures, worker, started_at, updated_at, finished_at, error\b/,
  )
  expect(columns.queues).toMatch(/^queue, ready, delayed, active, failed, paused, oldest_ready_seconds\b/)
  expect(columns.backlog).toBe('jobs')
  expect(columns.health).toMatch(/^check, ok, detail\b/)
  expect(columns.failures).toMatch(/^run_id, kind, state, subject\b/)
  expect(columns.stuck).toMatch(/^run_id, kind, state, subject\b/)
  expect(columns.workers).toMatch(/^id, state, name\b/)
  expect(columns.timers).toMatch(/^timer_id, state, timer_type, campaign_id, scheduled_at, due_at, late_ms, retry_count, executed_at, payload, error\b/)
  expect(columns.refresh_plan).toMatch(/^run, table, state, urgency, waiting_for\b/)
  expect(columns.backups).toMatch(/^backup_id, state, kind, scope, taken_at, verified_at, bytes, tables, rows, encrypted, place, error, run_id\b/)
  expect(columns.partitions).toMatch(/^parent, partition, state, from_at, to_at, ahead, rows, bytes\b/)
  expect(columns.runs).toMatch(/, requested_at, requested_by, cancelled_by, cancelled_at, cancel_reason$/)
  expect(columns.tables).toMatch(/^table, stale, refreshed_at, due_at, reason\b/)
  expect(columns.deploy).toMatch(/^check, ok, detail\b/)
  expect(columns.schedules).toMatch(/^schedule, cron, timezone, queue, data, last_run_at\b/)
})
