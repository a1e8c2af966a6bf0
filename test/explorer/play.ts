import { chanceOf } from './chance.ts'
import { type Chooser, type Options, seededChooser } from './chooser.ts'
import { readDiary } from './diary.ts'
import type { Lane } from './lane.ts'
import type { Cast, Scenario } from './scenario.ts'
import { faultsOf, haveBeats, letGo, open, openWorld, strike, threadsOf, type World } from './world.ts'

/** One schedule, played to its end: what went wrong, and the choices that lead there again. */
export type Played = {
  scenario: string
  seed: number
  violations: string[]
  choices: string[]
  trace: string[]
  statements: number
  waits: number
  deadlocks: number
}

const STEPS_MAX = 1_500
/** Rounds of time passing until everything must have ended. */
const ROUNDS_MAX = 12
/** How long everybody may wait for locks before that counts as a fault. */
const PATIENCE_MS = 5_000

/** Plays one schedule: by its seed, or as `chooser` says. The seed also sets what the scenario varies. */
export async function play(lane: Lane, scenario: Scenario, seed: number, chooser: Chooser = seededChooser(seed)): Promise<Played> {
  await scenario.clear(lane.query)
  await lane.query(CLEAR)
  const world = openWorld(lane, chanceOf(seed + 1_000_003))
  const choices: string[] = []
  const { found, scheduler } = world
  try {
    const cast = await scenario.begin(world)
    await explore(world, cast, chooser, choices)
    const isEnded = await passTime(world, cast, chooser, choices)
    if (isEnded) found.push(...(await cast.judge()))
    found.push(...(await readDiary(lane.query)).filter(({ what }) => what === 'fault').map(({ run_id: run, detail }) => `${run}: ${detail}`))
  } catch (error) {
    found.push((error as Error).stack ?? String(error))
  } finally {
    await dismiss(world)
  }
  const { trace } = scheduler
  const count = (pattern: RegExp) => trace.filter(line => pattern.test(line)).length
  const counts = { statements: count(/^ *\d+ {2}/), waits: count(/waits for a lock/), deadlocks: count(/met 40P01/) }
  return { scenario: scenario.name, seed, violations: [...new Set(found)], choices, trace, ...counts }
}

const CLEAR = `
  delete from pgboss.job; delete from pawl.checkpoints; delete from pawl.leases; delete from pawl.paused_queues; delete from explorer.moments`

/** Until nobody asks for anything any more. */
async function explore(world: World, cast: Cast, chooser: Chooser, choices: string[], withFaults = true): Promise<void> {
  const { scheduler } = world
  let changes = -1
  for (;;) {
    await scheduler.settle()
    if (cast.glance !== undefined && scheduler.changes() !== changes) world.found.push(...(await cast.glance()))
    changes = scheduler.changes()
    if (world.found.length > 0 || choices.length > STEPS_MAX) return
    const options: Options = { threads: threadsOf(world), faults: withFaults ? faultsOf(world) : [] }
    if (options.threads.length === 0) {
      if (scheduler.blocked().length === 0) return
      // Whoever is stopped, or sleeps in the middle of a transaction, holds the others up: that must end before time can pass.
      if (world.stopped.size > 0) await letGo(world)
      else if ([...world.actors.values()].some(actor => actor.state === 'paused')) wakeAll(world)
      else if (!(await scheduler.landing(PATIENCE_MS))) {
        world.found.push(`everybody waits for a lock: ${scheduler.blocked().join(', ')}`)
        return
      }
      continue
    }
    const choice = chooser(options)
    choices.push(choice)
    if (options.threads.includes(choice)) open(world, choice)
    else {
      scheduler.trace.push(`      ${choice.toUpperCase()}`)
      await strike(world, choice)
    }
  }
}

/** No faults any more: what is left goes on, the silent are taken for dead, what was put off falls due. True when all has ended. */
async function passTime(world: World, cast: Cast, chooser: Chooser, choices: string[]): Promise<boolean> {
  const { found, scheduler } = world
  for (let round = 0; ; round += 1) {
    if (found.length > 0) return false
    if (choices.length > STEPS_MAX) {
      found.push(`it never ends: ${STEPS_MAX} steps`)
      return false
    }
    const asleep = [...world.actors.values()].filter(actor => actor.state === 'paused')
    if (asleep.length === 0 && world.stopped.size === 0 && (await cast.isEnded())) return true
    if (round === ROUNDS_MAX) {
      found.push(`stuck: ${await cast.stuck()}`)
      return false
    }
    scheduler.trace.push(`      TIME PASSES (${round})`)
    await letGo(world)
    // One round for the others to take over from those who are silent; then these wake up and find out.
    if (round > 0) wakeAll(world)
    scheduler.wakeSleepers()
    await world.query(AGE)
    // pg-boss gives up on a job whose worker is silent later than Pawl does.
    if (round > 1) await world.query(`update pgboss.job set state = 'retry' where state = 'active'`)
    if (round > 6) {
      const lost = await world.query(`select pawl.redeliver_lost('-1 second')`)
      if (lost.length > 0) found.push(`a pending run had lost its job: ${JSON.stringify(lost)}`)
    }
    await cast.timePasses?.(round)
    haveBeats(world)
    await explore(world, cast, chooser, choices, false)
  }
}

const AGE = `
  update pgboss.job set start_after = now() where state < 'active' and start_after > now();
  update pawl.checkpoints set updated_at = updated_at - interval '1 minute' where state = 'running'`

function wakeAll(world: World): void {
  for (const actor of world.actors.values()) {
    if (actor.state !== 'paused') continue
    actor.state = 'alive'
    world.scheduler.trace.push(`      WAKE ${actor.name}`)
  }
}

/** Everybody goes home; who can't is left behind with his connections cut. */
async function dismiss(world: World): Promise<void> {
  const { scheduler, lane } = world
  world.isOver = true
  await lane.letGo()
  for (const actor of world.actors.values()) {
    if (actor.state === 'done' || actor.state === 'dead') continue
    const isIdle = scheduler.isAtRest(actor.name)
    actor.state = 'dead'
    scheduler.kill(actor.name)
    // One that only looked for work keeps its connections for the next schedule.
    if (!isIdle || world.found.length > 0) await lane.bury(actor.name)
  }
}
