// The monitoring queries of document 002, pasted as they stand there, trailing blanks included: they are the specification.

/** Health Check Queries. */
export const STUCK_TIMERS = `
-- Check for stuck timers
SELECT 
    timer_type,
    COUNT(*) as stuck_count,
    MIN(scheduled_at) as oldest_stuck
FROM campaign_timers 
WHERE status = 'PENDING' 
AND scheduled_at < NOW() - INTERVAL '10 minutes'
GROUP BY timer_type;`

/** Health Check Queries. */
export const FAILED_TIMERS = `
-- Check for failed timers needing retry
SELECT 
    campaign_id,
    timer_type,
    retry_count,
    scheduled_at,
    updated_at
FROM campaign_timers 
WHERE status = 'FAILED' 
AND retry_count < 5
AND updated_at < NOW() - INTERVAL '5 minutes';`

/** Health Check Queries. */
export const STATE_DISTRIBUTION = `
-- Campaign state distribution
SELECT 
    status,
    COUNT(*) as count,
    ROUND(COUNT(*) * 100.0 / SUM(COUNT(*)) OVER (), 2) as percentage
FROM campaigns 
GROUP BY status 
ORDER BY count DESC;`

/** Performance Monitoring. */
export const EXECUTION_TIMES = `
-- Average timer execution times
SELECT 
    t.timer_type,
    COUNT(te.id) as executions,
    ROUND(AVG(te.execution_time_ms)) as avg_ms,
    MAX(te.execution_time_ms) as max_ms,
    COUNT(CASE WHEN te.status = 'FAILED' THEN 1 END) as failures
FROM campaign_timers t
LEFT JOIN timer_executions te ON t.id = te.timer_id
WHERE te.started_at > NOW() - INTERVAL '24 hours'
GROUP BY t.timer_type
ORDER BY avg_ms DESC;`

/** Performance Monitoring: called table sizes there, shows statistics. */
export const TABLE_STATISTICS = `
-- Database table sizes
SELECT 
    schemaname,
    tablename,
    attname,
    n_distinct,
    correlation
FROM pg_stats 
WHERE schemaname = 'public' 
AND tablename LIKE 'campaign%'
ORDER BY tablename, attname;`
