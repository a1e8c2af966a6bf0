import { PawlError } from '../src/errors.ts'

/**
 * Resolves with the name of the first SIGTERM, SIGINT or SIGHUP. A second one ends the process at once: someone who asks
 * twice means it, and whatever was in work is rescued like after a crash.
 */
export function shutdownSignal(): Promise<NodeJS.Signals> {
  return new Promise(resolve => {
    let asked = false
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      process.on(signal, () => {
        if (asked) process.exit(1)
        asked = true
        resolve(signal)
      })
    }
  })
}

/** Ctrl-C breaks `work` off and lets it clean up behind itself; a second one ends the process at once. */
export async function interruptible<Result>(work: (signal: AbortSignal) => Promise<Result>): Promise<Result> {
  const stop = new AbortController()
  void shutdownSignal().then(signal =>
    stop.abort(new PawlError('interrupted', `broken off by ${signal}`, { retryable: true, hint: 'what was under way has taken itself back' })),
  )
  try {
    return await work(stop.signal)
  } catch (error) {
    // Connections and tools that were cut off say so in words of their own.
    throw stop.signal.aborted ? stop.signal.reason : error
  }
}
