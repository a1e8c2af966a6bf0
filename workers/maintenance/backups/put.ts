import type { CreateOptions } from '../../../src/store/contract.ts'
import type { Store } from '../../../src/store.ts'
import type { BackupContext } from './context.ts'

/** Where a backup's files go. `begun`: keys that there may be something of, to be taken back. */
export type Putting = Pick<BackupContext, 'signal' | 'log'> & { store: Store; begun: string[] }

/** Writes a file as its bytes come; it is seen once all have come. An abort breaks off a request that hangs, too. */
export async function put(
  { store, begun, signal }: Putting,
  key: string,
  bytes: AsyncIterable<Uint8Array>,
  options: CreateOptions,
): Promise<{ key: string; bytes: number; sha256: string }> {
  signal.throwIfAborted()
  begun.push(key)
  const draft = await store.create(key, { ...options, isPrivate: true })
  const letGo = () => void draft.close()
  signal.addEventListener('abort', letGo, { once: true })
  try {
    for await (const piece of bytes) {
      signal.throwIfAborted()
      await draft.write(piece)
    }
    signal.throwIfAborted()
    return { key, ...(await draft.publish()) }
  } finally {
    signal.removeEventListener('abort', letGo)
    await draft.close()
  }
}

/** Removes what was begun, the last first: never is there a manifest without its files. Never throws. */
export async function takeBack({ store, begun, log }: Putting): Promise<void> {
  for (const key of begun.splice(0).reverse()) {
    await store.remove(key).catch((error: unknown) => log.warn({ err: error, file: key }, 'a file of a backup that failed could not be removed yet'))
  }
}
