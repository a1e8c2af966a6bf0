import { afterAll, beforeAll, expect, test } from 'vitest'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { runPawl, startWorker } from '../support/process.ts'
import { ask, openPages } from './stage.ts'
import type { Pages } from '../../src/pages/server.ts'

let db: TestDatabase
let open: Pages

beforeAll(async () => {
  db = await createDatabase()
  open = await openPages(db)
})

afterAll(async () => {
  await open.close()
  await db.drop()
})

test('a worker without the port serves no page; one with it does, and stops with it', async () => {
  const plain = await startWorker(db.url)
  expect(plain.log.some(line => line.msg === 'pages ready')).toBe(false)
  plain.signal('SIGTERM')
  const worker = await startWorker(db.url, { env: { PAWL_PAGES_PORT: '0' } })
  const port = Number(worker.log.find(line => line.msg === 'pages ready')?.pages_port)
  expect(await ask(port, '/')).toMatchObject({ status: 200, text: expect.stringContaining(worker.name) })
  worker.signal('SIGTERM')
  expect(await worker.exited).toMatchObject({ code: 0 })
  await expect(ask(port, '/')).rejects.toThrow('ECONNREFUSED')
  expect(await plain.exited).toMatchObject({ code: 0 })
})

test('a host that others can reach is refused without a token, by the worker and by "pawl pages"', async () => {
  for (const words of [['work'], ['pages']]) {
    const { code, stderr } = await runPawl(words, db.url, { env: { PAWL_PAGES_HOST: '0.0.0.0', PAWL_PAGES_PORT: '0', PAWL_HTTP_PORT: '0' } })
    expect([words, code]).toEqual([words, 2])
    expect(stderr).toContain('PAWL_PAGES_TOKEN: is needed where others can reach PAWL_PAGES_HOST=0.0.0.0')
  }
})

test('a port that is taken is named with the variable that changes it', async () => {
  const { code, stderr } = await runPawl(['pages', '--port', String(open.port)], db.url)
  expect(code).not.toBe(0)
  expect(stderr).toContain(`the pages can't be served on 127.0.0.1:${open.port}`)
  expect(stderr).toContain('PAWL_PAGES_PORT')
})
