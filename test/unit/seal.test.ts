import { execFileSync, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { PawlError } from '../../src/errors.ts'
import { newIdentity, readIdentities, seal, sealExtension, unseal } from '../../src/seal.ts'
import { collect, failure } from '../support/store.ts'
import { until } from '../support/until.ts'

/** Noise that can't be compressed, and much that can. */
const CONTENT = Buffer.concat([randomBytes(200_001), Buffer.alloc(400_000, 'pawl '), randomBytes(7)])
const key = await newIdentity()
const other = await newIdentity()

async function* inPieces(bytes: Uint8Array, size = 50_000): AsyncIterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

const sealings = (['zstd', 'gzip', 'none'] as const).flatMap(compression =>
  [[], [key.recipient], [other.recipient, key.recipient]].map(recipients => ({ compression, recipients })),
)

for (const sealing of sealings) {
  const extension = sealExtension(sealing)
  test(`what is sealed as "${extension}" to ${sealing.recipients.length} keys is opened as it was, empty or not`, async () => {
    for (const content of [CONTENT, Buffer.alloc(0), CONTENT.subarray(0, 65_536), CONTENT.subarray(0, 1)]) {
      const sealed = await collect(await seal(inPieces(content), sealing))
      expect((await collect(unseal(inPieces(sealed, 999), `x.dump${extension}`, [key.identity]))).equals(content)).toBe(true)
    }
  })

  test(`damage to what is sealed as "${extension}" to ${sealing.recipients.length} keys is noticed`, async () => {
    // Nothing guards it but the SHA-256 of the manifest.
    if (extension === '') return
    const sealed = await collect(await seal(inPieces(CONTENT), sealing))
    const flipped = (at: number) => {
      const bytes = Buffer.from(sealed)
      bytes[at] = (bytes[at] ?? 0) ^ 1
      return bytes
    }
    const damaged = {
      half: sealed.subarray(0, sealed.length / 2),
      'one byte less': sealed.subarray(0, -1),
      nothing: sealed.subarray(0, 0),
      'a bit': flipped(sealed.length >> 1),
      'the end': flipped(sealed.length - 2),
    }
    for (const [what, bytes] of Object.entries(damaged)) {
      const error = await failure(collect(unseal(inPieces(bytes), `x.dump${extension}`, [key.identity])))
      expect(error, what).toMatchObject({ code: 'seal.damaged', message: expect.stringContaining(`x.dump${extension} is not what was written`) })
    }
  })
}

test('the extensions say which tools open it, in which order', () => {
  expect(sealings.map(sealExtension)).toEqual(['.zst', '.zst.age', '.zst.age', '.gz', '.gz.age', '.gz.age', '', '.age', '.age'])
})

test('a wrong key, no key and something else than a key are told apart, and never quoted', async () => {
  const sealed = await collect(await seal(inPieces(CONTENT), { compression: 'zstd', recipients: [key.recipient] }))
  const open = (identities: string[]) => failure(collect(unseal(inPieces(sealed), 'x.dump.zst.age', identities)))
  expect(await open([other.identity])).toMatchObject({ code: 'seal.key', message: expect.stringContaining('other keys') })
  expect(await open([])).toMatchObject({ code: 'seal.key', message: expect.stringContaining('no private key') })
  const nonsense = (await open(['AGE-SECRET-KEY-1NONSENSE'])) as PawlError
  expect([nonsense.code, nonsense.cause]).toEqual(['seal.key', undefined])
  expect(nonsense.message).not.toContain('NONSENSE')
  const unknown = await failure(seal(inPieces(CONTENT), { compression: 'none', recipients: ['age1nonsense'] }))
  expect(unknown).toMatchObject({ code: 'seal.recipient', message: expect.stringContaining('age1nonsense') })
})

test('what the source throws is thrown as it is, on the way in and on the way out', async () => {
  const lost = new PawlError('store.unreachable', 'the network is gone', { retryable: true })
  for (const sealing of sealings) {
    async function* broken(bytes: Uint8Array): AsyncIterable<Uint8Array> {
      yield bytes.subarray(0, 100_000)
      throw lost
    }
    expect(await failure(seal(broken(CONTENT), sealing).then(collect))).toBe(lost)
    const sealed = await collect(await seal(inPieces(CONTENT), sealing))
    expect(await failure(collect(unseal(broken(sealed), `x.dump${sealExtension(sealing)}`, [key.identity])))).toBe(lost)
  }
})

test('a reader that goes away ends the source', async () => {
  for (const sealing of sealings) {
    let isEnded = false
    async function* endless(): AsyncIterable<Uint8Array> {
      try {
        for (;;) yield randomBytes(50_000)
      } finally {
        isEnded = true
      }
    }
    for await (const _ of await seal(endless(), sealing)) break
    await until(`the source of ${sealExtension(sealing)} has ended`, () => isEnded, 2_000)
  }
})

test('a fresh key beside keys that resist quantum computers is one of those', async () => {
  const age = await import('age-encryption')
  const recipient = await age.identityToRecipient(await age.generateHybridIdentity())
  expect((await newIdentity([key.recipient])).identity).toMatch(/^AGE-SECRET-KEY-1/)
  const fresh = await newIdentity([recipient])
  expect(fresh.identity).toMatch(/^AGE-SECRET-KEY-PQ-1/)
  const sealed = await collect(await seal(inPieces(CONTENT), { compression: 'zstd', recipients: [recipient, fresh.recipient] }))
  expect((await collect(unseal(inPieces(sealed), 'x.zst.age', [fresh.identity]))).equals(CONTENT)).toBe(true)
})

test('private keys are read from the file of age-keygen, and from nothing else', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'pawl-seal-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const path = join(folder, 'key.txt')
  await writeFile(path, `# created: 2026-11-21\r\n# public key: ${key.recipient}\r\n${key.identity}\r\n\n${other.identity}\n`)
  expect(await readIdentities(path)).toEqual([key.identity, other.identity])
  expect(await failure(readIdentities(join(folder, 'none')))).toMatchObject({
    code: 'seal.identity',
    message: expect.stringContaining('there is no such file'),
  })
  await writeFile(path, '-----BEGIN AGE ENCRYPTED FILE-----\n')
  expect(await failure(readIdentities(path))).toMatchObject({ code: 'seal.identity', hint: expect.stringContaining('age -d') })
  await writeFile(path, key.recipient)
  expect(await failure(readIdentities(path))).toMatchObject({ code: 'seal.identity', message: expect.stringContaining('no private key') })
})

function stockToolsMissing(): boolean {
  if (process.env.CI !== undefined || ['age', 'zstd'].every(tool => existsSync(join('/usr/bin', tool)))) return false
  console.warn('SKIPPED: what Pawl seals, opened by age and zstd. Install them to run it: apt-get install age zstd')
  return true
}

test.skipIf(stockToolsMissing())('age and zstd open what we seal, and we open what they sealed', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'pawl-seal-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'key'), key.identity)
  const sealed = await collect(await seal(inPieces(CONTENT), { compression: 'zstd', recipients: [other.recipient, key.recipient] }))
  const opened = execFileSync('sh', ['-c', 'age -d -i "$0" | zstd -d', join(folder, 'key')], { input: sealed, maxBuffer: 10_000_000 })
  expect(opened.equals(CONTENT)).toBe(true)
  const theirs = spawnSync('sh', ['-c', 'zstd -c | age -r "$0"', key.recipient], { input: CONTENT, maxBuffer: 10_000_000 }).stdout
  expect((await collect(unseal(inPieces(theirs), 'x.zst.age', [key.identity]))).equals(CONTENT)).toBe(true)
})
