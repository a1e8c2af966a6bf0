-- A producer in plain SQL, after examples/prepare.sql:
--   psql postgres://example_shop:shop@localhost:5432/pawl -v ON_ERROR_STOP=1 -f examples/sql/enqueue.sql
-- The order and everything it asks of Pawl commit together. Nothing is enqueued before the commit, nothing after a rollback.
begin;

insert into public.example_orders (customer) values ('sql');

-- Every AD-synced, active recipient of the category, 100 rows to a transaction. Asked again with the same key, it is the same operation.
select pawl.request_override(
  category_id => 9001,
  user_id => 9001,
  settings => '{"channel": "sms"}',
  batch_size => 100,
  idempotency_key => 'sql-order-4711'
) as operation_id;

-- A campaign for two days, and a timer of ours for the day after.
with campaign as materialized (select pawl.create_campaign(duration_hours => 48, metadata => '{"from": "sql"}') as id)
select id as campaign_id, pawl.schedule_timer(campaign_id => id, timer_type => 'EXPIRE_CAMPAIGN', at => now() + interval '72 hours') as timer_id
from campaign;

select pawl.run_report(
  report_id => '00000000-0000-4000-8000-000000009004',
  executed_by => '00000000-0000-4000-8000-000000009002',
  output_format => 'json'
) as execution_id;

-- Any job at all: one of the maintenance schedules, now instead of at night.
select pawl.enqueue(queue => 'maintenance.sweep', data => '{"schedule": "expire-refresh-checkpoints"}') as job_id;

-- Last, because requests to refresh take turns until their transactions end.
select pawl.refresh_table(name => 'sqp.example_years') as refresh;

commit;
