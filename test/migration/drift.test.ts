import { expect, onTestFinished, test } from 'vitest'
import { upgrade } from '../../bin/commands/migrate.ts'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { acceptDrift, migrateDown, migrateUp, migrationsDir, verifyMigrations } from '../../src/migrate.ts'
import { createDatabase, silent } from '../support/postgres.ts'
import { runPawl } from '../support/process.ts'
import { openStage } from './stage.ts'

async function openMigrated(before = '') {
  const db = await createDatabase({ empty: before !== '' })
  onTestFinished(db.drop)
  const config = readConfig({ DATABASE_URL: db.url })
  if (before !== '') {
    await db.query(before)
    await upgrade(config, silent)
  }
  const context = { config, log: silent, clock: systemClock, dir: migrationsDir(config) }
  return { db, query: db.query, context, found: async () => (await verifyMigrations(context)).problems.map(({ tag, message }) => `${tag}: ${message}`) }
}

const BY_HAND: [sql: string, found: RegExp][] = [
  ['alter table pawl.leases add column note text', /^column pawl\.leases\.note: no migration has made it: text$/],
  [
    'alter table pawl.refresh_limits alter column concurrency type bigint',
    /^column pawl\.refresh_limits\.concurrency: it is "bigint not null" and was "integer not null"$/,
  ],
  ['alter table public.categories drop column override_count cascade', /^column public\.categories\.override_count: gone; it was: integer default 0$/],
  ['create view public.v_category_override_summary as select 1 as category_id', /^view public\.v_category_override_summary: its text was changed$/],
  [
    'alter table public.campaigns alter column status drop not null',
    /^column public\.campaigns\.status: it is "character varying\(20\) default .*" and was ".* not null default/,
  ],
  ['alter table public.campaign_metrics alter column attributes drop default', /^column public\.campaign_metrics\.attributes: /],
  ['drop trigger log_campaign_creation on public.campaigns', /^trigger log_campaign_creation on public\.campaigns: gone; it was: CREATE TRIGGER/],
  [
    'alter table public.campaigns disable trigger validate_campaign_state_transition',
    /^trigger validate_campaign_state_transition on public\.campaigns: it is "disabled: /,
  ],
  [
    `create or replace function pawl.cancel_text(p_by text, p_reason text) returns text language sql immutable as $$ select 'x' $$`,
    /^function pawl\.cancel_text\(text,text\): its text was changed$/,
  ],
  [
    'drop index public.idx_recipients_override_target',
    /^index public\.idx_recipients_override_target: gone; it was: CREATE INDEX .* ON public\.recipients .*\(category_id, id\) WHERE/,
  ],
  ['alter table public.campaigns drop constraint valid_duration', /^constraint public\.campaigns\.valid_duration: gone; it was: CHECK/],
  ['alter table pawl.lanes add constraint odd check (lane < 9)', /^constraint pawl\.lanes\.odd: no migration has made it/],
  ['revoke select on pawl.runs from pawl_observer', /^grants on table pawl\.runs to pawl_observer: gone; it was: select$/],
  ['revoke update on pawl.checkpoints from pawl_worker', /^grants on table pawl\.checkpoints to pawl_worker: no longer granted: update$/],
  ['grant select on reporting.users to public', /^grants on table reporting\.users to public: no migration has made it: select$/],
  [
    'grant execute on function public.maintain_audit_partitions() to public',
    /^grants on function public\.maintain_audit_partitions\(\) to public: no migration/,
  ],
  ['create table pawl.scratch (n int)', /^table pawl\.scratch: no migration has made it: plain$/],
  ['drop table reporting.report_shares', /^table reporting\.report_shares: gone; it was: plain$/],
  ['drop view pawl.stuck cascade', /^view pawl\.stuck: gone/],
  ['create unique index odd_unique on pawl.leases (name)', /^index pawl\.odd_unique: no migration has made it/],
  ['alter table pawl.refresh_waits set unlogged', /^table pawl\.refresh_waits: it is "unlogged" and was "plain"$/],
]

test('what was changed by hand is found, object by object, and can be taken as right', async () => {
  const { db, query, context, found } = await openMigrated()
  expect(await found()).toEqual([])
  for (const [sql] of BY_HAND) await query(sql)
  const problems = await found()
  for (const [sql, message] of BY_HAND)
    expect(
      problems.filter(problem => message.test(problem)),
      `${sql}\n${problems.join('\n')}`,
    ).toHaveLength(1)
  // Besides: the view that read a dropped one, and what was granted on one that was dropped and made anew; nothing of the parts of what is gone.
  const more = problems.filter(problem => !BY_HAND.some(([, message]) => message.test(problem)))
  expect(more.map(problem => problem.split(':')[0])).toEqual([
    ...['observer', 'operator', 'worker'].map(role => `grants on table public.v_category_override_summary to pawl_${role}`),
    'view pawl.deploy',
    'view pawl.health',
  ])

  const told = await runPawl(['migrate', 'verify'], db.url)
  expect(told.code).toBe(3)
  expect(told.stdout).toContain('column pawl.leases.note: no migration has made it: text; put it back, or take it as right: pawl migrate verify --accept')
  expect(await runPawl(['migrate', 'verify', '--accept'], db.url)).toMatchObject({ code: 0 })
  expect(await verifyMigrations(context)).toEqual({ ok: true, problems: [] })
})

test('what a host, a user or the months bring is no drift', async () => {
  const { query, found } = await openMigrated(`
    create table users (id bigserial primary key, username text not null);
    create table categories (id bigserial primary key, name text not null);
    create table recipients (id bigserial primary key, category_id bigint, is_ad_synced boolean, is_active boolean);
    create table category_recipient_settings (category_id bigint, recipient_id bigint, primary key (category_id, recipient_id));
    create table system_maintenance_log (id bigserial primary key, operation text not null, affected_rows int, timestamp timestamptz)`)
  expect(await found()).toEqual([])
  await query(`
    alter table users add column email text; create index on users (email); alter table users alter column username drop not null;
    create table public.of_the_host (id int primary key); create function public.of_the_host() returns int language sql as 'select 1';
    alter table categories add constraint named check (name <> ''); grant select on users to public;
    create table sqp.brand_sales (day date primary key, sales numeric); alter table sqp.yearly_summary add column clicks_2 bigint;
    select pawl.ensure_month_partitions('public.campaign_state_log', 9), pawl.ensure_month_partitions('reporting.report_executions', 9);
    alter table public.campaign_state_log detach partition public.campaign_state_log_y${new Date().getUTCFullYear()}m${String(new Date().getUTCMonth() + 1).padStart(2, '0')};
    alter table pawl.lanes set (autovacuum_vacuum_scale_factor = 0.01); create index of_care on pawl.leases (host);
    comment on table pawl.lanes is 'x'; grant select on pawl.runs to pawl_producer; reindex index pawl.checkpoints_recent;
    analyze pawl.lanes; create schema other; create table other.t (); refresh materialized view mv_active_campaigns`)
  expect(await found()).toEqual([])
  await query('alter table categories drop column last_override_by cascade')
  expect(await found()).toEqual([
    expect.stringContaining('column public.categories.last_override_by: gone'),
    expect.stringContaining('constraint public.categories.fk_categories_last_override_user: gone'),
    expect.stringContaining('view public.v_category_override_summary: gone'),
  ])
})

test('it does not matter who asks, with which search_path', async () => {
  const { query, context, found } = await openMigrated()
  await query('alter role current_user set search_path = pawl, reporting, public')
  onTestFinished(async () => void (await query('alter role current_user reset search_path').catch(() => {})))
  expect(await found()).toEqual([])
  await query('alter role current_user reset search_path')
  expect(await verifyMigrations(context)).toEqual({ ok: true, problems: [] })
})

const NOTES = { tag: '0000_notes', up: 'create table notes (n integer)', down: 'drop table notes' }
const TEXT = { tag: '0001_text', up: 'alter table notes add column text text', down: 'alter table notes drop column text' }
const INDEX = {
  tag: '0002_index',
  up: '-- pawl:no-transaction\ncreate index concurrently notes_n on notes (n)',
  down: '-- pawl:no-transaction\ndrop index concurrently notes_n',
}

test('each way up and down records what it has done, and hides nothing that was done by hand before', async () => {
  const stage = await openStage()
  const recorded = async () => (await stage.query<{ object: string }>('select object from pawl.schema_objects order by 1')).map(row => row.object)
  const found = async () => (await verifyMigrations(stage.context)).problems.map(problem => problem.tag)
  await stage.write(NOTES)
  await migrateUp(stage.context)
  expect(await recorded()).toEqual(['column public.notes.n', 'table public.notes'])
  await stage.query('alter table notes alter column n set default 5; alter table notes add column odd text')
  await stage.write(NOTES, TEXT, INDEX)
  await migrateUp(stage.context)
  expect(await recorded()).toEqual(['column public.notes.n', 'column public.notes.text', 'index public.notes_n', 'table public.notes'])
  expect(await found()).toEqual(['column public.notes.n', 'column public.notes.odd'])
  await migrateDown(stage.context, { steps: 2 })
  expect(await recorded()).toEqual(['column public.notes.n', 'table public.notes'])
  await migrateDown(stage.context)
  expect(await recorded()).toEqual([])
})

test('a file without a transaction that failed half-way is recorded all the same, as far as it got', async () => {
  const stage = await openStage()
  const half = {
    tag: '0001_half',
    up: '-- pawl:no-transaction\ncreate table if not exists first (n int);\n--> statement-breakpoint\nselect n from second',
    down: 'drop table first',
  }
  await stage.write(NOTES, half)
  await expect(migrateUp(stage.context)).rejects.toMatchObject({ code: 'migrate.failed' })
  await stage.query('create table public.second (n int)')
  await migrateUp(stage.context)
  expect(await verifyMigrations(stage.context)).toEqual({ ok: true, problems: [] })
  await stage.query('drop table first')
  expect((await verifyMigrations(stage.context)).problems.map(problem => problem.tag)).toEqual(['table public.first'])
})

test('texts of another major version are not compared but recorded anew, with a note; texts that were never recorded are asked for', async () => {
  const stage = await openStage()
  await stage.write(NOTES)
  await migrateUp(stage.context)
  await stage.query(`update pawl.schema_objects set server_major = 15, definition = 'as 15 prints it'`)
  expect(await verifyMigrations(stage.context)).toEqual({ ok: true, problems: [], notes: [expect.stringContaining('recorded on PostgreSQL 15')] })
  expect(await verifyMigrations(stage.context)).toEqual({ ok: true, problems: [] })
  await stage.query('drop table pawl.schema_objects')
  expect((await verifyMigrations(stage.context)).problems).toMatchObject([{ kind: 'drifted', remedy: expect.stringContaining('--accept') }])
  await acceptDrift(stage.context)
})
