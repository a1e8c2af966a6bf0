import { spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest'
import { classify, PawlError } from '../../src/errors.ts'
import { openStore, type Store } from '../../src/store.ts'
import { type Asked, type FakeS3, startS3 } from '../support/s3.ts'
import { collect, CSV, failure, sha256, writeAll } from '../support/store.ts'
import { until } from '../support/until.ts'

const MEGABYTE = 1024 * 1024
const writer = fileURLToPath(new URL('../crash/store-writer.ts', import.meta.url))

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

test('a small file is one request, of its type, and nobody sees it before', async () => {
  const key = newKey()
  const content = randomBytes(70_001)
  const before = s3.asked.length
  const draft = await writeAll(store, key, content, 999)
  await draft.sync()
  expect(s3.asked.length).toBe(before)
  expect(await draft.publish()).toEqual({ bytes: content.length, sha256: sha256(content) })
  expect(s3.asked.slice(before).map(({ method, path }) => `${method} ${path.split('?')[0]}`)).toEqual([`PUT /${s3.bucket}/reports/${key}`])
  expect(s3.asked.at(-1)?.headers['content-type']).toBe('text/csv')
  expect((await collect(store.read(key))).equals(content)).toBe(true)
  expect(store.url(key)).toBe(`s3://${s3.bucket}/reports/${key}`)
  expect(openStore(`s3://${s3.bucket}`, { config: s3.config }).url(key)).toBe(`s3://${s3.bucket}/${key}`)
})

test('an empty file is a file; publishing twice says the same; closing is fine at any time', async () => {
  const key = newKey()
  const draft = await store.create(key, CSV)
  const published = await draft.publish()
  expect(published).toEqual({ bytes: 0, sha256: sha256(Buffer.alloc(0)) })
  expect(await draft.publish()).toEqual(published)
  await draft.close()
  await draft.close()
  expect(await collect(store.read(key))).toHaveLength(0)
})

for (const size of [8 * MEGABYTE - 1, 8 * MEGABYTE, 8 * MEGABYTE + 1, 30 * MEGABYTE + 12_345]) {
  test(`a file of ${size} bytes arrives as it was, by parts, seen only once it is whole`, async () => {
    const key = newKey()
    const content = randomBytes(size)
    const before = s3.asked.length
    const draft = await writeAll(store, key, content, 100_000)
    expect(await failure(collect(store.read(key)))).toMatchObject({ code: 'store.file_missing', message: expect.stringContaining(key) })
    expect(await draft.publish()).toEqual({ bytes: size, sha256: sha256(content) })
    expect((await collect(store.read(key))).equals(content)).toBe(true)
    const asked = s3.asked.slice(before)
    expect(asked.filter(isPart)).toHaveLength(size > 8 * MEGABYTE ? Math.ceil(size / (8 * MEGABYTE)) : 0)
    const completion = asked.find(isCompletion)
    // S3 itself compares this with what it has before anything can be seen.
    if (size > 8 * MEGABYTE) expect(completion?.headers['x-amz-mp-object-size']).toBe(String(size))
    else expect(completion).toBeUndefined()
    for (const { headers } of asked.filter(isPart)) expect(headers['x-amz-checksum-crc32'] ?? headers['x-amz-trailer']).toBeDefined()
    expect(s3.uploads()).toEqual([])
  })
}

test('parts that overtake one another end up in their order', async () => {
  const key = newKey()
  const content = randomBytes(50 * MEGABYTE)
  const before = s3.asked.length
  // The first part waits for its second attempt while others pass.
  s3.fail(2, asked => asked.path.includes(key) && asked.path.includes('partNumber=1&'), { status: 503, code: 'SlowDown' })
  await (await writeAll(store, key, content, 1_000_000)).publish()
  const order = s3.asked.slice(before).flatMap(({ path }) => /partNumber=(\d+)/.exec(path)?.[1] ?? [])
  expect(order.lastIndexOf('1')).toBeGreaterThan(order.indexOf('3'))
  expect(new Set(order)).toEqual(new Set(['1', '2', '3', '4', '5', '6', '7']))
  expect((await collect(store.read(key))).equals(content)).toBe(true)
})

test('a draft that is closed while a write is under way, even the first, leaves no upload behind', async () => {
  for (const megabytes of [9, 17, 26]) {
    const draft = await store.create(newKey(), CSV)
    const writing = draft.write(randomBytes(megabytes * MEGABYTE)).catch(() => {})
    await draft.close()
    await writing
    expect(s3.uploads()).toEqual([])
  }
})

test('a draft that is closed leaves no upload behind, and its late writer is told', async () => {
  const key = newKey()
  const draft = await writeAll(store, key, randomBytes(20 * MEGABYTE), 100_000)
  await until('the upload has begun', () => s3.uploads().length === 1)
  await draft.close()
  await draft.close()
  expect(s3.uploads()).toEqual([])
  await failure(draft.write(Buffer.alloc(MEGABYTE)))
  expect(await failure(collect(store.read(key)))).toMatchObject({ code: 'store.file_missing' })
})

test('no draft can be continued here, and the caller is told to begin anew', async () => {
  const missing = await failure(store.create(newKey(), { ...CSV, continues: { key: newKey(), bytes: 1 } }))
  expect(missing).toMatchObject({ code: 'store.draft_missing', retryable: false })
})

test('keys that could mean another file are refused, everywhere', async () => {
  for (const key of ['', '../other', `.${newKey()}`, `a/${newKey()}`, 'short.csv']) {
    const refused = { code: 'store.key' }
    expect(await failure(store.create(key, CSV)), key).toMatchObject(refused)
    expect(await failure(collect(store.read(key))), key).toMatchObject(refused)
    expect(await failure((async () => store.remove(key))()), key).toMatchObject(refused)
    expect(() => store.url(key), key).toThrow(PawlError)
  }
})

test('removing takes the file and every upload of its key, however many, and nobody else’s', async () => {
  const key = newKey()
  await store.remove(key)
  await (await writeAll(store, key, Buffer.from('old'), 10)).publish()
  for (let upload = 0; upload < 5; upload += 1) await s3.begin(`reports/${key}`)
  const other = await s3.begin(`reports/${key}x`)
  await store.remove(key)
  expect(s3.uploads()).toEqual([other])
  expect(await failure(collect(store.read(key)))).toMatchObject({ code: 'store.file_missing' })
  await fetch(`${s3.endpoint}/${s3.bucket}/${other.key}?uploadId=${other.id}`, { method: 'DELETE' })
})

test('a writer whose upload was removed is told that beginning anew helps', async () => {
  const key = newKey()
  const draft = await writeAll(store, key, randomBytes(20 * MEGABYTE), 100_000)
  await until('the upload has begun', () => s3.uploads().length === 1)
  await store.remove(key)
  const lost = await failure(draft.publish())
  expect(classify(lost), String(lost)).toBe('transient')
  await draft.close()
  expect(await failure(collect(store.read(key)))).toMatchObject({ code: 'store.file_missing' })
})

test('the SDK is only loaded by what uses it, and where it is missing that is said, with what to install', () => {
  const script = `
    import { registerHooks } from 'node:module'
    registerHooks({
      resolve(name, context, next) {
        if (name.startsWith('@aws-sdk/')) throw new Error('Cannot find package ' + name)
        return next(name, context)
      },
    })
    const { openStore } = await import(${JSON.stringify(new URL('../../src/store.ts', import.meta.url).href)})
    const store = openStore('s3://bucket/prefix', { config: {} })
    console.log(store.url('report-0123456789abcdef.csv'))
    await store.remove('report-0123456789abcdef.csv').catch(({ code, hint, retryable }) => console.log(JSON.stringify({ code, hint, retryable })))
  `
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })
  const [url, error = ''] = stdout.trim().split('\n')
  expect(url, stderr).toBe('s3://bucket/prefix/report-0123456789abcdef.csv')
  expect(JSON.parse(error)).toEqual({ code: 'store.s3_missing', hint: 'npm install @aws-sdk/client-s3', retryable: false })
})

test('300 MB go through in less than 80 MB of memory', async () => {
  let taken = 0
  // Only counts: fauxqs would keep it all in memory, and here at that.
  const sink = createServer((incoming, response) => {
    const isPart = incoming.url?.includes('partNumber=') === true
    incoming.on('data', chunk => {
      if (isPart) taken += chunk.length
    })
    incoming.on('end', () => {
      response.setHeader('etag', '"1"')
      response.end(incoming.url?.includes('uploads') === true ? '<R><UploadId>1</UploadId></R>' : '<R><ETag>"1"</ETag></R>')
    })
  })
  await new Promise<void>(resolve => sink.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void sink.close())
  const address = sink.address()
  const endpoint = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`
  const env = { ...process.env, ...s3.env, AWS_ENDPOINT_URL_S3: endpoint }
  const child = spawn(process.execPath, [writer, 's3://bucket/x', newKey(), '300'], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  const [, line = ''] = (await collect(child.stdout)).toString().split('\n')
  const { bytes, growth } = JSON.parse(line) as { bytes: number; growth: number }
  console.info(`300 MB to S3: ${growth.toFixed(0)} MB more`)
  expect(bytes).toBeGreaterThan(299 * MEGABYTE)
  expect(taken).toBe(bytes)
  expect(growth).toBeLessThan(80)
})
