/** PostgreSQL or Pawl refused the request, and nothing was changed. In a transaction of yours: roll it back. */
export class PawlRequestError extends Error {
  /** SQLSTATE: 22023 bad argument, 23503 unknown row, 42501 a right is missing … */
  readonly code: string
  /** What to do about it, where that is known. */
  readonly hint: string | undefined

  constructor(code: string, message: string, options: { hint?: string | undefined; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'PawlRequestError'
    this.code = code
    this.hint = options.hint
  }
}

/** What was asked for, as far as an error must know it. */
export type Purpose = 'enqueue' | 'read' | 'steer'

const RIGHTS: Record<Purpose, string> = {
  enqueue: 'enqueueing needs the role pawl_producer: grant pawl_producer to …',
  read: 'reading runs, asking why, and waiting for them, needs the role pawl_observer or pawl_operator; pawl_producer reads nothing: grant pawl_observer to …',
  steer: 'cancel and retry need the role pawl_operator: grant pawl_operator to …',
}

/** The error to throw for what a query threw: the server's refusals as PawlRequestError; a lost connection and its like as they are. */
export function translate(error: unknown, purpose: Purpose): unknown {
  const refusal = refusalIn(error)
  if (refusal === undefined) return error
  return new PawlRequestError(refusal.code, refusal.message, { hint: hintFor(refusal, purpose), cause: error })
}

type Refusal = { code: string; message: string; hint?: string | undefined }

function hintFor({ code, message, hint }: Refusal, purpose: Purpose): string | undefined {
  // Pawl's own refusals bring their hint along, those of PostgreSQL can't know of Pawl's roles and migrations.
  if (code === '42501' && hint === undefined && message.startsWith('permission denied')) return RIGHTS[purpose]
  if (['3F000', '42883', '42P01', '42703'].includes(code) && /\bpawl\b/.test(message)) {
    return 'this database has no Pawl, or one that is older than this client: run "pawl migrate up" on it'
  }
  if (code === '25P02') return 'an earlier statement of this transaction failed: roll back, and look at its error'
  return hint
}

/** The server's own words, through whatever wraps them (drizzle does). */
function refusalIn(error: unknown): Refusal | undefined {
  for (let inner = error, depth = 0; typeof inner === 'object' && inner !== null && depth < 5; inner = (inner as { cause?: unknown }).cause, depth += 1) {
    const { code, message, hint } = inner as { code?: unknown; message?: unknown; hint?: unknown }
    if (isSqlState(code)) return { code, message: String(message), hint: typeof hint === 'string' ? hint : undefined }
  }
  return undefined
}

/** Five characters and a digit among them; a socket's EPIPE has none. */
function isSqlState(code: unknown): code is string {
  return typeof code === 'string' && /^(?=.*\d)[0-9A-Z]{5}$/.test(code)
}

/** Connection failure (class 08), too many connections, a server that stops or starts. */
const PASSING = /^(08...|53300|57P0[1235])$/

/** Whether the server could not be asked just now, so that asking again may well work. */
export function isPassing(error: unknown): boolean {
  const refusal = refusalIn(error)
  if (refusal !== undefined) return PASSING.test(refusal.code)
  for (let inner = error, depth = 0; typeof inner === 'object' && inner !== null && depth < 5; inner = (inner as { cause?: unknown }).cause, depth += 1) {
    const { code, message } = inner as { code?: unknown; message?: unknown }
    if (/^(E(CONN|PIPE|TIMEDOUT|HOSTUNREACH|NETUNREACH|AI_AGAIN)|ENOTFOUND)/.test(String(code))) return true
    if (/connection (terminated|ended|error)|timeout/i.test(String(message))) return true
  }
  return false
}
