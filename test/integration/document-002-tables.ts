// Document 002 as someone ran it who had no pg_cron: its statements pasted, trailing blanks included, without the schedules and
// without the partitions of a plain table, which PostgreSQL refuses.

/** Core Tables, with their indexes. */
export const PRINTED_TABLES = `
CREATE TABLE campaigns (
    id UUID PRIMARY KEY,
    status VARCHAR(20) NOT NULL,
    metadata JSONB NOT NULL DEFAULT '{}',
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    start_time TIMESTAMP WITH TIME ZONE,
    end_time TIMESTAMP WITH TIME ZONE,
    duration_hours INTEGER NOT NULL,
    auto_close BOOLEAN NOT NULL DEFAULT true,
    rewards_enabled BOOLEAN NOT NULL DEFAULT true,
    
    -- Constraints
    CONSTRAINT valid_status CHECK (status IN ('CREATED', 'RUNNING', 'CLOSED', 'REWARD_CLAIM', 'EXPIRED')),
    CONSTRAINT valid_duration CHECK (duration_hours > 0),
    CONSTRAINT valid_time_range CHECK (end_time IS NULL OR end_time > start_time)
);

-- Indexes
CREATE INDEX idx_campaigns_status ON campaigns(status);
CREATE INDEX idx_campaigns_start_time ON campaigns(start_time);
CREATE INDEX idx_campaigns_end_time ON campaigns(end_time);
CREATE INDEX idx_campaigns_created_at ON campaigns(created_at);

CREATE TABLE campaign_timers (
    id UUID PRIMARY KEY,
    campaign_id UUID NOT NULL REFERENCES campaigns(id) ON DELETE CASCADE,
    timer_type VARCHAR(50) NOT NULL,
    status VARCHAR(20) NOT NULL DEFAULT 'PENDING',
    scheduled_at TIMESTAMP WITH TIME ZONE NOT NULL,
    executed_at TIMESTAMP WITH TIME ZONE,
    payload JSONB NOT NULL DEFAULT '{}',
    retry_count INTEGER NOT NULL DEFAULT 0,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    
    -- Constraints
    CONSTRAINT valid_timer_type CHECK (timer_type IN ('START_CAMPAIGN', 'CLOSE_CAMPAIGN', 'EXPIRE_CAMPAIGN', 'REWARD_REMINDER')),
    CONSTRAINT valid_timer_status CHECK (status IN ('PENDING', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    CONSTRAINT valid_retry_count CHECK (retry_count >= 0 AND retry_count <= 5)
);

-- Indexes
CREATE INDEX idx_campaign_timers_campaign_id ON campaign_timers(campaign_id);
CREATE INDEX idx_campaign_timers_status ON campaign_timers(status);
CREATE INDEX idx_campaign_timers_scheduled_at ON campaign_timers(scheduled_at);
CREATE INDEX idx_campaign_timers_timer_type ON campaign_timers(timer_type);

-- Composite index for timer processing
CREATE INDEX idx_campaign_timers_processing ON campaign_timers(status, scheduled_at) 
WHERE status IN ('PENDING', 'FAILED');

CREATE TABLE campaign_state_log (
    id UUID PRIMARY KEY,
    campaign_id UUID NOT NULL REFERENCES campaigns(id) ON DELETE CASCADE,
    from_state VARCHAR(20),
    to_state VARCHAR(20) NOT NULL,
    trigger_event VARCHAR(50) NOT NULL,
    metadata JSONB NOT NULL DEFAULT '{}',
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    
    -- Constraints
    CONSTRAINT valid_from_state CHECK (from_state IN ('CREATED', 'RUNNING', 'CLOSED', 'REWARD_CLAIM', 'EXPIRED')),
    CONSTRAINT valid_to_state CHECK (to_state IN ('CREATED', 'RUNNING', 'CLOSED', 'REWARD_CLAIM', 'EXPIRED')),
    CONSTRAINT valid_state_transition CHECK (from_state != to_state OR from_state IS NULL)
);

-- Indexes
CREATE INDEX idx_campaign_state_log_campaign_id ON campaign_state_log(campaign_id);
CREATE INDEX idx_campaign_state_log_created_at ON campaign_state_log(created_at);
CREATE INDEX idx_campaign_state_log_trigger_event ON campaign_state_log(trigger_event);

CREATE TABLE campaign_metrics (
    id UUID PRIMARY KEY,
    campaign_id UUID NOT NULL REFERENCES campaigns(id) ON DELETE CASCADE,
    metric_type VARCHAR(50) NOT NULL,
    value DECIMAL(15,4) NOT NULL,
    attributes JSONB NOT NULL DEFAULT '{}',
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    
    -- Constraints
    CONSTRAINT valid_metric_type CHECK (metric_type IN (
        'ENGAGEMENT_COUNT', 'PARTICIPANT_COUNT', 'REWARD_CLAIMED', 
        'TIMER_EXECUTION_TIME', 'STATE_TRANSITION_TIME'
    ))
);

-- Indexes
CREATE INDEX idx_campaign_metrics_campaign_id ON campaign_metrics(campaign_id);
CREATE INDEX idx_campaign_metrics_type ON campaign_metrics(metric_type);
CREATE INDEX idx_campaign_metrics_recorded_at ON campaign_metrics(recorded_at);

-- Composite index for analytics
CREATE INDEX idx_campaign_metrics_analytics ON campaign_metrics(campaign_id, metric_type, recorded_at);

CREATE TABLE timer_executions (
    id UUID PRIMARY KEY,
    timer_id UUID NOT NULL REFERENCES campaign_timers(id) ON DELETE CASCADE,
    status VARCHAR(20) NOT NULL DEFAULT 'STARTED',
    result JSONB,
    error_message TEXT,
    started_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT NOW(),
    completed_at TIMESTAMP WITH TIME ZONE,
    execution_time_ms INTEGER,
    
    -- Constraints
    CONSTRAINT valid_execution_status CHECK (status IN ('STARTED', 'COMPLETED', 'FAILED')),
    CONSTRAINT valid_execution_time CHECK (execution_time_ms IS NULL OR execution_time_ms >= 0),
    CONSTRAINT valid_completion CHECK (
        (status = 'COMPLETED' AND completed_at IS NOT NULL) OR
        (status = 'FAILED' AND completed_at IS NOT NULL) OR
        (status = 'STARTED' AND completed_at IS NULL)
    )
);

-- Indexes
CREATE INDEX idx_timer_executions_timer_id ON timer_executions(timer_id);
CREATE INDEX idx_timer_executions_status ON timer_executions(status);
CREATE INDEX idx_timer_executions_started_at ON timer_executions(started_at);`
