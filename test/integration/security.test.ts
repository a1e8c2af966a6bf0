import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'

const ours = ['pawl', 'sqp', 'reporting', 'public', 'pawl_stage']
const groups = ['pawl_worker', 'pawl_producer', 'pawl_operator', 'pawl_observer', 'pawl_report']

/** What holds a secret: nobody of these roles reads it, also not by way of a view. Whoever adds such a column adds it here. */
const secrets: Record<string, readonly string[]> = {
  'reporting.users.password_hash': [],
  'reporting.users."emailVerificationToken"': [],
  'reporting.user_sessions': [],
  // What a table is filled by: a query, a name of a source. Its URL stands in the environment of the workers alone.
  'pgboss.job.data': ['pawl_worker'],
  'pgboss.job.output': ['pawl_worker'],
}

/** What each role may execute of ours, beyond what everybody may. A function that is added is added here, or to nobody's list. */
const callable: Record<string, readonly string[]> = {
  pawl_producer: ['create_campaign', 'enqueue', 'refresh_table', 'request_override', 'revert_override', 'run_report', 'schedule_timer'],
  pawl_operator: [
    'activity',
    'cancel',
    'extend_partitions',
    'index_report',
    'job_due',
    'lease_alive',
    'migrating',
    'pause',
    'plan_archives',
    'queue_counts',
    'refresh_source',
    'refresh_table',
    'request_backup',
    'reschedule_timer',
    'resume',
    'retry',
    'run_report',
    'schedule_rows',
    'why',
  ],
  pawl_observer: ['activity', 'index_report', 'job_due', 'lease_alive', 'migrating', 'queue_counts', 'refresh_source', 'schedule_rows', 'why'],
  pawl_report: [],
}

let db: TestDatabase

beforeAll(async () => {
  db = await createDatabase()
})

afterAll(() => db.drop())

const list = async (sql: string, values: unknown[] = []) => (await db.query<{ it: string }>(sql, values)).map(row => row.it)

describe('functions that run with the rights of their owner', () => {
  test('there are some, and they have a search_path of their own, pg_catalog first and pg_temp last', async () => {
    const found = await db.query<{ it: string; path: string | null }>(
      `select p.oid::regprocedure::text as it, (select c from unnest(p.proconfig) c where c like 'search_path=%') as path
       from pg_proc p where p.pronamespace = any ($1::regnamespace[]) and p.prosecdef`,
      [ours],
    )
    expect(found.length).toBeGreaterThan(50)
    expect(found.filter(({ path }) => path === null || !/^search_path=pg_catalog(, [\w$" ]+)*, pg_temp$/.test(path))).toEqual([])
  })

  test('nobody may execute them who was not named', async () => {
    expect(
      await list(
        `select p.oid::regprocedure::text as it from pg_proc p
         where p.pronamespace = any ($1::regnamespace[]) and p.prosecdef and has_function_privilege('public', p.oid, 'execute')`,
        [ours],
      ),
    ).toEqual([])
  })

  test('they belong to whoever owns the schema pawl', async () => {
    expect(
      await list(
        `select p.oid::regprocedure::text as it from pg_proc p
         where p.pronamespace = any ($1::regnamespace[]) and p.prosecdef
           and p.proowner <> (select n.nspowner from pg_namespace n where n.nspname = 'pawl')`,
        [ours],
      ),
    ).toEqual([])
  })

  test('no schema they look into lets anybody but its owner make something there', async () => {
    expect(
      await list(
        `select distinct n.nspname || ' ' || r.rolname as it
         from pg_proc p
         cross join lateral unnest(string_to_array(substring((select c from unnest(p.proconfig) c where c like 'search_path=%') from 13), ', ')) s (name)
         join pg_namespace n on n.nspname = s.name
         join pg_roles r on r.rolname = any ($2)
         where p.pronamespace = any ($1::regnamespace[]) and p.prosecdef and has_schema_privilege(r.oid, n.oid, 'create')`,
        [ours, groups],
      ),
    ).toEqual([])
  })
})

describe('rights', () => {
  test('each role executes what it is for and nothing else', async () => {
    for (const [role, wanted] of Object.entries(callable)) {
      expect([
        role,
        await list(
          `select distinct p.proname::text as it from pg_proc p
           where p.pronamespace = any ($1::regnamespace[]) and has_function_privilege($2, p.oid, 'execute')
             and not has_function_privilege('public', p.oid, 'execute') order by 1`,
          [ours, role],
        ),
      ]).toEqual([role, wanted])
    }
  })

  test('in no schema of ours does anybody make an object, but a worker its staging tables', async () => {
    expect(
      await list(
        `select r.rolname || ' ' || n.nspname as it from pg_roles r cross join pg_namespace n
         where r.rolname = any ($2) and n.nspname = any ($1::text[] || 'pgboss'::text) and has_schema_privilege(r.oid, n.oid, 'create') order by 1`,
        [ours, groups],
      ),
    ).toEqual(['pawl_worker pawl_stage'])
  })

  test('nothing of ours is granted to everybody', async () => {
    expect(
      await list(
        `select c.oid::regclass::text || ' ' || a.privilege_type as it
         from pg_class c cross join lateral aclexplode(c.relacl) a
         where c.relnamespace = any ($1::text[]::regnamespace[] || 'pgboss'::regnamespace) and a.grantee = 0
         union all
         select n.nspname || ' ' || a.privilege_type from pg_namespace n cross join lateral aclexplode(n.nspacl) a
         where n.nspname = any ($1::text[] || 'pgboss'::text) and n.nspname <> 'public' and a.grantee = 0`,
        [ours],
      ),
    ).toEqual([])
  })

  test('nobody may grant on what was granted to him, no group may log in, and only a worker is in another: it reads for reports as their role', async () => {
    expect(
      await list(
        `select a.grantee::regrole::text || ' ' || c.oid::regclass::text as it
         from pg_class c cross join lateral aclexplode(c.relacl) a
         where c.relnamespace = any ($1::text[]::regnamespace[]) and a.is_grantable and a.grantee <> c.relowner
         union all select m.member::regrole::text || ' in ' || m.roleid::regrole::text from pg_auth_members m join pg_roles r on r.oid = m.member
         where r.rolname = any ($2)
         union all select r.rolname from pg_roles r
         where r.rolname = any ($2) and (r.rolcanlogin or r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolbypassrls or r.rolreplication)`,
        [ours, groups],
      ),
    ).toEqual(['pawl_worker in pawl_report'])
  })

  test('a producer reads no table, view or column, of ours or of pg-boss', async () => {
    expect(
      await list(
        `select c.oid::regclass::text as it from pg_class c
         where c.relnamespace = any ($1::text[]::regnamespace[] || 'pgboss'::regnamespace) and c.relkind in ('r', 'p', 'v', 'm', 'S', 'f')
           and case when c.relkind = 'S' then has_sequence_privilege('pawl_producer', c.oid, 'usage, select, update')
             else has_any_column_privilege('pawl_producer', c.oid, 'select, insert, update, references') or has_table_privilege('pawl_producer', c.oid, 'delete, truncate, trigger') end`,
        [ours],
      ),
    ).toEqual([])
  })

  test('what holds secrets is read by nobody it is not for', async () => {
    for (const [secret, readers] of Object.entries(secrets)) {
      const [schema, table, column] = secret.split('.')
      for (const role of groups) {
        const [row] = await db.query<{ may: boolean }>(
          column === undefined
            ? `select has_any_column_privilege($1, format('%s.%s', $2::text, $3::text), 'select') as may`
            : `select has_column_privilege($1, format('%s.%s', $2::text, $3::text), trim(both '"' from $4), 'select') as may`,
          column === undefined ? [role, schema, table] : [role, schema, table, column],
        )
        expect([secret, role, row?.may]).toEqual([secret, role, readers.includes(role)])
      }
    }
  })

  test('a worker may not write what is run with the rights of the owner', async () => {
    const dangerous = ['pawl.kinds', 'pawl.retention', 'pawl.archives', 'pawl.backfills', 'pawl.timer_effects', 'pawl.schema_migrations']
    expect(
      await list(
        `select t || ' ' || r.rolname as it from unnest($1::text[]) t cross join pg_roles r
         where r.rolname = any ($2) and (has_any_column_privilege(r.oid, t, 'insert') or has_table_privilege(r.oid, t, 'delete, truncate, trigger')
           or exists (select from pg_attribute a where a.attrelid = t::regclass and a.attnum > 0 and a.attname <> 'keep' and has_column_privilege(r.oid, t, a.attname, 'update')))`,
        [dangerous, groups],
      ),
    ).toEqual([])
  })
})

test('no view of ours gives a reader the statements of other sessions, the data of jobs or what people log in with', async () => {
  const rows = await db.query<{ it: string; definition: string }>(
    `select c.oid::regclass::text as it, pg_get_viewdef(c.oid) as definition from pg_class c
     where c.relnamespace = any ($1::regnamespace[]) and c.relkind in ('v', 'm')
       and exists (select from unnest($2::text[]) role where has_table_privilege(role, c.oid, 'select'))`,
    [ours, ['pawl_observer', 'pawl_operator']],
  )
  expect(rows.length).toBeGreaterThan(15)
  // pg_stat_activity has a column "query".
  expect(
    rows.filter(({ definition }) => /\.query\b|pg_authid|pg_shadow|password_hash|VerificationToken|pgboss\./.test(definition)).map(({ it }) => it),
  ).toEqual([])
})
