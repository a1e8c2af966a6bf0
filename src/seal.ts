import { readFile } from 'node:fs/promises'
import type { Duplex } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { constants, createGunzip, createGzip, createZstdCompress, createZstdDecompress } from 'node:zlib'
import type * as Age from 'age-encryption'
import type { Compression } from './config.ts'
import { codeOf, messageOf, PawlError } from './errors.ts'

type Bytes = AsyncIterable<Uint8Array>

/** How a file is compressed, and to whom it is encrypted: public keys of age. None: it is not encrypted. */
export type Sealing = { compression: Compression; recipients: readonly string[] }

/** As `zstd` writes them: it stores a checksum of the content unless told otherwise, Node's own default is none. */
const ZSTD = { params: { [constants.ZSTD_c_checksumFlag]: 1 } }
const EXTENSIONS = { zstd: '.zst', gzip: '.gz', none: '' } as const

/** What a sealed file's key ends with: `.zst.age`, so that a person sees which tools open it, in which order. */
export function sealExtension({ compression, recipients }: Sealing): string {
  return EXTENSIONS[compression] + (recipients.length > 0 ? '.age' : '')
}

/** Compresses, then encrypts; `age -d | zstd -d` opens it. Nothing is held but the piece under way. Throws `seal.recipient`. */
export async function seal(plain: Bytes, { compression, recipients }: Sealing): Promise<Bytes> {
  const packed = compression === 'none' ? plain : through(plain, compression === 'zstd' ? createZstdCompress(ZSTD) : createGzip())
  if (recipients.length === 0) return packed
  const age = await loadAge()
  const encrypter = new age.Encrypter()
  for (const recipient of recipients) {
    try {
      encrypter.addRecipient(recipient)
    } catch (error) {
      throw new PawlError('seal.recipient', `${recipient} is no public key of age: ${messageOf(error)}`, {
        hint: 'correct PAWL_BACKUP_RECIPIENTS; age-keygen -y prints the public key of a private one',
        cause: error,
      })
    }
  }
  return encrypter.encrypt(ReadableStream.from(packed))
}

/**
 * What was sealed, by the extensions of `key`. Age has authenticated every piece before it is given out, but that the file ends where it
 * should is known at its end only: who reads must not act on a part. Throws `seal.key` where none of `identities` fits, `seal.damaged`,
 * and whatever `source` throws as it is.
 */
export async function* unseal(source: Bytes, key: string, identities: readonly string[]): Bytes {
  let lost: { error: unknown } | undefined
  const heard = (async function* () {
    try {
      yield* source
    } catch (error) {
      lost = { error }
      throw error
    }
  })()
  const [, unpacker, sealed] = /(\.zst|\.gz)?(\.age)?$/.exec(key) ?? []
  try {
    const packed = sealed === undefined ? heard : await decrypt(heard, key, identities)
    yield* unpacker === undefined ? packed : through(packed, unpacker === '.zst' ? createZstdDecompress() : createGunzip())
  } catch (error) {
    if (lost !== undefined) throw lost.error
    throw error instanceof PawlError ? error : damaged(key, error)
  }
}

async function decrypt(source: Bytes, key: string, identities: readonly string[]): Promise<Bytes> {
  if (identities.length === 0) {
    throw new PawlError('seal.key', `${key} is encrypted, and no private key was given`, {
      hint: 'name the file that holds it: PAWL_BACKUP_IDENTITY, or --identity',
    })
  }
  const age = await loadAge()
  const decrypter = new age.Decrypter()
  for (const identity of identities) {
    try {
      decrypter.addIdentity(identity)
    } catch {
      // Age quotes what it was given, and that is a secret.
      throw new PawlError('seal.key', 'what was given as a private key of age is none', { hint: 'it begins with AGE-SECRET-KEY-1' })
    }
  }
  try {
    return await decrypter.decrypt(ReadableStream.from(source))
  } catch (error) {
    if (!/no identity matched/.test(messageOf(error))) throw error
    throw new PawlError('seal.key', `${key} is encrypted to other keys than the one given`, {
      hint: 'use the private key that belongs to one of the public keys in its manifest',
      cause: error,
    })
  }
}

function damaged(key: string, error: unknown): PawlError {
  return new PawlError('seal.damaged', `${key} is not what was written: ${messageOf(error)}`, {
    hint: 'it was changed or cut short where it is kept; use another backup',
    cause: error,
  })
}

/** What comes out of `transform` when `source` goes in. Ends the source when the reader goes away, and throws what the source threw. */
async function* through(source: Bytes, transform: Duplex): Bytes {
  const pumped = pipeline(source, transform)
  // Told by the reading, below.
  pumped.catch(() => {})
  try {
    yield* transform
    await pumped
  } finally {
    transform.destroy()
    await pumped.catch(() => {})
  }
}

/** A fresh key pair. `beside`: the public keys it will stand with; where those resist quantum computers, so does it, or they would be in vain. */
export async function newIdentity(beside: readonly string[] = []): Promise<{ identity: string; recipient: string }> {
  const age = await loadAge()
  const isHybrid = beside.some(recipient => /^age1(tag)?pq1/.test(recipient))
  const identity = await (isHybrid ? age.generateHybridIdentity() : age.generateX25519Identity())
  return { identity, recipient: await age.identityToRecipient(identity) }
}

/** The private keys in a file of age-keygen. Throws `seal.identity`. */
export async function readIdentities(path: string): Promise<string[]> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    const why = codeOf(error) === 'ENOENT' ? 'there is no such file' : messageOf(error)
    throw new PawlError('seal.identity', `the private key in ${path} can't be read: ${why}`, { hint: 'name the file that age-keygen wrote', cause: error })
  })
  const identities = text.split(/\r?\n/).filter(line => /^AGE-SECRET-KEY-(PQ-)?1\S+\s*$/.test(line))
  if (identities.length > 0) return identities.map(line => line.trim())
  const isLocked = text.includes('age-encryption.org/v1') || text.includes('BEGIN AGE ENCRYPTED FILE')
  throw new PawlError('seal.identity', `there is no private key of age in ${path}`, {
    hint: isLocked ? `it is locked with a passphrase: open it first with age -d ${path}` : 'name the file that age-keygen wrote',
  })
}

/** Only with the first use: an idle worker must not pay for it. */
function loadAge(): Promise<typeof Age> {
  return import('age-encryption').catch((error: unknown) => {
    throw new PawlError('seal.missing', `age-encryption can't be loaded: ${messageOf(error)}`, { hint: 'npm install age-encryption', cause: error })
  })
}
