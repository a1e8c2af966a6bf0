/** Time as a parameter: the only reader of the machine's clock, so that a test can hand in another. */
export type Clock = {
  /** Milliseconds since the epoch, for stamps that people read. */
  now(): number
  /** Milliseconds that only ever grow, for durations: a stepped wall clock does not bend them. */
  elapsed(): number
  /** Resolves after `ms`, or at once when `signal` aborts. Never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

export const systemClock: Clock = {
  now: () => Date.now(),
  elapsed: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise(resolve => {
      if (signal?.aborted) return resolve()
      const done = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      signal?.addEventListener('abort', done, { once: true })
    }),
}
