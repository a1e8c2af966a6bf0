-- pawl:no-transaction
-- Takes back what 0014 built, concurrently; a constraint that is not valid again is one that was made anew, which reads no row.
drop materialized view if exists public.mv_pending_timers;
--> statement-breakpoint
drop materialized view if exists public.mv_active_campaigns;
--> statement-breakpoint
drop index concurrently if exists public.campaign_state_log_archive_id;
--> statement-breakpoint
drop index concurrently if exists public.idx_timer_executions_started_at;
--> statement-breakpoint
drop index concurrently if exists public.idx_timer_executions_status;
--> statement-breakpoint
drop index concurrently if exists public.idx_timer_executions_timer_id;
--> statement-breakpoint
drop index concurrently if exists public.idx_campaign_metrics_analytics;
--> statement-breakpoint
drop index concurrently if exists public.idx_campaign_metrics_recorded_at;
--> statement-breakpoint
drop index concurrently if exists public.idx_campaign_metrics_type;
--> statement-breakpoint
drop index concurrently if exists public.idx_campaign_metrics_campaign_id;
--> statement-breakpoint
drop index concurrently if exists public.unique_active_timer_per_type;
--> statement-breakpoint
drop index concurrently if exists public.campaign_timers_ended;
--> statement-breakpoint
drop index concurrently if exists public.campaign_timers_open;
--> statement-breakpoint
drop index concurrently if exists public.campaign_timers_run_id;
--> statement-breakpoint
drop index concurrently if exists public.campaign_timers_recent;
--> statement-breakpoint
drop index concurrently if exists public.campaign_timers_running;
--> statement-breakpoint
drop index concurrently if exists public.idx_campaign_timers_processing;
--> statement-breakpoint
drop index concurrently if exists public.idx_campaign_timers_timer_type;
--> statement-breakpoint
drop index concurrently if exists public.idx_campaign_timers_scheduled_at;
--> statement-breakpoint
drop index concurrently if exists public.idx_campaign_timers_status;
--> statement-breakpoint
drop index concurrently if exists public.idx_campaign_timers_campaign_id;
--> statement-breakpoint
drop index concurrently if exists public.idx_campaigns_created_at;
--> statement-breakpoint
drop index concurrently if exists public.idx_campaigns_end_time;
--> statement-breakpoint
drop index concurrently if exists public.idx_campaigns_start_time;
--> statement-breakpoint
drop index concurrently if exists public.idx_campaigns_status;
--> statement-breakpoint
drop index concurrently if exists public.idx_categories_last_override;
--> statement-breakpoint
drop index concurrently if exists public.idx_category_recipient_settings_override;
--> statement-breakpoint
drop index concurrently if exists public.idx_recipients_override_target;
--> statement-breakpoint
drop index concurrently if exists public.idx_system_maintenance_log_operation;
--> statement-breakpoint
alter table public.campaigns
  drop constraint if exists calculated_end_time,
  add constraint calculated_end_time check (end_time is null or end_time = start_time + (duration_hours * interval '1 hour')) not valid;
--> statement-breakpoint
alter table public.categories
  drop constraint if exists fk_categories_last_override_user,
  add constraint fk_categories_last_override_user foreign key (last_override_by) references public.users (id) on delete set null not valid;
--> statement-breakpoint
alter table public.category_recipient_settings
  drop constraint if exists chk_valid_operation_reference,
  add constraint chk_valid_operation_reference
    check (updated_by_operation is null or (is_override_generated and override_timestamp is not null)) not valid,
  drop constraint if exists fk_category_recipient_settings_operation,
  add constraint fk_category_recipient_settings_operation
    foreign key (updated_by_operation) references public.category_override_audit_keys (operation_id) on delete set null not valid;
