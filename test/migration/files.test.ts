import { readMigrationFiles } from 'drizzle-orm/migrator'
import { expect, test } from 'vitest'
import { concurrentIndex } from '../../src/migrate/apply.ts'
import { parseFile, readMigrations } from '../../src/migrate/files.ts'
import { openStage } from './stage.ts'

test('a file is cut where drizzle cuts it, and each statement knows its line', () => {
  const file = parseFile('-- why\ncreate table a ();\n--> statement-breakpoint\n\ncreate table b ();\n--> statement-breakpoint\n')
  expect(file.statements).toEqual([
    { text: '-- why\ncreate table a ();', line: 1 },
    { text: 'create table b ();', line: 5 },
  ])
})

test('the checksum is the hash drizzle computes, whatever the file holds', async () => {
  const stage = await openStage()
  await stage.write({ tag: '0000_plain', up: 'select 1' }, { tag: '0001_odd', up: "\uFEFFselect 'ä€😀';\r\n--> statement-breakpoint\r\nselect 2;\r\n\r\n" })
  const ours = (await readMigrations(stage.dir)).entries.map(entry => entry.up?.checksum)
  expect(ours).toEqual(readMigrationFiles({ migrationsFolder: stage.dir }).map(file => file.hash))
})

test.each([
  ['-- pawl:no-transaction\nselect 1', false],
  ['-- Locks: none\n\n--pawl: no-transaction\r\nselect 1', false],
  ['\uFEFF-- pawl:no-transaction', false],
  ['select 1\n-- pawl:no-transaction', true],
  ['--> statement-breakpoint\n-- pawl:no-transaction', true],
  ['-- mentions pawl:no-transaction in passing', true],
])('a directive counts in the opening comment only: %j', (text, transactional) => {
  expect(parseFile(text).transactional).toBe(transactional)
})

test.each([
  ['begin; create table a (); commit;', 'begin'],
  ['create table a ();\n  Commit ;', 'commit'],
  ['select 1; start\n transaction', 'start\n transaction'],
  ['-- pawl:no-transactoin\nselect 1', 'no-transactoin'],
])('a file that cannot run safely is refused before it runs: %j', async (up, named) => {
  const stage = await openStage()
  await stage.write({ tag: '0000_bad', up })
  const { problems } = await readMigrations(stage.dir)
  expect(problems).toMatchObject([{ kind: 'malformed', tag: '0000_bad' }])
  expect(problems[0]?.message).toContain(named)
})

test.each([
  ['create function f() returns void language plpgsql as $body$ begin; commit; end $body$;'],
  [`comment on table a is 'first; commit; then; begin it''s; rollback'`],
  [`select E'it\\'s; commit; '; select 'begin'`],
  ['-- ; commit;\nselect 1; /* ; rollback; */ select "x; commit;"'],
  ['create function f() returns int begin atomic select 1; end'],
  ['create table committed (); create table beginning ()'],
  ['-- pawl:no-transaction\nbegin; select 1; commit'],
])('words that only look like transaction control are let through: %j', async up => {
  const stage = await openStage()
  await stage.write({ tag: '0000_good', up })
  expect((await readMigrations(stage.dir)).problems).toEqual([])
})

test.each([
  ['create index concurrently a_b on a (b)', { name: 'a_b', table: 'a' }],
  ['CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS A_B ON ONLY public.A USING btree (b)', { name: 'a_b', table: 'public.A' }],
  ['-- why\n/* and how */ create index concurrently "A ""b""" on "S"."T" (b)', { name: 'A "b"', table: '"S"."T"' }],
  ['create index a_b on a (b)', undefined],
  ['drop index concurrently a_b', undefined],
])('the index that %j builds is known', (text, index) => {
  expect(concurrentIndex(text)).toEqual(index)
})
