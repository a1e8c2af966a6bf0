import type { Query } from '../../src/database.ts'

/** A row of the schema reporting in the making: what is given and what must be there. */
export type Rows = ReturnType<typeof reportingRows>

let made = 0

/** Inserts rows into the schema reporting; each answers with the row as it stands. */
export function reportingRows(query: Query) {
  const insert = async (table: string, columns: Record<string, unknown>) => {
    const names = Object.keys(columns)
    const [row] = await query(
      `insert into reporting.${table} (${names.map(name => `"${name}"`).join(', ')}) values (${names.map((_, place) => `$${place + 1}`).join(', ')}) returning *`,
      Object.values(columns),
    )
    return row as Record<string, unknown> & { id: string }
  }
  const next = () => ++made
  const organization = (columns: object = {}) => {
    const n = next()
    return insert('organizations', { name: `Organization ${n}`, slug: `organization-${n}`, ...columns })
  }
  const user = (organization_id: string, columns: object = {}) => {
    const n = next()
    const names = { first_name: 'Ada', last_name: 'Lovelace', password_hash: 'x' }
    return insert('users', { organization_id, email: `user${n}@example.org`, username: `user_${n}`, ...names, ...columns })
  }
  const template = (organization_id: string, created_by: string, columns: object = {}) =>
    insert('templates', { organization_id, created_by, name: `Template ${next()}`, template_type: 'tabular', ...columns })
  const report = (organization_id: string, created_by: string, template_id: string, columns: object = {}) =>
    insert('reports', { organization_id, created_by, template_id, name: `Report ${next()}`, ...columns })
  const execution = (report_id: string, executed_by: string, columns: object = {}) => insert('report_executions', { report_id, executed_by, ...columns })
  const audit = (organization_id: string, user_id: string | null, columns: object = {}) =>
    insert('audit_logs', { organization_id, user_id, action: 'read', resource_type: 'report', ...columns })
  /** An organization with a user, his template and a report of it. */
  const tenant = async () => {
    const { id: organizationId } = await organization()
    const { id: userId } = await user(organizationId)
    const { id: templateId } = await template(organizationId, userId)
    const { id: reportId } = await report(organizationId, userId, templateId)
    return { organizationId, userId, templateId, reportId }
  }
  return { insert, organization, user, template, report, execution, audit, tenant }
}
