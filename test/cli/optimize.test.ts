import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { runPawl } from '../support/process.ts'
import { until } from '../support/until.ts'

type Outcome = { statement: string; outcome: string; error?: string; left?: string[] }

/** At the end of its transaction a session tells what it changed; else within a second or so, and then after the ANALYZE. */
const COUNTED = 'select pg_stat_force_next_flush()'

let db: TestDatabase

beforeEach(async () => {
  db = await createDatabase()
  // A parent and a child that lacks the index of its foreign key; 5,000 rows, analyzed.
  await db.query('create table public.parent (id integer primary key); create table public.child (id integer primary key, parent_id integer, word text)')
  await db.query(`
    insert into public.parent select generate_series(1, 100);
    insert into public.child select i, 1 + i % 100, 'word ' || i % 1000 from generate_series(1, 5000) i;
    alter table public.child add foreign key (parent_id) references public.parent;
    create index child_word on public.child (word); create index child_word_2 on public.child (word);
    ${COUNTED}`)
  await db.query('analyze public.child, public.parent')
})
afterEach(() => db.drop())

const optimize = (...words: string[]) => runPawl(['optimize', ...words], db.url)

async function applied(...words: string[]): Promise<{ code: number | null; outcomes: Outcome[]; advised: { index: string }[]; beyond_limit: number }> {
  const { code, stdout } = await optimize('--apply', '--json', ...words)
  return { code, ...JSON.parse(stdout) }
}

/** A session of somebody else. */
async function session(name: string) {
  const connection = await connectDirect(readConfig({ DATABASE_URL: db.url }), name)
  onTestFinished(() => connection.close())
  return connection
}

const indexes = async () =>
  (
    await db.query<{ name: string }>(
      `select relname::text as name from pg_index join pg_class c on c.oid = indexrelid where indrelid = 'public.child'::regclass order by 1`,
    )
  ).map(row => row.name)
const invalid = () => db.query('select relname::text as name from pg_index join pg_class c on c.oid = indexrelid where not (indisvalid and indisready)')

test('without --apply it tells what it found and changes nothing', async () => {
  const before = await indexes()
  const people = await optimize()
  expect(people.code).toBe(3)
  expect(people.stdout).toMatch(/^finding +certain +relation +index +bytes +reason +statement\n/)
  expect(people.stdout).toMatch(/foreign key +true +public\.child .* create index concurrently child_parent_id_\d+_fkey_idx on public\.child \(parent_id\)/)
  expect(people.stdout).toMatch(/duplicate +true +public\.child +public\.child_word_2 .* the same as public\.child_word /)
  expect(people.stderr).toMatch(/^nothing was changed; pawl optimize --apply would run 1 of these/)
  const machine = await optimize('--json')
  expect([machine.code, machine.stderr]).toEqual([3, ''])
  expect(JSON.parse(machine.stdout)).toMatchObject({
    mendable: 1,
    findings: expect.arrayContaining([expect.objectContaining({ finding: 'foreign key', certain: true })]),
  })
  expect(await indexes()).toEqual(before)
})

test('--apply builds, rebuilds, drops leftovers and analyzes, within its limit, and never drops an index that works', async () => {
  await expect(db.query('create unique index concurrently child_broken on public.child (parent_id, word)')).rejects.toMatchObject({ code: '23505' })
  await expect(db.query('create unique index concurrently child_word_ccnew on public.child (parent_id, word)')).rejects.toMatchObject({ code: '23505' })
  // What made the build fail is mended.
  await db.query(`create table public.fresh (a integer) with (autovacuum_enabled = off); delete from public.child where id > 1000; ${COUNTED}`)
  await db.query(`insert into public.fresh select generate_series(1, 1000); ${COUNTED}`)
  await db.query('analyze public.child')

  const first = await applied('--limit', '2')
  expect(first.code).toBe(3)
  expect(first.outcomes.map(({ statement, outcome }) => [statement, outcome]).sort()).toEqual([
    ['drop index concurrently public.child_word_ccnew', 'applied'],
    ['reindex index concurrently public.child_broken', 'applied'],
  ])
  expect(first.beyond_limit).toBe(1)
  expect(first.advised).toContainEqual(expect.objectContaining({ index: 'public.child_word_2' }))
  const second = await applied()
  expect([second.code, second.beyond_limit]).toEqual([0, 0])
  expect(second.outcomes).toEqual([{ statement: 'analyze public.fresh', outcome: 'applied' }])
  expect(await invalid()).toEqual([])
  expect(await indexes()).toEqual(['child_broken', 'child_pkey', 'child_word', 'child_word_2'])
  const third = await optimize('--apply')
  expect([third.code, third.stdout]).toEqual([0, 'nothing to apply\n'])
  expect(third.stderr).toMatch(/findings are advice only/)
})

test('a rebuild that fails leaves behind no more than there was', async () => {
  await expect(db.query('create unique index concurrently child_broken on public.child (parent_id, word)')).rejects.toMatchObject({ code: '23505' })
  const { code, outcomes } = await applied()
  expect(code).toBe(1)
  expect(outcomes).toMatchObject([
    { statement: 'reindex index concurrently public.child_broken', outcome: 'failed', error: expect.stringContaining('could not create unique index') },
  ])
  expect(outcomes[0]?.left).toBeUndefined()
  expect(await invalid()).toEqual([{ name: 'child_broken' }])
})

test('a table that is locked is left alone after three seconds', async () => {
  const other = await session('other')
  await other.query('begin; lock table public.child in share update exclusive mode')
  const { code, outcomes } = await applied()
  expect(code).toBe(1)
  expect(outcomes).toMatchObject([{ outcome: 'failed', error: expect.stringContaining('lock timeout') }])
  // Even the report reads how large the indexes are, which takes a lock that everyone's SELECT takes.
  await other.query('lock table public.child in access exclusive mode')
  const behind = await optimize('--apply')
  expect([behind.code, behind.stderr]).toEqual([1, expect.stringContaining('lock timeout')])
  await other.query('rollback')
  expect(await invalid()).toEqual([])
  expect(await applied()).toMatchObject({ code: 0, outcomes: [{ outcome: 'applied' }] })
})

test('a build that a writer holds up is given up, and what it left invalid is dropped as soon as the writer ends', async () => {
  const writer = await session('writer')
  await writer.query(`begin; update public.child set word = 'held' where id = 1`)
  const running = applied()
  await until('the index stands there invalid', async () => (await invalid()).length > 0)
  await until(
    'it is being dropped',
    async () => (await db.query(`select from pg_stat_activity where application_name = 'pawl optimize' and query like 'drop index concurrently%'`))[0],
  )
  await writer.query('commit')
  const { code, outcomes } = await running
  expect(code).toBe(1)
  expect(outcomes).toMatchObject([{ outcome: 'failed', error: expect.stringContaining('lock timeout') }])
  expect(outcomes[0]?.left).toBeUndefined()
  expect(await invalid()).toEqual([])
  expect(await indexes()).toEqual(['child_pkey', 'child_word', 'child_word_2'])
})

test('two do not work at once, and a limit is a number', async () => {
  const other = await session('other')
  await other.query(`select pg_advisory_lock(hashtextextended('pawl optimize', 0))`)
  const { code, stderr } = await optimize('--apply')
  expect([code, stderr]).toEqual([2, expect.stringContaining('another "pawl optimize --apply" is at work')])
  for (const limit of ['0', 'many']) expect((await optimize('--apply', '--limit', limit)).code).toBe(2)
  expect(await indexes()).toEqual(['child_pkey', 'child_word', 'child_word_2'])
})
