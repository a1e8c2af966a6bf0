import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect, type DirectConnection } from '../../src/database.ts'
import { codeOf } from '../../src/errors.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'

let db: TestDatabase

beforeAll(async () => {
  db = await createDatabase()
})

afterAll(() => db.drop())

describe("an object of the caller's own that is found first", () => {
  const name = `pawl_hijack_${randomBytes(6).toString('hex')}`
  let thief: DirectConnection

  beforeAll(async () => {
    await db.query(`
      create table public.loot (who text);
      create role ${name} login password 'thief' in role pawl_producer, pawl_operator, pawl_observer;
      create schema trap; grant usage, create on schema trap to ${name};
      grant create, usage on schema public to ${name};
      grant insert on public.loot to ${name}`)
    thief = await connectDirect(readConfig({ DATABASE_URL: db.urlAs(name, 'thief') }), 'thief')
    // What a function of ours might find instead of what it means, in the caller's temporary schema, in public and in one put in front.
    await thief.query(`
      create function public.note() returns boolean language plpgsql as $$ begin
        insert into public.loot values (current_user); return true; end $$;
      create function pg_temp.now() returns timestamptz language sql as 'select public.note(); select pg_catalog.now()';`)
    for (const space of ['trap', 'public']) {
      await thief.query(`
        create function ${space}.coalesce(text, text) returns text language sql as 'select public.note(); select $1';
        create function ${space}.length(text) returns integer language sql as 'select public.note(); select 1';
        create function ${space}.format(text, variadic text[]) returns text language sql as 'select public.note(); select $1';
        create function ${space}.now() returns timestamptz language sql as 'select public.note(); select pg_catalog.now()';
        create function ${space}.jsonb_typeof(jsonb) returns text language sql as 'select public.note(); select ''object''';
        create function ${space}.pg_notify(text, text) returns void language sql as 'select public.note()';
        create function ${space}.nextval(text) returns bigint language sql as 'select public.note(); select 1::bigint';
        create function ${space}.hashtext(text) returns integer language sql as 'select public.note(); select 1';
        create function ${space}.equal(text, text) returns boolean language sql as 'select public.note()';
        create function ${space}.equal(bigint, bigint) returns boolean language sql as 'select public.note()';
        create function ${space}.equal(uuid, uuid) returns boolean language sql as 'select public.note()';
        create function ${space}.joined(text, text) returns text language sql as 'select public.note(); select $1';
        create operator ${space}.= (leftarg = text, rightarg = text, function = ${space}.equal);
        create operator ${space}.= (leftarg = bigint, rightarg = bigint, function = ${space}.equal);
        create operator ${space}.= (leftarg = uuid, rightarg = uuid, function = ${space}.equal);
        create operator ${space}.|| (leftarg = text, rightarg = text, function = ${space}.joined)`)
    }
    for (const table of [
      'users',
      'categories',
      'job',
      'queue',
      'checkpoints',
      'kinds',
      'refresh_config',
      'reports',
      'campaigns',
      'campaign_timers',
      'pg_class',
      'pg_roles',
      'pg_locks',
    ])
      await thief.query(`create temporary table ${table} (like pg_catalog.pg_class)`)
    await thief.query('set search_path = trap, pg_temp, public, pg_catalog')
  })

  afterAll(async () => {
    await thief.close()
    await db.query(`drop owned by ${name}; drop role ${name}`)
  })

  const calls: readonly string[] = [
    `pawl.request_override(1, 1, '{"a": 1}', 10, '::1', 'x', 'key')`,
    `pawl.revert_override('ovr_1', 1)`,
    `pawl.create_campaign(1, pg_catalog.now() + '1 second', true, true, '{}')`,
    `pawl.schedule_timer(pg_catalog.gen_random_uuid(), 'EXPIRE_CAMPAIGN', pg_catalog.now() + '1 hour', '{}')`,
    `pawl.reschedule_timer(pg_catalog.gen_random_uuid(), pg_catalog.now() + '1 hour')`,
    `pawl.refresh_table('yearly_summary', 'all', true)`,
    `pawl.run_report(pg_catalog.gen_random_uuid(), pg_catalog.gen_random_uuid(), 'csv', '{"a": 1}')`,
    `pawl.enqueue('overrides.apply', '{"run_id": "x"}', 1, pg_catalog.now(), 'key')`,
    `pawl.request_backup('manual', 'tables', array['public.campaigns'])`,
    `pawl.pause('overrides.apply', 'x')`,
    `pawl.resume('overrides.apply')`,
    `pawl.cancel('ovr_1', 'x')`,
    `pawl.retry('ovr_1')`,
    `pawl.why('ovr_1')`,
    `(select pg_catalog.count(*) from pawl.index_report())`,
    `(select pg_catalog.count(*) from pawl.plan_archives())`,
    `(select pg_catalog.count(*) from pawl.extend_partitions(1))`,
    ...['runs', 'timers', 'queues', 'health', 'stuck', 'failures', 'workers', 'schedules', 'refresh_plan', 'backups', 'partitions', 'backlog'].map(
      view => `(select pg_catalog.count(v) from pawl.${view} v)`,
    ),
  ]

  for (const call of calls) {
    test(`is not used by ${call.replace(/\(.*/s, '') || call}: ${call.slice(0, 60)}`, async () => {
      // Either way: what is refused has looked for its names as well.
      await thief.query(`select ${call}`).catch((error: unknown) => expect(['22023', '23503']).toContain(codeOf(error)))
      expect(await db.query('select * from public.loot')).toEqual([])
    })
  }

  test('would be seen if it were used', async () => {
    await thief.query(`select 'a'::text = 'b'::text`)
    expect(await db.query('select * from public.loot')).toEqual([{ who: name }])
    await db.query('delete from public.loot')
  })
})
