-- pawl:destructive
-- Drops the engine. Its roles belong to the whole cluster and stay; so does the ledger of migrations, which lives in this schema.
drop function pawl.claimable(text[], integer);
drop function pawl.redeliver_lost(interval);
drop function pawl.beat(integer, text[], interval, boolean);
drop function pawl.fail(text, bigint, text, boolean);
drop function pawl.release(text, bigint, boolean);
drop function pawl.park(text, bigint, text);
drop function pawl.advance(text, integer, bigint, jsonb, bigint, boolean);
drop function pawl.stop_reason(text);
drop function pawl.hold(text, integer, bigint);
drop function pawl.hold_run(text, bigint);
drop function pawl.cancel_text(text, text);
drop function pawl.open_run(text, integer, uuid, integer, interval);
drop function pawl.note_crash(text);
drop function pawl.finish(text, bigint, text, text);
drop function pawl.lease_alive(integer, interval);
drop function pawl.changed(text, text, text);
drop function pawl.deliver(text, timestamptz);
drop function pawl.enqueue(text, jsonb, integer, timestamptz, text);
drop table pawl.paused_queues;
drop table pawl.lanes;
drop table pawl.checkpoints;
drop function pawl.traceparent();
drop table pawl.leases;
drop table pawl.kinds;
revoke usage on schema pawl from pawl_worker, pawl_producer, pawl_operator, pawl_observer;
