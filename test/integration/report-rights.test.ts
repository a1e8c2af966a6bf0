import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { expectRefusal, traces } from '../support/report-attack.ts'
import { addReport, openReportStage, readExecution, type ReportStage } from '../support/reports.ts'

const roles = ['super_admin', 'org_admin', 'report_manager', 'report_viewer', 'user'] as const
const relations = ['creator', 'view', 'edit', 'none'] as const
const structure = { source: 'public.numbers', columns: ['n'] }
const declared = { since: { type: 'date' } }
let stage: ReportStage
let report: string
let otherOrganization: string
let users = 0

beforeAll(async () => {
  stage = await openReportStage()
  await stage.query('create table public.numbers (n integer primary key); insert into public.numbers values (1); grant select on public.numbers to pawl_report')
  report = await addReport(stage.query, stage.people, { structure, declared })
  const [other] = await stage.query<{ id: string }>('select organization_id as id from reporting.users where id = $1', [stage.people.stranger])
  otherOrganization = other?.id ?? ''
})
afterAll(() => stage.end())

async function addUser(role: string, organization = stage.people.organization): Promise<string> {
  users += 1
  const [row] = await stage.query<{ id: string }>(
    `insert into reporting.users (email, username, password_hash, first_name, last_name, organization_id, role)
     values ($1 || '@x.example', $1, '!', 'A', 'B', $2, $3) returning id`,
    [`user${users}`, organization, role],
  )
  return row?.id ?? ''
}

const share = (of: string, user: string, permission: string) =>
  stage.query('insert into reporting.report_shares (report_id, shared_with, permission) values ($1, $2, $3)', [of, user, permission])
const setActive = (table: string, id: string, active: boolean | null) => stage.query(`update reporting.${table} set is_active = $2 where id = $1`, [id, active])

/** As docs/reports.md has it: "Who may execute it". */
function allowed(role: string, same: boolean, relation: string): 'edit' | 'view' | undefined {
  if (role === 'super_admin') return 'edit'
  if (same && (relation === 'creator' || role === 'org_admin' || role === 'report_manager')) return 'edit'
  return relation === 'view' || relation === 'edit' ? relation : undefined
}

const cases = roles.flatMap(role =>
  [true, false].flatMap(same => relations.map(relation => ({ role, same, relation, may: allowed(role, same, relation) ?? 'nothing' }))),
)

describe('who asks', () => {
  test.each(cases)('$role, same organization: $same, $relation: may $may', async ({ role, same, relation, may }) => {
    const user = await addUser(role, same ? stage.people.organization : otherOrganization)
    const own = await addReport(stage.query, relation === 'creator' ? { ...stage.people, admin: user } : stage.people, { structure, declared })
    if (relation === 'view' || relation === 'edit') await share(own, user, relation)
    const given = { since: '2026-01-01' }
    const no = { code: '42501', message: /^user "user\d+" may not execute report /, hint: /report_shares/ }
    if (may === 'nothing') {
      await expectRefusal(stage.query, () => stage.ask(own, 'csv', {}, user), no)
      await expectRefusal(stage.query, () => stage.ask(own, 'csv', given, user), no)
      return
    }
    const before = await traces(stage.query)
    expect((await readExecution(stage.query, await stage.ask(own, 'csv', {}, user))).metadata.parameters).toEqual({})
    expect(await traces(stage.query)).not.toEqual(before)
    if (may === 'edit') expect((await readExecution(stage.query, await stage.ask(own, 'csv', given, user))).metadata.parameters).toEqual(given)
    else {
      const only = { code: '42501', message: /^user "user\d+" may execute report .* only with its own parameters$/, hint: /permission edit/ }
      await expectRefusal(stage.query, () => stage.ask(own, 'csv', given, user), only)
      await expectRefusal(stage.query, () => stage.ask(own, 'csv', { since: null }, user), only)
      await expectRefusal(stage.query, () => stage.ask(own, 'csv', [], user), only)
    }
  })

  test.each(roles)('an inactive %s does not, nor one whose organization is inactive', async role => {
    const user = await addUser(role, otherOrganization)
    await share(report, user, 'edit')
    for (const inactive of [false, null]) {
      await setActive('users', user, inactive)
      await expectRefusal(stage.query, () => stage.ask(report, 'csv', {}, user), {
        code: '42501',
        message: /^user "user\d+" is not active$/,
        hint: /is_active/,
      })
      await setActive('users', user, true)
      await setActive('organizations', otherOrganization, inactive)
      await expectRefusal(stage.query, () => stage.ask(report, 'csv', {}, user), { code: '42501', message: /^organization "Other" is not active$/ })
      await setActive('organizations', otherOrganization, true)
    }
    expect(await stage.ask(report, 'csv', {}, user)).not.toBe('')
  })

  test('nobody executes a report of an organization that is inactive', async () => {
    const mighty = await addUser('super_admin', otherOrganization)
    await setActive('organizations', stage.people.organization, false)
    await expectRefusal(stage.query, () => stage.ask(report, 'csv', {}, mighty), { code: '42501', message: /^organization "Own" of report .* is not active$/ })
    await setActive('organizations', stage.people.organization, true)
  })

  test('nobody, or somebody who is not there, is refused by name', async () => {
    const nil = '00000000-0000-0000-0000-000000000000'
    const asked = (of: string | null, by: string | null) => () => stage.query('select pawl.run_report($1, $2)', [of, by])
    await expectRefusal(stage.query, asked(nil, stage.people.admin), { code: '23503', message: /^report 0{8}.* does not exist$/ })
    await expectRefusal(stage.query, asked(null, stage.people.admin), { code: '23503', message: /^report null does not exist$/ })
    await expectRefusal(stage.query, asked(report, nil), { code: '23503', message: /^user 0{8}.* does not exist$/ })
    await expectRefusal(stage.query, asked(report, null), { code: '23503', message: /^user null does not exist$/ })
  })

  test('a login that only produces may ask, and neither look nor go round the checks', async () => {
    const as =
      (statement: string, values: unknown[] = []) =>
      () =>
        stage.db.transact(async query => {
          await query('set local role pawl_producer')
          return query(statement, values)
        })
    expect(await as('select pawl.run_report($1, $2)', [report, stage.people.admin])()).toHaveLength(1)
    for (const statement of [
      'select * from reporting.users',
      'select * from reporting.report_executions',
      `select pawl.add_report_execution(null, null, 'csv', '{}', null)`,
      'select pawl.start_scheduled_reports(1)',
      `select pawl.finish_report('x', 1, 'k', '{}')`,
      `select pawl.log_execution(null, 'info', 'x')`,
    ]) {
      await expectRefusal(stage.query, as(statement), { code: '42501', message: /permission denied/, hint: /|/ })
    }
    expect(await stage.query(`select pg_has_role('pawl_producer', 'pawl_report', 'member') as may`)).toEqual([{ may: false }])
  })
})

describe('the template', () => {
  test('must be active, and its organization’s own or public', async () => {
    const [own] = await stage.query<{ id: string }>('select template_id as id from reporting.reports where id = $1', [report])
    const template = own?.id ?? ''
    for (const inactive of [false, null]) {
      await setActive('templates', template, inactive)
      await expectRefusal(stage.query, () => stage.ask(report), { code: '22023', message: /^template ".*" of report .* is not active$/, hint: /activate it/ })
    }
    await setActive('templates', template, true)
    await stage.query('update reporting.templates set organization_id = $2 where id = $1', [template, otherOrganization])
    for (const secret of [false, null]) {
      await stage.query('update reporting.templates set is_public = $2 where id = $1', [template, secret])
      await expectRefusal(stage.query, () => stage.ask(report), {
        code: '22023',
        message: /^template ".*" of report .* is another organization's$/,
        hint: /make it public/,
      })
    }
    await stage.query('update reporting.templates set is_public = true where id = $1', [template])
    expect(await stage.ask(report)).not.toBe('')
    await stage.query('update reporting.templates set is_public = false, organization_id = $2 where id = $1', [template, stage.people.organization])
  })
})

describe('rights are looked at when a report is asked for', () => {
  test('what was asked for by right is made, whatever becomes of who asked', async () => {
    await stage.work()
    const user = await addUser('report_manager')
    const id = await stage.ask(report, 'csv', {}, user)
    await setActive('users', user, false)
    expect(await stage.work()).toEqual(['completed'])
    expect((await readExecution(stage.query, id)).status).toBe('completed')
  })

  const ends: [string, (creator: string, id: string) => Promise<unknown>, RegExp][] = [
    ['was deactivated', creator => setActive('users', creator, false), /^user "user\d+" is not active$/],
    [
      'moved to another organization',
      creator => stage.query('update reporting.users set organization_id = $2 where id = $1', [creator, otherOrganization]),
      /^user "user\d+" may not execute/,
    ],
    [
      'wrote parameters that don’t fit',
      (_, id) => stage.query(`update reporting.reports set parameters = '{"since": "soon"}' where id = $1`, [id]),
      /^parameter "since" must be of the type date/,
    ],
    [
      'wrote a format that is none',
      (_, id) => stage.query(`update reporting.reports set configuration = '{"output_format": "../x"}' where id = $1`, [id]),
      /^there is no output format "\.\.\/x"$/,
    ],
  ]
  test.each(ends)('a scheduled one whose creator %s fails by itself, and says why', async (_what, end, message) => {
    const creator = await addUser('user')
    const id = await addReport(stage.query, { ...stage.people, admin: creator }, { structure, declared })
    const healthy = await addReport(stage.query, stage.people, { structure, declared })
    await stage.query(`update reporting.reports set status = 'scheduled', scheduled_at = now() where id = any ($1)`, [[id, healthy]])
    await end(creator, id)
    const [turn] = await stage.query('select started from pawl.start_scheduled_reports(10)')
    expect(turn).toEqual({ started: 2 })
    const [row] = await stage.query<Record<string, unknown>>(
      `select r.status as report, e.status, e.error_message, e.completed_at >= e.started_at as ended, e.metadata ? 'scheduled_at' as scheduled,
         (select l.message from reporting.execution_logs l where l.execution_id = e.id and l.level = 'error') as log,
         (select count(*)::integer from pawl.checkpoints c where c.run_id = e.id::text) as runs
       from reporting.reports r join reporting.report_executions e on e.report_id = r.id where r.id = $1`,
      [id],
    )
    expect(row?.error_message).toMatch(message)
    expect(row).toMatchObject({ report: 'failed', status: 'failed', ended: true, scheduled: true, log: `failed: ${row?.error_message}`, runs: 0 })
    expect(await stage.work()).toEqual(['completed'])
    expect(await stage.query('select status from reporting.reports where id = $1', [healthy])).toEqual([{ status: 'completed' }])
  })
})
