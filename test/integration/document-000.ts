// The queries of document 000, pasted as they stand there, trailing blanks included: they are the specification.

/** Query Optimization: dashboard statistics. */
export const DASHBOARD = `
-- Optimized query for dashboard statistics
WITH category_stats AS (
    SELECT 
        category_id,
        COUNT(*) as total_operations,
        SUM(affected_recipients_count) as total_recipients_affected,
        MAX(operation_timestamp) as last_operation
    FROM category_override_audit 
    WHERE operation_status = 'COMPLETED'
    AND operation_timestamp > NOW() - INTERVAL '90 days'
    GROUP BY category_id
)
SELECT 
    c.name,
    COALESCE(cs.total_operations, 0) as operations_count,
    COALESCE(cs.total_recipients_affected, 0) as recipients_affected,
    cs.last_operation
FROM categories c
LEFT JOIN category_stats cs ON c.id = cs.category_id
ORDER BY cs.total_operations DESC NULLS LAST;`

/** Backup Strategy. */
export const BACKUP_VERIFICATION = `
-- Backup verification query
SELECT 
    schemaname,
    tablename,
    pg_size_pretty(pg_total_relation_size(schemaname||'.'||tablename)) as size
FROM pg_tables 
WHERE tablename LIKE '%override%'
ORDER BY pg_total_relation_size(schemaname||'.'||tablename) DESC;`

/** Recovery Procedures. */
export const CONSISTENCY = `
-- Consistency check after recovery
SELECT 
    COUNT(*) as audit_records,
    COUNT(DISTINCT operation_id) as unique_operations,
    MIN(operation_timestamp) as earliest_operation,
    MAX(operation_timestamp) as latest_operation
FROM category_override_audit;`

/** Monitoring Queries: Operation Performance. */
export const PERFORMANCE = `
-- Monitor operation performance
SELECT 
    DATE_TRUNC('hour', operation_timestamp) as hour,
    COUNT(*) as operations_count,
    AVG(affected_recipients_count) as avg_recipients,
    AVG(operation_duration_ms) as avg_duration_ms,
    COUNT(*) FILTER (WHERE operation_status = 'FAILED') as failed_count
FROM category_override_audit
WHERE operation_timestamp > NOW() - INTERVAL '24 hours'
GROUP BY DATE_TRUNC('hour', operation_timestamp)
ORDER BY hour DESC;`

/** Monitoring Queries: System Health. */
export const STUCK = `
-- Check for stuck operations
SELECT 
    operation_id,
    category_id,
    user_id,
    status,
    started_at,
    NOW() - started_at as duration
FROM category_override_operations
WHERE status IN ('PENDING', 'PROCESSING')
AND started_at < NOW() - INTERVAL '1 hour';`
