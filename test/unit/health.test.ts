import { request } from 'node:http'
import { afterEach, expect, test } from 'vitest'
import { type Check, type Probes, serveHealth } from '../../src/health.ts'
import { silent } from '../support/postgres.ts'

const good: Check = { check: 'loop', ok: true, detail: 'turned 3 ms ago' }
const bad: Check = { check: 'database', ok: false, detail: 'silent for 9 s' }

const servers: { close(): Promise<void> }[] = []

afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.close()))
})

async function serve(probes: Partial<Probes> = {}): Promise<{ port: number; url: string }> {
  const all: Probes = {
    live: () => [good],
    ready: () => [good],
    metrics: async () => ({ type: 'text/plain; version=0.0.4; charset=utf-8', text: 'up 1\n' }),
    ...probes,
  }
  const server = await serveHealth({ host: '127.0.0.1', port: 0, log: silent, probes: all })
  servers.push(server)
  return { port: server.port, url: `http://127.0.0.1:${server.port}` }
}

test('a probe answers 200 with its checks when all are good, and is never cached', async () => {
  const { url } = await serve()
  for (const path of ['/livez', '/readyz', '/livez?verbose', '/readyz?x=/metrics']) {
    const answer = await fetch(url + path)
    expect(answer.status, path).toBe(200)
    expect(answer.headers.get('content-type')).toBe('application/json')
    expect(answer.headers.get('cache-control')).toBe('no-store')
    expect(await answer.json()).toEqual({ ok: true, checks: [good] })
  }
})

test('one bad check makes it 503, with the reason in the same JSON', async () => {
  const { url } = await serve({ ready: async () => [good, bad] })
  const answer = await fetch(`${url}/readyz`)
  expect(answer.status).toBe(503)
  expect(await answer.json()).toEqual({ ok: false, checks: [good, bad] })
  expect((await fetch(`${url}/livez`)).status).toBe(200)
})

test('liveness and readiness each ask their own checks, anew at every request', async () => {
  let ready = true
  const { url } = await serve({ live: () => [good], ready: () => [ready ? good : bad] })
  expect((await fetch(`${url}/readyz`)).status).toBe(200)
  ready = false
  expect((await fetch(`${url}/readyz`)).status).toBe(503)
  expect((await fetch(`${url}/livez`)).status).toBe(200)
})

test('metrics carry the content type that Prometheus reads', async () => {
  const { url } = await serve()
  const answer = await fetch(`${url}/metrics`)
  expect(answer.status).toBe(200)
  expect(answer.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8')
  expect(await answer.text()).toBe('up 1\n')
})

test('other paths are 404 and say which exist, other methods are 405, HEAD has no body', async () => {
  const { url } = await serve()
  for (const path of ['/', '/livez/', '/LIVEZ', '/metrics2', '/favicon.ico']) {
    const answer = await fetch(url + path)
    expect(answer.status, path).toBe(404)
    expect(await answer.text()).toContain('/livez, /readyz or /metrics')
  }
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) expect((await fetch(`${url}/livez`, { method })).status, method).toBe(405)
  const head = await fetch(`${url}/readyz`, { method: 'HEAD' })
  expect(head.status).toBe(200)
  expect(await head.text()).toBe('')
})

test('a request line that is no proper path is 404, not a failure of ours', async () => {
  const { port } = await serve()
  const status = await new Promise(resolve => {
    request({ port, host: '127.0.0.1', path: '//' }, answer => resolve(answer.resume().statusCode)).end()
  })
  expect(status).toBe(404)
})

test('a probe that throws is a 500 without its words, and the server goes on', async () => {
  const { url } = await serve({
    metrics: async () => {
      throw new Error('the inner secret')
    },
  })
  const answer = await fetch(`${url}/metrics`)
  expect(answer.status).toBe(500)
  expect(await answer.text()).not.toContain('secret')
  expect((await fetch(`${url}/livez`)).status).toBe(200)
})

test('a port that is taken is said as EADDRINUSE', async () => {
  const { port } = await serve()
  const probes: Probes = { live: () => [], ready: () => [], metrics: async () => ({ type: '', text: '' }) }
  await expect(serveHealth({ host: '127.0.0.1', port, log: silent, probes })).rejects.toMatchObject({ code: 'EADDRINUSE' })
})

test('close ends at once, also with a client that keeps its connection open, and the port is free again', async () => {
  const { port, url } = await serve()
  await (await fetch(`${url}/livez`, { keepalive: true })).text()
  await servers.pop()?.close()
  await expect(fetch(`${url}/livez`)).rejects.toThrow()
  const probes: Probes = { live: () => [good], ready: () => [], metrics: async () => ({ type: '', text: '' }) }
  const again = await serveHealth({ host: '127.0.0.1', port, log: silent, probes })
  servers.push(again)
  expect(again.port).toBe(port)
})
