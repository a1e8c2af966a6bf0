import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { blocksOf, expectFailure, left } from '../support/report-attack.ts'
import { addReport, addSales, openReportStage, readExecution, type ReportStage } from '../support/reports.ts'

let stage: ReportStage

beforeAll(async () => {
  stage = await openReportStage()
  await addSales(stage.query, 30)
})
afterAll(() => stage.end())

async function rowsOf(structure: Record<string, unknown>, type = 'tabular', user?: string) {
  const execution = await stage.run(await addReport(stage.query, stage.people, { type, structure }), 'json', {}, user)
  return (await blocksOf(execution)).map(block => block.rows)
}

describe('pawl_report', () => {
  test('may write nothing anywhere, and enter no schema of ours', async () => {
    const writable = await stage.query(
      `select c.oid::regclass::text from pg_class c
       where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relnamespace <> 'pg_catalog'::regnamespace and has_table_privilege('pawl_report', c.oid, 'insert, update, delete, truncate, references, trigger, maintain')`,
    )
    expect(writable).toEqual([])
    const open = await stage.query(
      `select nspname from pg_namespace where nspname in ('reporting', 'pawl', 'pgboss', 'sqp', 'drizzle') and has_schema_privilege('pawl_report', oid, 'usage, create')`,
    )
    expect(open).toEqual([])
    const [may] = await stage.query(
      `select has_schema_privilege('pawl_report', 'public', 'create') as creates, rolsuper or rolcreaterole or rolbypassrls or rolcanlogin or rolreplication as mighty,
         (select count(*)::integer from pg_auth_members where member = r.oid) as groups from pg_roles r where rolname = 'pawl_report'`,
    )
    expect(may).toEqual({ creates: false, mighty: false, groups: 0 })
  })

  test.each(['reporting.users', 'pawl.checkpoints', 'pgboss.job'])('reads no %s, and the refusal says what to grant', async source => {
    await expectFailure(stage, { structure: { source, columns: ['id'] } }, new RegExp(`the source "${source}" of the report may not be read by reports`))
  })

  test.each(['pg_catalog.pg_authid', 'pg_catalog.pg_class', 'information_schema.tables', 'pg_toast.pg_toast_1255', 'pg_temp.x', '.sales', 'public.'])(
    'no catalog is a source: %s',
    source => expectFailure(stage, { structure: { source, columns: ['oid'] } }, /is no name of a table or view that a report may read/).then(() => {}),
  )

  test('reads a table or column only once it was granted', async () => {
    await stage.query('create table public.secrets (id integer primary key, open text, secret text)')
    const structure = { source: 'secrets', columns: ['open', 'secret'] }
    const { id } = await expectFailure(stage, { structure }, /the source "secrets" of the report may not be read by reports/)
    await stage.query('grant select (id, open) on public.secrets to pawl_report')
    await stage.query('select pawl.retry($1)', [id])
    expect(await stage.work()).toEqual(['failed'])
    expect((await readExecution(stage.query, id)).error_message).toMatch(/public\.secrets could not be read: permission denied/)
    await stage.query('grant select on public.secrets to pawl_report')
    await stage.query('select pawl.retry($1)', [id])
    expect(await stage.work()).toEqual(['completed'])
  })

  test('is in force for each statement of each part, read-only, in one snapshot, with nothing of public in its path', async () => {
    await stage.query(`create view public.who as
      select s.id, current_user::text as role, current_setting('role') as set, current_setting('transaction_read_only') as read_only,
        current_setting('transaction_isolation') as isolation, current_setting('search_path') as path, pg_current_snapshot()::text as snapshot
      from generate_series(1, 3) s (id)`)
    await stage.query('grant select on public.who to pawl_report')
    const table = { type: 'table', source: 'public.who' }
    const columns = ['role', 'set', 'read_only', 'isolation', 'path', 'snapshot']
    const blocks = [
      { ...table, columns },
      { ...table, columns, key: ['id'] },
      { ...table, columns, order_by: ['role'] },
      { type: 'text', text: 'x' },
      { ...table, columns },
    ]
    const rows = (await rowsOf({ blocks }, 'custom')).flatMap(part => part ?? [])
    expect(rows.length).toBe(12)
    const expected = {
      role: 'pawl_report',
      set: 'pawl_report',
      read_only: 'on',
      isolation: 'repeatable read',
      path: 'pg_catalog, pg_temp',
      snapshot: rows[0]?.snapshot,
    }
    for (const row of rows) expect(row).toEqual(expected)
  })

  test.each([
    ['inserts', `insert into public.diary values (1); return 1`],
    ['draws from a sequence', `return nextval('public.diary_sequence')`],
    ['makes a table', `create table public.more (); return 1`],
    ['locks rows', `perform 1 from public.diary for update; return 1`],
  ])('a view whose function %s fails, though its owner may', async (_what, body) => {
    await stage.query(`
      create table if not exists public.diary (id integer); create sequence if not exists public.diary_sequence;
      drop view if exists public.writing;
      create or replace function public.write_diary() returns integer language plpgsql volatile security definer as $$ begin ${body}; end $$;
      create view public.writing as select public.write_diary() as written; grant select on public.writing to pawl_report`)
    await expectFailure(
      stage,
      { structure: { source: 'public.writing', columns: ['written'] } },
      /public\.writing could not be read: cannot execute .* in a read-only transaction/,
    )
    expect(await stage.query('select * from public.diary')).toEqual([])
  })

  test('a view reads with its owner’s rights, a security_invoker one with those of reports', async () => {
    await stage.query(`
      create table public.payroll (id integer primary key, amount integer); insert into public.payroll values (1, 5), (2, 7);
      create view public.payroll_sum as select sum(amount) as total from public.payroll; grant select on public.payroll_sum to pawl_report;
      create view public.payroll_all with (security_invoker) as select * from public.payroll; grant select on public.payroll_all to pawl_report`)
    expect(await rowsOf({ source: 'public.payroll_sum', columns: ['total'] })).toEqual([[{ total: 12 }]])
    const structure = { source: 'public.payroll_all', columns: ['amount'] }
    await expectFailure(stage, { structure }, /public\.payroll_all could not be read: permission denied for table payroll/)
  })
})

test('row security by pawl.organization_id and pawl.user_id shows each organization its own rows, whoever asks', async () => {
  const { people, query } = stage
  await query(`
    create table public.orders (id integer primary key, organization uuid, taken_by uuid);
    alter table public.orders enable row level security;
    create policy own on public.orders for select to pawl_report using (organization = current_setting('pawl.organization_id')::uuid);
    grant select on public.orders to pawl_report;
    create view public.mine as select id from public.orders where taken_by = current_setting('pawl.user_id')::uuid; grant select on public.mine to pawl_report`)
  const [other] = await query<{ id: string }>('select organization_id as id from reporting.users where id = $1', [people.stranger])
  await query('insert into public.orders values (1, $1, $2), (2, $1, $3), (3, $4, $5)', [
    people.organization,
    people.admin,
    people.viewer,
    other?.id,
    people.stranger,
  ])
  const structure = { source: 'public.orders', columns: ['id'] }
  expect(await rowsOf(structure)).toEqual([[{ id: 1 }, { id: 2 }]])
  // Also counted, filtered, and by a stranger with a share: it is the report's organization that counts.
  expect(await rowsOf({ ...structure, columns: [{ name: 'id', aggregate: 'count' }], filters: [{ column: 'id', operator: '>', value: 1 }] })).toEqual([
    [{ id: 1 }],
  ])
  const shared = await addReport(query, people, { structure })
  await query('insert into reporting.report_shares (report_id, shared_with) values ($1, $2)', [shared, people.stranger])
  expect((await blocksOf(await stage.run(shared, 'json', {}, people.stranger)))[0]?.rows).toEqual([{ id: 1 }, { id: 2 }])
  const theirs = await addReport(query, { ...people, organization: other?.id ?? '', admin: people.stranger }, { structure })
  expect((await blocksOf(await stage.run(theirs, 'json', {}, people.stranger)))[0]?.rows).toEqual([{ id: 3 }])
  expect(await rowsOf({ source: 'public.mine', columns: ['id'] })).toEqual([[{ id: 1 }]])
  // Parameters are settings as well, but of names of their own.
  const declared = { 'pawl.organization_id': { type: 'text' }, organization_id: { type: 'text' } }
  const given = { 'pawl.organization_id': other?.id, organization_id: other?.id }
  const tricked = await addReport(query, people, { structure, declared })
  expect((await blocksOf(await stage.run(tricked, 'json', given)))[0]?.rows).toEqual([{ id: 1 }, { id: 2 }])
})

test('functions, operators and types of public that are called like PostgreSQL’s own have no effect', async () => {
  const { query } = stage
  await query(`
    create function public.lower(text) returns text language sql immutable as $$ select 'shadow' $$;
    create function public.strpos(text, text) returns integer language sql immutable as $$ select 1 $$;
    create function public.starts_with(text, text) returns boolean language sql immutable as $$ select true $$;
    create function public.current_setting(text) returns text language sql stable as $$ select 'EU' $$;
    create function public.set_config(text, text, boolean) returns text language sql as $$ select 'shadow' $$;
    create function public.date_trunc(text, timestamp) returns timestamp language sql immutable as $$ select timestamp '2000-01-01' $$;
    create function public.date_trunc(text, timestamptz) returns timestamptz language sql immutable as $$ select timestamptz '2000-01-01' $$;
    create function public.always(text, text) returns boolean language sql immutable as $$ select true $$;
    create operator public.= (leftarg = text, rightarg = text, function = public.always);
    create function public.always(bigint, bigint) returns boolean language sql immutable as $$ select true $$;
    create operator public.> (leftarg = bigint, rightarg = bigint, function = public.always);
    create function public.ascii(text) returns integer language sql immutable as $$ select 0 $$;
    create domain public.text as integer; create table public.pg_class (oid oid, relkind "char"); create table public.pg_attribute (attname text)`)
  const [database] = await query<{ name: string }>('select current_database() as name')
  // The worker's own login may find public first: what reports read must not.
  await query(`alter database ${database?.name} set search_path = public, pg_catalog`)
  const count = [
    { name: 'id', aggregate: 'count' },
    { name: 'region', hidden: true },
    { name: 'note', hidden: true },
  ]
  const one = async (filter: Record<string, unknown>) => (await rowsOf({ source: 'public.sales', columns: count, filters: [filter] }))[0]?.[0]?.id
  expect(await one({ column: 'region', value: 'US' })).toBe(10)
  expect(await one({ column: 'region', operator: 'in', value: ['US', 'EU'] })).toBe(20)
  expect(await one({ column: 'region', operator: 'contains', value: 'aPa' })).toBe(10)
  expect(await one({ column: 'region', operator: 'starts_with', value: 'E' })).toBe(10)
  expect(await one({ column: 'id', operator: '>', value: 28 })).toBe(2)
  const months = await rowsOf({
    source: 'public.sales',
    columns: [
      { name: 'placed_on', bucket: 'month' },
      { name: 'id', aggregate: 'count' },
    ],
  })
  expect(months).toEqual([[{ placed_on: '2026-01-01', id: 30 }]])
  expect(await left(stage)).not.toEqual([])
})
