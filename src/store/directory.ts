import { createHash } from 'node:crypto'
import { type FileHandle, mkdir, open, opendir, rename, rm, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { codeOf, PawlError } from '../errors.ts'
import { checkedKey, type Draft, draftMissing, type Entry, fileMissing, isKey, type Store } from './contract.ts'
import { BLOCK_BYTES, gather } from './gather.ts'
import { directoryTrouble } from './trouble.ts'

/** What a draft needs to know of where it is. */
type Location = { directory: string; draft: string; file: string; mode: number }

/** A directory that every worker sees: a local one, or a mounted share. Published files have no dot before their name. */
export function openDirectory(path: string): Store {
  const directory = resolve(path)
  const locate = (key: string, isPrivate = false): Location => ({
    directory,
    draft: join(directory, `.${checkedKey(key)}.draft`),
    file: join(directory, key),
    mode: isPrivate ? 0o600 : 0o640,
  })
  return {
    create: (key, { continues, isPrivate }) =>
      clearly(directory, () => create(locate(key, isPrivate), continues && { ...continues, draft: locate(continues.key).draft })),
    read: key => read(locate(key), key),
    // The draft first: its writer may live and rename it at any moment, so that after it only the file can be there.
    remove: key =>
      clearly(directory, async () => {
        const { draft, file } = locate(key)
        await rm(draft, { force: true })
        await rm(file, { force: true })
      }),
    list: () => list(directory),
    url: key => pathToFileURL(locate(key).file).href,
  }
}

type Earlier = { key: string; bytes: number; draft: string }

async function create(location: Location, earlier: Earlier | undefined): Promise<Draft> {
  await mkdir(location.directory, { recursive: true, mode: 0o700 })
  const source = earlier && (await openEarlier(earlier))
  try {
    // What a crashed attempt left under this very key; its name is taken anew, so that nothing a link points to is ever written.
    await rm(location.draft, { force: true })
    const draft = writeTo(await open(location.draft, 'wx', 0o600), location)
    if (earlier === undefined || source === undefined) return draft
    return await copied(source, earlier, draft).catch(async (error: unknown) => {
      await draft.close()
      await rm(location.draft, { force: true })
      throw error
    })
  } finally {
    await source?.close()
  }
}

/** Only ever read: its writer may be alive still, and only appends. */
async function openEarlier({ key, bytes, draft }: Earlier): Promise<FileHandle> {
  const source = await open(draft, 'r').catch((error: unknown) => {
    throw codeOf(error) === 'ENOENT' ? draftMissing(key, 'it is gone') : error
  })
  const { size } = await source.stat()
  if (size >= bytes) return source
  await source.close()
  throw draftMissing(key, `it has ${size} bytes, and ${bytes} are needed`)
}

async function copied(source: FileHandle, { key, bytes }: Earlier, draft: Draft): Promise<Draft> {
  const buffer = Buffer.allocUnsafeSlow(Math.min(bytes, 4 * BLOCK_BYTES))
  while (draft.bytes() < bytes) {
    const { bytesRead } = await source.read(buffer, 0, Math.min(buffer.length, bytes - draft.bytes()), draft.bytes())
    if (bytesRead === 0) throw draftMissing(key, `it ended at byte ${draft.bytes()} of ${bytes}`)
    await draft.write(buffer.subarray(0, bytesRead))
  }
  return draft
}

function writeTo(handle: FileHandle, location: Location): Draft {
  const { directory } = location
  const hash = createHash('sha256')
  const blocks = gather(block => writeWhole(handle, block))
  let bytes = 0
  let isEntrySafe = false
  let isClosed = false
  let published: { bytes: number; sha256: string } | undefined
  /** A full disk is everybody's trouble: the draft gives its room back at once. */
  const roomily = (act: () => Promise<void>) =>
    clearly(directory, act).catch(async (error: unknown) => {
      if (codeOf(error) === 'store.full') {
        await close()
        await rm(location.draft, { force: true }).catch(() => {})
      }
      throw error
    })
  const close = async () => {
    if (isClosed) return
    isClosed = true
    await handle.close().catch(() => {})
  }
  return {
    bytes: () => bytes,
    close,
    write(chunk) {
      bytes += chunk.length
      hash.update(chunk)
      return roomily(() => blocks.write(chunk))
    },
    sync: () =>
      roomily(async () => {
        await blocks.flush()
        await handle.datasync()
        if (!isEntrySafe) await syncDirectory(directory)
        isEntrySafe = true
      }),
    async publish() {
      if (published !== undefined) return published
      await roomily(async () => {
        await blocks.flush()
        await handle.chmod(location.mode)
        // Before the rename, or a power cut could leave the name with nothing behind it.
        await handle.sync()
        await rename(location.draft, location.file).catch((error: unknown) => {
          throw codeOf(error) === 'ENOENT' ? draftLost(location.draft, error) : error
        })
        await syncDirectory(directory)
      })
      published = { bytes, sha256: hash.digest('hex') }
      await close()
      return published
    },
  }
}

/** Another worker took the run over and removed it, or someone cleaned up: a new file is the way on. */
function draftLost(path: string, cause: unknown): PawlError {
  return new PawlError('store.draft_lost', `${path} was removed while it was being written`, { retryable: true, cause })
}

/** The system may take less than it is given, on a disk that is nearly full above all. */
async function writeWhole(handle: FileHandle, block: Uint8Array): Promise<void> {
  for (let written = 0; written < block.length; ) {
    const { bytesWritten } = await handle.write(block, written, block.length - written)
    written += bytesWritten
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function* read({ directory, file }: Location, key: string): AsyncIterable<Uint8Array> {
  const handle = await open(file, 'r').catch((error: unknown) => {
    throw codeOf(error) === 'ENOENT' ? fileMissing(key, directory, error) : directoryTrouble(error, directory)
  })
  try {
    // The stream closes the handle, however the reading ends.
    yield* handle.createReadStream({ highWaterMark: BLOCK_BYTES })
  } catch (error) {
    throw directoryTrouble(error, directory)
  }
}

/** A directory that nobody has written to yet is an empty one. */
async function* list(directory: string): AsyncIterable<Entry> {
  try {
    const names = await opendir(directory).catch((error: unknown) => {
      if (codeOf(error) !== 'ENOENT') throw error
    })
    for await (const { name } of names ?? []) {
      const draft = /^\.(.*)\.draft$/.exec(name)?.[1]
      const key = draft ?? name
      // Gone since its name was read: published, or removed.
      const found = isKey(key) ? await stat(join(directory, name)).catch(ifThere) : undefined
      if (found?.isFile()) yield { key, bytes: found.size, modifiedAt: found.mtime, isDraft: draft !== undefined }
    }
  } catch (error) {
    throw directoryTrouble(error, directory)
  }
}

function ifThere(error: unknown): undefined {
  if (codeOf(error) !== 'ENOENT') throw error
}

async function clearly<Result>(directory: string, act: () => Promise<Result>): Promise<Result> {
  try {
    return await act()
  } catch (error) {
    throw directoryTrouble(error, directory)
  }
}
