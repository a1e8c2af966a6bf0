-- pawl:destructive
-- Takes provenance and override history off the host's tables.
drop view public.v_override_operation_history;
drop view public.v_category_override_summary;
drop trigger trigger_update_category_override_stats on public.category_override_audit;
drop function public.update_category_override_stats();
drop index public.idx_categories_last_override;
drop index public.idx_category_recipient_settings_override;
alter table public.categories
  drop constraint fk_categories_last_override_user,
  drop column last_override_at,
  drop column last_override_by,
  drop column override_count,
  drop column last_override_recipients_count;
alter table public.category_recipient_settings
  drop constraint chk_valid_operation_reference,
  drop constraint fk_category_recipient_settings_operation,
  drop column previous_operation,
  drop column previous_settings,
  drop column override_timestamp,
  drop column is_override_generated,
  drop column updated_by_operation;
