import { expect, test } from 'vitest'
import type { RunContext } from '../../src/batches.ts'
import { type Clock, systemClock } from '../../src/clock.ts'
import { watchForStop } from '../../src/stop.ts'

/** For whom a second passes in ten milliseconds. */
const hasty: Clock = { ...systemClock, sleep: (ms, signal) => systemClock.sleep(ms / 100, signal) }

/** A run in the middle of a long statement, of which an operator wants `wanted`. */
function watch(clock: Clock, wanted: () => Promise<{ stop: string | null }[]> = async () => [{ stop: null }]) {
  const [drain, turn] = [new AbortController(), new AbortController()]
  const context = { run: { runId: 'r1' }, db: { query: wanted }, clock, drain: drain.signal, turn: turn.signal }
  // Nothing else of it is used.
  return { drain, turn, ...watchForStop(context as unknown as RunContext) }
}

test.each(['drain', 'turn'] as const)('%s is told at once, not at the next look', { timeout: 10_000 }, async reason => {
  const watching = watch(systemClock)
  const begun = systemClock.elapsed()
  watching[reason].abort()
  expect(await watching.stopped).toBe(reason)
  expect(systemClock.elapsed() - begun).toBeLessThan(900)
  watching.end()
})

test.each(['cancel', 'pause'])('%s is seen at the next look, also behind one that failed', { timeout: 10_000 }, async stop => {
  const answers = [() => Promise.reject(new Error('away')), async () => [{ stop: null }], async () => [{ stop }]]
  const watching = watch(hasty, () => answers.shift()?.() ?? Promise.reject(new Error('asked again')))
  expect(await watching.stopped).toBe(stop)
  watching.end()
})

test('once it has ended it asks nobody and tells nothing', { timeout: 10_000 }, async () => {
  let asked = 0
  const watching = watch(hasty, async () => {
    asked += 1
    return [{ stop: 'cancel' }]
  })
  watching.end()
  watching.drain.abort()
  expect(await Promise.race([watching.stopped, systemClock.sleep(100).then(() => 'nothing')])).toBe('nothing')
  expect(asked).toBe(0)
})
