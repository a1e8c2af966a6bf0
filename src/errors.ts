/** One error class with a stable code and a retry verdict: thrown where the fact is known, decided once in `worker.ts`. */
export class PawlError extends Error {
  readonly code: string
  readonly retryable: boolean
  readonly hint: string | undefined

  constructor(code: string, message: string, options: { retryable?: boolean; hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'PawlError'
    this.code = code
    this.retryable = options.retryable ?? false
    this.hint = options.hint
  }
}

/** The run belongs to another worker now: a newer epoch was opened. Whoever sees this changes nothing and leaves quietly. */
export class CheckpointLost extends PawlError {
  constructor(runId: string, cause?: unknown) {
    super('run.taken_over', `run ${runId} was taken over by another worker`, { cause })
    this.name = 'CheckpointLost'
  }
}

/**
 * What a failure means for the run that met it.
 * - `transient`: the world hiccuped (lost connection, deadlock, restart). Try again; it is no failure of the work.
 * - `lost`: the fence refused us. Leave, and touch nothing.
 * - `refused`: the input can never work. Fail at once.
 * - `bug`: anything else. Retry with backoff, then give up.
 */
export type Verdict = 'transient' | 'lost' | 'refused' | 'bug'

/** SQLSTATE of `raise` in `pawl.advance` and its kin when the epoch is no longer ours. */
export const FENCE_SQLSTATE = 'PW001'

const TRANSIENT_SQLSTATE = new Set([
  '40001', // serialization_failure
  '40P01', // deadlock_detected
  '55P03', // lock_not_available
  '25P03', // idle_in_transaction_session_timeout: we were stopped inside a transaction
  '25006', // read_only_sql_transaction: a fail-over is under way
  '53300', // too_many_connections
  '53400', // configuration_limit_exceeded
  '57014', // query_canceled: statement timeout
  '57P01', // admin_shutdown
  '57P02', // crash_shutdown
  '57P03', // cannot_connect_now
  '57P05', // idle_session_timeout
])

const TRANSIENT_SYSTEM = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOTFOUND', 'EAI_AGAIN'])

/** What node-postgres says, without a code, when the socket dies under it. */
const TRANSIENT_MESSAGE =
  /connection terminated|connection ended|client has encountered a connection error|timeout exceeded when trying to connect|timeout expired|query read timeout|client was closed|cannot use a pool after calling end/i

/**
 * Where in the server a statement fails that waited while a migration changed a row's type. Its codes also stand for plain
 * mistakes, and its words are in the server's language.
 */
const EXPANDED_ROUTINE = new Set(['tupledesc_match', 'RevalidateCachedQuery'])

/** The SQLSTATE or system code of `error`, looking through one level of `cause` (drizzle wraps what pg threw). */
export function codeOf(error: unknown): string | undefined {
  return textOf(error, 'code')
}

function textOf(error: unknown, field: 'code' | 'routine'): string | undefined {
  for (const candidate of [error, (error as { cause?: unknown } | null | undefined)?.cause]) {
    const text = (candidate as { [name in typeof field]?: unknown } | null | undefined)?.[field]
    if (typeof text === 'string') return text
  }
  return undefined
}

/** Decides once what a failure means; the table above is the whole policy. */
export function classify(error: unknown): Verdict {
  if (error instanceof CheckpointLost) return 'lost'
  const code = codeOf(error)
  if (code === FENCE_SQLSTATE) return 'lost'
  if (error instanceof PawlError) return error.retryable ? 'transient' : 'refused'
  if (code !== undefined) {
    if (TRANSIENT_SQLSTATE.has(code) || TRANSIENT_SYSTEM.has(code) || code.startsWith('08')) return 'transient'
    // Class 22 (bad data) and 23 (constraint) do not get better by themselves.
    if (/^2[23]...$/.test(code)) return 'refused'
  }
  if (EXPANDED_ROUTINE.has(textOf(error, 'routine') ?? '')) return 'transient'
  const messages = [error, (error as { cause?: unknown } | null | undefined)?.cause].map(messageOf)
  return messages.some(message => TRANSIENT_MESSAGE.test(message)) ? 'transient' : 'bug'
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  // A host with several addresses that all refuse: Node leaves the message of the whole empty.
  if (error instanceof AggregateError && error.message === '') return error.errors.map(messageOf).join('; ')
  return error instanceof Error ? error.message : String(error)
}
