import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import { openStore, type Store } from '../../src/store.ts'
import { removeAbandoned } from '../../workers/maintenance/backups/abandoned.ts'
import { findBackup, listBackups, removeBackup } from '../../workers/maintenance/backups/catalog.ts'
import { aloneWith } from '../../workers/maintenance/backups/lock.ts'
import { LOCK_CLASS } from '../../workers/maintenance/backups/names.ts'
import { type Origin, readOrigin } from '../../workers/maintenance/backups/origin.ts'
import { contextFor, dumpOf, keysIn, manifestOf, putBackup, putFile, putManifest, putVerification } from '../support/backups.ts'
import { createDatabase, type TestDatabase } from '../support/postgres.ts'
import { type FakeS3, startS3 } from '../support/s3.ts'
import { failure } from '../support/store.ts'

let s3: FakeS3
let db: TestDatabase
let origin: Origin
let folder: string
let places = 0

beforeAll(async () => {
  s3 = await startS3()
  for (const [name, value] of Object.entries(s3.env)) vi.stubEnv(name, value)
  db = await createDatabase()
  origin = await readOrigin(db.query)
  folder = await mkdtemp(join(tmpdir(), 'pawl-catalog-'))
})
afterAll(async () => {
  vi.unstubAllEnvs()
  await s3.close()
  await db.drop()
  await rm(folder, { recursive: true, force: true })
})

const own = () => ({ database: origin.database, cluster: origin.cluster })
const config = () => readConfig({ DATABASE_URL: db.url, PAWL_S3_PATH_STYLE: 'true' })
const newDirectory = () => join(folder, String(++places))

const openers: Record<string, () => Store> = {
  'a directory': () => openStore(newDirectory(), { config: s3.config }),
  'a bucket': () => openStore(`s3://${s3.bucket}/backups-${++places}`, { config: s3.config }),
}

for (const [what, open] of Object.entries(openers)) {
  describe(`in ${what}`, () => {
    test('an empty place has no backups', async () => {
      expect(await listBackups(open())).toEqual({ backups: [], broken: [], loose: [] })
    })

    test('backups are listed newest first, and a verification counts only for its own manifest', async () => {
      const store = open()
      const verified = await putBackup(store, { takenAt: '2026-11-18T02:00:00.000Z' })
      const newest = await putBackup(store, { takenAt: '2026-11-20T02:00:00.000Z', verified: false })
      const swapped = await putBackup(store, { takenAt: '2026-11-19T02:00:00.000Z', verified: false })
      await putVerification(store, swapped, 'f'.repeat(64))
      const garbled = await putBackup(store, { takenAt: '2026-11-17T02:00:00.000Z', verified: false })
      await putFile(store, `${garbled}.verified.json`, '{"format": 1')
      const borrowed = manifestOf({ takenAt: '2026-11-16T02:00:00.000Z' })
      await putFile(store, borrowed.files.dump.key, dumpOf(borrowed.name))
      await putManifest(store, borrowed, true)
      const { backups, broken, loose } = await listBackups(store)
      expect(backups.map(({ manifest, verification }) => [manifest.name, verification?.verifiedAt])).toEqual([
        [newest, undefined],
        [swapped, undefined],
        [verified, '2026-11-20T02:01:00.000Z'],
        [garbled, undefined],
        [borrowed.name, '2026-11-20T02:01:00.000Z'],
      ])
      expect(backups[0]?.manifest).toMatchObject({ kind: 'daily', scope: 'full', tables: [{ schema: 'public', name: 'campaigns', rows: 3, hash: '12345' }] })
      expect([broken, loose]).toEqual([[], []])
      // An edited manifest is no longer the one that was verified.
      await putManifest(store, { ...borrowed, tables: [] })
      expect((await findBackup(store, borrowed.name)).verification).toBeUndefined()
    })

    test('a manifest that can not be one is told with its reason, and stands in nobody else’s way', async () => {
      const store = open()
      const good = await putBackup(store)
      const other = manifestOf()
      const reasons = new Map<string, RegExp>()
      const spoil = async (says: RegExp, change: (manifest: ReturnType<typeof manifestOf>) => unknown, dump?: Buffer) => {
        const manifest = manifestOf()
        if (dump?.length !== 0) await putFile(store, manifest.files.dump.key, dump ?? dumpOf(manifest.name))
        const changed = change(manifest)
        await putFile(store, `${manifest.name}.manifest.json`, typeof changed === 'string' ? changed : JSON.stringify(changed))
        reasons.set(manifest.name, says)
      }
      await spoil(/its manifest is not one: .*JSON/, () => 'no JSON')
      await spoil(/its manifest is not one: format/, manifest => ({ ...manifest, format: 2 }))
      await spoil(/its manifest is not one: takenAt/, manifest => ({ ...manifest, takenAt: 'yesterday' }))
      await spoil(/its manifest is not one: files\.dump\.sha256/, manifest => ({ ...manifest, files: { dump: { ...manifest.files.dump, sha256: '' } } }))
      await spoil(/its manifest is that of shop-.*/, manifest => ({ ...manifest, name: other.name }))
      await spoil(/names a file of another backup, shop-.*\.dump\.zst/, manifest => ({ ...manifest, files: other.files }))
      await spoil(/names a file of another backup, \.\.\/x/, manifest => ({ ...manifest, files: { dump: { ...manifest.files.dump, key: '../x' } } }))
      await spoil(/shop-.*\.dump\.zst is missing/, manifest => manifest, Buffer.alloc(0))
      await spoil(/shop-.*\.dump\.zst has 4 bytes, and its manifest says \d+/, manifest => manifest, Buffer.from('half'))
      await spoil(/shop-.*\.roles\.zst is missing/, manifest => ({
        ...manifest,
        files: { ...manifest.files, roles: { ...manifest.files.dump, key: manifest.files.dump.key.replace('.dump', '.roles') } },
      }))
      const { backups, broken, loose } = await listBackups(store)
      expect(backups.map(({ manifest }) => manifest.name)).toEqual([good])
      expect(loose).toEqual([])
      expect(new Set(broken.map(({ name }) => name))).toEqual(new Set(reasons.keys()))
      for (const { name, reason } of broken) expect(reason).toMatch(reasons.get(name) ?? /never/)
      const [first] = broken
      expect(await failure(findBackup(store, first?.name ?? ''))).toMatchObject({ code: 'backup.broken', message: first?.reason })
      expect((await findBackup(store, 'latest')).manifest.name).toBe(good)
    })

    test('files without a manifest are loose, drafts among them, and what is of others is nobody’s business', async () => {
      const store = open()
      const { name, files } = manifestOf()
      await putFile(store, files.dump.key, 'a dump')
      const draft = await store.create(`${name}.manifest.json`, { contentType: 'application/json' })
      // Larger than a part, so that S3 knows of it.
      await draft.write(Buffer.alloc(9_000_000))
      const whole = await putBackup(store)
      await putFile(store, 'report-0123456789abcdef.csv', 'a report')
      const { backups, broken, loose } = await listBackups(store)
      expect(backups.map(({ manifest }) => manifest.name)).toEqual([whole])
      expect(broken).toEqual([])
      expect(loose).toEqual([{ name, keys: [files.dump.key, `${name}.manifest.json`], newestAt: expect.any(Date) }])
      await draft.close()
    })

    test('a backup goes with all its files, its manifest first; broken off, what is left is loose', async () => {
      const store = open()
      const stays = await putBackup(store)
      const goes = await putBackup(store)
      const removed: string[] = []
      const failing: Store = {
        ...store,
        async remove(key) {
          if (removed.length === 1) throw new Error('the power is out')
          removed.push(key)
          await store.remove(key)
        },
      }
      await expect(removeBackup(failing, goes)).rejects.toThrow('the power is out')
      expect(removed).toEqual([`${goes}.manifest.json`])
      expect(await listBackups(store)).toMatchObject({ backups: [{ manifest: { name: stays } }], broken: [], loose: [{ name: goes }] })
      await removeBackup(store, goes)
      await removeBackup(store, goes)
      expect(await keysIn(store)).toEqual([`${stays}.dump.zst`, `${stays}.manifest.json`, `${stays}.verified.json`])
    })

    test('what backups left that died is removed at once, and nothing else', async () => {
      const store = open()
      const context = contextFor(config())
      const whole = await putBackup(store, own())
      const dead = manifestOf(own())
      const alive = manifestOf(own())
      const foreign = [manifestOf({ ...own(), cluster: '7300000000000000009' }), manifestOf({ ...own(), database: `${origin.database}_2` })]
      const broken = manifestOf(own())
      for (const { files } of [dead, alive, ...foreign, broken]) await putFile(store, files.dump.key, 'a dump')
      await putFile(store, `${broken.name}.manifest.json`, '{}')
      // A verification that died leaves a draft beside a backup that is whole.
      const unproven = await putBackup(store, { ...own(), verified: false })
      const drafts = await Promise.all(
        [`${dead.name}.roles.zst`, `${unproven}.verified.json`].map(async key => {
          const draft = await store.create(key, { contentType: 'text/plain' })
          await draft.write(Buffer.alloc(9_000_000))
          return draft
        }),
      )
      const before = await keysIn(store)

      const writer = await connectDirect(config(), 'writer')
      onTestFinished(() => writer.close())
      const namesOf = (found: Awaited<ReturnType<typeof removeAbandoned>>) =>
        Object.fromEntries(Object.entries(found).map(([key, loose]) => [key, loose.map(({ name }) => name).sort()]))
      const wanted = { removed: [dead.name, unproven].sort(), busy: [alive.name], foreign: foreign.map(({ name }) => name).sort() }
      await aloneWith(writer.query, alive.name, async () => {
        expect(namesOf(await removeAbandoned(context, store, { isDryRun: true }))).toEqual(wanted)
        expect(await keysIn(store)).toEqual(before)
        expect(namesOf(await removeAbandoned(context, store))).toEqual(wanted)
      })
      expect(await keysIn(store)).toEqual(before.filter(key => !key.includes(dead.name) && key !== `+${unproven}.verified.json`))
      for (const name of [whole, unproven, broken.name])
        expect(await keysIn(store)).toEqual(expect.arrayContaining([`${name}.dump.zst`, `${name}.manifest.json`]))
      // Its writer died.
      expect(namesOf(await removeAbandoned(context, store))).toMatchObject({ removed: [alive.name], busy: [] })
      for (const draft of drafts) await draft.close()
      if (what === 'a bucket') expect(s3.uploads().filter(({ key }) => key.includes(dead.name) || key.includes(unproven))).toEqual([])
    })
  })
}

test('a lock that is held in another database of the server keeps the files, too', async () => {
  const store = openStore(newDirectory(), { config: s3.config })
  const loose = manifestOf(own())
  await putFile(store, loose.files.dump.key, 'a dump')
  const other = await createDatabase({ empty: true })
  onTestFinished(() => other.drop())
  const writer = await connectDirect(readConfig({ DATABASE_URL: other.url }), 'writer')
  await writer.query(`select pg_advisory_lock(${LOCK_CLASS}, hashtext($1))`, [loose.name])
  expect(await removeAbandoned(contextFor(config()), store)).toMatchObject({ removed: [], busy: [{ name: loose.name }] })
  await writer.close()
})

test('a backup that was finished while its lock was looked at is none that was abandoned', async () => {
  const store = openStore(newDirectory(), { config: s3.config })
  const manifest = manifestOf(own())
  await putFile(store, manifest.files.dump.key, dumpOf(manifest.name))
  let lists = 0
  const racing: Store = {
    ...store,
    async *list() {
      lists += 1
      if (lists === 2) await putManifest(store, manifest)
      yield* store.list()
    },
  }
  expect(await removeAbandoned(contextFor(config()), racing)).toEqual({ removed: [], busy: [], foreign: [] })
  expect((await listBackups(store)).backups.map(stored => stored.manifest.name)).toEqual([manifest.name])
})

test('a backup is found by its name, by what no other name has, as the latest or the newest', async () => {
  const store = openStore(newDirectory(), { config: s3.config })
  expect(await failure(findBackup(store, 'latest'))).toMatchObject({ code: 'backup.unknown', message: 'no full backup is verified' })
  const verified = await putBackup(store, { takenAt: '2026-11-17T02:00:00.000Z' })
  const newest = await putBackup(store, { takenAt: '2026-11-18T02:00:00.000Z', kind: 'manual', verified: false })
  const part = await putBackup(store, { takenAt: '2026-11-19T02:00:00.000Z', scope: 'tables' })
  const nameOf = async (word: string, of?: Parameters<typeof findBackup>[2]) => (await findBackup(store, word, of)).manifest.name
  expect(await nameOf('latest')).toBe(verified)
  expect(await nameOf('newest')).toBe(newest)
  expect(await nameOf(part)).toBe(part)
  expect(await nameOf('-manual-')).toBe(newest)
  expect(await nameOf(part.slice(-8))).toBe(part)
  expect(await failure(findBackup(store, '-daily-'))).toMatchObject({ code: 'backup.unknown', message: '"-daily-" is in the names of 2 backups' })
  expect(await failure(findBackup(store, 'nothing'))).toMatchObject({ code: 'backup.unknown', message: 'there is no backup nothing' })

  const elsewhere = await putBackup(store, { takenAt: '2026-11-20T02:00:00.000Z', cluster: '7300000000000000002' })
  expect(await failure(findBackup(store, 'latest'))).toMatchObject({
    message: '"latest" could be a backup of shop of cluster 7300000000000000001, or shop of cluster 7300000000000000002',
  })
  expect(await failure(findBackup(store, 'latest', { database: 'shop' }))).toMatchObject({ code: 'backup.unknown' })
  expect(await nameOf('latest', { database: 'shop', cluster: '7300000000000000001' })).toBe(verified)
  expect(await nameOf('latest', { database: 'shop', cluster: '7300000000000000002' })).toBe(elsewhere)
})
