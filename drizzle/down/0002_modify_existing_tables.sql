-- pawl:destructive
-- Takes provenance and override history off the host's tables.
drop view public.v_override_operation_history;
drop view public.v_category_override_summary;
drop trigger trigger_update_category_override_stats on public.category_override_audit;
drop function public.update_category_override_stats();
alter table public.categories
  drop constraint if exists fk_categories_last_override_user,
  drop column if exists last_override_at,
  drop column if exists last_override_by,
  drop column if exists override_count,
  drop column if exists last_override_recipients_count;
alter table public.category_recipient_settings
  drop constraint if exists chk_valid_operation_reference,
  drop constraint if exists fk_category_recipient_settings_operation,
  drop column if exists previous_operation,
  drop column if exists previous_settings,
  drop column if exists override_timestamp,
  drop column if exists is_override_generated,
  drop column if exists updated_by_operation;
