import { expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { migrationsDir } from '../../src/migrate.ts'
import { parseFile, readMigrations } from '../../src/migrate/files.ts'
import { type Finding, lint, lintDown, lintUp, type Rule } from './lint.ts'
import { openStage } from './stage.ts'

const SMALL = 'a handful of rows, whoever brought them'
const OURS = 'made by the file before it, and empty when both are applied to a new database'
const WAY_BACK = 'its own up file has made or adopted every one of them; a missing one is worth an error'

/** What was looked at and agreed to. A new file that does such a thing needs a line of its own here, with its reason. */
const EXCEPTIONS: [tag: string, rule: Rule, about: string, reason: string][] = [
  ['0000_engine', 'runs-made-sql', 'a do block', 'create role, which belongs to the cluster'],
  ['0001_create_override_tables', 'runs-made-sql', 'a do block', 'comments, and ADD COLUMN with a constant default where a host lacks it'],
  [
    '0001_create_override_tables',
    'routine-left-executable',
    'public.get_override_operation_progress',
    'reads with the rights of who calls it, as document 000 has it',
  ],
  ['0005_create_campaign_lifecycle_tables', 'rename', 'public.campaign_state_log*', 'the printed log becomes partitioned, and its rows are carried over'],
  ['0005_create_campaign_lifecycle_tables', 'drop', 'public.campaign_state_log_printed', 'its rows were copied two statements before, in the same transaction'],
  ['0005_create_campaign_lifecycle_tables', 'drop', 'public.mv_*', 'they hold nothing of their own, and 0014 makes better ones'],
  ['down/0005_create_campaign_lifecycle_tables', 'down-not-repeatable', 'public.*', WAY_BACK],
  ['down/0006_campaign_timers', 'down-not-repeatable', 'public.campaign_timers', WAY_BACK],
  ['0007_create_daily_refresh_system', 'runs-made-sql', 'a do block', 'SET NOT NULL after its own check, and the one rewrite that the header names'],
  ['0007_create_daily_refresh_system', 'rows-changed-beside-ddl', 'sqp.*', SMALL],
  ['0007_create_daily_refresh_system', 'constraint-scans', 'sqp.*', SMALL],
  ['down/0007_create_daily_refresh_system', 'down-not-repeatable', 'sqp.*', WAY_BACK],
  ['0010_add_template_versioning', 'rows-changed-beside-ddl', 'reporting.templates', OURS],
  ['0010_add_template_versioning', 'constraint-scans', 'reporting.templates', OURS],
  ['0010_add_template_versioning', 'unique-builds-index', 'reporting.templates', OURS],
  ['0010_add_template_versioning', 'index-blocks-writes', 'reporting.templates', OURS],
  ['0018_console', 'runs-made-sql', 'a do block', 'grants to our roles, object by object'],
]

const excuses = ({ tag, rule, about }: Finding, [itsTag, itsRule, itsAbout]: (typeof EXCEPTIONS)[number]) =>
  tag === itsTag && rule === itsRule && (itsAbout.endsWith('*') ? about.startsWith(itsAbout.slice(0, -1)) : about === itsAbout)

test("the project's migrations do nothing that nobody agreed to, and each exception is still needed", async () => {
  const found = lint(await readMigrations(migrationsDir(readConfig({}))))
  const told = ({ tag, rule, about, line }: Finding) => `${tag}.sql:${line} ${rule} ${about}`
  expect(found.filter(finding => !EXCEPTIONS.some(exception => excuses(finding, exception))).map(told)).toEqual([])
  expect(EXCEPTIONS.filter(exception => !found.some(finding => excuses(finding, exception)))).toEqual([])
})

const up = (sql: string) => lintUp(parseFile(`-- What it is for.\n${sql}`)).map(({ rule, about }) => `${rule} ${about}`)
const T = 'public.recipients'

test.each<[Rule, string, string]>([
  ['not-null-without-default', `alter table ${T} add column a int not null`, `alter table ${T} add column a int not null default 1`],
  ['volatile-default', `alter table ${T} add a uuid default gen_random_uuid()`, `alter table ${T} add a timestamptz default now()`],
  ['volatile-default', `alter table ${T} add column a bigserial`, `alter table ${T} alter column a set default gen_random_uuid()`],
  ['type-change', `alter table ${T} alter column a type bigint`, `alter table ${T} alter column type set default 1`],
  ['type-change', `alter table ${T} alter a set data type text`, `create table a (type int)`],
  ['rename', `alter table ${T} rename column a to b`, `create table a (); alter table a rename to b`],
  ['drop', `alter table ${T} drop column if exists a`, `alter table ${T} drop constraint a`],
  ['drop', `drop table if exists ${T} cascade`, `create table public.a (); drop table a`],
  ['constraint-scans', `alter table ${T} add constraint a check (b > 0)`, `alter table ${T} add constraint a check (b > 0) not valid`],
  ['constraint-scans', `alter table ${T} add foreign key (a) references b (c)`, `alter table ${T} add column a int references b (c)`],
  ['constraint-scans', `alter table ${T} add column a int default 1 references b (c)`, `create table a (b int references b (c))`],
  ['unique-builds-index', `alter table ${T} add constraint a unique (b)`, `alter table ${T} add constraint a unique using index b`],
  ['unique-builds-index', `alter table ${T} add column a int primary key`, `create table a (b int primary key)`],
  ['index-blocks-writes', `create index a on ${T} (b)`, `create index concurrently a on ${T} (b)`],
  ['index-blocks-writes', `create table if not exists ${T} (b int); create index a on ${T} (b)`, `create table ${T} (b int); create index a on ${T} (b)`],
  ['index-blocks-writes', `-- pawl:lock\ncreate unique index a on ${T} (b)`, `-- pawl:lock the column is still empty\ncreate unique index a on ${T} (b)`],
  [
    'set-not-null-scans',
    `alter table ${T} alter column a set not null`,
    `alter table ${T} add constraint b check (a is not null) not valid; alter table ${T} validate constraint b; alter table ${T} alter column a set not null`,
  ],
  ['lock-table', `lock table ${T} in share mode`, `select 'lock table ${T}'`],
  ['truncate', `truncate table ${T} restart identity cascade`, `-- truncate ${T}\nselect 1`],
  ['rows-changed-beside-ddl', `alter table ${T} add a int; update ${T} set a = 1`, `update ${T} set a = 1`],
  ['rows-changed-beside-ddl', `delete from ${T}; create index a on ${T} (b)`, `create table a (); delete from a; create index b on a (c)`],
  [
    'validated-under-ddl-lock',
    `alter table ${T} add check (a > 0) not valid; alter table ${T} validate constraint b`,
    `alter table ${T} validate constraint b; alter table categories add c int`,
  ],
  [
    'runs-made-sql',
    `do $$ begin execute format('drop table %I', 'a'); end $$`,
    `create function f() returns void language sql as $$ execute $$; ${'revoke execute on function f() from public'}`,
  ],
  [
    'routine-left-executable',
    `create function pawl.f() returns int language sql as 'select 1'`,
    `create function pawl.f() returns int language sql as 'select 1'; revoke execute on all routines in schema pawl from public`,
  ],
  [
    'routine-left-executable',
    `revoke execute on function f(int) from public; create or replace procedure f(a int) language sql as ''`,
    `create or replace procedure f(a int) language sql as ''; revoke execute on procedure g(), f(int) from public`,
  ],
])('%s: %j is found, %j is not', (rule, bad, good) => {
  expect(up(bad).some(found => found.startsWith(`${rule} `))).toBe(true)
  expect(up(good).filter(found => found.startsWith(`${rule} `))).toEqual([])
})

test('a statement inside a do block is read like any other, and the finding names its line', () => {
  const file = parseFile(`-- Why.\ndo $$\nbegin\n  if true then\n    alter table ${T} drop column a;\n  end if;\nend\n$$`)
  expect(lintUp(file)).toEqual([{ rule: 'drop', about: T, line: 5 }])
})

test('an index may be built under a lock that the header tells of', () => {
  expect(lintUp(parseFile(`-- What. Locks: the index is built\n-- under SHARE.\ncreate index a on ${T} (b)`))).toEqual([])
  expect(lintUp(parseFile(`-- What. Locks: none.\ncreate index a on ${T} (b)`))).toHaveLength(1)
})

test('a lock may be explained in the opening comment as well: the runner takes it for no mistake', async () => {
  const stage = await openStage()
  await stage.write({ tag: '0000_locks', up: `-- What it is for.\n-- pawl:lock few rows\ncreate index a on ${T} (b)`, down: '-- Back.' })
  const migrations = await readMigrations(stage.dir)
  expect(migrations.problems).toEqual([])
  expect(lint(migrations)).toEqual([])
})

test('a file without a header and an up without a down are found', () => {
  const files = { up: parseFile('select 1'), down: undefined }
  expect(lint({ entries: [{ tag: '0042_bare', when: 1, ...files }], problems: [] })).toMatchObject([
    { tag: '0042_bare', rule: 'header' },
    { tag: '0042_bare', rule: 'no-down' },
  ])
})

test.each([
  [`drop table ${T}`, `drop table if exists ${T}`],
  ['drop table a, users', 'drop table a'],
  [`alter table ${T} drop column a`, `alter table ${T} drop column if exists a`],
  [`alter table ${T} drop constraint if exists a, drop constraint b`, `alter table ${T} drop constraint if exists a`],
  [`drop trigger a on ${T}`, `drop trigger if exists a on ${T}`],
  ['drop index of_adopted', 'drop index of_ours'],
  ['drop index concurrently public.of_adopted', 'drop index concurrently if exists public.of_adopted'],
])('on the way back %j is found, %j is not', (bad, good) => {
  const its = parseFile(`create index if not exists of_adopted on ${T} (a); create index of_ours on pawl.lanes (a)`)
  const rules = (sql: string) => lintDown(parseFile(sql), its).map(found => found.rule)
  expect(rules(bad)).toEqual(['down-not-repeatable'])
  expect(rules(good)).toEqual([])
})
