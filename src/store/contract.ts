import { PawlError } from '../errors.ts'

/** Somewhere to keep files: a directory or an S3 bucket. A file appears whole or not at all. */
export type Store = {
  /**
   * Begins a file that nobody sees until it is published. `continues`: with the first `bytes` of the draft that someone else began under
   * that key; throws `store.draft_missing` where there is no such draft any more, or a shorter one, or the store can't go on with one.
   */
  create(key: string, options: CreateOptions): Promise<Draft>
  /** The file, from its first byte to its last. Throws `store.file_missing`. */
  read(key: string): AsyncIterable<Uint8Array>
  /** Removes the file of this key and what there is of a draft of it; nothing there is fine. */
  remove(key: string): Promise<void>
  /**
   * Everything under this place that Pawl may have put there, in no order: files, and drafts whose writers may live or not. What has no key
   * of ours is left out.
   */
  list(): AsyncIterable<Entry>
  /** Where whoever has the rights finds the file. */
  url(key: string): string
}

/** `metadata` and `storageClass` are S3's; a directory has neither, but can keep a file from its owner's group (`isPrivate`). */
export type CreateOptions = {
  contentType: string
  isPrivate?: boolean
  continues?: { key: string; bytes: number }
  metadata?: Record<string, string>
  storageClass?: string | undefined
}

/** A draft may be listed beside a file of the same key, and on S3 several of one key; S3 doesn't say how large a draft is: 0. */
export type Entry = { key: string; bytes: number; modifiedAt: Date; isDraft: boolean }

/** A file being written, one call at a time. After a call that failed only `close` makes sense. */
export type Draft = {
  /** How many were written, whether or not they have left this process. */
  bytes(): number
  /** Resolves when more may come; the caller may use its buffer again then. */
  write(bytes: Uint8Array): Promise<void>
  /** After it, what was written outlasts a crash of this process, where the store can go on with a draft at all (S3 can't). */
  sync(): Promise<void>
  /** Makes the file visible, whole, under its key, replacing none but an earlier one of the same key. */
  publish(): Promise<{ bytes: number; sha256: string }>
  /** Lets go of it without removing anything that can be continued: whoever continues it may want it. Never throws; twice is fine. */
  close(): Promise<void>
}

const KEY = /^[A-Za-z0-9_-]{16,}(\.[a-z]+){1,3}$/

/** Whether it could be the key of a file of ours. */
export function isKey(text: string): boolean {
  return KEY.test(text)
}

/** The key as it is. Throws `store.key` for anything that could mean another file or a draft: a slash, a dot first. */
export function checkedKey(key: string): string {
  if (isKey(key)) return key
  throw new PawlError('store.key', `"${key}" is no key of a file: 16 or more of A-Z a-z 0-9 _ -, a dot, one to three extensions in lower case`)
}

/** What `continues` meets where there is nothing to go on with. Never retried as it is: the caller begins anew. */
export function draftMissing(key: string, why: string): PawlError {
  return new PawlError('store.draft_missing', `the draft of ${key} can't be continued: ${why}`, { hint: 'begin the file anew' })
}

/** What `read` meets where there is no such file. */
export function fileMissing(key: string, place: string, cause: unknown): PawlError {
  return new PawlError('store.file_missing', `there is no file ${key} in ${place}`, {
    hint: 'it was removed, or written into another store',
    cause,
  })
}
