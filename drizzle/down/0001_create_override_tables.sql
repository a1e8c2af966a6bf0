-- pawl:destructive
-- Drops the audit trail and the operations, and those of the host's tables and columns that Pawl itself had made.
drop function public.get_override_operation_progress(varchar);
drop function public.cleanup_old_override_operations();
drop table public.category_override_operations;
drop function public.touch_category_override_operation();
drop table public.category_override_audit;
drop function public.maintain_audit_partitions();
drop function public.keep_category_override_audit_key();
drop function public.refuse_audit_key_change();
drop table public.category_override_audit_keys;
drop function pawl.ensure_month_partitions(regclass, integer);
drop function pawl.ensure_month_partition(regclass, date);
do $$
declare
  created text;
  added record;
begin
  foreach created in array array['category_recipient_settings', 'recipients', 'categories', 'users', 'system_maintenance_log'] loop
    if obj_description(to_regclass('public.' || created)) like 'Created by Pawl%' then
      execute format('drop table public.%I', created);
    end if;
  end loop;
  for added in
    select a.attrelid::regclass as relation, a.attname as attribute
    from unnest(array['category_recipient_settings', 'categories', 'system_maintenance_log']) host (relation)
    join pg_attribute a on a.attrelid = to_regclass('public.' || host.relation)
    where a.attnum > 0 and not a.attisdropped and col_description(a.attrelid, a.attnum) like 'Added by Pawl%'
  loop
    execute format('alter table %s drop column %I', added.relation, added.attribute);
  end loop;
end
$$;
