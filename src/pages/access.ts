import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Clock } from '../clock.ts'
import { isLoopback } from '../config/fields.ts'

/** Whom a request is from, as far as it matters. */
export type Access = {
  /** False for a name that is not this machine's, where only this machine may ask: what a page elsewhere gets by rebinding its own name. */
  hostAllowed(request: IncomingMessage): boolean
  /** Whether the request brings the token, by itself or in the cookie it was traded for. */
  admitted(request: IncomingMessage): boolean
  isToken(given: string): boolean
  /** The cookie that stands for the token: its end, and a keyed hash of that. */
  cookie(request: IncomingMessage): string
  /** The same, taken back. */
  farewell: string
}

const NAME = 'pawl_pages'
/** A working day; then the token is asked for again. */
const COOKIE_SECONDS = 12 * 3600

/** Who may see the pages that listen on `host`, with this token or, on a loopback host, without one. */
export function openAccess({ host, token }: { host: string; token: string | undefined }, clock: Clock): Access {
  const onlyHere = isLoopback(host)
  const sealOf = (end: string) =>
    createHmac('sha256', token ?? '')
      .update(`pawl pages until ${end}`)
      .digest('base64url')
  const isCookie = (text: string) => {
    const [end = '', seal = ''] = text.split('.')
    return Number(end) * 1000 > clock.now() && isSame(seal, sealOf(end))
  }
  const attributes = `Path=/; HttpOnly; SameSite=Strict`
  const isToken = (given: string) => token !== undefined && isSame(given, token)
  return {
    hostAllowed: request => !onlyHere || isLoopback((request.headers.host ?? '').replace(/:\d+$/, '')),
    admitted(request) {
      if (token === undefined) return true
      const bearer = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1]
      if (bearer !== undefined) return isToken(bearer)
      return cookiesOf(request).some(([name, value]) => name === NAME && isCookie(value))
    },
    isToken,
    cookie(request) {
      const end = String(Math.floor(clock.now() / 1000) + COOKIE_SECONDS)
      // What a proxy says of its own door can only make the cookie stricter.
      const secure = request.headers['x-forwarded-proto'] === 'https' ? '; Secure' : ''
      return `${NAME}=${end}.${sealOf(end)}; ${attributes}; Max-Age=${COOKIE_SECONDS}${secure}`
    },
    farewell: `${NAME}=; ${attributes}; Max-Age=0`,
  }
}

/** Whether a form came from our own page: a browser says so, and what is no browser has no cookie to be robbed of. */
export function isOwnForm(request: IncomingMessage): boolean {
  const site = request.headers['sec-fetch-site']
  if (site !== undefined) return site === 'same-origin' || site === 'none'
  const { origin, host } = request.headers
  return origin === undefined || URL.parse(origin)?.host === host
}

/** The cookies of a request that are not ours: what may be handed on to others. */
export function foreignCookies(request: IncomingMessage): string {
  return cookiesOf(request)
    .filter(([name]) => name !== NAME)
    .map(pair => pair.join('='))
    .join('; ')
}

function cookiesOf(request: IncomingMessage): [string, string][] {
  return (request.headers.cookie ?? '').split(';').flatMap(pair => {
    const [name = '', ...value] = pair.trim().split('=')
    return name === '' ? [] : [[name, value.join('=')]]
  })
}

/** Takes as long for a near miss as for a far one; hashed first, as the comparison wants equal lengths. */
function isSame(given: string, wanted: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(given), digest(wanted))
}
