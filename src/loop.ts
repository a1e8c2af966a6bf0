import type { Clock } from './clock.ts'
import type { Config } from './config.ts'
import type { Database } from './database.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'

/** Work that no job brings: it turns by itself in every worker that takes its queue, for as long as the worker lives. */
export type Loop = {
  /** Whose `--queues` it belongs to. */
  queue: string
  /** The NOTIFY channel it listens on. */
  channel: string
  start(context: LoopContext): Turning
}

export type LoopContext = {
  config: Config
  db: Database
  log: Log
  clock: Clock
  metrics?: Pick<Metrics, 'timers'>
  /** This worker's lease; undefined while the database is out of reach. */
  lease: () => number | undefined
}

export type Turning = {
  /** A notification came; empty when some may have been missed. Never throws. */
  notified(payload: string): void
  /** Begins nothing new and resolves when what is under way has ended. */
  stop(): Promise<void>
}
