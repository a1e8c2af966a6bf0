import type { Clock } from '../../../../src/clock.ts'
import { PawlError } from '../../../../src/errors.ts'
import { type Fault, requestError } from './errors.ts'

/** One GET that may be large, with headers made anew for each try: a token lives an hour, a result may take longer to read. */
export type Download = {
  what: string
  url: string
  headers: () => Promise<Headers>
  clock: Clock
  /** Before the second try; each further one waits twice as long. */
  pauseMs: number
}

const TRIES = 4
/** For a page of at most 20 MB. */
const TIMEOUT_MS = 60_000

/**
 * Gets a page of rows past the client's own request function, which copies each answer twice, value by value: of a million
 * rows, that was a third of the time. What it does besides is done here: try again what may go better.
 */
export async function download<Answer>(given: Download, signal: AbortSignal): Promise<Answer> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await downloadOnce<Answer>(given, signal)
    } catch (error) {
      const again = error instanceof PawlError && error.retryable && tries < TRIES && !signal.aborted
      if (!again) throw error
      await given.clock.sleep(given.pauseMs * 2 ** (tries - 1), signal)
    }
  }
}

async function downloadOnce<Answer>({ what, url, headers }: Download, signal: AbortSignal): Promise<Answer> {
  const { response, text } = await received(url, headers, signal).catch((error: unknown) => {
    throw requestError(error, what)
  })
  if (response.ok) return JSON.parse(text) as Answer
  throw requestError({ message: response.statusText, ...refusalIn(text), code: response.status }, what)
}

async function received(url: string, headers: Download['headers'], signal: AbortSignal): Promise<{ response: Response; text: string }> {
  const response = await fetch(url, { headers: await headers(), signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]) })
  return { response, text: await response.text() }
}

/** What BigQuery says it refused; a proxy on the way may have answered in HTML. */
function refusalIn(text: string): { errors?: Fault[]; message?: string } {
  try {
    return (JSON.parse(text) as { error?: { errors?: Fault[]; message?: string } }).error ?? {}
  } catch {
    return {}
  }
}
