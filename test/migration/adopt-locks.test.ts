import { randomBytes } from 'node:crypto'
import { expect, onTestFinished, test } from 'vitest'
import { upgrade } from '../../bin/commands/migrate.ts'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { connectDirect, type Query } from '../../src/database.ts'
import { migrateUp, migrationsDir, planMigrations } from '../../src/migrate.ts'
import { createDatabase, silent } from '../support/postgres.ts'
import { PRINTED_RULES } from '../integration/document-002-printed.ts'
import { PRINTED_TABLES } from '../integration/document-002-tables.ts'

const ROWS = 300_000
const READS_TABLES = '0014_validate_constraints'
const HOST = `
  create table public.users (id bigserial primary key, username text not null);
  create table public.categories (id bigserial primary key, name text not null);
  create table public.recipients (id bigserial primary key, category_id bigint not null, is_ad_synced boolean, is_active boolean);
  create table public.category_recipient_settings (category_id bigint, recipient_id bigint, n int not null default 0, primary key (category_id, recipient_id));
  create table public.system_maintenance_log (id bigserial primary key, operation text not null, affected_rows int, timestamp timestamptz default now());
  insert into public.categories (name) values ('Newsletter');
  insert into public.recipients (category_id, is_ad_synced, is_active) select 1, true, true from generate_series(1, ${ROWS});
  insert into public.category_recipient_settings (category_id, recipient_id) select 1, id from public.recipients;
  set session_replication_role = replica;
  insert into public.campaigns (id, status, duration_hours, start_time, end_time) select gen_random_uuid(), 'RUNNING', 1, now(), now() + interval '1 hour' from generate_series(1, ${ROWS} / 2);
  reset session_replication_role`

async function openHost() {
  const db = await createDatabase({ empty: true })
  onTestFinished(db.drop)
  await db.query(`set search_path = public; ${PRINTED_TABLES}\n${PRINTED_RULES}\n${HOST}`)
  const config = readConfig({ DATABASE_URL: db.url })
  return { db, config, context: { config, log: silent, clock: systemClock, dir: migrationsDir(config) } }
}

/** Runs one statement again and again until told to stop; the longest it took. */
function repeat(query: Query, sql: string) {
  const seen = { longestMs: 0, times: 0 }
  let over = false
  const loop = (async () => {
    while (!over) {
      const begun = systemClock.elapsed()
      await query(sql)
      seen.longestMs = Math.max(seen.longestMs, systemClock.elapsed() - begun)
      seen.times += 1
    }
  })()
  return {
    stop: async () => {
      over = true
      await loop
      return { ...seen, longestMs: Math.round(seen.longestMs) }
    },
  }
}

test(`a host with ${ROWS} settings is adopted while it reads and writes: what reads its tables takes no lock that stops anybody`, {
  timeout: 180_000,
}, async () => {
  const { db, config, context } = await openHost()
  const connect = async (name: string) => {
    const connection = await connectDirect(config, name)
    onTestFinished(() => connection.close())
    return connection.query
  }
  const host = ['category_recipient_settings', 'recipients', 'categories', 'users', 'campaigns', 'campaign_timers', 'campaign_metrics', 'timer_executions']
  const [plan] = (await planMigrations(context)).pending.filter(file => file.tag === READS_TABLES)
  expect(plan?.locks.filter(lock => lock.exists).length).toBeGreaterThan(5)
  expect(plan?.locks.filter(lock => lock.stops !== null)).toEqual([])
  expect(plan?.unknown).toEqual([])

  const loops = {
    reader: repeat(
      await connect('reader'),
      'select count(*) from public.category_recipient_settings where category_id = 1 and recipient_id between 1000 and 1010',
    ),
    writer: repeat(await connect('writer'), 'update public.category_recipient_settings set n = n + 1 where category_id = 1 and recipient_id = 4711'),
    campaigns: repeat(await connect('campaigns'), `select count(*) from public.campaigns where id = '00000000-0000-4000-8000-000000000000'`),
  }
  const before = (await planMigrations(context)).pending.map(file => file.tag)
  const begun = systemClock.elapsed()
  const { installBoss } = await import('../../src/boss.ts')
  await migrateUp(context, { to: before[before.indexOf(READS_TABLES) - 1] ?? '', before: () => installBoss(config, silent) })
  // From here on nothing may lock as much as SHARE on a table of the host; a look every few milliseconds would see what lasts.
  const strong = new Set<string>()
  const watch = await connect('watch')
  let [watching, looks] = [true, 0]
  const watched = (async () => {
    while (watching) {
      const rows = await watch<{ lock: string }>(
        `select format('%s on %s', l.mode, c.relname) as lock from pg_locks l join pg_class c on c.oid = l.relation
         where l.locktype = 'relation' and c.relname = any ($1) and l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')`,
        [host],
      )
      for (const { lock } of rows) strong.add(lock)
      looks += 1
    }
  })()
  await migrateUp(context, { to: READS_TABLES })
  watching = false
  await watched
  await upgrade(config, silent)
  const tookMs = Math.round(systemClock.elapsed() - begun)
  const waits = Object.fromEntries(await Promise.all(Object.entries(loops).map(async ([name, loop]) => [name, await loop.stop()] as const)))
  console.info(JSON.stringify({ rows: ROWS, up_ms: tookMs, looks, waits }))
  expect([...strong]).toEqual([])
  expect(looks).toBeGreaterThan(20)
  for (const wait of Object.values(waits)) expect(wait.longestMs).toBeLessThan(1_500)
  expect(await db.query(`select conname from pg_constraint where not convalidated`)).toEqual([])
  expect(await db.query(`select indexrelid::regclass from pg_index where not indisvalid`)).toEqual([])
  expect(
    await db.query(`select pg_get_indexdef('public.unique_active_timer_per_type'::regclass) like '%FAILED%' as better,
    to_regclass('public.unique_active_timer_per_type_printed') is null as gone`),
  ).toEqual([{ better: true, gone: true }])
})

test('the triggers fire for an ordinary role of the host, which may execute none of their functions', async () => {
  const db = await createDatabase()
  const name = `pawl_test_host_${randomBytes(4).toString('hex')}`
  await db.query(`create role ${name} login password 'secret'; grant usage on schema public to ${name};
    grant select, insert, update, delete on public.campaigns, public.campaign_timers, public.campaign_state_log, public.category_override_operations to ${name};
    grant usage on all sequences in schema public to ${name};
    insert into public.users (username) values ('ada'); insert into public.categories (name) values ('Newsletter')`)
  const login = await connectDirect(readConfig({ DATABASE_URL: db.urlAs(name, 'secret') }), 'host')
  onTestFinished(async () => {
    await login.close()
    await db.query(`drop owned by ${name}; drop role ${name}`)
    await db.drop()
  })
  expect(
    await db.query(
      `select p.oid::regprocedure::text as name from pg_proc p
       where p.pronamespace = 'public'::regnamespace and p.prorettype = 'trigger'::regtype and has_function_privilege($1, p.oid, 'execute')`,
      [name],
    ),
  ).toEqual([])
  await login.query(`insert into public.campaigns (duration_hours) values (1)`)
  await login.query(`update public.campaigns set status = 'RUNNING'`)
  expect(await login.query('select from_state, to_state from public.campaign_state_log order by created_at')).toEqual([
    { from_state: null, to_state: 'CREATED' },
    { from_state: 'CREATED', to_state: 'RUNNING' },
  ])
  await expect(login.query(`update public.campaigns set status = 'CREATED'`)).rejects.toMatchObject({ code: '22023' })
  await expect(
    login.query(
      `insert into public.campaign_timers (campaign_id, timer_type, scheduled_at) select id, 'CLOSE_CAMPAIGN', now() - interval '1 day' from public.campaigns`,
    ),
  ).rejects.toMatchObject({ code: '22023' })
  await login.query(`insert into public.category_override_operations (operation_id, category_id, user_id, status) values ('x', 1, 1, 'COMPLETED')`)
  expect(await login.query('select completed_at is not null as ended from public.category_override_operations')).toEqual([{ ended: true }])
})
