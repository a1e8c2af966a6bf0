import { afterAll, beforeAll, expect, test } from 'vitest'
import { buildBundle, runBundle, startBundle } from '../support/bundle.ts'
import { faultsOf, requestOverride, seedCategory } from '../support/overrides.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { until } from '../support/until.ts'

let db: TestDatabase
let bundle: ReturnType<typeof buildBundle>

beforeAll(async () => {
  db = await createDatabase()
  bundle = buildBundle()
})

afterAll(async () => {
  bundle.remove()
  await db.drop()
})

test('the bundle works from a folder without node_modules, as an unprivileged user, in no more memory than the image may have', async () => {
  const worker = await startBundle(bundle.folder, db.url)
  try {
    expect(worker.uid).not.toBe(0)
    const runId = await requestOverride(db.query, await seedCategory(db.query, 5_000))
    await until('the run ends', async () => (await db.query(`select from pawl.runs where run_id = $1 and state = 'completed'`, [runId])).length > 0)
    expect(await faultsOf(db.query, runId, 5_000)).toEqual([])
    console.info(JSON.stringify({ bundle_ready_ms: Math.round(worker.readyMs), rss_mb: Math.round(worker.rssMb()) }))
  } finally {
    expect(await worker.end()).toBe(0)
  }
})

test('the bundle brings the migrations along, and refuses to start a database of its own', async () => {
  expect(await runBundle(bundle.folder, ['migrate', 'verify', '--json'], db.url)).toMatchObject({ code: 0, out: expect.stringContaining('"ok":true') })
  expect(await runBundle(bundle.folder, ['dev', '--once', '--json'], '')).toMatchObject({ code: 2, out: expect.stringContaining('DATABASE_URL') })
})
