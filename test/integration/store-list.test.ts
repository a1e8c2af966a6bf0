import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import type { Entry } from '../../src/store.ts'
import { openStore, type Store } from '../../src/store.ts'
import { type FakeS3, INITIATED, startS3 } from '../support/s3.ts'
import { CSV, directoryStage, failure, writeAll } from '../support/store.ts'

let s3: FakeS3
beforeAll(async () => {
  s3 = await startS3()
  for (const [name, value] of Object.entries(s3.env)) vi.stubEnv(name, value)
})
afterAll(async () => {
  vi.unstubAllEnvs()
  await s3.close()
})

async function listed(store: Store): Promise<Entry[]> {
  const entries: Entry[] = []
  for await (const entry of store.list()) entries.push(entry)
  return entries.sort((one, another) => (`${one.key}${one.isDraft}` < `${another.key}${another.isDraft}` ? -1 : 1))
}

const key = (number: number, extensions = 'dump.zst.age') => `backup-${String(number).padStart(16, '0')}.${extensions}`
const bucket = (folder: string) => openStore(`s3://${s3.bucket}/${folder}`, { config: s3.config })

test('a directory lists its files and drafts, and nothing that is not ours', async () => {
  const { store, directory, parent } = await directoryStage()
  expect(await listed(store)).toEqual([])
  const before = Date.now() - 2_000
  await (await writeAll(store, key(1), Buffer.alloc(3_000), 999)).publish()
  await (await writeAll(store, key(2, 'manifest.json'), Buffer.alloc(10), 10)).publish()
  const draft = await writeAll(store, key(1), Buffer.alloc(70_000), 999)
  await draft.sync()
  for (const name of ['README', 'short.csv', `.${key(3)}`, `${key(3)}~`, `.README.draft`, 'a-key-of-sixteen-or-more.TXT'])
    await writeFile(join(directory, name), 'x')
  await mkdir(join(directory, key(4)))
  await symlink(join(parent, 'nowhere'), join(directory, key(5)))
  const found = await listed(store)
  expect(found.map(({ key: own, bytes, isDraft }) => ({ own, bytes, isDraft }))).toEqual([
    { own: key(1), bytes: 3_000, isDraft: false },
    { own: key(1), bytes: 70_000, isDraft: true },
    { own: key(2, 'manifest.json'), bytes: 10, isDraft: false },
  ])
  for (const { modifiedAt } of found) expect(modifiedAt.getTime()).toBeGreaterThan(before)
  await draft.close()
  await store.remove(key(1))
  expect((await listed(store)).map(entry => entry.key)).toEqual([key(2, 'manifest.json')])
})

test('a place that is no directory is said to be none', async () => {
  const { directory, parent } = await directoryStage()
  await writeFile(directory, '')
  expect(await failure(listed(openStore(directory, { config: s3.config })))).toMatchObject({ code: 'store.place' })
  expect(await failure(listed(openStore(join(parent, 'x\0y'), { config: s3.config })))).toBeDefined()
})

test('a bucket lists the files and the uploads of its prefix, page by page, and nothing that is not ours', async () => {
  const store = bucket('pages')
  const count = 1_003
  for (let at = 0; at < count; at += 50) {
    const some = Array.from({ length: Math.min(50, count - at) }, (_, number) => key(at + number))
    await Promise.all(some.map(async own => (await writeAll(store, own, Buffer.from('abc'), 3)).publish()))
  }
  // Others' files: deeper, beside, of other names.
  for (const strange of [`pages/deeper/${key(7_000)}`, `pages-beside/${key(7_001)}`, 'pages/README.md', `pages/.${key(7_002)}`]) {
    const answer = await fetch(`${s3.endpoint}/${s3.bucket}/${strange}`, { method: 'PUT', body: 'x' })
    expect(answer.status).toBe(200)
  }
  for (const draft of [`pages/${key(1)}`, `pages/${key(1)}`, `pages/${key(9_000)}`, `pages/deeper/${key(9_001)}`, `elsewhere/${key(9_002)}`])
    await s3.begin(draft)
  const found = await listed(store)
  const files = found.filter(entry => !entry.isDraft)
  expect(files.map(entry => entry.key)).toEqual(Array.from({ length: count }, (_, number) => key(number)))
  expect(new Set(files.map(entry => entry.bytes))).toEqual(new Set([3]))
  for (const { modifiedAt } of files) expect(Math.abs(Date.now() - modifiedAt.getTime())).toBeLessThan(300_000)
  expect(found.filter(entry => entry.isDraft)).toEqual(
    [key(1), key(1), key(9_000)].map(own => ({ key: own, bytes: 0, modifiedAt: new Date(INITIATED), isDraft: true })),
  )
  const pages = s3.asked.filter(({ method, path }) => method === 'GET' && path.includes('list-type=2'))
  expect(pages.length).toBeGreaterThan(1)
})

test('a bucket that may not be listed says which right is missing', async () => {
  s3.fail(1, ({ path }) => path.includes('list-type=2'), { status: 403, code: 'AccessDenied' })
  expect(await failure(listed(bucket('denied')))).toMatchObject({ code: 'store.denied', hint: expect.stringContaining('s3:ListBucket,') })
  expect(await listed(bucket('empty'))).toEqual([])
})

for (const size of [10, 9 * 1024 * 1024]) {
  test(`metadata and the storage class go with an object of ${size} bytes`, async () => {
    const store = bucket('classes')
    s3.asked.length = 0
    const draft = await store.create(key(size), { ...CSV, metadata: { 'pawl-backup': 'one' }, storageClass: 'STANDARD_IA' })
    await draft.write(Buffer.alloc(size))
    await draft.publish()
    const fixed = s3.asked.find(({ method, path }) => (size > 10 ? method === 'POST' && path.includes('?uploads') : method === 'PUT'))
    expect(fixed?.headers).toMatchObject({ 'x-amz-meta-pawl-backup': 'one', 'x-amz-storage-class': 'STANDARD_IA', 'content-type': 'text/csv' })
    const plain = await store.create(key(size + 1), CSV)
    s3.asked.length = 0
    await plain.publish()
    expect(s3.asked[0]?.headers['x-amz-storage-class']).toBeUndefined()
  })
}
