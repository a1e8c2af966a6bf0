import type { Query } from '../../src/database.ts'
import type { World } from './world.ts'

/** A small play: who is in it, what they do, and what must hold whatever the order was. */
export type Scenario = {
  name: string
  /** What it is about, in one line. */
  about: string
  /** Once for each database. */
  prepare?(query: Query): Promise<unknown>
  /** Before each schedule: what the last one left. */
  clear(query: Query): Promise<unknown>
  begin(world: World): Promise<Cast>
}

/** One schedule's questions. */
export type Cast = {
  /** Nothing is left to be done. */
  isEnded(): Promise<boolean>
  /** Once it has ended: what is not as it must be. */
  judge(): Promise<string[]>
  /** After every statement: what is not as it must be in any snapshot. */
  glance?(): Promise<string[]>
  /** Where what has not ended stands. */
  stuck(): Promise<string>
  /** What else happens as time passes, such as a new worker when all are gone. */
  timePasses?(round: number): Promise<void>
}
