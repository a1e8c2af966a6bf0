import { resolve } from 'node:path'
import { z } from 'zod'
import {
  bucket,
  type Compression,
  compression,
  cron,
  DAY_SECONDS,
  emulator,
  flag,
  generations,
  isLoopback,
  port,
  postgresUrl,
  recipients,
  storePlace,
  token,
  wholeNumber,
} from './config/fields.ts'
import { PawlError } from './errors.ts'

/** Every variable Pawl reads, with its default. Names without `PAWL_` are those of the source documents. */
const environment = z
  .object({
    BACKUP_COMPRESSION: compression,
    BACKUP_DIR: z.string().optional(),
    BACKUP_RETENTION_DAYS: wholeNumber(30, 1),
    BACKUP_S3_BUCKET: bucket.optional(),
    BIGQUERY_EMULATOR_HOST: emulator.optional(),
    DATABASE_URL: postgresUrl.optional(),
    DATABASE_DIRECT_URL: postgresUrl.optional(),
    DATABASE_READ_REPLICA_URL: postgresUrl.optional(),
    DB_CONNECTION_LIMIT: wholeNumber(20, 2),
    DB_MAX_IDLE_TIME: wholeNumber(30_000),
    DB_MAX_LIFE_TIME: wholeNumber(1_800_000),
    DB_QUERY_TIMEOUT: wholeNumber(20_000),
    DB_SSL_REJECT_UNAUTHORIZED: flag(true),
    GOOGLE_CLOUD_PROJECT: z.string().optional(),
    NODE_ENV: z.string().optional(),
    KUBERNETES_SERVICE_HOST: z.string().optional(),
    PAWL_ARCHIVE_STORE: storePlace.optional(),
    PAWL_BACKUP_CLEANUP: cron('0 4 * * *'),
    PAWL_BACKUP_DAILY: cron('0 2 * * *'),
    PAWL_BACKUP_HOURS: wholeNumber(6, 1, 24),
    PAWL_BACKUP_IDENTITY: z.string().optional(),
    PAWL_BACKUP_KEEP: generations,
    PAWL_BACKUP_RECIPIENTS: recipients,
    // What can't be read back at once can't be verified.
    PAWL_BACKUP_STORAGE_CLASS: z
      .string()
      .regex(/^(?!GLACIER$|DEEP_ARCHIVE$)[A-Z_]+$/, 'must be a storage class that can be read at once, such as STANDARD_IA')
      .optional(),
    PAWL_BACKUP_WEEKLY: cron('0 3 * * 0'),
    PAWL_CONCURRENCY: wholeNumber(4, 1),
    PAWL_DATA_DIR: z.string().optional(),
    PAWL_DRAIN_SECONDS: wholeNumber(50, 1, DAY_SECONDS),
    PAWL_HTTP_HOST: z.string().default('0.0.0.0'),
    PAWL_HTTP_PORT: wholeNumber(9465, 0, 65_535),
    PAWL_LANES: wholeNumber(2, 1, 16),
    PAWL_LEASE_SECONDS: wholeNumber(10, 2, DAY_SECONDS),
    PAWL_LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info'),
    PAWL_MIGRATIONS_DIR: z.string().optional(),
    PAWL_PAGES_HOST: z.string().trim().default('127.0.0.1'),
    PAWL_PAGES_PORT: port.optional(),
    PAWL_PAGES_TOKEN: token.optional(),
    PAWL_PG_BIN: z.string().optional(),
    PAWL_REPLICA_WAIT_MS: wholeNumber(5_000),
    PAWL_REPORT_STORE: storePlace.optional(),
    PAWL_REPORT_URL: z.url({ protocol: /^https?$/, error: 'must be an http or https URL' }).optional(),
    PAWL_S3_PATH_STYLE: flag(false),
    PAWL_SCRATCH_URL: postgresUrl.optional(),
    PAWL_SLICE_MS: wholeNumber(50, 0, 1000),
    PAWL_TURN_SECONDS: wholeNumber(23 * 3600, 1, DAY_SECONDS),
    PAWL_WORKER_NAME: z.string().optional(),
  })
  .superRefine((given, context) => {
    if (given.PAWL_PAGES_TOKEN !== undefined || isLoopback(given.PAWL_PAGES_HOST)) return
    const message = `is needed where others can reach PAWL_PAGES_HOST=${given.PAWL_PAGES_HOST}: make one with "openssl rand -hex 24"`
    context.addIssue({ code: 'custom', path: ['PAWL_PAGES_TOKEN'], message })
  })

/** Their names; `PAWL_SOURCE_<NAME>` comes beside them. */
export const variableNames: readonly string[] = Object.keys(environment.shape)

export type { Compression } from './config/fields.ts'

/** Backups as the environment wants them (document 004; docs/backups.md). */
export type BackupConfig = Readonly<{
  /** Where they are kept: an absolute path, or `s3://bucket/prefix`. Undefined: none are taken. */
  place: string | undefined
  compression: Compression
  /** Public keys of age. None: backups are not encrypted. */
  recipients: readonly string[]
  /** The file that holds the private key: for restores, on no worker. */
  identityFile: string | undefined
  /** How many days of the newest backups stay, whatever the generations say. */
  keepDays: number
  keep: Readonly<{ daily: number; weekly: number; monthly: number }>
  /** In UTC; undefined: never. */
  crons: Readonly<{ daily: string | undefined; weekly: string | undefined; cleanup: string | undefined }>
  /** S3's; undefined: the bucket's own. */
  storageClass: string | undefined
  /** A dump that takes longer is broken off: its snapshot holds back vacuum everywhere. */
  dumpMs: number
}>

/** The environment, read once and frozen: every limit and default of the daemon, units in the names. */
export type Config = Readonly<{
  /** Undefined means: start the embedded PostgreSQL (development only, see `embeddedAllowed`). */
  databaseUrl: string | undefined
  /** For LISTEN, session locks and migrations; must reach PostgreSQL without a transaction pooler. */
  directUrl: string | undefined
  replicaUrl: string | undefined
  /** How long a reader waits for the replica to have what was committed before; then it reads from the primary. */
  replicaWaitMs: number
  /** Where reports are kept: an absolute path, or `s3://bucket/prefix`. Undefined: no report can be executed. */
  reportStore: string | undefined
  /** What comes before a report's key in its URL, where people reach the store through a web server. */
  reportUrl: string | undefined
  backup: BackupConfig
  /** Where months of partitioned tables go before they are dropped; where backups go, unless said otherwise. */
  archiveStore: string | undefined
  /** Where pg_dump and pg_restore of the server's major version are; undefined: they are looked for. */
  pgBin: string | undefined
  /** A server on which backups may be restored to be verified; undefined: the one they come from. */
  scratchUrl: string | undefined
  /** Whether S3 is asked for `host/bucket/key` (MinIO and its kin) instead of `bucket.host/key`. */
  s3PathStyle: boolean
  /** Databases that refreshes read from, by the name their settings use: `PAWL_SOURCE_SALES` is `sales`. */
  sourceUrls: Readonly<Record<string, string>>
  /** Where a BigQuery emulator answers, as `http://host:port/bigquery/v2`; undefined means Google's own. */
  bigqueryEndpoint: string | undefined
  /** The project that BigQuery jobs run in where a table's settings name none. */
  googleProject: string | undefined
  poolMax: number
  poolIdleMs: number
  poolLifeMs: number
  queryTimeoutMs: number
  sslRejectUnauthorized: boolean
  /** Production and Kubernetes must name their database. */
  embeddedAllowed: boolean
  dataDir: string | undefined
  migrationsDir: string | undefined
  /** Runs worked on at once, per queue. */
  concurrency: number
  lanes: number
  leaseMs: number
  drainMs: number
  /** How long the server commits batch after batch before it answers; 0: one batch a round trip. */
  sliceMs: number
  /** A job is handed on to a fresh one after this long: pg-boss lets none live past 24 hours. */
  turnMs: number
  httpHost: string
  httpPort: number
  /** The read-only pages (docs/pages.md). Without a port no worker serves them; without a token only this machine reaches them. */
  pages: Readonly<{ host: string; port: number | undefined; token: string | undefined }>
  logLevel: string
  workerName: string | undefined
  noColor: boolean
}>

/** Reads and checks the environment. Throws `config.invalid`, naming each bad variable and what it must be. */
export function readConfig(env: Record<string, string | undefined> = process.env): Config {
  // An empty variable is an unset one: that is what a Kubernetes manifest with a blank value means.
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ''))
  const parsed = environment.safeParse(given)
  if (!parsed.success) {
    const problems = parsed.error.issues.map(issue => `${issue.path.join('.')}: ${issue.message}`)
    throw new PawlError('config.invalid', `the environment is not usable: ${problems.join('; ')}`, {
      hint: 'correct the variables named and start again; README.md lists them all',
    })
  }
  const e = parsed.data
  const backupPlace = e.BACKUP_S3_BUCKET ?? (e.BACKUP_DIR === undefined ? undefined : resolve(e.BACKUP_DIR))
  return Object.freeze({
    backup: Object.freeze({
      place: backupPlace,
      compression: e.BACKUP_COMPRESSION,
      recipients: e.PAWL_BACKUP_RECIPIENTS,
      identityFile: e.PAWL_BACKUP_IDENTITY,
      keepDays: e.BACKUP_RETENTION_DAYS,
      keep: e.PAWL_BACKUP_KEEP,
      crons: { daily: e.PAWL_BACKUP_DAILY, weekly: e.PAWL_BACKUP_WEEKLY, cleanup: e.PAWL_BACKUP_CLEANUP },
      storageClass: e.PAWL_BACKUP_STORAGE_CLASS,
      dumpMs: e.PAWL_BACKUP_HOURS * 3_600_000,
    }),
    archiveStore: e.PAWL_ARCHIVE_STORE ?? backupPlace,
    pgBin: e.PAWL_PG_BIN,
    scratchUrl: e.PAWL_SCRATCH_URL,
    databaseUrl: e.DATABASE_URL,
    directUrl: e.DATABASE_DIRECT_URL ?? e.DATABASE_URL,
    replicaUrl: e.DATABASE_READ_REPLICA_URL,
    replicaWaitMs: e.PAWL_REPLICA_WAIT_MS,
    reportStore: e.PAWL_REPORT_STORE,
    reportUrl: e.PAWL_REPORT_URL,
    s3PathStyle: e.PAWL_S3_PATH_STYLE,
    sourceUrls: sourceUrls(given),
    bigqueryEndpoint: e.BIGQUERY_EMULATOR_HOST,
    googleProject: e.GOOGLE_CLOUD_PROJECT,
    poolMax: e.DB_CONNECTION_LIMIT,
    poolIdleMs: e.DB_MAX_IDLE_TIME,
    poolLifeMs: e.DB_MAX_LIFE_TIME,
    queryTimeoutMs: e.DB_QUERY_TIMEOUT,
    sslRejectUnauthorized: e.DB_SSL_REJECT_UNAUTHORIZED,
    embeddedAllowed: e.NODE_ENV !== 'production' && e.KUBERNETES_SERVICE_HOST === undefined,
    dataDir: e.PAWL_DATA_DIR,
    migrationsDir: e.PAWL_MIGRATIONS_DIR,
    concurrency: e.PAWL_CONCURRENCY,
    lanes: e.PAWL_LANES,
    leaseMs: e.PAWL_LEASE_SECONDS * 1000,
    drainMs: e.PAWL_DRAIN_SECONDS * 1000,
    sliceMs: e.PAWL_SLICE_MS,
    turnMs: e.PAWL_TURN_SECONDS * 1000,
    httpHost: e.PAWL_HTTP_HOST,
    httpPort: e.PAWL_HTTP_PORT,
    pages: Object.freeze({ host: e.PAWL_PAGES_HOST, port: e.PAWL_PAGES_PORT, token: e.PAWL_PAGES_TOKEN }),
    logLevel: e.PAWL_LOG_LEVEL,
    workerName: e.PAWL_WORKER_NAME,
    noColor: env.NO_COLOR !== undefined && env.NO_COLOR !== '',
  })
}

/** pg-boss's dashboard asks the environment whether it may change anything: where we show it, it may not. */
export function forbidDashboardActions(): void {
  process.env.PGBOSS_DASHBOARD_READ_ONLY = '1'
}

/** Secrets stay in the environment: the tables of the database name a source, never its password. */
function sourceUrls(given: Record<string, string | undefined>): Record<string, string> {
  const named = Object.entries(given).flatMap(([variable, url]) => {
    const name = /^PAWL_SOURCE_(\w+)$/.exec(variable)?.[1]?.toLowerCase()
    return name === undefined || url === undefined ? [] : [{ variable, name, url }]
  })
  const bad = named.find(({ url }) => !postgresUrl.safeParse(url).success)
  if (bad !== undefined) {
    throw new PawlError('config.invalid', `the environment is not usable: ${bad.variable}: must start with postgres:// or postgresql://`, {
      hint: 'correct the variables named and start again; README.md lists them all',
    })
  }
  return Object.fromEntries(named.map(({ name, url }) => [name, url]))
}
