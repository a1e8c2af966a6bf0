-- Takes the index report away; its lines in system_maintenance_log stay.
drop function pawl.log_index_report();
drop function pawl.index_report(interval);
drop function pawl.stale_statistics();
drop function pawl.missing_indexes();
drop function pawl.bloated_indexes();
drop function pawl.unused_indexes(interval);
drop function pawl.doubled_indexes();
drop function pawl.statistics_since();
drop view pawl.index_facts;
