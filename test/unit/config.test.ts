import { expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { PawlError } from '../../src/errors.ts'

const URL = 'postgres://pawl:secret@db.example:5432/app'

function refusalOf(env: Record<string, string>): PawlError {
  try {
    readConfig(env)
  } catch (error) {
    if (error instanceof PawlError) return error
    throw error
  }
  throw new Error('the environment was accepted')
}

test('an empty environment gives every default, and nothing of this process leaks in', () => {
  expect(readConfig({})).toEqual({
    databaseUrl: undefined,
    directUrl: undefined,
    replicaUrl: undefined,
    replicaWaitMs: 5_000,
    reportStore: undefined,
    reportUrl: undefined,
    backup: {
      place: undefined,
      compression: 'zstd',
      recipients: [],
      identityFile: undefined,
      keepDays: 30,
      keep: { daily: 7, weekly: 4, monthly: 12 },
      crons: { daily: '0 2 * * *', weekly: '0 3 * * 0', cleanup: '0 4 * * *' },
      storageClass: undefined,
      dumpMs: 6 * 3_600_000,
    },
    archiveStore: undefined,
    pgBin: undefined,
    scratchUrl: undefined,
    s3PathStyle: false,
    sourceUrls: {},
    poolMax: 20,
    poolIdleMs: 30_000,
    poolLifeMs: 1_800_000,
    queryTimeoutMs: 20_000,
    sslRejectUnauthorized: true,
    embeddedAllowed: true,
    dataDir: undefined,
    migrationsDir: undefined,
    concurrency: 4,
    lanes: 2,
    leaseMs: 10_000,
    drainMs: 50_000,
    turnMs: 82_800_000,
    sliceMs: 50,
    bigqueryEndpoint: undefined,
    googleProject: undefined,
    httpHost: '0.0.0.0',
    httpPort: 9465,
    pages: { host: '127.0.0.1', port: undefined, token: undefined },
    logLevel: 'info',
    workerName: undefined,
    noColor: false,
  })
})

test('an empty variable is an unset one', () => {
  const names = [
    'BACKUP_COMPRESSION',
    'BACKUP_DIR',
    'BACKUP_RETENTION_DAYS',
    'BACKUP_S3_BUCKET',
    'PAWL_ARCHIVE_STORE',
    'PAWL_BACKUP_CLEANUP',
    'PAWL_BACKUP_DAILY',
    'PAWL_BACKUP_HOURS',
    'PAWL_BACKUP_IDENTITY',
    'PAWL_BACKUP_KEEP',
    'PAWL_BACKUP_RECIPIENTS',
    'PAWL_BACKUP_STORAGE_CLASS',
    'PAWL_BACKUP_WEEKLY',
    'PAWL_PG_BIN',
    'PAWL_SCRATCH_URL',
    'BIGQUERY_EMULATOR_HOST',
    'DATABASE_URL',
    'DATABASE_DIRECT_URL',
    'DB_CONNECTION_LIMIT',
    'DB_QUERY_TIMEOUT',
    'DB_SSL_REJECT_UNAUTHORIZED',
    'GOOGLE_CLOUD_PROJECT',
    'KUBERNETES_SERVICE_HOST',
    'NODE_ENV',
    'NO_COLOR',
    'PAWL_DATA_DIR',
    'PAWL_HTTP_PORT',
    'PAWL_LOG_LEVEL',
    'PAWL_WORKER_NAME',
  ]
  expect(readConfig(Object.fromEntries(names.map(name => [name, ''])))).toEqual(readConfig({}))
})

test('given variables arrive, seconds as milliseconds', () => {
  const config = readConfig({
    DATABASE_URL: URL,
    DATABASE_READ_REPLICA_URL: 'postgresql://replica/app',
    DB_CONNECTION_LIMIT: '7',
    DB_MAX_IDLE_TIME: '1',
    DB_MAX_LIFE_TIME: '2',
    DB_QUERY_TIMEOUT: '0',
    GOOGLE_CLOUD_PROJECT: 'shop',
    PAWL_CONCURRENCY: '9',
    PAWL_DATA_DIR: '/data',
    PAWL_DRAIN_SECONDS: '3',
    PAWL_HTTP_HOST: '127.0.0.1',
    PAWL_HTTP_PORT: '0',
    PAWL_LANES: '16',
    PAWL_LEASE_SECONDS: '2',
    PAWL_LOG_LEVEL: 'trace',
    PAWL_MIGRATIONS_DIR: '/drizzle',
    PAWL_REPLICA_WAIT_MS: '0',
    PAWL_REPORT_STORE: 's3://bucket/reports',
    PAWL_REPORT_URL: 'https://reports.example/files',
    PAWL_S3_PATH_STYLE: 'yes',
    PAWL_SLICE_MS: '0',
    PAWL_TURN_SECONDS: '5',
    PAWL_WORKER_NAME: 'w',
    HOME: '/root',
  })
  expect(config).toMatchObject({
    databaseUrl: URL,
    directUrl: URL,
    replicaUrl: 'postgresql://replica/app',
    poolMax: 7,
    poolIdleMs: 1,
    poolLifeMs: 2,
    queryTimeoutMs: 0,
    concurrency: 9,
    dataDir: '/data',
    drainMs: 3_000,
    googleProject: 'shop',
    httpHost: '127.0.0.1',
    httpPort: 0,
    lanes: 16,
    leaseMs: 2_000,
    logLevel: 'trace',
    migrationsDir: '/drizzle',
    replicaWaitMs: 0,
    reportStore: 's3://bucket/reports',
    reportUrl: 'https://reports.example/files',
    s3PathStyle: true,
    sliceMs: 0,
    turnMs: 5_000,
    workerName: 'w',
  })
  expect(readConfig({ DATABASE_URL: URL, DATABASE_DIRECT_URL: 'postgres://direct/app' }).directUrl).toBe('postgres://direct/app')
})

test('the emulator of BigQuery is written in four ways, and is one', () => {
  for (const text of ['localhost:9050', 'http://localhost:9050', 'http://localhost:9050/', 'http://localhost:9050/bigquery/v2']) {
    expect(readConfig({ BIGQUERY_EMULATOR_HOST: text }).bigqueryEndpoint).toBe('http://localhost:9050/bigquery/v2')
  }
  expect(readConfig({ BIGQUERY_EMULATOR_HOST: 'https://bq.test' }).bigqueryEndpoint).toBe('https://bq.test/bigquery/v2')
})

const bad: Record<string, string[]> = {
  BIGQUERY_EMULATOR_HOST: [' ', 'http://', 'localhost:port', 'http://user:secret@localhost:9050', 'localhost:9050/other', 'localhost:9050?x=1'],
  DATABASE_URL: ['mysql://x/y', 'localhost:5432', ' postgres://x'],
  DATABASE_DIRECT_URL: ['http://x'],
  DATABASE_READ_REPLICA_URL: ['x'],
  DB_CONNECTION_LIMIT: ['1', '0', '-5', 'many', '2.5', 'NaN', 'Infinity', ' '],
  DB_MAX_IDLE_TIME: ['-1', '30s', '3000000000'],
  DB_MAX_LIFE_TIME: ['-1', '3000000000'],
  DB_QUERY_TIMEOUT: ['-1', '20 s', ' ', '3000000000'],
  DB_SSL_REJECT_UNAUTHORIZED: ['maybe', '2', 'TRUE '],
  PAWL_CONCURRENCY: ['0', 'x'],
  PAWL_DRAIN_SECONDS: ['0', '-1', '3000000'],
  PAWL_HTTP_PORT: ['-1', '65536', 'http'],
  PAWL_LANES: ['0', '17', '1.5'],
  PAWL_LEASE_SECONDS: ['1', 'x', '3000000'],
  PAWL_LOG_LEVEL: ['loud', 'INFO'],
  PAWL_REPLICA_WAIT_MS: ['-1', '5 s'],
  PAWL_REPORT_STORE: ['reports', './reports', 's3://', 'https://bucket/x'],
  PAWL_REPORT_URL: ['reports', 'ftp://x/y', '/reports'],
  PAWL_S3_PATH_STYLE: ['path'],
  PAWL_SLICE_MS: ['-1', '1001'],
  PAWL_TURN_SECONDS: ['0', '86401'],
}

for (const [name, values] of Object.entries(bad)) {
  for (const value of values) {
    test(`${name}="${value}" is refused by name`, () => {
      const error = refusalOf({ [name]: value })
      expect(error).toMatchObject({ code: 'config.invalid', retryable: false })
      expect(error.message).toMatch(new RegExp(`: ${name}: \\S`))
      expect(error.hint).toContain('correct the variables named')
    })
  }
}

test('all bad variables are named at once, the good ones are not, and no value is repeated', () => {
  const { message } = refusalOf({ DATABASE_URL: 'mysql://root:secret@db/app', PAWL_HTTP_PORT: 'http', PAWL_LANES: '4', DB_CONNECTION_LIMIT: '1' })
  for (const name of ['DATABASE_URL', 'PAWL_HTTP_PORT', 'DB_CONNECTION_LIMIT']) expect(message).toContain(name)
  expect(message).not.toContain('PAWL_LANES')
  expect(message).not.toContain('secret')
  expect(message).toContain('DATABASE_URL: must start with postgres:// or postgresql://')
})

test('yes and no come in four words each', () => {
  for (const word of ['true', '1', 'yes', 'on']) expect(readConfig({ DB_SSL_REJECT_UNAUTHORIZED: word }).sslRejectUnauthorized).toBe(true)
  for (const word of ['false', '0', 'no', 'off']) expect(readConfig({ DB_SSL_REJECT_UNAUTHORIZED: word }).sslRejectUnauthorized).toBe(false)
})

test('production and Kubernetes forbid the embedded PostgreSQL', () => {
  expect(readConfig({ NODE_ENV: 'production' }).embeddedAllowed).toBe(false)
  expect(readConfig({ KUBERNETES_SERVICE_HOST: '10.0.0.1' }).embeddedAllowed).toBe(false)
  for (const environment of ['development', 'test', '']) expect(readConfig({ NODE_ENV: environment }).embeddedAllowed).toBe(true)
})

test('NO_COLOR of any content but none turns colours off', () => {
  for (const value of ['1', '0', 'false']) expect(readConfig({ NO_COLOR: value }).noColor).toBe(true)
  expect(readConfig({ NO_COLOR: '' }).noColor).toBe(false)
})

test('the configuration is frozen', () => {
  expect(Object.isFrozen(readConfig({}))).toBe(true)
})
