import type { IncomingMessage, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { type Config, forbidDashboardActions } from '../config.ts'
import type { Query } from '../database.ts'
import { codeOf } from '../errors.ts'
import { clientUrl } from '../libpq.ts'
import type { Log } from '../log.ts'
import { foreignCookies } from './access.ts'
import { notice } from './frame.ts'
import { html } from './html.ts'

type Handler = { (request: Request): Promise<Response>; close(): Promise<void> }
type Library = { createDashboardHandler(options: { databases: { url: string; name: string }[]; basePath: string }): Handler }

/** Where it is mounted. */
export const QUEUES_PATH = '/queues'

/** pg-boss's own dashboard behind our door: jobs rather than runs. It only looks, as its cancel, retry and delete would go past the runs. */
export type Dashboard = {
  answer(request: IncomingMessage, response: ServerResponse): Promise<void>
  close(): Promise<void>
}

// React streams its data in inline scripts whose text nobody knows beforehand; nothing may leave, and no form may be sent.
const policy =
  "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

/** Opens nothing until it is first asked for: 40 MB that a worker without lookers should not hold. */
export function openDashboard(
  { config, query, log }: { config: Config; query: Query; log: Log },
  load: () => Promise<Library> = () => import('@pg-boss/dashboard/handler'),
): Dashboard {
  let opening: Promise<Handler> | undefined
  const open = async () => {
    const { createDashboardHandler } = await load()
    forbidDashboardActions()
    return createDashboardHandler({ databases: [{ url: readOnlyUrl(config), name: 'queues' }], basePath: QUEUES_PATH })
  }
  return {
    async answer(request, response) {
      const refuse = (status: number, text: string) => void response.writeHead(status, { 'content-type': 'text/html; charset=utf-8' }).end(text)
      if (!(await mayRead(query))) return refuse(403, notForObservers)
      opening ??= open()
      const handler = await opening.catch((error: unknown) => {
        opening = undefined
        if (codeOf(error) !== 'ERR_MODULE_NOT_FOUND') throw error
        log.warn({ err: error }, 'the dashboard is not installed')
      })
      if (handler === undefined) return refuse(501, notInstalled)
      const left = new AbortController()
      response.once('close', () => left.abort())
      await send(await handler(asked(request, left.signal)), request, response)
    },
    async close() {
      await opening?.then(handler => handler.close()).catch(error => log.warn({ err: error }, 'the dashboard did not close'))
    },
  }
}

const notInstalled = notice(
  'The dashboard is not installed',
  html`<p>It is a package of its own, of 29 MB, and stands in no image of Pawl. Where Pawl runs from a checkout or a package:</p>
    <p><code class="copy">npm install @pg-boss/dashboard@1.9.0</code></p><p><a href="/">Back to the runs</a>, which need nothing of it.</p>`,
)

const notForObservers = notice(
  'This login may not read the queue',
  html`<p>The dashboard reads pg-boss's own tables, with the payloads of all jobs, which <code>pawl_observer</code> may not. Let it, as their owner:</p>
    <p><code class="copy">grant usage on schema pgboss to …; grant select on all tables in schema pgboss to …;</code></p>
    <p><a href="/">Back to the runs</a>, for which an observer's rights are enough.</p>`,
)

/** The dashboard itself would only say that something went wrong. */
async function mayRead(query: Query): Promise<boolean> {
  const [row] = await query<{ may: boolean }>(
    `select coalesce(bool_and(has_schema_privilege(c.relnamespace, 'usage') and has_table_privilege(c.oid, 'select')), false) as may
     from pg_class c where c.relnamespace = (select n.oid from pg_namespace n where n.nspname = 'pgboss') and c.relname in ('queue', 'job', 'schedule')`,
  )
  return row?.may === true
}

/** Twice locked: even if something of it wrote, the server would refuse. Not by a pooler, which knows no such option. */
function readOnlyUrl(config: Config): string {
  const url = config.directUrl ?? config.databaseUrl ?? ''
  const options = `options=${encodeURIComponent('-c default_transaction_read_only=on -c statement_timeout=10000')}&application_name=${encodeURIComponent('pawl queues')}`
  const trusting = clientUrl(url, config.sslRejectUnauthorized)
  return `${trusting}${trusting.includes('?') ? '&' : '?'}${options}`
}

/** The request as the dashboard wants it; without what lets one in here, which is none of its business. */
function asked(request: IncomingMessage, signal: AbortSignal): Request {
  const headers = new Headers()
  for (const name of ['accept', 'accept-language', 'user-agent', 'if-none-match', 'if-modified-since']) {
    const value = request.headers[name]
    if (typeof value === 'string') headers.set(name, value)
  }
  headers.set('cookie', foreignCookies(request))
  return new Request(new URL(request.url ?? '/', `http://${request.headers.host ?? 'localhost'}`), { method: request.method ?? 'GET', headers, signal })
}

async function send(answer: Response, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const headers: Record<string, string | string[]> = {}
  for (const [name, value] of answer.headers) if (name !== 'set-cookie') headers[name] = value
  const cookies = answer.headers.getSetCookie()
  if (cookies.length > 0) headers['set-cookie'] = cookies
  response.writeHead(answer.status, { ...headers, 'content-security-policy': policy })
  if (answer.body === null || request.method === 'HEAD') {
    await answer.body?.cancel()
    response.end()
    return
  }
  // A looker who goes in the middle of an answer is no fault.
  await pipeline(Readable.fromWeb(answer.body), response).catch(error => {
    if (!response.destroyed) throw error
  })
}
