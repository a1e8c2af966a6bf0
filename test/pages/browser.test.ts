import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import { browserMissing } from '../support/browser.ts'
import { requestOverride, seedCategory } from '../support/overrides.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { startWorker } from '../support/process.ts'
import { until } from '../support/until.ts'
import { type Chromium, openChromium } from './chromium.ts'
import { openPages, PAYLOAD, sowFailure, sowHistory, sowTables } from './stage.ts'

/** Where the picture of docs/pages.md is written on demand; otherwise beside other temporary files. */
const picture = process.env.PAWL_PAGES_PICTURE ?? join(tmpdir(), 'pawl-pages.png')
/** Locks the settings at these shares of each category's recipients, until the answer is called or the test is over. */
async function hold(db: TestDatabase, shares: number[]): Promise<() => Promise<void>> {
  const holder = await connectDirect(readConfig({ DATABASE_URL: db.url }), 'holder')
  onTestFinished(() => holder.close())
  await holder.query('begin')
  await holder.query(
    `select from category_recipient_settings s
     join (select category_id, min(id) as low, max(id) as high from recipients group by category_id having count(*) > 2000) r using (category_id)
     join unnest($1::float8[]) share on s.recipient_id = r.low + floor((r.high - r.low) * share)::bigint for update of s`,
    [shares],
  )
  return async () => void (await holder.query('commit'))
}

const TOKEN = 'kestrel-quartz-0451-river'

describe.skipIf(browserMissing())('in a real browser', () => {
  let browser: Chromium
  let db: TestDatabase

  beforeAll(async () => {
    browser = await openChromium()
    db = await createDatabase()
  })

  afterAll(async () => {
    await browser.close()
    await db.drop()
  })

  const textOf = (selector: string) => `document.querySelector(${JSON.stringify(selector)})?.textContent ?? ''`

  /** The pages of a database, closed when the test is over. */
  async function served(env: Record<string, string> = {}, of = db) {
    const pages = await openPages(of, env)
    onTestFinished(() => pages.close())
    return pages
  }

  test('an installation where nothing has happened yet reads well in both schemes, and axe finds no fault', async () => {
    const pages = await served()
    const tab = await browser.tab()
    for (const scheme of ['light', 'dark'] as const) {
      await tab.scheme(scheme)
      await tab.open(pages.url)
      expect(await tab.faults()).toEqual([])
    }
    expect(await tab.ask(`getComputedStyle(document.documentElement).backgroundColor`)).toBe('rgb(17, 21, 27)')
    expect(tab.complaints).toEqual([])
  })

  test('with work in flight progress moves by itself, what one has opened and chosen stays, and axe finds no fault', async () => {
    const busy = await createDatabase()
    const worker = await startWorker(busy.url, { name: 'worker-a', env: { PAWL_PAGES_PORT: '0', PAWL_SLICE_MS: '0', DB_QUERY_TIMEOUT: '300000' } })
    onTestFinished(async () => {
      worker.signal('SIGKILL')
      await worker.exited
      await busy.drop()
    })
    await sowHistory(busy.query)
    const failed = await sowFailure(busy, 'category 1 "Former customers"', 'new row violates check constraint "channel_known"')
    await requestOverride(busy.query, await seedCategory(busy.query, 2000, { name: 'Early birds' }), { batchSize: 1000 })
    await sowTables(busy.query).then(tables => tables.refresh())
    const [letters, partners] = [await seedCategory(busy.query, 6_000, { name: 'Newsletter' }), await seedCategory(busy.query, 4_000, { name: 'Partners' })]
    await until(
      'conversion is being refreshed',
      async () => (await busy.query(`select from pawl.refresh_plan where "table" = 'sqp.conversion' and state = 'running'`)).length > 0,
    )

    const tab = await browser.tab()
    await tab.open(`http://127.0.0.1:${worker.log.find(line => line.msg === 'pages ready')?.pages_port}/`)
    // Someone holds rows in the way of both lanes of each: the bars stand still until they are let go, and again before their end.
    const release = await hold(busy, [0.15, 0.6])
    await hold(busy, [0.4, 0.9])
    const [first] = [await requestOverride(busy.query, letters, { batchSize: 50 }), await requestOverride(busy.query, letters, { batchSize: 50 })]
    await requestOverride(busy.query, partners, { batchSize: 50 })
    const value = () => tab.ask<number>(`document.querySelector('#run-${first} progress')?.value ?? 0`)
    await until('the bar has come without a reload', async () => (await value()) > 0)
    const before = await value()
    await tab.ask(`(document.querySelector('#tables-list').open = true, document.querySelector('#tables-list summary').focus(),
      getSelection().selectAllChildren(document.querySelector('#failure-${failed} code')), window.same = document.querySelector('#run-${first}'))`)
    await release()
    await until('the bar has moved', async () => (await value()) > before)
    expect(
      await tab.ask(`[document.querySelector('#tables-list').open, document.activeElement === document.querySelector('#tables-list summary'),
        String(getSelection()), window.same === document.querySelector('#run-${first}')]`),
    ).toEqual([true, true, `select pawl.retry('${failed}');`, true])
    expect(await tab.ask(textOf('#graph'))).toMatch(/conversion\s+▶.{0,2}running[^]*conversion_weekly\s+○ waits for conversion/)
    expect(await tab.ask(textOf('#tables-list'))).toContain('sqp.orders_daily, sqp.clicks_daily')
    expect(await tab.ask(textOf('#runs'))).toContain(`Waiting for ${first}`)
    expect(await tab.ask(textOf('#timers'))).toMatch(/116 timers fired, 4 of them a second late or more; 2 failed/)
    for (const scheme of ['dark', 'light'] as const) {
      await tab.scheme(scheme)
      expect(await tab.faults()).toEqual([])
    }
    expect(tab.complaints).toEqual([])
    await tab.ask(`(document.querySelector('#tables-list').open = false, getSelection().empty(), document.activeElement.blur())`)
    const png = await tab.screenshot(0, 1700)
    await writeFile(picture, png)
    expect(png.length).toBeGreaterThan(50_000)
  }, 180_000)

  test('the keyboard reaches everything, in the order of the page, and can hold the updates', async () => {
    await sowTables(db.query)
    const pages = await served()
    const tab = await browser.tab()
    await tab.open(pages.url)
    await tab.ask(`document.getElementById('pause').focus()`)
    await tab.press('Enter')
    expect(await tab.ask(`document.getElementById('pause').getAttribute('aria-pressed')`)).toBe('true')
    const wanted = await tab.ask<number>(
      `[...document.querySelectorAll('a[href], button, summary, input, [tabindex="0"]')].filter(node => node.checkVisibility()).map((node, place) => (node.dataset.place = place)).length`,
    )
    expect(wanted).toBeGreaterThan(15)
    const reached: number[] = []
    await tab.ask(`document.querySelector('.skip').focus()`)
    for (let places = 0; places < wanted; places += 1) {
      if (places > 0) await tab.press('Tab')
      reached.push(await tab.ask<number>(`Number(document.activeElement.dataset.place ?? -1)`))
      expect(await tab.ask(`getComputedStyle(document.activeElement).outlineStyle + ' ' + document.activeElement.outerHTML.slice(0, 80)`)).toMatch(/^solid /)
    }
    expect(reached).toEqual(Array.from({ length: wanted }, (_, place) => place))
  })

  test('a screen reader finds landmarks, one heading of the first rank, captions, and names for all bars and pictures', async () => {
    const pages = await served()
    const tab = await browser.tab()
    await tab.open(pages.url)
    expect(
      await tab.ask(`({
        landmarks: ['header', 'nav', 'main'].map(name => document.querySelectorAll(name).length),
        h1: document.querySelectorAll('h1').length,
        unnamedSections: [...document.querySelectorAll('section')].filter(part => !document.getElementById(part.getAttribute('aria-labelledby'))).length,
        tablesWithoutCaption: [...document.querySelectorAll('table')].filter(table => !table.caption).length,
        barsWithoutName: [...document.querySelectorAll('progress')].filter(bar => !bar.getAttribute('aria-label')).length,
        picturesWithoutWords: [...document.querySelectorAll('svg')].filter(svg => svg.getAttribute('role') !== 'img' || !svg.querySelector('desc')).length,
        status: document.querySelector('[role=status]') !== null,
        lang: document.documentElement.lang,
      })`),
    ).toEqual({
      landmarks: [1, 1, 1],
      h1: 1,
      unnamedSections: 0,
      tablesWithoutCaption: 0,
      barsWithoutName: 0,
      picturesWithoutWords: 0,
      status: true,
      lang: 'en',
    })
  })

  test('without scripts everything is there, and the browser is told to ask again', async () => {
    const id = await sowFailure(db, PAYLOAD, PAYLOAD)
    const pages = await served()
    const tab = await browser.tab()
    await tab.scripts(false)
    await tab.open(pages.url)
    expect(
      await tab.ask(`[document.getElementById('pause'), document.querySelector('noscript meta')?.content ?? document.querySelector('noscript').textContent]`),
    ).toEqual([null, expect.stringContaining('15')])
    for (const part of [id, 'board_summary', 'wraparound']) expect(await tab.ask(textOf('main'))).toContain(part)
  })

  test('what stands in the rows runs no script, neither when the page is loaded nor when it is brought up to date', async () => {
    await sowFailure(db, PAYLOAD, PAYLOAD)
    const pages = await served()
    const tab = await browser.tab()
    await tab.open(pages.url)
    const id = await sowFailure(db, `${PAYLOAD} later`, PAYLOAD)
    await until('the page has taken it up', () => tab.ask<boolean>(`document.getElementById('failure-${id}') !== null`))
    expect(await tab.ask(textOf(`#failure-${id} .subject`))).toContain('<script>document.title=')
    expect(await tab.ask('document.title')).not.toContain('broken into')
    expect(await tab.ask(`document.querySelectorAll('main script, main img').length`)).toBe(0)
    expect(tab.complaints).toEqual([])
  })

  test('when nobody answers any more, the page says so and keeps what it had', async () => {
    const pages = await openPages(db)
    const tab = await browser.tab()
    await tab.open(pages.url)
    await pages.close()
    await until('it says so', async () => (await tab.ask<string>(textOf('#news'))).includes('Not up to date: Pawl does not answer'))
    expect(await tab.ask(textOf('#health'))).toContain('wraparound')
  })

  test('the token is typed into a form once, and the browser is let in and out', async () => {
    const pages = await served({ PAWL_PAGES_TOKEN: TOKEN })
    const tab = await browser.tab()
    await tab.open(pages.url)
    expect(await tab.faults()).toEqual([])
    for (const [word, heading] of [
      ['not-the-token-at-all', 'Token needed'],
      [TOKEN, ''],
    ] as const) {
      await tab.ask(`document.getElementById('token').focus()`)
      await tab.type(word)
      await tab.press('Enter')
      await until('the answer', () =>
        tab.ask<boolean>(heading === '' ? `document.getElementById('runs') !== null` : `document.querySelector('.error') !== null`).catch(() => false),
      )
    }
    expect(await tab.ask('[location.pathname + location.search, document.cookie]')).toEqual(['/', ''])
    await tab.ask(`[...document.querySelectorAll('button')].find(button => button.textContent === 'Leave').click()`)
    await until('the door again', () => tab.ask<boolean>(`document.getElementById('token') !== null`).catch(() => false))
  })

  test("pg-boss's dashboard shows the queues, offers nothing that changes them, refuses what would, and knows no password", async () => {
    const pages = await served()
    const tab = await browser.tab()
    await tab.open(`${pages.url}queues`)
    await until('the queues are listed', async () => (await tab.ask<string>('document.body.innerText')).includes('Queues'))
    await tab.open(`${pages.url}queues/queues`)
    await until('our queues are listed', async () => (await tab.ask<string>('document.body.innerText')).includes('overrides.apply'))
    const [text, source] = await tab.ask<[string, string]>('[document.body.innerText, document.documentElement.outerHTML]')
    expect(text.toLowerCase()).not.toContain('create queue')
    expect(source).not.toContain(new URL(db.url).password === '' ? db.url : new URL(db.url).password)
    expect(source).not.toContain('postgres://')
    const [job] = await db.query<{ id: string }>(`select pawl.enqueue('overrides.apply.dead', '{}') as id`)
    for (const method of ['POST', 'DELETE', 'PUT'])
      expect(
        await tab.ask(
          `fetch('/queues/queues/overrides.apply.dead/jobs/${job?.id}', { method: '${method}', body: new URLSearchParams({ intent: 'delete' }) }).then(answer => answer.status)`,
        ),
      ).toBe(405)
    expect(await db.query(`select state from pgboss.job where id = $1`, [job?.id])).toEqual([{ state: 'created' }])
    await tab.open(`${pages.url}queues/queues/create`)
    await until('it says that it only looks', async () => /read.only/i.test(await tab.ask<string>('document.body.innerText')))
    // Even if something of it wrote: its connections may not.
    const sessions = await db.query<{ application_name: string }>(
      `select application_name from pg_stat_activity where application_name = 'pawl queues' and datname = current_database()`,
    )
    expect(sessions.length).toBeGreaterThan(0)
  })
})
