// Queries and examples of document 001, pasted as they stand there, trailing blanks included: they are the specification.

/** Optimized Queries: cursor-based pagination. $1: organization, $2: created_at of the last row seen. */
export const PAGE = `
-- Efficient pagination with cursor-based approach
SELECT id, name, created_at
FROM reports
WHERE organization_id = $1
  AND created_at < $2  -- cursor value
ORDER BY created_at DESC
LIMIT 20;`

/** Optimized Queries: aggregation of the last 30 days. */
export const AGGREGATION = `
-- Optimized aggregation with covering index
SELECT 
    status,
    COUNT(*) as count,
    AVG(execution_time_ms) as avg_execution_time
FROM report_executions
WHERE started_at >= NOW() - INTERVAL '30 days'
GROUP BY status;`

/** Optimized Queries: $1: template. */
export const PROCESSING = `
-- Efficient exists check instead of COUNT
SELECT EXISTS(
    SELECT 1 FROM reports 
    WHERE template_id = $1 AND status = 'processing'
) as has_processing_reports;`

/** Forward Migration Template, without what is the runner's: the transaction and the record of it. */
export const FORWARD = `
-- Add version column to templates
ALTER TABLE templates 
ADD COLUMN version INTEGER DEFAULT 1,
ADD COLUMN parent_template_id UUID REFERENCES templates(id);

-- Create unique constraint for name+version combination
ALTER TABLE templates 
ADD CONSTRAINT unique_template_name_version 
UNIQUE(organization_id, name, version);

-- Create index for version queries
CREATE INDEX idx_templates_version ON templates(version);
CREATE INDEX idx_templates_parent_template_id ON templates(parent_template_id);

-- Update existing templates to version 1
UPDATE templates SET version = 1 WHERE version IS NULL;

-- Make version NOT NULL
ALTER TABLE templates ALTER COLUMN version SET NOT NULL;`

/** Rollback Migration Template, without what is the runner's. */
export const ROLLBACK = `
-- Remove constraints and indexes
DROP INDEX IF EXISTS idx_templates_version;
DROP INDEX IF EXISTS idx_templates_parent_template_id;
ALTER TABLE templates DROP CONSTRAINT IF EXISTS unique_template_name_version;

-- Remove columns
ALTER TABLE templates 
DROP COLUMN IF EXISTS version,
DROP COLUMN IF EXISTS parent_template_id;`
