import { classify, messageOf, PawlError } from '../../../../src/errors.ts'

/** What BigQuery says went wrong: of a request in the body of its answer, of a job in its status. */
export type Fault = { reason?: string | undefined; message?: string | undefined }

/** It may go better next time, by itself. */
const TRANSIENT = new Set([
  'backendError',
  'internalError',
  'jobBackendError',
  'jobInternalError',
  'rateLimitExceeded',
  'jobRateLimitExceeded',
  'userRateLimitExceeded',
  'resourceInUse',
  'tableUnavailable',
])
const TRANSIENT_STATUS = new Set([408, 429, 500, 502, 503, 504])

/** What node-fetch, and Node's own fetch, say of a connection that failed, with codes of their own or none. */
const NETWORK = /socket hang up|network timeout|fetch failed|terminated|due to timeout/i

const CREDENTIALS = {
  code: 'refresh.no_credentials',
  hint: 'give the worker an identity (GKE workload identity, or a file named by GOOGLE_APPLICATION_CREDENTIALS), or name an emulator in BIGQUERY_EMULATOR_HOST',
}
/** Google's auth library has no code for: none found, a file that is not there, a file or token that is worth nothing. */
const NO_CREDENTIALS = /default credentials|GOOGLE_APPLICATION_CREDENTIALS|is not a file|invalid_grant|unable to detect a project id/i
const INVALID = { code: 'refresh.query_invalid', hint: "correct the query in the table's settings; the message says where it fails" }

/** It will never go better: what it was asked for has to change. */
const REFUSED: Readonly<Record<string, { code: string; hint: string }>> = {
  invalid: INVALID,
  invalidQuery: INVALID,
  notFound: { code: 'refresh.source_not_found', hint: "check the names in the query, and the project and location in the table's settings" },
  accessDenied: {
    code: 'refresh.access_denied',
    hint: 'grant the worker roles/bigquery.jobUser on the project, roles/bigquery.dataViewer on what it reads and dataEditor on the staging dataset',
  },
  authError: CREDENTIALS,
  required: CREDENTIALS,
  bytesBilledLimitExceeded: { code: 'refresh.cost_cap', hint: 'let the query read less, or raise maximum_bytes_billed' },
  quotaExceeded: { code: 'refresh.quota_exceeded', hint: "wait until the project's quota is renewed, or ask Google for more" },
  resourcesExceeded: { code: 'refresh.query_too_large', hint: 'simplify the query, or narrow what it reads' },
  responseTooLarge: { code: 'refresh.query_too_large', hint: 'set staging_dataset: a result of any size fits into a table' },
  billingNotEnabled: { code: 'refresh.billing_not_enabled', hint: 'enable billing for the project' },
  blocked: { code: 'refresh.access_denied', hint: 'BigQuery has blocked the project; ask Google why' },
  stopped: { code: 'refresh.job_stopped', hint: 'someone cancelled the job, or it took longer than job_timeout_seconds' },
  timeout: { code: 'refresh.job_stopped', hint: 'raise job_timeout_seconds, or narrow the query' },
  duplicate: { code: 'refresh.job_exists', hint: 'a job of this id exists already' },
}

/** The error of a fault that BigQuery named; one it doesn't name is a bug's: tried again with growing pauses, then given up. */
export function faultError(fault: Fault, what: string): Error {
  const message = `BigQuery, ${what}: ${fault.message ?? 'no reason given'}${fault.reason === undefined ? '' : ` (${fault.reason})`}`
  if (TRANSIENT.has(fault.reason ?? '')) return new PawlError('refresh.source_unavailable', message, { retryable: true })
  const refused = REFUSED[fault.reason ?? '']
  return refused === undefined ? new Error(message) : new PawlError(refused.code, message, { hint: refused.hint })
}

/** What a failed request means. The client's error is not kept as the cause: request and headers hang on it. */
export function requestError(error: unknown, what: string): Error {
  const { code, errors, type } = error as { code?: unknown; errors?: readonly Fault[]; type?: string }
  const message = error instanceof Error ? messageOf(error) : String((error as { message?: unknown }).message)
  const reason = errors?.[0]?.reason
  if (code === 404 || code === 410) return faultError({ reason: 'notFound', message }, what)
  if (code === 409) return faultError({ reason: 'duplicate', message }, what)
  if (reason !== undefined && (TRANSIENT.has(reason) || REFUSED[reason] !== undefined)) return faultError({ reason, message }, what)
  const isNetwork = classify(error) === 'transient' || type === 'request-timeout' || type === 'body-timeout' || NETWORK.test(message)
  if (TRANSIENT_STATUS.has(Number(code)) || isNetwork) return faultError({ reason: 'backendError', message }, what)
  if (code === 401 || NO_CREDENTIALS.test(message)) return faultError({ reason: 'authError', message }, what)
  if (code === 403) return faultError({ reason: 'accessDenied', message }, what)
  if (code === 400) return faultError({ reason: 'invalid', message }, what)
  return faultError({ reason, message }, what)
}

/** True for the errors above that mean: there is no such thing, or not any more. */
export function isMissing(error: unknown): boolean {
  return error instanceof PawlError && error.code === 'refresh.source_not_found'
}

/** The rows were there and are gone, or are not the ones that were cut into lanes: only a new reading from the first row helps. */
export function expired(what: string): PawlError {
  return new PawlError('refresh.source_expired', `BigQuery no longer has ${what}`, {
    retryable: true,
    hint: 'the extraction begins again by itself; where this happens often, set staging_dataset, whose tables live as long as you say',
  })
}
