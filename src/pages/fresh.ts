import type { Clock } from '../clock.ts'
import { PawlError } from '../errors.ts'

/**
 * Reads anew when what was read last is older than `freshMs`; whoever asks meanwhile gets the same. So fifty open tabs cost as much as one,
 * and a database that is down is asked once in that time too. Nobody waits longer than `patienceMs`, and no second read begins beside one that hangs.
 */
export function keptFresh<Result>(read: () => Promise<Result>, { freshMs, patienceMs, clock }: { freshMs: number; patienceMs: number; clock: Clock }) {
  let last: { result: Promise<Result>; at: number } | undefined
  let reading = false
  return async (): Promise<Result> => {
    if (!reading && (last === undefined || clock.elapsed() - last.at >= freshMs)) {
      reading = true
      const current = { result: read(), at: clock.elapsed() }
      last = current
      const settled = () => {
        reading = false
        current.at = clock.elapsed()
      }
      current.result.then(settled, settled)
    }
    const answered = new AbortController()
    try {
      return await Promise.race([last?.result as Promise<Result>, slow(patienceMs, clock, answered.signal)])
    } finally {
      answered.abort()
    }
  }
}

async function slow(ms: number, clock: Clock, signal: AbortSignal): Promise<never> {
  await clock.sleep(ms, signal)
  throw new PawlError('pages.slow', `the database has not answered for ${ms} ms`, { retryable: true })
}
