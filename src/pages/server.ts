import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Clock } from '../clock.ts'
import type { Config } from '../config.ts'
import type { Database } from '../database.ts'
import { codeOf, messageOf, PawlError } from '../errors.ts'
import { listening } from '../listen.ts'
import type { Log } from '../log.ts'
import { type Access, isOwnForm, openAccess } from './access.ts'
import { openDashboard, QUEUES_PATH } from './dashboard.ts'
import { door, files, notice } from './frame.ts'
import { keptFresh } from './fresh.ts'
import { html } from './html.ts'
import { readSnapshot } from './snapshot.ts'
import { statusPage } from './status.ts'

export type Pages = { port: number; url: string; close(): Promise<void> }

/** What a page was read for stays good this long; whoever asks within it gets the same. */
const FRESH_MS = 1_000
const PATIENCE_MS = 5_000
/** Guessing takes its time. */
const WRONG_TOKEN_MS = 300
const FORM_BYTES_MAX = 4_096

const security = {
  'content-security-policy':
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'same-origin',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
}

/** Serves the read-only pages of docs/pages.md, on a listener of their own. Port 0 takes any free one. */
export async function servePages(options: { config: Config; port: number; db: Database; log: Log; clock: Clock }): Promise<Pages> {
  const { config, db, log, clock } = options
  const { host, token } = config.pages
  const access = openAccess(config.pages, clock)
  const dashboard = openDashboard({ config, query: db.query, log })
  const leave = token !== undefined
  const statusNow = keptFresh(async () => statusPage(await readSnapshot(db), leave), { freshMs: FRESH_MS, patienceMs: PATIENCE_MS, clock })
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 10_000 }, async (request, response) => {
    try {
      await answer(request, response)
    } catch (error) {
      log.warn({ err: error, path: pathOf(request) }, 'page failed')
      if (response.headersSent) response.destroy()
      else send(response, 503, unavailable(error, leave), { 'retry-after': '5' })
    }
  })
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    for (const [name, value] of Object.entries(security)) response.setHeader(name, value)
    if (!access.hostAllowed(request)) return refuse(response, 421, 'These pages answer under localhost or a loopback address only.')
    const path = pathOf(request)
    const file = files.get(path)
    const isLook = request.method === 'GET' || request.method === 'HEAD'
    if (token !== undefined && request.method === 'POST' && path === '/login') return login(request, response, access, options)
    if (token !== undefined && request.method === 'POST' && path === '/logout') return logout(request, response, access)
    if (!isLook) return refuse(response, 405, 'These pages only look: GET and HEAD.', { allow: 'GET, HEAD' })
    if (file !== undefined) return send(response, 200, file.text, { 'content-type': file.type, 'cache-control': 'public, max-age=31536000, immutable' })
    if (!access.admitted(request)) return send(response, 401, door(nextOf(path), false), { 'www-authenticate': 'Bearer realm="pawl"' })
    if (path === '/') return send(response, 200, await statusNow())
    if (path === QUEUES_PATH || path === `${QUEUES_PATH}.data` || path.startsWith(`${QUEUES_PATH}/`)) return dashboard.answer(request, response)
    send(response, 404, notice('There is no such page', html`<p><a href="/">Runs, tables, timers, backups, health</a></p>`, { leave }))
  }
  const { port, close } = await listening(server, host.replace(/^\[|\]$/g, ''), options.port).catch((error: unknown) => {
    throw unlistenable(error, host, options.port)
  })
  log.info({ host, pages_port: port }, 'pages ready')
  return {
    port,
    url: `http://${host.includes(':') && !host.startsWith('[') ? `[${host}]` : host}:${port}/`,
    async close() {
      await close()
      await dashboard.close()
    },
  }
}

const pathOf = (request: IncomingMessage) => (request.url ?? '/').split('?', 1)[0] ?? '/'

/** Only ways of our own: a link that leads through the door must not lead elsewhere. */
const nextOf = (path: string) => (/^\/queues(\/[\w./%~-]*)?$/.test(path) ? path : '/')

function send(response: ServerResponse, status: number, text: string, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store', ...headers }).end(text)
}

function refuse(response: ServerResponse, status: number, text: string, headers: Record<string, string> = {}): void {
  // The rest of what was sent is not waited for.
  send(response, status, `${text}\n`, { 'content-type': 'text/plain; charset=utf-8', connection: 'close', ...headers })
}

async function login(request: IncomingMessage, response: ServerResponse, access: Access, { log, clock }: { log: Log; clock: Clock }): Promise<void> {
  if (!isOwnForm(request)) return refuse(response, 403, 'The form came from another site.')
  const form = await formOf(request)
  if (form === undefined) return refuse(response, 413, 'The form is too long.')
  const next = nextOf(form.get('next') ?? '/')
  if (access.isToken(form.get('token') ?? '')) return send(response, 303, '', { location: next, 'set-cookie': access.cookie(request) })
  log.warn({ remote: request.socket.remoteAddress }, 'a wrong token was given')
  await clock.sleep(WRONG_TOKEN_MS)
  send(response, 401, door(next, true), { 'www-authenticate': 'Bearer realm="pawl"' })
}

function logout(request: IncomingMessage, response: ServerResponse, access: Access): void {
  if (!isOwnForm(request)) return refuse(response, 403, 'The form came from another site.')
  request.resume()
  send(response, 303, '', { location: '/', 'set-cookie': access.farewell })
}

async function formOf(request: IncomingMessage): Promise<URLSearchParams | undefined> {
  const pieces: Buffer[] = []
  let size = 0
  for await (const piece of request as AsyncIterable<Buffer>) {
    size += piece.length
    if (size > FORM_BYTES_MAX) return undefined
    pieces.push(piece)
  }
  return new URLSearchParams(Buffer.concat(pieces).toString())
}

/** What went wrong, by what kind it is: an error's own words may name hosts and logins. */
function unavailable(error: unknown, leave: boolean): string {
  const code = codeOf(error) ?? ''
  const text = /^(42P01|42883|42703|3F000)$/.test(code)
    ? html`<p>The schema is not there, or older than this Pawl: <code>pawl migrate up</code>.</p>`
    : code === '42501'
      ? html`<p>This login may not look. Let it, as the owner: <code class="copy">grant pawl_observer to …;</code></p>`
      : html`<p>The database did not answer${code !== '' && html` (<code>${code}</code>)`}. This page tries again by itself; the log of this process says more.</p>`
  return notice('Not available now', text, { again: 5, leave })
}

function unlistenable(error: unknown, host: string, port: number): PawlError {
  const hint =
    codeOf(error) === 'EADDRINUSE'
      ? 'another process listens there: set PAWL_PAGES_PORT to a free port, or 0 for any'
      : 'see PAWL_PAGES_HOST and PAWL_PAGES_PORT'
  return new PawlError('pages.listen', `the pages can't be served on ${host}:${port}: ${messageOf(error)}`, { hint, cause: error })
}
