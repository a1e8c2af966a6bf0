import type * as S3 from '@aws-sdk/client-s3'

/** S3 takes 10,000 parts, so a file may have 80 GB. */
const PART_BYTES = 8 * 1024 * 1024
const PARTS_AT_ONCE = 2

/** The SDK and its client. */
export type Sdk = { s3: typeof S3; client: S3.S3Client }

/** Where an object is. */
export type Name = { Bucket: string; Key: string }

/** What is fixed of an object when it is begun. */
export type Headers = { ContentType: string; Metadata?: Record<string, string>; StorageClass?: S3.StorageClass }

/** An object on its way. What fails has aborted the upload before it throws. */
export type Parts = {
  write(bytes: Uint8Array): Promise<void>
  /** Makes the object visible; S3 refuses where what it has is not of `bytes` bytes. */
  finish(bytes: number): Promise<void>
  /** Takes back what was sent, unless it is finished. Never throws: what it can't reach, removing the object takes later. */
  abort(): Promise<void>
}

/**
 * Uploads an object part by part, or by one request where it fits into one part. Three buffers serve for all parts: the SDK's own
 * `Upload` makes new ones for each, and 300 MB through it took 95 MB of memory here instead of 31; it also tells of a part's failure only
 * when the next is full, and can't break off one under way.
 */
export function sendParts({ s3, client }: Sdk, target: Name & Headers): Parts {
  const { Bucket, Key } = target
  const stop = new AbortController()
  const { signal: abortSignal } = stop
  const free: Buffer<ArrayBuffer>[] = []
  const underway = new Set<Promise<void>>()
  const parts: S3.CompletedPart[] = []
  let current = Buffer.allocUnsafeSlow(PART_BYTES)
  let filled = 0
  let sent = 0
  let beginning: Promise<string | undefined> | undefined
  let failure: { error: unknown } | undefined
  let isOver = false

  const abort = async () => {
    if (isOver) return
    isOver = true
    stop.abort()
    await Promise.all(underway)
    // It may be beginning just now, in a write that nobody waits for any more.
    const UploadId = await beginning?.catch(() => undefined)
    if (UploadId !== undefined) await client.send(new s3.AbortMultipartUploadCommand({ Bucket, Key, UploadId })).catch(() => {})
  }
  const goesOn = () => {
    if (failure !== undefined) throw failure.error
    if (isOver) throw new Error('the upload has ended already')
  }
  const orAbort = async (act: () => Promise<void>) => {
    try {
      goesOn()
      await act()
    } catch (error) {
      // The other parts that this breaks off must not tell their tale instead.
      failure ??= { error }
      await abort()
      throw failure.error
    }
  }
  const send = async (UploadId: string | undefined, buffer: Buffer<ArrayBuffer>, size: number, number: number) => {
    try {
      const part = { Bucket, Key, UploadId, PartNumber: number, Body: buffer.subarray(0, size) }
      const { ETag, ChecksumCRC32 } = await client.send(new s3.UploadPartCommand(part), { abortSignal })
      parts[number - 1] = { PartNumber: number, ETag, ...(ChecksumCRC32 === undefined ? {} : { ChecksumCRC32 }) }
      free.push(buffer)
    } catch (error) {
      failure ??= { error }
    }
  }
  const settled = async (most: number) => {
    while (underway.size > most) await Promise.race(underway)
    goesOn()
  }
  /** Sends what is in the buffer, and resolves when there is room for another. */
  const ship = async () => {
    beginning ??= begin()
    const uploadId = await beginning
    await settled(PARTS_AT_ONCE - 1)
    sent += 1
    const sending: Promise<void> = send(uploadId, current, filled, sent).finally(() => underway.delete(sending))
    underway.add(sending)
    current = free.pop() ?? Buffer.allocUnsafeSlow(PART_BYTES)
    filled = 0
  }
  const begin = async () => {
    // Each part's checksum can only be kept where its kind was told at the beginning; the SDK sends CRC-32 unless its environment says no.
    const isChecked = (await client.config.requestChecksumCalculation()) === 'WHEN_SUPPORTED'
    const begun = new s3.CreateMultipartUploadCommand({ ...target, ...(isChecked ? { ChecksumAlgorithm: 'CRC32' } : {}) })
    return (await client.send(begun)).UploadId
  }
  return {
    abort,
    write: bytes =>
      orAbort(async () => {
        for (let rest = bytes; rest.length > 0; ) {
          // Not as soon as it is full: a file that ends there needs one request instead of three.
          if (filled === PART_BYTES) await ship()
          const piece = rest.subarray(0, PART_BYTES - filled)
          current.set(piece, filled)
          filled += piece.length
          rest = rest.subarray(piece.length)
        }
      }),
    finish: bytes =>
      orAbort(async () => {
        if (beginning === undefined) {
          await client.send(new s3.PutObjectCommand({ ...target, Body: current.subarray(0, filled) }), { abortSignal })
        } else {
          await ship()
          await settled(0)
          const whole = { Bucket, Key, UploadId: await beginning, MpuObjectSize: bytes, MultipartUpload: { Parts: parts } }
          await client.send(new s3.CompleteMultipartUploadCommand(whole), { abortSignal })
        }
        isOver = true
      }),
  }
}
