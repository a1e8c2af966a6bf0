import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { classify, type PawlError } from '../../src/errors.ts'
import { openStore, type Store } from '../../src/store.ts'
import { openProxy } from '../support/proxy.ts'
import { type Asked, type FakeS3, startS3 } from '../support/s3.ts'
import { collect, failure, writeAll } from '../support/store.ts'

const MEGABYTE = 1024 * 1024

let s3: FakeS3
let store: Store
beforeAll(async () => {
  s3 = await startS3()
  for (const [name, value] of Object.entries(s3.env)) vi.stubEnv(name, value)
  store = openStore(`s3://${s3.bucket}/reports/`, { config: s3.config })
})
afterAll(async () => {
  vi.unstubAllEnvs()
  await s3.close()
})

let keys = 0
const newKey = () => `report-${String(++keys).padStart(16, '0')}.csv`
const isPart = ({ path }: Asked) => path.includes('partNumber=')
const isCompletion = ({ method, path }: Asked) => method === 'POST' && path.includes('uploadId=')

for (const [what, when] of [
  ['a part', isPart],
  ['the completion', isCompletion],
] as const) {
  for (const answer of [{ status: 503, code: 'SlowDown' }, { status: 500, code: 'InternalError' }, 'reset'] as const) {
    const name = answer === 'reset' ? 'a reset connection' : answer.code
    test(`${name} once at ${what} costs nothing; always: a retryable error, and no upload left`, async () => {
      const content = randomBytes(17 * MEGABYTE)
      const key = newKey()
      s3.fail(1, when, answer)
      const draft = await writeAll(store, key, content, 300_000)
      expect(await draft.publish()).toMatchObject({ bytes: content.length })
      expect((await collect(store.read(key))).equals(content)).toBe(true)
      const other = newKey()
      s3.fail(1000, asked => when(asked) && asked.path.includes(other), answer)
      const broken = await failure((async () => (await writeAll(store, other, content, 300_000)).publish())())
      expect(broken).toMatchObject({ code: 'store.unreachable', message: expect.stringContaining(`writing s3://${s3.bucket}/reports/${other} failed`) })
      expect(classify(broken)).toBe('transient')
      expect(s3.uploads()).toEqual([])
      expect(await failure(collect(store.read(other)))).toMatchObject({ code: 'store.file_missing' })
    })
  }
}

test('a bucket that is not there and one that refuses us are named, and not tried again', async () => {
  const elsewhere = openStore('s3://no-such-bucket/x', { config: s3.config })
  for (const size of [10, 9 * MEGABYTE]) {
    const missing = await failure((async () => (await writeAll(elsewhere, newKey(), randomBytes(size), MEGABYTE)).publish())())
    expect(missing).toMatchObject({ code: 'store.bucket_missing', message: expect.stringContaining('there is no bucket no-such-bucket') })
    expect((missing as PawlError).hint).toContain('create it')
    expect(classify(missing)).toBe('refused')
  }
  const key = newKey()
  s3.fail(3, ({ path }) => path.includes(key) || path.includes('uploads'), { status: 403, code: 'AccessDenied' })
  const acts = [async () => (await writeAll(store, key, Buffer.from('x'), 1)).publish(), () => store.remove(key), () => collect(store.read(key))]
  for (const act of acts) {
    const denied = await failure(act())
    expect(denied).toMatchObject({ code: 'store.denied', hint: expect.stringContaining(`s3:ListBucketMultipartUploads on ${s3.bucket}`) })
    expect(classify(denied)).toBe('refused')
  }
})

test('a connection that is cut while a file is read is a retryable error, not a short file', async () => {
  const proxy = await openProxy(s3.endpoint)
  onTestFinished(() => proxy.close())
  const key = newKey()
  await (await writeAll(store, key, randomBytes(40 * MEGABYTE), MEGABYTE)).publish()
  vi.stubEnv('AWS_ENDPOINT_URL_S3', proxy.url.replace(/\/$/, ''))
  onTestFinished(() => void vi.stubEnv('AWS_ENDPOINT_URL_S3', s3.endpoint))
  const through = openStore(`s3://${s3.bucket}/reports`, { config: { ...s3.config } })
  const broken = await failure(
    (async () => {
      for await (const _ of through.read(key)) proxy.cut()
    })(),
  )
  expect(broken).toMatchObject({ code: 'store.unreachable', message: expect.stringContaining(`reading s3://${s3.bucket}/reports/${key} failed`) })
  expect(classify(broken)).toBe('transient')
  await proxy.close()
  const refused = await failure(through.remove(key))
  expect(classify(refused)).toBe('transient')
})
