import { systemClock } from '../../src/clock.ts'
import { codeOf, messageOf } from '../../src/errors.ts'

/** How a statement may go: as asked; executed, its answer lost with the connection; lost before it was sent. */
export type How = 'run' | 'lost' | 'unsent'

/** A statement that waits for leave. */
export type Gate = {
  actor: string
  label: string
  /** Only with news: whoever looks for work and found none. */
  idleSince: number | undefined
  /** It asks a server for something, and that or the answer can get lost. */
  isLosable: boolean
  open(how: How): void
}

type Leave = { isLosable?: boolean; idleSince?: number | undefined; signal?: AbortSignal | undefined }

/** A statement that was let go and has not answered. */
type Flight = { actor: string; label: string; isKnownToWait: boolean }

export type Scheduler = {
  /** Waits for leave, runs, and tells the trace how it went. Of an actor that is dead it never returns. */
  pass<Result>(actor: string, label: string, run: () => Promise<Result>): Promise<Result>
  /** The same for what can't get lost on a way: the end of one's own connections, a new one. */
  act<Result>(actor: string, label: string, run: () => Promise<Result>): Promise<Result>
  /** Leave alone: for a commit, whose statement somebody else sends. */
  leave(actor: string, label: string): Promise<How>
  /** From leave to answer, where both are not one call. */
  depart(actor: string, label: string): { land(error?: unknown): void }
  /** Time asked for; `signal` ends it early. */
  sleep(actor: string, milliseconds: number, signal: AbortSignal | undefined): Promise<void>
  /** Wakes those who have slept often or long. */
  wakeSleepers(): void
  /** Until something has happened that may have brought work. */
  idle(actor: string, since: number, signal: AbortSignal): Promise<void>
  news(): number
  /** Statements so far that may have changed what a scenario counts. */
  changes(): number
  /** Waits until every statement has answered or waits for a lock, and every actor for leave. */
  settle(): Promise<void>
  /** Those that wait for leave, in the order in which they came. */
  gates(): readonly Gate[]
  /** Actors whose statement waits for a lock. */
  blocked(): string[]
  /** Its statements never answer, and it never asks again. */
  kill(actor: string): void
  isDead(actor: string): boolean
  /** It only looks for work; none of its statements is under way. */
  isAtRest(actor: string): boolean
  /** The next answer; false when none has come after so long. */
  landing(patienceMs: number): Promise<boolean>
  trace: string[]
}

/** A statement that answers is not even asked about. */
const QUICK_MS = 2
/** Looks at a new circle of waits until the server has taken it for a deadlock (`deadlock_timeout` is 10 ms here). */
const DEADLOCK_LOOKS = 9
/** Longer than this no sleep is granted: it is somebody's patience, and not what he waits for. */
const PATIENCE_MS = 60_000
/** Longer than this it is for want of work, and ends when time passes. */
const NAP_MS = 5_000
/** Short ones that one actor may have before time passes: who polls would do so for ever. */
const NAPS_MAX = 20
const LATER = Number.MAX_SAFE_INTEGER
const NEVER = Number.POSITIVE_INFINITY
const NEWS = /pawl\.(request|revert|finish|release|fail|beat|cancel|retry|deliver|open_run|start|stage|resume|redeliver|refresh_table|conclude|rescue)|commit/
const CHANGES = /^(call|commit|select \* from pawl\.fire)/

/** Lets one statement go at a time. `waiting` counts the sessions that wait for a lock. */
export function openScheduler(waiting: () => Promise<number>): Scheduler {
  const gates: Gate[] = []
  const flights = new Set<Flight>()
  const dead = new Set<string>()
  const trace: string[] = []
  let news = 0
  let changes = 0
  const naps = new Map<string, number>()
  let landed = Promise.withResolvers<void>()

  const leave = (actor: string, label: string, { isLosable = false, idleSince, signal }: Leave = {}) =>
    new Promise<How>(resolve => {
      if (dead.has(actor)) return
      if (signal?.aborted === true) return resolve('run')
      const gate: Gate = {
        actor,
        label,
        idleSince,
        isLosable,
        open(how) {
          gates.splice(gates.indexOf(gate), 1)
          resolve(how)
        },
      }
      gates.push(gate)
      signal?.addEventListener('abort', () => gates.includes(gate) && gate.open('run'), { once: true })
    })

  const depart = (actor: string, label: string) => {
    const flight: Flight = { actor, label, isKnownToWait: false }
    flights.add(flight)
    return {
      land(error?: unknown) {
        if (!flights.delete(flight)) return
        if (NEWS.test(label)) news += 1
        if (CHANGES.test(label)) changes += 1
        if (flight.isKnownToWait || error !== undefined) {
          trace.push(`      ${actor} ${error === undefined ? 'has got its lock' : `met ${codeOf(error) ?? ''} ${messageOf(error)}`}: ${label}`)
        }
        landed.resolve()
        landed = Promise.withResolvers()
      },
    }
  }

  const never = () => new Promise<never>(() => {})

  const pass = async <Result>(actor: string, label: string, isLosable: boolean, run: () => Promise<Result>): Promise<Result> => {
    const how = await leave(actor, label, { isLosable })
    if (how === 'unsent') throw lostConnection()
    const flight = depart(actor, label)
    try {
      const result = await run()
      if (dead.has(actor)) return await never()
      flight.land()
      if (how === 'lost') throw lostConnection()
      return result
    } catch (error) {
      if (dead.has(actor)) return never()
      flight.land(error)
      throw error
    }
  }

  return {
    trace,
    pass: (actor, label, run) => pass(actor, label, true, run),
    act: (actor, label, run) => pass(actor, label, false, run),
    leave: (actor, label) => leave(actor, label, { isLosable: true }),
    depart,
    async sleep(actor, milliseconds, signal) {
      const nap = naps.get(actor) ?? 0
      naps.set(actor, nap + 1)
      const isAsleep = milliseconds > NAP_MS || nap >= NAPS_MAX
      const idleSince = milliseconds >= PATIENCE_MS ? NEVER : isAsleep ? LATER : undefined
      await leave(actor, `sleep ${milliseconds}`, { idleSince, signal })
    },
    wakeSleepers() {
      naps.clear()
      for (const gate of gates) if (gate.idleSince === LATER) gate.idleSince = undefined
    },
    async idle(actor, since, signal) {
      await leave(actor, 'idle', { idleSince: since, signal })
    },
    news: () => news,
    changes: () => changes,
    async settle() {
      for (let looks = 0; ; ) {
        // Twice: what a socket has brought is handed on, then what was awaited for it goes as far as it gets.
        await turn()
        await turn()
        if (flights.size === 0) return
        const isLanded = await Promise.race([landed.promise.then(() => true), systemClock.sleep(QUICK_MS).then(() => false)])
        if (isLanded) continue
        const isNew = [...flights].some(flight => !flight.isKnownToWait)
        const before = flights.size
        if ((await waiting()) < flights.size || flights.size !== before) {
          looks = 0
          continue
        }
        looks += 1
        if (isNew && flights.size > 1 && looks < DEADLOCK_LOOKS) continue
        for (const flight of flights) {
          if (!flight.isKnownToWait) trace.push(`      ${flight.actor} waits for a lock: ${flight.label}`)
          flight.isKnownToWait = true
        }
        return
      }
    },
    gates: () => gates.filter(gate => gate.idleSince === undefined || gate.idleSince < news),
    blocked: () => [...flights].map(flight => flight.actor),
    kill(actor) {
      dead.add(actor)
      gates.splice(0, gates.length, ...gates.filter(gate => gate.actor !== actor))
      for (const flight of flights) if (flight.actor === actor) flights.delete(flight)
    },
    isDead: actor => dead.has(actor),
    isAtRest: actor => gates.every(gate => gate.actor !== actor || /^(idle|sleep)/.test(gate.label)) && ![...flights].some(flight => flight.actor === actor),
    landing: patienceMs => Promise.race([landed.promise.then(() => true), systemClock.sleep(patienceMs).then(() => false)]),
  }
}

function lostConnection(): Error {
  return new Error('Connection terminated unexpectedly')
}

function turn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
