-- pawl:destructive
-- Drops what executes reports; reports, executions and their logs stay, and so do the files in the store. The role pawl_report belongs to the whole cluster and stays.
drop function pawl.stray_report_files(integer);
drop trigger report_execution_deleted on reporting.report_executions;
drop function pawl.report_execution_deleted();
drop function pawl.report_changed(text, text, text);
drop function pawl.finish_report(text, bigint, text, jsonb);
drop function pawl.adopt_report_draft(text, bigint, text);
drop function pawl.restart_report(text, bigint);
drop function pawl.start_report(text, bigint, text);
drop function pawl.start_scheduled_reports(integer);
drop function pawl.start_scheduled_report(reporting.reports);
drop function pawl.next_report_time(reporting.reports);
drop table pawl.report_rhythms;
drop trigger announce_scheduled_report on reporting.reports;
drop function pawl.announce_report();
drop function pawl.run_report(uuid, uuid, text, jsonb);
drop function pawl.add_report_execution(reporting.reports, uuid, text, jsonb, timestamptz);
drop function pawl.report_parameters(jsonb, jsonb, jsonb);
drop function pawl.report_value(text, text, jsonb);
drop function pawl.report_permission(uuid, uuid);
drop function pawl.audit_execution(uuid, text, jsonb);
drop function pawl.log_execution(uuid, text, text, jsonb);
drop table pawl.report_files;
delete from pawl.checkpoints where kind = 'report';
delete from pawl.kinds where kind = 'report';
