import { afterAll, beforeAll, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { runPawl } from '../support/process.ts'

const SECRET = 'Wr0ng-and-secret'
let db: TestDatabase
let empty: TestDatabase
const login = `pawl_test_errors_${process.pid}`

beforeAll(async () => {
  db = await createDatabase()
  empty = await createDatabase({ empty: true })
  await db.query(`create role ${login} login password '${SECRET}'`)
})

afterAll(async () => {
  await db.query(`drop role ${login}`)
  await db.drop()
  await empty.drop()
})

const other = (change: (url: URL) => void) => {
  const url = new URL(db.urlAs(login, SECRET))
  change(url)
  return url.href
}

/** What people see: what is wrong with its code, the next step beneath, no stack, no password, and the exit code. */
async function told(words: string[], url: string, exit: number, says: RegExp, hint: RegExp): Promise<void> {
  const { code, stdout, stderr } = await runPawl(words, url)
  expect(stderr).toMatch(new RegExp(`^error: .*${says.source}`))
  expect(stderr).toMatch(new RegExp(`\\n {2}next: .*${hint.source}.*\\n$`))
  expect([code, stdout]).toEqual([exit, ''])
  expect(stderr, 'no stack for people').not.toMatch(/^\s+at /m)
  expect(stderr, 'no password').not.toContain(SECRET)
}

test('a URL that is none', async () => {
  await told(['status'], 'mysql://shop', 2, /DATABASE_URL: must start with postgres:\/\/.*\(config\.invalid\)/, /correct the variables/)
  await told(['status'], `postgres://shop:${SECRET}#/x@db/shop`, 2, /DATABASE_URL: is no URL.*\(config\.invalid\)/, /correct/)
})

test('a wrong password, none at all, and a database that is not there', async () => {
  await told(
    ['status'],
    other(url => (url.password = `${SECRET}2`)),
    2,
    /password authentication failed.*\(28P01\)/,
    /user and password in DATABASE_URL/,
  )
  await told(
    ['status'],
    other(url => (url.password = '')),
    2,
    /\(database\.password\)/,
    /put the password into DATABASE_URL/,
  )
  await told(
    ['status'],
    other(url => (url.pathname = '/no_such_shop')),
    2,
    /no_such_shop.*\(3D000\)/,
    /create the database/,
  )
})

test('a host that is not there, a port nobody listens on, and a server without TLS', async () => {
  await told(
    ['status'],
    other(url => (url.hostname = 'no-such-host.invalid')),
    1,
    /no-such-host\.invalid \((ENOTFOUND|EAI_AGAIN)\)/,
    /is PostgreSQL running there/,
  )
  await told(
    ['runs'],
    other(url => (url.port = '1')),
    1,
    /ECONNREFUSED.*:1 \(ECONNREFUSED\)/,
    /is PostgreSQL running there/,
  )
  await told(
    ['status'],
    other(url => (url.search = '?sslmode=require')),
    1,
    /\(database\.tls\)/,
    /take sslmode out/,
  )
})

test('a login without rights, to look and to steer', async () => {
  await told(['status'], db.urlAs(login, SECRET), 2, /permission denied for schema pawl \(42501\)/, /needs the role pawl_observer: grant pawl_observer/)
  await db.query(`grant pawl_observer to ${login}`)
  await told(['cancel', 'ovr_42'], db.urlAs(login, SECRET), 2, /permission denied for function cancel \(42501\)/, /needs the role pawl_operator/)
})

test('a database that was never migrated, one that is older, one that is newer, and one that somebody changed', async () => {
  await told(['stuck'], empty.url, 2, /pawl\.stuck.*\(42P01\)/, /never migrated: pawl migrate up/)
  await db.query('drop view pawl.backlog; alter view pawl.schedules rename to gone')
  const says = /pawl\.schedules.*\(42P01\)/
  await told(['schedules'], db.url, 2, says, /changed the schema by hand: pawl migrate verify/)
  await db.query(`update pawl.schema_migrations set version = '0018_other' where version = (select max(version) from pawl.schema_migrations)`)
  await told(['schedules'], db.url, 2, says, /newer than this Pawl \(it has 0018_other\)/)
  await db.query(`delete from pawl.schema_migrations where version = '0018_other'`)
  await told(['schedules'], db.url, 2, says, /older than this Pawl \(it lacks 0018_console\): pawl migrate up/)
})

test('times and ids that are none, by the server', async () => {
  await told(['report', 'schedule', '00000000-0000-4000-8000-000000000000', 'soon'], db.url, 2, /"soon" is no time/, /09:00/)
  await told(['campaign', 'move', '00000000-0000-4000-8000-000000000000', 'soon'], db.url, 2, /invalid input syntax.*"soon" \(22007\)/, /09:00\+01/)
  await told(['cancel', 'nobody'], db.url, 2, /run "nobody" does not exist \(22023\)/, /pawl\.runs/)
})

test('for machines it is one document on standard output', async () => {
  const { code, stdout, stderr } = await runPawl(['--json', 'backups', 'prune'], db.url)
  expect([code, stderr]).toEqual([2, ''])
  expect(JSON.parse(stdout)).toEqual({
    error: { code: 'usage', message: 'pawl backups has no use for the word "prune"', hint: expect.stringContaining('did you mean --prune?') },
  })
})
