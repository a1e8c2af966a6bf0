import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { type Rows, reportingRows } from './document-001-rows.ts'

let db: TestDatabase
let rows: Rows
let tenant: Awaited<ReturnType<Rows['tenant']>>

beforeAll(async () => {
  db = await createDatabase()
  rows = reportingRows(db.query)
  tenant = await rows.tenant()
})
afterAll(() => db.drop())

const NOBODY = '00000000-0000-4000-8000-000000000000'

/** Inserts a row of these columns and those that must be there. */
const of: Record<string, (columns: Record<string, unknown>) => Promise<unknown>> = {
  organizations: columns => rows.organization(columns),
  users: columns => rows.user(tenant.organizationId, columns),
  user_sessions: columns => rows.insert('user_sessions', { user_id: tenant.userId, expires_at: '2100-01-01', ...columns }),
  templates: columns => rows.template(tenant.organizationId, tenant.userId, columns),
  template_fields: columns => rows.insert('template_fields', { template_id: tenant.templateId, name: 'region', field_type: 'text', ...columns }),
  reports: columns => rows.report(tenant.organizationId, tenant.userId, tenant.templateId, columns),
  report_shares: columns => rows.insert('report_shares', { report_id: tenant.reportId, shared_with: tenant.userId, ...columns }),
  report_executions: columns => rows.execution(tenant.reportId, tenant.userId, columns),
  audit_logs: columns => rows.audit(tenant.organizationId, tenant.userId, columns),
  execution_logs: async columns => {
    // In whole milliseconds: a Date drops the microseconds of a started_at that the database made, and then the reference finds nothing.
    const { id, started_at } = await rows.execution(tenant.reportId, tenant.userId, { started_at: new Date() })
    return rows.insert('execution_logs', { execution_id: id, execution_started_at: started_at, message: 'M', ...columns })
  },
}

const long = 'a'.repeat(31)
/** By check: what it lets pass and what it refuses, a column and its values. */
const CHECKS: [table: string, check: string, column: string, allowed: unknown[], refused: unknown[]][] = [
  ['users', 'valid_role', 'role', ['super_admin', 'org_admin', 'report_manager', 'report_viewer', 'user'], ['admin', 'USER', '']],
  [
    'users',
    'valid_email',
    'email',
    ['A.b+c%d_e-f@x-y.Example.org'],
    ['ada', 'ada@example', '@example.org', 'a b@example.org', 'ada@example.o', 'ada@exa_mple.org'],
  ],
  ['users', 'valid_username', 'username', ['Ada', 'a-b_9', 'a'.repeat(30)], ['ad', long, 'ada lovelace', 'äda']],
  ['organizations', 'valid_slug', 'slug', ['abc', 'a-1', 'z'.repeat(50)], ['ab', 'z'.repeat(51), 'Acme', 'a_b', 'a b']],
  ['organizations', 'valid_domain', 'domain', [null, 'Example.org', 'a.b-c.de'], ['example', 'example.o', 'exa mple.org', 'example.0rg']],
  ['organizations', 'valid_subscription_tier', 'subscription_tier', ['free', 'pro', 'enterprise'], ['basic', 'Free']],
  ['user_sessions', 'session_expires_after_start', 'expires_at', ['2100-01-01'], ['2000-01-01']],
  ['templates', 'valid_template_type', 'template_type', ['tabular', 'chart', 'dashboard', 'custom'], ['table', 'Chart']],
  ['templates', 'valid_version', 'version', [1, 2], [0, -1]],
  ['templates', 'template_structure_is_object', 'structure', ['{}', '{"blocks": []}'], ['[]', '"text"', '1', 'null']],
  ['templates', 'template_parameters_is_object', 'parameters', [null, '{}'], ['[]', 'null']],
  ['templates', 'template_configuration_is_object', 'configuration', [null, '{}'], ['[]', 'null']],
  ['template_fields', 'template_field_configuration_is_object', 'configuration', ['{}'], ['[]', 'null']],
  ['reports', 'valid_status', 'status', [null, 'draft', 'processing', 'completed', 'failed', 'cancelled'], ['running', 'Draft']],
  ['reports', 'scheduled_has_time', 'scheduled_at', ['2030-01-01', null], []],
  ['reports', 'valid_priority', 'priority', [1, 10], [0, 11]],
  ['reports', 'report_parameters_is_object', 'parameters', [null, '{"region": "EU"}'], ['[]', '"EU"']],
  ['reports', 'report_configuration_is_object', 'configuration', [null, '{}'], ['[]']],
  ['report_shares', 'valid_permission', 'permission', ['view'], ['own']],
  ['report_executions', 'valid_execution_status', 'status', ['running', 'completed', 'failed', 'cancelled'], ['scheduled', 'Running']],
  ['report_executions', 'valid_output_format', 'output_format', [null, 'pdf', 'excel', 'csv', 'json', 'html'], ['xlsx', 'CSV', '']],
  ['report_executions', 'valid_execution_time', 'execution_time_ms', [null, 0, 1], [-1]],
  ['report_executions', 'completed_at_after_started', 'completed_at', [null, '2100-01-01'], ['2000-01-01']],
  ['execution_logs', 'valid_level', 'level', ['debug', 'info', 'warn', 'error'], ['fatal']],
  ['audit_logs', 'valid_action', 'action', ['create', 'read', 'update', 'delete', 'login', 'logout', 'export'], ['execute']],
  ['audit_logs', 'valid_resource_type', 'resource_type', ['user', 'organization', 'template', 'report', 'execution'], ['session']],
]

describe('checks', () => {
  for (const [table, constraint, column, allowed, refused] of CHECKS) {
    for (const value of allowed) test(`${constraint} lets ${column} ${JSON.stringify(value)} pass`, () => of[table]?.({ [column]: value }))
    for (const value of refused)
      test(`${constraint} refuses ${column} ${JSON.stringify(value)}`, () =>
        expect(of[table]?.({ [column]: value })).rejects.toMatchObject({ code: '23514', constraint }))
  }

  test('a scheduled report has a time, also when it becomes one', async () => {
    await rows.report(tenant.organizationId, tenant.userId, tenant.templateId, { status: 'scheduled', scheduled_at: '2030-01-01' })
    const refusal = { code: '23514', constraint: 'scheduled_has_time' }
    await expect(of.reports?.({ status: 'scheduled' })).rejects.toMatchObject(refusal)
    await expect(db.query(`update reporting.reports set status = 'scheduled' where id = $1`, [tenant.reportId])).rejects.toMatchObject(refusal)
  })

  test('an execution may end in the instant it began', async () => {
    const at = '2024-01-15T12:00:00Z'
    await of.report_executions?.({ started_at: at, completed_at: at })
  })
})

test.each([
  ['organizations', 'organizations_name_key', { name: 'Twin' }],
  ['organizations', 'idx_organizations_slug', { slug: 'twin' }],
  ['users', 'idx_users_email', { email: 'twin@example.org' }],
  ['users', 'idx_users_username', { username: 'twin' }],
  ['users', 'users_emailVerificationToken_idx', { emailVerificationToken: 'twin' }],
  ['templates', 'unique_template_name_version', { name: 'Twin', version: 2 }],
  ['template_fields', 'unique_template_field_name', { name: 'twin' }],
  ['report_executions', 'report_executions_y2024m01_pkey', { id: NOBODY, started_at: '2024-01-01T00:00:00Z' }],
])('%s: %s refuses the second of %j', async (table, constraint, columns) => {
  await of[table]?.(columns)
  await expect(of[table]?.(columns)).rejects.toMatchObject({ code: '23505', constraint })
})

test('an address in other capitals is the same account, and lower(email) finds it by its index', async () => {
  const { id } = await rows.user(tenant.organizationId, { email: 'Grace@Example.org' })
  await expect(of.users?.({ email: 'grace@example.ORG' })).rejects.toMatchObject({ code: '23505', constraint: 'idx_users_email_lower' })
  await db.transact(async query => {
    await query('set local enable_seqscan = off')
    const lookUp = `select id from reporting.users where lower(email) = lower('GRACE@example.org')`
    expect(await query(lookUp)).toEqual([{ id }])
    const plan = await query<Record<string, string>>(`explain (costs off) ${lookUp}`)
    expect(plan.map(line => line['QUERY PLAN']).join('\n')).toContain('idx_users_email_lower')
  })
})

test.each([
  ['users', 'organization_id'],
  ['user_sessions', 'user_id'],
  ['templates', 'organization_id'],
  ['templates', 'created_by'],
  ['templates', 'parent_template_id'],
  ['template_fields', 'template_id'],
  ['reports', 'template_id'],
  ['reports', 'organization_id'],
  ['reports', 'created_by'],
  ['report_shares', 'report_id'],
  ['report_shares', 'shared_with'],
  ['report_executions', 'report_id'],
  ['report_executions', 'executed_by'],
  ['audit_logs', 'user_id'],
  ['audit_logs', 'organization_id'],
])('%s.%s names nothing that does not exist', async (table, column) => {
  await expect(of[table]?.({ [column]: NOBODY })).rejects.toMatchObject({ code: '23503', constraint: `${table}_${column}_fkey` })
})

test('a log line belongs to an execution, by its id and its start', async () => {
  const refusal = { code: '23503', constraint: 'execution_logs_execution_fkey' }
  await expect(of.execution_logs?.({ execution_id: NOBODY })).rejects.toMatchObject(refusal)
  await expect(of.execution_logs?.({ execution_started_at: '2024-01-01' })).rejects.toMatchObject(refusal)
})
