import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import type { PawlError } from '../../src/errors.ts'
import { databaseUrl } from '../../src/libpq.ts'
import { withoutRows } from '../../workers/maintenance/backups/pour.ts'

function refusalOf(env: Record<string, string>): PawlError {
  try {
    readConfig(env)
  } catch (error) {
    return error as PawlError
  }
  throw new Error('the environment was accepted')
}

const RECIPIENT = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p'
const OTHER_RECIPIENT = 'age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg'

test('what is said of backups arrives', () => {
  const config = readConfig({
    BACKUP_COMPRESSION: 'gzip',
    BACKUP_DIR: '/backups',
    BACKUP_RETENTION_DAYS: '45',
    PAWL_ARCHIVE_STORE: 's3://attic/months',
    PAWL_BACKUP_CLEANUP: 'off',
    PAWL_BACKUP_DAILY: ' 15 1 * * * ',
    PAWL_BACKUP_HOURS: '2',
    PAWL_BACKUP_IDENTITY: '/keys/backup',
    PAWL_BACKUP_KEEP: '14/8/24',
    PAWL_BACKUP_RECIPIENTS: `${RECIPIENT}, ${OTHER_RECIPIENT}`,
    PAWL_BACKUP_STORAGE_CLASS: 'STANDARD_IA',
    PAWL_BACKUP_WEEKLY: '0  3 * * mon-fri/2',
    PAWL_PG_BIN: '/usr/lib/postgresql/18/bin',
    PAWL_SCRATCH_URL: 'postgres://scratch/postgres',
  })
  expect(config).toMatchObject({
    backup: {
      place: '/backups',
      compression: 'gzip',
      recipients: [RECIPIENT, OTHER_RECIPIENT],
      identityFile: '/keys/backup',
      keepDays: 45,
      keep: { daily: 14, weekly: 8, monthly: 24 },
      crons: { daily: '15 1 * * *', weekly: '0  3 * * mon-fri/2', cleanup: undefined },
      storageClass: 'STANDARD_IA',
      dumpMs: 7_200_000,
    },
    archiveStore: 's3://attic/months',
    pgBin: '/usr/lib/postgresql/18/bin',
    scratchUrl: 'postgres://scratch/postgres',
  })
})

test('compression is a yes or no, as the documents have it, or a name', () => {
  const wanted = { true: 'zstd', false: 'none', zstd: 'zstd', gzip: 'gzip', none: 'none' }
  for (const [text, compression] of Object.entries(wanted)) expect(readConfig({ BACKUP_COMPRESSION: text }).backup.compression).toBe(compression)
})

test('a bucket goes before a directory, and has the prefix of the documents where none is named', () => {
  const placeOf = (env: Record<string, string>) => readConfig(env).backup.place
  expect(placeOf({ BACKUP_S3_BUCKET: 'acme', BACKUP_DIR: '/backups' })).toBe('s3://acme/database-backups')
  expect(placeOf({ BACKUP_S3_BUCKET: 'acme/pawl/production' })).toBe('s3://acme/pawl/production')
  expect(placeOf({ BACKUP_S3_BUCKET: 's3://acme/pawl' })).toBe('s3://acme/pawl')
  expect(placeOf({ BACKUP_S3_BUCKET: 's3://acme' })).toBe('s3://acme')
  expect(placeOf({ BACKUP_DIR: './backups' })).toBe(resolve('backups'))
})

test('archives go where backups go, unless they have a place of their own', () => {
  expect(readConfig({ BACKUP_DIR: '/backups' }).archiveStore).toBe('/backups')
  expect(readConfig({ BACKUP_S3_BUCKET: 'acme' }).archiveStore).toBe('s3://acme/database-backups')
  expect(readConfig({ BACKUP_DIR: '/backups', PAWL_ARCHIVE_STORE: '/attic' }).archiveStore).toBe('/attic')
})

test('a private key among the recipients is refused, and not repeated', () => {
  const { message } = refusalOf({ PAWL_BACKUP_RECIPIENTS: 'AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX' })
  expect(message).toContain('PAWL_BACKUP_RECIPIENTS: must be public keys of age')
  expect(message).not.toContain('SECRET')
})

const bad: Record<string, { values: string[]; says: RegExp }> = {
  BACKUP_COMPRESSION: { values: ['lz4', 'TRUE', '9'], says: /"true"\|"false"\|"zstd"\|"gzip"\|"none"/ },
  BACKUP_RETENTION_DAYS: { values: ['0', '-1', '30d', '1.5'], says: />=1/ },
  BACKUP_S3_BUCKET: {
    values: ['Acme', 'a', 'acme_backups', 's3://', 's3:///x', 'https://acme.s3.amazonaws.com', '/backups'],
    says: /must be the name of a bucket, or s3:\/\/bucket\/prefix/,
  },
  PAWL_ARCHIVE_STORE: { values: ['attic', './attic', 's3://', 'https://bucket/x'], says: /must be an absolute path or s3:\/\/bucket\/prefix/ },
  PAWL_BACKUP_CLEANUP: { values: ['never', '0 4 * *', '0 0 4 * * *'], says: /must be a cron line of five fields in UTC, or off/ },
  PAWL_BACKUP_DAILY: { values: ['02:00', ' ', '0 2 * *', '@daily'], says: /must be a cron line of five fields in UTC, or off/ },
  PAWL_BACKUP_HOURS: { values: ['0', '25', 'six', '0.5'], says: />=1/ },
  PAWL_BACKUP_KEEP: { values: ['7', '7/4', '7/4/12/1', '7/4/-1', '7/4/99999', 'a/b/c'], says: /must be daily\/weekly\/monthly, such as 7\/4\/12/ },
  PAWL_BACKUP_RECIPIENTS: {
    values: ['age1', 'ssh-ed25519 AAAA', `${RECIPIENT} and`, RECIPIENT.toUpperCase()],
    says: /must be public keys of age \(age1…\), separated by commas/,
  },
  PAWL_BACKUP_WEEKLY: { values: ['sunday', '0 3 * * 0 *'], says: /must be a cron line of five fields in UTC, or off/ },
  PAWL_SCRATCH_URL: { values: ['mysql://x/y', 'localhost'], says: /must start with postgres:\/\/ or postgresql:\/\// },
}

for (const [name, { values, says }] of Object.entries(bad)) {
  test(`${name} is refused by name with what it must be: ${values.join(', ')}`, () => {
    for (const value of values) {
      const error = refusalOf({ [name]: value })
      expect(error).toMatchObject({ code: 'config.invalid', retryable: false })
      expect(error.message).toMatch(new RegExp(`: ${name}: \\S`))
    }
    expect(refusalOf({ [name]: values[0] ?? '' }).message).toMatch(says)
  })
}

test('a URL that is none is refused by name, with what to do, and without what it holds', () => {
  for (const url of ['postgres://pawl:sec#ret@db/app', 'postgres://pawl:sec/ret@db/app', 'postgres://pawl:secret@db:99999/app']) {
    const { message } = refusalOf({ DATABASE_URL: url })
    expect(message).toMatch(/DATABASE_URL: is no URL: .*encoded, # as %23/)
    expect(message).not.toMatch(/sec|ret@/)
  }
  for (const url of ['postgres://pawl@/app?host=/run/postgresql', 'postgresql://[::1]/app', 'postgres:///app']) {
    expect(readConfig({ DATABASE_URL: url }).databaseUrl).toBe(url)
  }
})

test('another database of the same server is found over a socket, too', () => {
  expect(databaseUrl('postgres://pawl:s%23@/app?host=/run/postgresql', 'a "b"/c')).toBe('postgres://pawl:s%23@/a%20%22b%22%2Fc?host=/run/postgresql')
  expect(databaseUrl('postgres://pawl@db:5433/app', 'x')).toBe('postgres://pawl@db:5433/x')
})

test('what PostgreSQL quotes of a row does not stand in the error of a restore', () => {
  const said = [
    'pg_restore: error: COPY failed for table "users": ERROR:  new row for relation "users" violates check constraint "c"',
    'DETAIL:  Failing row contains (1, bob, $2b$10$hash',
    'of two lines, null).',
    'CONTEXT:  COPY users, line 1: "1\tbob\t$2b$10$hash"',
    'DETAIL:  Key (email)=(bob@example.org) already exists.',
  ]
  expect(withoutRows(said.join('\n')).split('\n')).toEqual([said[0], 'CONTEXT:  COPY users, line 1', 'DETAIL:  Key (email) already exists.'])
})
