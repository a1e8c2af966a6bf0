import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { openDatabase } from '../../src/database.ts'
import { openLog } from '../../src/log.ts'
import { systemClock } from '../../src/clock.ts'
import { openDashboard } from '../../src/pages/dashboard.ts'
import { type Pages, servePages } from '../../src/pages/server.ts'
import { createLogins } from '../support/client.ts'
import { createDatabase, silent, type TestDatabase } from '../support/postgres.ts'
import { until } from '../support/until.ts'
import { ask, openPages, PAYLOAD, sowFailure, sowHistory, sowTables } from './stage.ts'

const TOKEN = 'kestrel-quartz-0451-river'

let db: TestDatabase
let open: Pages
let closed: Pages

beforeAll(async () => {
  db = await createDatabase()
  open = await openPages(db)
  closed = await openPages(db, { PAWL_PAGES_HOST: '0.0.0.0', PAWL_PAGES_TOKEN: TOKEN })
})

afterAll(async () => {
  await open.close()
  await closed.close()
  await db.drop()
})

const login = (port: number, token: string, headers: Record<string, string> = {}) =>
  ask(port, '/login', {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
    body: new URLSearchParams({ token, next: '//evil.example' }).toString(),
  })

test('a fresh installation shows a whole page, with a policy that lets nothing in from elsewhere', async () => {
  const { status, headers, text } = await ask(open.port, '/')
  expect(status).toBe(200)
  expect(headers).toMatchObject({
    'cache-control': 'no-store',
    'x-frame-options': 'DENY',
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'same-origin',
  })
  expect(headers['content-security-policy']).toContain("default-src 'none'")
  expect(headers['content-security-policy']).not.toContain('unsafe')
  for (const part of ['No run yet', 'No backup is known', 'No worker is running', 'No timer is due']) expect(text).toContain(part)
  expect(text).not.toMatch(/ style=|<style| on\w+=|<script(?! src="\/page-[0-9a-f]{12}\.js" defer><\/script>)|https?:\/\//)
  for (const [, path = ''] of text.matchAll(/(?:src|href)="(\/[^"#]+\.\w+)"/g)) expect([path, (await ask(open.port, path)).status]).toEqual([path, 200])
})

test('only looking is allowed', async () => {
  for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])
    for (const path of ['/', '/queues', '/queues/queues/overrides.apply', '/login'])
      expect([method, path, (await ask(open.port, path, { method })).status]).toEqual([method, path, 405])
  expect(await ask(open.port, '/', { method: 'HEAD' })).toMatchObject({ status: 200, text: '' })
  expect((await ask(open.port, '/nothing')).status).toBe(404)
  expect((await ask(open.port, '//evil.example/..')).status).toBe(404)
})

test('a name that is not this machine is refused: a page elsewhere may have bound its own name to 127.0.0.1', async () => {
  for (const host of ['evil.example', 'evil.example:80', 'localhost.evil.example', '127.0.0.1.evil.example', '10.0.0.7'])
    expect([host, (await ask(open.port, '/', { headers: { host } })).status]).toEqual([host, 421])
  for (const host of ['localhost', 'localhost:8080', '127.0.0.1:1', '[::1]:9466', 'LOCALHOST'])
    expect([host, (await ask(open.port, '/', { headers: { host } })).status]).toEqual([host, 200])
})

describe('with a token', () => {
  test('nothing is shown without it, but a form that asks for it', async () => {
    for (const path of ['/', '/queues', '/queues/assets/x.js', '/nothing']) {
      const { status, headers, text } = await ask(closed.port, path)
      expect([path, status, headers['www-authenticate']]).toEqual([path, 401, 'Bearer realm="pawl"'])
      expect(text).toContain('<form method="post" action="/login">')
      expect(text).not.toContain('overrides')
    }
    for (const authorization of ['Bearer wrong-wrong-wrong-wrong', `Bearer ${TOKEN}x`, `Basic ${btoa(`:${TOKEN}`)}`, 'Bearer'])
      expect([authorization, (await ask(closed.port, '/', { headers: { authorization } })).status]).toEqual([authorization, 401])
    // An address is written into logs and histories.
    expect((await ask(closed.port, `/?token=${TOKEN}`)).status).toBe(401)
  })

  test('it opens as a bearer, or is traded for a cookie that holds no token, for this site and no script', async () => {
    expect((await ask(closed.port, '/', { headers: { authorization: `Bearer ${TOKEN}` } })).status).toBe(200)
    const traded = await login(closed.port, TOKEN)
    expect([traded.status, traded.headers.location]).toEqual([303, '/'])
    const [cookie = ''] = traded.headers['set-cookie'] as string[]
    expect(cookie).toMatch(/^pawl_pages=\d+\.[\w-]{43}; Path=\/; HttpOnly; SameSite=Strict; Max-Age=43200$/)
    expect(cookie).not.toContain(TOKEN)
    const [pair = ''] = cookie.split(';')
    expect((await ask(closed.port, '/', { headers: { cookie: `theme=dark; ${pair}` } })).status).toBe(200)
    const [name, end = '', seal = ''] = pair.split(/[=.]/)
    for (const forged of [
      `${name}=${Number(end) + 1}.${seal}`,
      `${name}=${end}.${seal.slice(1)}`,
      `${name}=${end}`,
      `${name}=.`,
      `${name}=${Number(end) - 50_000}.${seal}`,
    ])
      expect([forged, (await ask(closed.port, '/', { headers: { cookie: forged } })).status]).toEqual([forged, 401])
    expect((await login(closed.port, TOKEN, { 'x-forwarded-proto': 'https' })).headers['set-cookie']).toEqual([expect.stringMatching(/; Secure$/)])
    const left = await ask(closed.port, '/logout', { method: 'POST', headers: { cookie: pair } })
    expect([left.status, left.headers['set-cookie']]).toEqual([303, [expect.stringContaining('pawl_pages=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0')]])
  })

  test('a wrong one is refused, a form of another site and an endless one too', async () => {
    const wrong = await login(closed.port, 'kestrel-quartz-0451-rivet')
    expect(wrong.status).toBe(401)
    expect(wrong.text).toContain('That is not the token.')
    expect(wrong.headers['set-cookie']).toBeUndefined()
    expect((await login(closed.port, TOKEN, { 'sec-fetch-site': 'cross-site' })).status).toBe(403)
    expect((await login(closed.port, TOKEN, { origin: 'https://evil.example' })).status).toBe(403)
    expect((await login(closed.port, TOKEN, { origin: `http://127.0.0.1:${closed.port}` })).status).toBe(303)
    expect((await login(closed.port, 'x'.repeat(10_000))).status).toBe(413)
  })

  test('neither the token nor a wrong one is logged', async () => {
    const lines: string[] = []
    const log = openLog({ level: 'trace', destination: 2 })
    for (const level of ['info', 'warn', 'error'] as const) log[level] = (...words: unknown[]) => lines.push(JSON.stringify(words))
    const pages = await servePages({ config: readConfig({ DATABASE_URL: db.url, PAWL_PAGES_TOKEN: TOKEN }), port: 0, db, log, clock: systemClock })
    onTestFinished(() => pages.close())
    await login(pages.port, TOKEN)
    await login(pages.port, 'guessed-guessed-guessed')
    expect(lines.join('\n')).toContain('a wrong token was given')
    expect(lines.join('\n')).not.toMatch(/guessed-|kestrel/)
  })
})

test('whatever stands in the rows is shown as text', async () => {
  const id = await sowFailure(db, PAYLOAD, PAYLOAD)
  await db.query(
    `insert into pawl.backup_records (backup_id, kind, scope, place, taken_at, lsn, server_version, encrypted, bytes, tables, rows, verify_error)
    values ($1, 'daily', 'full', '/', now(), '0/0', '18', true, 1, 1, 1, $1)`,
    [PAYLOAD],
  )
  const pages = await openPages(db)
  onTestFinished(() => pages.close())
  const { status, text } = await ask(pages.port, '/')
  expect(status).toBe(200)
  expect(text).toContain(id)
  expect(text.split('&lt;script&gt;document.title=').length).toBeGreaterThanOrEqual(6)
  expect(text).not.toContain('<script>document')
  expect(text).not.toContain('<img src=x')
})

test('fifty clients for two seconds cost three views of the database at most', async () => {
  let views = 0
  const counted = { ...db, transact: ((...given: Parameters<TestDatabase['transact']>) => ((views += 1), db.transact(...given))) as TestDatabase['transact'] }
  const pages = await openPages(counted)
  onTestFinished(() => pages.close())
  const begun = systemClock.elapsed()
  let answers = 0
  await Promise.all(
    Array.from({ length: 50 }, async () => {
      do {
        expect((await fetch(pages.url)).status).toBe(200)
        answers += 1
      } while (systemClock.elapsed() - begun < 2_000)
    }),
  )
  expect(answers).toBeGreaterThanOrEqual(50)
  expect(views).toBeLessThanOrEqual(1 + Math.ceil((systemClock.elapsed() - begun) / 1000))
})

test('a database that is down is said to be so, without its name, and the page comes back with it', async () => {
  const config = readConfig({ DATABASE_URL: db.url })
  const gone = openDatabase(readConfig({ DATABASE_URL: 'postgres://pawl:hush@127.0.0.1:1/nowhere' }), silent)
  let isDown = true
  const pages = await servePages({
    config,
    port: 0,
    db: { ...db, transact: ((...given: Parameters<TestDatabase['transact']>) => (isDown ? gone : db).transact(...given)) as TestDatabase['transact'] },
    log: silent,
    clock: systemClock,
  })
  onTestFinished(async () => {
    await pages.close()
    await gone.close()
  })
  const down = await ask(pages.port, '/')
  expect([down.status, down.headers['retry-after']]).toEqual([503, '5'])
  expect(down.text).toContain('The database did not answer')
  expect(down.text).toContain('<meta http-equiv="refresh" content="5">')
  expect(down.text).not.toMatch(/127\.0\.0\.1|hush|nowhere/)
  isDown = false
  await until('the page is back', async () => (await ask(pages.port, '/')).status === 200)
})

test('where the dashboard is not installed, /queues says how to', async () => {
  const missing = Object.assign(new Error('Cannot find package'), { code: 'ERR_MODULE_NOT_FOUND' })
  const dashboard = openDashboard({ config: readConfig({ DATABASE_URL: db.url }), query: db.query, log: silent }, () => Promise.reject(missing))
  const said: unknown[] = []
  const response = { writeHead: (status: number) => (said.push(status), response), end: (text: string) => said.push(text) }
  await dashboard.answer({ url: '/queues', method: 'GET', headers: {} } as never, response as never)
  expect(said).toEqual([501, expect.stringContaining('npm install @pg-boss/dashboard@1.9.0')])
})

test("an observer's rights are enough for all of the page; the queues need more, and say what", async () => {
  await sowHistory(db.query)
  await sowTables(db.query).then(tables => tables.refresh())
  const logins = await createLogins(db)
  const url = logins.urlOf('observer')
  const observer = openDatabase(readConfig({ DATABASE_URL: url }), silent, { max: 2 })
  const pages = await servePages({ config: readConfig({ DATABASE_URL: url }), port: 0, db: observer, log: silent, clock: systemClock })
  onTestFinished(async () => {
    await pages.close()
    await observer.close()
    await logins.drop()
  })
  const { status, text } = await ask(pages.port, '/')
  expect(status).toBe(200)
  for (const part of ['Waiting', 'board_summary', 'verified', 'REWARD_REMINDER', 'select pawl.retry(', 'wraparound']) expect(text).toContain(part)
  const queues = await ask(pages.port, '/queues')
  expect(queues.status).toBe(403)
  expect(queues.text).toContain('grant usage on schema pgboss')
})
