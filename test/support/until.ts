import { systemClock } from '../../src/clock.ts'

/** Asks until the answer is something other than false, null or undefined, and returns it; the fact is waited for, not a time. */
export async function until<Result>(what: string, ask: () => Promise<Result> | Result, patienceMs = 30_000): Promise<NonNullable<Result>> {
  const deadline = systemClock.elapsed() + patienceMs
  for (;;) {
    const answer = await ask()
    if (answer !== false && answer !== null && answer !== undefined) return answer
    if (systemClock.elapsed() > deadline) throw new Error(`still not so after ${patienceMs / 1000} s: ${what}`)
    await systemClock.sleep(15)
  }
}
