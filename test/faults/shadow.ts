import type { Query } from '../../src/database.ts'

/** The tables that the load refreshes, parents first. */
export const REFRESHED = ['raw', 'daily', 'summary', 'shop'] as const

/** A batch takes at least this long, or runs would end between two looks at them. */
const PACE_MS = 8

/**
 * What the harness writes down beside the product, in its transactions: who wrote, and who held the run just then. A batch holds its lane's row
 * until its commit, and whoever takes the run over must change that row first. So a writer whose epoch is the run's still sees itself as the
 * holder at any moment of its transaction; one that was replaced sees another, or none.
 */
export async function castShadows(query: Query): Promise<void> {
  await query(`
    create schema faults;
    create table faults.batches (
      place bigserial primary key, run_id text, lane integer, batch bigint, epoch bigint, rows bigint, before jsonb, after jsonb,
      worker text, holder text, at timestamptz default clock_timestamp()
    );
    create index on faults.batches (run_id, lane, place);
    create table faults.writes (
      place bigserial primary key, operation_id text, recipients bigint[], worker text, holder text, at timestamptz default clock_timestamp()
    );
    create index on faults.writes (operation_id);
    create table faults.published (
      place bigserial primary key, table_name text, run_id text, worker text, holder text, at timestamptz default clock_timestamp()
    );
    create table faults.acknowledged (kind text, id text, detail jsonb not null default '{}', at timestamptz default clock_timestamp(), primary key (kind, id));
    create table faults.retried (run_id text, error text, at timestamptz default clock_timestamp());

    create function faults.holder(p_run_id text) returns text language sql stable security definer set search_path = pg_catalog, pg_temp as $$
      select l.name from pawl.checkpoints c join pawl.leases l on l.id = c.owner where c.run_id = p_run_id and c.state = 'running'
    $$;

    create function faults.note_batch() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
    begin
      perform pg_sleep(${PACE_MS} / 1000.0);
      insert into faults.batches (run_id, lane, batch, epoch, rows, before, after, worker, holder)
      values (new.run_id, new.lane, new.batch, new.epoch, new.done - old.done, old.cursor, new.cursor, current_setting('application_name'), faults.holder(new.run_id));
      return null;
    end $$;
    create trigger note_batch after update on pawl.lanes
    for each row when (new.batch is distinct from old.batch) execute function faults.note_batch();

    create function faults.note_settings() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
    begin
      insert into faults.writes (operation_id, recipients, worker, holder)
      select n.updated_by_operation, array_agg(n.recipient_id), current_setting('application_name'), faults.holder(n.updated_by_operation)
      from changed n where n.updated_by_operation is not null group by n.updated_by_operation;
      return null;
    end $$;
    create trigger note_updates after update on public.category_recipient_settings
    referencing new table as changed for each statement execute function faults.note_settings();
    create trigger note_inserts after insert on public.category_recipient_settings
    referencing new table as changed for each statement execute function faults.note_settings();

    create function faults.note_published() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
    declare
      run text := (select s.run_id from pawl.refresh_steps s where s.table_name = 'sqp.' || tg_table_name and s.outcome is null);
    begin
      insert into faults.published (table_name, run_id, worker, holder)
      values (tg_table_name, run, current_setting('application_name'), faults.holder(run));
      return null;
    end $$`)
}

/** The same for the refreshed tables, once they are there. */
export async function shadowRefreshed(query: Query): Promise<void> {
  for (const table of REFRESHED) {
    await query(`create trigger note_published after insert or update or delete on sqp.${table} for each statement execute function faults.note_published()`)
  }
}
