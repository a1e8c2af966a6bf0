import { afterAll, beforeAll, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { type Rows, reportingRows } from './document-001-rows.ts'

let db: TestDatabase
let rows: Rows

beforeAll(async () => {
  db = await createDatabase()
  rows = reportingRows(db.query)
})
afterAll(() => db.drop())

const TABLES = [
  'organizations',
  'users',
  'user_sessions',
  'templates',
  'template_fields',
  'reports',
  'report_shares',
  'report_executions',
  'execution_logs',
  'audit_logs',
]

/** How many rows each table has. */
const counts = async () => {
  const [row] = await db.query(`select ${TABLES.map(table => `(select count(*) from reporting.${table}) as ${table}`).join(', ')}`)
  return row
}

/** A tenant with at least one row in every table, in two months where there are months. */
async function fullTenant() {
  const tenant = await rows.tenant()
  const { organizationId, userId, templateId, reportId } = tenant
  const reader = await rows.user(organizationId)
  await rows.insert('user_sessions', { user_id: userId, expires_at: '2100-01-01' })
  await rows.insert('template_fields', { template_id: templateId, name: 'region', field_type: 'text' })
  await rows.template(organizationId, reader.id, { parent_template_id: templateId, version: 2 })
  await rows.insert('report_shares', { report_id: reportId, shared_with: reader.id })
  for (const at of [new Date(), new Date('2024-01-15T00:00:00Z')]) {
    const execution = await rows.execution(reportId, reader.id, { started_at: at })
    await rows.insert('execution_logs', { execution_id: execution.id, execution_started_at: execution.started_at, message: 'begun' })
    await rows.audit(organizationId, reader.id, { timestamp: at })
  }
  return { ...tenant, readerId: reader.id }
}

test('an organization goes with all it owns, and nothing of another one goes', async () => {
  await fullTenant()
  const before = await counts()
  expect(Object.values(before ?? {})).not.toContain(0)
  const { organizationId } = await fullTenant()
  expect(await counts()).not.toEqual(before)
  await db.query('delete from reporting.organizations where id = $1', [organizationId])
  expect(await counts()).toEqual(before)
})

test('looked at before the commit, the same deletion would be refused: executions go later than their users', async () => {
  const { organizationId } = await fullTenant()
  const before = await counts()
  await expect(
    db.transact(async query => {
      await query('set constraints all immediate')
      await query('delete from reporting.organizations where id = $1', [organizationId])
    }),
  ).rejects.toMatchObject({ code: '23503', constraint: expect.stringContaining('executed_by') })
  expect(await counts()).toEqual(before)
})

test('a user who made a template, made a report or ran one stays', async () => {
  const { organizationId, userId, templateId, reportId } = await rows.tenant()
  const [author, runner] = [await rows.user(organizationId), await rows.user(organizationId)]
  await rows.report(organizationId, author.id, templateId)
  await rows.execution(reportId, runner.id)
  const remove = (id: string) => db.query('delete from reporting.users where id = $1', [id])
  await expect(remove(userId)).rejects.toMatchObject({ code: '23503', constraint: expect.stringMatching(/^(templates|reports)_created_by_fkey$/) })
  await expect(remove(author.id)).rejects.toMatchObject({ code: '23503', constraint: 'reports_created_by_fkey' })
  await expect(remove(runner.id)).rejects.toMatchObject({ code: '23503', constraint: expect.stringContaining('executed_by') })
  expect(await db.query('select from reporting.users where id = any ($1)', [[userId, author.id, runner.id]])).toHaveLength(3)
})

test('a template that a report is made from, or another version, stays; one that nothing names goes with its fields', async () => {
  const { organizationId, userId, templateId } = await rows.tenant()
  const remove = (id: string) => db.query('delete from reporting.templates where id = $1', [id])
  await expect(remove(templateId)).rejects.toMatchObject({ code: '23503', constraint: 'reports_template_id_fkey' })
  const parent = await rows.template(organizationId, userId)
  const child = await rows.template(organizationId, userId, { parent_template_id: parent.id })
  await rows.insert('template_fields', { template_id: child.id, name: 'region', field_type: 'text' })
  await expect(remove(parent.id)).rejects.toMatchObject({ code: '23503', constraint: 'templates_parent_template_id_fkey' })
  await remove(child.id)
  await remove(parent.id)
  expect(await db.query('select from reporting.template_fields where template_id = $1', [child.id])).toEqual([])
})

test('a user who made nothing goes with his sessions and shares; what he did stays in the audit log, without him', async () => {
  const { organizationId, reportId } = await rows.tenant()
  const { id } = await rows.user(organizationId)
  await rows.insert('user_sessions', { user_id: id, expires_at: '2100-01-01' })
  await rows.insert('report_shares', { report_id: reportId, shared_with: id })
  const logged = await rows.audit(organizationId, id, { action: 'login', resource_type: 'user' })
  const old = await rows.audit(organizationId, id, { timestamp: '2024-01-15T00:00:00Z' })
  await db.query('delete from reporting.users where id = $1', [id])
  expect(await db.query('select from reporting.user_sessions where user_id = $1', [id])).toEqual([])
  expect(await db.query('select from reporting.report_shares where shared_with = $1', [id])).toEqual([])
  expect(await db.query('select user_id from reporting.audit_logs where id = any ($1)', [[logged.id, old.id]])).toEqual([{ user_id: null }, { user_id: null }])
})

test('a report goes with its executions, their logs and its shares', async () => {
  const { reportId } = await fullTenant()
  const [of] = await db.query<{ ids: string[] }>('select array_agg(id) as ids from reporting.report_executions where report_id = $1', [reportId])
  expect(of?.ids).toHaveLength(2)
  await db.query('delete from reporting.reports where id = $1', [reportId])
  expect(await db.query('select from reporting.report_executions where report_id = $1', [reportId])).toEqual([])
  expect(await db.query('select from reporting.execution_logs where execution_id = any ($1)', [of?.ids])).toEqual([])
  expect(await db.query('select from reporting.report_shares where report_id = $1', [reportId])).toEqual([])
})

test('updated_at of an organization, user, template and report follows every change, and is nobody else’s to set', async () => {
  const { organizationId, userId, templateId, reportId } = await rows.tenant()
  for (const [table, id] of [
    ['organizations', organizationId],
    ['users', userId],
    ['templates', templateId],
    ['reports', reportId],
  ] as const) {
    const change = `update reporting.${table} set is_active = is_active, updated_at = '2020-01-01' where id = $1 returning updated_at = now() as now, created_at < now() as made`
    expect([table, await db.query(table === 'reports' ? change.replaceAll('is_active', 'priority') : change, [id])]).toEqual([
      table,
      [{ now: true, made: true }],
    ])
  }
})

test('the ids of log lines count up, and are nobody else’s to set', async () => {
  const { userId, reportId } = await rows.tenant()
  const { id, started_at } = await rows.execution(reportId, userId, { started_at: new Date() })
  const line = (columns: object = {}) => rows.insert('execution_logs', { execution_id: id, execution_started_at: started_at, message: 'M', ...columns })
  const [first, second] = [await line(), await line()]
  expect(second.id > first.id).toBe(true)
  await expect(line({ id: 1 })).rejects.toMatchObject({ code: '428C9' })
})
