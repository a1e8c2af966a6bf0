import { afterEach, expect, test } from 'vitest'
import type { Clock } from '../../src/clock.ts'
import type { Log } from '../../src/log.ts'
import type { Turning } from '../../src/loop.ts'
import { startWheel, type Turn } from '../../src/wheel.ts'
import { fakeClock } from '../support/engine.ts'
import { handClock } from '../support/clock.ts'
import { until } from '../support/until.ts'

/** The database's clock is this far ahead of our stopwatch: it must never matter. */
const AHEAD_MS = 1_700_000_000_000

let wheel: Turning | undefined

afterEach(() => wheel?.stop())

type Line = { level: string; fields: Record<string, unknown>; message: string }

function recordingLog(): { log: Log; lines: Line[] } {
  const lines: Line[] = []
  const at = (level: string) => (fields: Record<string, unknown>, message: string) => void lines.push({ level, fields, message })
  return { log: { warn: at('warn'), error: at('error') } as unknown as Log, lines }
}

/** A wheel over a database that is AHEAD_MS ahead; `answer` says what each turn finds, in our stopwatch's milliseconds. */
function turnWheel(
  answer: (turn: number) => { more?: boolean; nextAt?: number } | Promise<{ more?: boolean; nextAt?: number }>,
  clock: Clock,
  log = recordingLog(),
) {
  const turns: number[] = []
  wheel = startWheel({
    clock,
    log: log.log,
    backstopMs: 15_000,
    async turn(): Promise<Turn> {
      turns.push(clock.elapsed())
      const found = await answer(turns.length)
      return { more: found.more ?? false, nextAtMs: found.nextAt === undefined ? null : found.nextAt + AHEAD_MS, nowMs: clock.elapsed() + AHEAD_MS }
    },
  })
  return { turns, wheel, lines: log.lines }
}

test('turns at once, then at each due instant, and not before', async () => {
  const { clock, advance, settle } = handClock()
  const { turns } = turnWheel(turn => ({ nextAt: [1_000, 1_500.4, 9_000][turn - 1] ?? 99_000 }), clock)
  await settle()
  expect(turns).toEqual([0])
  await advance(999)
  expect(turns).toEqual([0])
  await advance(1)
  expect(turns).toEqual([0, 1_000])
  await advance(500)
  expect(turns).toEqual([0, 1_000])
  await advance(1)
  expect(turns).toEqual([0, 1_000, 1_501])
})

test('turns by the backstop when nothing is due, or what is due is further away', async () => {
  const { clock, advance, settle } = handClock()
  const { turns } = turnWheel(turn => (turn === 2 ? { nextAt: 1e9 } : {}), clock)
  await settle()
  for (const ms of [14_999, 1, 15_000]) await advance(ms)
  expect(turns).toEqual([0, 15_000, 30_000])
})

test('due times in quick succession are taken by the handful: three milliseconds lie between two turns', async () => {
  const { clock, advance, settle } = handClock()
  const { turns } = turnWheel(() => ({ nextAt: clock.elapsed() + 0.2 }), clock)
  await settle()
  for (let ms = 0; ms < 12; ms += 1) await advance(1)
  expect(turns).toEqual([0, 3, 6, 9, 12])
})

test('a notification of an earlier time wakes it for that time; one of a later time changes nothing', async () => {
  const { clock, advance, settle, sleeping } = handClock()
  const { turns, wheel } = turnWheel(() => ({ nextAt: 10_000 }), clock)
  await settle()
  wheel.notified(String(12_000 + AHEAD_MS))
  await settle()
  expect(sleeping()).toEqual([10_000])
  wheel.notified(String(4_000 + AHEAD_MS))
  await settle()
  expect([turns, sleeping()]).toEqual([[0], [4_000]])
  await advance(3_999)
  expect(turns).toEqual([0])
  await advance(1)
  expect(turns).toEqual([0, 4_000])
})

test.each(['', '0', 'no number', '-5'])('a notification of %j may mean anything: it turns at once', async payload => {
  const { clock, advance, settle } = handClock()
  const { turns, wheel } = turnWheel(() => ({}), clock)
  await settle()
  await advance(100)
  wheel.notified(payload)
  await settle()
  expect(turns).toEqual([0, 100])
  // And once is enough.
  await advance(5_000)
  expect(turns).toEqual([0, 100])
})

test('a notification that comes while it turns is not lost', async () => {
  const { clock, advance, settle } = handClock()
  const open = Promise.withResolvers<void>()
  const { turns, wheel } = turnWheel(async () => {
    await open.promise
    return { nextAt: 8_000 }
  }, clock)
  wheel.notified(String(2_000 + AHEAD_MS))
  open.resolve()
  await settle()
  await advance(1_999)
  expect(turns).toEqual([0])
  await advance(1)
  expect(turns).toEqual([0, 2_000])
})

test('a backlog is worked off without a pause', async () => {
  const { clock, settle } = handClock()
  const { turns } = turnWheel(turn => ({ more: turn < 6 }), clock)
  await settle()
  expect(turns).toEqual([0, 0, 0, 0, 0, 0])
})

test('a turn that takes long keeps nobody waiting: after six milliseconds a second one goes beside it, and never a third', async () => {
  const { clock, advance, settle } = handClock()
  const [first, second] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const { turns } = turnWheel(async turn => {
    await [first, second][turn - 1]?.promise
    return {}
  }, clock)
  await settle()
  await advance(5)
  expect(turns).toEqual([0])
  await advance(1)
  expect(turns).toEqual([0, 6])
  await advance(94)
  expect(turns).toEqual([0, 6])
  second.resolve()
  await settle()
  await advance(6)
  expect(turns).toEqual([0, 6, 106])
  first.resolve()
  await settle()
  await advance(1_000)
  expect(turns).toEqual([0, 6, 106])
})

test('what a turn beside the main one learns of a due time wakes the wheel for it', async () => {
  const { clock, advance, settle } = handClock()
  const first = Promise.withResolvers<void>()
  const { turns } = turnWheel(async turn => {
    if (turn === 1) await first.promise
    return turn === 2 ? { nextAt: 500 } : {}
  }, clock)
  await settle()
  await advance(6)
  first.resolve()
  await settle()
  await advance(493)
  expect(turns).toEqual([0, 6])
  await advance(1)
  expect(turns).toEqual([0, 6, 500])
})

test('after errors it tries again with growing pauses of at most two seconds, says whose fault it was, and starts small again', async () => {
  const clock = fakeClock()
  const { turns, wheel, lines } = turnWheel(turn => {
    if (turn <= 8) throw Object.assign(new Error('away'), { code: '57P01' })
    if (turn === 10) throw new TypeError('a bug of ours')
    return {}
  }, clock)
  await until('it has turned eleven times', () => turns.length >= 11)
  await wheel.stop()
  expect(lines.map(line => line.level)).toEqual([...Array.from({ length: 8 }, () => 'warn'), 'error'])
  expect(lines.every(line => line.message === 'the wheel could not turn')).toBe(true)
  const pauses = lines.map(line => Number(line.fields.wait_ms))
  for (const [place, most] of [50, 100, 200, 400, 800, 1_600, 2_000, 2_000, 50].entries()) {
    expect(pauses[place]).toBeGreaterThanOrEqual(most / 2)
    expect(pauses[place]).toBeLessThanOrEqual(most)
  }
})

test('stop ends its sleep, and is over only when every turn under way has ended, also when one of two has thrown', async () => {
  const sleeping = handClock()
  const idle = turnWheel(() => ({}), sleeping.clock)
  await sleeping.settle()
  await idle.wheel.stop()
  expect([idle.turns, sleeping.sleeping()]).toEqual([[0], []])

  const busy = handClock()
  const open = Promise.withResolvers<void>()
  const { turns, wheel: turning } = turnWheel(async turn => {
    if (turn === 2) throw new Error('the one beside fails')
    await open.promise
    return { more: true }
  }, busy.clock)
  await busy.settle()
  await busy.advance(6)
  await busy.advance(6)
  let stopped = false
  const stopping = turning.stop().then(() => {
    stopped = true
  })
  await busy.advance(60_000)
  expect([turns.length, stopped]).toEqual([3, false])
  open.resolve()
  await stopping
  expect(turns).toHaveLength(3)
})

test('stop is not over while a turn beside the main one is still at work, though the main one has ended', async () => {
  const { clock, advance, settle } = handClock()
  const [first, second] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const { turns, wheel: turning } = turnWheel(async turn => {
    await [first, second][turn - 1]?.promise
    return {}
  }, clock)
  await settle()
  await advance(6)
  expect(turns).toEqual([0, 6])
  first.resolve()
  await settle()
  let stopped = false
  const stopping = turning.stop().then(() => {
    stopped = true
  })
  await advance(60_000)
  expect(stopped).toBe(false)
  second.resolve()
  await stopping
})
