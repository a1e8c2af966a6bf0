import type { Database } from '../../src/database.ts'

const sums = 'sum(impressions)::bigint as impressions, sum(clicks)::bigint as clicks, sum(cart_adds)::bigint as cart_adds, sum(purchases)::bigint as purchases'

/** Where each sample table comes from: three from files, the summaries from those, in the database. */
const tables = (dir: string): Record<string, { params: Record<string, unknown>; dependencies?: string[] }> => ({
  asin_performance_data: {
    params: {
      source: 'duckdb',
      files: `${dir}/asin_performance_data.parquet`,
      quality: [
        { check: 'row_count', min: 1 },
        { check: 'null_ratio', column: 'asin', max: 0 },
        { check: 'row_change', max_percent: 50, on_breach: 'warn' },
      ],
    },
  },
  search_query_performance: { params: { source: 'duckdb', files: `${dir}/search_query_performance.parquet` } },
  daily_sqp_data: { params: { source: 'duckdb', files: `${dir}/daily_sqp_data.csv` } },
  search_performance_summary: {
    params: {
      source: 'sql',
      query: `select marketplace, search_query, min(report_date) as first_seen, max(report_date) as last_seen, count(distinct asin) as asins, ${sums},
        round(sum(clicks)::numeric / nullif(sum(impressions), 0), 6) as click_rate, round(sum(purchases)::numeric / nullif(sum(clicks), 0), 6) as purchase_rate
        from sqp.asin_performance_data group by marketplace, search_query`,
    },
  },
  weekly_summary: {
    params: {
      source: 'sql',
      query: `select date_trunc('week', report_date)::date as week_start, marketplace, asin, count(distinct search_query) as search_queries, ${sums}
        from sqp.asin_performance_data group by 1, 2, 3`,
    },
  },
  monthly_summary: {
    params: {
      source: 'sql',
      query: `select date_trunc('month', report_date)::date as month_start, marketplace, asin, count(distinct search_query) as search_queries, ${sums}
        from sqp.asin_performance_data group by 1, 2, 3`,
    },
  },
  quarterly_summary: {
    dependencies: ['sqp.monthly_summary'],
    params: {
      source: 'sql',
      query: `select date_trunc('quarter', month_start)::date as quarter_start, marketplace, count(distinct asin) as asins, ${sums} from sqp.monthly_summary group by 1, 2`,
    },
  },
  yearly_summary: {
    dependencies: ['sqp.quarterly_summary'],
    params: {
      source: 'sql',
      query: `select date_trunc('year', quarter_start)::date as year_start, marketplace, max(asins) as asins, ${sums} from sqp.quarterly_summary group by 1, 2`,
    },
  },
})

/** Gives the document's eight tables their sample sources, those that have none yet, and refreshes all of them in one run, whose id it returns. */
export async function refreshSample(db: Database, dir: string): Promise<number> {
  for (const [table, { params, dependencies = [] }] of Object.entries(tables(dir))) {
    await db.query(
      `update sqp.refresh_config set custom_sync_params = $2, dependencies = $3
       where table_schema = 'sqp' and table_name = $1 and (custom_sync_params = '{}' or custom_sync_params ->> 'files' like '%' || $1 || '.%')`,
      [table, JSON.stringify(params), dependencies],
    )
  }
  const names = Object.keys(tables(dir))
  const [row] = await db.query<{ run: number }>(
    `select pawl.add_refresh_run(null, 'sample', array(
       select c.id from sqp.refresh_config c
       where c.table_schema = 'sqp' and c.table_name = any ($1) and c.is_enabled
         and not exists (select from pawl.refresh_steps s where s.config_id = c.id and s.outcome is null))) as run`,
    [names],
  )
  return row?.run ?? 0
}
