import { expect, test } from 'vitest'
import { table } from '../../bin/table.ts'
import { until } from '../support/until.ts'
import { finishedOf, loadFaults } from './rolling-load.ts'
import { openRolling, type Rolling } from './rolling-stage.ts'
import { timerFaults } from './timer-stage.ts'

const UPDATES = Number(process.env.PAWL_TEST_ROUNDS ?? 20)
/** The update whose new version can't start, and the one that is taken back half-way. */
const [BAD, UNDONE] = [Math.ceil(UPDATES / 3), Math.ceil((UPDATES * 2) / 3)]

test(`${UPDATES} rolling updates under load, each with a schema of its own: no run fails, none spends an attempt, nothing is done twice`, {
  timeout: 3_600_000,
}, async () => {
  const rolling = await openRolling(UPDATES)
  for (let version = 1; version <= UPDATES; version += 1) {
    if (version === BAD) await badVersion(rolling, version)
    if (version === UNDONE) await takenBack(rolling, version)
    await rolling.update(version)
  }
  await rolling.load.stop()
  const finished = await finishedOf(rolling.query)
  report(rolling, finished)
  // Together: a run that was tried again says only in a worker's log why.
  expect([...(await loadFaults(rolling.query)), ...(await timerFaults(rolling.query)), ...errorsOf(rolling)]).toEqual([])
  // Or it would show nothing: there was work of every kind, and deploys met it half-way.
  for (const kind of ['override', 'refresh', 'report', 'timer', 'health check']) expect([kind, (finished[kind] ?? 0) >= UPDATES]).toEqual([kind, true])
  expect(handedOver(rolling)).toBeGreaterThanOrEqual(UPDATES)
})

test('with SIGKILL in the place of SIGTERM the same update does spend attempts: the test above can fail', async () => {
  const rolling = await openRolling(1, 'SIGKILL')
  await until('a long operation is under way', async () => ((await finishedOf(rolling.query)).override ?? 0) > 3)
  await rolling.update(1)
  await rolling.load.stop()
  expect((await loadFaults(rolling.query)).join()).toMatch(/spent 0 failures and [12] crashes/)
})

/** The schema is there, the workers of that version end at once: nobody of the old ones is let go, and the work goes on. */
async function badVersion(rolling: Rolling, version: number): Promise<void> {
  await rolling.migrate(version)
  await expect(rolling.start(version, { PAWL_LEASE_SECONDS: 'ten' })).rejects.toThrow('ended with 2 before it was ready')
  const { override = 0 } = await finishedOf(rolling.query)
  await until('old workers work on the newer schema', async () => ((await finishedOf(rolling.query)).override ?? 0) >= override + 10)
}

/** One of three is new, then the deploy is undone: a worker of the former version starts on the newer schema. */
async function takenBack(rolling: Rolling, version: number): Promise<void> {
  await rolling.migrate(version)
  await rolling.replace(version, 1)
  await rolling.replace(version - 1, 3)
  await rolling.replace(version - 1, 1)
}

/** Lines that would wake someone. */
function errorsOf({ workers }: Rolling): string[] {
  return workers.flatMap(({ name, log }) =>
    log.filter(({ level }) => !['info', 'warn', 'debug'].includes(level)).map(line => `${name}: ${JSON.stringify(line)}`),
  )
}

function handedOver({ workers }: Rolling): number {
  return workers.flatMap(({ log }) => log).filter(line => line.msg === 'run let go' && line.outcome === 'drain').length
}

function report(rolling: Rolling, finished: Record<string, number>): void {
  const { updates, workers } = rolling
  const drains = updates.flatMap(update => update.drain_ms).sort((one, other) => one - other)
  const rows = updates.map(({ drain_ms, ...update }) => {
    const [, middle, longest] = [...drain_ms].sort((one, other) => one - other)
    return { ...update, drain_p50_ms: middle, drain_max_ms: longest }
  })
  console.info(table(rows))
  const warnings = Map.groupBy(
    workers.flatMap(({ log }) => log).filter(({ level }) => level === 'warn'),
    ({ msg }) => msg,
  )
  console.info(
    JSON.stringify({
      updates: updates.length,
      workers: workers.length,
      finished,
      handed_over: handedOver(rolling),
      drain_p50_ms: drains[Math.floor(drains.length / 2)],
      drain_max_ms: drains.at(-1),
      warnings: Object.fromEntries([...warnings].map(([msg, lines]) => [msg, lines.length])),
    }),
  )
}
