import type { Database } from '../../src/database.ts'

const sums = [
  { name: 'impressions', aggregate: 'sum', label: 'Impressions' },
  { name: 'clicks', aggregate: 'sum', label: 'Clicks' },
  { name: 'purchases', aggregate: 'sum', label: 'Purchases' },
]
const marketplace = { column: 'marketplace', operator: 'in', parameter: 'marketplaces' }
const parameters = { marketplaces: { type: 'text[]', label: 'Marketplaces' }, since: { type: 'date', label: 'Since', default: '2024-01-01' } }

/** One template of each type of document 001, over the tables that the sample refresh has filled. */
const templates = {
  export: {
    type: 'tabular',
    structure: {
      source: 'sqp.weekly_summary',
      columns: ['week_start', 'marketplace', 'asin', 'search_queries', 'impressions', 'clicks', 'cart_adds', 'purchases'],
      filters: [marketplace, { column: 'week_start', operator: '>=', parameter: 'since' }],
    },
  },
  queries: {
    type: 'tabular',
    structure: {
      source: 'sqp.search_performance_summary',
      columns: [
        { name: 'search_query', label: 'Search query' },
        { name: 'marketplace', label: 'Marketplace' },
        { name: 'first_seen', label: 'First seen' },
        { name: 'impressions', label: 'Impressions' },
        { name: 'clicks', label: 'Clicks' },
        { name: 'purchases', label: 'Purchases' },
        { name: 'purchase_rate', label: 'Purchases per click' },
      ],
      filters: [marketplace],
      order_by: [{ column: 'purchases', direction: 'desc' }],
      limit: 500,
    },
  },
  months: {
    type: 'chart',
    structure: {
      source: 'sqp.monthly_summary',
      columns: [{ name: 'month_start', label: 'Month' }, ...sums.slice(1), { name: 'marketplace', hidden: true }],
      filters: [marketplace],
      chart: { kind: 'bar', x: 'month_start', y: ['clicks', 'purchases'] },
    },
  },
  overview: {
    type: 'dashboard',
    structure: {
      blocks: [
        { type: 'metric', title: 'Altogether', source: 'sqp.monthly_summary', columns: sums },
        {
          type: 'chart',
          title: 'Clicks by week',
          source: 'sqp.weekly_summary',
          columns: [{ name: 'week_start', label: 'Week' }, ...sums.slice(1)],
          chart: { kind: 'line', x: 'week_start', y: ['clicks', 'purchases'] },
        },
        {
          type: 'table',
          title: 'By quarter',
          source: 'sqp.quarterly_summary',
          columns: ['quarter_start', 'marketplace', 'asins', 'impressions', 'clicks', 'purchases'],
          order_by: ['quarter_start', 'marketplace'],
        },
      ],
    },
  },
  letter: {
    type: 'custom',
    structure: {
      blocks: [
        {
          type: 'text',
          title: 'To the board',
          text: 'What shoppers searched for since {{since}}, and what came of it.\n\nEvery number here is read from the tables that Pawl refreshed.',
        },
        { type: 'metric', source: 'sqp.yearly_summary', columns: sums },
        {
          type: 'chart',
          title: 'Purchases by marketplace',
          source: 'sqp.yearly_summary',
          columns: [
            { name: 'marketplace', label: 'Marketplace' },
            { name: 'purchases', aggregate: 'sum', label: 'Purchases' },
          ],
          chart: { kind: 'pie', x: 'marketplace', y: 'purchases' },
        },
        {
          type: 'table',
          title: 'Most purchased',
          source: 'sqp.search_performance_summary',
          columns: [
            { name: 'search_query', label: 'Search query' },
            { name: 'clicks', label: 'Clicks' },
            { name: 'purchases', label: 'Purchases' },
          ],
          order_by: [{ column: 'purchases', direction: 'desc' }],
          limit: 40,
        },
      ],
    },
  },
}

/** Which template is executed as which format: each of both at least once. */
const reports = [
  { name: 'Weekly export', template: 'export', format: 'csv' },
  { name: 'Clicks by month', template: 'months', format: 'json' },
  { name: 'Best queries', template: 'queries', format: 'excel' },
  { name: 'Overview', template: 'overview', format: 'html' },
  { name: 'Letter to the board', template: 'letter', format: 'pdf' },
] as const

/** An organization with people, a template of each type and five reports, once; and the rights to read what they read. True when it made them. */
export async function loadReportSample(db: Database): Promise<boolean> {
  return db.transact(async query => {
    await query(`select pg_advisory_xact_lock(hashtext('pawl.sample'))`)
    const [made] = await query<{ id: string }>(
      `insert into reporting.organizations (name, domain, slug, description)
       values ('Acme Retail', 'acme.example', 'acme-retail', 'The sample''s organization') on conflict do nothing returning id`,
    )
    if (made === undefined) return false
    await query('grant usage on schema sqp to pawl_report')
    await query('grant select on all tables in schema sqp to pawl_report')
    const people = await query<{ id: string }>(
      `insert into reporting.users (email, username, password_hash, first_name, last_name, organization_id, role)
       values ('ada@acme.example', 'ada', '!', 'Ada', 'Lovelace', $1, 'org_admin'), ('grace@acme.example', 'grace', '!', 'Grace', 'Hopper', $1, 'report_viewer')
       returning id`,
      [made.id],
    )
    const [ada, grace] = people.map(person => person.id)
    for (const { name, template, format } of reports) {
      const { type, structure } = templates[template]
      await query(
        `with template as (
           insert into reporting.templates (name, organization_id, created_by, template_type, structure, parameters)
           values ($1, $2, $3, $4, $5, $6) returning id
         ), report as (
           insert into reporting.reports (name, template_id, organization_id, created_by, priority, configuration)
           select $1, id, $2, $3, $8, jsonb_build_object('output_format', $7::text) from template returning id
         )
         insert into reporting.report_shares (report_id, shared_with) select id, $9 from report`,
        [name, made.id, ada, type, JSON.stringify(structure), JSON.stringify(parameters), format, format === 'pdf' ? 1 : 5, grace],
      )
    }
    return true
  })
}

/** Executes the sample's reports, one in each format: four are asked for, the fifth is scheduled for now. When that was, by the database's clock. */
export async function executeSampleReports(db: Database): Promise<Date> {
  return db.transact(async query => {
    await query(
      `select pawl.run_report(r.id, r.created_by, r.configuration ->> 'output_format')
       from reporting.reports r join reporting.organizations o on o.id = r.organization_id
       where o.slug = 'acme-retail' and r.priority > 1 order by r.name`,
    )
    const [scheduled] = await query<{ now: Date }>(
      `update reporting.reports r set status = 'scheduled', scheduled_at = now()
       from reporting.organizations o where o.id = r.organization_id and o.slug = 'acme-retail' and r.priority = 1 returning now() as now`,
    )
    if (scheduled === undefined) throw new Error('the sample organization has no report to schedule')
    return scheduled.now
  })
}

export type SampleReport = {
  name: string
  state: string
  format: string
  rows: number | null
  bytes: number | null
  url: string | null
  error: string | null
  finished: boolean
}

/** What became of the sample's executions since then. */
export async function sampleReports(db: Database, since: Date): Promise<SampleReport[]> {
  return db.query<SampleReport>(
    `select r.name, coalesce(c.state, e.status) as state, e.output_format as format, (e.metadata ->> 'rows')::bigint as rows, e.result_size_bytes as bytes,
       e.output_url as url, e.error_message as error, e.status <> 'running' as finished
     from reporting.report_executions e
     join reporting.reports r on r.id = e.report_id
     join reporting.organizations o on o.id = r.organization_id
     left join pawl.checkpoints c on c.run_id = e.id::text
     where o.slug = 'acme-retail' and e.started_at >= $1 order by r.name`,
    [since],
  )
}
