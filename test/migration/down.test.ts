import { expect, test } from 'vitest'
import { migrateDown, migrateUp, migrationStatus } from '../../src/migrate.ts'
import { catalog } from './catalog.ts'
import { openStage } from './stage.ts'

const FIRST = {
  tag: '0000_first',
  up: `create type mood as enum ('good', 'bad');\n--> statement-breakpoint\ncreate table people (id integer primary key, mood mood not null);`,
  down: '-- pawl:destructive\ndrop table people;\n--> statement-breakpoint\ndrop type mood;',
}
const SECOND = {
  tag: '0001_second',
  up: `alter table people add column name text check (name <> '');\n--> statement-breakpoint
create function shout() returns trigger language plpgsql as $$ begin new.name = upper(new.name); return new; end $$;\n--> statement-breakpoint
create trigger people_shout before insert on people for each row execute function shout();`,
  down: 'drop trigger people_shout on people;\n--> statement-breakpoint\ndrop function shout();\n--> statement-breakpoint\nalter table people drop column name;',
}

test('up, down, up: the structure is the same each time, and so are the ledgers', async () => {
  const stage = await openStage()
  await stage.write(FIRST, SECOND)
  await migrateUp(stage.context, { to: '0000_first' })
  const one = await catalog(stage.query)
  await migrateUp(stage.context)
  const two = await catalog(stage.query)
  expect(two).not.toEqual(one)
  expect((await migrateDown(stage.context)).map(move => move.tag)).toEqual(['0001_second'])
  expect(await catalog(stage.query)).toEqual(one)
  expect((await migrationStatus(stage.context)).map(state => state.state)).toEqual(['applied', 'pending'])
  expect(await stage.query('select created_at from drizzle.__drizzle_migrations')).toEqual([{ created_at: 1_700_000_000_000 }])
  await migrateUp(stage.context)
  expect(await catalog(stage.query)).toEqual(two)
})

test('several steps go back newest first, and past the first migration there is nothing', async () => {
  const stage = await openStage()
  await stage.write(FIRST, SECOND)
  await migrateUp(stage.context)
  expect((await migrateDown(stage.context, { steps: 9, allowDataLoss: true })).map(move => move.tag)).toEqual(['0001_second', '0000_first'])
  expect(await migrateDown(stage.context)).toEqual([])
  expect(await stage.query('select from drizzle.__drizzle_migrations')).toEqual([])
})

test('a step that deletes data needs to be allowed, and without that no step is taken', async () => {
  const stage = await openStage()
  await stage.write(FIRST, SECOND)
  await migrateUp(stage.context)
  const before = await catalog(stage.query)
  await expect(migrateDown(stage.context, { steps: 2 })).rejects.toMatchObject({ code: 'migrate.destructive', message: expect.stringContaining('0000_first') })
  expect(await catalog(stage.query)).toEqual(before)
  expect(await stage.applied()).toEqual(['0000_first', '0001_second'])
})

test('a down file that was edited since is refused', async () => {
  const stage = await openStage()
  await stage.write(FIRST, SECOND)
  await migrateUp(stage.context)
  await stage.write(FIRST, { ...SECOND, down: 'drop table people cascade' })
  await expect(migrateDown(stage.context)).rejects.toMatchObject({ code: 'migrate.refused', problems: [{ kind: 'down_edited', tag: '0001_second' }] })
  await stage.write(FIRST)
  await expect(migrateDown(stage.context)).rejects.toMatchObject({ code: 'migrate.refused', problems: [{ kind: 'missing', tag: '0001_second' }] })
  expect(await stage.applied()).toEqual(['0000_first', '0001_second'])
})

test('a down file that fails leaves its migration applied', async () => {
  const stage = await openStage()
  await stage.write(FIRST, { ...SECOND, down: 'drop trigger people_shout on people;\n--> statement-breakpoint\nselect 1 / 0' })
  await migrateUp(stage.context)
  const before = await catalog(stage.query)
  await expect(migrateDown(stage.context)).rejects.toMatchObject({ code: 'migrate.failed', message: expect.stringContaining('line 3: division by zero') })
  expect(await catalog(stage.query)).toEqual(before)
  expect(await stage.applied()).toEqual(['0000_first', '0001_second'])
})

test('an up file that is being written may go back and forth while its down file stays', async () => {
  const stage = await openStage()
  await stage.write(FIRST)
  await migrateUp(stage.context)
  await stage.write({ ...FIRST, up: `${FIRST.up}\n--> statement-breakpoint\nalter table people add column age integer` })
  await expect(migrateUp(stage.context)).rejects.toMatchObject({ code: 'migrate.refused' })
  await migrateDown(stage.context, { allowDataLoss: true })
  await migrateUp(stage.context)
  expect(await stage.query('select age from people')).toEqual([])
})
