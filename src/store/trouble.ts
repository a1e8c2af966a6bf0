import { classify, codeOf, messageOf, PawlError } from '../errors.ts'

const FULL = new Set(['ENOSPC', 'EDQUOT', 'EFBIG'])
const DENIED = new Set(['EACCES', 'EPERM', 'EROFS'])
/** A network file system that hiccups, or a process at its limit of open files: it passes. */
const PASSING = new Set(['ESTALE', 'EBUSY', 'EMFILE', 'ENFILE', 'EAGAIN', 'EHOSTDOWN'])

/** What went wrong in a directory, in words that name it and say what to do. What it doesn't know it returns as it is. */
export function directoryTrouble(error: unknown, directory: string): unknown {
  if (error instanceof PawlError) return error
  const code = codeOf(error) ?? ''
  if (FULL.has(code)) {
    return new PawlError('store.full', `there is no room left in ${directory} (${code})`, {
      hint: 'free some space there, or raise the quota, and retry the run',
      cause: error,
    })
  }
  if (DENIED.has(code)) {
    const account = process.getuid === undefined ? 'the account that runs Pawl' : `the account that runs Pawl (uid ${process.getuid()})`
    return new PawlError('store.denied', `${directory} can't be used: ${messageOf(error)}`, {
      hint: `give ${account} the right to read and write there`,
      cause: error,
    })
  }
  if (code === 'ENOTDIR' || code === 'EEXIST') {
    return new PawlError('store.place', `${directory} is no directory: ${messageOf(error)}`, { hint: 'name a directory', cause: error })
  }
  if (!PASSING.has(code)) return error
  return new PawlError('store.unreachable', `${directory} can't be reached: ${messageOf(error)}`, { retryable: true, cause: error })
}

const S3_DENIED = new Set(['CredentialsProviderError', 'InvalidAccessKeyId', 'SignatureDoesNotMatch', 'ExpiredToken', 'InvalidToken'])
const S3_FULL = new Set(['XMinioStorageFull', 'QuotaExceeded', 'InsufficientCapacity'])
const S3_PASSING = new Set([
  'SlowDown',
  'TimeoutError',
  'RequestTimeout',
  'RequestTimeoutException',
  'ThrottlingException',
  // What arrived is not what was sent.
  'BadDigest',
  'IncompleteBody',
  'XAmzContentSHA256Mismatch',
  // Someone removed the draft, or the answer to a completed upload was lost: either way a new file is the way on.
  'NoSuchUpload',
])

/** What went wrong between us and S3; `what` was being done. What it doesn't know it returns as it is. */
export function s3Trouble(error: unknown, bucket: string, what: string): unknown {
  if (error instanceof PawlError) return error
  const { name = '', $metadata, $retryable } = (error ?? {}) as { name?: string; $metadata?: { httpStatusCode?: number }; $retryable?: unknown }
  const status = $metadata?.httpStatusCode ?? 0
  const message = `${what} failed: ${name === '' ? '' : `${name}: `}${messageOf(error)}`
  if (name === 'NoSuchBucket') {
    return new PawlError('store.bucket_missing', `there is no bucket ${bucket}: ${message}`, {
      hint: `create it, or name another; is it in the region and at the endpoint that the AWS_ variables say?`,
      cause: error,
    })
  }
  if (status === 401 || status === 403 || S3_DENIED.has(name)) {
    return new PawlError('store.denied', message, {
      hint:
        `give the worker credentials (AWS_ACCESS_KEY_ID, a role, …) with s3:PutObject, s3:GetObject, s3:DeleteObject, ` +
        `s3:ListBucket, s3:AbortMultipartUpload and s3:ListBucketMultipartUploads on ${bucket}`,
      cause: error,
    })
  }
  if (status === 507 || S3_FULL.has(name)) {
    return new PawlError('store.full', message, { hint: `free some space in ${bucket}, or raise its quota, and retry the run`, cause: error })
  }
  // 501 is what a store says to a request that it doesn't know, and always will.
  const isPassing = (status >= 500 && status !== 501) || status === 429 || status === 408 || $retryable !== undefined || S3_PASSING.has(name)
  if (isPassing || classify(error) === 'transient') return new PawlError('store.unreachable', message, { retryable: true, cause: error })
  return status >= 400 ? new PawlError('store.refused', message, { cause: error }) : error
}
