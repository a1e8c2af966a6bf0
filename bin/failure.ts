import { classify, codeOf, messageOf, PawlError } from '../src/errors.ts'

/** 0 ok, 1 failed, 2 bad usage or refused, 3 verification found a difference, 4 could not verify. */
export const exitCodes = { ok: 0, failed: 1, refused: 2, different: 3, unverified: 4 } as const

/** What is said of a failure: never a password, and no stack where the cause is known. */
export type Failure = { code: string; message: string; hint: string | undefined; stack: string | undefined }

const unreachable = 'is PostgreSQL running there, and is DATABASE_URL right?'
const slow = 'the server took longer than DB_QUERY_TIMEOUT allows; try again, or set it higher'
const access = 'are user and password in DATABASE_URL right, and does pg_hba.conf let them in from here?'
const tls = 'add ?sslmode=require to DATABASE_URL; for a certificate of your own, NODE_EXTRA_CA_CERTS=ca.pem, or DB_SSL_REJECT_UNAUTHORIZED=false'

/** What pg says of itself without a code, and the code and the next step that Pawl gives it. */
const uncoded: readonly (readonly [RegExp, string, string])[] = [
  [/^SASL: .*password/, 'database.password', 'put the password into DATABASE_URL: postgres://user:password@host:5432/name'],
  [/does not support SSL connections/, 'database.tls', 'take sslmode out of DATABASE_URL, or switch TLS on in the server'],
  [/query read timeout/i, 'database.slow', slow],
  [/timeout|connection (terminated|ended)|connection error/i, 'database.unreachable', unreachable],
]

/** The next step where neither Pawl nor PostgreSQL has named one. */
const hints: Readonly<Record<string, string>> = {
  ...each(['ECONNREFUSED', 'ECONNRESET', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOTFOUND', 'EAI_AGAIN', 'ETIMEDOUT', '57P03'], unreachable),
  ...each(['42P01', '42883', '42703', '3F000'], 'the schema is not there or older than this Pawl: pawl migrate up'),
  ...each(['28P01', '28000'], access),
  ...each(
    ['SELF_SIGNED_CERT_IN_CHAIN', 'DEPTH_ZERO_SELF_SIGNED_CERT', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'ERR_TLS_CERT_ALTNAME_INVALID', 'CERT_HAS_EXPIRED'],
    tls,
  ),
  ...each(['22007', '22008', '22009'], "a time is written '2027-01-04 09:00+01', or tomorrow"),
  '22P02': 'is it the right id? pawl runs lists them, and pawl help COMMAND has examples',
  '22003': 'it is larger than such a number may be',
  '53300': 'the server has no connection left: pawl health, or raise max_connections',
  '57014': slow,
  '55P03': "somebody holds the lock: select pid, query from pg_stat_activity where xact_start < now() - interval '3 s'",
  EADDRINUSE: 'another process listens there: set PAWL_HTTP_PORT to a free port, or 0 for any',
  '3D000': 'create the database, or name another one in DATABASE_URL',
  '42501': 'ask for the role pawl_observer to look, pawl_operator to steer, or pawl_producer to enqueue',
  ENOENT: 'is the path right, and is it there?',
  EACCES: 'may this user read and write there?',
}

function each(codes: readonly string[], hint: string): Record<string, string> {
  return Object.fromEntries(codes.map(code => [code, hint]))
}

/** Says what happened in words fit for people and machines; `role` is what the command needs, `secrets` what must not be shown. */
export function failureOf(error: unknown, { role, secrets = [] }: { role?: string | undefined; secrets?: readonly string[] } = {}): Failure {
  const text = messageOf(error)
  // PostgreSQL's own errors carry a hint too: the contract's functions speak through it.
  const own = (error as { hint?: string } | null | undefined)?.hint
  const given = codeOf(error)
  const [, ownCode, ownHint] = given === undefined ? (uncoded.find(([pattern]) => pattern.test(text)) ?? []) : []
  const needs = given === '42501' && role !== undefined ? `this needs the role ${role}: grant ${role} to your login` : undefined
  const isBug = given === undefined && ownCode === undefined && error instanceof Error && !(error instanceof PawlError)
  const hide = (words: string) => masked(words, secrets)
  // Ours name no password but in an example.
  const hint = own === undefined ? (needs ?? ownHint ?? hints[given ?? '']) : hide(own)
  return {
    code: given ?? ownCode ?? 'unknown',
    message: hide(text),
    hint,
    stack: isBug ? hide(error.stack ?? '') : undefined,
  }
}

/** Without passwords: those of any URL, and those that are known. */
function masked(text: string, secrets: readonly string[]): string {
  const urls = text.replaceAll(/(\b[a-z][a-z0-9+.-]*:\/\/[^\s:/@]*):[^\s/]*@/gi, '$1:***@')
  return secrets.reduce((all, secret) => (secret.length < 4 ? all : all.replaceAll(secret, '***')), urls)
}

/** What is said of a backup is neither a refusal nor a failure of the command. */
const verdicts = new Map<string, number>([
  ...exits(['backup.different', 'backup.damaged', 'backup.broken', 'backup.unrestorable', 'seal.damaged'], exitCodes.different),
  ['backup.unverifiable', exitCodes.unverified],
])

function exits(codes: readonly string[], exit: number): (readonly [string, number])[] {
  return codes.map(code => [code, exit] as const)
}

/** Bad arguments, unknown ids, logins and rights that are missing: the database refused what was asked. What may pass by itself is a failure. */
export function exitCodeOf(error: unknown): number {
  const code = codeOf(error) ?? ''
  const verdict = verdicts.get(code)
  if (verdict !== undefined) return verdict
  if (error instanceof PawlError) return error.retryable ? exitCodes.failed : exitCodes.refused
  if (/^(22|23|28|42|3D|3F)/.test(code) || /^SASL: .*password/.test(messageOf(error))) return exitCodes.refused
  return exitCodes.failed
}

/** Whether it may be over at the next look. */
export const isPassing = (error: unknown): boolean => classify(error) === 'transient'
