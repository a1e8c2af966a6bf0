import { PawlError } from '../../src/errors.ts'
import type { Draft } from '../../src/store.ts'
import type { Sink } from './document.ts'

const SCRATCH_BYTES = 256 * 1024

/**
 * The way from a writer into a draft: text becomes UTF-8, and `report.too_large` is thrown before the first byte over the limit. One buffer
 * for all text, because a draft copies what it takes.
 */
export function boundedSink(draft: Draft, bytesMax: number): Sink {
  const encoder = new TextEncoder()
  const scratch = new Uint8Array(SCRATCH_BYTES)
  const send = async (bytes: Uint8Array) => {
    if (draft.bytes() + bytes.length > bytesMax) {
      throw new PawlError('report.too_large', `the report's file has more than ${bytesMax} bytes`, {
        hint: 'filter or group it, or raise limits.bytes in the configuration of the report or its template',
      })
    }
    await draft.write(bytes)
  }
  return async data => {
    if (typeof data !== 'string') return send(data)
    for (let rest = data; rest !== ''; ) {
      const { read, written } = encoder.encodeInto(rest, scratch)
      await send(scratch.subarray(0, written))
      rest = rest.slice(read)
    }
  }
}
