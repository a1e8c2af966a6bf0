import type { Query } from '../../src/database.ts'

/** Where a statement can be stopped in its middle: before it changes the first row of this table. */
export const places = {
  rows: 'public.category_recipient_settings',
  lanes: 'pawl.lanes',
  progress: 'public.category_override_operations',
  run: 'pawl.checkpoints',
  timers: 'public.campaign_timers',
  campaigns: 'public.campaigns',
} as const

export type Place = keyof typeof places

/** Class of the advisory locks that stop statements. */
export const STOP_CLASS = 771_000

/**
 * Has a database write down what happens to it: changes of runs, batches, settings rows, each with the actor (the connection's
 * application_name) and in the order of their commits, as far as a lock orders them. What can never be right is written down as a fault at once.
 */
export async function keepDiary(query: Query): Promise<void> {
  await query(`
    create schema explorer;
    create table explorer.moments (
      id bigint generated always as identity primary key, what text not null, run_id text, subject text, detail text,
      actor text not null default current_setting('application_name')
    );
    create function explorer.actor_of(p_lease integer) returns text language sql stable
    return (select l.name from pawl.leases l where l.id = p_lease);

    create function explorer.note_run() returns trigger language plpgsql as $$
    begin
      if new.epoch < old.epoch then
        insert into explorer.moments (what, run_id, detail) values ('fault', new.run_id, format('epoch went back from %s to %s', old.epoch, new.epoch));
      end if;
      if old.state = 'completed' and new.state <> 'completed' or old.state in ('failed', 'cancelled') and new.state not in (old.state, 'pending') then
        insert into explorer.moments (what, run_id, detail) values ('fault', new.run_id, format('went from %s to %s', old.state, new.state));
      end if;
      if new.state <> old.state then
        insert into explorer.moments (what, run_id, subject, detail) values ('state', new.run_id, new.state, explorer.actor_of(coalesce(new.owner, old.owner)));
      end if;
      return null;
    end $$;
    create trigger explorer_run after update on pawl.checkpoints for each row execute function explorer.note_run();

    create function explorer.note_batch() returns trigger language plpgsql as $$
    declare
      holder text := (select explorer.actor_of(c.owner) from pawl.checkpoints c where c.run_id = new.run_id);
    begin
      insert into explorer.moments (what, run_id, subject, detail) values ('batch', new.run_id, new.lane, format('batch %s, epoch %s', new.batch, new.epoch));
      if holder is distinct from current_setting('application_name') then
        insert into explorer.moments (what, run_id, detail)
        values ('fault', new.run_id, format('%s committed a batch while the run was held by %s', current_setting('application_name'), coalesce(holder, 'nobody')));
      end if;
      return null;
    end $$;
    create trigger explorer_batch after update on pawl.lanes for each row when (new.batch <> old.batch) execute function explorer.note_batch();

    create function explorer.note_write() returns trigger language plpgsql as $$
    begin
      insert into explorer.moments (what, run_id, subject, detail) values ('write', new.updated_by_operation, new.recipient_id, new.previous_settings);
      return null;
    end $$;
    create trigger explorer_write after insert or update on public.category_recipient_settings
    for each row when (current_setting('application_name') ~ '^w\\d$') execute function explorer.note_write();

    create function explorer.note_publish() returns trigger language plpgsql as $$
    begin
      insert into explorer.moments (what, subject, detail) values ('publish', tg_table_name, pg_current_xact_id()::text);
      -- One who was taken over meanwhile is refused at the end of this transaction, and these lines go with it.
      if current_setting('application_name') ~ '^w\\d$' and not exists (
        select from pawl.checkpoints c where c.state = 'running' and explorer.actor_of(c.owner) = current_setting('application_name')
      ) then
        insert into explorer.moments (what, run_id, detail)
        values ('fault', tg_table_name, format('%s published it and held no run any more', current_setting('application_name')));
      end if;
      return null;
    end $$;

    create function explorer.stop_here() returns trigger language plpgsql as $$
    begin
      perform pg_advisory_xact_lock_shared(${STOP_CLASS}, hashtext(tg_argv[0] || ' ' || current_setting('application_name')));
      return null;
    end $$;
    ${Object.entries(places)
      .map(([place, table]) => `create trigger explorer_stop before update on ${table} for each statement execute function explorer.stop_here('${place}');`)
      .join('\n')}
    create trigger explorer_stop_insert before insert on public.category_recipient_settings
    for each statement execute function explorer.stop_here('rows');`)
}

export type Moment = { id: number; what: string; run_id: string | null; subject: string | null; detail: string | null; actor: string }

/** What was written down, in order. */
export function readDiary(query: Query): Promise<Moment[]> {
  return query<Moment>('select id, what, run_id, subject, detail, actor from explorer.moments order by id')
}
