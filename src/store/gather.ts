/** Writes large enough that a system call for each costs nothing. */
export const BLOCK_BYTES = 256 * 1024

/** Collects small writes into blocks. */
export type Gathering = {
  write(bytes: Uint8Array): Promise<void>
  /** Puts what is left of a block. */
  flush(): Promise<void>
}

/** Makes few large writes of many small ones: rows come by the hundred bytes. `put` must be done with its block when it resolves. */
export function gather(put: (block: Uint8Array) => Promise<void>): Gathering {
  const block = Buffer.allocUnsafeSlow(BLOCK_BYTES)
  let filled = 0
  const flush = async () => {
    const full = block.subarray(0, filled)
    filled = 0
    if (full.length > 0) await put(full)
  }
  return {
    flush,
    async write(bytes) {
      for (let rest = bytes; rest.length > 0; ) {
        // Large as it is already: no need to copy it.
        if (filled === 0 && rest.length >= BLOCK_BYTES) return put(rest)
        const piece = rest.subarray(0, BLOCK_BYTES - filled)
        block.set(piece, filled)
        filled += piece.length
        rest = rest.subarray(piece.length)
        if (filled === BLOCK_BYTES) await flush()
      }
    },
  }
}
