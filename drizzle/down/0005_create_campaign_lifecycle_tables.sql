-- pawl:destructive
-- Drops the campaigns with all that belongs to them, also when they were adopted: document 002 has no other owner.
drop function pawl.refresh_campaign_views(text);
drop function public.cleanup_timer_executions();
drop function public.archive_old_state_logs();
drop table public.campaign_state_log_archive;
drop table public.campaign_state_log;
drop table public.timer_executions;
drop table public.campaign_metrics;
drop table public.campaign_timers;
drop table public.campaigns;
drop function public.validate_state_transition();
drop function public.validate_timer_schedule();
drop function public.log_campaign_state_change();
drop function pawl.touch_updated_at();
drop function public.create_monthly_partitions();
