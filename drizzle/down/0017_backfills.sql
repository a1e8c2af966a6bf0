-- Takes backfills away, also unfinished ones; what they changed stays.
drop function pawl.backfill_throttle(text);
drop function pawl.apply_backfill_batch(text, integer, bigint);
drop function pawl.backfill_obstacle(pawl.backfills);
drop function pawl.start_backfill(text, bigint);
drop function pawl.require_backfill(text);
drop function pawl.backfill_done(text);
drop function pawl.request_backfill(regclass, text, text, integer, text, text, interval, interval);
drop function pawl.add_backfill(regclass, text, text, integer, text, text, interval, interval, text[]);
drop function pawl.backfill_key(regclass, text);
drop function pawl.check_backfill(text, text, text);
drop function pawl.explain_one(text);
drop function pawl.backfill_path(text[]);
drop function pawl.backfill_changed(text, text, text);
delete from pawl.checkpoints where kind = 'backfill';
delete from pawl.kinds where kind = 'backfill';
drop table pawl.backfills;
