import { createServer } from 'node:http'
import { listening } from './listen.ts'
import type { Log } from './log.ts'

/** One named check of a probe. */
export type Check = { check: string; ok: boolean; detail: string }

export type Probes = {
  /** Is the process itself turning? Never the database: an outage there must not restart every worker. */
  live: () => Check[]
  /** Should this process be relied on for work now? */
  ready: () => Check[] | Promise<Check[]>
  metrics: () => Promise<{ type: string; text: string }>
}

/** Serves /livez, /readyz and /metrics; 503 with the same JSON when a check is not ok. Port 0 takes any free one. */
export async function serveHealth(options: { host: string; port: number; probes: Probes; log: Log }): Promise<{ port: number; close(): Promise<void> }> {
  const { probes, log } = options
  // Who sends a request a byte at a time is let go: Node's own patience is a minute for the headers and five for the rest.
  const server = createServer({ headersTimeout: 5_000, requestTimeout: 5_000, connectionsCheckingInterval: 1_000 }, async (request, response) => {
    const answer = (status: number, type: string, text: string) => {
      response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' }).end(text)
    }
    const report = (checks: Check[]) => {
      const ok = checks.every(check => check.ok)
      answer(ok ? 200 : 503, 'application/json', `${JSON.stringify({ ok, checks })}\n`)
    }
    try {
      const [path] = (request.url ?? '/').split('?', 1)
      if (request.method !== 'GET' && request.method !== 'HEAD') answer(405, 'text/plain', 'only GET\n')
      else if (path === '/livez') report(probes.live())
      else if (path === '/readyz') report(await probes.ready())
      else if (path === '/metrics') {
        const { type, text } = await probes.metrics()
        answer(200, type, text)
      } else answer(404, 'text/plain', 'try /livez, /readyz or /metrics\n')
    } catch (error) {
      log.error({ err: error }, 'health request failed')
      if (!response.headersSent) answer(500, 'text/plain', 'see the log\n')
    }
  })
  return listening(server, options.host, options.port)
}
