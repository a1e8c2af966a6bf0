-- pawl:destructive
-- Drops organizations, users, templates and reports with all that belongs to them: document 001 has no other owner.
drop function reporting.maintain_partitions();
drop table reporting.audit_logs;
drop table reporting.execution_logs;
drop table reporting.report_executions;
drop table reporting.report_shares;
drop table reporting.reports;
drop table reporting.template_fields;
drop table reporting.templates;
drop table reporting.user_sessions;
drop table reporting.users;
drop table reporting.organizations;
do $$
begin
  drop schema reporting;
exception when dependent_objects_still_exist then
  -- A host that keeps tables or functions of its own there keeps the schema.
  null;
end
$$;
