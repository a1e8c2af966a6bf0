import type { Clock } from '../../src/clock.ts'
import type { Prepared } from './step.ts'
import { literal, quoted } from '../../src/names.ts'

/** The range that a `window` refresh replaces, both ends included, as PostgreSQL writes such values. */
export type Window = { column: string; from: string; to: string }

const DAY_MS = 86_400_000

/**
 * The window of this refresh; undefined where the whole table is compared. `days` counts back from today, UTC: from the day that
 * its reading began, which `saved` keeps. What is replaced after midnight must be what was read before it.
 */
export function windowOf({ settings, saved }: Pick<Prepared, 'settings' | 'saved'>, clock: Pick<Clock, 'now'>): Window | undefined {
  const { window } = settings
  if (window === undefined) return undefined
  const begun = saved.window as Window | undefined
  if (begun !== undefined) return begun
  if (window.days === undefined) return { column: window.column, from: window.from ?? '', to: window.to ?? '' }
  const day = (back: number) => new Date(clock.now() - back * DAY_MS).toISOString().slice(0, 10)
  return { column: window.column, from: day(window.days - 1), to: day(0) }
}

/** The condition that a row of `table` lies in the window. */
export function withinSql(window: Window): string {
  const column = quoted(window.column)
  const after = dayAfter(window.to)
  return `${column} >= ${literal(window.from)} and ${column} ${after === undefined ? `<= ${literal(window.to)}` : `< ${literal(after)}`}`
}

/** A day as the upper end is the whole day, also where the column holds times. */
function dayAfter(to: string): string | undefined {
  const begins = /^\d{4}-\d{2}-\d{2}$/.test(to) ? Date.parse(to) : Number.NaN
  return Number.isNaN(begins) ? undefined : new Date(begins + DAY_MS).toISOString().slice(0, 10)
}
