-- pawl:destructive
-- Drops the refreshed tables and their history, also when they were adopted: document 003 has no other owner.
do $$
begin
  drop event trigger if exists auto_register_refresh_tables;
exception when insufficient_privilege then
  raise exception 'event trigger auto_register_refresh_tables belongs to a superuser'
    using errcode = '42501', hint = 'let a superuser run: drop event trigger auto_register_refresh_tables';
end
$$;
drop function sqp.auto_register_table_for_refresh();
drop function sqp.register_new_tables();
drop function sqp.register_existing_tables();
drop table sqp.yearly_summary, sqp.quarterly_summary, sqp.monthly_summary, sqp.weekly_summary, sqp.search_performance_summary,
  sqp.daily_sqp_data, sqp.search_query_performance, sqp.asin_performance_data;
drop view pawl.refresh_edges;
drop table sqp.refresh_checkpoints, sqp.refresh_data_quality, sqp.refresh_dependencies, sqp.refresh_audit_log, sqp.refresh_config;
drop function sqp.update_refresh_config_timestamp();
drop function sqp.cleanup_expired_checkpoints();
drop function sqp.expire_checkpoints();
drop function sqp.reject_dependency_cycle();
drop function sqp.dependency_path(integer, integer);
do $$
begin
  drop schema sqp;
exception when dependent_objects_still_exist then
  -- A host that keeps tables or functions of its own there keeps the schema.
  null;
end
$$;
