import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import type { Sink } from '../document.ts'

/**
 * How hard zlib works. Measured with 300,000 rows of 8 columns: level 2 keeps up with the rows as they are written (about 140,000 a
 * second), level 6 halves that for a file an eighth smaller.
 */
const LEVEL = 2

/**
 * What a part holds ready for the compressor, which works in another thread but is handed its next piece by this one: little enough that
 * this one often comes to rest.
 */
const AHEAD_BYTES = 1 << 18

/** A zip that is being written: small parts whole, large ones as they come, one after another. */
export type Zip = {
  add(path: string, text: string): void
  part(path: string): { write(text: string): Promise<void>; end(): void }
  /** Resolves when the last byte is in the sink. */
  finish(): Promise<void>
}

/** Begins a zip whose bytes go to `sink`. Parts are taken no faster than the sink takes them; what the sink throws, the next call throws. */
export async function openZip(sink: Sink, madeAt: Date): Promise<Zip> {
  const { ZipFile } = await import('yazl')
  const zip = new ZipFile()
  const options = { mtime: madeAt, compressionLevel: LEVEL }
  let failure: unknown
  let open: PassThrough | undefined
  // yazl says NodeJS.ReadableStream and makes a PassThrough.
  const output = zip.outputStream as PassThrough
  const fail = (error: unknown) => {
    failure ??= error
    // Wakes whoever waits for a part to drain, or for the end: neither will come any more.
    for (const stream of [open, output]) stream?.destroy(error instanceof Error ? error : new Error(String(error)))
  }
  zip.on('error', fail)
  output.on('error', () => {})
  const pumped = pump(output, sink).catch(fail)
  return {
    add: (path, text) => zip.addBuffer(Buffer.from(text), path, options),
    part(path) {
      const input = new PassThrough({ highWaterMark: AHEAD_BYTES })
      input.on('error', () => {})
      open = input
      zip.addReadStream(input, path, options)
      return {
        async write(text) {
          if (failure !== undefined) throw failure
          if (text !== '' && !input.write(text)) await once(input, 'drain')
        },
        end: () => void input.end(),
      }
    },
    async finish() {
      if (failure === undefined) zip.end()
      await pumped
      if (failure !== undefined) throw failure
    },
  }
}

async function pump(output: AsyncIterable<Uint8Array>, sink: Sink): Promise<void> {
  for await (const bytes of output) await sink(bytes)
}
