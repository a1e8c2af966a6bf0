import { expect, test } from 'vitest'
import { inBatches, patiently, type RunContext, type Step } from '../../src/batches.ts'
import { readConfig } from '../../src/config.ts'
import type { Database } from '../../src/database.ts'
import { CheckpointLost, classify, PawlError } from '../../src/errors.ts'
import { fakeClock } from '../support/engine.ts'
import { silent } from '../support/postgres.ts'

/** A run on a database that knows only which lanes are open; `steps` are what was told of committed batches. */
function openRun(lanes: number[]) {
  const [drain, turn, clock] = [new AbortController(), new AbortController(), fakeClock()]
  const open = new Set(lanes)
  const steps: (Step & { milliseconds: number })[] = []
  const asked: string[] = []
  let failing: Error[] = []
  const query = async (text: string) => {
    asked.push(text)
    const error = failing.shift()
    if (error !== undefined) throw error
    return [...open].map(lane => ({ lane })) as never[]
  }
  const context: RunContext = {
    config: readConfig({}),
    run: { runId: 'r1', kind: 'trial', subject: 'a trial', epoch: 1 },
    // Nothing else of it is used.
    db: { query } as unknown as Database,
    log: silent,
    clock,
    drain: drain.signal,
    turn: turn.signal,
    committed: (step, milliseconds) => void steps.push({ ...step, milliseconds }),
  }
  const fail = (...errors: Error[]) => void (failing = errors)
  return { context, drain, turn, clock, open, steps, asked, fail }
}

const coded = (code: string) => Object.assign(new Error(`as ${code}`), { code })
const more: Step = { batches: 1, rows: 10, finished: false, stop: null }
const last: Step = { batches: 1, rows: 5, finished: true, stop: null }

test('every lane is walked to its end, and each batch is told with its time', async () => {
  const run = openRun([0, 1])
  const left = [3, 2]
  const ending = await inBatches(run.context, async lane => {
    await run.clock.sleep(lane + 1)
    left[lane] = (left[lane] ?? 0) - 1
    return left[lane] > 0 ? more : last
  })
  expect(ending).toBe('finished')
  expect(left).toEqual([0, 0])
  expect(run.steps.map(step => step.rows).sort()).toEqual([10, 10, 10, 5, 5])
  expect(run.steps.every(step => step.milliseconds > 0)).toBe(true)
})

test('lanes are walked side by side: the second begins before the first has ended', async () => {
  const begun: number[] = []
  let meet: () => void = () => {}
  const met = new Promise<void>(resolve => (meet = resolve))
  await inBatches(openRun([0, 1, 2]).context, async lane => {
    if (begun.push(lane) === 3) meet()
    await met
    return last
  })
  expect(begun.sort()).toEqual([0, 1, 2])
})

test('a run without open lanes is finished, and no batch is asked for', async () => {
  const batch = async () => Promise.reject(new Error('asked'))
  expect(await inBatches(openRun([]).context, batch)).toBe('finished')
})

for (const code of ['57P01', 'ECONNREFUSED', '08006', '53300']) {
  test(`${code} is waited out with growing waits, however often it comes, and the batch is called again`, async () => {
    const run = openRun([0])
    let tries = 0
    const ending = await inBatches(run.context, async () => {
      tries += 1
      if (tries <= 200) throw coded(code)
      return last
    })
    expect([ending, tries, run.steps.length]).toEqual(['finished', 201, 1])
    expect(run.clock.sleeps).toHaveLength(200)
    expect(run.clock.sleeps[0]).toBeLessThanOrEqual(50)
    expect(Math.min(...run.clock.sleeps.slice(10))).toBeGreaterThanOrEqual(1_000)
    expect(Math.max(...run.clock.sleeps)).toBeLessThanOrEqual(2_000)
  })
}

const conflicts: Record<string, Error> = {
  'a serialization failure': coded('40001'),
  'a deadlock': coded('40P01'),
  'a deadlock that drizzle wraps': new Error('Failed query', { cause: coded('40P01') }),
  'a retryable error of ours': new PawlError('override.rows_vanished', 'rows vanished', { retryable: true }),
}

for (const [what, error] of Object.entries(conflicts)) {
  test(`${what} is tried ten times with short waits, and is then an error of the work`, async () => {
    const run = openRun([0])
    let tries = 0
    const failing = inBatches(run.context, async () => {
      if ((tries += 1) > 100) return last
      throw error
    })
    await expect(failing).rejects.toSatisfy(thrown => classify(thrown) === 'bug' && String(thrown).includes(error.message))
    expect(tries).toBe(10)
    expect(run.clock.sleeps).toHaveLength(9)
    expect(Math.max(...run.clock.sleeps)).toBeLessThanOrEqual(500)
  })
}

test('the count of conflicts is that of one batch: a batch that commits begins it anew', async () => {
  const run = openRun([0])
  let [tries, batches] = [0, 0]
  const ending = await inBatches(run.context, async () => {
    tries += 1
    if (tries % 10 !== 0) throw coded('40P01')
    batches += 1
    return batches === 3 ? last : more
  })
  expect([ending, tries, batches]).toEqual(['finished', 30, 3])
})

test('a deadlock after a long outage is the first of its row, not the last', async () => {
  const run = openRun([0])
  let tries = 0
  const ending = await inBatches(run.context, async () => {
    tries += 1
    if (tries <= 50) throw coded('ECONNREFUSED')
    if (tries === 51) throw coded('40P01')
    return last
  })
  expect([ending, tries]).toEqual(['finished', 52])
  expect(run.clock.sleeps.at(-1)).toBeLessThanOrEqual(10)
})

const verdicts: Record<string, Error> = {
  refused: coded('23505'),
  bug: new TypeError('x is not a function'),
  'lost by the fence': coded('PW001'),
  'lost by ours': new CheckpointLost('r1'),
  'refused by ours': new PawlError('a.b', 'no'),
}

for (const [verdict, error] of Object.entries(verdicts)) {
  test(`an error that is ${verdict} is thrown at once and as it is, without a second try`, async () => {
    const run = openRun([0])
    let tries = 0
    const failing = inBatches(run.context, async () => {
      tries += 1
      throw error
    })
    await expect(failing).rejects.toBe(error)
    expect([tries, run.clock.sleeps, run.steps]).toEqual([1, [], []])
  })
}

for (const [signal, ending] of [
  ['drain', 'drain'],
  ['turn', 'turn'],
] as const) {
  test(`${signal} stops at the next batch edge, never inside a batch`, async () => {
    const run = openRun([0])
    let batches = 0
    const how = await inBatches(run.context, async () => {
      batches += 1
      if (batches === 3) run[signal].abort()
      return more
    })
    expect([how, batches, run.steps.length]).toEqual([ending, 3, 3])
    expect(await inBatches(run.context, () => Promise.reject(new Error('asked'))), 'asked before the first batch').toBe(ending)
  })

  test(`${signal} in the last batch of all lanes changes nothing: the run is finished`, async () => {
    const run = openRun([0, 1])
    const walked = await inBatches(run.context, async lane => {
      run.open.delete(lane)
      if (lane === 1) run[signal].abort()
      else await run.clock.sleep(1)
      return last
    })
    expect(walked).toBe('finished')
  })
}

test('drain ends the waiting for a database that is away: the passing error is thrown', async () => {
  const run = openRun([0])
  let tries = 0
  const failing = inBatches(run.context, async () => {
    tries += 1
    if (tries === 5) run.drain.abort()
    throw coded('ECONNREFUSED')
  })
  await expect(failing).rejects.toMatchObject({ code: 'ECONNREFUSED' })
  expect(tries).toBe(5)
})

test('looking for the open lanes waits for the database as well', async () => {
  const run = openRun([0])
  run.fail(coded('57P03'), coded('ECONNRESET'))
  expect(await inBatches(run.context, async () => last)).toBe('finished')
  expect(run.asked).toHaveLength(3)
})

for (const stop of ['cancel', 'pause', 'gone'] as const) {
  test(`${stop} seen by a batch ends the run after it, on every lane`, async () => {
    const run = openRun([0, 1])
    let batches = 0
    const ending = await inBatches(run.context, async () => {
      batches += 1
      await run.clock.sleep(1)
      return { ...more, stop }
    })
    expect([ending, batches]).toEqual([stop, 2])
  })
}

test('cancel and pause seen by the very last batch change nothing, but what is gone stays gone', async () => {
  const endings = await Promise.all((['cancel', 'pause', 'gone'] as const).map(stop => inBatches(openRun([0]).context, async () => ({ ...last, stop }))))
  expect(endings).toEqual(['finished', 'finished', 'gone'])
})

test('the first lane that fails stops the others at their next batch edge, and only then is its error thrown', async () => {
  const run = openRun([0, 1])
  const error = coded('23505')
  let [release, ended, walked]: [() => void, boolean, number] = [() => {}, false, 0]
  const held = new Promise<void>(resolve => (release = resolve))
  const failing = inBatches(run.context, async lane => {
    if (lane === 0) throw error
    walked += 1
    if (walked === 1) await held
    // It has an end, so that a loop that goes on fails the test and not the process.
    return walked < 5 ? more : last
  }).finally(() => (ended = true))
  failing.catch(() => {})
  await run.clock.sleep(1)
  expect(ended, 'the other lane is in the middle of its batch').toBe(false)
  release()
  await expect(failing).rejects.toBe(error)
  expect([walked, run.steps.length]).toEqual([1, 1])
})

test('patiently returns what the work returns, and tries again only what may pass', async () => {
  const { context, clock } = openRun([])
  const errors = [coded('57P01'), coded('40001'), new Error('Connection terminated unexpectedly')]
  expect(await patiently(context, async () => (errors.shift() === undefined ? 'done' : Promise.reject(coded('57P01'))))).toBe('done')
  expect(clock.sleeps).toHaveLength(3)
})
