-- Document 000, V1.1: provenance on category_recipient_settings, override history on categories, the views over both.
-- Locks: ADD COLUMN takes ACCESS EXCLUSIVE on both for moments: no row is read. 0014 validates the constraints and builds the indexes.
alter table public.category_recipient_settings
  add column if not exists updated_by_operation varchar(50),
  add column if not exists is_override_generated boolean default false,
  add column if not exists override_timestamp timestamp with time zone;
--> statement-breakpoint
-- What the row held before its last override, so that pawl.revert_override can put it back.
-- The JSON null: there was no row, and a revert deletes it. The SQL null: nothing is known, and a revert leaves it alone.
alter table public.category_recipient_settings
  add column if not exists previous_settings jsonb,
  add column if not exists previous_operation varchar(50);
--> statement-breakpoint
alter table public.categories
  add column if not exists last_override_at timestamp with time zone,
  add column if not exists last_override_by bigint,
  add column if not exists override_count integer default 0,
  add column if not exists last_override_recipients_count integer default 0;
--> statement-breakpoint
do $$
begin
  if not exists (select from pg_constraint where conname = 'fk_category_recipient_settings_operation' and conrelid = 'public.category_recipient_settings'::regclass) then
    alter table public.category_recipient_settings add constraint fk_category_recipient_settings_operation
      foreign key (updated_by_operation) references public.category_override_audit_keys (operation_id) on delete set null not valid;
  end if;
  if not exists (select from pg_constraint where conname = 'chk_valid_operation_reference' and conrelid = 'public.category_recipient_settings'::regclass) then
    alter table public.category_recipient_settings add constraint chk_valid_operation_reference
      check (updated_by_operation is null or (is_override_generated and override_timestamp is not null)) not valid;
  end if;
  if not exists (select from pg_constraint where conname = 'fk_categories_last_override_user' and conrelid = 'public.categories'::regclass) then
    alter table public.categories add constraint fk_categories_last_override_user
      foreign key (last_override_by) references public.users (id) on delete set null not valid;
  end if;
end
$$;
--> statement-breakpoint
create function public.update_category_override_stats() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  -- The document fires on INSERT alone, but audit rows start as STARTED: the change to COMPLETED is what counts, once.
  if new.operation_status = 'COMPLETED' and (tg_op = 'INSERT' or old.operation_status is distinct from 'COMPLETED') then
    update public.categories
    set override_count = coalesce(override_count, 0) + 1,
        last_override_at = greatest(last_override_at, new.operation_timestamp),
        last_override_by = case when last_override_at > new.operation_timestamp then last_override_by else new.user_id end,
        last_override_recipients_count = case when last_override_at > new.operation_timestamp then last_override_recipients_count else new.affected_recipients_count end
    where id = new.category_id;
  end if;
  return new;
end
$$;
--> statement-breakpoint
comment on function public.update_category_override_stats() is 'Document 000: a category''s override history, when an operation completes; an older one that ends late never overwrites a newer one''s figures';
--> statement-breakpoint
-- Or anyone could hang it on a temporary table of his own and write to categories as its owner.
revoke execute on function public.update_category_override_stats() from public;
--> statement-breakpoint
create trigger trigger_update_category_override_stats after insert or update on public.category_override_audit
for each row execute function public.update_category_override_stats();
--> statement-breakpoint
create view public.v_category_override_summary as
select
  c.id as category_id,
  c.name as category_name,
  c.override_count,
  c.last_override_at,
  c.last_override_recipients_count,
  u.username as last_override_by_username,
  count(distinct r.id) as total_ad_recipients,
  coalesce(recent_overrides.recent_count, 0) as overrides_last_30_days
from public.categories c
left join public.users u on c.last_override_by = u.id
left join public.recipients r on c.id = r.category_id and r.is_ad_synced = true and r.is_active = true
left join (
  select category_id, count(*) as recent_count
  from public.category_override_audit
  where operation_timestamp > now() - interval '30 days' and operation_status = 'COMPLETED'
  group by category_id
) recent_overrides on c.id = recent_overrides.category_id
group by c.id, c.name, c.override_count, c.last_override_at, c.last_override_recipients_count, u.username, recent_overrides.recent_count;
--> statement-breakpoint
comment on view public.v_category_override_summary is 'Document 000: a category''s override history and how many recipients an override would reach';
--> statement-breakpoint
create view public.v_override_operation_history as
select
  audit.operation_id,
  audit.category_id,
  audit.category_name,
  audit.user_id,
  audit.user_name,
  audit.affected_recipients_count,
  audit.operation_timestamp,
  audit.operation_status,
  audit.operation_duration_ms,
  audit.error_message,
  audit.client_ip,
  case when audit.operation_duration_ms is not null then round(audit.operation_duration_ms / 1000.0, 2) else null end as operation_duration_seconds
from public.category_override_audit audit
order by audit.operation_timestamp desc;
--> statement-breakpoint
comment on view public.v_override_operation_history is 'Document 000: every audited operation, newest first';
