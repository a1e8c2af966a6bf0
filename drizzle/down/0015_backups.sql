-- Takes the records of backups away; the backups themselves stay in their store, and "pawl backups" reads them there.
drop view pawl.backups;
drop function pawl.backup_changed(text, text, text);
drop function pawl.finish_backup(text, bigint, jsonb);
drop function pawl.record_backup(jsonb);
drop function pawl.advance_backup(text, bigint, bigint, bigint);
drop function pawl.begin_backup(text, bigint);
drop function pawl.schedule_backup(text);
drop function pawl.request_backup(text, text, text[]);
drop sequence pawl.backup_run_seq;
drop function pawl.record_worker_checks(text, jsonb);
drop table pawl.worker_checks;
drop table pawl.backup_records;
delete from pawl.checkpoints where kind = 'backup';
delete from pawl.kinds where kind = 'backup';
