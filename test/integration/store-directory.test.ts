import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { classify, PawlError } from '../../src/errors.ts'
import { openStore } from '../../src/store.ts'
import { collect, CSV, directoryStage, failure, sha256 } from '../support/store.ts'

const KEY = 'report-0123456789abcdef.csv'
const NEXT = 'report-fedcba9876543210.csv'
const config = readConfig({})

test('a published file has exactly the bytes that were written, whatever the sizes of the writes', async () => {
  const { store, directory, names } = await directoryStage()
  const content = randomBytes(3_000_000)
  const draft = await store.create(KEY, CSV)
  const sizes = [1, 77, 0, 262_143, 1, 262_144, 262_145, 900_000]
  for (let at = 0, step = 0; at < content.length; step += 1) {
    // The buffer belongs to the caller again after each write: what is written into it later must not get into the file.
    const piece = Buffer.from(content.subarray(at, at + (sizes[step % sizes.length] ?? 1)))
    await draft.write(piece)
    at += piece.length
    piece.fill(0)
    expect(draft.bytes()).toBe(at)
  }
  expect(await names()).toEqual([`.${KEY}.draft`])
  expect(await draft.publish()).toEqual({ bytes: content.length, sha256: sha256(content) })
  expect(await names()).toEqual([KEY])
  expect((await collect(store.read(KEY))).equals(content)).toBe(true)
  expect(store.url(KEY)).toBe(`file://${directory}/${KEY}`)
  expect(openStore(directory, { config, baseUrl: 'https://reports.example/files/' }).url(KEY)).toBe(`https://reports.example/files/${KEY}`)
})

test('an empty file is a file, publishing twice says the same, closing is fine at any time', async () => {
  const { store } = await directoryStage()
  const draft = await store.create(KEY, CSV)
  const published = await draft.publish()
  expect(published).toEqual({ bytes: 0, sha256: sha256(Buffer.alloc(0)) })
  expect(await draft.publish()).toEqual(published)
  await draft.close()
  await draft.close()
  expect(await collect(store.read(KEY))).toHaveLength(0)
  const unpublished = await store.create(NEXT, CSV)
  await unpublished.close()
  await unpublished.close()
})

test('someone who watches the directory sees no file, or the whole file', async () => {
  const { store, directory } = await directoryStage()
  const content = randomBytes(400_000)
  let isWriting = true
  let seen = 0
  let missing = 0
  const watching = (async () => {
    while (isWriting) {
      const found = await readFile(join(directory, KEY)).catch(() => undefined)
      if (found === undefined) missing += 1
      else expect(sha256(found)).toBe(sha256(content))
      if (found !== undefined) seen += 1
    }
  })()
  for (let round = 0; round < 40; round += 1) {
    const draft = await store.create(KEY, CSV)
    for (let at = 0; at < content.length; at += 10_000) await draft.write(content.subarray(at, at + 10_000))
    await draft.publish()
    if (round % 4 === 0) await store.remove(KEY)
  }
  isWriting = false
  await watching
  expect(seen).toBeGreaterThan(0)
  expect(missing).toBeGreaterThan(0)
})

test('the directory is its owner’s alone, the draft too, and the group may read the published file', async () => {
  const { store, directory } = await directoryStage()
  const draft = await store.create(KEY, CSV)
  const mode = async (path: string) => ((await stat(path)).mode & 0o777).toString(8)
  expect(await mode(directory)).toBe('700')
  expect(await mode(join(directory, `.${KEY}.draft`))).toBe('600')
  await draft.publish()
  expect(await mode(join(directory, KEY))).toBe('640')
})

test('a draft is continued under a new key by another, while its first writer lives on', async () => {
  const { store, names } = await directoryStage()
  const content = randomBytes(2_500_001)
  const first = await store.create(KEY, CSV)
  await first.write(content.subarray(0, 1_700_000))
  await first.sync()
  await first.write(Buffer.alloc(500_000, 'x'))
  const second = await store.create(NEXT, { ...CSV, continues: { key: KEY, bytes: 1_700_000 } })
  expect(second.bytes()).toBe(1_700_000)
  await first.write(Buffer.alloc(500_000, 'y'))
  await first.sync()
  await second.write(content.subarray(1_700_000))
  expect(await second.publish()).toEqual({ bytes: content.length, sha256: sha256(content) })
  expect((await collect(store.read(NEXT))).equals(content)).toBe(true)
  expect(await names()).toEqual([`.${KEY}.draft`, NEXT].sort())
  // The first was only read: it could still end its own way.
  expect(await first.publish()).toMatchObject({ bytes: 2_700_000 })
})

test('what was not synced is not promised: a draft that is gone or too short is refused, and leaves no new draft', async () => {
  const { store, names } = await directoryStage()
  const draft = await store.create(KEY, CSV)
  await draft.write(Buffer.alloc(1000))
  await draft.sync()
  await draft.write(Buffer.alloc(1000))
  await draft.close()
  const short = await failure(store.create(NEXT, { ...CSV, continues: { key: KEY, bytes: 1001 } }))
  expect(short).toMatchObject({ code: 'store.draft_missing', retryable: false, message: expect.stringContaining('1000 bytes, and 1001') })
  await store.create(NEXT, { ...CSV, continues: { key: KEY, bytes: 1000 } }).then(begun => begun.close())
  await store.remove(KEY)
  await store.remove(NEXT)
  const gone = await failure(store.create(NEXT, { ...CSV, continues: { key: KEY, bytes: 0 } }))
  expect(gone).toMatchObject({ code: 'store.draft_missing' })
  expect(await names()).toEqual([])
})

test('what a crashed attempt left under the same key is replaced, and a link in its place is not followed', async () => {
  const { store, directory, parent } = await directoryStage()
  await mkdir(directory)
  await writeFile(join(directory, `.${KEY}.draft`), 'the rest of a crashed attempt, longer than what comes')
  const draft = await store.create(KEY, CSV)
  await draft.write(Buffer.from('new'))
  await draft.publish()
  expect((await collect(store.read(KEY))).toString()).toBe('new')
  const precious = join(parent, 'precious')
  await writeFile(precious, 'untouched')
  expect(spawnSync('ln', ['-s', precious, join(directory, `.${NEXT}.draft`)]).status).toBe(0)
  const second = await store.create(NEXT, CSV)
  await second.write(Buffer.from('elsewhere'))
  await second.publish()
  expect(await readFile(precious, 'utf8')).toBe('untouched')
})

test('keys that could mean another file are refused, everywhere', async () => {
  const { store, parent } = await directoryStage()
  const bad = [
    '',
    '../../etc/passwd',
    `../${KEY}`,
    `.${KEY}`,
    `a/${KEY}`,
    'short.csv',
    'no-extension-at-all',
    `${KEY}.`,
    `${KEY}\n`,
    `${KEY}\0`,
    `x ${KEY}`,
    `.${KEY}.draft`,
  ]
  for (const key of bad) {
    const refused = { code: 'store.key', retryable: false }
    expect(await failure((async () => store.create(key, CSV))()), key).toMatchObject(refused)
    expect(await failure((async () => store.create(KEY, { ...CSV, continues: { key, bytes: 1 } }))()), key).toMatchObject(refused)
    expect(await failure((async () => collect(store.read(key)))()), key).toMatchObject(refused)
    expect(await failure((async () => store.remove(key))()), key).toMatchObject(refused)
    expect(() => store.url(key), key).toThrow(PawlError)
  }
  expect(await readdir(parent)).toEqual([])
})

test('removing takes the file and the draft, and nothing there is fine', async () => {
  const { store, names } = await directoryStage()
  await store.remove(KEY)
  await (await store.create(KEY, CSV)).publish()
  await (await store.create(KEY, CSV)).close()
  await (await store.create(NEXT, CSV)).publish()
  expect(await names()).toEqual([`.${KEY}.draft`, KEY, NEXT])
  await store.remove(KEY)
  await store.remove(KEY)
  expect(await names()).toEqual([NEXT])
  expect(await failure(collect(store.read(KEY)))).toMatchObject({ code: 'store.file_missing', message: expect.stringContaining(KEY) })
})

test('a writer whose draft was removed can’t publish it, and is told that beginning anew helps', async () => {
  const { store, names } = await directoryStage()
  const draft = await store.create(KEY, CSV)
  await draft.write(Buffer.from('someone else took over'))
  await store.remove(KEY)
  const lost = await failure(draft.publish())
  expect(lost).toMatchObject({ code: 'store.draft_lost' })
  expect(classify(lost)).toBe('transient')
  await draft.close()
  expect(await names()).toEqual([])
})
