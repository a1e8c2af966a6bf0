import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { installBoss } from '../../src/boss.ts'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { migrateDown, migrateUp, migrationsDir } from '../../src/migrate.ts'
import { catalog } from '../migration/catalog.ts'
import { createDatabase, silent } from '../support/postgres.ts'
import { FORWARD, ROLLBACK } from './document-001-printed.ts'
import { reportingRows } from './document-001-rows.ts'

const [BEFORE, VERSIONING, EMAIL] = ['0009_create_reporting_tables', '0010_add_template_versioning', '0011_add_email_verification']

/** A database migrated to just before template versions, with a user in it. */
async function openAt(tag: string | undefined) {
  const db = await createDatabase({ empty: true })
  onTestFinished(db.drop)
  const config = readConfig({ DATABASE_URL: db.url })
  const context = { config, log: silent, clock: systemClock, dir: migrationsDir(config) }
  const up = (to: string | undefined) => migrateUp(context, { to: to ?? '', before: () => installBoss(config, silent) })
  await up(tag)
  const rows = reportingRows(db.query)
  const { id: organizationId } = await rows.organization()
  const { id: userId } = await rows.user(organizationId)
  return {
    query: db.query,
    transact: db.transact,
    rows,
    organizationId,
    userId,
    dir: context.dir,
    up,
    down: (allowDataLoss = true) => migrateDown(context, { allowDataLoss }),
    ledger: async () => (await db.query<{ version: string }>('select version from pawl.schema_migrations order by journal_when')).map(row => row.version),
    versions: () => db.query('select name, version, parent_template_id as parent from reporting.templates order by name, version'),
    /** What stands about a table, in every part of the catalogue. */
    structure: async (table = 'templates') => (await catalog(db.query)).filter(line => line.includes('reporting') && line.includes(table)),
  }
}

test('the forward template gives templates that are there version 1, and to those of one name numbers by their age', async () => {
  const { query, rows, organizationId, userId, up, versions, ledger } = await openAt(BEFORE)
  const other = await rows.organization()
  for (const [name, day] of [
    ['Sales', 2],
    ['Sales', 1],
    ['Sales', 3],
    ['Stock', 1],
  ] as const)
    await rows.template(organizationId, userId, { name, description: `of day ${day}`, created_at: new Date(Date.UTC(2026, 0, day)) })
  await rows.template(other.id, userId, { name: 'Sales', description: 'of the others' })
  await up(VERSIONING)
  expect(await query('select name, version, description from reporting.templates order by organization_id = $1 desc, name, version', [organizationId])).toEqual(
    [
      { name: 'Sales', version: 1, description: 'of day 1' },
      { name: 'Sales', version: 2, description: 'of day 2' },
      { name: 'Sales', version: 3, description: 'of day 3' },
      { name: 'Stock', version: 1, description: 'of day 1' },
      { name: 'Sales', version: 1, description: 'of the others' },
    ],
  )
  expect((await versions()).filter(row => row.parent !== null)).toEqual([])
  expect((await ledger()).at(-1)).toBe(VERSIONING)
})

test('a new version of a template stands beside the old one, names its parent, and shares its number with none', async () => {
  const { query, rows, organizationId, userId, versions } = await openAt(VERSIONING)
  const first = await rows.template(organizationId, userId, { name: 'Sales' })
  expect(first.version).toBe(1)
  const insert = (version: number | null) =>
    query(
      `insert into reporting.templates (name, organization_id, created_by, template_type, version, parent_template_id) values ('Sales', $1, $2, 'tabular', $3, $4)`,
      [organizationId, userId, version, first.id],
    )
  await insert(2)
  await expect(insert(2)).rejects.toMatchObject({ code: '23505', constraint: 'unique_template_name_version' })
  await expect(insert(0)).rejects.toMatchObject({ code: '23514', constraint: 'valid_version' })
  await expect(insert(null)).rejects.toMatchObject({ code: '23502' })
  expect(await versions()).toEqual([
    { name: 'Sales', version: 1, parent: null },
    { name: 'Sales', version: 2, parent: first.id },
  ])
})

test('the rollback template takes versions away and keeps every template; it asks first, and forward again numbers them anew', async () => {
  const { query, rows, organizationId, userId, up, down, structure, versions, ledger } = await openAt(BEFORE)
  const before = await structure()
  await up(VERSIONING)
  const after = await structure()
  expect(after).not.toEqual(before)
  const { id } = await rows.template(organizationId, userId, { name: 'Sales', version: 7, created_at: new Date(0) })
  await rows.template(organizationId, userId, { name: 'Sales', version: 9, parent_template_id: id })
  await expect(down(false)).rejects.toMatchObject({ code: 'migrate.destructive' })
  expect(await versions()).toHaveLength(2)
  await down()
  expect(await structure()).toEqual(before)
  expect(await query('select name from reporting.templates')).toEqual([{ name: 'Sales' }, { name: 'Sales' }])
  expect((await ledger()).at(-1)).toBe(BEFORE)
  await up(VERSIONING)
  expect(await structure()).toEqual(after)
  expect(await versions()).toEqual([
    { name: 'Sales', version: 1, parent: null },
    { name: 'Sales', version: 2, parent: null },
  ])
})

test("the document's own statements run on what stands before them, and its rollback undoes ours as well as its own", async () => {
  const { transact, structure, up } = await openAt(BEFORE)
  const before = await structure()
  // But for what it lacks: the check of the version, and the comments.
  const told = (lines: string[]) => lines.filter(line => !/valid_version|^relation|^column/.test(line))
  const printed = (text: string) =>
    transact(async query => {
      await query('set local search_path = reporting')
      await query(text)
    })
  await printed(FORWARD)
  const theirs = await structure()
  await printed(ROLLBACK)
  expect(await structure()).toEqual(before)
  await up(VERSIONING)
  expect(told(await structure())).toEqual(told(theirs))
  await printed(ROLLBACK)
  expect(told(await structure())).toEqual(told(before))
})

test('tokens of e-mail verification: once each, in milliseconds, and the file may run again on a table that has them', async () => {
  const { query, rows, organizationId, up, down, dir, structure } = await openAt(VERSIONING)
  await query(`alter table reporting.users add column "emailVerificationToken" text; update reporting.users set "emailVerificationToken" = 'kept'`)
  await up(EMAIL)
  expect(await query('select "emailVerificationToken" as token, "emailVerificationExpiry" as expiry from reporting.users')).toEqual([
    { token: 'kept', expiry: null },
  ])
  await query(`update reporting.users set "emailVerificationExpiry" = '2026-01-01 12:00:00.123456'`)
  expect(await query('select "emailVerificationExpiry"::text as expiry from reporting.users')).toEqual([{ expiry: '2026-01-01 12:00:00.123' }])
  const users = await structure('users')
  await query(await readFile(join(dir, `${EMAIL}.sql`), 'utf8'))
  expect(await structure('users')).toEqual(users)
  await expect(rows.user(organizationId, { emailVerificationToken: 'kept' })).rejects.toMatchObject({
    code: '23505',
    constraint: 'users_emailVerificationToken_idx',
  })
  for (let n = 0; n < 2; n += 1) await rows.user(organizationId)
  await expect(down(false)).rejects.toMatchObject({ code: 'migrate.destructive' })
  await down()
  expect(await query('select email from reporting.users')).toHaveLength(3)
  await up(EMAIL)
  expect(await query('select distinct "emailVerificationToken" as token from reporting.users')).toEqual([{ token: null }])
})
