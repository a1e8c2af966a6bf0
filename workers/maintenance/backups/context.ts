import type { Clock } from '../../../src/clock.ts'
import type { Config } from '../../../src/config.ts'
import type { Log } from '../../../src/log.ts'

/** What taking, verifying and restoring work with, in a worker or in a command. */
export type BackupContext = {
  config: Config
  log: Log
  clock: Clock
  /** Aborted: break off, leave nothing behind, and throw. */
  signal: AbortSignal
  /** Told as it goes: tables done of all tables, of this step. */
  told(progress: { step: 'dump' | 'restore' | 'compare'; done: number; total: number }): void
}
