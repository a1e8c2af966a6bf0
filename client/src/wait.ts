import { setTimeout as sleep } from 'node:timers/promises'
import { isPassing, PawlRequestError } from './errors.ts'
import type { Queryable } from './queryable.ts'
import { type EndedRun, hasEnded, readRun, type Run } from './run.ts'

/** The wait is over, the run is not: it goes on. Wait again, or ask `why`. */
export class PawlTimeout extends Error {
  readonly runId: string
  /** The run as it was last seen; undefined when the database gave no answer at all. */
  readonly run: Run | undefined

  constructor(runId: string, timeoutMs: number, run: Run | undefined, cause?: unknown) {
    super(`run ${runId} has not ended within ${timeoutMs} ms: ${stateOf(run)}`, cause === undefined ? undefined : { cause })
    this.name = 'PawlTimeout'
    this.runId = runId
    this.run = run
  }
}

function stateOf(run: Run | undefined): string {
  if (run === undefined) return 'the database has not answered'
  return run.state === 'running' ? `it is running, ${run.done} of ${run.total ?? '?'} rows done` : `it is ${run.state}`
}

/** Every wait has an end: a time, a signal, or both. */
export type WaitOptions = { timeoutMs: number; signal?: AbortSignal | undefined } | { timeoutMs?: undefined; signal: AbortSignal }

const FIRST_PAUSE_MS = 50
const LONGEST_PAUSE_MS = 1_000
/** A restart or a fail-over takes seconds; a connection that is still gone after this long stays gone. */
const PATIENCE_MS = 60_000
/** What a timer of JavaScript can hold. */
const LONGEST_WAIT_MS = 2_147_483_647

/** Looks at the run, more and more seldom, until it has ended. Each look is a statement of its own, so that poolers don't mind. */
export async function waitFor(queryable: Queryable, runId: string, options: WaitOptions): Promise<EndedRun> {
  const { timeoutMs, signal } = checked(options)
  const timeUp = new Error('the time is up')
  const ending = new AbortController()
  const over = ending.signal
  const stop = () => ending.abort(signal?.reason)
  if (signal?.aborted) stop()
  signal?.addEventListener('abort', stop, { once: true })
  // Not AbortSignal.timeout: its timer would let the process end while a wait is all it does.
  const timer = timeoutMs === undefined ? undefined : setTimeout(() => ending.abort(timeUp), timeoutMs)
  let lastSeen: Run | undefined
  let trouble: { error: unknown; since: number } | undefined
  try {
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(LONGEST_PAUSE_MS, pause * 1.5)) {
      try {
        lastSeen = await unless(over, look(queryable, runId))
        trouble = undefined
        if (hasEnded(lastSeen)) return lastSeen
      } catch (error) {
        if (over.aborted) throw error
        trouble ??= { error, since: performance.now() }
        if (!isPassing(error) || performance.now() - trouble.since > PATIENCE_MS) throw error
      }
      await sleep(pause, undefined, { signal: over })
    }
  } catch (error) {
    if (!over.aborted) throw error
    throw over.reason === timeUp ? new PawlTimeout(runId, timeoutMs ?? 0, lastSeen, trouble?.error) : over.reason
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', stop)
  }
}

async function look(queryable: Queryable, runId: string): Promise<Run> {
  const found = await readRun(queryable, runId)
  if (found === undefined) {
    throw new PawlRequestError('22023', `run "${runId}" does not exist`, {
      hint: 'wait after the transaction that requested it has committed, and read where it was written, not on a replica',
    })
  }
  // No worker sees the run before the commit, and this wait would keep the commit from coming.
  if (found.inTransaction && !hasEnded(found.run)) {
    throw new PawlRequestError('25001', 'wait was called inside a transaction', { hint: 'commit first, then wait on the pool' })
  }
  return found.run
}

function checked(options: WaitOptions): { timeoutMs: number | undefined; signal: AbortSignal | undefined } {
  const { timeoutMs, signal } = options ?? {}
  if (timeoutMs === undefined && signal === undefined) {
    throw new PawlRequestError('22023', 'the wait has no end', { hint: 'pass timeoutMs, signal or both' })
  }
  if (timeoutMs !== undefined && !(timeoutMs >= 1 && timeoutMs <= LONGEST_WAIT_MS)) {
    throw new PawlRequestError('22023', `timeoutMs must be from 1 to ${LONGEST_WAIT_MS}, not ${timeoutMs}`, { hint: 'for longer waits pass a signal' })
  }
  return { timeoutMs: timeoutMs === undefined ? undefined : Math.ceil(timeoutMs), signal }
}

/** What the promise gives, or the signal's reason when that comes first: a server that hangs must not hold the caller. */
async function unless<Result>(signal: AbortSignal, promise: Promise<Result>): Promise<Result> {
  let stop = () => {}
  const stopped = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason)
    if (signal.aborted) stop()
    else signal.addEventListener('abort', stop, { once: true })
  })
  try {
    return await Promise.race([promise, stopped])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
