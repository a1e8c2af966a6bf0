import type { Ending, RunContext } from './batches.ts'

/** How often a run that is at work on something long asks whether anyone wants it to stop. */
const LOOK_MS = 1_000

/** Watches for a reason to stop while a statement takes its time; resolves with it, or never once `end` was called. */
export function watchForStop(context: RunContext): { stopped: Promise<Ending>; end(): void } {
  const { db, run, clock, drain, turn } = context
  const over = new AbortController()
  const signal = AbortSignal.any([over.signal, drain, turn])
  const watch = async (tell: (ending: Ending) => void) => {
    while (!over.signal.aborted) {
      if (drain.aborted) return tell('drain')
      if (turn.aborted) return tell('turn')
      await clock.sleep(LOOK_MS, signal)
      if (signal.aborted) continue
      // What fails here the run meets as well, and it is told what to do about it.
      const [row] = await db.query<{ stop: 'cancel' | 'pause' | null }>('select pawl.stop_reason($1) as stop', [run.runId]).catch(() => [])
      if (row?.stop != null) return tell(row.stop)
    }
  }
  return { stopped: new Promise(resolve => void watch(resolve)), end: () => over.abort() }
}
