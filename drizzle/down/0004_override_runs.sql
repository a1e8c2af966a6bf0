-- pawl:destructive
-- Forgets the override runs (operations and audit stay, but unfinished ones will never go on).
drop function pawl.override_changed(text, text, text);
drop function pawl.revert_override_batch(text, integer, bigint);
drop procedure pawl.apply_override_batches(text, integer, bigint, interval, integer, integer, boolean, text);
drop function pawl.apply_override_batch(text, integer, bigint);
drop function pawl.start_override(text, bigint, integer);
drop function pawl.revert_override(text, bigint);
drop function pawl.request_override(bigint, bigint, jsonb, integer, inet, text, text);
drop function pawl.add_override_operation(bigint, bigint, jsonb, integer, inet, text, text, jsonb, text);
drop function pawl.lock_override_category(bigint);
delete from pawl.checkpoints where kind = 'override';
delete from pawl.kinds where kind = 'override';
