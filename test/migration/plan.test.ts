import { expect, test } from 'vitest'
import { migrateUp, migrationsDir, planMigrations } from '../../src/migrate.ts'
import { lockOf, readLocks } from '../../src/migrate/locks.ts'
import { flatStatements } from '../../src/migrate/sql.ts'
import { runPawl } from '../support/process.ts'
import { openStage, type Stage } from './stage.ts'

const NOTES = { tag: '0000_notes', up: 'create table notes as select n from generate_series(1, 500) n;\n--> statement-breakpoint\nanalyze notes' }
const COLUMN = { tag: '0001_column', up: '-- pawl:destructive\nalter table notes add column text text, drop column n;' }
const INDEX = { tag: '0002_index', up: '-- pawl:no-transaction\ncreate index concurrently if not exists notes_text on notes (text);' }

const plan = (stage: Stage, ...words: string[]) => runPawl(['migrate', 'plan', ...words], stage.url, { env: { PAWL_MIGRATIONS_DIR: stage.dir } })

test('a plan names each pending file in order, its marks and its locks on what is there, and changes nothing', async () => {
  const stage = await openStage()
  await stage.write(NOTES)
  await migrateUp(stage.context)
  await stage.write(NOTES, COLUMN, INDEX)
  const { pending, problems } = await planMigrations(stage.context)
  expect(problems).toEqual([])
  expect(pending).toMatchObject([
    {
      tag: '0001_column',
      destructive: true,
      transactional: true,
      locks: [{ table: 'public.notes', lock: 'ACCESS EXCLUSIVE', stops: 'reads and writes', exists: true, rows: 500 }],
      unknown: [],
      statements: [COLUMN.up],
    },
    {
      tag: '0002_index',
      destructive: false,
      transactional: false,
      locks: [{ table: 'public.notes', lock: 'SHARE UPDATE EXCLUSIVE', stops: null, exists: true, rows: 500 }],
    },
  ])
  expect(await stage.applied()).toEqual(['0000_notes'])
  expect((await plan(stage)).stdout).toBe(
    [
      '2 to apply, in this order:',
      '0001_column (deletes data)',
      '  ACCESS EXCLUSIVE on public.notes (about 500 rows): stops reads and writes',
      '0002_index (without a transaction)',
      '  SHARE UPDATE EXCLUSIVE on public.notes (about 500 rows): reads and writes go on',
      '',
    ].join('\n'),
  )
})

test('a plan does not wait for the lock of another migrator, nor for a table that somebody holds', async () => {
  const stage = await openStage()
  await stage.write(NOTES)
  await migrateUp(stage.context)
  await stage.write(NOTES, COLUMN)
  const migrator = await stage.connect('migrator')
  await migrator.query('select pg_advisory_lock(1885435756, 0); begin; lock table notes in access exclusive mode')
  expect((await planMigrations(stage.context)).pending.map(file => file.tag)).toEqual(['0001_column'])
  // The lock that was held is the one `up` asks for, or this test proves nothing.
  await expect(migrateUp({ ...stage.context, lockWaitMs: 0 })).rejects.toMatchObject({ code: 'migrate.locked' })
})

test('on an empty database every file of the project is pending, locks nothing that is there, and nothing is made', async () => {
  const stage = await openStage()
  const dir = migrationsDir(stage.config)
  const { pending, problems } = await planMigrations({ ...stage.context, dir })
  expect(problems).toEqual([])
  expect(pending[0]?.tag).toBe('0000_engine')
  expect(pending.flatMap(file => file.locks).filter(lock => lock.exists)).toEqual([])
  // Every kind of statement that the project's own files use can be read.
  expect(pending.flatMap(file => file.unknown).filter(what => what.includes('is not read'))).toEqual([])
  expect(await stage.query(`select from pg_namespace where nspname in ('pawl', 'drizzle', 'pgboss')`)).toEqual([])
})

test('the command exits as up does: 0 with nothing pending, 2 where up would refuse, and says both to machines', async () => {
  const stage = await openStage()
  await stage.write(NOTES)
  await migrateUp(stage.context)
  expect(await plan(stage)).toMatchObject({ code: 0, stdout: 'nothing to apply\n' })
  await stage.write({ ...NOTES, up: `${NOTES.up} ` }, COLUMN)
  const refused = await plan(stage, '--json')
  expect(refused.code).toBe(2)
  expect(JSON.parse(refused.stdout)).toMatchObject({ pending: [{ tag: '0001_column' }], problems: [{ tag: '0000_notes', kind: 'edited' }] })
  expect(JSON.parse(refused.stdout).pending[0]).not.toHaveProperty('statements')
  const said = await plan(stage, '--sql')
  expect(said).toMatchObject({ code: 2, stdout: expect.stringContaining('up would refuse, and change nothing:\n  0000_notes: ') })
  expect(said.stdout).toContain(`\n${COLUMN.up}\n`)
})

test.each([
  ['alter table a add column b int', 'public.a ACCESS EXCLUSIVE'],
  ['alter table if exists only "A b".c validate constraint d', '"A b".c SHARE UPDATE EXCLUSIVE'],
  ['alter table a validate constraint b, add column c int', 'public.a ACCESS EXCLUSIVE'],
  ['alter table a add foreign key (b) references c (d) not valid', 'public.a SHARE ROW EXCLUSIVE, public.c SHARE ROW EXCLUSIVE'],
  ['alter table a attach partition b for values from (1) to (2)', 'public.a SHARE UPDATE EXCLUSIVE, public.b ACCESS EXCLUSIVE'],
  ['create table a (b int references sqp.c)', 'sqp.c SHARE ROW EXCLUSIVE'],
  ['create table a partition of b for values from (1) to (2)', 'public.b ACCESS EXCLUSIVE'],
  ['create unique index if not exists a on only public.b (c)', 'public.b SHARE'],
  ['create index concurrently a on b (c)', 'public.b SHARE UPDATE EXCLUSIVE'],
  ['create trigger a after insert on b for each row execute function c()', 'public.b SHARE ROW EXCLUSIVE'],
  ['drop trigger if exists a on b', 'public.b ACCESS EXCLUSIVE'],
  ['drop table if exists a, sqp.b', 'public.a ACCESS EXCLUSIVE, sqp.b ACCESS EXCLUSIVE'],
  ['truncate a restart identity', 'public.a ACCESS EXCLUSIVE'],
  ['lock table a in share row exclusive mode nowait', 'public.a SHARE ROW EXCLUSIVE'],
  ['lock a', 'public.a ACCESS EXCLUSIVE'],
  ['refresh materialized view concurrently a', 'public.a EXCLUSIVE'],
  ['update a set b = 1', 'public.a ROW EXCLUSIVE'],
  ['create function a() returns int language sql begin atomic select 1; end', ''],
  ['grant select on a to b', ''],
])('%j locks %j', (sql, expected) => {
  const { locks, unknown } = readLocks(sql)
  expect(locks.map(({ table, lock }) => `${table} ${lock}`).join(', ')).toBe(expected)
  expect(unknown).toEqual([])
})

test('what PostgreSQL really locks is what the reading says', async () => {
  const stage = await openStage()
  await stage.query(`create table a (id int primary key, n int); create table b (id int primary key, a int);
    alter table b add constraint checked check (id > 0) not valid; create materialized view m as select 1 as n; create unique index on m (n);
    create function f() returns trigger language plpgsql as 'begin return new; end'; create table p (id int) partition by range (id)`)
  const session = await stage.connect('session')
  const [backend] = await session.query<{ pid: number }>('select pg_backend_pid() as pid')
  const statements = [
    'alter table a add column c int',
    'alter table a alter column n set statistics 10',
    'alter table a set (fillfactor = 50)',
    'alter table a alter column n set (n_distinct = 5)',
    'alter table b validate constraint checked',
    'alter table b add foreign key (a) references a (id) not valid',
    'alter table b disable trigger all',
    'create table c (a int references a (id))',
    'create table q partition of p for values from (1) to (2)',
    'create index on a (n)',
    'create trigger t after insert on a for each row execute function f()',
    'truncate b',
    'drop table b',
    'lock table a in exclusive mode',
    'refresh materialized view m',
    'refresh materialized view concurrently m',
    'comment on table a is $$x$$',
    'delete from b',
  ]
  for (const sql of statements) {
    await session.query(`begin; ${sql}`)
    // Asked from outside, where a table that was dropped still has its name.
    const held = await stage.query<{ name: string; mode: string }>(
      `
      select format('public.%s', relname) as name, replace(upper(regexp_replace(mode, '([a-z])([A-Z])', '\\1 \\2', 'g')), ' LOCK', '') as mode
      from pg_locks l join pg_class c on c.oid = l.relation
      where l.pid = $1 and locktype = 'relation' and relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'm')`,
      [backend?.pid],
    )
    await session.query('rollback')
    for (const { table, lock } of readLocks(sql).locks) {
      expect(held, sql).toContainEqual({ name: table, mode: lock })
    }
    // Nothing that stops a reader or a writer goes unsaid, on what was there before.
    const strong = held.filter(
      row => ['a', 'b', 'm', 'p'].includes(row.name.slice(7)) && /^(ACCESS EXCLUSIVE|SHARE|SHARE ROW EXCLUSIVE|EXCLUSIVE)$/.test(row.mode),
    )
    const said = readLocks(sql).locks.map(lock => lock.table)
    for (const row of strong) expect(said, `${sql}: ${row.name} ${row.mode}`).toContain(row.name)
  }
})

test('what the text does not say is said to be unknown, by line', () => {
  const text = `-- why\nselect 1;\nselect f(1);\ndo $$\nbegin\n  if true then\n    execute format('alter table %I', 'x');\n  end if;\n  alter table b add c int;\nend\n$$;\nvacuum a`
  expect(readLocks(text)).toEqual({
    locks: [{ table: 'public.b', lock: 'ACCESS EXCLUSIVE' }],
    unknown: ['line 3: calls functions, which may lock anything', 'line 7: runs SQL that is put together at run time', 'line 12: "vacuum a" is not read'],
  })
  expect(lockOf('drop index a').unknown).toContain('the table of a')
  expect(lockOf('drop function a() cascade').unknown).toContain('is not read')
})

test("a table that the file itself makes is nobody else's to wait for, but one that may have been there is", () => {
  expect(readLocks('create table a (); alter table a add b int; create index on a (b)').locks).toEqual([])
  expect(readLocks('create table if not exists a (); create index on a (b)').locks).toEqual([{ table: 'public.a', lock: 'SHARE' }])
})

test('comments, strings and bodies are no statements, and semicolons in them cut nothing', () => {
  const text = `/* drop table a; */ insert into a values ('; truncate b;', E'\\'; lock c'); -- drop table d;
create function e() returns void language plpgsql as $x$ begin drop table f; end $x$;
--> statement-breakpoint
select $$;$$, "odd;name" from g`
  expect(flatStatements(text).map(({ line, code }) => [line, code])).toEqual([
    [1, "insert into a values ('', '')"],
    [2, "create function e() returns void language plpgsql as ''"],
    [4, `select '', "odd;name" from g`],
  ])
})
