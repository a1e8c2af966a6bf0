// Document 002 as someone ran it who had no pg_cron: its statements pasted, trailing blanks included, without the schedules and
// without the partitions of a plain table, which PostgreSQL refuses.

/** Functions, triggers, materialized views, business rules and cleanup, in the document's order; they need the tables. */
export const PRINTED_RULES = `
-- Function to update updated_at timestamp
CREATE OR REPLACE FUNCTION update_updated_at_column()
RETURNS TRIGGER AS $$
BEGIN
    NEW.updated_at = NOW();
    RETURN NEW;
END;
$$ language 'plpgsql';

-- Apply to relevant tables
CREATE TRIGGER update_campaigns_updated_at 
    BEFORE UPDATE ON campaigns 
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();

CREATE TRIGGER update_campaign_timers_updated_at 
    BEFORE UPDATE ON campaign_timers 
    FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();

-- Function to log campaign state changes
CREATE OR REPLACE FUNCTION log_campaign_state_change()
RETURNS TRIGGER AS $$
BEGIN
    -- Only log if status actually changed
    IF (OLD.status IS DISTINCT FROM NEW.status) THEN
        INSERT INTO campaign_state_log (
            campaign_id,
            from_state,
            to_state,
            trigger_event,
            metadata
        ) VALUES (
            NEW.id,
            OLD.status,
            NEW.status,
            COALESCE(NEW.metadata->>'trigger_event', 'UNKNOWN'),
            jsonb_build_object(
                'previous_updated_at', OLD.updated_at,
                'new_updated_at', NEW.updated_at,
                'changed_by', NEW.metadata->>'changed_by'
            )
        );
    END IF;
    
    RETURN NEW;
END;
$$ language 'plpgsql';

-- Apply trigger
CREATE TRIGGER log_campaign_state_changes
    AFTER UPDATE ON campaigns
    FOR EACH ROW EXECUTE FUNCTION log_campaign_state_change();

-- Function to validate timer scheduling
CREATE OR REPLACE FUNCTION validate_timer_schedule()
RETURNS TRIGGER AS $$
BEGIN
    -- Prevent scheduling timers for expired campaigns
    IF EXISTS (
        SELECT 1 FROM campaigns 
        WHERE id = NEW.campaign_id 
        AND status = 'EXPIRED'
    ) THEN
        RAISE EXCEPTION 'Cannot schedule timer for expired campaign: %', NEW.campaign_id;
    END IF;
    
    -- Prevent scheduling timers in the past (with 1 minute tolerance)
    IF NEW.scheduled_at < (NOW() - INTERVAL '1 minute') THEN
        RAISE EXCEPTION 'Cannot schedule timer in the past: %', NEW.scheduled_at;
    END IF;
    
    RETURN NEW;
END;
$$ language 'plpgsql';

-- Apply trigger
CREATE TRIGGER validate_timer_scheduling
    BEFORE INSERT ON campaign_timers
    FOR EACH ROW EXECUTE FUNCTION validate_timer_schedule();

-- Active campaigns summary view
CREATE MATERIALIZED VIEW mv_active_campaigns AS
SELECT 
    status,
    COUNT(*) as campaign_count,
    AVG(duration_hours) as avg_duration,
    MIN(created_at) as oldest_campaign,
    MAX(created_at) as newest_campaign
FROM campaigns 
WHERE status IN ('CREATED', 'RUNNING', 'REWARD_CLAIM')
GROUP BY status;

-- Refresh schedule
CREATE INDEX ON mv_active_campaigns (status);

-- Pending timers view
CREATE MATERIALIZED VIEW mv_pending_timers AS
SELECT 
    timer_type,
    COUNT(*) as timer_count,
    MIN(scheduled_at) as next_execution,
    AVG(retry_count) as avg_retries
FROM campaign_timers 
WHERE status = 'PENDING' 
AND scheduled_at <= NOW() + INTERVAL '1 hour'
GROUP BY timer_type;

CREATE INDEX ON mv_pending_timers (timer_type);

-- Ensure campaign end time is calculated correctly
ALTER TABLE campaigns ADD CONSTRAINT calculated_end_time 
CHECK (
    end_time IS NULL OR 
    end_time = start_time + (duration_hours * INTERVAL '1 hour')
);

-- Prevent duplicate active timers of same type
CREATE UNIQUE INDEX unique_active_timer_per_type 
ON campaign_timers(campaign_id, timer_type) 
WHERE status IN ('PENDING', 'RUNNING');

-- Ensure logical state transitions
CREATE OR REPLACE FUNCTION validate_state_transition()
RETURNS TRIGGER AS $$
BEGIN
    -- Define valid transitions
    IF (OLD.status, NEW.status) NOT IN (
        ('CREATED', 'RUNNING'),
        ('RUNNING', 'CLOSED'),
        ('CLOSED', 'REWARD_CLAIM'),
        ('REWARD_CLAIM', 'EXPIRED'),
        ('RUNNING', 'EXPIRED'),
        ('CLOSED', 'EXPIRED')
    ) THEN
        RAISE EXCEPTION 'Invalid state transition from % to %', OLD.status, NEW.status;
    END IF;
    
    RETURN NEW;
END;
$$ language 'plpgsql';

CREATE TRIGGER validate_campaign_state_transition
    BEFORE UPDATE ON campaigns
    FOR EACH ROW EXECUTE FUNCTION validate_state_transition();

-- Archive old state logs (older than 1 year)
CREATE OR REPLACE FUNCTION archive_old_state_logs()
RETURNS VOID AS $$
BEGIN
    -- Move to archive table
    INSERT INTO campaign_state_log_archive 
    SELECT * FROM campaign_state_log 
    WHERE created_at < NOW() - INTERVAL '1 year';
    
    -- Delete from main table
    DELETE FROM campaign_state_log 
    WHERE created_at < NOW() - INTERVAL '1 year';
    
    RAISE NOTICE 'Archived % old state log records', ROW_COUNT;
END;
$$ LANGUAGE plpgsql;

-- Schedule monthly cleanup

-- Clean up completed timer executions (older than 6 months)
CREATE OR REPLACE FUNCTION cleanup_timer_executions()
RETURNS VOID AS $$
BEGIN
    DELETE FROM timer_executions 
    WHERE status = 'COMPLETED' 
    AND completed_at < NOW() - INTERVAL '6 months';
    
    RAISE NOTICE 'Cleaned up % old timer execution records', ROW_COUNT;
END;
$$ LANGUAGE plpgsql;


-- Create monthly partitions automatically
CREATE OR REPLACE FUNCTION create_monthly_partitions()
RETURNS VOID AS $$
DECLARE
    start_date DATE;
    end_date DATE;
    table_name TEXT;
BEGIN
    start_date := DATE_TRUNC('month', CURRENT_DATE);
    end_date := start_date + INTERVAL '1 month';
    table_name := 'campaign_state_log_y' || TO_CHAR(start_date, 'YYYY') || 'm' || TO_CHAR(start_date, 'MM');
    
    EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF campaign_state_log FOR VALUES FROM (%L) TO (%L)',
                   table_name, start_date, end_date);
END;
$$ LANGUAGE plpgsql;`
