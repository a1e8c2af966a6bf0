import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'

type Row = { finding: string; certain: boolean; relation: string; index: string | null; reason: string; statement: string | null }

let db: TestDatabase

beforeAll(async () => {
  db = await createDatabase()
  // The role's own name is a schema here, and would come first.
  const setting = await connectDirect(readConfig({ DATABASE_URL: db.url }), 'setting')
  await setting.query(`do $$ begin execute format('alter database %I set search_path to public', current_database()); end $$`)
  await setting.close()
})
afterAll(() => db.drop())

/** What the report says of the tables whose names begin so. */
function report(prefix: string, watch: string | null = '30 days'): Promise<Row[]> {
  const sql = 'select finding, certain, relation, index, reason, statement from pawl.index_report($2) where starts_with(relation, $1)'
  return db.query<Row>(sql, [`public.${prefix}`, watch])
}

/** As `finding index`, sorted. */
async function named(prefix: string, watch?: string): Promise<string[]> {
  const rows = await report(prefix, watch)
  return rows.map(row => `${row.finding} ${row.index?.replace('public.', '') ?? row.relation}`).sort()
}

/** At the end of its transaction a session tells what it changed; else within a second or so, and then after the ANALYZE. */
const COUNTED = 'select pg_stat_force_next_flush()'

/** Five thousand rows, analyzed: enough for an index of 64 kB and for foreign keys. */
async function addTable(name: string, more = ''): Promise<void> {
  await db.query(`create table ${name} (id integer, a integer not null, b integer, c text)`)
  await db.query(`insert into ${name} select i, i, i % 100, 'word ' || i from generate_series(1, 5000) i; ${COUNTED}`)
  await db.query(`${more}; analyze ${name}`)
}

test('an index that nobody scans is unknown while the statistics or the weekly reports are young, and certain after', async () => {
  await addTable('idle', 'create index idle_a on idle (a); create index idle_small on idle (b) where b > 1000')
  expect(await report('idle')).toEqual([
    {
      finding: 'unused',
      certain: false,
      relation: 'public.idle',
      index: 'public.idle_a',
      reason: 'unknown: the statistics are only 0 days old',
      statement: null,
    },
  ])
  // The statistics are older than no time at all; but did the index stand there as long?
  expect(await report('idle', '0 seconds')).toMatchObject([{ certain: false, reason: 'unknown: the weekly report has watched it for only 0 days' }])
  await db.query('select pawl.log_index_report()')
  expect(await report('idle', '0 seconds')).toMatchObject([
    {
      certain: true,
      reason: expect.stringMatching(/^not scanned once since \d{4}-\d\d-\d\d$/),
      statement: 'drop index concurrently public.idle_a',
    },
  ])
  for (const watch of ['178000000 years', null]) expect(await report('idle', watch)).toMatchObject([{ certain: false }])
  // The same numbers out of a dump of another database prove nothing.
  await db.query(`update public.system_maintenance_log set details = jsonb_set(details, '{database}', '"1"') where operation = 'index_report'`)
  expect(await report('idle', '0 seconds')).toMatchObject([{ certain: false }])
})

test('one scan clears an index', async () => {
  await addTable('busy', 'create index busy_a on busy (a)')
  expect(await named('busy')).toEqual(['unused busy_a'])
  await db.transact(async query => {
    await query('set local enable_seqscan = off')
    expect(await query('select id from busy where a = 7')).toEqual([{ id: 7 }])
    await query(COUNTED)
  })
  expect(await named('busy')).toEqual([])
})

test('an index that serves more than queries is never called unused', async () => {
  await addTable(
    'held',
    `alter table held add primary key (id); alter table held add constraint held_b_excluded exclude using btree (a with =);
     create unique index held_unique on held (c, a); create unique index held_identity on held (a, id); alter table held replica identity using index held_identity;
     create index held_clustered on held (b, c); alter table held cluster on held_clustered; create index held_control on held (c)`,
  )
  await addTable('holder', 'alter table holder add foreign key (a, id) references held (a, id); create index holder_fk on holder (id, a, c)')
  // The control shows that it is the exemption, not the size, that keeps the others out. It leads held_unique, so it is needless anyway.
  expect(await named('held')).toEqual(['prefix held_control'])
  expect(await named('holder')).toEqual([])
  await db.query('drop index held_unique; alter table holder drop constraint holder_a_id_fkey; alter table held set without cluster')
  expect([...(await named('held')), ...(await named('holder'))]).toEqual(['unused held_clustered', 'unused held_control', 'unused holder_fk'])
})

test('an expression may feed the planner, so its index is never certain to be unused', async () => {
  await addTable('spoken', 'create index spoken_lower on spoken (lower(c))')
  await db.query('select pawl.log_index_report()')
  expect(await report('spoken', '0 seconds')).toMatchObject([{ finding: 'unused', certain: false, reason: expect.stringContaining('expression') }])
})

test('of a partitioned table the whole decides: a scan of one partition clears the index, and no partition is named', async () => {
  await db.query(
    'create table parted (a integer, b integer) partition by range (a); create table parted_1 partition of parted for values from (0) to (5000); create table parted_2 partition of parted for values from (5000) to (10000)',
  )
  await db.query('insert into parted select i, i from generate_series(0, 9999) i; create index parted_b on parted (b); select pg_stat_force_next_flush()')
  await db.query('analyze parted')
  expect(await report('parted')).toMatchObject([{ finding: 'unused', certain: false, relation: 'public.parted', index: 'public.parted_b' }])
  await db.query('select pawl.log_index_report()')
  // Even when it is beyond doubt there is no statement: PostgreSQL can't drop it concurrently.
  expect(await report('parted', '0 seconds')).toMatchObject([{ certain: false, statement: null, reason: expect.stringMatching(/on no partition; .* lock/) }])
  await db.transact(async query => {
    await query('set local enable_seqscan = off')
    await query('select from parted_2 where b = 9000')
    await query(COUNTED)
  })
  expect(await named('parted')).toEqual([])
})

test('the same index twice is a duplicate, and what differs in anything is not', async () => {
  await addTable(
    'twice',
    `create index twice_1 on twice (a, b desc) include (c); create index twice_2 on twice (a, b desc) include (c);
     create index twice_order on twice (a desc, b); create index twice_hash on twice using hash (a); create index twice_where on twice (a, b desc) include (c) where b > 5;
     create index twice_class on twice (c text_pattern_ops); create index twice_collation on twice (c collate "C"); create index twice_c on twice (c);
     create unique index twice_unique on twice (id); create index twice_plain on twice (id); create index twice_lower on twice (lower(c)); create index twice_lower_2 on twice (lower(c))`,
  )
  const doubled = (await report('twice')).filter(row => row.finding !== 'unused')
  expect(doubled.map(row => [row.finding, row.index, row.certain, row.statement]).sort()).toEqual(
    ['twice_2', 'twice_lower_2', 'twice_plain'].map(name => ['duplicate', `public.${name}`, true, `drop index concurrently public.${name}`]),
  )
  expect(doubled.find(row => row.index === 'public.twice_plain')?.reason).toContain('the same as public.twice_unique')
})

test('a btree whose columns lead another is needless, unless it forbids or limits something; the one that stays is named and not advised against', async () => {
  await addTable(
    'lead',
    `create index lead_a on lead (a); create index lead_ab on lead (a, b); create index lead_abc on lead (a, b, c);
     create index lead_a_where on lead (a) where b > 5; create unique index lead_unique on lead (a, id); create index lead_down on lead (a desc); create index lead_include on lead (a) include (id)`,
  )
  const rows = await report('lead')
  expect(rows.filter(row => row.finding === 'prefix').map(row => [row.index, row.reason.split(' (')[0]])).toEqual(
    expect.arrayContaining([
      ['public.lead_a', 'its columns lead public.lead_unique'],
      ['public.lead_ab', 'its columns lead public.lead_abc'],
    ]),
  )
  expect(await named('lead')).toEqual(['prefix lead_a', 'prefix lead_ab', 'unused lead_a_where', 'unused lead_down', 'unused lead_include'])
})

test('a foreign key without an index is found beyond a thousand rows, in any order of columns', async () => {
  await addTable('target', 'alter table target add unique (a, id)')
  await addTable('"Source ""1"""', 'alter table "Source ""1""" add foreign key (a, id) references target (a, id)')
  const [missing] = await report('"Source')
  expect(missing).toMatchObject({ finding: 'foreign key', certain: true, relation: 'public."Source ""1"""' })
  expect(missing?.statement).toMatch(/^create index concurrently "Source ""1""_a_id_\d+_fkey_idx" on public\."Source ""1""" \(a, id\)$/)
  await db.query('create index source_other on "Source ""1""" (b, a, id)')
  expect((await named('"Source')).filter(name => name.startsWith('foreign'))).toHaveLength(1)
  await db.query('create index source_order on "Source ""1""" (id, a, c)')
  expect((await named('"Source')).filter(name => name.startsWith('foreign'))).toEqual([])
  await db.query('create table few (a integer references categories)')
  expect(await named('few')).toEqual([])
})

test('an index whose build failed is to be built again, a leftover to be dropped, and neither while it may be at its building', async () => {
  await addTable('broken')
  await expect(db.query('create unique index concurrently broken_b on broken (b)')).rejects.toMatchObject({ code: '23505' })
  await expect(db.query('create unique index concurrently "broken_B_ccnew" on broken (b)')).rejects.toMatchObject({ code: '23505' })
  expect((await report('broken')).map(row => [row.finding, row.certain, row.statement]).sort()).toEqual([
    ['invalid', true, 'drop index concurrently public."broken_B_ccnew"'],
    ['invalid', true, 'reindex index concurrently public.broken_b'],
  ])
  const builder = await connectDirect(readConfig({ DATABASE_URL: db.url }), 'builder')
  onTestFinished(() => builder.close())
  await builder.query('begin; lock table broken in share update exclusive mode')
  expect((await report('broken')).map(row => [row.certain, row.statement])).toEqual([
    [false, null],
    [false, null],
  ])
})

test('an index that is mostly empty is found, one that is full is not', async () => {
  await db.query(`create table airy (id integer, word text); insert into airy select i, md5(i::text) from generate_series(1, 320000) i`)
  await db.query('create unique index airy_word on airy (word); create unique index airy_id on airy (id, word); analyze airy')
  expect((await named('airy')).filter(name => name.startsWith('bloated'))).toEqual([])
  // Thinned out, so that hardly a page is quite empty.
  await db.query('delete from airy where id % 10 <> 0')
  await db.query('vacuum analyze airy')
  expect(
    (await report('airy'))
      .filter(row => row.finding === 'bloated')
      .map(row => [row.index, row.certain, row.statement])
      .sort(),
  ).toEqual([
    ['public.airy_id', true, 'reindex index concurrently public.airy_id'],
    ['public.airy_word', true, 'reindex index concurrently public.airy_word'],
  ])
  await db.query('reindex index concurrently airy_word')
  expect((await named('airy')).filter(name => name.startsWith('bloated'))).toEqual(['bloated airy_id'])
}, 60_000)

test('tables that were never analyzed or have changed since are found', async () => {
  await db.query('create table fresh (a integer) with (autovacuum_enabled = off)')
  const write = (statement: string) => db.query(`${statement}; ${COUNTED}`)
  await write('insert into fresh select generate_series(1, 1000)')
  expect(await report('fresh')).toMatchObject([
    { finding: 'statistics', certain: true, index: null, statement: 'analyze public.fresh', reason: 'never analyzed; about 1000 rows' },
  ])
  await write('analyze fresh')
  await write('update fresh set a = 0 where a <= 200')
  expect(await named('fresh')).toEqual([])
  await write('update fresh set a = 0 where a = 201')
  expect(await report('fresh')).toMatchObject([{ finding: 'statistics', reason: '201 of about 1000 rows changed since the last ANALYZE' }])
})

test('document 004: its indexes are missing where table and columns are there and no index serves the same', async () => {
  await db.query('create table public.analytics ("organizationId" uuid, "collectedAt" timestamptz, platform text)')
  await db.query('create table public.content_pieces ("organizationId" uuid, status text, platform text, "publishedAt" timestamptz)')
  await db.query('create index named_otherwise on public.content_pieces ("organizationId", status, platform)')
  await db.query(
    'alter table public.users add column if not exists email text, add column verified boolean, add column plan text, add column "emailVerificationToken" text unique',
  )
  const listed = (await db.query<Row>(`select * from pawl.index_report() where finding = 'document 004'`)).map(row => row.statement)
  expect(listed.sort()).toEqual([
    'create index concurrently "analytics_organizationId_collectedAt_idx" on public.analytics ("organizationId", "collectedAt")',
    'create index concurrently "content_pieces_platform_publishedAt_idx" on public.content_pieces (platform, "publishedAt")',
    'create index concurrently users_email_verified_idx on public.users (email, verified)',
    'create index concurrently users_plan_idx on public.users (plan)',
    'create index concurrently users_verified_idx on public.users (verified) where verified = false',
  ])
  for (const statement of listed) await db.query(statement ?? '')
  // What was advised is not what is then advised against.
  const ours = `relation ~ 'analytics|content_pieces|public.users'`
  expect(await db.query(`select * from pawl.index_report() where finding in ('document 004', 'duplicate', 'prefix') and ${ours}`)).toEqual([])
})

test('the weekly schedule writes one line with what was counted', async () => {
  await addTable('counted', 'create index counted_a on counted (a); create index counted_b on counted (b, a); create index counted_bb on counted (b, a)')
  const before = await db.query<{ finding: string; number: number }>(
    'select finding, count(*) as number from pawl.index_report() where certain group by finding',
  )
  const [written] = await db.query<{ number: number }>('select pawl.log_index_report() as number')
  const [line] = await db.query<{ affected_rows: number; details: { findings: Record<string, number>; unused: Record<string, string> } }>(
    `select affected_rows, details from public.system_maintenance_log where operation = 'index_report' order by id desc limit 1`,
  )
  expect(line?.details.findings).toEqual(Object.fromEntries(before.map(row => [row.finding, row.number])))
  expect(line?.details.findings.duplicate).toBeGreaterThan(0)
  expect(Object.values(line?.details.unused ?? {})).toContain('public.counted_a')
  expect(line?.affected_rows).toBe(written?.number)
  expect(line?.affected_rows).toBe(before.reduce((sum, row) => sum + row.number, 0))
})
