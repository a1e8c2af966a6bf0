import { createHash } from 'node:crypto'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { openStore, type Store } from '../../src/store.ts'

export const CSV = { contentType: 'text/csv' }

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** All bytes of a file, or of a process's output. */
export async function collect(bytes: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of bytes) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** What was thrown. */
export const failure = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => expect.unreachable('nothing was thrown'),
    (error: unknown) => error,
  )

/** A directory store that does not exist yet, until the test ends. */
export async function directoryStage() {
  const parent = await mkdtemp(join(tmpdir(), 'pawl-store-'))
  onTestFinished(() => rm(parent, { recursive: true, force: true }))
  const directory = join(parent, 'reports')
  return { parent, directory, store: openStore(directory, { config: readConfig({}) }), names: async () => (await readdir(directory)).sort() }
}

/** Writes `content` in pieces whose buffer is overwritten after each write, as a reader with one buffer does. */
export async function writeAll(to: Store, key: string, content: Buffer, piece: number) {
  const draft = await to.create(key, CSV)
  const buffer = Buffer.alloc(piece)
  for (let at = 0; at < content.length; at += piece) await draft.write(buffer.subarray(0, content.copy(buffer, 0, at, at + piece)))
  return draft
}
