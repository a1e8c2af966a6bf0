import { closeSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { openLog } from '../../src/log.ts'
import { openClient } from '../../workers/refresh/sources/bigquery/client.ts'
import { type FakeBigquery, startBigquery } from '../support/bigquery.ts'
import { contextOf, open, refusalOf } from '../support/bigquery-source.ts'

const COUNT = 3
let fake: FakeBigquery

beforeEach(async () => {
  fake = await startBigquery({ weekly: { fields: [{ name: 'id', type: 'INTEGER' }], count: COUNT, row: index => [String(index)] } })
})
afterEach(() => {
  vi.unstubAllEnvs()
  return fake.close()
})

test('neither the query, nor its parameters, nor anything secret is in the log', async () => {
  const path = join(tmpdir(), `pawl-bigquery-${process.pid}.log`)
  const destination = openSync(path, 'w')
  try {
    const log = openLog({ level: 'trace', destination })
    const window = { from: 'parameter-value', to: '2026-01-31' }
    await open(contextOf(fake, { log, window }), { query: "select * from weekly where x = 'query-text' and day >= {window_from}" })
    const written = readFileSync(path, 'utf8')
    expect(written).toContain('"bigquery_job_id":"refresh_7_3_1_a1"')
    for (const word of ['query-text', 'parameter-value', 'uthorization', 'select']) expect(written).not.toContain(word)
  } finally {
    closeSync(destination)
    rmSync(path)
  }
})

test('the emulator is asked without any identity, and its project has a name of its own', async () => {
  const context = contextOf(fake)
  const config = { ...context.config, googleProject: undefined }
  expect(await openClient(config, systemClock, undefined)).toMatchObject({ project: 'local' })
  await open({ ...context, config })
  expect(fake.jobs.get('refresh_7_3_1_a1')?.reference.projectId).toBe('local')
  expect(fake.requests.map(({ authorization }) => authorization)).toEqual(fake.requests.map(() => undefined))
})

test('the variable of the emulator reaches a client that reads it too, and reads it otherwise', async () => {
  for (const host of [fake.host, `http://${fake.host}`, `http://${fake.host}/bigquery/v2`]) {
    vi.stubEnv('BIGQUERY_EMULATOR_HOST', host)
    expect((await open(contextOf({ host }))).total).toBe(COUNT)
  }
})

test('credentials are looked for, and missed, where no emulator is named', async () => {
  vi.stubEnv('GOOGLE_APPLICATION_CREDENTIALS', '/nowhere/key.json')
  expect((await open(contextOf(fake))).total).toBe(COUNT)
  for (const env of [{ GOOGLE_CLOUD_PROJECT: 'shop' }, {}]) {
    const error = await refusalOf(open(contextOf(fake, { config: readConfig(env) })))
    expect(error).toMatchObject({ code: 'refresh.no_credentials', retryable: false, hint: expect.stringContaining('BIGQUERY_EMULATOR_HOST') })
  }
})

test('a client that is not installed is named, with the command that installs it', async () => {
  const absent = new Error("Cannot find package '@google-cloud/bigquery'")
  const missing = openClient(contextOf(fake).config, systemClock, undefined, () => Promise.reject(Object.assign(absent, { code: 'ERR_MODULE_NOT_FOUND' })))
  expect(await refusalOf(missing)).toMatchObject({ code: 'refresh.client_missing', hint: 'npm install @google-cloud/bigquery@9.3.0' })
})
