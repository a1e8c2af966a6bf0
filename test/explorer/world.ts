import type { Clock } from '../../src/clock.ts'
import type { Database, Query } from '../../src/database.ts'
import type { Chance } from './chance.ts'
import type { Place } from './diary.ts'
import type { Lane } from './lane.ts'
import { openScheduler, type Scheduler } from './scheduler.ts'
import { throughSeam, virtualClock } from './seam.ts'

/** Somebody with connections of his own who does one thing after another: a worker, an operator, a producer, the host. */
export type Actor = {
  name: string
  state: 'alive' | 'paused' | 'dead' | 'done'
  db: Database
  clock: Clock
  /** Undefined for whoever is no worker: it can't be taken for dead. */
  worker: WorkerPart | undefined
}

/** What makes a worker of an actor. */
export type WorkerPart = {
  lease: number | undefined
  held: Set<string>
  drain: AbortController
  queues: readonly string[]
  /** One heartbeat more, unless one is under way. */
  beat(): void
}

/** How often each fault may strike in one schedule. */
export type Faults = Partial<Record<'crash' | 'hang' | 'cut' | 'drain' | 'lose' | 'stop', number>>

export type World = {
  lane: Lane
  scheduler: Scheduler
  chance: Chance
  actors: Map<string, Actor>
  /** Beside the play. */
  query: Query
  /** Lets an actor loose; what it throws in the end is a fault of the schedule. */
  spawn(name: string, act: (actor: Actor) => Promise<void>, worker?: WorkerPart): Actor
  faults: Faults
  /** Where statements may be stopped in their middle, in this scenario. */
  stops: readonly Place[]
  stopped: Set<string>
  /** What went wrong while it was played. */
  found: string[]
  /** Somebody pauses queues here. */
  mayPause: boolean
  /** No more work: idle ones go home. */
  isOver: boolean
}

/** The stage of one schedule. */
export function openWorld(lane: Lane, chance: Chance): World {
  const scheduler = openScheduler(lane.waiting)
  const world: World = {
    lane,
    scheduler,
    chance,
    actors: new Map(),
    query: lane.query,
    faults: {},
    stops: [],
    stopped: new Set(),
    found: [],
    mayPause: false,
    isOver: false,
    spawn(name, act, worker) {
      const actor: Actor = {
        name,
        state: 'alive',
        db: throughSeam(lane.database(name), scheduler, name),
        clock: virtualClock(scheduler, name),
        worker,
      }
      world.actors.set(name, actor)
      act(actor)
        .catch((error: unknown) => {
          if (actor.state !== 'dead') world.found.push(`${name} broke off: ${(error as Error).stack ?? String(error)}`)
        })
        .finally(() => {
          if (actor.state !== 'dead') actor.state = 'done'
        })
      return actor
    },
  }
  return world
}

/** Threads that may go on now: `w1` for an actor's oldest statement, `w1/1` for the next one beside it. */
export function threadsOf(world: World): string[] {
  const counts = new Map<string, number>()
  const threads: string[] = []
  for (const gate of world.scheduler.gates()) {
    const place = counts.get(gate.actor) ?? 0
    counts.set(gate.actor, place + 1)
    if (world.actors.get(gate.actor)?.state === 'paused') continue
    threads.push(place === 0 ? gate.actor : `${gate.actor}/${place}`)
  }
  return threads.sort()
}

/** Faults that may strike now. */
export function faultsOf(world: World): string[] {
  const { faults, stops, stopped } = world
  const left = (kind: keyof Faults) => (faults[kind] ?? 0) > 0
  const named: string[] = []
  const threads = threadsOf(world)
  const isLosable = (name: string) => world.scheduler.gates().find(({ actor }) => actor === name)?.isLosable === true
  for (const actor of world.actors.values()) {
    const { name } = actor
    if (actor.state === 'paused') named.push(`wake ${name}`)
    if (actor.state !== 'alive') continue
    if (left('crash')) named.push(`crash ${name}`)
    if (left('cut')) named.push(`cut ${name}`)
    if (left('hang') && actor.worker !== undefined) named.push(`hang ${name}`)
    if (left('drain') && actor.worker?.drain.signal.aborted === false) named.push(`drain ${name}`)
    if (left('lose') && threads.includes(name) && isLosable(name)) named.push(`lost ${name}`, `unsent ${name}`)
    if (left('stop') && name.startsWith('w')) for (const place of stops) if (!stopped.has(`${place} ${name}`)) named.push(`stop ${name} at ${place}`)
  }
  if (stopped.size > 0) named.push('go on')
  return named
}

/** Lets it strike. */
export async function strike(world: World, fault: string): Promise<void> {
  const [kind = '', name = '', , place] = fault.split(' ')
  const { lane, faults, scheduler } = world
  const spend = (what: keyof Faults) => {
    faults[what] = (faults[what] ?? 1) - 1
  }
  const actor = world.actors.get(name)
  if (kind === 'go') return letGo(world)
  if (actor === undefined) throw new Error(`there is no ${name} for ${fault}`)
  switch (kind) {
    case 'crash':
      spend('crash')
      actor.state = 'dead'
      scheduler.kill(name)
      await lane.bury(name)
      // What it held it has lost at once; that it is silent shows a second later.
      await lane.query(`update pawl.leases set seen_at = now() - interval '2 seconds' where name = $1 and state in ('running', 'draining')`, [name])
      return haveBeats(world)
    case 'hang':
      spend('hang')
      actor.state = 'paused'
      // A statement of its own that was stopped in its middle may hold the row; then it was heard of just now.
      await lane.query(
        `update pawl.leases set seen_at = now() - interval '1 hour'
         where id in (select id from pawl.leases where name = $1 and state in ('running', 'draining') for update skip locked)`,
        [name],
      )
      return haveBeats(world)
    case 'wake':
      actor.state = 'alive'
      return
    case 'cut':
      spend('cut')
      return lane.terminate([name])
    case 'drain':
      spend('drain')
      actor.worker?.drain.abort()
      return
    case 'lost':
    case 'unsent':
      spend('lose')
      return open(world, name, kind)
    case 'stop':
      spend('stop')
      if (await lane.stop(place as Place, name)) world.stopped.add(`${place} ${name}`)
  }
}

/** Lets the statement that a thread stands for go. */
export function open(world: World, thread: string, how: 'run' | 'lost' | 'unsent' = 'run'): void {
  const [name = '', place = '0'] = thread.split('/')
  const gate = world.scheduler.gates().filter(({ actor }) => actor === name)[Number(place)]
  if (gate === undefined) throw new Error(`${thread} does not wait for leave`)
  world.scheduler.trace.push(`${String(world.scheduler.trace.length).padStart(4)}  ${thread}${how === 'run' ? '' : ` (${how})`}: ${gate.label}`)
  gate.open(how)
}

/** Ends all stops. */
export async function letGo(world: World): Promise<void> {
  world.stopped.clear()
  await world.lane.letGo()
}

/** Living workers look around again. */
export function haveBeats(world: World): void {
  for (const { worker, state } of world.actors.values()) if (state === 'alive') worker?.beat()
}
