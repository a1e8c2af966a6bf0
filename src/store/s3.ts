import { createHash } from 'node:crypto'
import type { Readable } from 'node:stream'
import type { ListMultipartUploadsCommandOutput, ListObjectsV2CommandOutput, MultipartUpload, StorageClass } from '@aws-sdk/client-s3'
import type { Config } from '../config.ts'
import { messageOf, PawlError } from '../errors.ts'
import { type CreateOptions, checkedKey, type Draft, draftMissing, type Entry, fileMissing, isKey, type Store } from './contract.ts'
import { type Name, type Parts, type Sdk, sendParts } from './parts.ts'
import { s3Trouble } from './trouble.ts'

const CONNECT_TIMEOUT_MS = 10_000
/** Without a byte either way; a network that is there and yet is not must end as an error, or the run would hang. */
const SILENCE_TIMEOUT_MS = 60_000

/** `prefix` is empty or ends with a slash. */
type Bucket = { bucket: string; prefix: string }

/**
 * A bucket of S3, or of something that speaks like it. Endpoint, region and credentials are the SDK's own business
 * (AWS_ENDPOINT_URL_S3, AWS_REGION, AWS_ACCESS_KEY_ID, roles, …). Nobody sees a file before its last request: CompleteMultipartUpload, or
 * the one PutObject of a small file. A draft can't be continued: the parts of an upload are 5 MB at least, a checkpoint may fall anywhere.
 *
 * What a killed worker uploaded stays, unseen and paid for, until `remove`. A lifecycle rule AbortIncompleteMultipartUpload is a good backstop.
 */
export function openS3({ bucket, prefix }: Bucket, config: Config): Store {
  const place = `s3://${bucket}/${prefix}`
  const clearly =
    (what: string): Clearly =>
    async act => {
      try {
        return await act()
      } catch (error) {
        throw s3Trouble(error, bucket, what)
      }
    }
  const named = (key: string) => ({ Bucket: bucket, Key: prefix + checkedKey(key) })
  return {
    async create(key, { continues, ...options }) {
      const target = { ...named(key), ...headersOf(options) }
      if (continues !== undefined) throw draftMissing(checkedKey(continues.key), 'S3 has no drafts that could be')
      return writeTo(sendParts(await sdkOf(config), target), clearly(`writing ${place}${key}`))
    },
    async *read(key) {
      const name = named(key)
      const { s3, client } = await sdkOf(config)
      try {
        const { Body } = await client.send(new s3.GetObjectCommand(name))
        yield* Body as Readable
      } catch (error) {
        throw error instanceof s3.NoSuchKey ? fileMissing(key, place, error) : s3Trouble(error, bucket, `reading ${place}${key}`)
      }
    },
    async remove(key) {
      const name = named(key)
      const sdk = await sdkOf(config)
      await clearly(`removing ${place}${key}`)(async () => {
        // The uploads first: their writer may live and complete one at any moment, so that after it only the file can be there.
        for await (const upload of uploadsOf(sdk, name.Bucket, name.Key)) if (upload.Key === name.Key) await abort(sdk, name, upload)
        await sdk.client.send(new sdk.s3.DeleteObjectCommand(name))
      })
    },
    async *list() {
      const sdk = await sdkOf(config)
      try {
        // The uploads first: one that is completed meanwhile is then seen as both, else as neither.
        yield* draftsIn(sdk, bucket, prefix)
        yield* filesIn(sdk, bucket, prefix)
      } catch (error) {
        throw s3Trouble(error, bucket, `listing ${place}`)
      }
    },
    url: key => `s3://${bucket}/${named(key).Key}`,
  }
}

/**
 * The SHA-256 of the whole is only known at the end, when an upload's metadata is fixed already, and copying the object to change them
 * would be a second upload; so `publish` returns it, to be kept where the file is recorded. On the way each part is guarded twice anyway:
 * its own SHA-256 is in the request's signature, and its CRC-32 is kept by S3.
 */
function writeTo(parts: Parts, clearly: Clearly): Draft {
  const hash = createHash('sha256')
  let bytes = 0
  let published: { bytes: number; sha256: string } | undefined
  return {
    bytes: () => bytes,
    write(chunk) {
      bytes += chunk.length
      hash.update(chunk)
      return clearly(() => parts.write(chunk))
    },
    sync: () => Promise.resolve(),
    async publish() {
      if (published !== undefined) return published
      await clearly(() => parts.finish(bytes))
      published = { bytes, sha256: hash.digest('hex') }
      return published
    },
    close: () => parts.abort(),
  }
}

type Clearly = <Result>(act: () => Promise<Result>) => Promise<Result>

function headersOf({ contentType, metadata, storageClass }: CreateOptions) {
  return {
    ContentType: contentType,
    ...(metadata === undefined ? {} : { Metadata: metadata }),
    // What a store calls its classes is its own business: what it doesn't know it refuses by itself.
    ...(storageClass === undefined ? {} : { StorageClass: storageClass as StorageClass }),
  }
}

/** What lies deeper than the prefix belongs to others, and is not even listed. */
async function* filesIn({ s3, client }: Sdk, Bucket: string, Prefix: string): AsyncIterable<Entry> {
  for (let from: { ContinuationToken?: string } | undefined = {}; from !== undefined; ) {
    const page: ListObjectsV2CommandOutput = await client.send(new s3.ListObjectsV2Command({ Bucket, Prefix, Delimiter: '/', ...from }))
    for (const { Key = '', Size = 0, LastModified } of page.Contents ?? []) {
      const key = Key.slice(Prefix.length)
      if (isKey(key) && LastModified !== undefined) yield { key, bytes: Size, modifiedAt: LastModified, isDraft: false }
    }
    const next = page.IsTruncated === true ? page.NextContinuationToken : undefined
    from = next === undefined || next === '' ? undefined : { ContinuationToken: next }
  }
}

async function* draftsIn(sdk: Sdk, bucket: string, prefix: string): AsyncIterable<Entry> {
  for await (const { Key = '', Initiated } of uploadsOf(sdk, bucket, prefix)) {
    const key = Key.slice(prefix.length)
    if (isKey(key) && Initiated !== undefined) yield { key, bytes: 0, modifiedAt: Initiated, isDraft: true }
  }
}

async function* uploadsOf({ s3, client }: Sdk, Bucket: string, Prefix: string): AsyncIterable<MultipartUpload> {
  // A page ends within the uploads of one key, too: both markers lead on.
  for (let from: Marker | undefined = {}; from !== undefined; ) {
    const page: ListMultipartUploadsCommandOutput = await client.send(new s3.ListMultipartUploadsCommand({ Bucket, Prefix, ...from }))
    yield* page.Uploads ?? []
    from = page.IsTruncated === true ? marker(page.NextKeyMarker, page.NextUploadIdMarker) : undefined
  }
}

type Marker = { KeyMarker?: string; UploadIdMarker?: string }

function marker(key: string | undefined, upload: string | undefined): Marker | undefined {
  if (key === undefined || key === '') return undefined
  return { KeyMarker: key, ...(upload === undefined || upload === '' ? {} : { UploadIdMarker: upload }) }
}

async function abort({ s3, client }: Sdk, name: Name, { UploadId }: MultipartUpload): Promise<void> {
  try {
    await client.send(new s3.AbortMultipartUploadCommand({ ...name, UploadId }))
  } catch (error) {
    // Its writer was quicker: it completed or aborted the upload itself.
    if (!(error instanceof s3.NoSuchUpload)) throw error
  }
}

/** One client, and with it one pool of connections, for all stores of a process: its environment is read once. */
const sdks = new WeakMap<Config, Promise<Sdk>>()

function sdkOf(config: Config): Promise<Sdk> {
  const known = sdks.get(config)
  if (known !== undefined) return known
  const loading = load(config)
  sdks.set(config, loading)
  loading.catch(() => sdks.delete(config))
  return loading
}

/** Only with the first use: an idle worker must not pay for the SDK. */
async function load({ s3PathStyle }: Config): Promise<Sdk> {
  const s3 = await import('@aws-sdk/client-s3').catch((error: unknown) => {
    throw new PawlError('store.s3_missing', `the AWS SDK can't be loaded: ${messageOf(error)}`, { hint: 'npm install @aws-sdk/client-s3', cause: error })
  })
  const settings = {
    forcePathStyle: s3PathStyle,
    requestHandler: { connectionTimeout: CONNECT_TIMEOUT_MS, socketTimeout: SILENCE_TIMEOUT_MS },
  }
  const client = new s3.S3Client(settings)
  const isPlaced = await client.config.region().then(
    () => true,
    () => false,
  )
  // MinIO and its kin have no regions, and still the SDK wants one for its signature.
  return { s3, client: isPlaced ? client : new s3.S3Client({ ...settings, region: 'us-east-1' }) }
}
