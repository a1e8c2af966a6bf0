import type { Clock } from '../../src/clock.ts'

/** Time that stands still until `advance`; sleepers wake in their order, at once when their signal says so. */
export function handClock() {
  let elapsed = 0
  const sleepers = new Set<{ at: number; wake: () => void }>()
  const clock: Clock = {
    // A machine's own time of day, which lies: nobody here may ask for it.
    now: () => {
      throw new Error('the time of day was asked')
    },
    elapsed: () => elapsed,
    sleep: (ms, signal) =>
      new Promise(resolve => {
        if (signal?.aborted) return resolve()
        const sleeper = {
          at: elapsed + ms,
          wake: () => {
            sleepers.delete(sleeper)
            resolve()
          },
        }
        sleepers.add(sleeper)
        signal?.addEventListener('abort', sleeper.wake, { once: true })
      }),
  }
  const settle = async () => {
    for (let round = 0; round < 20; round += 1) await new Promise(resolve => setImmediate(resolve))
  }
  return {
    clock,
    settle,
    sleeping: () => [...sleepers].map(sleeper => sleeper.at),
    async advance(ms: number) {
      elapsed += ms
      for (const sleeper of sleepers) if (sleeper.at <= elapsed) sleeper.wake()
      await settle()
    },
  }
}
