import { z } from 'zod'
import { isDatabaseUrl } from '../libpq.ts'

/** How a backup's files are compressed. */
export type Compression = 'zstd' | 'gzip' | 'none'

/** Node's timers can wait no longer; asked for more, they fire at once. */
const TIMER_MS_MAX = 2_147_483_647

/** The longest that anything measured in seconds may last. */
export const DAY_SECONDS = 86_400

const digits = (least: number, most: number) =>
  z.string().trim().regex(/^\d+$/, 'must be a whole number').transform(Number).pipe(z.number().min(least).max(most))

/** Digits alone, between `least` and `most`. */
export const wholeNumber = (fallback: number, least = 0, most = TIMER_MS_MAX) => digits(least, most).default(fallback)

/** Where something listens; 0: any free port. */
export const port = digits(0, 65_535)

/** Yes or no, in four words each. */
export const flag = (fallback: boolean) =>
  z
    .enum(['true', 'false', '1', '0', 'yes', 'no', 'on', 'off'])
    .default(fallback ? 'true' : 'false')
    .transform(text => ['true', '1', 'yes', 'on'].includes(text))

/** Where a database is. */
export const postgresUrl = z
  .string()
  .regex(/^postgres(ql)?:\/\//, { error: 'must start with postgres:// or postgresql://', abort: true })
  .refine(isDatabaseUrl, 'is no URL: what is special in its password must be encoded, # as %23, / as %2F, @ as %40')

/** Google's clients and emulators write `host:port`, `http://host:port` and `http://host:port/bigquery/v2`, and mean the same. */
export const emulator = z.string().transform((text, context) => {
  const url = URL.parse(/^https?:\/\//.test(text) ? text : `http://${text}`)
  if (url !== null && url.username === '' && url.search === '' && /^\/(bigquery\/v2\/?)?$/.test(url.pathname)) return `${url.origin}/bigquery/v2`
  context.addIssue({ code: 'custom', message: 'must be host:port or http://host:port' })
  return z.NEVER
})

/** Relative paths would depend on where someone stood when starting a worker. */
export const storePlace = z.string().regex(/^(\/|s3:\/\/[^/]+(\/.*)?$)/, 'must be an absolute path or s3://bucket/prefix')

/** `bucket`, as the documents write it, or `s3://bucket/prefix`. */
export const bucket = z
  .string()
  .regex(/^(s3:\/\/)?[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](\/.*)?$/, 'must be the name of a bucket, or s3://bucket/prefix')
  .transform(text => (text.startsWith('s3://') ? text : `s3://${text}${text.includes('/') ? '' : '/database-backups'}`))

/** Document 004 says true and false; which compression is meant may be named as well. */
export const compression = z
  .enum(['true', 'false', 'zstd', 'gzip', 'none'])
  .default('true')
  .transform((text): Compression => (text === 'true' ? 'zstd' : text === 'false' ? 'none' : text))

/** Public keys of age. A private one in its place would be a secret on every worker, so it is refused, and not repeated. */
export const recipients = z
  .string()
  .default('')
  .transform(text => text.split(/[\s,]+/).filter(word => word !== ''))
  .refine(words => words.every(word => /^age1[a-z0-9]{20,}$/.test(word)), 'must be public keys of age (age1…), separated by commas')

/** How many daily, weekly and monthly backups stay. */
export const generations = z
  .string()
  .regex(/^\d{1,4}\/\d{1,4}\/\d{1,4}$/, 'must be daily/weekly/monthly, such as 7/4/12')
  .default('7/4/12')
  .transform(text => {
    const [daily = 0, weekly = 0, monthly = 0] = text.split('/').map(Number)
    return { daily, weekly, monthly }
  })

/** pg-boss reads the line itself; here it only has to look like one. */
export const cron = (fallback: string) =>
  z
    .string()
    .trim()
    .regex(/^(off|\S+( +\S+){4})$/, 'must be a cron line of five fields in UTC, or off')
    .default(fallback)
    .transform(text => (text === 'off' ? undefined : text))

/** Whether only this machine can reach what listens there. */
export const isLoopback = (host: string) => /^(localhost|127(\.\d{1,3}){3}|\[?::1\]?)$/i.test(host)

/** A secret that nobody guesses; in one word, so that it fits into a header. */
export const token = z.string().regex(/^[\x21-\x7e]{16,}$/, 'must have 16 characters at least, and none that is a space or not ASCII')
