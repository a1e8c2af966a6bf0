-- pawl:no-transaction
-- What has to read whole tables of a host application: it is done after 0001, 0002 and 0005 have let go of them, one statement at a time.
-- Locks: SHARE UPDATE EXCLUSIVE, beside which everybody reads and writes on. Each statement bears being run again.
alter table public.category_recipient_settings validate constraint fk_category_recipient_settings_operation;
--> statement-breakpoint
alter table public.category_recipient_settings validate constraint chk_valid_operation_reference;
--> statement-breakpoint
alter table public.categories validate constraint fk_categories_last_override_user;
--> statement-breakpoint
alter table public.campaigns validate constraint calculated_end_time;
--> statement-breakpoint
create index concurrently if not exists idx_system_maintenance_log_operation on public.system_maintenance_log (operation, timestamp desc);
--> statement-breakpoint
-- The walk of an override: keyset by id over one category's live recipients.
create index concurrently if not exists idx_recipients_override_target on public.recipients (category_id, id) where is_ad_synced and is_active;
--> statement-breakpoint
create index concurrently if not exists idx_category_recipient_settings_override
on public.category_recipient_settings (updated_by_operation, override_timestamp desc) where is_override_generated = true;
--> statement-breakpoint
create index concurrently if not exists idx_categories_last_override on public.categories (last_override_at desc) where last_override_at is not null;
--> statement-breakpoint
create index concurrently if not exists idx_campaigns_status on public.campaigns (status);
--> statement-breakpoint
create index concurrently if not exists idx_campaigns_start_time on public.campaigns (start_time);
--> statement-breakpoint
create index concurrently if not exists idx_campaigns_end_time on public.campaigns (end_time);
--> statement-breakpoint
create index concurrently if not exists idx_campaigns_created_at on public.campaigns (created_at);
--> statement-breakpoint
create index concurrently if not exists idx_campaign_timers_campaign_id on public.campaign_timers (campaign_id);
--> statement-breakpoint
create index concurrently if not exists idx_campaign_timers_status on public.campaign_timers (status);
--> statement-breakpoint
create index concurrently if not exists idx_campaign_timers_scheduled_at on public.campaign_timers (scheduled_at);
--> statement-breakpoint
create index concurrently if not exists idx_campaign_timers_timer_type on public.campaign_timers (timer_type);
--> statement-breakpoint
create index concurrently if not exists idx_campaign_timers_processing on public.campaign_timers (status, scheduled_at) where status in ('PENDING', 'FAILED');
--> statement-breakpoint
-- Few at any time: those whose handler is at work.
create index concurrently if not exists campaign_timers_running on public.campaign_timers (claimed_by) where status = 'RUNNING';
--> statement-breakpoint
-- What pawl.runs and pawl.timers show, found without reading all timers that ever fired: by age, by run id, those that are not over by when they are
-- due, failed and cancelled ones by when they ended. The expressions are those of the views in 0018, to the letter.
create index concurrently if not exists campaign_timers_recent on public.campaign_timers (created_at desc);
--> statement-breakpoint
create index concurrently if not exists campaign_timers_run_id on public.campaign_timers using hash ((id::text));
--> statement-breakpoint
create index concurrently if not exists campaign_timers_open on public.campaign_timers (
  (case when status = 'PENDING' or (status = 'FAILED' and retry_count < 5) then 'pending' else lower(status) end),
  (case when status = 'PENDING' or (status = 'FAILED' and retry_count < 5) then coalesce(next_attempt_at, scheduled_at) end)
) where (case when status = 'PENDING' or (status = 'FAILED' and retry_count < 5) then 'pending' else lower(status) end) in ('pending', 'running');
--> statement-breakpoint
create index concurrently if not exists campaign_timers_ended on public.campaign_timers (
  (case when status = 'PENDING' or (status = 'FAILED' and retry_count < 5) then 'pending' else lower(status) end),
  (case when status in ('COMPLETED', 'CANCELLED') or (status = 'FAILED' and retry_count >= 5) then coalesce(executed_at, updated_at) end) desc
) where (case when status = 'PENDING' or (status = 'FAILED' and retry_count < 5) then 'pending' else lower(status) end) in ('failed', 'cancelled');
--> statement-breakpoint
-- The printed index let a second one in beside one that waits for its retry: the newest counts, those it replaced are over.
update public.campaign_timers t set retry_count = 5
where t.status = 'FAILED' and t.retry_count < 5 and exists (
  select from public.campaign_timers o
  where o.campaign_id = t.campaign_id and o.timer_type = t.timer_type and o.id <> t.id
    and (o.status in ('PENDING', 'RUNNING') or (o.status = 'FAILED' and o.retry_count < 5 and (o.created_at, o.id) > (t.created_at, t.id)))
);
--> statement-breakpoint
create unique index concurrently if not exists unique_active_timer_per_type on public.campaign_timers (campaign_id, timer_type)
where status in ('PENDING', 'RUNNING') or (status = 'FAILED' and retry_count < 5);
--> statement-breakpoint
drop index concurrently if exists public.unique_active_timer_per_type_printed;
--> statement-breakpoint
create index concurrently if not exists idx_campaign_metrics_campaign_id on public.campaign_metrics (campaign_id);
--> statement-breakpoint
create index concurrently if not exists idx_campaign_metrics_type on public.campaign_metrics (metric_type);
--> statement-breakpoint
create index concurrently if not exists idx_campaign_metrics_recorded_at on public.campaign_metrics (recorded_at);
--> statement-breakpoint
create index concurrently if not exists idx_campaign_metrics_analytics on public.campaign_metrics (campaign_id, metric_type, recorded_at);
--> statement-breakpoint
create index concurrently if not exists idx_timer_executions_timer_id on public.timer_executions (timer_id);
--> statement-breakpoint
create index concurrently if not exists idx_timer_executions_status on public.timer_executions (status);
--> statement-breakpoint
create index concurrently if not exists idx_timer_executions_started_at on public.timer_executions (started_at);
--> statement-breakpoint
create unique index concurrently if not exists campaign_state_log_archive_id on public.campaign_state_log_archive (id, created_at);
--> statement-breakpoint
create materialized view if not exists public.mv_active_campaigns as
select
  status,
  count(*) as campaign_count,
  avg(duration_hours) as avg_duration,
  min(created_at) as oldest_campaign,
  max(created_at) as newest_campaign
from public.campaigns
where status in ('CREATED', 'RUNNING', 'REWARD_CLAIM')
group by status;
--> statement-breakpoint
create unique index concurrently if not exists mv_active_campaigns_status_idx on public.mv_active_campaigns (status);
--> statement-breakpoint
comment on materialized view public.mv_active_campaigns is 'Document 002: campaigns not yet over, by state; refreshed every five minutes';
--> statement-breakpoint
create materialized view if not exists public.mv_pending_timers as
select
  timer_type,
  count(*) as timer_count,
  min(scheduled_at) as next_execution,
  avg(retry_count) as avg_retries
from public.campaign_timers
where status = 'PENDING' and scheduled_at <= now() + interval '1 hour'
group by timer_type;
--> statement-breakpoint
create unique index concurrently if not exists mv_pending_timers_timer_type_idx on public.mv_pending_timers (timer_type);
--> statement-breakpoint
comment on materialized view public.mv_pending_timers is 'Document 002: timers of the next hour, by type; refreshed every minute';
