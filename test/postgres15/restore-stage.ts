import { mkdtempSync, rmSync } from 'node:fs'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inject, onTestFinished } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import type { Query } from '../../src/database.ts'
import { openStore, type Store } from '../../src/store.ts'
import { findBackup } from '../../workers/maintenance/backups/catalog.ts'
import type { BackupContext } from '../../workers/maintenance/backups/context.ts'
import { takeBackup, type Taken, type Wanted } from '../../workers/maintenance/backups/take.ts'
import { ask } from '../support/embedded.ts'
import { withDatabase } from '../support/global.ts'
import { createDatabase, silent, type TestDatabase } from '../support/postgres.ts'

/** A database, a directory for its backups, and what takes, verifies and restores them there. */
export type RestoreStage = {
  db: TestDatabase
  query: Query
  place: string
  store: Store
  env: Record<string, string>
  context(changes?: Partial<BackupContext>, env?: Record<string, string>): BackupContext
  take(wanted?: Partial<Wanted>): Promise<Taken>
  files(): Promise<string[]>
}

/** Databases of a server that Pawl has made and not finished with. */
export async function scratches(url: string = inject('adminUrl')): Promise<string[]> {
  const rows = await ask<{ name: string }>(url, `select datname as name from pg_database where datname like 'pawl\\_scratch\\_%' order by 1`)
  return rows.map(row => row.name)
}

export async function openRestoreStage({ empty = false, env = {} }: { empty?: boolean; env?: Record<string, string> } = {}): Promise<RestoreStage> {
  const place = mkdtempSync(join(tmpdir(), 'pawl-backups-'))
  const db = await createDatabase({ empty })
  onTestFinished(async () => {
    await db.drop()
    rmSync(place, { recursive: true, force: true })
  })
  const configOf = (more: Record<string, string> = {}) => readConfig({ DATABASE_URL: db.url, BACKUP_DIR: place, ...env, ...more })
  const context = (changes: Partial<BackupContext> = {}, more: Record<string, string> = {}): BackupContext => ({
    config: configOf(more),
    log: silent,
    clock: systemClock,
    signal: new AbortController().signal,
    told: () => {},
    ...changes,
  })
  return {
    db,
    query: db.query,
    place,
    store: openStore(place, { config: configOf() }),
    env: { BACKUP_DIR: place, ...env },
    context,
    take: (wanted = {}) => takeBackup(context(), { kind: 'manual', scope: 'full', ...wanted }),
    files: async () => (await readdir(place)).sort(),
  }
}

/** Tables with content of many kinds, an order of their own, partitions, a sequence that was used, and a routine with its owner's rights. */
export async function addGoods(query: Query): Promise<void> {
  await query(`
    create schema shop;
    create type shop.colour as enum ('red', 'green');
    create table shop.goods (
      id bigint generated always as identity primary key, name text not null, colour shop.colour, price numeric(12, 4), weight double precision,
      at timestamptz default now(), tags text[], extra jsonb, image bytea, held int4range, unique (name)
    );
    insert into shop.goods (name, colour, price, weight, tags, extra, image, held)
    select 'ware ' || i || ' äöü €', case when i % 3 = 0 then 'red' when i % 3 = 1 then 'green' end::shop.colour, i / 7.0, sqrt(i),
      array['a', null, i::text], jsonb_build_object('i', i, 'nested', jsonb_build_array(null, true)), decode(md5(i::text), 'hex'), int4range(i, i + 10)
    from generate_series(1, 3000) i;
    create table shop.orders (day date not null, good bigint not null references shop.goods, pieces integer not null check (pieces > 0))
      partition by range (day);
    create table shop.orders_2026_01 partition of shop.orders for values from ('2026-01-01') to ('2026-02-01');
    create table shop.orders_2026_02 partition of shop.orders for values from ('2026-02-01') to ('2026-03-01');
    create index orders_good on shop.orders (good);
    insert into shop.orders select date '2026-01-01' + i % 59, 1 + i % 3000, 1 + i % 5 from generate_series(1, 5000) i;
    create table shop.twice (value integer);
    insert into shop.twice select i % 2 from generate_series(1, 100) i;
    create table shop."Strange ""name""; --" ("select" integer);
    create view shop.red as select * from shop.goods where colour = 'red';
    create materialized view shop.sums as select good, sum(pieces) as pieces from shop.orders group by good;
    create function shop.secret() returns text language sql security definer as $$ select 'secret' $$;
    revoke execute on function shop.secret() from public`)
}

/** What a database says to one statement. */
export const askIn = <Row extends Record<string, unknown>>(name: string, text: string): Promise<Row[]> => ask<Row>(withDatabase(inject('adminUrl'), name), text)

/** Drops what a restore has made when the test is over, and returns the name it may use until then. */
export function nameForTest(): string {
  const name = `restored_${Math.random().toString(36).slice(2, 10)}`
  onTestFinished(async () => void (await ask(inject('adminUrl'), `drop database if exists ${name} with (force)`)))
  return name
}

/** Overwrites one byte of a file of the store with another. */
export async function flip(path: string, at: (length: number) => number): Promise<void> {
  const bytes = await readFile(path)
  const place = at(bytes.length)
  bytes[place] = (bytes[place] ?? 0) ^ 0x55
  await writeFile(path, bytes)
}

/** The backup of the stage as somebody who comes later finds it. */
export const found = (stage: RestoreStage) => findBackup(stage.store, 'newest')
