/** What of a URL's parameters libpq has a variable for. Those of other clients (`schema`, `pgbouncer`, `ssl`) it would refuse in a URL. */
const VARIABLES: Readonly<Record<string, string>> = {
  host: 'PGHOST',
  port: 'PGPORT',
  user: 'PGUSER',
  password: 'PGPASSWORD',
  dbname: 'PGDATABASE',
  options: 'PGOPTIONS',
  passfile: 'PGPASSFILE',
  channel_binding: 'PGCHANNELBINDING',
  connect_timeout: 'PGCONNECT_TIMEOUT',
  gssencmode: 'PGGSSENCMODE',
  krbsrvname: 'PGKRBSRVNAME',
  sslmode: 'PGSSLMODE',
  sslcert: 'PGSSLCERT',
  sslkey: 'PGSSLKEY',
  sslrootcert: 'PGSSLROOTCERT',
  sslcrl: 'PGSSLCRL',
  sslsni: 'PGSSLSNI',
  ssl_min_protocol_version: 'PGSSLMINPROTOCOLVERSION',
  target_session_attrs: 'PGTARGETSESSIONATTRS',
}

const SOCKET = 'socket.invalid'

/** A socket's URL names a user and no host, which the standard of URLs doesn't know. */
const withHost = (url: string) => url.replace(/@(?=[/?]|$)/, `@${SOCKET}`)

/** Whether it can be read as the URL of a database; a password with a `#`, `/` or `?` that is not encoded can't. */
export function isDatabaseUrl(url: string): boolean {
  return URL.canParse(withHost(url))
}

/**
 * The URL for `pg`, which reads of TLS what stands in it before any option beside it. Each of these modes means verify-full to it, and some a
 * warning; where DB_SSL_REJECT_UNAUTHORIZED is false, the mode has to say so. A program of libpq knows no such mode: it gets the URL as it is.
 */
export function clientUrl(url: string, rejectUnauthorized: boolean): string {
  return url.replace(/([?&]sslmode=)(?:prefer|require|verify-ca|verify-full)(?=&|$)/, rejectUnauthorized ? '$1verify-full' : '$1no-verify')
}

/** The same server and login, another database. */
export function databaseUrl(url: string, name: string): string {
  const changed = new URL(withHost(url))
  changed.pathname = `/${encodeURIComponent(name)}`
  return changed.href.replace(`@${SOCKET}`, '@')
}

/** Where to connect, as the variables of libpq: what stands in a command line, everyone on the machine can read. */
export function connectionVariables(url: string): Record<string, string> {
  const parsed = new URL(withHost(url))
  const host = parsed.hostname === SOCKET ? '' : decodeURIComponent(parsed.hostname).replace(/^\[(.*)\]$/, '$1')
  const own: Record<string, string> = {
    host,
    port: parsed.port,
    user: decodeURIComponent(parsed.username),
    password: decodeURIComponent(parsed.password),
    dbname: decodeURIComponent(parsed.pathname.slice(1)),
    ...Object.fromEntries(parsed.searchParams),
  }
  return Object.fromEntries(
    Object.entries(VARIABLES).flatMap(([name, variable]) => (own[name] === undefined || own[name] === '' ? [] : [[variable, own[name]]])),
  )
}
